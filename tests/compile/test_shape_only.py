"""Outputs whose layout alone is wanted: what only they need is not computed."""

import json

import numpy as np
import pytest
from support.api_samples import API_MODELS, DIGITS, IMAGES, PROB, close, config, loaded, run
from support.graphs import GraphBuilder, session_of
from support.graphs import run as run_session

from megengine_lite import LiteIO, LiteIOType, LiteLayout, LiteNetwork, LiteNetworkIO
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import CondTake, CondTakeMode, Elemwise, ElemwiseMode, OptionalAxisV1
from megengine_lite._core.runtime.session import Session
from megengine_lite.errors import LiteWarning

MULTI_IO = API_MODELS / "multi_io.mge"
COND_TAKE = API_MODELS / "cond_take.mge"
RELU, ADD = Elemwise(mode=ElemwiseMode.RELU), Elemwise(mode=ElemwiseMode.ADD)


def shapes(*names, **fields) -> LiteNetworkIO:
    return LiteNetworkIO(outputs=[LiteIO(name, io_type=LiteIOType.LITE_IO_SHAPE, **fields) for name in names])


def steps(session: Session) -> int:
    """How many steps all plans of a session have."""
    return sum(len(plan.steps) for plan in session.plans())


def is_only_shape(session, name, shape):
    """Whether an output has a shape and no memory."""
    value = session.output(name)
    return value.shape == shape and value.storage.nbytes == 0


def shape_session(graph, *names) -> Session:
    return Session(session_of(graph).model, shape_only=frozenset(names))


# ---- networks -----------------------------------------------------------------------------------------------------


def test_shape_only_output_has_its_layout_before_and_after_forward():
    network = loaded(io=shapes("prob"))
    prob = network.get_io_tensor("prob")
    assert prob.layout == LiteLayout([360, 10], "float32")
    for n in (5, 5, 2):
        result = run(network, IMAGES[:n])
        assert result.shape == (n, 10) and not result.any()
        assert prob.layout == LiteLayout([n, 10], "float32")
    assert steps(network._engine.session) == 0


def test_shape_only_output_leaves_the_others_as_they_are():
    data = np.load(API_MODELS / "multi_io.npz")
    whole, part = loaded(MULTI_IO), loaded(MULTI_IO, io=shapes("logits", "winner"))
    for network in (whole, part):
        for name in network.get_all_input_name():
            network.get_io_tensor(name).set_data_by_share(data[f"in_{name}"])
        network.forward()
        network.wait()
    assert close(part.get_io_tensor("features").to_numpy(), data["out_1"])
    for k, name in ((0, "logits"), (2, "winner")):
        result = part.get_io_tensor(name).to_numpy()
        assert result.shape == data[f"out_{k}"].shape and result.dtype == data[f"out_{k}"].dtype and not result.any()
    assert 0 < steps(part._engine.session) < steps(whole._engine.session)


def test_shape_only_output_is_missing_in_profiles(tmp_path):
    def operators(io) -> set[str]:
        network = loaded(MULTI_IO, io=io)
        network.enable_profile_performance(tmp_path / "profile.json")
        network.forward()
        network.wait()
        content = json.loads((tmp_path / "profile.json").read_text())
        return set(content["graph_exec"]["comp_seq"])

    assert len(operators(shapes("logits", "winner"))) < len(operators(None))


def test_shape_only_output_whose_shape_depends_on_data_is_computed_and_hidden():
    network = loaded(
        API_MODELS / "cond_take.mge", io=shapes(*loaded(API_MODELS / "cond_take.mge").get_all_output_name())
    )
    data = np.load(API_MODELS / "cond_take.npz")
    for name in ("x", "m"):
        network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
    network.forward()
    network.wait()
    for k, name in enumerate(network.get_all_output_name()):
        result = network.get_io_tensor(name).to_numpy()
        assert result.shape == data[f"out_{k}"].shape and not result.any()


def test_shape_only_output_needs_no_memory_of_the_caller():
    network = loaded(io=shapes("prob"), config=config(force_output_use_user_specified_memory=1))
    assert run(network, IMAGES[:3]).shape == (3, 10)
    # shape depends on data, which the option allows for no other output
    names = loaded(COND_TAKE).get_all_output_name()
    loaded(COND_TAKE, config(force_output_use_user_specified_memory=1), shapes(*names)).forward()


def test_shape_only_output_layout_is_checked():
    network = loaded(io=shapes("prob", layout=[2, 10]))
    assert network.get_io_tensor("prob").layout.shapes == [360, 10]
    with pytest.warns(LiteWarning, match=r"\[360, 10\].*\[2, 10\]"):
        network.forward()
    assert run(network, IMAGES[:2]).shape == (2, 10)


