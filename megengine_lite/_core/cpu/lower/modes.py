"""Which modes of elementwise operators some kernels have, and as which of their functions."""

from __future__ import annotations

from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode

_M, _Multi = ElemwiseMode, ElemwiseMultiTypeMode

# Comparisons, which give truth values.
COMPARISONS = {
    _Multi.EQ: _M.EQ,
    _Multi.NEQ: _M.NEQ,
    _Multi.LT: _M.LT,
    _Multi.LEQ: _M.LEQ,
    _Multi.ISNAN: _M.ISNAN,
    _Multi.ISINF: _M.ISINF,
}
# Functions of binary_int8, and whether a ReLU follows.
BINARY = {
    _Multi.QADD: ("ADD", False),
    _Multi.QFUSE_ADD_RELU: ("ADD", True),
    _Multi.QSUB: ("SUB", False),
    _Multi.QMUL: ("MUL", False),
    _Multi.QMAX: ("MAX", False),
    _Multi.QMIN: ("MIN", False),
}
# Functions of binary_s32, on stored numbers; those of one operand have a zero on the named side.
S32 = {
    _M.ADD: ("ADD", None),
    _M.SUB: ("SUB", None),
    _M.MAX: ("MAX", None),
    _M.MIN: ("MIN", None),
    _M.RELU: ("MAX", "right"),
    _M.NEGATE: ("SUB", "left"),
}
# Functions of elemwise_int64.
INT64 = {m: m.name for m in (_M.ADD, _M.SUB, _M.MUL, _M.MAX, _M.MIN, _M.FLOOR_DIV, _M.MOD, _M.NEGATE)}
# Reductions of ONNX that the kernels for float32 have.
EXTREMES = {OnnxReduction.MAX: ReduceMode.MAX, OnnxReduction.MIN: ReduceMode.MIN}
