"""Inputs of two models side by side: each runs on its own, and on those of the command line that it can take."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._cli import inputs
from megengine_lite._core.ir.declared_shape import check_shapes
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError
from megengine_lite.log import warn

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

# What flags give to inputs: --input NAME=VALUE or NAME:VALUE, --input-desc and --rng NAME:WHAT.
_FLAGS = {"input": r"(.*?)[=:]", "input_desc": r"(.*?):", "rng": r"(.*?):"}


def set_own_inputs(
    args: Namespace, network: LiteNetwork, other: LiteNetwork | None, alone: bool = False
) -> dict[str, np.ndarray]:
    """Sets the inputs of one of two models; gives the values that were set. If it is ``alone``, they are all its own.

    Values that only the other model can take go to that one: those of names that this one does not have, and those of
    shapes with which it does not run.
    """
    if alone:
        return inputs.set_inputs(args, network, fill=True)
    names = set(network.get_all_input_name())
    others = set(other.get_all_input_name()) if other is not None else None
    own = _without(args, names, others)
    given = inputs.read_inputs(own, network, fill=True)
    if other is not None and any(getattr(own, flag) for flag in _FLAGS) and not _fits(network, given):
        plain = inputs.read_inputs(Namespace(**{**vars(args), **{flag: [] for flag in _FLAGS}}), network, fill=True)
        if _fits(network, plain):
            warn(f"{args.model} does not run with the shapes that are given, so it runs on inputs of its own")
            given = plain
    inputs.set_arrays(network, given)
    return given


def _without(args: Namespace, names: Set[str], others: Set[str] | None) -> Namespace:
    """The flags without what names inputs of the other model only; None for names that are not known."""
    found = {}
    for flag, pattern in _FLAGS.items():
        items = [item for word in getattr(args, flag) for item in word.split(";") if item]
        found[flag] = [item for item in items if not _is_others(item, pattern, names, others)]
    return Namespace(**{**vars(args), **found})


def _is_others(item: str, pattern: str, names: Set[str], others: Set[str] | None) -> bool:
    match = re.match(pattern, item, re.S)
    if match is not None and match[1] not in names:
        if others is None:
            return match[1].isidentifier()
        if match[1] in others:
            return True
    if match is None and others is not None and len(names) != 1 and "data" not in names and not item.endswith(".npz"):
        return len(others) == 1 or "data" in others  # a value without a name
    return False


def _fits(network: LiteNetwork, given: Mapping[str, np.ndarray]) -> bool:
    """Whether shapes fit the model, as far as that is known without a run."""
    from megengine_lite._core.reports.model_facts import first_stage

    model = network._loaded("report").model
    shapes: dict[str, tuple[int, ...]] = {name: array.shape or (1,) for name, array in given.items()}
    try:
        check_shapes(model.graph.declared, shapes)
        first_stage(model, shapes)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError:
        return False
    return True
