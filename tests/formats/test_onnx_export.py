"""Models written as ONNX compute in ONNX Runtime what our definitions say."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.api_samples import DIGITS
from support.graphs import GraphBuilder, QuantizedBuilder
from support.onnx_exports import check_export, exported, run_onnx
from support.places import ROOT

import megengine_lite
from megengine_lite._api import onnx_export
from megengine_lite._core.formats.onnx.export.table import CONVERTERS
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT16, INT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.params import (
    ArgsortOrder,
    AxisDesc,
    AxisMethod,
    BorderMode,
    ConvolutionFormat,
    ConvolutionSparse,
    ElemwiseMode,
    IndexDescMaskItem,
    InterpolationMode,
    PoolingMode,
    ReduceMode,
    ROIAlignMode,
    TopKMode,
)
from megengine_lite._core.operators import BUILT_IN
from megengine_lite.errors import InternalError, LiteError, LiteValueError, UnsupportedOperatorError

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

S8 = DTypeCode.QUANTIZED_S8
EXACT, ARITHMETIC, FUNCTION = 0.0, 1e-6, 1e-5


def rng(seed=0):
    return np.random.default_rng(seed)


def floats(*shape, seed=0):
    return rng(seed).standard_normal(shape).astype(np.float32)


def one_node(op, parameters, *values, constants=(), outputs=1, taken=None, tolerance=EXACT, **options):
    """Checks the export of one node.

    ``values`` are its inputs, ``constants`` the places of those that are fixed, ``taken`` says how many of its
    ``outputs`` are those of the graph.
    """
    builder = GraphBuilder()
    variables, given = [], {}
    for k, value in enumerate(values):
        if k in constants:
            variables.append(builder.constant(value))
        else:
            dtype = {np.dtype(np.float32): FLOAT32, np.dtype(np.int32): INT32, np.dtype(np.uint8): UINT8}
            kinds = dtype | {np.dtype(np.int16): INT16}
            variables.append(builder.input(f"x{k}", value.shape, kinds[value.dtype]))
            given[f"x{k}"] = value
    made = builder.node(op, parameters, variables, outputs)
    graph = builder.finish(*(made if outputs > 1 else [made])[:taken])
    return check_export(graph, given, tolerance, **options)


def operators_of(model):
    return [node.op_type for node in model.graph.node]


def elemwise(mode, *values, **options):
    return one_node("Elemwise", params.Elemwise(mode=mode), *values, **options)


# ---- numbers --------------------------------------------------------------------------------------------------------


def test_halves_are_rounded_away_from_zero():
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, 8388607.5, 8388609.0, -0.2], np.float32)
    elemwise(ElemwiseMode.ROUND, x)


def test_remainders_of_floats_have_the_sign_of_the_dividend_and_of_integers_that_of_the_divisor():
    x, y = np.array([7, 7, -7, -7, 6], np.float32), np.array([3, -3, 3, -3, 3], np.float32)
    elemwise(ElemwiseMode.MOD, x, y)
    elemwise(ElemwiseMode.MOD, x.astype(np.int32), y.astype(np.int32))
    elemwise(ElemwiseMode.FLOOR_DIV, x, y)
    elemwise(ElemwiseMode.FLOOR_DIV, x.astype(np.int32), y.astype(np.int32))


def test_narrow_integers_wrap_as_their_type_does():
    x = np.array([32767, -32768, 200, 1], np.int16)
    elemwise(ElemwiseMode.ADD, x, x)
    elemwise(ElemwiseMode.MUL, x, x)


def test_shifts_of_negative_numbers_round_down():
    x, y = np.array([-7, 7, -1, 1 << 30], np.int32), np.array([1, 2, 3, 4], np.int32)
    elemwise(ElemwiseMode.SHR, x, y)
    elemwise(ElemwiseMode.SHL, x, y)


@pytest.mark.parametrize("mode", ["LOG1P", "EXPM1", "SOFTPLUS", "LOGSIGMOID", "GELU", "H_SWISH", "ERFINV", "TANH"])
def test_functions_are_exact_for_small_numbers(mode):
    x = np.concatenate([np.linspace(-0.9, 0.9, 19), [1e-7, -1e-7, 1e-4, 0.0]]).astype(np.float32)
    model = elemwise(ElemwiseMode[mode], x, tolerance=FUNCTION)
    small = elemwise(ElemwiseMode[mode], np.full(3, 1e-6, np.float32), tolerance=FUNCTION)
    assert operators_of(model) == operators_of(small)


@pytest.mark.parametrize("exponent", [0.5, 2.0, 3.0, -1.0, 1 / 3, 0.25, 5.0])
def test_powers_take_the_absolute_value_of_the_base_unless_they_are_whole(exponent):
    base = np.abs(floats(12)) if exponent == 0.5 else floats(12)
    one_node("PowC", params.PowC(exp=exponent), base, tolerance=FUNCTION)


def test_quotients_of_the_plane_have_the_right_quadrant():
    y, x = (v.reshape(-1).astype(np.float32) for v in np.meshgrid([-1, 0, 2], [-2, 0, 1]))
    elemwise(ElemwiseMode.ATAN2, y, x, tolerance=FUNCTION)


# ---- images ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sparse", ["DENSE", "GROUP"])
def test_convolution_keeps_strides_padding_dilation_and_groups(sparse):
    p = params.Convolution(sparse=ConvolutionSparse[sparse], pad_h=1, pad_w=2, stride_h=2, dilate_w=2)
    w = floats(2, 3, 2, 3, 3) if sparse == "GROUP" else floats(6, 4, 3, 3)
    model = one_node("Convolution", p, floats(1, 4, 9, 10), w, constants=[1], tolerance=ARITHMETIC)
    assert operators_of(model) == ["Conv"]


@pytest.mark.parametrize("mode", list(PoolingMode))
def test_pooling_counts_padding_as_we_do(mode):
    p = params.Pooling(mode=mode, pad_h=1, pad_w=1, window_h=3, window_w=3)
    one_node("Pooling", p, floats(2, 3, 8, 9), tolerance=ARITHMETIC)


@pytest.mark.parametrize("mode", [PoolingMode.MAX, PoolingMode.AVERAGE])
@pytest.mark.parametrize("static", [True, False])
def test_adaptive_pooling_has_one_window_for_all_outputs(mode, static):
    p = params.AdaptivePooling(mode=mode)
    x, size = floats(1, 2, 7, 11), np.array([3, 2], np.int32)
    one_node("AdaptivePooling", p, x, size, constants=[1], tolerance=ARITHMETIC, static=static)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("size", [(8, 8), (7, 8), (7, 7)])
def test_transposed_convolution_gives_the_size_that_is_asked_for(static, size):
    p = params.Convolution(stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    like = floats(1, 3, *size)
    values = floats(4, 3, 3, 3), floats(1, 4, 4, 4), like
    one_node("ConvolutionBackwardData", p, *values, constants=[0], tolerance=ARITHMETIC, static=static)


@pytest.mark.parametrize("mode", ["NEAREST", "LINEAR", "CUBIC", "AREA", "LANCZOS4"])
@pytest.mark.parametrize("size", [(5, 4), (13, 21)])
def test_resize_has_our_rules_in_each_mode(mode, size):
    p = params.Resize(imode=InterpolationMode[mode], format=ConvolutionFormat.NHWC)
    x, target = floats(1, 9, 8, 3), np.array(size, np.int32)
    model = one_node("Resize", p, x, target, constants=[1], tolerance=FUNCTION)
    assert ("Resize" in operators_of(model)) == (mode not in ("AREA", "LANCZOS4"))


def test_resized_bytes_are_rounded_or_cut_as_in_the_original():
    x = rng().integers(0, 256, (1, 9, 8, 3)).astype(np.uint8)
    for mode in (InterpolationMode.NEAREST, InterpolationMode.CUBIC):
        p = params.Resize(imode=mode, format=ConvolutionFormat.NHWC)
        one_node("Resize", p, x, np.array([18, 16], np.int32), constants=[1])


@pytest.mark.parametrize("border", ["REPLICATE", "REFLECT", "REFLECT_101", "WRAP", "CONSTANT"])
@pytest.mark.parametrize("mode", ["LINEAR", "NEAREST"])
def test_remap_takes_pixels_outside_by_each_border_rule(border, mode):
    p = params.Remap(
        imode=InterpolationMode[mode], border_type=BorderMode[border], format=ConvolutionFormat.NCHW, scalar=1.5
    )
    positions = rng().uniform(-9, 14, (1, 6, 7, 2)).astype(np.float32)
    one_node("Remap", p, floats(1, 2, 5, 6), positions, tolerance=FUNCTION)


@pytest.mark.parametrize("border", ["REPLICATE", "REFLECT", "REFLECT_101", "WRAP", "CONSTANT"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_warps_take_pixels_outside_by_each_border_rule(border, layout):
    fmt = ConvolutionFormat[layout]
    x = floats(1, 2, 9, 8) if layout == "NCHW" else floats(1, 9, 8, 2)
    matrix = np.array([[[1.1, 0.2, -2], [-0.1, 0.9, 1], [0.01, 0.02, 1]]], np.float32)
    size = np.array([7, 10], np.int32)
    p = params.WarpPerspective(bmode=BorderMode[border], format=fmt, border_val=0.5)
    one_node("WarpPerspective", p, x, matrix, size, constants=[2], tolerance=FUNCTION)
    p = params.WarpAffine(border_mode=BorderMode[border], format=fmt, border_val=0.5)
    one_node("WarpAffine", p, x, matrix[:, :2].copy(), size, constants=[2], tolerance=FUNCTION)


@pytest.mark.parametrize("mode", list(ROIAlignMode))
def test_regions_that_reach_over_the_edge_see_zeros_there(mode):
    rois = np.array([[0.5, -3, -2, 5, 4], [1, 2, 3, 9.5, 8.25], [1, 4, 4, 3, 2], [0, 0.2, 0.1, 0.6, 0.7]], np.float32)
    p = params.ROIAlign(mode=mode, offset=0.5, pooled_height=2, pooled_width=3, sample_height=2, sample_width=1)
    one_node("ROIAlign", p, floats(2, 3, 8, 9), rois, outputs=2, taken=1, tolerance=FUNCTION)


def test_alpha_of_local_response_normalization_is_that_of_one_channel():
    p = params.LRN(n=3, k=1.5, alpha=0.3, beta=0.6)
    model = one_node("LRN", p, floats(2, 7, 4, 5), tolerance=FUNCTION)
    (node,) = model.graph.node
    assert next(a.f for a in node.attribute if a.name == "alpha") == pytest.approx(0.9)


# ---- selection ------------------------------------------------------------------------------------------------------

TIES = np.array([[2, 1, 2, 3, 1, 3, 2], [0, 0, 0, 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize("k", [3, -3, -7])
@pytest.mark.parametrize("mode", list(TopKMode))
def test_of_equal_elements_the_last_one_comes_first_in_descending_order(k, mode):
    outputs = 1 if mode == TopKMode.KTH_ONLY else 2
    one_node("TopK", params.TopK(mode=mode), TIES, np.array([k], np.int32), constants=[1], outputs=outputs)


@pytest.mark.parametrize("order", list(ArgsortOrder))
def test_sorting_keeps_or_reverses_the_order_of_equal_elements(order):
    one_node("Argsort", params.Argsort(order=order), TIES, outputs=2)


@pytest.mark.parametrize("limit", [2, 4, 9])
def test_suppression_repeats_the_last_kept_box(limit):
    corners = rng(3).uniform(0, 10, (2, 8, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng(4).uniform(3, 6, (2, 8, 2)).astype(np.float32)], 2)
    p = params.NMSKeep(iou_thresh=0.3, max_output=limit)
    one_node("NMSKeepMGB", p, boxes, outputs=2)


def items(*axes, **flags):
    given = {"begin": False, "end": False, "step": False, "idx": False} | flags
    return params.IndexDescMaskDump(items=tuple(IndexDescMaskItem(axis=a, **given) for a in axes))


INDEXES = np.array([3, 0, -1, 3], np.int32), np.array([1, 1, 2, 1], np.int32)


def test_slices_may_run_backwards_and_begin_at_the_end():
    x = floats(6, 7)
    p = items(1, begin=True, end=True, step=True)
    for begin, end, step in ((5, 1, -2), (-2, -7, -1), (1, 99, 3)):
        numbers = [np.array([n], np.int32) for n in (begin, end, step)]
        one_node("Subtensor", p, x, *numbers, constants=[1, 2, 3])
    one_node("Subtensor", items(0, 1, step=True), x, *[np.array([-1], np.int32)] * 2, constants=[1, 2])


def test_single_elements_remove_axes_but_the_last():
    one, two = np.array([-2], np.int32), np.array([1], np.int32)
    one_node("Subtensor", items(1, idx=True), floats(3, 4), one, constants=[1])
    one_node("Subtensor", items(0, 1, idx=True), floats(3, 4), one, two, constants=[1, 2])


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_index_tensors_take_the_place_of_their_axes(axes):
    x = floats(5, 4, 6)
    one_node("IndexingMultiAxisVec", items(*axes, idx=True), x, *INDEXES, again=False)
    one_node("MeshIndexing", items(*axes, idx=True), x, *INDEXES)


@pytest.mark.parametrize("op", ["IndexingSetMultiAxisVec", "IndexingIncrMultiAxisVec", "SetMeshIndexing"])
def test_selected_elements_are_set_and_increased(op):
    x, first, second = floats(5, 4, 6), *INDEXES
    value = np.array([2.5], np.float32) if "Set" in op else floats(4, 6)
    one_node(op, items(0, 1, idx=True), x, value, first, second, tolerance=ARITHMETIC, again=False)


def test_slices_are_set_and_increased():
    numbers = [np.array([n], np.int32) for n in (1, 6, 2)]
    for op in ("SetSubtensor", "IncrSubtensor"):
        p = items(1, begin=True, end=True, step=True)
        one_node(op, p, floats(3, 7), floats(3, 3, seed=1), *numbers, constants=[2, 3, 4], static=True)


def test_length_of_a_selection_may_depend_on_data():
    builder = GraphBuilder()
    x = builder.input("x", (3, 4))
    taken, places = builder.node("CondTake", params.CondTake(mode=params.CondTakeMode.GT), [x, x], 2)
    total = builder.node("Reduce", params.Reduce(mode=ReduceMode.SUM, axis=0), [taken])
    graph = builder.finish(taken, places, total)
    check_export(graph, {"x": floats(3, 4)}, ARITHMETIC, again=False)
    content, _ = exported(graph)
    values = run_onnx(content, {"x": np.full((3, 4), -1, np.float32)})
    assert [v.shape for v in values] == [(0,), (0,), (1,)]


# ---- layers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
def test_gates_of_lstm_layers_change_their_order(bias):
    p = params.LSTM(num_layers=2, bidirectional=True, bias=bias, hidden_size=3)
    sizes = [12 * (n + 3 + 2 * bias) for n in (4, 4, 6, 6)]
    state = floats(4, 2, 3, seed=2)
    values = floats(5, 2, 4), state, -state, floats(sum(sizes), seed=1) / 2
    model = one_node("LSTMForward", p, *values, constants=[3], outputs=4, taken=3, tolerance=FUNCTION)
    assert operators_of(model).count("LSTM") == 2


@pytest.mark.parametrize("mode", list(params.RNNCellNonlineMode))
def test_plain_recurrent_layers_have_each_activation(mode):
    p = params.RNN(hidden_size=3, nonlineMode=mode)
    values = floats(5, 2, 4), floats(1, 2, 3, seed=2), floats(3 * (4 + 3 + 2), seed=1) / 2
    again = mode != params.RNNCellNonlineMode.IDENTITY
    one_node("RNNForward", p, *values, constants=[2], outputs=3, taken=2, tolerance=FUNCTION, again=again)


def test_layer_norm_is_one_node_and_group_norm_three_steps():
    x = floats(2, 6, 4, 5)
    weight, bias = floats(4, 5, seed=1), floats(4, 5, seed=2)
    p = params.LayerNorm(normalized_dim=2, normalized_size=20)
    model = one_node("LayerNorm", p, x, weight, bias, constants=[1, 2], outputs=3, taken=1, tolerance=FUNCTION)
    assert operators_of(model) == ["LayerNormalization"]
    p = params.GroupNorm(group=3)
    one_node("GroupNorm", p, x, floats(6), floats(6, seed=1), constants=[1, 2], outputs=3, tolerance=FUNCTION)


# ---- quantized types ------------------------------------------------------------------------------------------------


def quantized_convolution():
    builder = QuantizedBuilder()
    x_type, w_type = DType(S8, 0.05), DType(S8, 0.02)
    x, w = builder.data((1, 4, 6, 6)), builder.weight((8, 4, 3, 3), w_type)
    sums = DType(DTypeCode.QUANTIZED_S32, float(np.float32(0.05) * np.float32(0.02)))
    bias = builder.weight((1, 8, 1, 1), sums, low=-500, high=500)
    stored = builder.node("TypeCvt", params.DTypeTable(dtype=x_type), [x])
    made = builder.typed_node("ConvBiasForward", params.ConvBias(pad_h=1), [stored, w, bias], DType(S8, 0.1))
    out = builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [made])
    return builder.finish(out), builder.values


def test_quantized_convolutions_stand_between_quantize_and_dequantize():
    import onnx
    from onnx import numpy_helper

    graph, values = quantized_convolution()
    content, _ = exported(graph)
    model = onnx.load_from_string(content)
    names = operators_of(model)
    assert names.count("QuantizeLinear") == 1 and names.count("Conv") == 1
    makers = {output: node for node in model.graph.node for output in node.output}
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    (convolution,) = [node for node in model.graph.node if node.op_type == "Conv"]
    kinds = [stored[makers[name].input[0]].dtype.name for name in convolution.input[1:]]
    assert kinds == ["int8", "int32"]
    check_export(graph, values, 0.1 / 12)  # one step


def test_averages_of_quantized_numbers_round_halves_away_from_zero():
    builder = QuantizedBuilder()
    x = builder.data((1, 4, 6, 6), DType(S8, 0.05))
    pooled = builder.typed_node("Pooling", params.Pooling(mode=PoolingMode.AVERAGE), [x])
    graph = builder.finish(builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [pooled]))
    check_export(graph, builder.values, ARITHMETIC)


# ---- shapes ---------------------------------------------------------------------------------------------------------


def flattening(batch=1):
    """A network of the usual form: images, a shape that follows from the input, a matrix product."""
    builder = GraphBuilder()
    x, w = builder.input("data", (batch, 2, 8, 8)), builder.constant(floats(4, 2, 3, 3))
    y = builder.node("Convolution", params.Convolution(pad_h=1, pad_w=1), [x, w])
    y = builder.node("Reduce", params.Reduce(mode=ReduceMode.MEAN, axis=3), [y])
    y = builder.node("Reduce", params.Reduce(mode=ReduceMode.MEAN, axis=2), [y])
    shape = builder.node("GetVarShape", params.OptionalAxisV1(axis=0), [x])
    target = builder.node("Concat", params.Axis(axis=0), [shape, builder.constant(np.array([4], np.int32))])
    y = builder.node("Reshape", params.OptionalAxisV1(), [y, target])
    y = builder.node("MatrixMul", params.MatrixMul(), [y, builder.constant(floats(4, 5))], name="prob")
    return builder.finish(y)


def dimensions(value):
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_batch_and_image_sizes_may_change_unless_they_are_fixed():
    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION)
    assert dimensions(model.graph.input[0]) == ["batch", 2, "height", "width"]
    assert dimensions(model.graph.output[0]) == ["batch", 5]
    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION, static=True)
    assert dimensions(model.graph.input[0]) == [1, 2, 8, 8]
    assert "Shape" not in operators_of(model)


def test_sizes_that_a_node_needs_are_fixed_and_others_are_not():
    p = params.Resize(imode=InterpolationMode.AREA, format=ConvolutionFormat.NHWC)
    model = one_node("Resize", p, floats(1, 8, 8, 3), np.array([4, 4], np.int32), constants=[1], tolerance=FUNCTION)
    assert dimensions(model.graph.input[0]) == ["batch", 8, 8, 3]


def test_axes_are_added_and_removed_step_by_step():
    steps = ((AxisMethod.ADD_1, 0), (AxisMethod.REMOVE, 2), (AxisMethod.ADD_1, 3))
    p = params.AxisAddRemove(desc=tuple(AxisDesc(*s) for s in steps))
    one_node("AxisAddRemove", p, floats(3, 1, 4))
    p = params.AxisAddRemove(desc=(AxisDesc(AxisMethod.REMOVE, 0),))
    one_node("AxisAddRemove", p, floats(1), static=True)


def test_outputs_may_be_inputs_constants_and_the_same_variable_twice():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    y = builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [x], name="y")
    graph = builder.finish(y, x, builder.constant(floats(2)), y)
    graph.output_names = ["y", "x", "weights", "again"]
    content, _ = exported(graph)
    given = floats(2, 3)
    results = run_onnx(content, {"x": given})
    for got, want in zip(results, (np.maximum(given, 0), given, floats(2), np.maximum(given, 0)), strict=True):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("opset", [13, 15, 16, 17, 18, 19, 20, 21])
def test_every_operator_set_is_written_in_its_own_form(opset):
    import onnx

    model = check_export(flattening(), {"data": floats(1, 2, 8, 8)}, FUNCTION, opset=opset)
    assert model.opset_import[0].version == opset
    assert model.ir_version <= onnx.IR_VERSION
    p = params.LayerNorm(normalized_dim=1, normalized_size=5)
    values = floats(2, 5), floats(5, seed=1), floats(5, seed=2)
    one_node("LayerNorm", p, *values, constants=[1, 2], outputs=3, taken=1, tolerance=FUNCTION, opset=opset)
    if opset >= 16:
        p = params.Remap(format=ConvolutionFormat.NCHW)
        one_node("Remap", p, floats(1, 2, 5, 6), floats(1, 3, 3, 2), tolerance=FUNCTION, opset=opset)


# ---- what cannot be written -----------------------------------------------------------------------------------------


def two_problems():
    builder = GraphBuilder()
    x = builder.input("x", (2, 3, 3))
    inverse = builder.node("MatrixInverse", params.Empty(), [x], name="inverse")
    values = builder.node("SVD", params.SVD(compute_uv=False), [inverse], name="values")
    return builder.finish(builder.node("Elemwise", params.Elemwise(mode=ElemwiseMode.RELU), [values]))


def test_nodes_without_counterpart_are_listed_all_at_once():
    with pytest.raises(UnsupportedOperatorError) as caught:
        exported(two_problems())
    assert "MatrixInverse 'inverse'" in str(caught.value) and "SVD 'values'" in str(caught.value)


def test_nodes_without_counterpart_are_written_in_a_domain_of_our_own_if_that_is_asked_for():
    import onnx

    content, _ = exported(two_problems(), custom_domain=True)
    model = onnx.load_from_string(content)
    assert [(n.domain, n.op_type) for n in model.graph.node][:2] == [
        ("megengine", "MatrixInverse"),
        ("megengine", "SVD"),
    ]
    attributes = {a.name: a.i for a in model.graph.node[1].attribute}
    assert attributes == {"full_matrices": 0, "compute_uv": 0}
    assert {o.domain for o in model.opset_import} == {"", "megengine"}


def test_operator_sets_that_are_too_old_are_refused_with_the_one_that_is_needed():
    with pytest.raises(LiteValueError, match="13 to 23"):
        exported(flattening(), opset=12)
    builder = GraphBuilder()
    x, where = builder.input("x", (1, 2, 5, 6)), builder.input("where", (1, 3, 3, 2))
    graph = builder.finish(builder.node("Remap", params.Remap(format=ConvolutionFormat.NCHW), [x, where]))
    with pytest.raises(UnsupportedOperatorError, match="operator set 16"):
        exported(graph, opset=15)


def test_every_converter_belongs_to_an_operator_and_is_on_the_page():
    assert CONVERTERS.keys() <= BUILT_IN.keys()
    text = (ROOT / "docs" / "onnx.md").read_text()
    _, _, part = text.partition("<!-- begin exported -->")
    listed = re.findall(r"`(\w+)`", part.partition("<!-- end exported -->")[0])
    assert listed == sorted(CONVERTERS)


# ---- random numbers and checks --------------------------------------------------------------------------------------


def drawn(op, parameters, value, dtype=FLOAT32, constants=(0,), outputs=1):
    builder = GraphBuilder()
    x = builder.constant(value) if 0 in constants else builder.input("x", value.shape, dtype)
    made = builder.node(op, parameters, [x], outputs)
    content, _ = exported(builder.finish(*(made if outputs > 1 else [made])), static=True)
    return run_onnx(content, {} if 0 in constants else {"x": value})


def test_random_numbers_have_the_same_distributions():
    shape = np.array([100, 100], np.int32)
    (uniform,) = drawn("UniformRNG", params.UniformRNG(seed=3), shape)
    assert uniform.shape == (100, 100) and uniform.min() > 0 and uniform.max() <= 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.02)
    (normal,) = drawn("GaussianRNG", params.GaussianRNG(seed=3, mean=2, std=3), shape)
    assert (normal.mean(), normal.std()) == (pytest.approx(2, abs=0.2), pytest.approx(3, abs=0.2))
    (times,) = drawn("ExponentialRNG", params.ExponentialRNG(), np.full((100, 100), 4, np.float32), constants=())
    assert times.mean() == pytest.approx(0.25, abs=0.02)


def test_random_orders_have_every_number_once():
    (order,) = drawn("PermutationRNG", params.PermutationRNG(), np.array([50], np.int32))
    assert sorted(order) == list(range(50)) != order.tolist()
    x = floats(40, 3)
    rows, places = drawn("ShuffleRNG", params.ShuffleRNG(), x, constants=(), outputs=2)
    np.testing.assert_array_equal(rows, x[places])
    assert sorted(places) == list(range(40))


@pytest.mark.parametrize("replacement", [True, False])
def test_columns_are_chosen_by_weight(replacement):
    weights = np.tile(np.array([0.0, 1.0, 3.0], np.float32), (2000, 1))
    p = params.MultinomialRNG(num_samples=1, replacement=replacement)
    (columns,) = drawn("MultinomialRNG", p, weights, constants=())
    assert columns.shape == (2000, 1) and columns.min() >= 1
    assert (columns == 2).mean() == pytest.approx(0.75, abs=0.05)


def test_dropout_keeps_the_mean_and_tells_what_it_kept():
    y, mask = drawn("Dropout", params.Dropout(drop_prob=0.25), np.ones((100, 100), np.float32), constants=(), outputs=2)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
    np.testing.assert_array_equal(mask != 0, y.reshape(-1) > 0)
    assert y.mean() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("axes", [(0, 2, 1), (-1, 0, -1)])
def test_vector_products_are_taken_along_any_axes(axes):
    a, b = (np.moveaxis(floats(4, 5, 3, seed=s), 2, axis) for s, axis in enumerate(axes[:2]))
    p = params.Cross(axisa=axes[0], axisb=axes[1], axisc=axes[2])
    one_node("Cross", p, np.ascontiguousarray(a), np.ascontiguousarray(b), tolerance=ARITHMETIC)


@pytest.mark.parametrize("last", [1.0, np.inf, np.nan])
def test_infinity_and_nan_are_reported(last):
    x, y = floats(3, 4), np.array([1, last], np.float32)
    one_node("CheckNonFinite", params.CheckNonFinite(scale=2), x, y, outputs=3, again=False)


def test_means_of_regions_leave_out_what_lies_outside():
    rois = np.array([[0, 0.4, 1.5, 6, 5], [1, -3, -2, 3, 2], [1, 20, 20, 30, 30]], np.float32)
    p = params.ROIPooling(mode=params.ROIPoolingMode.AVERAGE, scale=0.8)
    size = np.array([2, 3], np.int32)
    one_node("ROIPooling", p, floats(2, 3, 7, 8), rois, size, constants=[2], outputs=2, taken=1, tolerance=ARITHMETIC)


@pytest.mark.parametrize(
    ("place", "name", "kind"),
    [
        (onnx.checker, "check_model", onnx.checker.ValidationError),
        (onnx.checker, "check_model", onnx.shape_inference.InferenceError),
        (onnx_export, "_runtime", RuntimeError),
    ],
)
def test_an_export_that_is_not_valid_is_our_fault(monkeypatch, place, name, kind):
    def fails(*arguments, **options):
        raise kind("no")

    monkeypatch.setattr(place, name, (lambda *arguments: fails) if place is onnx_export else fails)
    with pytest.raises(InternalError, match=r"the exported model.*: no; this is a fault of megengine_lite") as raised:
        onnx_export.exported(DIGITS, verify=True)
    assert type(raised.value.__cause__) is kind


def test_what_one_file_cannot_hold_has_its_weights_beside_it(tmp_path, monkeypatch):
    """Files of protobuf end at 2 GiB."""
    target = tmp_path / "digits.onnx"
    monkeypatch.setattr(onnx_export, "_LIMIT", 12_000)
    result = onnx_export.export_onnx(DIGITS, target)
    assert result.checked and len(result.compared) == 2 and not result.notes
    assert sorted(p.name for p in tmp_path.iterdir()) == ["digits.onnx", "digits.onnx.data"]
    proto = onnx.load(target, load_external_data=False)
    places = {t.name: {e.key: e.value for e in t.external_data} for t in proto.graph.initializer if t.external_data}
    assert places and target.stat().st_size < 12_000 < (tmp_path / "digits.onnx.data").stat().st_size
    assert all(p["location"] == "digits.onnx.data" and int(p["offset"]) % 4096 == 0 for p in places.values())
    monkeypatch.undo()
    whole = onnx_export.exported(DIGITS, verify=False).chunks
    expected = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load_from_string(b"".join(whole)).graph.initializer}
    for tensor in onnx.load(target).graph.initializer:
        np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), expected[tensor.name])
    x = floats(2, 1, 8, 8)
    ours, theirs = (megengine_lite.load(m)(x)[0] for m in (target, DIGITS))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_what_two_files_cannot_hold_is_refused_and_not_written(tmp_path, monkeypatch):
    target = tmp_path / "digits.onnx"
    monkeypatch.setattr(onnx_export, "_LIMIT", 1000)
    with pytest.raises(LiteError, match=r"the ONNX file would have \d+ bytes, and may have 1000"):
        onnx_export.export_onnx(DIGITS, target)
    assert list(tmp_path.iterdir()) == []
