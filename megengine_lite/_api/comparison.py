"""Comparing what two models compute from the same inputs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.ir.graph import AnyVar, ModelGraph
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import operator_of
from megengine_lite._records import replace
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError, brief

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.ir.dtype import DType
    from megengine_lite._core.runtime.session import Session

# Largest difference, relative to the largest number of an output.
_FLOAT, _HALF, _QUANTIZED = 1e-3, 2e-2, 1e-1
_FEW_BYTES = 0.01
_DRAWS = 8
_MOST_NOISE = 8  # times the root of the mean square of what other roundings change; single changes are several times it


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


def compare_result(
    where: str,
    got: np.ndarray,
    session: Session,
    name: str,
    inputs: Mapping[str, np.ndarray],
    limit: float,
    left_out: np.ndarray | None = None,
) -> list[str]:
    """Raises if a result is not an output of the session, which has run on these inputs.

    They may also differ by what is rounded off while they are computed, as places of the largest of nearly equal
    numbers do, and a note tells if they do.
    """
    want = session.output(name).array()
    try:
        compare_output(where, got, want, limit, left_out)
    except LiteError:
        if got.shape != want.shape:
            raise
        noise = _rounding_noise(session, name, inputs)
        compare_output(where, got, session.output(name).array(), limit, left_out, noise)
        return [
            f"the output {brief(name)} was compared up to {noise:.1g} only, since it changes if inputs change in their"
            " last digit"
        ]
    return []


def _rounding_noise(session: Session, name: str, inputs: Mapping[str, np.ndarray]) -> float:
    """How much an output may differ because numbers are rounded.

    It is found by what changes if inputs change in their last digit. Where that is much, as where equal numbers are
    subtracted, results are made of what has been rounded off before, and another order of sums gives others.
    """
    before = session.output(name).array().astype(np.float64)
    squares = []
    generator = np.random.default_rng(0)
    for _ in range(_DRAWS):
        if problem_of(session, {n: _in_the_last_digit(v, generator) for n, v in inputs.items()}) is not None:
            continue
        found = session.output(name).array().astype(np.float64)
        if found.shape == before.shape:
            changes = (found - before)[np.isfinite(found) & np.isfinite(before)]
            squares.append(np.square(changes).mean() if changes.size else 0.0)
    run_here(session, inputs)
    return _MOST_NOISE * float(np.sqrt(np.mean(squares))) if squares else 0.0


def _in_the_last_digit(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Half of the real numbers above 0 a little smaller, so that they stay in the range that they are in."""
    if values.dtype.kind != "f":
        return values
    chosen = (values > 0) & (generator.random(values.shape) < 0.5)
    return np.where(chosen, values - np.spacing(values), values)


def compare_output(
    where: str,
    got: np.ndarray,
    want: np.ndarray,
    limit: float,
    left_out: np.ndarray | None = None,
    noise: float = 0.0,
) -> None:
    """Raises if two results differ: integers at all, real numbers by more than a part of the largest one.

    NaN and infinities must be at the same places. Bytes may be one apart in few places, where a float that they are
    made of is next to a whole number, and so may all integers of quantized networks. ``left_out`` is true for elements
    that are not compared, ``noise`` is what numbers may differ by as well.
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
        is_equal = unequal == 0 or (may_round and difference <= 1) or difference < noise
    else:
        is_equal = difference <= limit * max(scale, 1e-30) + noise
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
