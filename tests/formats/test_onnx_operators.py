"""Rules of single operators of ONNX that its own cases do not reach; the package onnx says what comes out."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import run as run_session
from support.graphs import session_of
from support.onnx_models import expected, load, make, run

from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
F, D, F16, I32, I64 = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.FLOAT16,
    TensorProto.INT32,
    TensorProto.INT64,
)
INF, NAN = np.inf, np.nan
NUMPY = {F: np.float32, D: np.float64, F16: np.float16, I32: np.int32, I64: np.int64}


def node(op, inputs, outputs="y", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes)


def results(one, given, kinds=F, constants=(), opset=18, declared=None):
    """What a node makes of inputs; their sizes are not in the model."""
    kinds = kinds if isinstance(kinds, dict) else dict.fromkeys(given, kinds)
    inputs = [(k, kinds[k], declared or [None] * np.ndim(v)) for k, v in given.items()]
    model = make([one], inputs, [(o, 0, None) for o in one.output], constants, opset)
    for output in model.graph.output:
        output.ClearField("type")
    at_the_api = {D: np.float32, I64: np.int32}
    return run(load(model), **{k: np.asarray(v, at_the_api.get(kinds[k], NUMPY[kinds[k]])) for k, v in given.items()})


def wanted(one, given, kinds=F, constants=(), opset=18):
    kinds = kinds if isinstance(kinds, dict) else dict.fromkeys(given, kinds)
    typed = {k: np.asarray(v, NUMPY[kinds[k]]) for k, v in given.items()}
    model = make([one], [(k, kinds[k], list(v.shape)) for k, v in typed.items()], [("y", F, None)], constants, opset)
    return expected(model, **typed)[0]


def same(ours, theirs, tolerance=1e-5):
    theirs = np.asarray(theirs)
    assert ours.shape == (theirs.shape or (1,))
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance)


# ---- infinities, signs, ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [F, F16, D])
def test_logarithms_of_sums_of_powers_reach_infinity(kind):
    rows = [[1, 2, 3], [INF, 0, 1], [-INF, 0, 1], [-INF, -INF, -INF], [INF, INF, INF], [INF, -INF, 0], [NAN, 0, 1]]
    rows += [[3e4, 3e4, 0], [-3e4, -3e4, -6e4]]
    (ours,) = results(node("ReduceLogSumExp", "x a", keepdims=0), {"x": rows}, kind, {"a": np.array([1])})
    log = np.log
    theirs = [log(np.exp([1.0, 2, 3]).sum()), INF, log(1 + np.e), -INF, INF, INF, NAN, 3e4 + log(2), -3e4 + log(2)]
    same(ours, theirs, 2e-3 if kind == F16 else 1e-5)


def test_logarithms_of_sums_of_the_largest_numbers():
    largest = np.finfo(np.float32).max
    for row in ([largest, 0], [-largest, -largest], [largest, largest]):
        (ours,) = results(node("ReduceLogSumExp", "x", keepdims=0), {"x": np.float32(row)})
        np.testing.assert_allclose(ours, [max(row)])


@pytest.mark.parametrize("row", [[0, 0, 0], [0.0], [1, 2, 3], [-3, -1], [-1, 0, 5], [3e-39, 0]])
def test_dynamic_quantization(row):
    one = node("DynamicQuantizeLinear", "x", "y s z")
    x = np.float32(row)
    model = make([one], [("x", F, [None])], [("y", 2, None), ("s", F, []), ("z", 2, [])], (), 11)
    for ours, theirs in zip(run(load(model), x=x), expected(model, x=x), strict=True):
        if row != [3e-39, 0]:  # denormal numbers are zeros here
            same(ours, theirs)
    assert run(load(model), x=np.zeros(3, np.float32))[1] == np.float32(1 / 255)


@pytest.mark.parametrize("zero", [-128, -95, -1, 0, 3, 127])
@pytest.mark.parametrize("kind", [TensorProto.INT8, TensorProto.UINT8])
def test_quantization_to_a_zero_point_that_is_computed(kind, zero):
    zero = zero if kind == TensorProto.INT8 else zero + 128
    nodes = [node("Abs", "s", "scale"), node("Cast", "n", "zero", to=kind), node("QuantizeLinear", "x scale zero")]
    model = make(nodes, [("x", F, [5]), ("s", F, []), ("n", I32, [])], [("y", kind, None)])
    given = {"x": np.float32([-4, -0.1, 0, 4, 90]), "s": np.float32(-0.25), "n": np.int32(zero)}
    (ours,) = run(load(model), **{k: np.atleast_1d(v) for k, v in given.items()})
    np.testing.assert_array_equal(ours, expected(model, **given)[0])


def _slice(length, begin, end, step):
    """The text of the standard."""
    begin, end = (n + length if n < 0 else n for n in (begin, end))
    if step > 0:
        return range(length)[min(max(begin, 0), length) : min(max(end, 0), length) : step]
    begin, end = min(max(begin, 0), length - 1), min(max(end, -1), length - 1)
    return range(begin, end, step)


@pytest.mark.parametrize("how", ["constants", "begin at the run", "step at the run", "all at the run"])
def test_slices_in_all_directions(how):
    x = np.arange(5, dtype=np.float32)
    numbers = (-(2**31), -7, -6, -5, -1, 0, 1, 4, 5, 9, 2**31 - 1)
    given = {"constants": [], "begin at the run": ["b"], "step at the run": ["s"], "all at the run": list("beas")}[how]
    network = None
    for begin in numbers:
        for end in numbers[::2]:
            for step in (-3, -1, 1, 2):
                values = {"b": [begin], "e": [end], "a": [0], "s": [step]}
                fixed = {k: np.array(v) for k, v in values.items() if k not in given}
                inputs = [("x", F, ["n"]), *((k, I64, [1]) for k in given)]
                if network is None or given != list("beas"):
                    network = load(make([node("Slice", "x b e a s")], inputs, [("y", F, None)], fixed))
                (ours,) = run(network, x=x, **{k: np.int32(values[k]) for k in given})
                assert ours.tolist() == [float(k) for k in _slice(5, begin, end, step)], (begin, end, step)


def test_steps_of_zero_are_refused():
    with pytest.raises(ModelFormatError, match="step of axis 0 is 0"):
        results(node("Slice", "x b e a s"), {"x": [1, 2]}, F, {k: np.array([0]) for k in "beas"})


@pytest.mark.parametrize("scale", [0.5, -0.5, -2.0])
def test_attention_with_scales_of_both_signs(scale):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, 3, 4)) for _ in range(3))
    (ours,) = results(node("Attention", "q k v", scale=scale), {"q": q, "k": k, "v": v}, F, opset=23)
    scores = np.exp(q @ k.swapaxes(2, 3) * scale)
    same(ours, scores / scores.sum(-1, keepdims=True) @ v)


@pytest.mark.parametrize("softcap", [0.5, 0.0, -0.5])
def test_attention_limits_scores_by_a_positive_softcap(softcap):
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal((1, 2, 3, 4)) for _ in range(3))
    (ours,) = results(node("Attention", "q k v", scale=1.0, softcap=softcap), {"q": q, "k": k, "v": v}, F, opset=23)
    scores = q @ k.swapaxes(2, 3)
    weights = np.exp(np.tanh(scores / softcap) * softcap if softcap > 0 else scores)
    same(ours, weights / weights.sum(-1, keepdims=True) @ v)


@pytest.mark.parametrize("mode, wanted", [("nearest", 1.0), ("linear", 1.0), ("cubic", 1.0)])
def test_resizing_to_a_single_element(mode, wanted):
    one = node("Resize", "x  s", mode=mode, coordinate_transformation_mode="pytorch_half_pixel")
    (ours,) = results(one, {"x": [1, 5, 9, 20]}, F, {"s": np.float32([0.25])})
    same(ours, [wanted])


@pytest.mark.parametrize("scale", [0.3, 0.5, 1.0, 1.7, 2.0, 3.0])
@pytest.mark.parametrize("opset", [11, 12, 17])
def test_nearest_elements_of_tensorflow(scale, opset):
    """The rule of TensorFlow's exporter; ONNX Runtime takes it in all versions, the standard only in 11 and 12."""
    rule = {"coordinate_transformation_mode": "tf_half_pixel_for_nn", "nearest_mode": "floor"}
    x, one = [1.0, 5, 9, 20, 2, 7], node("Resize", "x  s", mode="nearest", **rule)
    (ours,) = results(one, {"x": x}, F, {"s": np.float32([scale])}, opset=opset)
    length = int(np.floor(len(x) * np.float32(scale)))
    places = [min(int((k + 0.5) / scale), len(x) - 1) for k in range(length)]
    same(ours, [x[k] for k in places])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("scale", [0.3, 0.6, 1.0, 1.6, 2.0, 3.0])
