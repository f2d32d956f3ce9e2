"""What options ask for and get: planning at load, fusion by level, asynchronous levels, and what the log says."""

import logging
import warnings

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, config, loaded, run
from support.graphs import GraphBuilder, session_of
from support.graphs import run as run_session

from megengine_lite import LiteConfig, LiteIO, LiteLayout, LiteNetwork, LiteNetworkIO
from megengine_lite._core.cpu import planner
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite.errors import LiteTypeError, LiteWarning, ShapeError
from megengine_lite.log import logger


@pytest.fixture
def info(caplog):
    """The log's lines, from level INFO on."""
    logger.setLevel(logging.INFO)
    yield lambda: [r.getMessage() for r in caplog.records]
    logger.setLevel(logging.ERROR)


@pytest.fixture
def plans(monkeypatch):
    """The input shapes of all plans as they are made."""
    made = []
    build = planner.build_plan

    def counted(stage, *rest):
        made.append([v.shape for v in stage.graph.inputs])
        return build(stage, *rest)

    monkeypatch.setattr(planner, "build_plan", counted)
    return made


def addresses(network) -> set[int]:
    """Where the weights of a network are, except for small values."""
    constants = [s for p in network._engine.session.plans() for s in p.constants()]
    return {s.address for s in constants if s.nbytes > 1000}


def with_auto_optimization() -> LiteConfig:
    made = LiteConfig()
    made.auto_optimize_inference = 1
    return made


# ---- weight_preprocess ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [config(weight_preprocess=1), with_auto_optimization()], ids=["option", "auto"])
def test_weights_are_packed_at_load(made, plans):
    network = loaded(config=made)
    assert plans == [[(360, 1, 8, 8)]]
    packed = network.memory_usage["weights"]
    assert packed > 10_000 and network.memory_usage["arena"] == 0
    where = addresses(network)
    assert close(run(network), PROB)
    assert len(plans) == 1 and network.memory_usage["weights"] == packed
    assert addresses(network) == where


def test_weights_are_packed_by_the_first_forward_otherwise(plans):
    network = loaded()
    assert plans == [] and network.memory_usage["weights"] == 0
    assert close(run(network), PROB)
    assert len(plans) == 1 and network.memory_usage["weights"] > 10_000


def test_weights_are_packed_for_the_shape_of_the_io(plans):
    network = loaded(config=config(weight_preprocess=1), io=LiteNetworkIO([LiteIO("data", layout=[2, 1, 8, 8])]))
    assert plans == [[(2, 1, 8, 8)]]
    assert close(run(network, IMAGES[:2]), PROB[:2])
    assert len(plans) == 1
    assert close(run(network, IMAGES[:3]), PROB[:3])
    assert len(plans) == 2


def test_weights_are_packed_when_they_are_shared(plans):
    source = loaded(config=config(weight_preprocess=1))
    twin = LiteNetwork(config(weight_preprocess=1))
    twin.share_weights_with(source)
    assert len(plans) == 2
    assert addresses(source) == addresses(twin)
    assert close(run(twin), PROB) and len(plans) == 2


def test_weights_are_packed_again_for_another_policy(plans):
    network = loaded(config=config(weight_preprocess=1))
    CACHE.clear()
    try:
        network.set_network_algo_policy(2)
        assert len(plans) == 2
        assert CACHE._categories
    finally:
        CACHE.clear()
    assert close(run(network), PROB) and len(plans) == 2


def test_weights_that_cannot_be_packed_at_load_wait_for_data(plans, info):
    ios = LiteNetworkIO([LiteIO("a", layout=[4, 5])])  # does not go with b
    network = loaded(ADD, config(weight_preprocess=1), ios)
    assert plans == []
    assert any("weight_preprocess" in line and "4, 5" in line for line in info())
    with pytest.raises(ShapeError):
        network.forward()
    network.get_io_tensor("a").layout = [2, 3]
    assert add(network, 1, 2).max() == 3


def test_weights_of_a_model_with_several_stages_are_packed_up_to_the_data(plans):
    network = loaded(API_MODELS / "cond_take.mge", config(weight_preprocess=1))
    assert len(plans) == 1
    data = np.load(API_MODELS / "cond_take.npz")
    for name in ("x", "m"):
        network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
    network.forward()
    assert network.get_io_tensor(network.get_output_name(0)).to_numpy().tolist() == data["out_0"].tolist()


def test_weights_packed_at_load_leave_the_first_shape_free():
    network = loaded(config=config(weight_preprocess=1, const_shape=1))
    assert close(run(network, IMAGES[:2]), PROB[:2])
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    with pytest.raises(ShapeError, match="const_shape"):
        network.forward()
    fixed = loaded(config=config(weight_preprocess=1, const_shape=1))
    fixed.forward()  # the shape of the model
    fixed.get_io_tensor("data").set_data_by_copy(IMAGES[:2])
    with pytest.raises(ShapeError, match="const_shape"):
        fixed.forward()


# ---- fusion ---------------------------------------------------------------------------------------------------------


