"""ONNX models whose size in the file says little of the work: loading is linear in what they contain, or refused."""

import itertools
import sys
import time

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx import graph_builder, graph_converter, inference
from megengine_lite._core.formats.onnx.reader import MAX_DEPTH
from megengine_lite.errors import InternalError, LiteError, ModelFormatError

F = TensorProto.FLOAT
OWN = [helper.make_opsetid("own", 1)]
# A watchdog: none of these models takes 2 seconds of CPU, and those that were a fault took minutes, or had no end.
MOST_SECONDS = 40.0


@pytest.fixture
def few_nodes(monkeypatch):
    """Limits that are reached soon; returns how many nodes a model may have."""
    monkeypatch.setattr(graph_converter, "MAX_NODES", 4096)
    monkeypatch.setattr(graph_builder, "MOST_MADE", 4096)
    return 4096


def node(op, inputs, output="y", **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


def vector_model(nodes, constants=(), **more):
    return make(nodes, [("x", F, [4])], [("y", F, None)], constants, **more)


def timed(model):
    """What comes of loading, in bounded time."""
    content = model.SerializeToString()
    begin = time.process_time()
    try:
        return load_model(content).graph
    except LiteError as error:
        return error
    finally:
        assert time.process_time() - begin < MOST_SECONDS


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool", "LpPool"])
@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 1, 4, 4), (1, 1, 2, 2, 2)])
def test_windows_of_constants(op, shape):
    """A window of 2 ** 26 places along each axis reaches into four elements."""
    axes = len(shape) - 2
    size = 1 << 26
    pads = [size // 2] * axes + [size // 2 - shape[-1]] * axes
    model = vector_model([node(op, "c", kernel_shape=[size] * axes, pads=pads)], {"c": np.ones(shape, np.float32)})
    assert len(timed(model).outputs) == 1


def test_taps_that_only_see_padding_are_left_out():
    c = np.float32([[[1, -2, 3, 4]]])
    for op, wanted in (("MaxPool", [4]), ("AveragePool", [1.5]), ("LpPool", [np.sqrt(30)])):
        model = vector_model([node(op, "c", kernel_shape=[40], pads=[20, 16])], {"c": c})
        np.testing.assert_allclose(run(load(model))[0].ravel(), wanted, rtol=1e-6)


# Sizes of windows, padding, strides: places that reach into the data are few, or far apart.
FAR = [(1 << 20, 1 << 19, 1), ((1 << 31) - 1, 1 << 30, 1), ((1 << 30) + 1, 1 << 30, 1 << 30), (700, 350, 3)]


@pytest.mark.parametrize("size, pad, stride", FAR)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("op, dilation", [("MaxPool", 1), ("MaxPool", 2), ("AveragePool", 1), ("LpPool", 1)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_windows_of_inputs(axes, op, dilation, dtype, size, pad, stride):
    """As those of constants, by kernels."""
    if dtype == "int8" and op != "MaxPool":
        return
    length = 4
    x = np.random.default_rng(0).integers(-9, 9, (1, 2, *[length] * axes)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(x.dtype)
    attributes = {"kernel_shape": [size] * axes, "pads": [pad * dilation] * 2 * axes, "strides": [stride] * axes}
    if dilation > 1:
        attributes["dilations"] = [dilation] * axes
    model = make([node(op, "x", **attributes)], [("x", kind, x.shape)], [("y", kind, None)])
    begin = time.process_time()
    (found,) = run(load(model), x=x)
    assert time.process_time() - begin < MOST_SECONDS
    begins = np.arange(found.shape[2]) * stride - pad * dilation
    seen = np.arange(length) - begins[:, None]
    seen = (seen >= 0) & (seen < size * dilation) & (seen % dilation == 0)
    for place in np.ndindex(found.shape[2:]):
        inside = x[(slice(None), slice(None), *np.ix_(*(np.nonzero(seen[i])[0] for i in place)))]
        inside = inside.reshape(2, -1).astype(np.float64)
        if not inside.size:
            continue
        root = np.sqrt((inside**2).sum(1))
        wanted = {"MaxPool": inside.max(1), "AveragePool": inside.mean(1), "LpPool": root}[op]
        np.testing.assert_allclose(found[(0, slice(None), *place)], wanted, rtol=2e-3 if dtype == "float16" else 1e-6)


def test_products_of_constants_that_are_too_large_stay_in_the_graph():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((64, 64)).astype(np.float32)
    graph = timed(vector_model([node("MatMul", "a a")], {"a": a}))
    assert [n.op for n in graph.nodes] == ["MatrixMul"]
    small = timed(vector_model([node("MatMul", "a a")], {"a": a[:8, :8]}))
    assert not small.nodes
    letters = "abcdefgh"
    model = vector_model(
        [node("Einsum", " ".join("a" * 8), equation=f"{','.join(f'{c}' for c in letters)}->")], {"a": a[0]}
    )
    assert [n.op for n in timed(model).nodes] == ["Einsum"]


def test_folding_is_bounded_for_all_nodes_together(monkeypatch):
    """Each of these takes some milliseconds, and is small enough by itself."""
    monkeypatch.setattr(inference, "ALL_STEPS", 1 << 17)
    count = 2000
    names = ["c", *(f"v{k}" for k in range(count - 1)), "y"]
    nodes = [node("Erf", a, b) for a, b in itertools.pairwise(names)]
    graph = timed(vector_model(nodes, {"c": np.ones(inference.MOST_FOLDED, np.float32)}))
    steps = 2 * inference.MOST_FOLDED
    assert count - len(graph.nodes) <= inference.ALL_STEPS / steps < count - len(graph.nodes) + 10


def test_unused_nodes_of_functions_are_sorted_out_once():
    unused = [node("Neg", "a", f"d{k}") for k in range(20_000)]
    body = helper.make_function("own", "F", ["a"], ["b"], [node("Neg", "a", "b"), *unused], [])
    names = ["x", *(f"v{k}" for k in range(1999)), "y"]
    nodes = [node("F", a, b, domain="own") for a, b in itertools.pairwise(names)]
    assert len(timed(vector_model(nodes, functions=[body], opsets=OWN)).nodes) == 2000


@pytest.mark.parametrize("what", ["inputs", "attributes", "outputs"])
def test_signatures_of_functions_count_for_each_call(what, few_nodes):
    many = [f"n{k}" for k in range(4 * few_nodes)]
    inputs, outputs, nodes = ["a"], ["b"], [node("Neg", "a", "b")]
    if what == "inputs":
        inputs = inputs + many
    if what == "outputs":
        outputs, nodes = outputs + many, nodes + [node("Neg", "a", n) for n in many]
    body = helper.make_function("own", "F", inputs, outputs, nodes, [])
    if what == "attributes":
        body.attribute_proto.extend(helper.make_attribute(n, 1) for n in many)
    names = ["x", *(f"v{k}" for k in range(1999)), "y"]
    calls = [node("F", a, b, domain="own") for a, b in itertools.pairwise(names)]
    error = timed(vector_model(calls, functions=[body], opsets=OWN))
    assert isinstance(error, ModelFormatError) and "those of functions counted for each call" in str(error)


@pytest.mark.parametrize("depth", [10, 40])
def test_functions_that_double_at_each_level(depth, few_nodes):
    def level(k):
        calls = [node(f"F{k + 1}", "a", "t", domain="own"), node(f"F{k + 1}", "t", "b", domain="own")]
        return helper.make_function("own", f"F{k}", ["a"], ["b"], calls, [])

    last = helper.make_function("own", f"F{depth}", ["a"], ["b"], [node("Neg", "a", "b")], [])
    model = vector_model([node("F0", "x", domain="own")], functions=[*map(level, range(depth)), last], opsets=OWN)
    found = timed(model)
    if depth == 10:
        assert len(found.nodes) == 1 << depth
    else:
        assert f"more than {few_nodes} nodes" in str(found)


@pytest.mark.parametrize("depth", [40, 400])
def test_functions_that_double_are_refused_before_nodes_are_made(depth):
    """With the limit that counts: 2 ** depth nodes are found to be too many by as many steps as there are functions."""

    def level(k):
        calls = [node(f"F{k + 1}", "a", "t", domain="own"), node(f"F{k + 1}", "t", "b", domain="own")]
        return helper.make_function("own", f"F{k}", ["a"], ["b"], calls, [])

    last = helper.make_function("own", f"F{depth}", ["a"], ["b"], [node("Neg", "a", "b")], [])
    calls = [node("F0", "x", domain="own")]
    model = vector_model(calls, functions=[*map(level, range(depth)), last], opsets=OWN).SerializeToString()

    def refused():
        with pytest.raises(ModelFormatError, match="more than 131072 nodes, those of functions counted for each call"):
            load_model(model)

    refused()  # and what is called only once has been called
    assert calls_of(refused) < 1000 * depth


@pytest.mark.parametrize("length", [1, 3])
def test_functions_in_a_circle_are_refused(length):
    names = [f"F{k}" for k in range(length)]
    functions = [
        helper.make_function("own", f, ["a"], ["b"], [node(g, "a", "b", domain="own")], [])
        for f, g in zip(names, [*names[1:], names[0]], strict=True)
    ]
    error = timed(vector_model([node("F0", "x", domain="own")], functions=functions, opsets=OWN))
    assert isinstance(error, ModelFormatError) and "calls itself" in str(error)


def within(what, k):
    """A function that calls another one: as it is, in a branch or in a loop."""
    called = node(f"F{k - 1}", "a", "b", domain="own")
    if what == "If":
        infos = [helper.make_tensor_value_info("b", F, None)]
        then, other = (helper.make_graph([n], "branch", [], infos) for n in (called, node("Neg", "a", "b")))
        nodes = [node("ReduceMax", "a", "m", keepdims=0), node("Cast", "m", "c", to=TensorProto.BOOL)]
        nodes.append(node("If", "c", "b", then_branch=then, else_branch=other))
    elif what == "Loop":
        inputs = [("i", TensorProto.INT64, []), ("go", TensorProto.BOOL, []), ("a", F, None)]
        outputs = [("go_on", TensorProto.BOOL, []), ("b", F, None)]
        infos = [[helper.make_tensor_value_info(*info) for info in infos] for infos in (inputs, outputs)]
        body = helper.make_graph([node("Identity", "go", "go_on"), called], "body", *infos)
        nodes = [node("Constant", "", "n", value_int=1), helper.make_node("Loop", ["n", "", "a"], ["b"], body=body)]
    else:
        nodes = [called]
    sets = [helper.make_opsetid("", 17), *OWN]
    return helper.make_function("own", f"F{k}", ["a"], ["b"], nodes, sets)


@pytest.mark.parametrize(("what", "levels"), [("If", 2), ("Loop", 2), ("call", 1)])
def test_calls_of_functions_in_each_other(what, levels):
    """As deep as is allowed, they run; deeper ones are refused, and not by Python."""
    first = helper.make_function("own", "F0", ["a"], ["b"], [node("Neg", "a", "b")], [helper.make_opsetid("", 17)])
    most = (MAX_DEPTH - 1) // levels
    for depth in (most, most + 1, 40 * most):
        functions = [first, *(within(what, k) for k in range(1, depth + 1))]
        model = vector_model([node(f"F{depth}", "x", domain="own")], functions=functions, opsets=OWN)
        if depth == most:
            (y,) = run(load(model), x=np.ones(4, np.float32))
            assert np.array_equal(y, [-1, -1, -1, -1])
        else:
            error = timed(model)
            assert isinstance(error, ModelFormatError) and f"nested more than {MAX_DEPTH} times" in str(error)


def calls_of(function):
    """How many functions of Python and C are called meanwhile."""
    count = 0

    def add(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(add)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_work_for_chains_is_in_proportion():
    def chain(count):
        names = ["x", *(f"v{k}" for k in range(count - 1)), "y"]
        return vector_model([node("Neg", a, b) for a, b in itertools.pairwise(names)])

    assert len(timed(chain(4000)).nodes) == 4000  # and what is called only once has been called
    small, large = (calls_of(lambda n=n: timed(chain(n))) for n in (1000, 4000))
    assert large < 4.2 * small


def test_nodes_that_are_made_are_counted(few_nodes):
    found = timed(vector_model([node("Sum", " ".join("x" * (few_nodes + 2)))]))
    assert isinstance(found, ModelFormatError) and f"more than {few_nodes} nodes would be made" in str(found)


@pytest.mark.parametrize("runs", [False, True])
def test_axes_that_are_named_again_are_refused(runs):
    n = 4000
    constants = {"b": np.zeros(n, np.int64), "e": np.full(n, 3), "a": np.zeros(n, np.int64)}
    nodes = [node("Slice", "x b e a")]
    inputs = [("x", F, [4])]
    if runs:
        inputs.append(("a", TensorProto.INT64, [n]))
        del constants["a"]
    model = make(nodes, inputs, [("y", F, None)], constants)
    with pytest.raises(LiteError, match="name one axis twice"):
        network = load(model)
        run(network, x=np.zeros(4, np.float32), a=np.zeros(n, np.int32))


@pytest.mark.parametrize("op, constants", [("Pad", {"p": [1, 1, 1, 1], "v": 0.0, "a": [0, 0]}), ("Resize", {})])
def test_axes_of_other_operators_are_named_once(op, constants):
    if op == "Pad":
        one = node("Pad", "x p v a")
        constants = {k: np.float32(v) if k == "v" else np.array(v) for k, v in constants.items()}
    else:
        one = helper.make_node("Resize", ["x", "", "s"], ["y"], axes=[0, 0])
        constants = {"s": np.float32([2, 2])}
    with pytest.raises(ModelFormatError, match="name one axis twice"):
        load(vector_model([one], constants, opset=18))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("factor", [np.inf, -np.inf, np.nan, 3e38, 1e10, 2**31, -2])
def test_factors_that_give_no_size_are_refused(factor, mode):
    """By the rules that kernels have, and by others."""
    x = np.ones((1, 1, 3, 3), np.float32)
    coordinates = {"nearest": "asymmetric", "linear": "half_pixel"}[mode]
    for attributes in ({"nearest_mode": "floor", "coordinate_transformation_mode": coordinates}, {}):
        for scales in ([1, 1, factor, 2], [1, factor, 1, 1]):
            one = helper.make_node("Resize", ["x", "", "s"], ["y"], "resize", mode=mode, **attributes)
            model = make([one], [("x", F, [1, 1, 3, 3])], [("y", F, None)], {"s": np.float32(scales)})
            with pytest.raises(LiteError, match="resize") as raised:
                run(load(model), x=x)
            assert not isinstance(raised.value, InternalError)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("size", [2**63 - 1, -(2**63), 2**40, -1])
def test_sizes_that_no_image_has_are_refused(size):
    attributes = {"mode": "nearest", "nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    one = helper.make_node("Resize", ["x", "", "", "s"], ["y"], "resize", axes=[2, 3], **attributes)
    model = make([one], [("x", F, [1, 1, 3, 3])], [("y", F, None)], {"s": np.array([size, 4])}, 18)
    with pytest.raises(LiteError, match="resize") as raised:
        run(load(model), x=np.ones((1, 1, 3, 3), np.float32))
    assert not isinstance(raised.value, InternalError)