def test_aligned_corners_by_scales(scale, mode):
    """The length of the result is not rounded in the formula, as in the package onnx."""
    one = node("Resize", "x  s", mode=mode, coordinate_transformation_mode="align_corners")
    x, constants = [1.0, 5, 9, 20, 2], {"s": np.float32([scale])}
    same(results(one, {"x": x}, F, constants)[0], wanted_of(one, x, constants))


def wanted_of(one, x, constants):
    return wanted(one, {"x": x}, F, constants)


# ---- valid, and refused before -------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [(1,), (4,), (3, 1), (1, 4), (1, 1), (3, 4)])
@pytest.mark.parametrize("bias", [None, (4,), (1,), (3, 4), (1, 4)])
@pytest.mark.parametrize("constant", [True, False])
def test_layer_norms_whose_scale_is_repeated(scale, bias, constant):
    rng = np.random.default_rng(1)
    values = {"s": rng.standard_normal(scale).astype(np.float32)}
    if bias is not None:
        values["b"] = rng.standard_normal(bias).astype(np.float32)
    x = rng.standard_normal((2, 3, 4)).astype(np.float32)
    one = helper.make_node("LayerNormalization", ["x", *values], ["y"], axis=1)
    given = {"x": x} if constant else {"x": x, **values}
    constants = values if constant else {}
    (ours,) = results(one, given, F, constants)
    normal = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    same(ours, normal * values["s"] + values.get("b", 0), 1e-4)


