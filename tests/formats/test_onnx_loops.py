"""``Loop`` and ``Scan``: graphs that run again and again."""

import json
import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.compile import infer, unroll
from megengine_lite._core.runtime import repetition
from megengine_lite._core.runtime.plans_by_shape import Plans
from megengine_lite.cli import main
from megengine_lite.errors import (
    LiteError,
    LiteMemoryError,
    LiteWarning,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(0)
X = np.arange(12, dtype=np.float32).reshape(3, 4) / 4


@pytest.fixture(autouse=True, params=[unroll.MOST_NODES, 0], ids=["unrolled", "rounds"])
def most_nodes(request, monkeypatch):
    """Short loops whose rounds are known become nodes one after another; all others run round by round."""
    monkeypatch.setattr(unroll, "MOST_NODES", request.param)
    return request.param


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def graph(nodes, inputs, outputs, **constants):
    """A body; inputs and outputs are (name, type, shape)."""
    infos = [[helper.make_tensor_value_info(*v) for v in some] for some in (inputs, outputs)]
    kinds = {"int64": I64, "float32": F, "bool": BOOL}
    tensors = [helper.make_tensor(k, kinds[str(v.dtype)], v.shape, v.reshape(-1)) for k, v in constants.items()]
    return helper.make_graph(nodes, "body", *infos, tensors)


def body(nodes, states=("s",), parts=(), rank=2, **constants):
    """The body of a Loop, whose states are floats: s -> s_next, for each."""
    shape = [None] * rank
    inputs = [("k", I64, []), ("more", BOOL, []), *((s, F, shape) for s in states)]
    outputs = [("again", BOOL, []), *((f"{s}_next", F, shape) for s in states), *((p, F, shape) for p in parts)]
    return graph(nodes, inputs, outputs, **constants)


def check(network, theirs, **given):
    """Runs a network and compares with what Python computes."""
    at_the_api = {k: np.atleast_1d(v).astype(np.float32 if np.ndim(v) else np.int32) for k, v in given.items()}
    for ours, wanted in zip(run(network, **at_the_api), theirs, strict=True):
        assert ours.shape == (np.shape(wanted) or (1,))
        np.testing.assert_allclose(ours, wanted, rtol=1e-5, atol=1e-6)


def rounds(step, n, *states):
    """The last states, and the stacked parts, of a function that gives new states and parts."""
    parts = []
    for k in range(n):
        results = step(k, *states)
        states = results[: len(states)]
        parts.append(results[len(states) :])
    return [*states, *(np.stack(p) for p in zip(*parts, strict=True))]


SAME = node("Identity", "more", "again")
HALF = {"half": np.float32([0.5])}


def counted(inner, n_outputs=1, opset=17, **attributes):
    """A Loop that runs as often as its input says."""
    outputs = [f"y{k}" for k in range(n_outputs)]
    loop = node("Loop", "n  x", " ".join(outputs), "rounds", body=inner, **attributes)
    return make([loop], [("n", I64, []), ("x", F, ["a", "b"])], [(o, F, None) for o in outputs], (), opset)


def test_a_state_goes_from_round_to_round():
    inner = body([SAME, node("Mul", "s half", "t"), node("Add", "t s", "s_next")], **HALF)
    model = counted(inner)
    network = load(model)
    for n in (3, 0, 1, 7):
        for x in (X, X[:2]):
            check(network, rounds(lambda k, s: (s * 1.5,), n, x), n=n, x=x)


def test_rounds_of_the_same_shapes_take_no_look_at_the_graph(monkeypatch):
    looks = []
    find = Plans.find
    monkeypatch.setattr(Plans, "find", lambda *given: looks.append(given) or find(*given))
    inner = body([SAME, node("Mul", "s half", "t"), node("Add", "t s", "s_next")], parts=("t",), **HALF)
    network = load(counted(inner, 2))
    found = []
    for n in (3, 30):
        looks.clear()
        check(network, rounds(lambda k, s: (s * 1.5, s * 0.5), n, X), n=n, x=X)
        found.append(len(looks))
    assert found[1] <= found[0]


def test_results_that_are_inputs_of_the_same_round():
    nodes = [SAME, node("Identity", "t", "s_next"), node("Mul", "s half", "t_next"), node("Identity", "t", "p")]
    inner = body(nodes, ("s", "t"), ["p"], **HALF)
    loop = node("Loop", "n  x z", "y0 y1 y2", "rounds", body=inner)
    inputs = [("n", I64, []), ("x", F, ["a", "b"]), ("z", F, ["a", "b"])]
    network = load(make([loop], inputs, [(y, F, None) for y in ("y0", "y1", "y2")]))
    z = X[::-1].copy()
    for n in (2, 7):
        check(network, rounds(lambda k, s, t: (t, s / 2, t), n, X, z), n=n, x=X, z=z)


def test_states_that_are_exchanged():
    nodes = [SAME, node("Identity", "t", "s_next"), node("Identity", "s", "t_next"), node("Sub", "s t", "p")]
    loop = node("Loop", "n  x z", "y0 y1 y2", "rounds", body=body(nodes, ("s", "t"), ["p"]))
    inputs = [("n", I64, []), ("x", F, ["a", "b"]), ("z", F, ["a", "b"])]
    network = load(make([loop], inputs, [(y, F, None) for y in ("y0", "y1", "y2")]))
    z = 3 * X[::-1]
    for n in (1, 2, 3, 4, 9):
        check(network, rounds(lambda k, s, t: (t, s, s - t), n, X, z), n=n, x=X, z=z)


def test_parts_of_all_rounds_are_stacked():
    inner = body([SAME, node("Mul", "s half", "s_next"), node("Neg", "s", "p")], parts=["p"], **HALF)
    model = counted(inner, 2)
    network = load(model)
    for n in (4, 1, 2):
        check(network, rounds(lambda k, s: (s / 2, -s), n, X), n=n, x=X)
    y, parts = run(network, n=np.int32([0]), x=X)
    np.testing.assert_array_equal(y, X)
    assert parts.shape == (0, 0, 0)  # the model does not say more


@pytest.mark.parametrize("count", [0, 2])
@pytest.mark.parametrize("op", ["Neg", "ReduceSum"])
def test_parts_without_a_declared_shape(op, count):
    """They have as many dimensions without rounds as with some. ONNX Runtime has one if it does not know that."""
    one = node("Neg", "s", "p") if op == "Neg" else node("ReduceSum", "s", "p", keepdims=0)
    inner = graph(
        [node("Identity", "more", "again"), node("Identity", "s", "s_next"), one],
        [("k", I64, []), ("more", BOOL, []), ("s", F, None)],
        [("again", BOOL, None), ("s_next", F, None), ("p", F, None)],
    )
    model = make(
        [node("Loop", "n  x", "y parts", body=inner)],
        [("n", I64, []), ("x", F, [3])],
        [("y", F, None), ("parts", F, None)],
    )
    _, parts = run(load(model), n=np.array([count], np.int32), x=np.ones(3, np.float32))
    shape = (3,) if op == "Neg" else ()
    assert parts.shape == (count, *(shape if count else (0,) * len(shape)))


def test_a_condition_that_is_computed_ends_a_loop():
    nodes = [
        node("Mul", "s two", "s_next"),
        node("ReduceMax", "s_next", "m", keepdims=0),
        node("Less", "m limit", "again"),
        node("Cast", "k", "kf", to=F),
        node("Identity", "kf", "p"),
    ]
    inner = body(nodes, two=np.float32([2]))
    inner.output.append(helper.make_tensor_value_info("p", F, []))
    loop = node("Loop", " c x", "y rounds", body=inner)
    inputs = [("c", BOOL, []), ("x", F, ["a", "b"]), ("limit", F, [])]
    model = make([loop], inputs, [("y", F, None), ("rounds", F, None)])
    network = load(model)
    for limit, n in ((1, 1), (100, 6), (1000, 9)):
        y, k = run(network, c=np.uint8([1]), x=X, limit=np.float32([limit]))
        np.testing.assert_array_equal(y, X * 2**n)
        assert k.tolist() == list(range(n))
        y, k = run(network, c=np.uint8([0]), x=X, limit=np.float32([limit]))
        np.testing.assert_array_equal(y, X)
        assert k.shape == (0,)


def test_states_may_grow():
    inner = body([SAME, node("Concat", "s x", "s_next", axis=0)])  # x is a value outside
    model = counted(inner)
    network = load(model)
    for n in (5, 2, 20):
        check(network, [np.tile(X, (n + 1, 1))], n=n, x=X)


def test_a_body_that_depends_on_shapes_is_made_when_they_are_known():
    """Which dimensions Squeeze removes is known once the state has a shape."""
    nodes = [SAME, node("Squeeze", "s", "t"), node("Unsqueeze", "t zero", "u"), node("Add", "u s", "s_next")]
    model = counted(body([*nodes, node("Neg", "u", "p")], parts=["p"], zero=np.array([0])), 2)
    network = load(model)
    for n in (3, 1):
        for x in (X[:1], X[1:2], np.ones((1, 7), np.float32)):
            check(network, rounds(lambda k, s: (2 * s, -s), n, x), n=n, x=x)
    with (
        pytest.warns(LiteWarning, match="'p' is declared with 2 dimensions, and has 3"),
        pytest.raises(UnsupportedOperatorError, match="gives FLOAT of 3 dimensions where FLOAT of 2 is needed"),
    ):
        run(network, n=np.int32([2]), x=X)


def test_a_first_state_that_is_a_constant():
    """The first round must not be planned as if the state stayed zero."""
    nodes = [
        node("ConstantOfShape", "shape", "zeros"),
        node("Loop", "n  zeros", "y", body=body([SAME, node("Add", "s x", "s_next")])),
    ]
    model = make(nodes, [("n", I64, []), ("x", F, [3, 4])], [("y", F, None)], {"shape": np.array([3, 4])})
    network = load(model)
    for n in (1, 4, 2):
        check(network, [n * X], n=n, x=X)


def test_the_number_of_the_round_and_int64_states():
    inputs = [("k", I64, []), ("more", BOOL, []), ("total", I64, []), ("large", I64, [1])]
    outputs = [("again", BOOL, []), ("sum", I64, []), ("larger", I64, [1]), ("k", I64, [])]
    inner = graph(
        [SAME, node("Add", "total k", "sum"), node("Mul", "large ten", "larger")], inputs, outputs, ten=np.array([10])
    )
    nodes = [node("Loop", "n  zero one", "s big ks", body=inner), node("Cast", "big", "f", to=F)]
    model = make(
        nodes,
        [("n", I64, [])],
        [("s", I64, []), ("f", F, None), ("ks", I64, None)],
        {"zero": np.array(0), "one": np.array([1])},
    )
    network = load(model)
    for n in (12, 3):
        check(network, [n * (n - 1) // 2, [10.0**n], np.arange(n)], n=n)


def test_loops_and_branches_inside_of_loops():
    inner = body([SAME, node("Add", "s k_outer", "s_next")])
    inner.input[0].name, inner.input[1].name, inner.input[2].name = "k2", "more2", "s2"
    inner.node[0].input[0], inner.node[0].output[0] = "more2", "again2"
    inner.node[1].input[0], inner.node[1].output[0] = "s2", "s2_next"
    inner.output[0].name, inner.output[1].name = "again2", "s2_next"
    then = graph([node("Neg", "t", "r")], [], [("r", F, [None, None])])
    otherwise = graph([node("Relu", "t", "r")], [], [("r", F, [None, None])])
    nodes = [
        SAME,
        node("Cast", "k", "k_outer", to=F),
        node("Add", "k one", "k1"),
        node("Loop", "k1  s", "t", body=inner),
        node("ReduceSum", "t", "sum", keepdims=0),
        node("Greater", "sum limit", "large"),
        helper.make_node("If", ["large"], ["s_next"], then_branch=then, else_branch=otherwise),
    ]
    model = counted(body(nodes, one=np.array(1), limit=np.float32(20)))
    network = load(model)

    def step(k, s):
        t = s + k * (k + 1)
        return (-t if t.sum() > 20 else np.maximum(t, 0),)

    for n in (6, 1, 3):
        for x in (X, -X):
            check(network, rounds(step, n, x), n=n, x=x)


def test_a_body_that_hands_on_what_is_there():
    inputs = [("k", I64, []), ("more", BOOL, []), ("s", F, [None, None])]
    outputs = [("more", BOOL, []), ("x", F, [None, None]), ("s", F, [None, None]), ("w", F, [2])]
    model = counted(graph([], inputs, outputs, w=np.float32([1, 2])), 3)
    model.graph.node[0].input[2] = "negative"
    model.graph.node.insert(0, node("Neg", "x", "negative"))
    network = load(model)
    for n in (3, 1):
        check(network, rounds(lambda k, s: (X, s, np.float32([1, 2])), n, -X), n=n, x=X)


def scanned(inner, given, outputs, **attributes):
    """A Scan of inputs by name, states first."""
    loop = node("Scan", " ".join(given), outputs, "scan", body=inner, **attributes)
    inputs = [(k, F, [None] * np.ndim(v)) for k, v in given.items()]
    return make([loop], inputs, [(o, F, None) for o in outputs.split(" ")])


@pytest.mark.parametrize(
    "axis, backwards, out_axis, out_backwards", [(0, 0, 0, 0), (1, 0, 1, 0), (-1, 1, 0, 1), (0, 1, -1, 0)]
)
def test_scans_along_axes_in_both_directions(axis, backwards, out_axis, out_backwards):
    nodes = [node("Add", "s p", "s_next"), node("Mul", "s_next p", "q")]
    inner = graph(nodes, [("s", F, [None]), ("p", F, [None])], [("s_next", F, [None]), ("q", F, [None])])
    how = {
        "scan_input_axes": [axis],
        "scan_input_directions": [backwards],
        "scan_output_axes": [out_axis],
        "scan_output_directions": [out_backwards],
    }
    network = None
    for x in (X, X[:, :2].copy(), X[:1]):
        rows = np.moveaxis(x, axis, 0)
        s, parts = np.zeros(rows.shape[1], np.float32), []
        given = {"s0": s, "x": x}
        network = network or load(scanned(inner, given, "y q", num_scan_inputs=1, **how))
        for row in rows[::-1] if backwards else rows:
            s = s + row
            parts.append(s * row)
        y, q = run(network, **given)
        np.testing.assert_allclose(y, s, rtol=1e-6)
        np.testing.assert_allclose(q, np.stack(parts[::-1] if out_backwards else parts, out_axis), rtol=1e-6)


def test_a_scan_of_single_numbers_without_states():
    inner = graph([node("Mul", "p q", "r")], [("p", F, []), ("q", F, [])], [("r", F, [])])
    given = {"a": np.float32([1, 2, 3]), "b": np.float32([4, 5, 6])}
    network = load(scanned(inner, given, "y", num_scan_inputs=2))
    np.testing.assert_array_equal(run(network, **given)[0], [4, 10, 18])
    np.testing.assert_array_equal(run(network, a=np.float32([2]), b=np.float32([3]))[0], [6])
    with pytest.raises(ShapeError, match="'scan': its inputs have 1 and 3 parts"):
        run(network, a=np.float32([2]), b=given["b"])


def test_parts_of_other_shapes_are_refused():
    nodes = [SAME, node("Concat", "s s", "s_next", axis=0), node("Neg", "s", "p")]
    network = load(counted(body(nodes, parts=["p"]), 2))
    with pytest.raises(ShapeError, match=r"'rounds': the parts of an output have the shapes \[3, 4\] and \[6, 4\]"):
        run(network, n=np.int32([2]), x=X)


def test_loops_that_do_not_fit_together_are_refused():
    nodes = [SAME, node("Neg", "s", "s_next")]
    with pytest.raises(ModelFormatError, match="'rounds': its body has 4 inputs and 3 outputs, and needs 3 inputs"):
        load(counted(body([*nodes, node("Neg", "t", "t_next")], states=["s", "t"])))
    with pytest.raises(UnsupportedOperatorError, match=r"a state is FLOAT of 2 dimensions .* and FLOAT of 3 after"):
        load(counted(body([SAME, node("Unsqueeze", "s zero", "s_next")], zero=np.array([0]))))
    with pytest.raises(UnsupportedOperatorError, match=r"a state is FLOAT of 2 dimensions .* and BOOL of 0 after"):
        load(counted(body([SAME, node("Identity", "more", "s_next")])))
    with pytest.raises(ModelFormatError, match="'rounds': it has no body"):
        model = counted(body(nodes))
        del model.graph.node[0].attribute[0]
        load(model)
    inner = graph([node("Neg", "p", "r")], [("p", F, [None])], [("r", F, [None])])
    for how, message in (
        ({"scan_input_axes": [0, 1]}, "1 inputs to scan, 2 axes"),
        ({"scan_output_axes": [2, 3]}, "1 outputs to stack, 2 axes"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            load(scanned(inner, {"x": X}, "y", num_scan_inputs=1, **how))
    with pytest.raises(ModelFormatError, match="a scalar cannot be scanned"):
        load(scanned(inner, {"x": np.float32(1)}, "y", num_scan_inputs=1))
    missing = body([SAME, node("Nothing", "s", "s_next", "lost")])
    with pytest.raises(
        UnsupportedOperatorError,
        match=r"cannot be run: Nothing 'lost' .there is no such operator here.; register_operator",
    ):
        load(counted(missing))


def test_a_loop_that_never_ends_is_ended(monkeypatch):
    monkeypatch.setattr(repetition, "MOST_ROUNDS", 50)
    model = make(
        [node("Loop", "  x", "y", "forever", body=body([SAME, node("Neg", "s", "s_next")]))],
        [("x", F, [3, 4])],
        [("y", F, None)],
    )
    with pytest.raises(LiteError, match="'forever': it has not ended after 50 rounds"):
        run(load(model), x=X)


GOES_ON = {"the number of rounds": SAME, "a condition": node("Less", "k limit", "again")}


@pytest.mark.parametrize("decides", GOES_ON)
def test_outputs_that_are_larger_than_the_memory_are_refused(decides, monkeypatch):
    """Until they are stacked there are the parts and room for all of them, if nobody knows how many there will be."""
    nodes = [GOES_ON[decides], node("Neg", "s", "s_next"), node("Neg", "s", "p")]
    network = load(counted(body(nodes, parts=["p"], limit=np.array(100)), 2))
    run(network, n=np.int32([2]), x=X)
    monkeypatch.setattr(repetition, "memory_limit", lambda: 6 * X.nbytes)
    with pytest.raises(LiteError, match="'rounds': its outputs take more memory than there is after 4 rounds"):
        run(network, n=np.int32([9]), x=X)


@pytest.mark.parametrize("decides", GOES_ON)
def test_outputs_are_there_twice_at_most_as_the_check_says(decides, most_nodes):
    if most_nodes:
        pytest.skip("the rounds are nodes, whose memory is planned")
    nodes = [GOES_ON[decides], node("Identity", "s", "s_next"), node("Neg", "s", "p")]
    network = load(counted(body(nodes, parts=["p"], limit=np.array(100)), 2))
    x, n = np.ones((128, 128), np.float32), np.int32([60])
    run(network, n=np.int32([2]), x=x)
    network.get_io_tensor("n").set_data_by_copy(n)
    tracemalloc.start()
    network.forward()
    network.wait()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2.3 * n[0] * x.nbytes
    np.testing.assert_array_equal(network.get_io_tensor("y1").to_numpy(), np.full((60, 128, 128), -1, np.float32))


def test_commands_know_loops(tmp_path, capsys):
    inner = body([SAME, node("Mul", "s half", "s_next")], **HALF)
    file = tmp_path / "model.onnx"
    model = counted(inner)
    file.write_bytes(model.SerializeToString())
    assert main(["info", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["operators"]["OnnxLoop"] == 1
    for command in ("run", "profile"):
        assert main([command, str(file), "--input", "n:[3];x:{2,3}", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["model"] == str(file)


def test_a_network_with_a_loop_keeps_its_graph_and_counts_its_memory():
    network = load(counted(body([SAME, node("Mul", "s half", "s_next")], **HALF)))
    run(network, n=np.int32([3]), x=X)
    session = network._loaded("test").session
    before = session.memory_usage()["outputs"]
    assert before >= X.nbytes
    with pytest.raises(LiteError, match="cannot be freed"):
        session.release_graph()
    session.forget_runs()


@pytest.mark.parametrize("backwards", [0, 1])
def test_scans_of_version_8_take_each_sample_of_a_batch_by_itself(backwards):
    """The batch may change between runs."""
    nodes = [node("Add", "s part", "s_next"), node("Mul", "s_next half", "p")]
    inner = graph(nodes, [("s", F, [2]), ("part", F, [2])], [("s_next", F, [2]), ("p", F, [2])], **HALF)
    scan = node("Scan", " x z", "y parts", body=inner, num_scan_inputs=1, directions=[backwards])
    inputs = [("x", F, ["b", 2]), ("z", F, ["b", "n", 2])]
    network = load(make([scan], inputs, [("y", F, None), ("parts", F, None)], opset=8))
    rng = np.random.default_rng(0)
    for batch, length in (1, 3), (4, 5):
        x, z = (rng.standard_normal(s, dtype=np.float32) for s in [(batch, 2), (batch, length, 2)])
        y, parts = run(network, x=x, z=z)
        sums = x[:, None] + np.cumsum(z[:, ::-1] if backwards else z, 1)
        np.testing.assert_allclose(y, sums[:, -1], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(parts, sums / 2, rtol=1e-5, atol=1e-6)


def has_one_plan(network):
    try:
        network._loaded("plan").session.plan_for_inputs()
    except LiteError:
        return False
    return True


def test_a_short_scan_is_part_of_one_plan(most_nodes):
    """Of inputs with few parts; the constants that it cuts are others in each round."""
    nodes = [node("Add", "s p", "t"), node("Mul", "t w", "s_next"), node("Neg", "s_next", "q")]
    inner = graph(nodes, [(v, F, [None]) for v in "spw"], [("s_next", F, [None]), ("q", F, [None])])
    loop = node("Scan", "s0 x2 table", "last q", "scan", body=inner, num_scan_inputs=2)
    table = np.repeat(np.float32([2, 3, 5, 7] * 8), 2000).reshape(32, 2000)
    infos = [("s0", F, [2000]), ("x", F, [None, 2000])], [("y", F, None), ("q", F, None)]
    for rounds, is_short in ((4, True), (30, False)):
        model = make([node("Neg", "x", "x2"), loop, node("Neg", "last", "y")], *infos, {"table": table[:rounds]})
        network, x = load(model), RNG.standard_normal((rounds, 2000)).astype(np.float32)
        for _ in range(2):
            s, parts = np.zeros(2000, np.float32), []
            for row, weight in zip(-x, table, strict=False):
                s = (s + row) * weight
                parts.append(-s)
            y, q = run(network, s0=np.zeros(2000, np.float32), x=x)
            np.testing.assert_allclose(y, -s, rtol=1e-5)
            np.testing.assert_allclose(q, parts, rtol=1e-5)
        assert has_one_plan(network) == (is_short and most_nodes > 0)


def test_a_loop_of_a_constant_number_of_rounds_is_part_of_one_plan(most_nodes):
    nodes = [SAME, node("Cast", "k", "f", to=F), node("Add", "s f", "s_next"), node("Mul", "s_next f", "p")]
    loop = node("Loop", "n yes x", "y q", "rounds", body=body(nodes, parts=["p"]))
    model = make(
        [loop], [("x", F, [None] * 2)], [("y", F, None), ("q", F, None)], {"n": np.int64(5), "yes": np.array(True)}
    )
    network = load(model)
    wanted = rounds(lambda k, s: (s + k, (s + k) * k), 5, X)
    for ours, theirs in zip(run(network, x=X), wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert has_one_plan(network) == (most_nodes > 0)


def test_a_stage_gets_so_many_nodes_of_loops_and_not_more(most_nodes, monkeypatch):
    inner = graph([node("Add", "s p", "s_next"), node("Neg", "s_next", "q")], [("s", F, [None]), ("p", F, [None])],
                  [("s_next", F, [None]), ("q", F, [None])])  # fmt: skip
    nodes = [node("Scan", f"s0 {a}", f"{b}_last {b}", b, body=inner, num_scan_inputs=1) for a, b in ("xa", "ab", "by")]
    model = make(nodes, [("s0", F, [4]), ("x", F, [None, 4])], [("y", F, None)])
    for most, has_one in ((1000, True), (30, False)):
        monkeypatch.setattr(infer, "MOST_OF_STAGE", most)
        network, wanted = load(model), X
        for _ in range(3):
            wanted = -np.cumsum(wanted, 0)
        np.testing.assert_allclose(run(network, s0=np.zeros(4, np.float32), x=X)[0], wanted, rtol=1e-6)
        assert has_one_plan(network) == (has_one and most_nodes > 0)


SHAPES_FROM = {
    "constants": [],
    "data": [node("Shape", "x", "s0")],
    "scan": [],
}


@pytest.mark.parametrize("rounds", [0, 3])
@pytest.mark.parametrize("name", SHAPES_FROM)
def test_a_loop_may_give_a_shape(name, rounds):
    """How many numbers it has follows from the first one, which every round leaves as long as it is."""
    step = [node("Add", "s step", "next"), node("Identity", "go", "goes")]
    states = [("k", I64, []), ("go", BOOL, []), ("s", I64, None)]
    inner = graph(step, states, [("goes", BOOL, []), ("next", I64, None)], step=np.array([1, 0]))
    loop = node("Loop", "rounds  s0", "s", body=inner)
    if name == "scan":
        inner = graph(
            [node("Add", "s step", "next")],
            [("s", I64, None), ("part", I64, None)],
            [("next", I64, None)],
            step=np.array([1, 0]),
        )
        loop = node("Scan", "s0 parts", "s", body=inner, num_scan_inputs=1)
    nodes = [
        *SHAPES_FROM[name],
        loop,
        node("Expand", "one s", "e"),
        node("ReduceSum", "e", "n"),
        node("Mul", "x n", "y"),
    ]
    constants = {
        "one": np.float32([[1]]),
        "rounds": np.array(rounds),
        "s0": np.array([1, 4]),
        "parts": np.zeros((rounds, 2), np.int64),
    }
    read = {i for n in nodes for i in n.input}
    used = {k: v for k, v in constants.items() if k in read and not (k == "s0" and name == "data")}
    network = load(make(nodes, [("x", F, ["n", 4])], [("y", F, None)], used))
    for x in (X, X[:2]):
        begin = len(x) if name == "data" else 1
        (y,) = run(network, x=x)
        np.testing.assert_allclose(y, x[None].reshape(y.shape) * 4 * (begin + rounds), rtol=1e-6)


def test_a_state_that_grows_has_no_known_length():
    inner = graph(
        [node("Concat", "s k1", "next", axis=0), node("Identity", "go", "goes")],
        [("k", I64, []), ("go", BOOL, []), ("s", I64, None)],
        [("goes", BOOL, []), ("next", I64, None)],
        k1=np.array([4]),
    )
    nodes = [node("Loop", "two  s0", "s", body=inner), node("Cast", "s", "f", to=F), node("ReduceSum", "f", "y")]
    constants = {"two": np.array(2), "s0": np.array([3])}
    assert (
        run(load(make(nodes, [("x", F, [1])], [("y", F, None)], constants)), x=np.zeros(1, np.float32))[0].item() == 11
    )
    nodes[1:] = [node("Expand", "one s", "e"), node("ReduceSum", "e", "y")]
    with pytest.raises(UnsupportedOperatorError, match="the number of dimensions of its result is not known"):
        load(make(nodes, [("x", F, [1])], [("y", F, None)], {**constants, "one": np.float32([1])}))


def test_nested_loops_are_read_in_no_more_than_a_few_turns():
    """Each is converted again to see which lengths it keeps, but not for those around it."""
    inner = None
    for depth in range(12):
        step = [node("Add", "s step", "t")] if inner is None else [node("Loop", "two  s", "t", body=inner)]
        step += [node("Identity", "t", "next"), node("Identity", "go", "goes")]
        states = [("k", I64, []), ("go", BOOL, []), ("s", I64, None)]
        inner = graph(
            step,
            states,
            [("goes", BOOL, []), ("next", I64, None)],
            step=np.array([1, 0]),
            two=np.array(depth < 2, np.int64),
        )
    nodes = [node("Loop", "zero  s0", "s", body=inner), node("Cast", "s", "y", to=F)]
    constants = {"zero": np.array(0), "s0": np.array([1, 4])}
    assert run(load(make(nodes, [("x", F, [1])], [("y", F, None)], constants)), x=np.zeros(1, np.float32))[
        0
    ].tolist() == [1, 4]


def growing(op, count):
    """A loop whose state is joined with itself, or with a row, in each round."""
    nodes = [node("Identity", "c", "d"), node("Concat", "p p" if op == "doubled" else "p r", "q", axis=0)]
    grows = graph(nodes, [("i", I64, []), ("c", BOOL, []), ("p", F, ["k"])], [("d", BOOL, []), ("q", F, ["m"])])
    inputs = [("x", F, ["m"]), ("r", F, ["r"]), ("n", I64, [])]
    network = load(make([node("Loop", "n  x", "y", body=grows)], inputs, [("y", F, None)]))
    return run(network, x=np.ones(1, np.float32), r=np.ones(1 << 10, np.float32), n=np.int32(count).reshape(1))[0]


@pytest.mark.parametrize(("op", "fits", "too_many"), [("doubled", 10, 60), ("longer", 20, 10**6)])
def test_states_that_grow_beyond_the_memory_are_refused_soon(monkeypatch, op, fits, too_many):
    monkeypatch.setattr(repetition, "memory_limit", lambda: 1 << 21)
    expected = 2**fits if op == "doubled" else 1 + fits * 1024
    np.testing.assert_array_equal(growing(op, fits), np.ones(expected, np.float32))
    with pytest.raises(LiteMemoryError, match=r"OnnxLoop 'y': its states have grown to .* give it fewer rounds"):
        growing(op, too_many)
