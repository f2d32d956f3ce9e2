"""Parameters of elementwise operators, type conversion and fake quantization."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import DType as ElementType
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params.base import INT_MAX, INT_MIN, Param, dtype_code, element_type, enum, float32, int32


class ElemwiseMode(CodeEnum):
    """Elementwise functions."""

    RELU = 0
    ABS = 1
    ACOS = 2
    ASIN = 3
    CEIL = 4
    COS = 5
    EXP = 6
    EXPM1 = 7
    FLOOR = 8
    LOG = 9
    LOG1P = 10
    NEGATE = 11
    SIGMOID = 12
    SIN = 13
    TANH = 14
    ABS_GRAD = 15
    ADD = 16
    FLOOR_DIV = 17
    MAX = 18
    MIN = 19
    MOD = 20
    MUL = 21
    POW = 22
    SIGMOID_GRAD = 23
    SUB = 24
    SWITCH_GT0 = 25
    TANH_GRAD = 26
    TRUE_DIV = 27
    LOG_SUM_EXP = 28
    LT = 29
    LEQ = 30
    EQ = 31
    SHL = 32
    SHR = 33
    COND_LEQ_MOV = 34
    FUSE_MUL_ADD3 = 35
    FUSE_MUL_ADD4 = 36
    FUSE_ADD_RELU = 37
    FUSE_ADD_SIGMOID = 38
    FUSE_ADD_TANH = 39
    FAST_TANH = 40
    FAST_TANH_GRAD = 41
    ROUND = 42
    RMULH = 43
    ATAN2 = 44
    ERF = 45
    ERFINV = 46
    ERFC = 47
    ERFCINV = 48
    H_SWISH = 49
    H_SWISH_GRAD = 50
    FUSE_ADD_H_SWISH = 51
    NOT = 52
    AND = 53
    OR = 54
    XOR = 55
    SILU = 56
    SILU_GRAD = 57
    GELU = 58
    GELU_GRAD = 59
    COND_LT_MOV = 60
    NEQ = 61
    ISNAN = 62
    ISINF = 63
    SINH = 64
    COSH = 65
    ASINH = 66
    ACOSH = 67
    ATANH = 68
    TAN = 69
    ASINH_GRAD = 70
    ACOSH_GRAD = 71
    ATANH_GRAD = 72
    PRELU = 73
    CLIP = 74
    PRELU_GRAD = 75
    SOFTPLUS = 76
    SOFTPLUS_GRAD = 77
    RELU6 = 78
    RELU6_GRAD = 79
    HSIGMOID = 80
    HSIGMOID_GRAD = 81
    LOGSIGMOID = 82
    SQRT = 83
    SQUARE = 84
    SIGN = 85
    # As those above, but NaN stays NaN.
    NAN_RELU = 86
    NAN_MAX = 87
    NAN_MIN = 88
    NAN_SIGN = 89
    GELU_TANH = 90  # GELU as a hyperbolic tangent approximates it
    ROUND_EVEN = 91  # halves to the even neighbour


OF_OTHER_FORMATS = frozenset(ElemwiseMode(mode) for mode in range(ElemwiseMode.NAN_RELU, ElemwiseMode.ROUND_EVEN + 1))
"""Modes that importers of other formats and passes make; files of MegEngine have none of them."""


class Elemwise(Param, code=17):
    """Elementwise function of one to four inputs of one type."""

    mode: ElemwiseMode | int = enum(0, ElemwiseMode.RELU)


class ElemwiseMultiTypeMode(CodeEnum):
    """Elementwise functions with mixed types; names with Q compute on real values of quantized types."""

    FUSE_MUL_ADD3_INT16x32x32x32 = 0
    FUSE_MUL_ADD3_IXxF32xF32xI8 = 1
    ROUND_SHR_SATURATE_IXxI8xI8 = 2
    FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT16x16x16x8 = 3
    FUSE_ADD_RMULH_ROUND_SHR_SATURATE_INT32x32x32x8 = 4
    ROUND_SHR_SATURATE_IXxI8xI16 = 5
    QADD = 6
    QFUSE_ADD_RELU = 7
    QMUL = 8
    QMIN = 9
    QMAX = 10
    QSUB = 11
    QTRUE_DIV = 12
    QFUSE_ADD_SIGMOID = 13
    QFUSE_ADD_TANH = 14
    QRELU = 15
    QABS = 16
    QSIGMOID = 17
    QEXP = 18
    QTANH = 19
    QFUSE_MUL_ADD3 = 20
    QFAST_TANH = 21
    QNEGATE = 22
    QACOS = 23
    QASIN = 24
    QCEIL = 25
    QCOS = 26
    QEXPM1 = 27
    QFLOOR = 28
    QLOG = 29
    QLOG1P = 30
    QSIN = 31
    QROUND = 32
    QERF = 33
    QERFINV = 34
    QERFC = 35
    QERFCINV = 36
    QABS_GRAD = 37
    QFLOOR_DIV = 38
    QMOD = 39
    QSIGMOID_GRAD = 40
    QSWITCH_GT0 = 41
    QTANH_GRAD = 42
    QLT = 43
    QLEQ = 44
    QEQ = 45
    QPOW = 46
    QLOG_SUM_EXP = 47
    QFAST_TANH_GRAD = 48
    QATAN2 = 49
    QCOND_LEQ_MOV = 50
    QH_SWISH = 51
    QFUSE_ADD_H_SWISH = 52
    QH_SWISH_GRAD = 53
    FUSE_MUL_ADD3_INT16xF32xF32xF32 = 54
    MUL_INT16xF32xF32 = 55
    FUSE_MUL_ADD3_UINT8xF32xF32xF32 = 56
    QCOND_LT_MOV = 57
    EQ = 58
    NEQ = 59
    LT = 60
    LEQ = 61
    ISNAN = 62
    ISINF = 63


class ElemwiseMultiType(Param, code=18):
    """Elementwise function with mixed or quantized types."""

    mode: ElemwiseMultiTypeMode | int = enum(0, ElemwiseMultiTypeMode.FUSE_MUL_ADD3_INT16x32x32x32)


class PowC(Param, code=19):
    """Power with a constant exponent."""

    exp: float = float32(0)


class Fill(Param, code=93):
    """A constant value (``Fill``, ``MaskedFill``)."""

    value: float = float32(0)


class FakeQuant(Param, code=73):
    """Quantize and dequantize with scale and zero point."""

    qmin: int = int32(0, INT_MIN)
    qmax: int = int32(1, INT_MAX)


class TQT(Param, code=74):
    """Quantize and dequantize with a power of two as scale."""

    qmin: int = int32(0, INT_MIN)
    qmax: int = int32(1, INT_MAX)


class LSQ(Param, code=76):
    """Quantize and dequantize with a learned step."""

    qmin: int = int32(0, INT_MIN)
    qmax: int = int32(1, INT_MAX)


class DType(Param, code=51):
    """One element type, by its number."""

    dtype: DTypeCode | int = dtype_code(0, DTypeCode.BYTE)


class DTypeTable(Param, code=67):
    """A complete element type; the parameter of TypeCvt (in the union under the name DType)."""

    dtype: ElementType = element_type(ElementType(DTypeCode.FLOAT32))