SHAPES = [
    ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0,), (0,)), ((0,), (0, 2)), ((2, 0), (0,)),
    ((0, 2, 3), (3, 2)), ((5, 0, 3), (3, 2)), ((5, 2, 0), (0, 3)), ((0, 2, 3), (1, 3, 2)), ((1, 2, 3), (0, 3, 2)),
    ((4, 2, 0), (4, 0, 3)), ((2, 1, 2, 3), (1, 0, 3, 2)), ((2, 3, 2, 0), (2, 3, 0, 2)), ((2, 3, 0, 2), (2, 2)),
]  # fmt: skip


@pytest.mark.parametrize("kind", [F, I32])
@pytest.mark.parametrize("x, y", SHAPES)
def test_products_without_elements(x, y, kind):
    given = {"a": np.ones(x), "b": np.ones(y)}
    (ours,) = results(node("MatMul", "a b"), given, kind)
    same(ours, np.matmul(given["a"], given["b"]))


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (2, 0, 3)])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_without_elements(op, shape, opset):
    (ours,) = results(node(op, "x", axis=1), {"x": np.ones(shape)}, F, opset=opset)
    assert ours.shape == shape


def test_softmax_in_float32_runs_by_kernels():
    nodes = [node("LogSoftmax", "x", "l"), node("Softmax", "l", "y")]
    network = load(make(nodes, [("x", F, ["n", 5])], [("y", F, None)]))
    run(network, x=np.ones((2, 5), np.float32))
    assert not [s for plan in network._engine.session.plans() for s in plan.steps if isinstance(s, HostStep)]


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_in_double(op, axis):
    x = [[1, 2, 300], [-INF, 5, 5], [400, 1, -3]]
    same(results(node(op, "x", axis=axis), {"x": x}, D)[0], wanted(node(op, "x", axis=axis), {"x": x}, D), 1e-6)


