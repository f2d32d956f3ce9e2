"""Makes a model of the plain bytes of a MegEngine file. Start here."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.mge.build import build_model, check_operators
from megengine_lite._core.formats.mge.history import NEWEST, release_of
from megengine_lite._core.formats.mge.reader import read_models
from megengine_lite.errors import ModelFormatError
from megengine_lite.log import warn


def load_mge(buffer: Any, what: str, *, compressed: bool = False, check: bool = True) -> LoadedModel:
    """The model in a buffer.

    Parameters
    ----------
    buffer
        The bytes of the file. Constants of the model refer to them and keep them alive.
    what
        Name of the model for messages.
    compressed
        The values of tensors are compressed.
    check
        Refuse models with operators that cannot be run.

    Raises
    ------
    ModelFormatError
        Not a model, or a damaged one.
    UnsupportedOperatorError
        Some operators cannot be run; all of them are listed.
    """
    record = next(read_models(buffer, what))
    if release_of(record.version, record.metadata is not None) > NEWEST:
        warn(f"{what}: written by a release newer than {NEWEST[0]}.{NEWEST[1]} (number {record.version})")
    if check:
        check_operators(record, what)
    return build_model(record, what=what, compressed=compressed)


def read_test_cases(buffer: Any, what: str) -> list[dict[str, np.ndarray]]:
    """The inputs of the test cases that are stored behind a model, by name; empty if there are none."""
    records = read_models(buffer, what)
    model = build_model(next(records), what=what)
    names = sorted(model.input_names)
    cases: list[dict[str, np.ndarray]] = []
    for record in records:
        constants = [v.const for v in build_model(record, what=what).graph.outputs]
        if len(constants) != len(names) or None in constants:
            raise ModelFormatError(f"{what}: test case {len(cases)} has not one value for each of {len(names)} inputs")
        cases.append({name: c.array for name, c in zip(names, constants, strict=True) if c is not None})
    return cases
