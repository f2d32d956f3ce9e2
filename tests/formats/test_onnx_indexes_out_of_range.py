"""Indexes outside of the data: errors in ONNX models and in the files that are made of them, never other elements."""

import inspect

import numpy as np
import pytest
from support.onnx_models import bytes_of_text, load, run

import megengine_lite
from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite._core.compile.transform.counterparts import find
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.import_index import INDEX
from megengine_lite.errors import LiteError

pytestmark = pytest.mark.filterwarnings("ignore")
X = np.arange(24, dtype=np.float32).reshape(2, 3, 4) + 1
FAR = [2**31 - 1, -(2**31), 2**30, -(2**30)]
"""Also what becomes small where it is multiplied, or where something is added to it."""
OUT_OF_RANGE = r"out of (range|bounds)|not fit|not exist"
ELEMENTS = [[[0, 1, -1], [-2, 0, 1]], [[1, 1, 0], [-1, -2, 0]]]
PAIRS = [[0, -3], [-1, 2], [1, 1]]
UPDATES = -np.arange(12, dtype=np.float32).reshape(2, 2, 3) - 1
CORNERS = np.float32([[0, 0, 2, 2], [1, 0, 3, 1]])

# The text of a model, its inputs, valid indexes, and the range of each of them. KIND is the type of the indexes.
CASES = {
    **{
        f"GatherElements along {axis}": (
            f"(float[2, 3, 4] x, KIND[2, 2, 3] k) => (float[a, b, c] y) {{ y = GatherElements<axis = {axis}>(x, k) }}",
            {"x": X},
            ELEMENTS,
            (-n, n),
        )
        for axis, n in enumerate(X.shape)
    },
    **{
        f"ScatterElements along {axis}, {reduction}": (
            "(float[2, 3, 4] x, KIND[2, 2, 3] k, float[2, 2, 3] u) => (float[a, b, c] y) "
            f'{{ y = ScatterElements<axis = {axis}, reduction = "{reduction}">(x, k, u) }}',
            {"x": X, "u": UPDATES},
            np.array(ELEMENTS) * 0 + np.arange(3) % n - n,
            (-n, n),
        )
        for axis, n in enumerate(X.shape)
        for reduction in ("none", "add", "mul", "max", "min")
        if axis == 2 or reduction != "none"  # else places occur twice, of which any update may be the last
    },
    "GatherND": (
        "(float[2, 3, 4] x, KIND[3, 2] k) => (float[a, b] y) { y = GatherND(x, k) }",
        {"x": X},
        PAIRS,
        (np.array([-2, -3]), np.array([2, 3])),
    ),
    "GatherND of one axis": (
        "(float[2, 3, 4] x, KIND[3, 1] k) => (float[a, b, c] y) { y = GatherND(x, k) }",
        {"x": X},
        [[0], [-2], [1]],
        (-2, 2),
    ),
    "GatherND in batches": (
        "(float[2, 3, 4] x, KIND[2, 2] k) => (float[a] y) { y = GatherND<batch_dims = 1>(x, k) }",
        {"x": X},
        [[0, -4], [-1, 2]],
        (np.array([-3, -4]), np.array([3, 4])),
    ),
    **{
        f"ScatterND, {reduction}": (
            "(float[2, 3, 4] x, KIND[3, 2] k, float[3, 4] u) => (float[a, b, c] y) "
            f'{{ y = ScatterND<reduction = "{reduction}">(x, k, u) }}',
            {"x": X, "u": UPDATES.reshape(3, 4)},
            PAIRS,
            (np.array([-2, -3]), np.array([2, 3])),
        )
        for reduction in ("none", "add", "mul", "max", "min")
    },
    "Gather": (
        "(float[2, 3, 4] x, KIND[3] k) => (float[a, b, c] y) { y = Gather<axis = 1>(x, k) }",
        {"x": X},
        [0, -3, 2],
        (-3, 3),
    ),
    "TensorScatter": (
        "(float[2, 3, 4] x, float[2, 2, 4] u, KIND[2] k) => (float[a, b, c] y) "
        "{ y = TensorScatter<axis = 1>(x, u, k) }",
        {"x": X, "u": -X[:, :2]},
        [0, 1],
        (0, 2),
    ),
    **{
        f"ReverseSequence along {time}": (
            f"(float[2, 3, 4] x, KIND[{X.shape[1 - time]}] k) => (float[a, b, c] y) "
            f"{{ y = ReverseSequence<time_axis = {time}, batch_axis = {1 - time}>(x, k) }}",
            {"x": X},
            [1, 2, 0][: 3 - time],
            (0, X.shape[time] + 1),
        )
        for time in (0, 1)
    },
    "MaxUnpool": (
        "(float[1, 2, 1, 2] x, KIND[1, 2, 1, 2] k) => (float[a, b, c, d] y) "
        "{ y = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(x, k) }",
        {"x": X.reshape(-1)[:4].reshape(1, 2, 1, 2)},
        [[[[0, 7]], [[8, 15]]]],
        (0, 16),
    ),
    "RoiAlign": (
        "(float[2, 3, 4, 1] x, float[2, 4] u, KIND[2] k) => (float[a, b, c, d] y) "
        "{ y = RoiAlign<sampling_ratio = 1, output_height = 2>(x, u, k) }",
        {"x": X[..., None], "u": CORNERS},
        [1, 0],
        (0, 2),
    ),
    **{
        f"NegativeLogLikelihoodLoss, {reduction}": (
            f"(float[2, 3, 4] x, KIND[2, 4] k) => ({result} y) "
            f'{{ y = NegativeLogLikelihoodLoss<reduction = "{reduction}", ignore_index = 7>(x, k) }}',
            {"x": X},
            [[0, 1, 2, 0], [7, 1, 2, 7]],
            (0, 3),
        )
        for reduction, result in (("none", "float[a, b]"), ("mean", "float"), ("sum", "float"))
    },
}


