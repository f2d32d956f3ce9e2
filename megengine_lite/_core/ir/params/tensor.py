"""Parameters of operators on shapes, indexes and values: reduction, indexing, sorting, creation, matrix products."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
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
    uint32,
)
from megengine_lite._core.ir.params.conv import ConvolutionComputeMode
from megengine_lite._records import record


class Empty(Param, code=1):
    """No parameters."""


class Axis(Param, code=2):
    """One axis, may be negative."""

    axis: int = int32(0)


class OptionalAxis(Param, code=53):
    """One axis or none (-1)."""

    axis: int = int32(0, -1)


class OptionalAxisV1(Param, code=54):
    """One axis or none (7)."""

    axis: int = int32(0, 7)


class Dimshuffle(Param, code=64):
    """Output dimension ``k`` is input dimension ``pattern[k]``, or a new 1 where that is -1.

    ``ndim`` is the number of input dimensions, 0 if any is allowed.
    """

    pattern: tuple[int, ...] = int32_vector(0)
    ndim: int = uint32(1)


class AxisMethod(CodeEnum):
    """One step of AxisAddRemove."""

    ADD_1 = 0
    REMOVE = 1


@record(frozen=True, slots=True)
class AxisDesc:
    """Insert a dimension of 1 at ``axis``, or remove one."""

    method: AxisMethod | int
    axis: int


class AxisAddRemove(Param, code=65):
    """Dimensions of 1 inserted and removed, in the order of ``desc``."""

    desc: tuple[AxisDesc, ...] = axis_desc_vector(0)


@record(frozen=True, slots=True)
class IndexDescMaskItem:
    """One indexed axis; each set flag stands for one more input, in the order of the flags."""

    axis: int
    begin: bool
    end: bool
    step: bool
    idx: bool


class IndexDescMaskDump(Param, code=66):
    """Which axes Subtensor and its relatives index, and with which inputs."""

    items: tuple[IndexDescMaskItem, ...] = index_item_vector(0)


class IndexingRemap(Param, code=27):
    """Gather by a map of coordinates."""

    is_non_overlapping: bool = boolean(0)


class PaddingMode(CodeEnum):
    """Values of ``padding_mode`` in :class:`Padding`."""

    REPLICATE = 0
    REFLECT = 1
    CONSTANT = 2


class Padding(Param, code=82):
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


class ReduceMode(CodeEnum):
    """Values of ``mode`` in :class:`Reduce`."""

    SUM = 0
    SUM_SQR = 1
    PRODUCT = 2
    MIN = 3
    MAX = 4
    MEAN = 5


class ReduceDataType(CodeEnum):
    """Values of ``data_type`` in :class:`Reduce`."""

    DEFAULT = 0
    FLOAT_IO16xC32 = 1
    FLOAT_O32xC32 = 2
    FLOAT_O16xC32 = 3
    QUINT_I8xO32 = 4
    QINT_I8xO32 = 5


class Reduce(Param, code=23):
    """Reduction along one axis, or to a target shape if there is a second input."""

    mode: ReduceMode | int = enum(0, ReduceMode.SUM)
    axis: int = int32(1, INT_MAX)
    data_type: ReduceDataType | int = enum(2, ReduceDataType.DEFAULT)


class Cumsum(Param, code=24):
    """Running sum."""

    axis: int = int32(0, INT_MAX)
    exclusive: bool = boolean(1, True)
    reverse: bool = boolean(2)


class ArgsortOrder(CodeEnum):
    """Values of ``order`` in :class:`Argsort`."""

    ASCENDING = 0
    DESCENDING = 1


class Argsort(Param, code=26):
    """Sorting of rows, with indexes."""

    order: ArgsortOrder | int = enum(0, ArgsortOrder.ASCENDING)


class TopKMode(CodeEnum):
    """Values of ``mode`` in :class:`TopK`."""

    KTH_ONLY = 0
    VALUE_IDX_NOSORT = 1
    VALUE_IDX_SORTED = 2


class TopK(Param, code=44):
    """Smallest or largest elements of rows."""

    mode: TopKMode | int = enum(0, TopKMode.KTH_ONLY)


class CondTakeMode(CodeEnum):
    """Values of ``mode`` in :class:`CondTake`."""

    EQ = 0
    NEQ = 1
    LT = 2
    LEQ = 3
    GT = 4
    GEQ = 5


class CondTake(Param, code=25):
    """Selection of the elements whose mask compares true with ``val``."""

    mode: CondTakeMode | int = enum(0, CondTakeMode.EQ)
    val: float = float32(1)
    eps: float = float32(2, 1e-06)


class NMSKeep(Param, code=69):
    """Non-maximum suppression of sorted boxes."""

    iou_thresh: float = float32(0)
    max_output: int = uint32(1)


class MatrixMulFormat(CodeEnum):
    """Values of ``format`` in :class:`MatrixMul`."""

    DEFAULT = 0
    MK4 = 1
    MK8 = 2
    MK4_DOT = 3
    N32K4_DOT = 4


class MatrixMul(Param, code=20):
    """Product of two matrices or batches of them."""

    transposeA: bool = boolean(0)
    transposeB: bool = boolean(1)
    compute_mode: ConvolutionComputeMode | int = enum(2, ConvolutionComputeMode.DEFAULT)
    format: MatrixMulFormat | int = enum(3, MatrixMulFormat.DEFAULT)


class SVD(Param, code=22):
    """Singular value decomposition."""

    full_matrices: bool = boolean(0)
    compute_uv: bool = boolean(1, True)


class Cross(Param, code=97):
    """Vector product along axes of length three."""

    axisa: int = int32(0, -1)
    axisb: int = int32(1, -1)
    axisc: int = int32(2, -1)


class Diag(Param, code=91):
    """Diagonal ``k`` of a matrix, or a matrix from a diagonal."""

    k: int = int32(0)


class Eye(Param, code=31):
    """Matrix with ones on diagonal ``k``."""

    k: int = int32(0)
    dtype: DTypeCode | int = dtype_code(1, DTypeCode.FLOAT32)


class Linspace(Param, code=29):
    """Evenly spaced numbers."""

    endpoint: bool = boolean(0, True)


class CheckNonFinite(Param, code=84):
    """Scaling with a test for infinities and NaN."""

    scale: float = float32(0, 1.0)
