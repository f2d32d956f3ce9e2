"""Which lowering function and which kernels compute which nodes: the dispatch of the CPU.

A node that no row takes runs in numpy, by the operator's definition. ``tests/cpu/test_dispatch.py`` holds the kernels
that come out; ``docs/operators.md`` lists them by operator.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from megengine_lite._core.cpu.algorithms.convolution import CONV_F32
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32
from megengine_lite._core.cpu.dispatch import ANY, EVERY, Codes, DispatchTable, InputLayout, LowerFunction, Row
from megengine_lite._core.cpu.lower.modes import BINARY, COMPARISONS, EXTREMES, INT64, S32
from megengine_lite._core.ir.dtype import INT8_OPERANDS, STORED_IN_8_BITS, DType, DTypeCode
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, PoolingMode
from megengine_lite._core.operators.shape import PassThrough
from megengine_lite._core.system.late_import import LateModule

if TYPE_CHECKING:
    from megengine_lite._core.cpu.lower import (
        along_axis,
        attention,
        colour,
        conv,
        conv_plain,
        correlation,
        deconv,
        deformable,
        elemwise,
        elemwise_chains,
        elemwise_int,
        elemwise_int64,
        fourier,
        gather_channels,
        images2neibs,
        indexing,
        matmul,
        norm,
        onnx_recurrent,
        onnx_resize,
        parts,
        pooling,
        quantized_conv,
        quantized_deconv,
        quantized_elemwise,
        quantized_matmul,
        quantized_pooling,
        recurrent,
        reduce,
        region,
        resize,
        sampling,
        shape,
        softmax,
        sorting,
        typecvt,
    )
else:  # the same names, of modules that are imported when a node is first lowered by them
    _FAMILIES = """
    along_axis attention colour conv conv_plain correlation deconv deformable elemwise elemwise_chains elemwise_int
    elemwise_int64 fourier gather_channels images2neibs indexing matmul norm onnx_recurrent onnx_resize parts pooling
    quantized_conv quantized_deconv quantized_elemwise quantized_matmul quantized_pooling recurrent reduce region resize
    sampling shape softmax sorting typecvt
    """
    globals().update((name, LateModule(f"megengine_lite._core.cpu.lower.{name}")) for name in _FAMILIES.split())

_C = DTypeCode


def _codes(*codes: DTypeCode) -> Codes:
    return frozenset(codes)


# ---- sets of element types -------------------------------------------------------------------------------------------

_F32, _I32, _BOOL = _codes(_C.FLOAT32), _codes(_C.INT32), _codes(_C.BOOL)
_I64, _F64 = _codes(_C.INT64), _codes(_C.FLOAT64)
_S32 = _codes(_C.QUANTIZED_S32)
_PLAIN = _codes(
    _C.FLOAT32, _C.FLOAT16, _C.BFLOAT16, _C.INT32, _C.INT16, _C.UINT16, _C.INT8, _C.UINT8, _C.BYTE, _C.BOOL
)  # fmt: skip
_SORTED = _codes(_C.FLOAT32, _C.INT32, _C.INT16, _C.UINT16, _C.INT8, _C.UINT8, _C.INT64)
_PLAIN_8 = _PLAIN & STORED_IN_8_BITS
_PRODUCTS = frozenset(INT8_OPERANDS)  # what int8 products take
_QUANTIZED = frozenset(c for c in DTypeCode if DType(c).is_quantized)
_QUANTIZED_8 = _QUANTIZED & STORED_IN_8_BITS
_BLOCKED_SOURCES = _codes(_C.INT32, _C.INT8, _C.UINT8)  # plain types that convolutions and pooling leave in blocks
_REAL_TARGETS = (_PRODUCTS - _PLAIN) | _S32  # what binary_int8 stores, besides float32

# ---- modes and formats -----------------------------------------------------------------------------------------------

_NCHW = frozenset((int(Format.NCHW),))
_DEFAULT = frozenset((0,))  # of matrix products
_POOLING = frozenset(PoolingMode)
_ELEMWISE = frozenset(ElemwiseMode)
_POW = frozenset((ElemwiseMode.POW,))
_ON_S32 = frozenset(S32)
_Q_BINARY = frozenset(BINARY)
_Q_OTHER = frozenset(m for m in ElemwiseMultiTypeMode if m.name.startswith("Q")) - _Q_BINARY
_COMPARISONS = frozenset(COMPARISONS)
_OF_FLOATS = frozenset((ElemwiseMultiTypeMode.ISNAN, ElemwiseMultiTypeMode.ISINF))

# ---- kernels of functions that several lowerings use -----------------------------------------------------------------

_COPY = ("copy_strided", "fill_elements", "transpose_strided")
_CHAIN = ("elemwise_chain_f32",)
_NARROW = ("narrow_bf16", "narrow_rows_bf16")  # of inputs, if half precision is asked for
_TABLES = ("table_8", "table_pair_8")
_REDUCE = ("reduce_inner_f32", "reduce_outer_f32")
_GATHER = ("gather_channels_blocked_8", "gather_channels_blocked_f32", *_COPY)
_SAMPLE_F32, _SAMPLE_INT8 = ("sample_f32", "fill_elements"), ("sample_int8", "fill_elements")
_CONV_F32 = (*dict.fromkeys(a.kernel or a.name for a in CONV_F32), *_NARROW, *_COPY)
_CONV_INT8 = (
    "conv_depthwise_int8",
    "conv_direct_int8",
    "conv_winograd2_int8",
    "flip_bytes",
    "pack_image_int8",
    "widen_bytes",
)
_GEMM_F32 = (*(a.name for a in MATMUL_F32), *_NARROW)
_GEMM_INT8 = (
    "gemm_int8", "gemm_wide_int8", "pack_columns_int8", "pack_columns_wide_int8", "pack_rows_int8",
    "pack_rows_wide_int8",
)  # fmt: skip


def _rows(ops: str, lower: LowerFunction, kernels: tuple[str, ...], **conditions: Any) -> Iterator[Row]:
    for op in ops.split():
        yield Row(op=op, lower=lower, kernels=kernels, **conditions)


def _float32() -> Iterator[Row]:
    """Operators whose only kernels are for float32."""
    only: dict[str, Any] = {"inputs": (_F32,), "outputs": (_F32,)}
    first = (_F32, ANY)
    yield from _rows("FusedConv", conv.lower_fused_conv, _CONV_F32, halo=conv.halo_wish, **only)
    yield from _rows(
        "Convolution ConvBiasForward", conv.lower_convolution, _CONV_F32, formats=_NCHW, halo=conv.halo_wish, **only
    )
    yield from _rows("Convolution3D", conv_plain.lower_conv3d, ("conv_plain_f32",), **only)
    yield from _rows(
        "ConvolutionBackwardData", deconv.lower_deconv,
        ("conv_depthwise_f32", "conv_direct_f32", "sum_windows_f32", *_GEMM_F32), inputs=(_F32, _F32, ANY),
        outputs=(_F32,), formats=_NCHW, halo=deconv.halo_wish,
    )  # fmt: skip
    yield from _rows(
        "DeformableConvForward", deformable.lower_deformable_conv, ("deform_columns_f32", *_GEMM_F32), formats=_NCHW,
        **only,
    )  # fmt: skip
    yield from _rows("FusedMatMul", matmul.lower_matmul, _GEMM_F32, **only)
    yield from _rows("MatrixMul BatchedMatrixMul", matmul.lower_matmul, _GEMM_F32, formats=_DEFAULT, **only)
    yield from _rows(
        "Pooling AdaptivePooling", pooling.lower_pooling, ("pool_blocked_f32", "pool_plain_f32", *_REDUCE),
        inputs=first, modes=_POOLING, formats=_NCHW,
    )  # fmt: skip
    yield from _rows("Reduce", reduce.lower_reduce, _REDUCE, inputs=first, outputs=(_F32,))
    yield from _rows("ReduceAxes", reduce.lower_reduce_axes, _REDUCE, inputs=(_F32,))
    yield from _rows("OnnxReduce", reduce.lower_extremes_of_onnx, _REDUCE, inputs=first, modes=frozenset(EXTREMES))
    yield from _rows("Argmax Argmin", reduce.lower_arg_reduce, ("arg_reduce_f32",), inputs=(_F32,), outputs=(_I32,))
    yield from _rows("Cumsum", reduce.lower_cumsum, ("cumsum_f32",), inputs=(_F32,))
    yield from _rows("Softmax", softmax.lower_softmax, ("softmax_f32",), inputs=(_F32,))
    yield from _rows("LogSoftmax", softmax.lower_log_softmax, ("log_softmax_f32",), inputs=(_F32,))
    yield from _rows(
        "LayerNorm GeneralNorm", norm.lower_axes_norm, ("norm_columns_f32", "norm_rows_f32"), inputs=(_F32,)
    )
    yield from _rows("RmsNorm", norm.lower_rms_norm, ("norm_rows_f32",), inputs=(_F32,))
    yield from _rows(
        "GroupNorm InstanceNorm", norm.lower_channel_norm, ("norm_channels_blocked_f32", "norm_rows_f32"),
        inputs=(_F32,),
    )  # fmt: skip
    yield from _rows("LRN", norm.lower_lrn, ("lrn_blocked_f32", "lrn_plain_f32"), inputs=(_F32,))
    yield from _rows(
        "Resize", resize.lower_resize, ("pick_pixels", "resize_pixels_f32", "resize_plain_f32"), inputs=first,
        formats=_NCHW | {Format.NHWC},
    )  # fmt: skip
    yield from _rows("Remap", sampling.lower_remap, ("sample_f32",), inputs=first, outputs=(_F32,))
    yield from _rows(
        "WarpPerspective", sampling.lower_warp_perspective, ("resize_pixels_f32", "resize_plain_f32", *_SAMPLE_F32),
        inputs=first, outputs=(_F32,),
    )  # fmt: skip
    yield from _rows("WarpAffine", sampling.lower_warp_affine, ("sample_f32",), inputs=first, outputs=(_F32,))
    spectra: dict[str, Any] = {"kernels": ("fourier_rows_f32",), "inputs": (_F32, EVERY)}
    yield from _rows("FourierTransform", fourier.lower_transform, **spectra)
    yield from _rows("ShortTimeFourier", fourier.lower_short_time, **spectra)
    yield from _rows("AffineGrid", sampling.lower_affine_grid, ("affine_points_f32",), inputs=(_F32, EVERY))
    yield from _rows("ROIAlign", region.lower_roi_align, ("roi_align_blocked_f32",), inputs=(_F32,), formats=_NCHW)
    yield from _rows(
        "OnnxRoiAlign", region.lower_onnx_roi_align, ("align_regions_f32",), inputs=(_F32, _F32, _I32 | _I64)
    )
    yield from _rows(
        "ROIPooling", region.lower_roi_pooling, ("roi_pool_blocked_f32",), inputs=(_F32, _F32, ANY),
        outputs=(_F32, ANY),
    )  # fmt: skip
    yield from _rows(
        "DeformablePSROIPoolingForward", region.lower_deformable_pooling, ("deform_pool_f32",), inputs=(_F32,)
    )
    yield from _rows(
        "CorrelationForward", correlation.lower_correlation, ("correlation_f32", "pack_correlation_f32"),
        inputs=(_F32,), formats=_NCHW,
    )  # fmt: skip
    yield from _rows("NMSKeepMGB", region.lower_nms, ("nms_keep_f32",), inputs=(_F32,))
    yield from _rows("SuppressedBoxes", region.lower_suppression, ("suppress_boxes",), inputs=(_F32, _F32, EVERY, _F32))
    cell = ("lstm_cell_f32",)
    yield from _rows("RNNCellForward", recurrent.lower_cell, _GEMM_F32, **only)
    yield from _rows("LSTMCellForward", recurrent.lower_cell, cell + _GEMM_F32, **only)
    # The last output is of use in training only.
    layers = recurrent.lower_layers
    yield from _rows("RNNForward", layers, _COPY + _GEMM_F32, inputs=(_F32,), outputs=(_F32, _F32, ANY))
    yield from _rows("LSTMForward", layers, cell + _COPY + _GEMM_F32, inputs=(_F32,), outputs=(_F32, _F32, _F32, ANY))
    yield from _rows(
        "Recurrent", onnx_recurrent.lower_onnx_layer,
        ("gru_cell_f32", "gru_reset_f32", "lstm_rules_f32", "sequence_ends_f32", *cell, *_COPY, *_GEMM_F32),
        inputs=(_F32, _F32, _F32, ANY), outputs=(_F32,),
    )  # fmt: skip
    yield from _rows(
        "FusedAttention", attention.lower_fused_attention, ("softmax_f32", *_CHAIN, *_GEMM_F32), inputs=(_F32,)
    )
    yield from _rows("MultiHeadAttn", attention.lower_attention, ("softmax_f32", *_CHAIN, *_GEMM_F32), inputs=(_F32,))


def _elementwise() -> Iterator[Row]:
    only: dict[str, Any] = {"inputs": (_F32,), "outputs": (_F32,)}
    yield from _rows("FusedElemwise", elemwise.lower_chain, _CHAIN, **only)
    yield from _rows("Elemwise", elemwise.lower_elemwise, _CHAIN, modes=_ELEMWISE - _POW, **only)
    yield from _rows("Elemwise", elemwise_chains.lower_power, _CHAIN, modes=_POW, **only)
    yield from _rows("PowC", elemwise_chains.lower_power, _CHAIN, inputs=(_F32,))
    yield from _rows(
        "Where MaskedFill", elemwise_chains.lower_selection, ("convert_elements", *_CHAIN), outputs=(_F32,)
    )
    # The arithmetic that both kernels have is up to five times as fast in binary_s32.
    yield from _rows(
        "Elemwise", elemwise_int.lower_int32, ("binary_s32", "elemwise_int"), inputs=(_I32,), modes=_ON_S32
    )
    yield from _rows(
        "Elemwise", elemwise_int.lower_integers, ("elemwise_int",), inputs=(_I32,), modes=_ELEMWISE - _ON_S32
    )
    for code in (_C.INT16, _C.UINT16, _C.BOOL):
        yield from _rows("Elemwise", elemwise_int.lower_integers, ("elemwise_int",), inputs=(_codes(code),))
    yield from _rows("Elemwise", quantized_elemwise.lower_s32, ("binary_s32",), inputs=(_S32,), modes=_ON_S32)
    yield from _rows("Elemwise", quantized_elemwise.lower_by_table, _TABLES, inputs=(STORED_IN_8_BITS - _BOOL,))
    yield from _rows(
        "ElemwiseMultiType", elemwise_int.lower_real_comparison, ("compare_f32",), inputs=(_F32,), modes=_COMPARISONS,
    )  # fmt: skip
    yield from _rows(
        "ElemwiseMultiType", elemwise_int.lower_integer_comparison, ("elemwise_int",), modes=_COMPARISONS,
        inputs=(_codes(_C.INT32, _C.INT16, _C.UINT16, _C.BOOL, _C.INT8, _C.UINT8),),
    )  # fmt: skip
    yield from _rows(
        "ElemwiseMultiType", quantized_elemwise.lower_binary, ("binary_int8", *_TABLES), inputs=(_QUANTIZED,),
        modes=_Q_BINARY,
    )  # fmt: skip
    yield from _rows(
        "ElemwiseMultiType", quantized_elemwise.lower_by_table, _TABLES, inputs=(_QUANTIZED_8,), modes=_Q_OTHER
    )


def _conversions() -> Iterator[Row]:
    def conversion(lower: LowerFunction, kernels: tuple[str, ...], sources: Codes, targets: Codes, **also: Any) -> Row:
        return Row(op="TypeCvt", lower=lower, kernels=kernels, inputs=(sources,), outputs=(targets,), **also)

    for source in _PLAIN:
        # Integers wrap, so that bytes stay as they are; truth values are 0 and 1.
        same = _codes(source) | (_PLAIN_8 - _BOOL if source in _PLAIN_8 else frozenset())
        yield conversion(shape.lower_pass_through, (), _codes(source), same)
        # From a blocked tensor, binary_int8 makes another; from a plain one, convert_elements is faster.
        both = _F32 if source in _BLOCKED_SOURCES else frozenset()
        convert = (typecvt.lower_typecvt, ("convert_elements",), _codes(source))
        yield conversion(*convert, _PLAIN - same - both)
        if both:
            yield conversion(*convert, both, layout=InputLayout.PLAIN)
            yield conversion(
                quantized_elemwise.lower_conversion, ("binary_int8",), _codes(source), both, layout=InputLayout.BLOCKED
            )
    wide = (typecvt.lower_typecvt, ("convert_elements",))
    yield conversion(*wide, _PLAIN, _I64 | _F64)
    yield conversion(*wide, _I64, (_PLAIN - _codes(_C.FLOAT16, _C.BFLOAT16)) | _F64)
    yield conversion(*wide, _F64, _F32 | _I32 | _BOOL | _I64)
    by_table = (quantized_elemwise.lower_by_table, ("table_8",))
    yield conversion(*by_table, STORED_IN_8_BITS - _PLAIN_8, STORED_IN_8_BITS)
    yield conversion(*by_table, _PLAIN_8, STORED_IN_8_BITS - _PLAIN_8)
    by_value = (quantized_elemwise.lower_conversion, ("binary_int8",))
    yield conversion(*by_value, _F32 | _I32 | _S32, _REAL_TARGETS)
    yield conversion(*by_value, _PRODUCTS | {_C.UINT8}, _S32)
    yield conversion(*by_value, _REAL_TARGETS, _F32)


def _int8() -> Iterator[Row]:
    """Convolutions, matrix products, pooling and sampling in int8."""
    operands = (_PRODUCTS, _PRODUCTS, ANY)
    wish = quantized_conv.halo_wish
    yield from _rows(
        "QuantizedConv", quantized_conv.lower_quantized_conv, _CONV_INT8, inputs=(_PRODUCTS | _F32, _PRODUCTS, ANY),
        halo=wish,
    )  # fmt: skip
    yield from _rows(
        "Convolution ConvBiasForward", quantized_conv.lower_quantized_convolution, _CONV_INT8, inputs=operands,
        formats=_NCHW, halo=conv.halo_wish,
    )  # fmt: skip
    yield from _rows(
        "ConvolutionBackwardData", quantized_deconv.lower_quantized_deconv,
        ("conv_direct_int8", "flip_bytes", "widen_bytes"), inputs=operands, formats=_NCHW,
    )  # fmt: skip
    yield from _rows("QuantizedFunction", quantized_elemwise.lower_by_table, ("table_8",))
    yield from _rows("OnnxBytes", quantized_elemwise.lower_bytes, ("table_8",))
    yield from _rows(
        "OnnxQuantize", quantized_elemwise.lower_onnx_quantize, ("quantize_f32",), inputs=(_F32, _F32, ANY)
    )
    yield from _rows("OnnxElemwise", quantized_elemwise.lower_onnx_bytes, _TABLES, inputs=(_PLAIN_8 - _BOOL,))
    yield from _rows("QuantizedMatMul", quantized_matmul.lower_quantized_matmul, _GEMM_INT8, inputs=operands)
    yield from _rows("MatrixMul", quantized_matmul.lower_int8_matmul, _GEMM_INT8, inputs=operands, formats=_DEFAULT)
    yield from _rows("BatchedMatrixMul", quantized_matmul.lower_batched, _GEMM_INT8, inputs=operands, formats=_DEFAULT)
    yield from _rows(
        "Pooling AdaptivePooling", quantized_pooling.lower_quantized_pooling, ("pool_int8",),
        inputs=(_PRODUCTS | {_C.UINT8}, ANY), modes=_POOLING, formats=_NCHW,
    )  # fmt: skip
    images = (_codes(_C.INT8, _C.UINT8, _C.QUANTIZED_S8, _C.QUANTIZED8_ASYMM), ANY)
    yield from _rows("Remap", sampling.lower_remap, ("sample_int8",), inputs=(_PRODUCTS | {_C.UINT8}, ANY))
    yield from _rows("WarpPerspective", sampling.lower_warp_perspective, _SAMPLE_INT8, inputs=images)
    yield from _rows("WarpAffine", sampling.lower_warp_affine, ("sample_int8",), inputs=images)


def _integers() -> Iterator[Row]:
    """Reductions of integers, and of the stored numbers of quantized types."""
    plain = _codes(_C.INT32, _C.INT16, _C.UINT16, _C.INT8, _C.UINT8)
    ordered = plain | _QUANTIZED | _BOOL
    yield from _rows("Reduce", reduce.lower_integer_reduce, ("reduce_int",), inputs=(ordered, ANY))
    yield from _rows("Argmax Argmin", reduce.lower_integer_arg_reduce, ("arg_reduce_int",), inputs=(ordered,))
    yield from _rows("Cumsum", reduce.lower_cumsum, ("cumsum_int",), inputs=(plain,))


def _int64() -> Iterator[Row]:
    only: dict[str, Any] = {"kernels": ("elemwise_int64",), "inputs": (_I64,)}
    same: dict[str, Any] = {**only, "outputs": (_I64,)}
    yield Row(op="Elemwise", lower=elemwise_int64.lower_int64, modes=frozenset(INT64), **same)
    yield Row(
        op="ElemwiseMultiType", lower=elemwise_int64.lower_int64_comparison, modes=_COMPARISONS - _OF_FLOATS, **only
    )
    yield Row(op="OnnxElemwise", lower=elemwise_int64.lower_int64_of_onnx, outputs=(_I64 | _I32,), **only)


def _of_any_type() -> Iterator[Row]:
    """Operators that move elements, whatever they are."""
    same = [operator.name for operator in PassThrough.__subclasses__()]
    every: dict[str, Any] = {"inputs": (EVERY,), "outputs": (EVERY,)}
    yield from _rows(" ".join(same), shape.lower_pass_through, (), **every)
    yield from _rows("Reshape AxisAddRemove", shape.lower_reshape, (), **every)
    yield from _rows("Broadcast Subtensor Split", shape.lower_view, _COPY, **every)
    yield from _rows("Dimshuffle", shape.lower_dimshuffle, _COPY, **every)
    yield from _rows("Concat", shape.lower_concat, _GATHER, **every)
    yield from _rows("ChannelGather", gather_channels.lower_channel_gather, _GATHER)
    yield from _rows("Tile", shape.lower_tile, _COPY, **every)
    yield from _rows("Padding", shape.lower_padding, _COPY, **every)
    computed = frozenset(("constant", "edge"))
    yield from _rows("OnnxPad", shape.lower_computed_padding, _COPY, modes=computed, **every)
    yield from _rows("IndexingMultiAxisVec", indexing.lower_take, ("gather_runs", *_COPY), **every)
    yield from _rows("IndexingSetMultiAxisVec", indexing.lower_set_by_index, ("scatter_runs", *_COPY), **every)
    yield from _rows("IndexingOneHot", indexing.lower_one_hot, ("gather_one_hot",), inputs=(ANY, _I32, ANY))
    indexed: dict[str, Any] = {"inputs": (EVERY, _I32 | _I64, EVERY), "outputs": (EVERY,)}
    yield from _rows("GatherElements", along_axis.lower_gather_elements, ("gather_elements",), **indexed)
    yield from _rows("ScatterElements", along_axis.lower_scatter_elements, ("scatter_elements",), **indexed)
    yield from _rows("Images2Neibs", images2neibs.lower_images2neibs, ("copy_windows",))
    yield from _rows("SetSubtensor", indexing.lower_set, _COPY, **every)
    yield from _rows("GatherND", indexing.lower_gather_nd, ("gather_runs",), **indexed)
    yield from _rows("ScatterND", indexing.lower_scatter_nd, ("scatter_runs",), **indexed)
    yield from _rows("MaxUnpool", indexing.lower_unpooling, ("fill_elements", "scatter_runs"), **indexed)
    yield from _rows("Triangle", parts.lower_triangle, ("keep_triangle",), **every)
    yield from _rows("ReverseSequence", parts.lower_reversal, ("reverse_sequences",), **indexed)
    yield from _rows("Col2Im", parts.lower_columns_to_image, ("sum_windows_f32",), inputs=(_F32, EVERY))
    yield from _rows(
        "CvtColor", colour.lower_cvt_color, ("convert_colours", "planes_to_colours"),
        inputs=(_F32 | _codes(_C.UINT8),), outputs=(EVERY,),
    )  # fmt: skip
    yield from _rows(
        "OnnxPooling", pooling.lower_onnx_pooling, ("pool_any",), inputs=(_F32 | _codes(_C.INT8, _C.UINT8),),
        outputs=(EVERY,), modes=frozenset(("max", "average")),
    )  # fmt: skip
    yield from _rows(
        "Resize", resize.lower_integer_resize, ("pick_pixels", "resize_bytes"), inputs=(ANY - _F32, ANY),
        formats=_NCHW | {Format.NHWC},
    )  # fmt: skip
    yield from _rows(
        "OnnxResize", onnx_resize.lower_onnx_resize,
        ("pick_pixels", "resize_int", "resize_pixels_f32", "resize_plain_f32"), inputs=(EVERY,), outputs=(EVERY,),
    )  # fmt: skip
    by_order: dict[str, Any] = {"kernels": ("sort_elements",), "inputs": (_SORTED, EVERY), "outputs": (EVERY,)}
    yield from _rows("Argsort TopK", sorting.lower_sort, **by_order)
    yield from _rows("SortedTopK", sorting.lower_sorted_top, **by_order)


TABLE = DispatchTable(
    (*_float32(), *_elementwise(), *_conversions(), *_int8(), *_integers(), *_int64(), *_of_any_type())
)
"""The dispatch of the CPU."""
