"""A second run beside the first: of another model (--against), of other flags (--other), or of both."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import flags, inputs
from megengine_lite._cli.gflags import UsageError, normalize, switches, with_names
from megengine_lite.errors import LiteError, LiteOSError, LiteValueError, listed

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork
    from megengine_lite._core.reports.model_report.layers import LayerResult

# Settings of a run without optimization, beside graph_opt_level.
UNOPTIMIZED = {
    "ignore_info": True,
    "threads": 1,
    "multithread_default": None,
    "multi_thread_core_ids": None,
    "fast_run": False,
    "full_run": False,
    **{flag.replace("-", "_"): False for flag in flags.MET_FLAGS},
}


def add_other_flag(group: Any) -> None:
    """``--other``, for :func:`other_flags`."""
    group.add_argument(
        "--other",
        metavar="FLAGS",
        help='flags of the other run, beside those of the first: --other="--isa avx2 --threads 4"',
    )


def set_same_inputs(network: LiteNetwork, given: Mapping[str, np.ndarray], model: str) -> None:
    """Gives a network the inputs of the first run; ``model`` is its file, for messages."""
    names = network.get_all_input_name()
    if missing := [name for name in given if name not in names]:
        raise LiteValueError(
            f"{model} has the inputs {listed(names, ', ')}, the other model has {listed(missing, ', ')}: results "
            "can only be compared for the same inputs"
        )
    inputs.set_arrays(network, given)


@contextmanager
def errors_of(model: str) -> Iterator[None]:
    """Errors of the other model begin with its file: that of the first one could be meant."""
    try:
        yield
    except LiteOSError:
        raise  # which names a file
    except LiteError as error:
        if str(error).startswith(model):
            raise
        raise type(error)(f"{model}: {error}") from error


def results_of(network: LiteNetwork) -> list[LayerResult]:
    """The results of all operators in a run of its own, with the inputs that the network has."""
    from megengine_lite._core.reports.model_report.layers import layer_results

    engine = network._loaded("results_of")
    return layer_results(engine.explained_session({}), engine.model)


def other_flags(args: Namespace) -> Namespace:
    """The arguments of the other run. Where no other is described, it is one of the same model without optimization.

    ``--decrypt`` and ``--key`` of the first run are for the other model, too, unless that is not encrypted, or
    ``--other`` has its own. The key is not for another method of ``--other``.
    """
    other = Namespace(**{k: list(v) if isinstance(v, list) else v for k, v in vars(args).items()})
    other.model = args.against or args.model
    other.layout_transform_dump = None
    other.decrypt = other.key = None
    if args.other is not None:
        prog = f"megengine-lite {args.module.__name__.rpartition('.')[2]} --other"
        parser = ArgumentParser(prog=prog, usage='--other="FLAGS"', allow_abbrev=False)
        flags.add_network_flags(parser)
        try:
            words = shlex.split(args.other)
        except ValueError as error:
            raise UsageError(f"--other {args.other!r}: {error}") from None
        with_names(parser, parser.parse_args([other.model, *normalize(words, switches(parser))], other))
    elif args.against is None:
        # A package's own options could switch optimization on again.
        other = Namespace(**{**vars(other), **UNOPTIMIZED, "option": [*args.option, "graph_opt_level=0"]})
    from megengine_lite._core.formats.load import is_plain

    if args.decrypt and (other.decrypt or other.key or args.against is None or not is_plain(other.model)):
        other.decrypt = other.decrypt or args.decrypt
        if other.decrypt == args.decrypt:  # a key belongs to its method
            other.key = other.key or args.key
    return other
