"""Batches whose samples do not depend on each other: what is recognised, and into how large parts they are cut."""

from functools import partial

import numpy as np
import pytest
from generated.grammar import FAMILIES, make_case
from support.graphs import GraphBuilder

from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, infer_stage
from megengine_lite._core.compile.samples import are_independent, samples_at_once
from megengine_lite._core.ir.dtype import BOOL, INT32
from megengine_lite._core.ir.graph import ConstantPool, ModelGraph, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxElemwise, OnnxMode
from megengine_lite._core.ir.params import (
    BN,
    LRN,
    AdaptivePooling,
    Axis,
    AxisAddRemove,
    BNFwdMode,
    BNParamDim,
    ConvBias,
    Convolution,
    ConvolutionFormat,
    Cumsum,
    Dimshuffle,
    DTypeTable,
    Elemwise,
    ElemwiseMode,
    ElemwiseMultiType,
    ElemwiseMultiTypeMode,
    Empty,
    GeneralNorm,
    LayerNorm,
    MatrixMul,
    OptionalAxisV1,
    Padding,
    Pooling,
    PowC,
    Reduce,
    ReduceMode,
    Resize,
    Softmax,
)
from megengine_lite._core.ir.params.tensor import AxisDesc, AxisMethod, IndexDescMaskDump, IndexDescMaskItem
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.operators.samples import never
from megengine_lite.errors import LiteError

COUNT = 6
ADD = Elemwise(mode=ElemwiseMode.ADD)


def stage_of(graph, size, shapes):
    known = {v: TensorSpec((size, *shapes[v.name][1:]), v.spec.dtype) for v in graph.inputs}
    return infer_stage(graph, 0, known, POOL)


POOL = ConstantPool()


def independent(graph, shapes, count, size):
    try:
        return are_independent(graph, stage_of(graph, count, shapes), stage_of(graph, size, shapes), count, size)
    except (LiteError, NeedsExpansion, NeedsRounds, NeedsValue):
        return False


# ---- generated graphs ------------------------------------------------------------------------------------------------


def parts_of(run, count, seed):
    """Inputs of several batches: the numbers of one in other places."""
    rng = np.random.default_rng(seed)
    return [{k: rng.permutation(a.reshape(-1)).reshape(a.shape) for k, a in run.items()} for _ in range(count)]


def test_generated_graphs_that_are_independent_give_the_same_in_parts():
    """Whatever operators they have: by their definitions, each part gives its rows of the whole."""
    found = 0
    for family in FAMILIES:
        for seed in range(80):
            case = make_case(family, seed)
            run = case.runs[0]
            extents = {run[v.name].shape[:1] for v in case.graph.inputs}
            if len(extents) != 1 or not (size := next(iter(extents), (0,))[0]):
                continue
            shapes = {name: a.shape for name, a in run.items()}
            if not independent(case.graph, shapes, 3 * size, size):
                continue
            found += 1
            parts = parts_of(run, 3, seed)
            whole = {name: np.concatenate([part[name] for part in parts]) for name in run}
            with np.errstate(all="ignore"):
                results = zip(*(run_reference(case.graph, part) for part in parts), strict=True)
                expected = [np.concatenate(rows) for rows in results]
                got = run_reference(case.graph, whole)
            for a, b in zip(got, expected, strict=True):
                a, b = a.astype(np.float64), b.astype(np.float64)
                scale = max(1.0, np.abs(b[np.isfinite(b)]).max(initial=0))
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * scale, err_msg=case.label)
    assert found > 100


# ---- operators -------------------------------------------------------------------------------------------------------


def image(b):
    return b.input("x", (COUNT, 4, 5, 5))


def rows(b):
    return b.input("x", (COUNT, 8))


def weights(b, *shape):
    return b.constant(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))


def shape(b, *sizes):
    return b.constant(np.int32(sizes))


def reshaped(b, x, *sizes):
    return b.node("Reshape", OptionalAxisV1(axis=sizes.index(-1)), [x, shape(b, *sizes)])


def batch_norm(b, mode):
    channels = [weights(b, 1, 4, 1, 1) for _ in range(4)]
    params = BN(param_dim=BNParamDim.DIM_1C11, fwd_mode=mode)
    return b.node("BatchNorm", params, [image(b), *channels], 4 if mode == BNFwdMode.INFERENCE else 5)[-1]


def items(axis, **flags):
    flags = {"begin": False, "end": False, "step": False, "idx": False} | flags
    return IndexDescMaskDump(items=(IndexDescMaskItem(axis, **flags),))


def sizes_of(b, x):
    return b.node("GetVarShape", OptionalAxisV1(), [x])


def added_in_convolution(b):
    """A convolution with a bias and a tensor that is added."""
    x = b.input("x", (COUNT, 4, 5, 5))
    return b.node("ConvBiasForward", ConvBias(pad_h=1, pad_w=1), [x, weights(b, 4, 4, 3, 3), weights(b, 1, 4, 1, 1), x])


