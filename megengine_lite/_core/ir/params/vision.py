"""Parameters of image operators and regions of interest."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.params.base import Param, boolean, enum, float32, int32, uint32
from megengine_lite._core.ir.params.conv import Convolution3DFormat, ConvolutionFormat


class InterpolationMode(CodeEnum):
    """How a value between pixels is found."""

    NEAREST = 0
    LINEAR = 1
    AREA = 2
    CUBIC = 3
    LANCZOS4 = 4


class BorderMode(CodeEnum):
    """What pixels outside of an image count as."""

    REPLICATE = 0
    REFLECT = 1
    REFLECT_101 = 2
    WRAP = 3
    CONSTANT = 4
    TRANSPARENT = 5
    ISOLATED = 6


class WarpPerspective(Param, code=13):
    """Perspective transform; the matrix maps output to input."""

    imode: InterpolationMode | int = enum(0, InterpolationMode.LINEAR)
    bmode: BorderMode | int = enum(1, BorderMode.REPLICATE)
    format: ConvolutionFormat | int = enum(2, ConvolutionFormat.NCHW)
    border_val: float = float32(3)


class WarpAffine(Param, code=38):
    """Affine transform; the matrix maps output to input."""

    imode: InterpolationMode | int = enum(0, InterpolationMode.LINEAR)
    border_mode: BorderMode | int = enum(1, BorderMode.REPLICATE)
    border_val: float = float32(2)
    format: ConvolutionFormat | int = enum(3, ConvolutionFormat.NHWC)


class Resize(Param, code=40):
    """Resize with half-pixel centres."""

    imode: InterpolationMode | int = enum(0, InterpolationMode.LINEAR)
    format: ConvolutionFormat | int = enum(1, ConvolutionFormat.NHWC)


class Resize3D(Param, code=96):
    """Resize of volumes."""

    imode: InterpolationMode | int = enum(0, InterpolationMode.LINEAR)
    format: Convolution3DFormat | int = enum(1, Convolution3DFormat.NDHWC)
    align_corners: bool = boolean(2)


class Remap(Param, code=68):
    """Gather of pixels by a map of coordinates."""

    imode: InterpolationMode | int = enum(0, InterpolationMode.LINEAR)
    border_type: BorderMode | int = enum(1, BorderMode.REPLICATE)
    format: ConvolutionFormat | int = enum(2, ConvolutionFormat.NHWC)
    scalar: float = float32(3)


class Flip(Param, code=34):
    """Mirrored image."""

    vertical: bool = boolean(0)
    horizontal: bool = boolean(1)


class Rotate(Param, code=35):
    """Rotation by 90 degrees."""

    clockwise: bool = boolean(0, True)


class GaussianBlur(Param, code=39):
    """Gaussian filter."""

    border_mode: BorderMode | int = enum(0, BorderMode.REPLICATE)
    kernel_height: int = uint32(1)
    kernel_width: int = uint32(2)
    sigma_x: float = float32(3)
    sigma_y: float = float32(4)


class CvtColorMode(CodeEnum):
    """From which colour space to which."""

    RGB2GRAY = 0
    RGB2YUV = 1
    YUV2RGB = 2
    GRAY2RGB = 3
    RGBA2RGB = 4
    RGBA2BGR = 5
    RGBA2GRAY = 6
    RGB2BGR = 7
    BGR2GRAY = 8
    BGR2RGB = 9
    YUV2GRAY_NV21 = 10
    YUV2RGB_NV21 = 11
    YUV2BGR_NV21 = 12
    YUV2GRAY_NV12 = 13
    YUV2RGB_NV12 = 14
    YUV2BGR_NV12 = 15
    YUV2GRAY_YV12 = 16
    YUV2RGB_YV12 = 17
    YUV2BGR_YV12 = 18
    YUV2GRAY_YU12 = 19
    YUV2RGB_YU12 = 20
    YUV2BGR_YU12 = 21
    YCrCb2RGB = 22
    YCrCb2BGR = 23
    BT601_YUV2RGB_NV21 = 24
    BT601_YUV2BGR_NV21 = 25
    BT601_YUV2RGB_NV12 = 26
    BT601_YUV2BGR_NV12 = 27
    BT601_YUV2RGB_YV12 = 28
    BT601_YUV2BGR_YV12 = 29
    BT601_YUV2RGB_YU12 = 30
    BT601_YUV2BGR_YU12 = 31


class CvtColor(Param, code=37):
    """Colour conversion."""

    mode: CvtColorMode | int = enum(0, CvtColorMode.RGB2GRAY)


class DctChannelSelectFastImpl(CodeEnum):
    """Values of ``fastImpl`` in :class:`DctChannelSelect`."""

    NONE = 0
    FIX_32_MASK = 1


class DctChannelSelect(Param, code=72):
    """Cosine transform of image blocks, coefficients as channels."""

    format: ConvolutionFormat | int = enum(0, ConvolutionFormat.NCHW)
    fastImpl: DctChannelSelectFastImpl | int = enum(1, DctChannelSelectFastImpl.NONE)
    dct_block_size: int = int32(2, 8)


class ROIPoolingMode(CodeEnum):
    """Values of ``mode`` in :class:`ROIPooling`."""

    MAX = 0
    AVERAGE = 1


class ROIPooling(Param, code=12):
    """Pooling over regions of interest."""

    mode: ROIPoolingMode | int = enum(0, ROIPoolingMode.MAX)
    scale: float = float32(1, 1.0)


class ROIAlignMode(CodeEnum):
    """Values of ``mode`` in :class:`ROIAlign`."""

    MAX = 0
    AVERAGE = 1


class ROIAlign(Param, code=48):
    """Pooling over interpolated points in regions of interest."""

    mode: ROIAlignMode | int = enum(0, ROIAlignMode.MAX)
    format: ConvolutionFormat | int = enum(1, ConvolutionFormat.NCHW)
    spatial_scale: float = float32(2, 1.0)
    offset: float = float32(3)
    pooled_height: int = uint32(4, 1)
    pooled_width: int = uint32(5, 1)
    sample_height: int = uint32(6, 2)
    sample_width: int = uint32(7, 2)


class DeformablePSROIPooling(Param, code=49):
    """Position-sensitive pooling over shifted regions."""

    no_trans: bool = boolean(0, True)
    spatial_scale: float = float32(1, 1.0)
    trans_std: float = float32(2, 1.0)
    pooled_h: int = uint32(3, 1)
    pooled_w: int = uint32(4, 1)
    part_size: int = uint32(5, 1)
    sample_per_part: int = uint32(6, 1)