@pytest.mark.parametrize("kind", [I32, I64])
@pytest.mark.parametrize("op, theirs", [("ReduceL2", [3, 50, 7]), ("ReduceLogSum", [1, 4, 2])])
def test_roots_and_logarithms_of_integers(op, theirs, kind):
    x = [[1, 2, 3], [30, 40, 0], [7, 1, 1]]
    one = node(op, "x a", keepdims=0)
    constants = {"a": np.array([1])}
    same(results(one, {"x": x}, kind, constants)[0], np.array(theirs))


def test_logarithms_of_sums_of_powers_of_integers():
    (ours,) = results(node("ReduceLogSumExp", "x", keepdims=0), {"x": [[1, 2], [40, 3]]}, I32)
    assert ours.dtype == np.int32 and ours.tolist() == [40]


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_conditions_longer_than_what_they_choose_from(axis):
    x = np.arange(6).reshape(2, 3)
    mask = np.array([False, True, True, False, True, True, True, True, False, True])
    attributes = {} if axis is None else {"axis": axis}
    (ours,) = results(node("Compress", "x m", **attributes), {"x": x}, F, {"m": mask})
    length = x.size if axis is None else x.shape[axis]
    same(ours, np.compress(mask[:length], x, axis))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize(("dtype", "value"), [(np.float32, -INF), (np.int32, 7), (np.uint8, 200), (np.int64, -9)])