def chain():
    """``relu(x + x) * x`` as three operators."""
    b = GraphBuilder()
    x = b.input("x", (4, 5))
    y = b.node("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, x])
    z = b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [y])
    return b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.MUL), [z, x]))


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        ({"graph_opt_level": 0}, 3),
        ({"graph_opt_level": 0, "jit_level": 1}, 1),
        ({"graph_opt_level": 0, "jit_level": 2}, 1),
        ({"graph_opt_level": 0, "jit_level": -1}, 1),
        ({"graph_opt_level": 0, "fuse_preprocess": 1}, 1),
        ({"graph_opt_level": 1}, 1),
        ({"graph_opt_level": 2, "jit_level": 1}, 1),
        ({"graph_opt_level": 3}, 1),
        ({"graph_opt_level": -1}, 1),
    ],
)
def test_levels_decide_what_is_fused(options, steps):
    made = loaded(ADD, config(**options))._engine.session.config
    session = session_of(chain(), fuse=made.fuse, fuse_elemwise=made.fuse_elemwise)
    x = np.random.default_rng(1).standard_normal((4, 5), np.float32)
    np.testing.assert_allclose(run_session(session, x=x)[0], np.maximum(2 * x, 0) * x, rtol=1e-6)
    assert [len(p.steps) for p in session.plans()] == [steps]


# ---- asynchronous levels --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("level", "deferred"), [(0, False), (1, False), (2, False), (4, True), (5, True), (-1, True)])
def test_async_exec_level_of_a_network_that_is_not_worth_deferring(level, deferred):
    network = loaded(ADD, config(async_exec_level=level))
    for value in (1, 2, 3):
        assert add(network, value, 1).max() == value + 1
    network._engine._seconds = 1e-6  # however busy the machine was
    network.forward()
    network.wait()
    assert (network._engine._job is not None) == deferred


def test_async_exec_level_that_always_defers_tells_of_shapes_at_once():
    network = loaded(ADD, config(async_exec_level=4))
    network.get_io_tensor("a").set_data_by_copy(np.zeros((4, 5), "float32"))
    with pytest.raises(ShapeError):
        network.forward()
    network.get_io_tensor("a").layout = [2, 3]
    assert add(network, 1, 2).max() == 3


@pytest.mark.parametrize("options", [{"force_output_dynamic_alloc": 1}, {"force_output_use_user_specified_memory": 1}])
def test_async_exec_level_that_always_defers_with_memory_of_other_kinds(options):
    network = loaded(config=config(async_exec_level=4, **options))
    for images, expected in ((IMAGES, PROB), (IMAGES[:3], PROB[:3]), (IMAGES, PROB)):
        network.get_io_tensor("prob").set_data_by_share(np.zeros(expected.shape, "float32"))
        assert close(run(network, images), expected)


def test_async_exec_level_yields_to_inplace_mode(info):
    network = LiteNetwork(config(async_exec_level=4))
    network.enable_cpu_inplace_mode()
    network.load(ADD)
    assert add(network, 1, 2).max() == 3 and network._engine._job is None
    assert any("async_exec_level 4" in line and "inplace" in line for line in info())


# ---- output memory --------------------------------------------------------------------------------------------------


def test_output_dynamic_alloc_hands_out_memory_without_a_copy():
    network = loaded(ADD, config(force_output_dynamic_alloc=1))
    views = []
    for value in range(4):
        add(network, value, value)
        output = network.get_io_tensor("sum")
        session_address = network._engine.session.output("sum").storage.address
        assert output.get_ctypes_memory().value == session_address
        views.append(output.get_data_by_share())
    assert len({v.ctypes.data for v in views}) == 4
    assert [v.max() for v in views] == [0, 2, 4, 6]


def test_output_dynamic_alloc_shows_other_shapes_in_held_handles():
    network = loaded(config=config(force_output_dynamic_alloc=1))
    held = network.get_io_tensor("prob")
    for n in (5, 2, 360, 0, 3):
        run(network, IMAGES[:n])
        assert (
            held.layout.shapes == [n, 10] and close(held.to_numpy(), PROB[:n]) if n else held.layout.shapes == [0, 10]
        )


def test_output_dynamic_alloc_of_shapes_that_depend_on_data():
    network = loaded(API_MODELS / "cond_take.mge", config(force_output_dynamic_alloc=1))
    data = np.load(API_MODELS / "cond_take.npz")
    views = []
    for _ in range(3):
        for name in ("x", "m"):
            network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
        network.forward()
        network.wait()
        views.append(network.get_io_tensor(network.get_output_name(0)).get_data_by_share())
    assert all(v.tolist() == data["out_0"].tolist() for v in views)
    assert len({v.ctypes.data for v in views}) == 3


