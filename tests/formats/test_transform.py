"""Models that are rewritten for a file: what the rewrite makes, and that it computes the same, at other sizes too."""

import struct

import numpy as np
import pytest
from support.api_samples import API_MODELS, DIGITS, IMAGES, config, loaded
from support.graphs import GraphBuilder
from test_loader_values import compressed_model

from megengine_lite import LiteNetwork, get_model_io_info
from megengine_lite._api.loading import transformed
from megengine_lite._core.compile.transform import LAYOUTS, blocked, fold_convolution
from megengine_lite._core.compile.transform.shaped import shaped_graph
from megengine_lite._core.formats.load import load_model, load_record
from megengine_lite._core.formats.mge.build import build_model
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import ConstantPool
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.params import (
    BN,
    Axis,
    ConvBiasNonlineMode,
    Convolution,
    ConvolutionSparse,
    Elemwise,
    ElemwiseMode,
    OptionalAxisV1,
    Pooling,
    Reduce,
    ReduceMode,
)
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import LiteValueError

M = ElemwiseMode
RNG = np.random.default_rng(11)
DIGITS_INT8 = API_MODELS.parent / "digits" / "digits_int8.mge"


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


class Builder(GraphBuilder):
    """Graphs with an image as input."""

    def __init__(self, *shape):
        super().__init__()
        self.x = self.input("x", shape)

    def conv(self, x, *filter_shape, **params):
        weight = self.constant(normal(*filter_shape) * np.float32(0.2))
        sparse = ConvolutionSparse.GROUP if len(filter_shape) == 5 else ConvolutionSparse.DENSE
        return self.node("Convolution", Convolution(sparse=sparse, **params), [x, weight], name="conv")

    def elemwise(self, mode, *operands):
        made = [v if hasattr(v, "id") else self.constant(np.asarray(v, np.float32)) for v in operands]
        return self.node("Elemwise", Elemwise(mode=mode), made, name="e")


def folded(graph):
    pool = ConstantPool()
    made = shaped_graph(graph, pool)
    fold_convolution.run(made, pool)
    return made, pool


def check(graph, made, *shapes):
    """Both graphs compute the same for inputs of these shapes."""
    for shape in shapes:
        inputs = {"x": normal(*shape)}
        for want, got in zip(run_reference(graph, inputs), run_reference(made, inputs), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * max(float(np.abs(want).max()), 1e-6))


def ops(graph):
    return [node.op for node in graph.nodes]


# ---- fusion ---------------------------------------------------------------------------------------------------------


def test_convolution_takes_in_batch_norm_and_activation():
    b = Builder(1, 3, 8, 9)
    y = b.conv(b.x, 8, 3, 3, 3, pad_h=1, pad_w=1)
    parameters = [b.constant(np.abs(normal(1, 8, 1, 1)) + 0.5) for _ in range(4)]
    *_, y = b.node("BatchNorm", BN(fwd_mode=1), [y, *parameters], outputs=4)
    graph = b.finish(b.elemwise(M.RELU, y))
    made, _ = folded(graph)
    (node,) = made.nodes
    assert node.op == "ConvBiasForward" and node.params.nonlineMode == ConvBiasNonlineMode.RELU
    assert len(node.inputs) == 3 and node.inputs[2].shape == (1, 8, 1, 1)
    check(graph, made, (1, 3, 8, 9), (4, 3, 11, 5))


def test_convolution_takes_in_scale_and_bias_but_no_residual():
    b = Builder(1, 8, 6, 6)
    y = b.conv(b.x, 8, 8, 1, 1)
    y = b.elemwise(M.MUL, y, normal(1, 8, 1, 1))
    y = b.elemwise(M.ADD, y, normal(1, 8, 1, 1))
    graph = b.finish(b.elemwise(M.FUSE_ADD_RELU, y, b.x))
    made, _ = folded(graph)
    assert ops(made) == ["ConvBiasForward", "Elemwise"]
    assert made.nodes[0].params.nonlineMode == ConvBiasNonlineMode.IDENTITY
    assert made.nodes[1].params.mode == M.FUSE_ADD_RELU
    check(graph, made, (1, 8, 6, 6), (3, 8, 4, 7))


