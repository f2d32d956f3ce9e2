"""Models whose data have no elements: an empty batch gives an empty result of the right shape."""

import warnings

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected as defined
from support.onnx_models import load, make, run

from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import UnsupportedOperatorError

F = TensorProto.FLOAT
RNG = np.random.default_rng(0)


def node(op, inputs, **attributes):
    return helper.make_node(op, inputs.split(), ["y"], **attributes)


def weights(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


# Node, shape of the data behind the batch, constants, shape of the result behind the batch.
CASES = [
    (node("Flatten", "x"), (4, 5), {}, (20,)),
    (node("Reshape", "x s"), (4, 6), {"s": np.array([0, -1])}, (24,)),
    (node("Reshape", "x s"), (4, 6), {"s": np.array([0, 3, -1, 2])}, (3, 4, 2)),
    (node("DepthToSpace", "x", blocksize=2), (8, 2, 3), {}, (2, 4, 6)),
    (node("SpaceToDepth", "x", blocksize=2), (2, 4, 6), {}, (8, 2, 3)),
    (node("Conv", "x w"), (2, 5, 5), {"w": weights(3, 2, 3, 3)}, (3, 3, 3)),
    (node("ConvTranspose", "x w"), (2, 3, 3), {"w": weights(2, 3, 3, 3)}, (3, 5, 5)),
    (node("MaxPool", "x", kernel_shape=[2, 2]), (2, 3, 3), {}, (2, 2, 2)),
    (node("GroupNormalization", "x s b", num_groups=2), (4, 3), {"s": weights(4), "b": weights(4)}, (4, 3)),
    (node("Gemm", "x w", transB=1), (4,), {"w": weights(7, 4)}, (7,)),
    (node("MatMul", "x w"), (3, 4), {"w": weights(4, 7)}, (3, 7)),
    (node("Softmax", "x", axis=1), (3, 4), {}, (3, 4)),
    (node("LayerNormalization", "x s"), (3, 4), {"s": weights(4)}, (3, 4)),
]


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize(("one", "shape", "constants", "expected"), CASES, ids=lambda v: getattr(v, "op_type", ""))
def test_an_empty_batch(one, shape, constants, expected, is_constant):
    opset = 21 if one.op_type == "GroupNormalization" else 17
    if is_constant:
        model = make([one], [("z", F, [1])], [("y", F, None)], {"x": weights(0, *shape), **constants}, opset)
        (y,) = run(load(model), z=np.zeros(1, np.float32))
        assert y.shape == (0, *expected)
        return
    model = make([one], [("x", F, ["n", *shape])], [("y", F, None)], constants, opset)
    network = load(model)
    for n in (0, 2, 0):
        (y,) = run(network, x=weights(n, *shape))
        assert y.shape == (n, *expected)


SCALES = np.array([1, 1, 2, 3], np.float32)
# Node, constants, sizes of the result for those of images n, c, h, w.
OF_IMAGES = {
    "DepthToSpace": (node("DepthToSpace", "x", blocksize=2), {}, lambda n, c, h, w: (n, c // 4, h * 2, w * 2)),
    "CRD": (node("DepthToSpace", "x", blocksize=2, mode="CRD"), {}, lambda n, c, h, w: (n, c // 4, h * 2, w * 2)),
    "SpaceToDepth": (node("SpaceToDepth", "x", blocksize=2), {}, lambda n, c, h, w: (n, c * 4, h // 2, w // 2)),
    "nearest": (node("Resize", "x r s"), {"s": SCALES}, lambda n, c, h, w: (n, c, h * 2, w * 3)),
    "linear": (node("Resize", "x r s", mode="linear"), {"s": SCALES}, lambda n, c, h, w: (n, c, h * 2, w * 3)),
    "cubic": (node("Resize", "x r s", mode="cubic"), {"s": SCALES}, lambda n, c, h, w: (n, c, h * 2, w * 3)),
    "Upsample": (node("Upsample", "x s", mode="linear"), {"s": SCALES}, lambda n, c, h, w: (n, c, h * 2, w * 3)),
    "PRelu": (node("PRelu", "x w"), {"w": weights(8, 1, 1)}, lambda n, c, h, w: (n, c, h, w)),
    "LRN": (node("LRN", "x", size=3), {}, lambda n, c, h, w: (n, c, h, w)),
    "Pad": (node("Pad", "x p"), {"p": np.array([0, 0, 1, 0, 0, 0, 2, 0])}, lambda n, c, h, w: (n, c, h + 3, w)),
    "InstanceNormalization": (
        node("InstanceNormalization", "x w b"),
        {"w": weights(8), "b": weights(8)},
        lambda n, c, h, w: (n, c, h, w),
    ),
    "ArgMax": (node("ArgMax", "x", axis=2), {}, lambda n, c, h, w: (n, c, 1, w)),
    "ReduceMax": (node("ReduceMax", "x", axes=[2]), {}, lambda n, c, h, w: (n, c, 1, w)),
    "GlobalAveragePool": (node("GlobalAveragePool", "x"), {}, lambda n, c, h, w: (n, c, 1, 1)),
    "GlobalMaxPool": (node("GlobalMaxPool", "x"), {}, lambda n, c, h, w: (n, c, 1, 1)),
}
IMAGES = [(2, 8, 0, 4), (2, 8, 4, 0), (2, 8, 0, 0), (0, 8, 4, 4), (0, 8, 0, 4)]


@pytest.mark.parametrize("is_constant", [False, True])
@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", IMAGES)
def test_images_without_pixels(name, shape, is_constant):
    one, constants, sizes = OF_IMAGES[name]
    expected = sizes(*shape)
    if 0 not in expected and name in ("ArgMax", "GlobalAveragePool", "GlobalMaxPool"):
        return  # there is no place, and whatever there is of nothing is not defined
    kind = TensorProto.INT64 if name == "ArgMax" else F
    constants = {**constants, **({"r": np.zeros(0, np.float32)} if one.op_type == "Resize" else {})}
    declared = [("z", F, [1])] if is_constant else [("x", F, ["n", 8, "h", "w"])]
    if is_constant:
        constants["x"] = np.zeros(shape, np.float32)
    opset = 9 if name == "Upsample" else 17
    network = load(make([one], declared, [("y", kind, None)], constants, opset))
    if is_constant:
        (y,) = run(network, z=np.zeros(1, np.float32))
        assert y.shape == expected
        return
    for given in (shape, (2, 8, 4, 4), shape):
        (y,) = run(network, x=np.zeros(given, np.float32))
        assert y.shape == sizes(*given)


@pytest.mark.parametrize(
    "op",
    ["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSumSquare"],
)
@pytest.mark.parametrize("keepdims", [0, 1])
def test_reductions_of_nothing(op, keepdims):
    """As the package onnx defines them. The standard leaves the mean open; ONNX Runtime gives 0."""
    one, axes = node(op, "x axes", keepdims=keepdims), {"axes": np.array([1])}
    model = make([one], [("x", F, [2, "n", 3])], [("y", F, None)], axes, opset=20)
    x = np.zeros((2, 0, 3), np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (want,) = defined(model, x=x)
    (y,) = run(load(model), x=x)
    np.testing.assert_array_equal(y, want)


ALONG_AN_AXIS = ["CumSum", "Hardmax", "LogSoftmax", "LpNormalization", "Softmax"]


@pytest.mark.parametrize("op", ALONG_AN_AXIS)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4)])
@pytest.mark.parametrize("opset", [11, 17])
def test_along_an_empty_axis(op, shape, opset):
    for axis in range(len(shape)):
        one = node(op, "x a") if op == "CumSum" else node(op, "x", axis=axis)
        constants = {"a": np.array(axis)} if op == "CumSum" else {}
        model = make([one], [("x", F, [None] * len(shape))], [("y", F, None)], constants, opset)
        (y,) = run(load(model), x=weights(*shape))
        assert y.shape == shape


@pytest.mark.parametrize("widths", [[0, -1, 1, 1], [-1, 2, 2, -1], [1, -3, 1, 3]])
def test_more_is_cut_off_than_there_is(widths):
    """An empty axis that is made longer at one end and shorter at the other."""
    one = node("Pad", "x widths value")
    constants = {"widths": np.array(widths), "value": np.float32(3)}
    model = make([one], [("x", F, [2, "n"])], [("y", F, None)], constants)
    (y,) = run(load(model), x=weights(2, 0))
    np.testing.assert_array_equal(y, np.full((2 + widths[0] + widths[2], widths[1] + widths[3]), 3))


@pytest.mark.parametrize(
    ("shape", "numbers", "expected"),
    [
        ((8, 0, 3), [8, -1], (8, 0)),
        ((8, 0, 3), [0, -1, 3], (8, 0, 3)),
        ((2, 0, 5), [7, -1], (7, 0)),
        ((0, 1, 0), [-1, 1], (0, 1)),
        ((0, 4), [-1], (0,)),
        ((2, 0, 5), [-1, 0], (10, 0)),
    ],
)
def test_the_open_number_of_a_reshape(shape, numbers, expected):
    """It is 0 if that alone gives no elements."""
    model = make([node("Reshape", "x s")], [("x", F, [None] * len(shape))], [("y", F, None)], {"s": np.array(numbers)})
    (y,) = run(load(model), x=weights(*shape))
    assert y.shape == expected


def sum_of(name):
    return helper.make_node("ReduceSum", [name], ["sum"])


CONSTANTS = {"zero": np.array([0]), "one": np.array([1]), "widths": np.array([0, 0, 1, 2])}


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ([], "Slice 'nothing' (the original gives no results without elements)"),
        ([node("Pad", "nothing widths")], "Pad 'y' (the original takes no data without elements here)"),
        ([node("ReduceMax", "nothing one")], "ReduceMax 'y' (the original reduces no empty tensors)"),
        ([node("Exp", "nothing"), sum_of("y")], "Exp 'y' (the original takes no data without elements here)"),
        ([node("ReduceSum", "nothing one")], None),
        ([node("Transpose", "nothing"), sum_of("y")], None),
        ([node("Concat", "x nothing", axis=1)], None),
    ],
)
def test_files_for_the_original_have_data_without_elements_where_it_takes_them(nodes, reason):
    """As results, and where it fills a result without reading anything, it gives what is in memory."""
    nodes = [helper.make_node("Slice", ["x", "zero", "zero", "one"], ["nothing"]), *nodes]
    used = {name for one in nodes for name in one.input}
    model = make(
        nodes,
        [("x", F, [2, 4])],
        [(nodes[-1].output[0], F, None)],
        {name: value for name, value in CONSTANTS.items() if name in used},
        opset=18,
    )
    graph = load_model(model.SerializeToString()).graph
    if reason is None:
        assert len(for_original(graph, "model", {}).outputs) == 1
        return
    with pytest.raises(UnsupportedOperatorError) as error:
        for_original(graph, "model", {})
    assert reason in str(error.value)


ALONG = [
    "Softmax",
    "LogSoftmax",
    "Hardmax",
    "CumSum",
    "LpNormalization",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "TopK",
]


@pytest.mark.parametrize("is_read", [False, True])
@pytest.mark.parametrize(("shape", "axis"), [((0, 4), 0), ((0, 4), 1), ((3, 0), 1), ((0, 0), 0)])
@pytest.mark.parametrize("op", ALONG)
def test_what_goes_along_an_axis_of_no_elements_is_written_or_listed(op, shape, axis, is_read):
    """Also where what reads it has elements again: a sum is zero."""
    constants = {"axes": np.array([axis]), "place": np.array(axis), "none": np.array([0])}
    more = {"CumSum": " place", "TopK": " none", "ReduceSum": " axes"}.get(op, "")
    attributes = {} if op in ("CumSum", "ReduceSum") else {"axes": [axis]} if "Reduce" in op else {"axis": axis}
    outputs = ["v", "rest"] if op == "TopK" else ["v"]
    nodes = [helper.make_node(op, ("x" + more).split(), outputs, "along", **attributes)]
    last = helper.make_node("ReduceSum", ["v"], ["y"], keepdims=0) if is_read else node("Identity", "v")
    used = {k: v for k, v in constants.items() if k in more}
    model = make([*nodes, last], [("x", F, list(shape))], [("y", F, None)], used)
    graph = load_model(model.SerializeToString()).graph
    try:
        (made,) = for_original(graph, "model", {}).outputs
    except UnsupportedOperatorError as error:
        assert "have no counterpart of these nodes: " in str(error)
    else:
        assert made.spec.size
