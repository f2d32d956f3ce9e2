"""Recorded cases: operators of many families with what the original computed (see models/oprs/README.md)."""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from support.places import TESTS

FOLDER = TESTS / "models" / "oprs"


class RecordedCase(NamedTuple):
    """A model of one operator, its inputs by name, and the original's outputs."""

    model: bytes
    inputs: dict[str, np.ndarray]
    outputs: list[np.ndarray]


def find_cases() -> list[tuple[str, str]]:
    """Families and names of all cases."""
    cases = []
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path) as data:
            cases += [(path.stem, key.removesuffix("/model")) for key in data if key.endswith("/model")]
    return cases


@functools.cache
def _arrays(family: str) -> dict[str, np.ndarray]:
    return dict(np.load(FOLDER / f"{family}.npz"))


def read_case(family: str, case: str) -> RecordedCase:
    """One of them."""
    mine = {key.removeprefix(f"{case}/"): a for key, a in _arrays(family).items() if key.startswith(f"{case}/")}
    inputs = {key.removeprefix("in_"): a for key, a in mine.items() if key.startswith("in_")}
    outputs = [mine[f"out_{i}"] for i in range(sum(key.startswith("out_") for key in mine))]
    return RecordedCase(mine["model"].tobytes(), inputs, outputs)