def test_paddings_that_are_computed(mode, dtype, value):
    """The numbers follow from the shape, which is known when the graph is planned."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Div", ["s", "two"], ["half"]),
        helper.make_node("Concat", ["none", "half", "one", "one"], ["widths"], axis=0),
        helper.make_node("Pad", ["x", "widths", "value"], ["y"], mode=mode),
    ]
    numbers = {"two": np.array([4, 2]), "none": np.zeros(0, np.int64), "one": np.array([1])}
    model = make(nodes, [("x", kind, ["n", 6])], [("y", kind, None)], numbers | {"value": np.array(value, dtype)}, 19)
    x = np.arange(30).reshape(5, 6).astype(dtype)
    (y,) = run(load(model), x=x.astype(np.int32) if dtype == np.int64 else x)
    widths = [(1, 1), (3, 1)]
    wanted = np.pad(x, widths, mode, **({"constant_values": value} if mode == "constant" else {}))
    np.testing.assert_array_equal(y, wanted)


def in_numpy(model, **given):
    """The operators that run in numpy, once the results are found to be right."""
    session = session_of(load_model(model.SerializeToString()).graph)
    at_the_api = {k: v.astype(np.int32) if v.dtype == np.int64 else v for k, v in given.items()}
    for ours, theirs in zip(run_session(session, **at_the_api), expected(model, **given), strict=True):
        np.testing.assert_allclose(ours.reshape(theirs.shape), theirs, rtol=1e-5, atol=1e-5)
    return [s.node.op for plan in session.plans() for s in plan.steps if isinstance(s, HostStep)]


def test_mirrored_padding_runs_by_kernels():
    widths = {"widths": np.array([0, 3, 0, 5])}
    model = make([node("Pad", "x widths", mode="reflect")], [("x", F, [1, 9])], [("y", F, None)], widths)
    assert not in_numpy(model, x=np.arange(9, dtype=np.float32).reshape(1, 9))


@pytest.mark.parametrize("widths", [[0, 1, 0, -1], [-2, 0, 3, 2], [1, -4, -1, -1], [2, 2, 2, 2], [0, 0, 0, 0]])
@pytest.mark.parametrize("mode", ["edge", "constant"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_borders_are_filled_and_cut_off_by_kernels(widths, mode, dtype):
    """A shift by one, as filters of speech have it, cuts off at one end what it adds at the other."""
    kind, value = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), np.array([77], dtype)
    model = make(
        [node("Pad", "x widths value", mode=mode)], [("x", kind, [4, 9]), ("value", kind, [1])], [("y", kind, None)],
        {"widths": np.array(widths)},
    )  # fmt: skip
    x = np.arange(36, dtype=dtype).reshape(4, 9)
    session = session_of(load_model(model.SerializeToString()).graph)
    (y,) = run_session(session, x=x, value=value)
    top, left, bottom, right = widths
    kept = x[max(-top, 0) : 4 - max(-bottom, 0), max(-left, 0) : 9 - max(-right, 0)]
    grown = [(max(top, 0), max(bottom, 0)), (max(left, 0), max(right, 0))]
    np.testing.assert_array_equal(y, np.pad(kept, grown, mode, **({"constant_values": 77} if mode != "edge" else {})))
    copies = {"copy_strided", "copy_bytes", "transpose_strided"}
    assert {s.kernel.name for plan in session.plans() for s in plan.steps} <= copies


def test_lstms_whose_weights_are_reshaped_run_by_kernels():
    """Weights that are too large to be computed while the model is loaded."""
    rng = np.random.default_rng(0)
    weights = {k: rng.uniform(-0.3, 0.3, (4 * 40, 40)).astype(np.float32) for k in ("w", "r")}
    nodes = [node("Unsqueeze", f"{k} zero", k * 2) for k in weights] + [node("LSTM", "x ww rr", "y", hidden_size=40)]
    model = make(nodes, [("x", F, [3, 1, 40])], [("y", F, None)], weights | {"zero": np.array([0])})
    assert not in_numpy(model, x=rng.standard_normal((3, 1, 40)).astype(np.float32))


def test_int64_is_compared_by_kernels_where_it_fits():
    nodes = [node("Equal", "x n", "e"), node("Where", "e a b")]
    numbers = {"n": np.array([16000]), "a": np.float32([1]), "b": np.float32([2])}
    model = make(nodes, [("x", I64, [3])], [("y", F, None)], numbers)
    assert not in_numpy(model, x=np.array([8000, 16000, -1]))


def test_int64_that_does_not_fit_is_compared_all_the_same():
    numbers = {"n": np.array([2**32 + 5])}
    model = make([node("Less", "x n", "e")], [("x", I64, [3])], [("e", TensorProto.BOOL, None)], numbers)
    np.testing.assert_array_equal(run(load(model), x=np.array([5, 7, -1], np.int32))[0], [True] * 3)


@pytest.mark.parametrize("kind", [F, D, I32])
@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_products_along_a_constant_axis(kind, exclusive, reverse):
    x = np.array([[1, 2, 3], [4, 5, 6]])
    one = node("CumProd", "x axis", exclusive=exclusive, reverse=reverse)
    (found,) = results(one, {"x": x}, kind, {"axis": np.array(1)}, 26)
    turned = x[:, ::-1] if reverse else x
    products = np.cumprod(turned, 1)
    if exclusive:
        products = np.concatenate([np.ones((2, 1), int), products[:, :-1]], 1)
    np.testing.assert_array_equal(found, products[:, ::-1] if reverse else products)


@pytest.mark.parametrize("p", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
@pytest.mark.parametrize("sizes", [(5,), (3, 4), (2, 3, 4)], ids=str)
def test_global_norms_have_every_order_that_norms_of_windows_have(p, dtype, sizes):
    x = np.random.default_rng(0).standard_normal((2, 3, *sizes)).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    more = {} if p is None else {"p": p}
    nodes = [
        helper.make_node("GlobalLpPool", ["x"], ["y"], **more),
        helper.make_node("LpPool", ["x"], ["z"], kernel_shape=sizes, **more),
    ]
    shape = [2, 3, *[1] * len(sizes)]
    model = make(nodes, [("x", kind, x.shape)], [("y", kind, shape), ("z", kind, shape)])
    order = p or 2
    expected = (abs(x.astype("float64")) ** order).sum(tuple(range(2, x.ndim)), keepdims=True) ** (1 / order)
    for found in run(load(model), x=x.astype("float32" if dtype == "float64" else dtype)):
        np.testing.assert_allclose(found, expected, rtol=2e-3 if dtype == "float16" else 2e-6)


def test_global_norms_have_no_order_below_1():
    model = make([helper.make_node("GlobalLpPool", ["x"], ["y"], p=0)], [("x", 1, [1, 1, 2])], [("y", 1, None)])
    with pytest.raises(UnsupportedOperatorError, match="p is 0, and must be 1 or more"):
        load(model)


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize(
    ("op", "long", "short"),
    [("MaxPool", [5, 6], [5]), ("AveragePool", [3, 6], [4]), ("LpPool", [np.sqrt(55), 6], [np.sqrt(50)])],
)
def test_windows_may_end_behind_the_data_if_sizes_are_rounded_up(op, long, short, axes):
    """The first one, too: it takes what it reaches."""
    x = np.arange(1, 7, dtype=np.float32).reshape(1, 1, 6, *[1] * (axes - 1))
    size = [5] + [3] * (axes - 1)
    pool = node(op, "x", kernel_shape=size, strides=size, ceil_mode=1)
    for data, wanted in ((x, long), (x[:, :, 2:5], short)):
        np.testing.assert_allclose(results(pool, {"x": data}, opset=22)[0].ravel(), wanted, rtol=1e-6)


@pytest.mark.parametrize("version", [6, 7, 8])
@pytest.mark.parametrize("kind", [F, D, F16])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 2, 3, 2)])
def test_batch_normalization_with_numbers_for_each_place(version, kind, shape):
    dtype, rng = NUMPY[kind], np.random.default_rng(3)
    x, *rest = (rng.random(s).astype(dtype) for s in (shape, *[shape[1:]] * 4))
    nodes = [node("BatchNormalization", "x s b m v", spatial=0, epsilon=0.25)]
    if version < 7:
        nodes[0].attribute.append(helper.make_attribute("is_test", 1))
    constants = dict(zip("sbmv", rest, strict=True))
    model = make(nodes, [("x", kind, [None] * len(shape))], [("y", kind, None)], constants, opset=version)
    scale, bias, mean, variance = (v.astype(np.float64) for v in rest)
    want = (x - mean) / np.sqrt(variance + 0.25) * scale + bias
    found = run(load(model), x=x.astype(dtype if kind == F16 else np.float32))[0]
    np.testing.assert_allclose(found, want, rtol=1e-5, atol=4e-3 if kind == F16 else 1e-6)


@pytest.mark.parametrize(("version", "spatial", "shape"), [(8, 1, [3, 4]), (8, 0, [3]), (15, None, [3, 4])])
def test_statistics_of_other_dimensions_are_refused_at_load(version, spatial, shape):
    more = {} if spatial is None else {"spatial": spatial}
    nodes = [node("BatchNormalization", "x s b m v", name="norm", **more)]
    constants = dict.fromkeys("sbmv", np.ones(shape, np.float32))
    model = make(nodes, [("x", F, [2, 3, 4])], [("y", F, None)], constants, opset=version)
    with pytest.raises(UnsupportedOperatorError, match=r"BatchNormalization 'norm' .* dimensions, as data have 3"):
        load(model)