@pytest.mark.parametrize("mode", [M.TANH, M.EXP, M.SILU])
def test_activation_that_the_format_does_not_have_stays(mode):
    b = Builder(1, 8, 4, 4)
    graph = b.finish(b.elemwise(mode, b.conv(b.x, 8, 8, 3, 3)))
    made, _ = folded(graph)
    assert ops(made) == ["Convolution", "Elemwise"]
    assert made.nodes[0].params is graph.nodes[0].params


def test_result_that_others_read_is_kept():
    b = Builder(1, 8, 4, 4)
    y = b.conv(b.x, 8, 8, 3, 3)
    graph = b.finish(b.elemwise(M.RELU, y), y)
    made, _ = folded(graph)
    assert ops(made) == ["Convolution", "Elemwise"]
    check(graph, made, (2, 8, 4, 4))


def test_weights_are_computed_and_shapes_are_not():
    b = Builder(2, 8, 4, 4)
    weight = b.elemwise(M.ADD, b.constant(normal(8, 8, 1, 1)), b.constant(normal(8, 8, 1, 1)))
    y = b.node("Convolution", Convolution(), [b.x, weight])
    shape = b.node("GetVarShape", OptionalAxisV1(), [b.x])
    graph = b.finish(y, shape)
    made, _ = folded(graph)
    assert ops(made) == ["Convolution", "GetVarShape"]
    assert made.nodes[0].inputs[1].const is not None
    check(graph, made, (2, 8, 4, 4), (5, 8, 3, 3))


# ---- blocks ---------------------------------------------------------------------------------------------------------


def in_blocks(graph, layout):
    made, pool = folded(graph)
    blocked.run(made, pool, layout)
    return made


def formats(graph):
    return [node.params.format for node in graph.nodes if node.op in ("Convolution", "ConvBiasForward", "Pooling")]


