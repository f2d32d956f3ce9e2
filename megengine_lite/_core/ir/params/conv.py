"""Parameters of convolutions, pooling and window operators."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.params.base import Param, boolean, enum, uint32, uint64


class ConvolutionMode(CodeEnum):
    """Whether the filter is mirrored (``CONVOLUTION``)."""

    CROSS_CORRELATION = 0
    CONVOLUTION = 1


class ConvolutionSparse(CodeEnum):
    """Values of ``sparse`` in :class:`Convolution`."""

    DENSE = 0
    GROUP = 1


class ConvolutionFormat(CodeEnum):
    """Layout of activations; a name of two parts has the layouts of input and output."""

    NCHW = 0
    NHWC = 1
    NHWCD4 = 2
    NCHW4 = 3
    NCHW8 = 4
    NCHW32 = 5
    NCHW88 = 6
    NCHW44 = 7
    NCHW44_DOT = 8
    NCHW4_NCHW32 = 9
    NCHW32_NCHW4 = 10
    NCHW4_NCHW = 11
    NHWC_NCHW = 12
    NHWC_NCHW4_IC_SMALL = 13
    NCHW_NCHW4_IC_SMALL = 14
    CHWN4 = 15
    NCHW64 = 16
    NCHW4_NHWC = 17


class ConvolutionComputeMode(CodeEnum):
    """Type of the accumulator for float16."""

    DEFAULT = 0
    FLOAT32 = 1


class Convolution(Param, code=3):
    """Convolution, transposed, deformable, local and mask convolution in two dimensions."""

    mode: ConvolutionMode | int = enum(0, ConvolutionMode.CROSS_CORRELATION)
    pad_h: int = uint32(1)
    pad_w: int = uint32(2)
    stride_h: int = uint32(3, 1)
    stride_w: int = uint32(4, 1)
    dilate_h: int = uint32(5, 1)
    dilate_w: int = uint32(6, 1)
    sparse: ConvolutionSparse | int = enum(7, ConvolutionSparse.DENSE)
    format: ConvolutionFormat | int = enum(8, ConvolutionFormat.NCHW)
    compute_mode: ConvolutionComputeMode | int = enum(9, ConvolutionComputeMode.DEFAULT)


class ConvBiasNonlineMode(CodeEnum):
    """Values of ``nonlineMode`` in :class:`ConvBias`."""

    IDENTITY = 0
    RELU = 1
    SIGMOID = 2
    H_SWISH = 3


class ConvBias(Param, code=6):
    """Convolution with bias, added tensor ``z`` and nonlinearity; ``sparse`` and ``format`` stand before ``pad_h``."""

    nonlineMode: ConvBiasNonlineMode | int = enum(0, ConvBiasNonlineMode.IDENTITY)
    mode: ConvolutionMode | int = enum(1, ConvolutionMode.CROSS_CORRELATION)
    sparse: ConvolutionSparse | int = enum(2, ConvolutionSparse.DENSE)
    format: ConvolutionFormat | int = enum(3, ConvolutionFormat.NCHW)
    pad_h: int = uint32(4)
    pad_w: int = uint32(5)
    stride_h: int = uint32(6, 1)
    stride_w: int = uint32(7, 1)
    dilate_h: int = uint32(8, 1)
    dilate_w: int = uint32(9, 1)
    compute_mode: ConvolutionComputeMode | int = enum(10, ConvolutionComputeMode.DEFAULT)


class BatchConvBias(Param, code=50):
    """Convolution in which every sample has its own filter."""

    nonlineMode: ConvBiasNonlineMode | int = enum(0, ConvBiasNonlineMode.IDENTITY)
    mode: ConvolutionMode | int = enum(1, ConvolutionMode.CROSS_CORRELATION)
    pad_h: int = uint32(2)
    pad_w: int = uint32(3)
    stride_h: int = uint32(4, 1)
    stride_w: int = uint32(5, 1)
    dilate_h: int = uint32(6, 1)
    dilate_w: int = uint32(7, 1)
    sparse: ConvolutionSparse | int = enum(8, ConvolutionSparse.DENSE)
    format: ConvolutionFormat | int = enum(9, ConvolutionFormat.NCHW)
    compute_mode: ConvolutionComputeMode | int = enum(10, ConvolutionComputeMode.DEFAULT)


class LocalShare(Param, code=47):
    """Convolution with one filter for each tile of the output plane."""

    mode: ConvolutionMode | int = enum(0, ConvolutionMode.CROSS_CORRELATION)
    pad_h: int = uint32(1)
    pad_w: int = uint32(2)
    stride_h: int = uint32(3, 1)
    stride_w: int = uint32(4, 1)
    dilate_h: int = uint32(5, 1)
    dilate_w: int = uint32(6, 1)
    spatial_groups_h: int = uint32(7, 1)
    spatial_groups_w: int = uint32(8, 1)
    sparse: ConvolutionSparse | int = enum(9, ConvolutionSparse.DENSE)
    format: ConvolutionFormat | int = enum(10, ConvolutionFormat.NCHW)
    computeMode: ConvolutionComputeMode | int = enum(11, ConvolutionComputeMode.DEFAULT)


class Convolution3DDataType(CodeEnum):
    """Values of ``data_type`` in :class:`Convolution3D`."""

    FLOAT = 0
    FLOAT_IO16xC32 = 1


class Convolution3DFormat(CodeEnum):
    """Values of ``format`` in :class:`Convolution3D`."""

    NCDHW = 0
    NDHWC = 1


class Convolution3D(Param, code=41):
    """Convolution in three dimensions, also transposed."""

    mode: ConvolutionMode | int = enum(0, ConvolutionMode.CROSS_CORRELATION)
    pad_d: int = uint32(1)
    pad_h: int = uint32(2)
    pad_w: int = uint32(3)
    stride_d: int = uint32(4, 1)
    stride_h: int = uint32(5, 1)
    stride_w: int = uint32(6, 1)
    dilate_d: int = uint32(7, 1)
    dilate_h: int = uint32(8, 1)
    dilate_w: int = uint32(9, 1)
    sparse: ConvolutionSparse | int = enum(10, ConvolutionSparse.DENSE)
    data_type: Convolution3DDataType | int = enum(11, Convolution3DDataType.FLOAT)
    format: Convolution3DFormat | int = enum(12, Convolution3DFormat.NCDHW)


class PoolingMode(CodeEnum):
    """Values of ``mode`` in :class:`Pooling`."""

    MAX = 0
    AVERAGE = 1
    AVERAGE_COUNT_EXCLUDE_PADDING = 2


class Pooling(Param, code=9):
    """Pooling over a window."""

    mode: PoolingMode | int = enum(0, PoolingMode.MAX)
    pad_h: int = uint32(1)
    pad_w: int = uint32(2)
    stride_h: int = uint32(3, 2)
    stride_w: int = uint32(4, 2)
    window_h: int = uint32(5, 2)
    window_w: int = uint32(6, 2)
    format: ConvolutionFormat | int = enum(7, ConvolutionFormat.NCHW)


class AdaptivePooling(Param, code=70):
    """Pooling whose window follows from the output size."""

    mode: PoolingMode | int = enum(0, PoolingMode.MAX)
    format: ConvolutionFormat | int = enum(1, ConvolutionFormat.NCHW)


class Images2Neibs(Param, code=8):
    """Windows of an image as separate dimensions."""

    pad_h: int = uint32(0)
    pad_w: int = uint32(1)
    stride_h: int = uint32(2, 1)
    stride_w: int = uint32(3, 1)
    dilate_h: int = uint32(4, 1)
    dilate_w: int = uint32(5, 1)
    window_h: int = uint32(6, 3)
    window_w: int = uint32(7, 3)


class SlidingWindowTranspose(Param, code=81):
    """The inverse of :class:`Images2Neibs`: windows are added up."""

    out_h: int = uint32(0)
    out_w: int = uint32(1)
    pad_h: int = uint32(2)
    pad_w: int = uint32(3)
    stride_h: int = uint32(4, 1)
    stride_w: int = uint32(5, 1)
    dilate_h: int = uint32(6, 1)
    dilate_w: int = uint32(7, 1)
    window_h: int = uint32(8, 3)
    window_w: int = uint32(9, 3)


class MaskPropagate(Param, code=4):
    """Output mask of a masked convolution."""

    pad_h: int = uint32(0)
    pad_w: int = uint32(1)
    stride_h: int = uint32(2, 1)
    stride_w: int = uint32(3, 1)
    kernel_h: int = uint32(4, 1)
    kernel_w: int = uint32(5, 1)
    dilate_h: int = uint32(6, 1)
    dilate_w: int = uint32(7, 1)


class CorrelationFormat(CodeEnum):
    """Layouts in the numbering of older releases, which Correlation kept."""

    NCHW = 0
    NHWC = 1
    NHWCD4 = 2
    NCHW4 = 3
    NCHW8 = 4
    NCHW32 = 5
    NCHW88 = 6
    NCHW44 = 7
    NCHW44_DOT = 8
    NCHW_WINOGRAD = 9
    NCHW88_WINOGRAD = 10
    NCHW44_WINOGRAD = 11
    NCHW4_NCHW32 = 12
    NCHW32_NCHW4 = 13
    NCHW4_NCHW = 14
    NHWC_NCHW = 15
    NHWC_NCHW4_IC_SMALL = 16
    NCHW_NCHW4_IC_SMALL = 17
    CHWN4 = 18
    NCHW4_NHWC = 19


class Correlation(Param, code=75):
    """Correlation of two feature maps."""

    format: CorrelationFormat | int = enum(0, CorrelationFormat.NCHW)
    kernel_size: int = uint32(1, 1)
    max_displacement: int = uint32(2, 1)
    stride1: int = uint32(3, 1)
    stride2: int = uint32(4, 1)
    pad_size: int = uint32(5)
    is_multiply: bool = boolean(6, True)


class RelayoutFormatMode(CodeEnum):
    """From which layout to which."""

    NHWC_NHWCD4 = 0
    NHWCD4_NHWC = 1
    NHWC_NHWCD4I = 2
    NCHW_NHWCD4 = 3
    NCHW_NHWCD4I = 4
    NHWCD4I_NCHW = 5
    NHWCD4_NCHW = 6
    INTER_WEIGHT_DENSE = 7
    INTER_WEIGHT_DENSEI = 8
    INTER_WEIGHT_GROUP = 9
    INTER_WEIGHT_GROUPI = 10
    INTER_WEIGHT_CHAN = 11
    INTER_WEIGHT_CHANI = 12
    INTER_WEIGHT_DENSEI_DOT = 13
    INTER_WEIGHT_GROUPI_DOT = 14
    NCHW4_CHWN4 = 15
    CHWN4_NCHW4 = 16
    NCHW_NCHW88_CONV_DENSE_WEIGHT = 17
    NCHW_NCHW88_CONV_CHAN_WEIGHT = 18
    NCHW_NCHW88_CONV_GROUP_WEIGHT = 19
    NCHW_NCHW88 = 20
    NCHW88_NCHW = 21
    NCHW_NCHW4_IC_SMALL = 22
    NCHW_NCHW4_IC_SMALL_CONV_DENSE_WEIGHT = 23
    NCHW_NCHW4 = 24
    NCHW4_NCHW = 25
    NCHW_NCHW4_WEIGHT = 26
    NCHW_NCHW64 = 27
    NCHW64_NCHW = 28
    NCHW_NHWC = 29
    NHWC_NCHW = 30
    NHWCD4I_NHWC = 31


class RelayoutFormat(Param, code=45):
    """Conversion between layouts; ``oc`` and ``group`` tell how many channels are real."""

    mode: RelayoutFormatMode | int = enum(0, RelayoutFormatMode.NHWC_NHWCD4)
    oc: int = uint32(1)
    group: int = uint32(2, 1)


class ExecutionPolicyStrategy(CodeEnum):
    """Bits of the strategy."""

    HEURISTIC = 1
    PROFILE = 2
    REPRODUCIBLE = 4
    OPTIMIZED = 8


class ExecutionPolicy(Param, code=55):
    """Second parameter of convolutions: how the original chooses algorithms. No effect on results."""

    strategy: int = uint32(0, 1)
    workspace_limit: int = uint64(1, 2**64 - 1)
