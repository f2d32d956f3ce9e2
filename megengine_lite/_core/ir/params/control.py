"""Parameters of sources, random generators, control flow and debugging operators."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params.base import (
    Param,
    boolean,
    dtype_code,
    enum,
    float32,
    float64,
    int32,
    uint32,
    uint64,
)


class Host2DeviceCopy(Param, code=63):
    """A graph input."""

    enable_value_infer: bool = boolean(0, True)
    dump_default_value: bool = boolean(1)
    allow_cpu_mem_fwd: bool = boolean(2, True)


class PersistentOutputStorage(Param, code=52):
    """An output that keeps its memory."""

    share_key: int = int32(0, -1)


class UniformRNG(Param, code=32):
    """Uniform random numbers in (0, 1]."""

    seed: int = uint64(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.FLOAT32)


class GaussianRNG(Param, code=33):
    """Normal random numbers."""

    seed: int = uint64(0)
    mean: float = float32(1)
    std: float = float32(2, 1.0)
    dtype: DTypeCode | int = dtype_code(3, DTypeCode.FLOAT32)


class GammaRNG(Param, code=77):
    """Gamma random numbers."""

    seed: int = uint64(0)


class BetaRNG(Param, code=80):
    """Beta random numbers."""

    seed: int = uint64(0)


class PoissonRNG(Param, code=78):
    """Poisson random numbers."""

    seed: int = uint64(0)


class PermutationRNG(Param, code=79):
    """A random permutation."""

    seed: int = uint64(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.INT32)


class ShuffleRNG(Param, code=83):
    """Rows in random order."""

    seed: int = uint64(0)


class ExponentialRNG(Param, code=98):
    """Exponential random numbers (v1 only)."""

    seed: int = uint64(0)


class MultinomialRNG(Param, code=99):
    """Random choice by weight (v1 only)."""

    seed: int = uint64(0)
    num_samples: int = uint64(1, 1)
    replacement: bool = boolean(2)


class AssertEqual(Param, code=56):
    """A check that two tensors agree."""

    maxerr: float = float32(0, 0.0001)
    verbose: bool = boolean(1)


class MGBSleep(Param, code=28):
    """A pause on device or host."""

    device: bool = boolean(0, True)
    host: bool = boolean(1)
    seconds: float = float64(2)


class CondExecPredMode(CodeEnum):
    """Values of ``mode`` in :class:`CondExecPred`."""

    CASE = 0
    CASE_FALLBACK = 1
    PIECEWISE = 2


class CondExecPred(Param, code=59):
    """Conditional execution: predicates of branches."""

    mode: CondExecPredMode | int = enum(0, CondExecPredMode.CASE)
    eps: float = float32(1, 0.0001)


class CondExecPredLogicalMode(CodeEnum):
    """Values of ``mode`` in :class:`CondExecPredLogical`."""

    OR = 0
    AND = 1
    XOR = 2
    NOR = 3
    NAND = 4
    XNOR = 5


class CondExecPredLogical(Param, code=60):
    """Conditional execution: logic between predicates."""

    mode: CondExecPredLogicalMode | int = enum(0, CondExecPredLogicalMode.OR)


class CondExecMarkGradMode(CodeEnum):
    """Values of ``grad_mode`` in :class:`CondExecMark`."""

    SUM = 0
    SUM_COND_OUT = 1


class CondExecMarkStaticInfer(CodeEnum):
    """Values of ``static_infer`` in :class:`CondExecMark`."""

    SHAPE_VALUE = 0
    SHAPE_ONLY = 1
    NONE = 2


class CondExecMark(Param, code=61):
    """Conditional execution: values under a predicate."""

    grad_mode: CondExecMarkGradMode | int = enum(0, CondExecMarkGradMode.SUM)
    static_infer: CondExecMarkStaticInfer | int = enum(1, CondExecMarkStaticInfer.SHAPE_VALUE)


class CondExecMergeMode(CodeEnum):
    """Values of ``mode`` in :class:`CondExecMerge`."""

    EXACT_ONE = 0
    EXACT_ONE_SAME_SHAPE = 1
    SUM = 2
    SUM_COND_OUT = 3


class CondExecMerge(Param, code=62):
    """Conditional execution: values of branches joined."""

    nr_output: int = uint32(0, 1)
    mode: CondExecMergeMode | int = enum(1, CondExecMergeMode.EXACT_ONE)
