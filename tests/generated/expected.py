"""The right outputs of a graph, and how far rounding may take others from them.

How much a result may differ depends on all that lies between: a rounding error before a division by a small number, or
before a step of a quantized type, is not small any more. So the graph is computed again with small changes to the
result of every node, as large as the errors that kernels may make, once in each direction. How far that takes an output
is how far it may be off.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, DTypeCode
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._records import replace

# Errors of results, relative to the largest number of a tensor: sums of products (Winograd's are the largest), others.
_PRODUCT_ERROR = 2e-5
_ERROR = 2e-6
# The same with weights in half precision: one rounding of each, or of a filter transformed by Winograd's method.
_HALF_PRODUCT_ERROR = {"bfloat16": 2.0**-8, "float16": 2.0**-9}
# One rounding to float16, of results that kernels do not round.
_HALF_ERROR = 1e-3
# Quotients that kernels compute as products with the reciprocal, and several roundings to float32 where there is one.
_SCALE_ERROR = 2e-6
_PRODUCTS = frozenset(  # convolutions of volumes are computed as those of images
    """BatchedMatrixMul ConvBiasForward Convolution Convolution3D Convolution3DBackwardData ConvolutionBackwardData
    MatrixMul MultiHeadAttn""".split()
)
# Others that have products with weights; their sums are exact enough otherwise.
_RECURRENT = frozenset(("RNNCellForward", "LSTMCellForward", "RNNForward", "LSTMForward"))
# Operators that only move numbers, which no kernel may change.
_MOVES = frozenset(
    """AxisAddRemove Broadcast Concat Dimshuffle GetVarShape Identity IndexingMultiAxisVec MeshIndexing Padding Reshape
    SetSubtensor Split Subtensor""".split()
)
# An output that may be off by more of its largest number than this says nothing.
_UNCERTAIN = 0.05
_FACTOR = 6.0


@dataclass(frozen=True)
class Expected:
    """One output: its value, and the largest and the mean square of the differences that rounding explains."""

    value: np.ndarray
    largest: float
    mean_square: float
    uncertain: bool

    def difference(self, got: np.ndarray) -> str:
        """What is wrong with a computed output; "" if nothing is."""
        want = self.value
        if got.shape != want.shape or got.dtype != want.dtype:
            return f"{got.dtype} {got.shape} instead of {want.dtype} {want.shape}"
        if got.tobytes() == want.tobytes():
            return ""
        with np.errstate(invalid="ignore"):
            off = np.abs(got.astype(np.float64) - want.astype(np.float64))
        if not np.isfinite(off).all():
            return f"{np.count_nonzero(~np.isfinite(off))} of {off.size} elements are not finite"
        if off.max() > self.largest:
            count = np.count_nonzero(off > self.largest)
            return f"{count} of {off.size} elements differ by up to {off.max():.3g}; {self.largest:.3g} is allowed"
        if np.square(off).mean() > self.mean_square:
            return f"mean square difference {np.square(off).mean():.3g}; {self.mean_square:.3g} is allowed"
        return ""


def _changed(
    node: Node, results: list[np.ndarray], specs: list[TensorSpec], noise: np.random.Generator, sign: int,
    half_error: float | None,
):  # fmt: skip
    """Results with the errors that kernels may make, in one direction or the other."""
    if node.op in _MOVES:
        return results
    changed = []
    for value, spec in zip(results, specs, strict=True):
        if spec.dtype in (FLOAT32, FLOAT16) and value.size:
            direction = sign * (1 - 2 * (noise.random(value.shape) < 0.5)) * (0.5 + 0.5 * noise.random(value.shape))
            wide = value.astype(np.float64)
            size = _PRODUCT_ERROR if node.op in _PRODUCTS else _ERROR
            if half_error is not None and node.op in _PRODUCTS | _RECURRENT:
                size = half_error
            error = size * np.abs(wide).max()
            if spec.dtype == FLOAT16:
                error = _HALF_ERROR * np.abs(wide)
            value = (wide + direction * error).astype(value.dtype)
        changed.append(value)
    return changed


def _stretched(spec: TensorSpec, sign: int) -> TensorSpec:
    """The type of bytes that a node gives, with a scale that is a little off: numbers near a tie go the other way."""
    if spec.dtype.is_quantized and spec.dtype.code != DTypeCode.QUANTIZED_S32:
        return replace(spec, dtype=replace(spec.dtype, scale=spec.dtype.scale * (1 + sign * _SCALE_ERROR)))
    return spec


def evaluate(
    graph: Graph, inputs: Mapping[str, np.ndarray], sign: int = 0, seed: int = 0, half_error: float | None = None
) -> dict[Var, np.ndarray]:
    """Values of all variables by the definitions; with a sign, with small errors in one direction."""
    noise = np.random.Generator(np.random.PCG64(seed))
    specs: dict[Var, TensorSpec] = {}
    for var in graph.inputs:
        specs[var] = TensorSpec(inputs[var.name].shape, var.dtype, inputs[var.name])
    for var in (*(v for node in graph.nodes for v in node.inputs), *graph.outputs):
        if var.const is not None:
            specs[var] = TensorSpec(var.const.array.shape, var.dtype, var.const.array)
    for node in graph.nodes:
        ins = [specs[v] for v in node.inputs]
        operator = REGISTRY[node.op]
        outs = operator.infer(node, ins)
        right = node.op not in _MOVES and sign
        arrays = operator.compute(
            node, [s.value for s in ins], ins, [_stretched(s, sign) for s in outs] if right else outs
        )
        if sign:
            arrays = _changed(node, arrays, outs, noise, sign, half_error)
        for var, spec, array in zip(node.outputs, outs, arrays, strict=True):
            specs[var] = TensorSpec(array.shape, spec.dtype, np.ascontiguousarray(array))
    return {v: s.value for v, s in specs.items() if s.value is not None}


def expected_outputs(graph: Graph, inputs: Mapping[str, np.ndarray], precision: str = "float32") -> list[Expected]:
    """The outputs of a graph in order; weights are kept in a precision."""
    half_error = _HALF_PRODUCT_ERROR.get(precision)
    with np.errstate(all="ignore"):
        exact = evaluate(graph, inputs)
        changed = [evaluate(graph, inputs, sign, seed, half_error) for seed in (1, 2) for sign in (1, -1)]
    return [_expected(exact[v], [c[v] for c in changed], v) for v in graph.outputs]


def _expected(value: np.ndarray, others: list[np.ndarray], var: Var) -> Expected:
    wide = value.astype(np.float64)
    off = [np.abs(o.astype(np.float64) - wide) for o in others]
    size = float(np.abs(wide).max(initial=0))
    dtype = others and value.dtype
    least = {np.dtype(np.float32): 1e-5, np.dtype(np.float16): 1e-3}.get(dtype, 0.0) * size
    largest = max((float(o.max(initial=0)) for o in off), default=0.0)
    square = max((float(np.square(o).mean()) if o.size else 0.0 for o in off), default=0.0)
    bytes_ = value.dtype.kind != "f"
    uncertain = not np.isfinite(wide).all() or largest > (8 if bytes_ else _UNCERTAIN * max(size, 1e-30))
    return Expected(value, _FACTOR * largest + least, _FACTOR**2 * square + least**2, uncertain)