def other_sizes(b, *shape):
    """The sizes of another input, which is read as well: they are constants that differ from part to part."""
    return sizes_of(b, b.input("y", shape))


def counted(b, x):
    """A row of 1, one of 2, and so on, as many as there are of x."""
    return b.node("Cumsum", Cumsum(axis=0), [b.node("Broadcast", OptionalAxisV1(), [weights(b, 1, 8), sizes_of(b, x)])])


CONV = Convolution(pad_h=1, pad_w=1, stride_h=1, stride_w=1)
INDEPENDENT = {
    "convolution": lambda b: b.node("Convolution", CONV, [image(b), weights(b, 7, 4, 3, 3)]),
    "batch norm": lambda b: batch_norm(b, BNFwdMode.INFERENCE),
    "pooling": lambda b: b.node("Pooling", Pooling(), [image(b)]),
    "rows of channels": lambda b: b.node("Elemwise", ADD, [image(b), weights(b, 1, 4, 1, 1)]),
    "a vector": lambda b: b.node("Elemwise", ADD, [rows(b), weights(b, 8)]),
    "chosen by a mask": lambda b: b.node("Where", Empty(), [b.input("m", (COUNT, 8), BOOL), x := rows(b), x]),
    "a function of ONNX": lambda b: b.node("OnnxElemwise", OnnxElemwise(OnnxMode.MAX), [x := rows(b), x]),
    "itself": lambda b: b.node("Elemwise", ADD, [x := rows(b), x]),
    "two inputs": lambda b: b.node("Elemwise", ADD, [rows(b), b.input("y", (COUNT, 1))]),
    "product": lambda b: b.node("MatrixMul", MatrixMul(), [rows(b), weights(b, 8, 3)]),
    "softmax": lambda b: b.node("Softmax", Softmax(axis=-1), [rows(b)]),
    "sum": lambda b: b.node("Reduce", Reduce(mode=ReduceMode.SUM, axis=1), [rows(b)]),
    "norm": lambda b: b.node("LayerNorm", LayerNorm(affine=False), [rows(b)], 3)[0],
    "concatenation": lambda b: b.node("Concat", Axis(axis=1), [x := rows(b), x]),
    "flattened": lambda b: reshaped(b, image(b), -1, 100),
    "pixels as rows, and back": lambda b: reshaped(
        b, b.node("Softmax", Softmax(axis=1), [reshaped(b, image(b), -1, 20)]), -1, 100
    ),
    "other order": lambda b: b.node("Dimshuffle", Dimshuffle(pattern=(0, 2, 3, 1), ndim=4), [image(b)]),
    "a column": lambda b: b.node("Subtensor", items(1, end=True), [rows(b), shape(b, 3)]),
    "another axis": lambda b: b.node("AxisAddRemove", AxisAddRemove(desc=(AxisDesc(AxisMethod.ADD_1, 1),)), [rows(b)]),
    "padding": lambda b: b.node("Padding", Padding(front_offset_dim1=1), [rows(b)]),
    "repeated constant": lambda b: b.node(
        "Elemwise", ADD, [x := rows(b), b.node("Broadcast", OptionalAxisV1(), [weights(b, 1, 8), sizes_of(b, x)])]
    ),
    "bias and sum": added_in_convolution,
    "transposed convolution": lambda b: b.node(
        "ConvolutionBackwardData", Convolution(stride_h=2, stride_w=2), [weights(b, 4, 3, 2, 2), image(b)]
    ),
    "products of each": lambda b: b.node("BatchedMatrixMul", MatrixMul(), [x := b.input("x", (COUNT, 3, 3)), x]),
    "general norm": lambda b: b.node("GeneralNorm", GeneralNorm(affine=False, axis_start=1, axis_end=2), [rows(b)], 3)[
        0
    ],
    "near channels": lambda b: b.node("LRN", LRN(n=3), [image(b)]),
    "resized": lambda b: b.node("Resize", Resize(format=ConvolutionFormat.NCHW), [image(b), shape(b, 7, 7)]),
    "pooled to a size": lambda b: b.node("AdaptivePooling", AdaptivePooling(), [image(b), shape(b, 2, 2)]),
    "one of two parts": lambda b: b.node("Split", Axis(axis=-1), [rows(b), shape(b, 3), shape(b, 5)], 2)[1],
    "integers": lambda b: b.node("TypeCvt", DTypeTable(dtype=INT32), [rows(b)]),
    "comparison": lambda b: b.node(
        "ElemwiseMultiType", ElemwiseMultiType(mode=ElemwiseMultiTypeMode.LT), [x := rows(b), x]
    ),
    "power": lambda b: b.node("PowC", PowC(exp=2.0), [rows(b)]),
    "the same": lambda b: b.node("Identity", Empty(), [rows(b)]),
    "sizes of another": lambda b: b.node("Reshape", OptionalAxisV1(), [image(b), other_sizes(b, COUNT, 10, 10)]),
    "repeated": lambda b: b.node("Broadcast", OptionalAxisV1(), [b.input("x", (COUNT, 1)), other_sizes(b, COUNT, 8)]),
}
DEPENDENT = {
    "batch norm that trains": lambda b: batch_norm(b, BNFwdMode.TRAINING),
    "softmax of samples": lambda b: b.node("Softmax", Softmax(axis=0), [rows(b)]),
    "softmax of samples, from the end": lambda b: b.node("Softmax", Softmax(axis=-2), [rows(b)]),
    "sum of samples": lambda b: b.node("Reduce", Reduce(mode=ReduceMode.SUM, axis=0), [rows(b)]),
    "mean is taken away": lambda b: b.node(
        "Elemwise",
        Elemwise(mode=ElemwiseMode.SUB),
        [x := rows(b), b.node("Reduce", Reduce(mode=ReduceMode.MEAN, axis=0), [x])],
    ),
    "norm of all": lambda b: b.node("LayerNorm", LayerNorm(affine=False, normalized_dim=2), [rows(b)], 3)[0],
    "joined samples": lambda b: b.node("Concat", Axis(axis=0), [x := rows(b), x]),
    "filters from the batch": lambda b: b.node(
        "Convolution", CONV, [b.constant(np.ones((COUNT, 4, 5, 5), np.float32)), b.input("x", (COUNT, 4, 3, 3))]
    ),
    "transposed": lambda b: b.node("Dimshuffle", Dimshuffle(pattern=(1, 0), ndim=2), [b.input("x", (COUNT, COUNT))]),
    "product of transposed": lambda b: b.node(
        "MatrixMul", MatrixMul(transposeA=True), [b.input("x", (COUNT, COUNT)), weights(b, COUNT, 3)]
    ),
    "product of samples": lambda b: b.node("MatrixMul", MatrixMul(transposeB=True), [x := rows(b), x]),
    "another row for each": lambda b: b.node("Elemwise", ADD, [rows(b), weights(b, COUNT, 8)]),
    "number of samples": lambda b: b.node("Elemwise", ADD, [x := b.input("x", (COUNT, 2), INT32), sizes_of(b, x)]),
    "reversed samples": lambda b: b.node("Subtensor", items(0, step=True), [rows(b), shape(b, -1)]),
    "some samples": lambda b: b.node("Subtensor", items(-2, end=True), [rows(b), shape(b, 3)]),
    "a number for each, along another axis": lambda b: b.node(
        "Elemwise", ADD, [b.input("x", (COUNT,)), b.input("y", (COUNT, COUNT))]
    ),
    "a number for each, repeated along another axis": lambda b: b.node(
        "Broadcast", OptionalAxisV1(), [b.input("x", (COUNT,)), other_sizes(b, COUNT, COUNT)]
    ),
    "joined samples, two in a row": lambda b: reshaped(b, b.node("Concat", Axis(axis=0), [x := rows(b), x]), -1, 16),
    "two rows for each": lambda b: reshaped(b, rows(b), -1, 4),
    "as many rows of any number of samples": lambda b: reshaped(b, rows(b), COUNT, -1),
    "counted samples": lambda b: b.node("Elemwise", ADD, [x := rows(b), counted(b, x)]),
    "samples as channels": lambda b: reshaped(b, image(b), 3, -1),
    "operator without a rule": lambda b: b.node("Cumsum", Cumsum(axis=1), [rows(b)]),
    "only a constant": lambda b: (rows(b), weights(b, COUNT, 8))[1],
}


