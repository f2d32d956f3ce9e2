"""What files of MegEngine's have in place of operators that these lack: results of more attributes than cases have."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import bytes_of_text, load, make, run

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite.errors import LiteError, UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
KINDS = {"float32": TensorProto.FLOAT, "int32": TensorProto.INT32, "int64": TensorProto.INT64, "int8": TensorProto.INT8}
RNG = np.random.default_rng(9)


def real(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def whole(low, high, shape, dtype=np.int64):
    return RNG.integers(low, high, shape).astype(dtype)


def model_of(op, given, constants=(), outputs="y", opset=24, **attributes):
    """A model of one operator, whose inputs are given or constants."""
    names = [*given, *dict(constants)]
    nodes = [helper.make_node(op, sorted(names), outputs.split(" "), **attributes)]
    inputs = [(name, KINDS[str(value.dtype)], value.shape) for name, value in given.items()]
    model = make(nodes, inputs, [(n, TensorProto.FLOAT, None) for n in outputs.split(" ")], constants, opset)
    for output in model.graph.output:
        output.ClearField("type")
    return model


def file_of(model, shapes=None):
    made = converted(model.SerializeToString(), LiteConfig(), shapes=shapes or {}, verify=False)
    return b"".join(map(bytes, made.chunks))


def check(model, given):
    """Compares the file with the model."""
    values = {n: v.astype(np.int32) if v.dtype == np.int64 else v for n, v in given.items()}
    file = file_of(model, {name: value.shape for name, value in given.items()})
    for found, expected in zip(run(load(file), **values), run(load(model), **values), strict=True):
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


POOLINGS = {
    "padding": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "column major": {"kernel_shape": [2, 2], "storage_order": 1},
    "dilations": {"kernel_shape": [2, 3], "dilations": [2, 1], "strides": [1, 2]},
    "rounded up": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "same": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
}


@pytest.mark.parametrize("kind", ["real", "ties", "bytes"])
@pytest.mark.parametrize("name", POOLINGS)
def test_positions_of_maxima(name, kind):
    x = {"real": real(2, 3, 8, 7), "ties": np.sign(real(2, 3, 8, 7)), "bytes": whole(-9, 9, (2, 3, 8, 7), np.int8)}[
        kind
    ]
    check(model_of("MaxPool", {"x": x}, outputs="y places", **POOLINGS[name]), {"x": x})


@pytest.mark.parametrize("shape", [(2, 3, 9), (1, 2, 4, 5, 6)])
def test_positions_along_any_number_of_axes(shape):
    x, axes = real(*shape), len(shape) - 2
    model = model_of("MaxPool", {"x": x}, outputs="y places", kernel_shape=[2] * axes, strides=[1, *[2] * (axes - 1)])
    check(model, {"x": x})


REGIONS = {
    "plain": {"sampling_ratio": 1},
    "scaled": {"sampling_ratio": 3, "spatial_scale": 0.5},
    "maxima": {"sampling_ratio": 2, "mode": "max"},
    "at least one pixel": {"sampling_ratio": 2, "coordinate_transformation_mode": "output_half_pixel"},
    "sides": {"sampling_ratio": 2, "output_height": 3, "output_width": 1},
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions(name):
    """Some reach beyond the image, and some are smaller than a pixel."""
    corners = np.sort(RNG.uniform(-3, 12, (6, 2, 2)).astype(np.float32), axis=1).reshape(6, 4)
    corners[0] = [2, 2, 2.3, 2.2]
    given = {"a": real(2, 3, 8, 9), "b": corners, "c": whole(0, 2, 6)}
    attributes = {"output_height": 2, "output_width": 2, **REGIONS[name]}
    check(model_of("RoiAlign", given, **attributes), given)


@pytest.mark.parametrize("reduction", ["mul", "max", "min"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_elements_that_are_combined(reduction, known, dtype):
    """Places occur several times."""
    x, u = (v if dtype == "float32" else (v * 30000).astype(np.int32) for v in (real(3, 4, 2), real(2, 3, 2)))
    k = whole(-3, 3, (2, 3, 2))
    k[:, 1] = k[:, 0]
    places = {"b": k}
    given = {"a": x, "c": u}
    for op in ("ScatterND", "ScatterElements"):
        inputs = {**given, **({} if known else places)}
        model = model_of(op, inputs, places if known else {}, reduction=reduction)
        if dtype == "int32" and reduction == "mul" and not known:
            with pytest.raises(
                UnsupportedOperatorError, match="products of integers are written for known places only"
            ):
                file_of(model)
            continue
        check(model, inputs)


def test_infinities_are_combined():
    x, u = np.float32([-np.inf, np.inf, 1, -np.inf]), np.float32([1, 2, -3])
    given = {"a": x, "b": np.array([[0], [1], [2]]), "c": u}
    for reduction in ("max", "min", "mul"):
        check(model_of("ScatterND", given, reduction=reduction), given)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [-2, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_updates_of_a_cache(mode, axis, dtype):
    cache = real(2, 4, 6, 5) if dtype == "float32" else whole(-(2**31), 2**31, (2, 4, 6, 5), np.int32)
    update = np.take(cache * 2, [0, 1], axis)
    given = {"a": cache, "b": update, "c": np.array([1, cache.shape[axis] - (1 if mode == "circular" else 2)])}
    model = model_of("TensorScatter", given, axis=axis, mode=mode)
    check(model, given)
    if mode == "linear":  # no update goes on in what lies behind its axis
        network = load(file_of(model))
        with pytest.raises(LiteError):
            run(network, a=cache, b=update, c=np.array([1, cache.shape[axis] - 1], np.int32))
    check(model_of("TensorScatter", {k: given[k] for k in "ab"}, axis=axis, mode=mode), {k: given[k] for k in "ab"})


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 2, 2), (2, 3, 3), (2, 2, 4, 4)])
def test_determinants(shape):
    x = real(*shape)
    check(model_of("Det", {"x": x}), {"x": x})


REFUSED = {
    "Det": (model_of("Det", {"x": real(5, 5)}), "of 5 rows are not written, of 1 to 4 are"),
    "RoiAlign": (
        model_of("RoiAlign", {"a": real(1, 1, 4, 4), "b": real(1, 4), "c": whole(0, 1, 1)}),
        "how many samples it takes depends on the sizes of its regions",
    ),
    "MaxPool": (
        model_of("MaxPool", {"x": real(1, 1, 9, 9)}, outputs="y places", kernel_shape=[9, 9]),
        "positions in windows of 81 elements are not written",
    ),
    "ScatterND": (
        model_of("ScatterND", {"a": real(9999), "b": whole(0, 9, (999, 1)), "c": real(999)}, reduction="max"),
        "999 computed places among 9999 are too many",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_take_too_many_steps_is_refused_with_the_reason(name):
    model, reason = REFUSED[name]
    with pytest.raises(UnsupportedOperatorError, match=reason):
        file_of(model)


COMPUTED = {
    "sum": "j = Add(k, one)",
    "difference": "j = Sub(k, one)",
    "negative": "j = Neg(k)",
    "moved": "i = Add(k, one) h = Unsqueeze(i, zero) j = Squeeze(h, zero)",
    "joined": "i = Sub(k, one) j = Concat<axis = 0>(i, k)",
    "chosen": "b = Less(k, one) i = Add(k, one) j = Where(b, k, i)",
}
READERS = {
    "Gather": "y = Gather<axis = 1>(x, j)",
    "GatherElements": "g = Unsqueeze(j, zero) y = GatherElements<axis = 1>(x, g)",
    "GatherND": "v = Transpose(x) g = Unsqueeze(j, last) y = GatherND(v, g)",
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("computed", COMPUTED)
def test_indexes_that_are_computed_of_int64(computed, reader):
    """They may need more than 32 bits, but are out of range then, which the low bits are as well."""
    text = (
        "(float[n, 9] x, int64[m] k) => (float[a, b] y) <int64 one = {1}, int64[1] zero = {0}, int64[1] last = {-1}> "
        f"{{ {COMPUTED[computed]} {READERS[reader]} }}"
    )
    content = bytes_of_text(text)
    made = b"".join(map(bytes, converted(content, LiteConfig(), verify=False, shapes={"x": (1, 9), "k": (3,)}).chunks))
    ours, theirs = load(made), load(content)
    x = real(1, 9)
    for indexes in ([-2, 1, 2], [0, -5, 7]):
        given = {"x": x, "k": np.array(indexes, np.int32)}
        np.testing.assert_array_equal(run(ours, **given)[0], run(theirs, **given)[0])
    for far in (2**31 - 1, -(2**31), 2**30):
        with pytest.raises(LiteError, match="out of range"):
            run(ours, x=x, k=np.array([far, 0, 0], np.int32))


NOT_INDEXES = {
    "a product": "j = Mul(k, two) y = Gather<axis = 1>(x, j)",
    "an output": "j = Add(k, one) y = Gather<axis = 1>(x, j) z = Identity(j)",
    "a comparison": "j = Add(k, one) y = Gather<axis = 1>(x, j) b = Less(j, two) z = Cast<to = 1>(b)",
    "an order": "i = Add(k, one) j, p = TopK(i, two) y = Gather<axis = 1>(x, j)",
}


@pytest.mark.parametrize("name", NOT_INDEXES)
def test_low_bits_are_not_written_where_others_matter(name):
    outputs = "float[a, b] y" + (", float[m] z" if "z =" in NOT_INDEXES[name] and "output" not in name else "")
    outputs += ", int64[m] z" if name == "an output" else ""
    text = (
        f"(float[n, 9] x, int64[m] k) => ({outputs}) <int64 one = {{1}}, int64[1] two = {{2}}> "
        f"{{ {NOT_INDEXES[name]} }}"
    )
    with pytest.raises(UnsupportedOperatorError, match="may need more than 32 bits"):
        converted(bytes_of_text(text), LiteConfig(), verify=False, shapes={"x": (1, 9), "k": (3,)})


@pytest.mark.parametrize("width", [8, 16])
def test_a_size_that_is_left_open_changes_no_constant(width):
    """A number of rows that the file need not compute, and a bias as long as they are, which becomes one row."""
    rng = np.random.default_rng(4)
    x, hidden = rng.standard_normal((2, 5, width)).astype(np.float32), width // 2
    nodes = [
        helper.make_node("Shape", ["x"], ["outer"], end=2),
        helper.make_node("ReduceProd", ["outer"], ["count"]),
        helper.make_node("Concat", ["count", "width"], ["rows"], axis=0),
        helper.make_node("Reshape", ["x", "rows"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Shape", ["x"], ["sizes"]),
        helper.make_node("Reshape", ["b", "sizes"], ["c"]),
        helper.make_node("GRU", ["c", "w", "r", "bias"], ["y"], hidden_size=hidden, linear_before_reset=1),
    ]
    shapes = {"w": (1, 3 * hidden, width), "r": (1, 3 * hidden, hidden), "bias": (1, 6 * hidden)}
    weights = {name: rng.uniform(-1, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    constants = {"width": np.array([width], np.int64), **weights}
    given = [("x", TensorProto.FLOAT, ["n", "s", width])]
    check(make(nodes, given, [("y", TensorProto.FLOAT, None)], constants), {"x": x})
