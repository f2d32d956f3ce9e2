"""Values that another program has stored (--against with a .npz), instead of a second run."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable
from typing import TYPE_CHECKING

from megengine_lite._cli import inputs
from megengine_lite._cli.gflags import UsageError
from megengine_lite.errors import LiteValueError

if TYPE_CHECKING:
    from megengine_lite._core.reports.model_report.layers import LayerResult


INPUT_PREFIX = "in_"


def check_no_other(args: Namespace) -> None:
    """Refuses flags of a second run."""
    if args.other is not None:
        raise UsageError("--other is for a second run, and --against names stored outputs")


def take_inputs(args: Namespace) -> None:
    """Takes inputs of the model from the file, if it has some and none are given."""
    if not args.input and args.against.endswith(".npz") and _has_inputs(args.against):
        args.input = [args.against]


def _has_inputs(path: str) -> bool:
    with inputs.checked_load(path) as file:
        return any(n.startswith(INPUT_PREFIX) for n in file.files)


def results(path: str, input_names: Iterable[str]) -> list[LayerResult]:
    """The values of a .npz by the names of tensors or operators, but for those of inputs.

    Raises
    ------
    LiteValueError
        There are none.
    """
    from megengine_lite._core.reports.model_report.layers import stored_results

    with inputs.checked_load(path) as file:
        given = {INPUT_PREFIX + name for name in input_names}
        keys = [key for key in file.files if key not in given]
        if not keys:
            raise LiteValueError(f"{path} has no values to compare with" + (", only inputs" if file.files else ""))
        return stored_results({key: inputs.member(file, key, path) for key in keys})
