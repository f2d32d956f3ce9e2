"""Comparing what two models compute from the same inputs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    from megengine_lite._core.ir.dtype import DType
    from megengine_lite._core.runtime.session import Session

# Largest difference, relative to the largest number of an output.
_FLOAT, _HALF, _QUANTIZED = 1e-3, 2e-2, 1e-1
_FEW_BYTES = 0.01


def run_here(session: Session, inputs: Mapping[str, np.ndarray]) -> None:
    """Runs a model on inputs by name."""
    for name, value in inputs.items():
        session.set_array(name, value)
    session.run()


def problem_of(session: Session, inputs: Mapping[str, np.ndarray]) -> LiteError | None:
    """Runs the model here; what is wrong with the inputs, or None."""
    try:
        run_here(session, inputs)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError as error:
        return error
    return None


def described(sizes: Mapping[str, Sequence[int]]) -> str:
    """The shapes of inputs, for messages."""
    return ", ".join(f"{name} {shape}" for name, shape in sizes.items())


def tolerance(types: Collection[DType]) -> float:
    """How much outputs may differ, relative to the largest number, where these types are computed."""
    if any(t.is_quantized for t in types):
        return _QUANTIZED
    return _HALF if any(t.is_float and t.itemsize == 2 for t in types) else _FLOAT


def compare_output(where: str, got: np.ndarray, want: np.ndarray, limit: float) -> None:
    """Raises if two results differ by more than a part of the largest number."""
    if got.shape != want.shape:
        raise LiteError(f"{where} has the shape {got.shape}, here {want.shape}; please report this")
    finite = np.isfinite(got.astype(np.float64)) & np.isfinite(want.astype(np.float64))
    difference = np.abs(got.astype(np.float64) - want.astype(np.float64))[finite].max(initial=0)
    scale = np.abs(want.astype(np.float64))[finite].max(initial=0)
    # Bytes that are computed in floats and cut off may be one apart where a float is next to a whole number.
    few = np.count_nonzero(got != want) <= _FEW_BYTES * got.size
    if got.dtype in (np.uint8, np.int8) and few and difference <= 1:
        return
    if difference > limit * max(scale, 1e-30):
        raise LiteError(
            f"{where} differs by {difference:.3g} where the largest number is {scale:.3g}; please report this"
        )