def graph_of(make):
    b = GraphBuilder()
    graph = b.finish(make(b))
    return graph, {v.name: v.spec.shape for v in graph.inputs}


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", INDEPENDENT)
def test_operators_that_keep_samples_apart(name, size):
    assert independent(*graph_of(INDEPENDENT[name]), COUNT, size)


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.parametrize("name", DEPENDENT)
def test_operators_that_do_not(name, size):
    graph, shapes = graph_of(DEPENDENT[name])
    assert stage_of(graph, COUNT, shapes).graph.outputs  # the batch as a whole can be run
    assert not independent(graph, shapes, COUNT, size)


def test_all_rules_are_among_these():
    graphs = [graph_of(make)[0] for make in INDEPENDENT.values()]
    with_rule = {name for name, operator in REGISTRY.items() if type(operator).keeps_samples is not never}
    assert with_rule > {"Convolution", "Where"}
    assert {node.op for graph in graphs for node in graph.nodes} >= with_rule


@pytest.mark.parametrize("name", INDEPENDENT)
def test_what_comes_behind_a_stage_is_not_known(name):
    """Behind an operator that needs numbers that are computed, there may be anything."""
    b = GraphBuilder()
    shape_by_data = b.node("TypeCvt", DTypeTable(dtype=INT32), [y := INDEPENDENT[name](b)])
    other = b.node("Reshape", OptionalAxisV1(), [weights(b, 8), shape_by_data])
    for outputs in ([y], [y, other]):
        graph = b.finish(*outputs)
        assert not independent(graph, {v.name: v.spec.shape for v in graph.inputs}, COUNT, 2)