@pytest.mark.parametrize("options", [{}, {"force_output_dynamic_alloc": 1}, {"fake_next_exec": 1}])
def test_shape_only_output_in_other_modes(options):
    network = loaded(io=shapes("prob"), config=config(**options))
    calls = []
    network.set_finish_callback(lambda ios: calls.append(ios["prob"].layout.shapes))
    for n in (4, 4):
        assert not run(network, IMAGES[:n]).any()
    network.async_with_callback(lambda: None)
    assert run(network, IMAGES[:6]).shape == (6, 10)
    assert calls == [[4, 10], [4, 10], [6, 10]]


def test_shape_only_output_after_its_graph_is_freed():
    options = config(comp_node_seq_record_level=2, var_sanity_check_first_run=0)
    network = loaded(MULTI_IO, options, shapes("winner"))
    for _ in range(3):
        network.forward()
        network.wait()
        assert network.get_io_tensor("winner").layout == LiteLayout([2], "int32")
        assert network.get_io_tensor("logits").to_numpy().any()


def test_shape_only_input_has_no_effect():
    network = loaded(io=LiteNetworkIO([LiteIO("data", io_type=LiteIOType.LITE_IO_SHAPE)]))
    assert close(run(network), PROB)


def test_shape_only_output_by_sharing_weights():
    source = loaded(DIGITS)
    twin = LiteNetwork(io=shapes("prob"))
    twin.share_weights_with(source)
    assert not run(twin, IMAGES[:4]).any()
    assert close(run(source, IMAGES[:4]), PROB[:4])


# ---- sessions -----------------------------------------------------------------------------------------------------


def test_session_computes_what_another_output_needs():
    b = GraphBuilder()
    x = b.input("x", (2, 3))
    y = b.node("Elemwise", RELU, [x])
    z = b.node("Elemwise", ADD, [y, y])
    graph = b.finish(y, z)
    session = shape_session(graph, y.name)
    x = np.float32([[1, -1, 2], [3, -3, 4]])
    session.set_array("x", x)
    session.run()
    assert is_only_shape(session, y.name, (2, 3))
    assert session.output(z.name).array().tolist() == (2 * np.maximum(x, 0)).tolist()
    whole = session_of(graph)
    run_session(whole, x=x)
    assert session.memory_usage()["outputs"] < whole.memory_usage()["outputs"]


def test_session_computes_a_variable_that_has_another_name_too():
    b = GraphBuilder()
    y = b.node("Elemwise", RELU, [b.input("x", (3,))])
    graph = b.finish(y, y)
    graph.output_names = ["first", "second"]
    session = shape_session(graph, "first")
    x = np.float32([-1, 0, 2])
    for got in run_session(session, x=x):
        np.testing.assert_array_equal(got, [0, 0, 2])


def test_session_computes_what_a_later_stage_reads():
    b = GraphBuilder()
    x = b.input("x", (8,))
    doubled = b.node("Elemwise", ADD, [x, x])
    taken, positions = b.node("CondTake", CondTake(mode=CondTakeMode.GT, val=0.0), [doubled, x], outputs=2)
    late = b.node("Elemwise", ADD, [taken, taken])
    dead = b.node("Elemwise", RELU, [late])
    session = shape_session(b.finish(doubled, positions, late, dead), doubled.name, dead.name)
    for x in (np.float32([-1, 1, 2, -3, 0, 5, 6, -7]), np.float32([3, 1, 2, 3, 0, 5, 6, 7])):
        session.set_array("x", x)
        times = session.run_profiled()
        count = int((x > 0).sum())
        assert session.output(doubled.name).shape == (8,)
        assert is_only_shape(session, dead.name, (count,))
        assert session.output(late.name).array().tolist() == (4 * x[x > 0]).tolist()
        # ``doubled`` for CondTake, and ``late``
        assert len([t for t in times if "Elemwise" in t.origin.op]) == 2


def test_session_shape_that_depends_on_a_value_is_told_without_running():
    b = GraphBuilder()
    x, target = b.input("x", (2, 6)), b.input("target", (2,), INT32)
    out = b.node("Reshape", OptionalAxisV1(), [b.node("Elemwise", ADD, [x, x]), target])
    session = shape_session(b.finish(out), out.name)
    x = np.zeros((2, 6), np.float32)
    session.set_array("x", x)
    for shape in [(3, 4), (12, 1)]:
        wanted = np.int32(shape)
        session.set_array("target", wanted)
        session.run()
        assert is_only_shape(session, out.name, shape)
    assert steps(session) == 0


def test_session_inputs_and_constants_among_shape_only_outputs():
    b = GraphBuilder()
    x, c = b.input("x", (3,)), b.constant(np.float32([4, 5]))
    c.name = "c"
    session = shape_session(b.finish(x, c), "x", "c")
    x = np.float32([1, 2, 3])
    session.set_array("x", x)
    session.run()
    assert (session.output("x").shape, session.output("c").shape) == ((3,), (2,))
    assert steps(session) == 0 and session.memory_usage()["outputs"] == 0