# ---- what the log says ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"fuse_preprocess": 1}, ["fuse_preprocess", "graph_opt_level 2"]),
        ({"fuse_preprocess": 1, "graph_opt_level": 0}, ["fuse_preprocess", "graph_opt_level is 0"]),
        ({"jit_level": 1}, ["jit_level 1", "elementwise"]),
        ({"jit_level": 2}, ["jit_level 2", "reductions"]),
        ({"jit_level": -1}, ["jit_level -1", "highest"]),
        ({"graph_opt_level": 1}, ["graph_opt_level 1", "level 2"]),
        ({"graph_opt_level": 3}, ["graph_opt_level 3", "level 2"]),
        ({"graph_opt_level": -1}, ["graph_opt_level -1", "level 2"]),
        ({"comp_node_seq_record_level": 1}, ["comp_node_seq_record_level 1", "record"]),
        ({"enable_nchw44": 1}, ["enable_nchw44", "blocks of"]),
        ({"enable_nchw44_dot": 1}, ["enable_nchw44_dot", "blocks of"]),
        ({"enable_nchw88": 1}, ["enable_nchw88", "blocks of"]),
        ({"weight_preprocess": 1}, ["weight_preprocess", "bytes of weights"]),
    ],
    ids=str,
)
def test_option_that_is_met_in_another_way_is_logged_once(options, words, info):
    network = loaded(config=config(**options))
    found = [line for line in info() if words[0] in line and all(w in line for w in words)]
    assert len(found) == 1
    assert close(run(network), PROB)
    assert len([line for line in info() if line == found[0]]) == 1


def test_default_options_need_no_words(info):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded()
    assert info() == []


@pytest.mark.parametrize(("name", "channels"), [("enable_nchw44", 4), ("enable_nchw88", 8)])
def test_layout_that_is_asked_for_is_compared_with_what_the_kernels_take(name, channels, info):
    loaded(config=config(**{name: 1}))
    (line,) = info()
    width = kernel_set().width
    assert f"blocks of {width} channels" in line
    assert line.endswith({1: ", wider", 0: "layout", -1: ", narrower"}[(width > channels) - (width < channels)])


def test_auto_optimization_and_device_memory_are_logged(info):
    loaded(config=with_auto_optimization(), io=LiteNetworkIO([LiteIO("data", is_host=False)]))
    lines = info()
    assert sum("auto_optimize_inference" in line for line in lines) == 1
    assert sum("'data'" in line and "is_host" in line for line in lines) == 1


def test_discrete_input_that_is_none_is_logged(info):
    made = LiteConfig()
    made.discrete_input_name = "none"
    network = loaded(config=made)
    assert [line for line in info() if "'none'" in line and "discrete_input_name" in line]
    assert close(run(network), PROB)


def test_policy_after_load_is_logged(info):
    network = LiteNetwork()
    network.set_network_algo_policy(1)
    network.load(DIGITS)
    assert info() == []
    network.set_network_algo_policy(5)
    assert ["policy" in line for line in info()] == [True]


def test_debug_lines_name_operators_and_kernels(caplog):
    logger.setLevel(logging.DEBUG)
    try:
        network = loaded()
        run(network, IMAGES[:2])
    finally:
        logger.setLevel(logging.ERROR)
    lines = [r.getMessage() for r in caplog.records if r.levelno == logging.DEBUG]
    steps = [s for p in network._engine.session.plans() for s in p.steps]
    assert len(lines) == len(steps)
    for line, step in zip(lines, steps, strict=True):
        assert line.endswith(f" by {step.kernel.name}") and step.origin.op in line


# ---- warnings -------------------------------------------------------------------------------------------------------


def test_warnings_point_at_the_line_of_the_program():
    made = config(enable_nchw4=1)
    made.use_loader_dynamic_param = 1
    source = loaded()
    for load in (lambda n: n.load(DIGITS), lambda n: n.share_weights_with(source)):
        with pytest.warns(LiteWarning) as caught:
            load(LiteNetwork(made))
        assert [w.filename for w in caught] == [__file__] * 2
        assert sorted(str(w.message).split()[0] for w in caught) == ["enable_nchw4", "use_loader_dynamic_param"]
    with pytest.warns(LiteWarning) as caught:
        LiteNetwork().use_tensorrt()
    assert caught[0].filename == __file__


# ---- LiteNetworkIO --------------------------------------------------------------------------------------------------


def test_io_lists_take_what_the_constructor_takes():
    ios = LiteNetworkIO()
    ios.inputs.append(("data", True, 0, [2, 1, 8, 8]))
    ios.outputs.append("prob")
    assert loaded(io=ios).get_io_tensor("data").layout.shapes == [2, 1, 8, 8]
    ios.inputs.append(3)
    with pytest.raises(LiteTypeError, match="LiteIO"):
        loaded(io=ios)


def test_io_type_without_a_shape_is_checked():
    with pytest.raises(LiteTypeError, match="'data'"):
        loaded(io=LiteNetworkIO([LiteIO("data", layout=LiteLayout(dtype="int8"))]))
    assert close(run(loaded(io=LiteNetworkIO([LiteIO("data", layout=LiteLayout(dtype="float32"))]))), PROB)
    network = loaded(io=LiteNetworkIO(outputs=[LiteIO("prob", layout=LiteLayout(dtype="int8"))]))
    with pytest.warns(LiteWarning, match="any shape of int8"):
        network.forward()