def test_an_output_of_which_only_the_shape_is_wanted():
    graph, shapes = graph_of(INDEPENDENT["product"])
    known = {v: TensorSpec(shapes[v.name], v.spec.dtype) for v in graph.inputs}
    whole = infer_stage(graph, 0, known, POOL, frozenset(graph.outputs))
    assert not are_independent(graph, whole, stage_of(graph, 2, shapes), COUNT, 2)


def test_constants_that_are_too_large_to_be_folded_for_the_whole():
    graph, _ = graph_of(INDEPENDENT["repeated constant"])
    assert not independent(graph, {"x": (3000, 8)}, 3000, 2)


def test_exponents_that_are_one_constant_in_parts_only():
    """By that operators know the powers that the original computes in another way."""
    b = GraphBuilder()
    x = b.input("x", (COUNT,))
    exponents = b.node("Broadcast", OptionalAxisV1(), [b.constant(np.float32([0.3])), sizes_of(b, x)])
    graph = b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.POW), [x, exponents]))
    assert [independent(graph, {"x": (COUNT,)}, COUNT, size) for size in (1, 2)] == [False, True]


def test_stages_with_other_nodes():
    """As where a node is folded in one of them."""
    b = GraphBuilder()
    x, y = b.input("x", (COUNT, 2)), b.input("y", (COUNT, 2))
    make = partial(b.node, "Elemwise", Elemwise(mode=ElemwiseMode.SUB))
    made = [make([x, y]), make([y, x]), make([x, y])]
    graphs = [ModelGraph([node], b.inputs, [v], ["v"]) for node, v in zip(b.nodes, made, strict=True)]
    shapes = {"x": (COUNT, 2), "y": (COUNT, 2)}
    whole = stage_of(graphs[0], COUNT, shapes)
    assert are_independent(graphs[0], whole, stage_of(graphs[0], 2, shapes), COUNT, 2)
    assert not any(are_independent(graphs[0], whole, stage_of(g, 2, shapes), COUNT, 2) for g in graphs[1:])


# ---- sizes of parts --------------------------------------------------------------------------------------------------


def size_of_parts(graph, shapes, near):
    return samples_at_once(graph, shapes, near, lambda known: infer_stage(graph, 0, known, POOL))


def pointwise(layers):
    """Convolutions of images of 4 x 10 x 10."""
    b = GraphBuilder()
    y = b.input("x", (1, 4, 10, 10))
    for _ in range(layers):
        y = b.node("Convolution", Convolution(), [y, weights(b, 4, 4, 1, 1)])
    return b.finish(y)


@pytest.mark.parametrize(
    ("count", "near", "size"),
    [
        (1, 100, 0),  # nothing to cut
        (64, 100, 1),
        (64, 4000, 2),  # an image and its result take 3200 bytes
        (64, 12000, 4),
        (64, 26000, 0),  # less than eight times of what is near
        (7, 100, 1),
        (7, 4000, 0),  # one sample is too small a part
        (62, 4000, 2),
        (62, 7000, 31),
    ],
)
def test_parts_are_as_large_as_what_is_near(count, near, size):
    graph = pointwise(3)
    assert size_of_parts(graph, dict.fromkeys(graph.inputs, (count, 4, 10, 10)), near) == size


def test_weights_are_not_read_for_each_sample_where_they_take_longer():
    b = GraphBuilder()
    y = b.input("x", (1, 16, 2, 2))
    for _ in range(4):
        y = b.node("Convolution", Convolution(), [y, weights(b, 16, 16, 1, 1)])
    graph = b.finish(y)
    sizes = [size_of_parts(graph, dict.fromkeys(graph.inputs, (n, 16, 2, 2)), 16) for n in (4, 16, 32)]
    assert sizes == [0, 8, 8]


@pytest.mark.parametrize("shapes", [{"x": (), "y": ()}, {"x": (4, 2), "y": (2, 2)}, {"x": (0, 2), "y": (0, 2)}])
def test_inputs_without_samples_in_common(shapes):
    b = GraphBuilder()
    graph = b.finish(b.node("Elemwise", ADD, [b.input("x", (4, 2)), b.input("y", (1, 2))]))
    assert size_of_parts(graph, {v: shapes[v.name] for v in graph.inputs}, 1) == 0
