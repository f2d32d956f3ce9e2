"""Parameters of operators on shapes, indexes and values: reduction, indexing, sorting, creation, matrix products."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.params.base import (
    INT_MAX,
    Param,
    axis_desc_vector,
    boolean,
    dtype_code,
    enum,
    float32,
    index_item_vector,
    int32,
    int32_vector,
    serialized,
    uint32,
)
from megengine_lite._core.ir.params.conv import ConvolutionComputeMode


@serialized(1)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Empty(Param):
    """No parameters."""


@serialized(2)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Axis(Param):
    """One axis, may be negative."""

    axis: int = int32(0)


@serialized(53)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class OptionalAxis(Param):
    """One axis or none (-1)."""

    axis: int = int32(0, -1)


@serialized(54)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class OptionalAxisV1(Param):
    """One axis or none (7)."""

    axis: int = int32(0, 7)


@serialized(64)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Dimshuffle(Param):
    """Output dimension ``k`` is input dimension ``pattern[k]``, or a new 1 where that is -1.

    ``ndim`` is the number of input dimensions, 0 if any is allowed.
    """

    pattern: tuple[int, ...] = int32_vector(0)
    ndim: int = uint32(1)


class AxisMethod(IntEnum):
    """One step of AxisAddRemove."""

    ADD_1 = 0
    REMOVE = 1


@dataclass(frozen=True, slots=True)
class AxisDesc:
    """Insert a dimension of 1 at ``axis``, or remove one."""

    method: AxisMethod | int
    axis: int


@serialized(65)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class AxisAddRemove(Param):
    """Dimensions of 1 inserted and removed, in the order of ``desc``."""

    desc: tuple[AxisDesc, ...] = axis_desc_vector(0)


@dataclass(frozen=True, slots=True)
class IndexDescMaskItem:
    """One indexed axis; each set flag stands for one more input, in the order of the flags."""

    axis: int
    begin: bool
    end: bool
    step: bool
    idx: bool


@serialized(66)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class IndexDescMaskDump(Param):
    """Which axes Subtensor and its relatives index, and with which inputs."""

    items: tuple[IndexDescMaskItem, ...] = index_item_vector(0)


@serialized(27)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class IndexingRemap(Param):
    """Gather by a map of coordinates."""

    is_non_overlapping: bool = boolean(0)


class PaddingMode(IntEnum):
    """Values of ``padding_mode`` in :class:`Padding`."""

    REPLICATE = 0
    REFLECT = 1
    CONSTANT = 2


@serialized(82)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Padding(Param):
    """Elements added in front of and behind each dimension."""

    front_offset_dim0: int = uint32(0)
    front_offset_dim1: int = uint32(1)
    front_offset_dim2: int = uint32(2)
    front_offset_dim3: int = uint32(3)
    front_offset_dim4: int = uint32(4)
    front_offset_dim5: int = uint32(5)
    front_offset_dim6: int = uint32(6)
    back_offset_dim0: int = uint32(7)
    back_offset_dim1: int = uint32(8)
    back_offset_dim2: int = uint32(9)
    back_offset_dim3: int = uint32(10)
    back_offset_dim4: int = uint32(11)
    back_offset_dim5: int = uint32(12)
    back_offset_dim6: int = uint32(13)
    padding_val: float = float32(14)
    padding_mode: PaddingMode | int = enum(15, PaddingMode.CONSTANT)


class ReduceMode(IntEnum):
    """Values of ``mode`` in :class:`Reduce`."""

    SUM = 0
    SUM_SQR = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    MEAN = 5


class ReduceDataType(IntEnum):
    """Values of ``data_type`` in :class:`Reduce`."""

    DEFAULT = 0
    FLOAT_IO16xC32 = 1
    FLOAT_O32xC32 = 2
    FLOAT_O16xC32 = 3
    QUINT_I8xO32 = 4
    QINT_I8xO32 = 5


@serialized(23)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Reduce(Param):
    """Reduction along one axis, or to a target shape if there is a second input."""

    mode: ReduceMode | int = enum(0, ReduceMode.SUM)
    axis: int = int32(1, INT_MAX)
    data_type: ReduceDataType | int = enum(2, ReduceDataType.DEFAULT)


@serialized(24)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Cumsum(Param):
    """Running sum."""

    axis: int = int32(0, INT_MAX)
    exclusive: bool = boolean(1, True)
    reverse: bool = boolean(2)


class ArgsortOrder(IntEnum):
    """Values of ``order`` in :class:`Argsort`."""

    ASCENDING = 0
    DESCENDING = 1


@serialized(26)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Argsort(Param):
    """Sorting of rows, with indexes."""

    order: ArgsortOrder | int = enum(0, ArgsortOrder.ASCENDING)


class TopKMode(IntEnum):
    """Values of ``mode`` in :class:`TopK`."""

    KTH_ONLY = 0
    VALUE_IDX_NOSORT = 1
    VALUE_IDX_SORTED = 2


@serialized(44)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TopK(Param):
    """Smallest or largest elements of rows."""

    mode: TopKMode | int = enum(0, TopKMode.KTH_ONLY)


class CondTakeMode(IntEnum):
    """Values of ``mode`` in :class:`CondTake`."""

    EQ = 0
    NEQ = 1
    LT = 2
    LEQ = 3
    GT = 4
    GEQ = 5


@serialized(25)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CondTake(Param):
    """Selection of the elements whose mask compares true with ``val``."""

    mode: CondTakeMode | int = enum(0, CondTakeMode.EQ)
    val: float = float32(1)
    eps: float = float32(2, 1e-06)


@serialized(69)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NMSKeep(Param):
    """Non-maximum suppression of sorted boxes."""

    iou_thresh: float = float32(0)
    max_output: int = uint32(1)


class MatrixMulFormat(IntEnum):
    """Values of ``format`` in :class:`MatrixMul`."""

    DEFAULT = 0
    MK4 = 1
    MK8 = 2
    MK4_DOT = 3
    N32K4_DOT = 4


@serialized(20)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class MatrixMul(Param):
    """Product of two matrices or batches of them."""

    transposeA: bool = boolean(0)
    transposeB: bool = boolean(1)
    compute_mode: ConvolutionComputeMode | int = enum(2, ConvolutionComputeMode.DEFAULT)
    format: MatrixMulFormat | int = enum(3, MatrixMulFormat.DEFAULT)


@serialized(22)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class SVD(Param):
    """Singular value decomposition."""

    full_matrices: bool = boolean(0)
    compute_uv: bool = boolean(1, True)


@serialized(97)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Cross(Param):
    """Vector product along axes of length three."""

    axisa: int = int32(0, -1)
    axisb: int = int32(1, -1)
    axisc: int = int32(2, -1)


@serialized(91)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Diag(Param):
    """Diagonal ``k`` of a matrix, or a matrix from a diagonal."""

    k: int = int32(0)


@serialized(31)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Eye(Param):
    """Matrix with ones on diagonal ``k``."""

    k: int = int32(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.FLOAT32)


@serialized(29)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Linspace(Param):
    """Evenly spaced numbers."""

    endpoint: bool = boolean(0, True)


@serialized(84)
@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CheckNonFinite(Param):
    """Scaling with a test for infinities and NaN."""

    scale: float = float32(0, 1.0)