@pytest.mark.parametrize("layout", [Format.NCHW44, Format.NCHW88])
def test_chain_of_convolutions_stays_in_blocks(layout):
    b = Builder(1, 3, 12, 12)
    stem = b.elemwise(M.RELU, b.conv(b.x, 16, 3, 3, 3, stride_h=2, stride_w=2, pad_h=1, pad_w=1))
    depth = b.conv(stem, 16, 1, 1, 3, 3, pad_h=1, pad_w=1)
    group = b.conv(depth, 2, 8, 8, 3, 3, pad_h=1, pad_w=1)
    total = b.elemwise(M.FUSE_ADD_RELU, b.elemwise(M.ADD, group, normal(1, 16, 1, 1)), stem)
    pooled = b.node("Pooling", Pooling(), [total])
    both = b.node("Concat", Axis(axis=-3), [pooled, b.elemwise(M.MUL, pooled, 2.0)])
    graph = b.finish(b.conv(both, 8, 32, 1, 1))
    made = in_blocks(graph, layout)
    assert formats(made) == [layout] * 5
    assert [op for op in ops(made) if op == "RelayoutFormat"] == ["RelayoutFormat"]  # the output alone
    block = 8 if layout == Format.NCHW88 else 4
    weights = [node.inputs[1].shape for node in made.nodes if "Conv" in node.op]
    assert weights == [
        (16 // block, 3, 3, 3, block),
        (16 // block, 1, 1, 3, 3, block),
        (2, 8 // block, 8 // block, 3, 3, block, block),
        (8 // block, 32 // block, 1, 1, block, block),
    ]
    check(graph, made, (1, 3, 12, 12), (3, 3, 9, 15))


def test_conversions_stand_only_where_layouts_meet():
    b = Builder(1, 8, 6, 6)
    y = b.conv(b.x, 8, 8, 3, 3)
    mean = b.node("Reduce", Reduce(mode=ReduceMode.MEAN, axis=3), [y])
    graph = b.finish(b.conv(y, 8, 8, 1, 1), mean, y)
    made = in_blocks(graph, Format.NCHW88)
    assert ops(made).count("RelayoutFormat") == 3  # the input, the first result for Reduce and the caller, the second
    check(graph, made, (2, 8, 6, 6))


@pytest.mark.parametrize(
    ("filter_shape", "params"),
    [
        ((8, 4, 3, 3), {}),  # neither an image nor whole blocks
        ((6, 8, 3, 3), {}),
        ((2, 3, 4, 3, 3), {}),
        ((8, 8, 3, 3), {"dilate_h": 2}),
    ],
)
def test_convolution_without_such_a_form_stays_plain(filter_shape, params):
    channels = filter_shape[1] if len(filter_shape) == 4 else filter_shape[0] * filter_shape[2]
    b = Builder(1, channels, 7, 7)
    graph = b.finish(b.conv(b.x, *filter_shape, **params))
    made = in_blocks(graph, Format.NCHW88)
    assert ops(made) == ["Convolution"] and formats(made) == [Format.NCHW]


@pytest.mark.parametrize("operand", [(1, 1, 4, 4), (1, 8, 4, 4), (4,)])
def test_elementwise_operator_with_another_operand_reads_plain_tensors(operand):
    b = Builder(1, 8, 6, 6)
    graph = b.finish(b.elemwise(M.MUL, b.conv(b.x, 8, 8, 3, 3), normal(*operand)))
    made = in_blocks(graph, Format.NCHW44)
    assert ops(made)[-2:] == ["RelayoutFormat", "Elemwise"]
    check(graph, made, (1, 8, 6, 6))


# ---- files ----------------------------------------------------------------------------------------------------------


def written(path, tmp_path, layout):
    """A network with the model as the API writes it in a layout."""
    target = tmp_path / f"{layout}.mge"
    network = LiteNetwork(config(**{} if layout == "nchw" else {f"enable_{layout}": 1}))
    network.enable_global_layout_transform()
    network.load(path)
    network.dump_layout_transform_model(target)
    return target


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", [DIGITS, DIGITS_INT8], ids=["float32", "int8"])
def test_written_network_computes_the_same(tmp_path, path, layout):
    target = written(path, tmp_path, layout)
    assert repr(get_model_io_info(target)) == repr(get_model_io_info(path))
    name = get_model_io_info(path).outputs[0].name

    def output(source):
        network = loaded(source)
        network.get_io_tensor("data").set_data_by_copy(IMAGES)
        network.forward()
        network.wait()
        return network.get_io_tensor(name).to_numpy()

    np.testing.assert_allclose(output(target), output(path), rtol=0, atol=1e-5)
    found = formats(load_model(target).graph)
    assert (LAYOUTS[layout] if path == DIGITS_INT8 or layout != "nchw44_dot" else Format.NCHW44) in found


def test_two_layouts_are_refused(tmp_path):
    network = LiteNetwork(config(enable_nchw44=1, enable_nchw88=1))
    network.enable_global_layout_transform()
    network.load(DIGITS)
    with pytest.raises(LiteValueError, match="nchw44 and nchw88"):
        network.dump_layout_transform_model(tmp_path / "x.mge")
    assert not list(tmp_path.iterdir())


def test_shapes_that_the_graph_computes_stay_free(tmp_path):
    data = np.load(API_MODELS / "batch_by_shape.npz")
    network = loaded(written(API_MODELS / "batch_by_shape.mge", tmp_path, "nchw88"))
    for name in network.get_all_input_name():
        network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
    network.forward()
    for k, name in enumerate(network.get_all_output_name()):
        np.testing.assert_allclose(network.get_io_tensor(name).to_numpy(), data[f"out_{k}"], rtol=1e-5)


def test_constants_keep_their_kind_and_are_written_once():
    record, *_ = load_record(DIGITS)
    made = transformed(build_model(record), record, "nchw")
    kinds = {op.type for op in record.operators if op.tensors}
    constants = [op for op in made.operators if op.tensors and op.type != "Host2DeviceCopy"]
    assert {op.type for op in constants} <= kinds | {"MultipleDeviceTensorHolder"}
    numbers = [v for op in made.operators for v in op.outputs]
    assert len(numbers) == len(set(numbers))
    read = [v for op in made.operators for v in op.inputs] + [v for v, _ in made.outputs]
    assert {op.outputs[0] for op in constants} <= set(read)


def test_compressed_weights_are_written_as_they_are_used(tmp_path):
    network = LiteNetwork()
    network.enable_global_layout_transform()
    steps = struct.pack("<ff", 0.5, -1.0) + bytes([0, 1, 255])
    network.load(compressed_model(((3,), FLOAT32, b"\1" + steps)))
    network.dump_layout_transform_model(tmp_path / "plain.mge")
    (constant,) = load_model(tmp_path / "plain.mge").graph.outputs
    np.testing.assert_array_equal(constant.const.array, np.float32([-1, -0.5, 126.5]))
