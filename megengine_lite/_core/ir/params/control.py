"""Parameters of sources, random generators, control flow and debugging operators."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params.base import (
    Param,
    boolean,
    dtype_code,
    enum,
    float32,
    float64,
    int32,
    serialized,
    uint32,
    uint64,
)


@serialized(63)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Host2DeviceCopy(Param):
    """A graph input."""

    enable_value_infer: bool = boolean(0, True)
    dump_default_value: bool = boolean(1)
    allow_cpu_mem_fwd: bool = boolean(2, True)


@serialized(52)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PersistentOutputStorage(Param):
    """An output that keeps its memory."""

    share_key: int = int32(0, -1)


@serialized(32)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class UniformRNG(Param):
    """Uniform random numbers in (0, 1]."""

    seed: int = uint64(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.FLOAT32)


@serialized(33)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GaussianRNG(Param):
    """Normal random numbers."""

    seed: int = uint64(0)
    mean: float = float32(1)
    std: float = float32(2, 1.0)
    dtype: DTypeCode | int = dtype_code(3, DTypeCode.FLOAT32)


@serialized(77)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class GammaRNG(Param):
    """Gamma random numbers."""

    seed: int = uint64(0)


@serialized(80)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class BetaRNG(Param):
    """Beta random numbers."""

    seed: int = uint64(0)


@serialized(78)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PoissonRNG(Param):
    """Poisson random numbers."""

    seed: int = uint64(0)


@serialized(79)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class PermutationRNG(Param):
    """A random permutation."""

    seed: int = uint64(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.INT32)


@serialized(83)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ShuffleRNG(Param):
    """Rows in random order."""

    seed: int = uint64(0)


@serialized(98)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class ExponentialRNG(Param):
    """Exponential random numbers (v1 only)."""

    seed: int = uint64(0)


@serialized(99)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MultinomialRNG(Param):
    """Random choice by weight (v1 only)."""

    seed: int = uint64(0)
    num_samples: int = uint64(1, 1)
    replacement: bool = boolean(2)


@serialized(56)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AssertEqual(Param):
    """A check that two tensors agree."""

    maxerr: float = float32(0, 0.0001)
    verbose: bool = boolean(1)


@serialized(28)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MGBSleep(Param):
    """A pause on device or host."""

    device: bool = boolean(0, True)
    host: bool = boolean(1)
    seconds: float = float64(2)


class CondExecPredMode(IntEnum):
    """Values of ``mode`` in :class:`CondExecPred`."""

    CASE = 0
    CASE_FALLBACK = 1
    PIECEWISE = 2


@serialized(59)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CondExecPred(Param):
    """Conditional execution: predicates of branches."""

    mode: CondExecPredMode | int = enum(0, CondExecPredMode.CASE)
    eps: float = float32(1, 0.0001)


class CondExecPredLogicalMode(IntEnum):
    """Values of ``mode`` in :class:`CondExecPredLogical`."""

    OR = 0
    AND = 1
    XOR = 2
    NOR = 3
    NAND = 4
    XNOR = 5


@serialized(60)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CondExecPredLogical(Param):
    """Conditional execution: logic between predicates."""

    mode: CondExecPredLogicalMode | int = enum(0, CondExecPredLogicalMode.OR)


class CondExecMarkGradMode(IntEnum):
    """Values of ``grad_mode`` in :class:`CondExecMark`."""

    SUM = 0
    SUM_COND_OUT = 1


class CondExecMarkStaticInfer(IntEnum):
    """Values of ``static_infer`` in :class:`CondExecMark`."""

    SHAPE_VALUE = 0
    SHAPE_ONLY = 1
    NONE = 2


@serialized(61)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CondExecMark(Param):
    """Conditional execution: values under a predicate."""

    grad_mode: CondExecMarkGradMode | int = enum(0, CondExecMarkGradMode.SUM)
    static_infer: CondExecMarkStaticInfer | int = enum(1, CondExecMarkStaticInfer.SHAPE_VALUE)


class CondExecMergeMode(IntEnum):
    """Values of ``mode`` in :class:`CondExecMerge`."""

    EXACT_ONE = 0
    EXACT_ONE_SAME_SHAPE = 1
    SUM = 2
    SUM_COND_OUT = 3


@serialized(62)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CondExecMerge(Param):
    """Conditional execution: values of branches joined."""

    nr_output: int = uint32(0, 1)
    mode: CondExecMergeMode | int = enum(1, CondExecMergeMode.EXACT_ONE)
