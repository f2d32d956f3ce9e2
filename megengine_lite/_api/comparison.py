"""Comparing what two models compute from the same inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.ir.graph import AnyVar, ModelGraph
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import operator_of
from megengine_lite._records import replace
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
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


def compare_output(
    where: str, got: np.ndarray, want: np.ndarray, limit: float, left_out: np.ndarray | None = None
) -> None:
    """Raises if two results differ: integers at all, real numbers by more than a part of the largest one.

    NaN and infinities must be at the same places. Bytes may be one apart in few places, where a float that they are
    made of is next to a whole number, and so may all integers of quantized networks. ``left_out`` is true for elements
    that are not compared.
    """
    if got.shape != want.shape:
        raise LiteError(f"{where} has the shape {got.shape}, here {want.shape}; please report this")
    if left_out is not None:
        got, want = got[~left_out], want[~left_out]
    x, y = got.astype(np.float64), want.astype(np.float64)
    special = ~(np.isfinite(x) & np.isfinite(y))
    wrong = special & (x != y) & ~(np.isnan(x) & np.isnan(y))
    if wrong.any():
        raise LiteError(
            f"{where} differs: it has {x[wrong][0]:g} where there is {y[wrong][0]:g} here; please report this"
        )
    difference = np.abs(x[~special] - y[~special]).max(initial=0)
    scale = np.abs(y[~special]).max(initial=0)
    if got.dtype.kind in "iub":
        unequal = np.count_nonzero(got != want)
        may_round = limit == _QUANTIZED or (got.dtype.itemsize == 1 and unequal <= _FEW_BYTES * got.size)
        is_equal = unequal == 0 or (may_round and difference <= 1)
    else:
        is_equal = difference <= limit * max(scale, 1e-30)
    if not is_equal:
        raise LiteError(
            f"{where} differs by {difference:.3g} where the largest number is {scale:.3g}; please report this"
        )


def divides_by_zero(model: LoadedModel, inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether the model divides integers by 0 when it is run on these inputs."""
    found = (operator_of(node.op).divisor(node) for node in model.graph.nodes)
    divisors = _results(model, (v for v in found if v is not None), inputs)
    return any(v.dtype.kind in "iu" and not v.all() for v in divisors)


def makes_nan(model: LoadedModel, inputs: Mapping[str, np.ndarray]) -> bool:
    """Whether an operator of the model has NaN among its results when it is run on these inputs."""
    made = (v for node in model.graph.nodes for v in node.outputs)
    return any(v.dtype.kind == "f" and bool(np.isnan(v).any()) for v in _results(model, made, inputs))


def _results(model: LoadedModel, variables: Iterable[AnyVar], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What variables of the model's graph are, as it says it."""
    from megengine_lite._core.runtime.session import Session
    from megengine_lite._core.session_config import SessionConfig

    chosen = list(dict.fromkeys(variables))
    names = [f"result {k}" for k in range(len(chosen))]
    graph = ModelGraph(model.graph.nodes, model.graph.inputs, chosen, names)
    session = Session(
        replace(model, graph=graph, output_names=names, output_types={}), SessionConfig(fuse=False, fuse_elemwise=False)
    )
    run_here(session, inputs)
    values = [session.output(name) for name in names]
    return [to_float32(v.array(), v.spec.dtype) if v.spec.dtype.is_float else v.array() for v in values]
