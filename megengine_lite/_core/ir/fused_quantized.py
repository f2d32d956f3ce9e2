"""Parameters of the nodes that ``passes/fuse_quantized.py`` makes."""

from __future__ import annotations

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation
from megengine_lite._core.ir.params import ConvBias, ElemwiseMultiTypeMode, MatrixMul
from megengine_lite._records import record

# Images of at most so many channels have kernels of their own, which pack them and can convert them on the way.
MAX_IMAGE_CHANNELS = 4


@record(frozen=True, slots=True)
class QuantizedConv:
    """A convolution of integers with the nodes around it, each of which keeps its own rounding.

    Inputs: x [N, C, H, W], a constant filter [OC, IC, FH, FW] or [G, OCPG, ICPG, FH, FW], then, if ``has_bias``, a
    constant bias of OC numbers, then, if ``has_z``, a tensor of the output's shape, then, if ``has_scales``, a constant
    of OC factors, by which the products of each channel are multiplied.

    With ``is_real`` all between the products and ``conv_dtype`` is computed in real numbers, as QDQ models of ONNX mean
    it; the bias is real then.

    Attributes
    ----------
    conv
        The convolution, in NCHW; its z is the node's z unless ``add`` is set.
    input_dtype
        Type that x is converted to first; x may be float32 if it has at most ``MAX_IMAGE_CHANNELS`` channels.
    conv_dtype
        Type of the convolution's result, or of what ``activation`` makes of it.
    add
        Mode (QADD or QFUSE_ADD_RELU) by which z is added to that result; the sum has the output's type.
    activation
        What follows the sum of convolution, bias and z, if it is real.
    """

    conv: ConvBias
    input_dtype: DType
    conv_dtype: DType
    has_bias: bool = False
    has_z: bool = False
    add: ElemwiseMultiTypeMode | None = None
    has_scales: bool = False
    is_real: bool = False
    activation: Activation = NO_ACTIVATION


@record(frozen=True, slots=True)
class QuantizedMatMul:
    """A matrix product of integers, a bias and a conversion.

    Inputs: two matrices, or two batches of them, then, if ``has_bias``, a constant of as many numbers as the product
    has columns, then, if ``has_scales``, a constant of as many factors, by which the products of each column are
    multiplied. The result has the type ``product_dtype`` before it is converted to the output's type.

    With ``is_real`` all behind the products is computed in real numbers, and ``product_dtype`` is that of the output;
    ``activation`` follows the bias.
    """

    matmul: MatrixMul
    product_dtype: DType
    has_bias: bool = False
    has_scales: bool = False
    is_real: bool = False
    activation: Activation = NO_ACTIVATION
