"""From a source to a model: unpack, decrypt, read, build."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from megengine_lite._core.loader.build import Model, build_model, check_operators
from megengine_lite._core.loader.container import Source, open_source, read_models
from megengine_lite.errors import ModelFormatError


def load_model(source: Source, *, check: bool = True, copy: bool = False) -> Model:
    buffer, what = open_source(source, copy=copy)
    record = next(read_models(buffer, what))
    if check:
        check_operators(record, what)
    return build_model(record, what=what)


def load_test_cases(source: Source) -> list[dict[str, np.ndarray]]:
    """Inputs of the test cases that are stored behind a model; empty if there are none."""
    return []