def content_of(name, kind):
    return bytes_of_text(CASES[name][0].replace("KIND", kind), 24)


def file_of(content):
    return load(b"".join(map(bytes, converted(content, LiteConfig(), verify=False).chunks)))


def wrong_indexes(name):
    """The valid indexes, of which one each is just outside of its range, or far."""
    _, _, indexes, (low, high) = CASES[name]
    valid = np.array(indexes)
    lows, highs = np.broadcast_to(low, valid.shape), np.broadcast_to(high, valid.shape)
    for place in np.ndindex(valid.shape):
        extent = highs[place] - lows[place]
        for number in (lows[place] - 1, highs[place], lows[place] - extent, highs[place] + extent, *FAR):
            if not (name.startswith("Negative") and number == 7):
                wrong = valid.copy()
                wrong[place] = number
                yield wrong


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("name", CASES)
def test_computed_indexes_out_of_range_are_errors(name, kind):
    content = content_of(name, kind)
    model, file = load(content), file_of(content)
    _, given, valid, _ = CASES[name]
    found = run(file, **given, k=np.array(valid, np.int32))
    np.testing.assert_allclose(found[0], run(model, **given, k=np.array(valid, np.int32))[0], rtol=1e-6)
    for wrong in wrong_indexes(name):
        for network in (model, file):
            with pytest.raises(LiteError, match=OUT_OF_RANGE):
                run(network, **given, k=wrong.astype(np.int32))
    if kind == "int64":
        with megengine_lite.load(content) as wide, pytest.raises(LiteError):
            wide({**given, "k": np.array(valid) + 2**32})


@pytest.mark.parametrize("name", sorted(CASES))
def test_known_indexes_out_of_range_are_errors(name):
    """They are refused, or are errors when the file runs."""
    text, given, valid, _ = CASES[name]
    shape = "[" + text.split("KIND[")[1].split("]")[0] + "]"
    inputs = text.replace(f", KIND{shape} k", "").replace(") {", f") <int64{shape} k = {{NUMBERS}}> {{")
    for wrong in [np.array(valid), *wrong_indexes(name)]:
        numbers = ", ".join(map(str, wrong.reshape(-1)))
        content = bytes_of_text(inputs.replace("NUMBERS", numbers), 24)
        if wrong.tolist() == np.array(valid).tolist():
            np.testing.assert_allclose(run(file_of(content), **given)[0], run(load(content), **given)[0], rtol=1e-6)
            continue
        with pytest.raises(LiteError):
            run(load(content), **given)
        with pytest.raises(LiteError):
            run(file_of(content), **given)


def test_no_operator_that_refuses_indexes_is_left_out():
    """Of those whose nodes are written as others: these must refuse the same."""
    refusing = set()
    for name in INDEX:
        operator = operator_of(name)
        has_indexes = "index_inputs" in {k for kind in type(operator).__mro__[:-2] for k in vars(kind)}
        if find(name) and (has_indexes or "index_error(" in inspect.getsource(type(operator))):
            refusing.add(name)
    of_onnx = {"LikelihoodLoss": "NegativeLogLikelihoodLoss", "OnnxRoiAlign": "RoiAlign"}
    tested = {name.split(" ")[0].rstrip(",") for name in CASES}
    assert {of_onnx.get(name, name) for name in refusing} - {"Subtensor"} == tested - {"Gather"}
