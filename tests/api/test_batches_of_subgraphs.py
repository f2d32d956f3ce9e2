"""Batches of models with branches, loops, and operators of the user's: as many rows at once as one likes."""

import numpy as np
import pytest
from support.onnx_models import bytes_of_text

import megengine_lite
from megengine_lite.batch import Predictor
from megengine_lite.custom_operator import register_operator, unregister_operator
from megengine_lite.errors import LiteError, ShapeError

X = np.arange(-6, 6, dtype=np.float32).reshape(3, 4)
THEN_ELSE = "<then_branch = a () => (float[N,4] r) {{ r = {} }}, else_branch = b () => (float[N,4] q) {{ q = {} }}>"
IF = f"y = If(c) {THEN_ELSE}"
LOOP = """y = Loop(n, , x) <body = inside (int64 k, bool on, float[N,4] s) => (bool next, float[N,4] t) {
    next = Identity(on) t = Add(s, x) }>"""
GRAPHS = {
    "branch by the file": f"(float[N,4] x) => (float[N,4] y) <bool c = {{1}}> {{ {IF.format('Neg(x)', 'Abs(x)')} }}",
    "branch by a size": f"""(float[N,4] x) => (float[N,4] y) <int64 one = {{1}}> {{
        s = Shape<start = 1>(x) w = Squeeze(s) c = Greater(w, one) {IF.format("Neg(x)", "Abs(x)")} }}""",
    "branch by numbers": f"""(float[N,4] x) => (float[N,4] y) <float top = {{1000}}> {{
        m = ReduceMax<keepdims = 0>(x) c = Less(m, top) {IF.format("Neg(x)", "Abs(x)")} }}""",
    "few rounds": f"(float[N,4] x) => (float[N,4] y) <int64 n = {{3}}> {{ {LOOP} }}",
    "many rounds": f"(float[N,4] x) => (float[N,4] y) <int64 n = {{300}}> {{ {LOOP} }}",
    "rounds by a size": f"(float[N,4] x) => (float[N,4] y) {{ s = Shape<start = 1>(x) n = Squeeze(s) {LOOP} }}",
    "scan": """(float[N,4] x) => (float[N,4] y) { first = ReduceSum<keepdims = 0>(x, one)
        end, y = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1], body = inside (
            float[N] s, float[N] part) => (float[N] t, float[N] u) { t = Add(s, part) u = Identity(t) }>(first, x) }
    """.replace(" {", " <int64[1] one = {1}> {", 1),
}


def both_ways(model: bytes) -> list[np.ndarray]:
    """The rows of y, from a map and from a predictor, several at a time."""
    mapped = megengine_lite.load(model).map([row[None] for row in X], batch_size=2)
    return [np.concatenate([o["y"] for o in mapped]), Predictor(model)({"x": X})["y"]]


@pytest.mark.parametrize("name", sorted(GRAPHS))
def test_rows_are_those_of_single_runs(name):
    model = bytes_of_text(GRAPHS[name])
    run = megengine_lite.load(model)
    expected = np.concatenate([run(row[None])["y"] for row in X])
    assert expected.shape == X.shape and not np.array_equal(expected, X)
    for found in both_ways(model):
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("name", ["branch by a size", "few rounds", "rounds by a size"])
def test_rows_that_are_as_many_by_chance_are_found_behind_graphs(name):
    """What a branch or the rounds of a loop make is looked at for other numbers of rows, too."""
    text = GRAPHS[name].replace("float[N,4] y)", "float[A,B] z)")
    text = f"{text[: text.rindex('}')]} z = Reshape(y, two) }}"
    given = "int64[2] two = {2, -1}"
    text = text.replace("z) <", f"z) <{given}, ") if "z) <" in text else text.replace("z) {", f"z) <{given}> {{")
    with pytest.raises(ShapeError, match="rows of output 'z' are not rows of the inputs"):
        list(megengine_lite.load(bytes_of_text(text)).map([row[None] for row in X[:2]], batch_size=2))


@pytest.fixture
def check():
    """An operator that takes no negative numbers, in a model."""

    @register_operator("my.domain.Check", infer=lambda op, inputs: inputs[0])
    def check(op, inputs):
        if (inputs[0] < 0).any():
            raise ValueError("a negative number")
        return inputs[0] + 1

    from onnx import helper
    from support import onnx_models

    node = helper.make_node("Check", ["x"], ["y"], domain="my.domain")
    opsets = [helper.make_opsetid("my.domain", 1)]
    made = onnx_models.make([node], [("x", 1, ["N", 4])], [("y", 1, ["N", 4])], opsets=opsets)
    yield made.SerializeToString()
    unregister_operator("my.domain.Check")


def test_operators_of_the_users_run_in_batches(check):
    assert np.array_equal(Predictor(check)({"x": abs(X)})["y"], abs(X) + 1)
    mapped = megengine_lite.load(check).map([abs(row[None]) for row in X], batch_size=3)
    assert np.array_equal(np.concatenate([o["y"] for o in mapped]), abs(X) + 1)


@pytest.mark.parametrize("rows", [1, 2, None])
def test_the_row_in_which_an_operator_of_the_users_fails_has_its_number(check, rows):
    x = abs(X)
    x[2, 1] = -1
    with pytest.raises(LiteError, match=r"row 2 of the batch: .*ValueError: a negative number"):
        Predictor(check, batch_size=rows)({"x": x})
