"""LiteNetwork: options, algorithms, sharing, discrete inputs."""

import gc

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, config, loaded, run

from megengine_lite import (
    LiteAlgoSelectStrategy,
    LiteConfig,
    LiteIO,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    LiteTensorPhase,
)
from megengine_lite.errors import (
    LiteArgumentError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    LiteValueError,
    LiteWarning,
    ShapeError,
)

# ---- options ------------------------------------------------------------------------------------------------------

HARMLESS = [
    {"weight_preprocess": 1},
    {"fuse_preprocess": 1},
    {"force_dynamic_alloc": 1},
    {"no_profiling_on_shape_change": 1},
    {"async_exec_level": 0},
    {"async_exec_level": 4},
    {"var_sanity_check_first_run": 0},
    {"const_shape": 1},
    {"jit_level": 2},
    {"graph_opt_level": 0},
    {"graph_opt_level": 1},
    {"graph_opt_level": 3},
    {"graph_opt_level": -1},
    {"jit_level": -1},
    {"jit_level": 100},
    {"async_exec_level": -1},
    {"async_exec_level": 100},
    {"comp_node_seq_record_level": 1},
    {"comp_node_seq_record_level": 2, "var_sanity_check_first_run": 0},
    {"enable_nchw44": 1},
    {"enable_nchw44_dot": 1},
    {"enable_nchw88": 1},
    {"force_output_dynamic_alloc": 1},
]


@pytest.mark.parametrize("options", HARMLESS, ids=lambda o: "-".join(f"{k}={v}" for k, v in o.items()))
def test_option_keeps_results(options):
    network = loaded(config=config(**options))
    assert close(run(network), PROB)
    assert close(run(network), PROB)


@pytest.mark.parametrize("name", ["enable_nhwcd4", "enable_nchw4", "enable_nchw32", "enable_nchw64"])
def test_layout_of_other_devices_warns(name):
    with pytest.warns(LiteWarning, match=name):
        network = loaded(config=config(**{name: 1}))
    assert close(run(network), PROB)


@pytest.mark.parametrize(
    "options",
    [
        {"force_output_dynamic_alloc": 1, "force_output_use_user_specified_memory": 1},
        {"comp_node_seq_record_level": 2},
        {"comp_node_seq_record_level": 2, "var_sanity_check_first_run": 0, "fake_next_exec": 1},
        {"comp_node_seq_record_level": 3},
        {"comp_node_seq_record_level": -1},
    ],
)
def test_options_that_exclude_each_other(options):
    with pytest.raises(LiteValueError):
        loaded(config=config(**options))


def test_dynamic_alloc_keeps_no_memory_between_runs():
    network = loaded(config=config(force_dynamic_alloc=1))
    assert close(run(network), PROB)
    assert network.memory_usage["arena"] == 0


def test_fake_next_exec():
    network = loaded(config=config(fake_next_exec=1))
    fake = run(network, IMAGES[:2])
    assert fake.shape[1] == 10 and fake.max() == 0
    assert close(run(network, IMAGES[:2]), PROB[:2])


@pytest.mark.parametrize(
    "options", [{"const_shape": 1}, {"comp_node_seq_record_level": 2, "var_sanity_check_first_run": 0}]
)
def test_fixed_shape(options):
    network = loaded(config=config(**options))
    network.get_io_tensor("data").set_data_by_share(IMAGES[:2].copy())
    network.forward()
    network.wait()
    network.get_io_tensor("data").set_data_by_share(IMAGES[2:4].copy())
    network.forward()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB[2:4])
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:3])
    for _ in range(2):
        with pytest.raises(ShapeError, match="'data'"):
            network.forward()
    assert close(run(network, IMAGES[:2]), PROB[:2])


def test_output_dynamic_alloc_keeps_each_result():
    network = loaded(ADD, config(force_output_dynamic_alloc=1))
    views = []
    for value in range(5):
        add(network, value, value)
        views.append(network.get_io_tensor("sum").get_data_by_share())
    gc.collect()
    assert [v.max() for v in views] == [0, 2, 4, 6, 8]


def test_user_memory_gets_the_result_itself():
    network = loaded(config=config(force_output_use_user_specified_memory=1))
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:4])
    prob = network.get_io_tensor("prob")
    for _ in range(2):
        target = np.zeros((4, 10), "float32")
        prob.set_data_by_share(target)
        network.forward()
        network.wait()
        assert close(target, PROB[:4])
        assert prob.get_ctypes_memory().value == target.ctypes.data
    # the array that only the tensor knows
    prob.set_data_by_share(np.zeros((4, 10), "float32"))
    gc.collect()
    network.forward()
    network.wait()
    assert close(prob.to_numpy(), PROB[:4])


def test_user_memory_is_required_and_must_fit():
    network = loaded(config=config(force_output_use_user_specified_memory=1))
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:4])
    with pytest.raises(LiteError, match="set_data_by_share"):
        network.forward()
    for shape in ((3, 10), (5, 10)):
        network.get_io_tensor("prob").set_data_by_share(np.zeros(shape, "float32"))
        with pytest.raises(ShapeError, match=r"\(?4, 10"):
            network.forward()
    frozen = np.zeros((4, 10), "float32")
    frozen.flags.writeable = False
    network.get_io_tensor("prob").set_data_by_share(frozen)
    with pytest.raises(LiteArgumentError):
        network.forward()
    network.get_io_tensor("prob").set_data_by_share(np.zeros((4, 10), "float32"))
    network.forward()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB[:4])


def test_user_memory_needs_shapes_that_are_known():
    with pytest.raises(ShapeError, match="CondTake"):
        loaded(API_MODELS / "cond_take.mge", config(force_output_use_user_specified_memory=1))


# ---- algorithms ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [0, 1, 2, 3, 6, 10, 15])
def test_algo_policy(policy):
    network = loaded()
    network.set_network_algo_policy(policy, shared_batch_size=2, binary_equal_between_batch=bool(policy & 4))
    network.set_network_algo_workspace_limit(1 << 30)
    assert close(run(network), PROB)


def test_algo_policy_before_load():
    network = LiteNetwork()
    strategy = LiteAlgoSelectStrategy
    network.set_network_algo_policy(strategy.LITE_ALGO_PROFILE | strategy.LITE_ALGO_REPRODUCIBLE)
    network.load(DIGITS)
    assert close(run(network), PROB)


def test_algo_policy_that_cannot_be():
    network = loaded()
    for policy in (16, 255, -1):
        with pytest.raises(LiteValueError):
            network.set_network_algo_policy(policy)
    with pytest.raises(LiteTypeError):
        network.set_network_algo_policy("1")
    with pytest.raises(LiteValueError):
        network.set_network_algo_workspace_limit(-1)
    network.forward()
    with pytest.raises(LiteError, match="first forward"):
        network.set_network_algo_policy(1)


def test_workspace_limit_of_zero():
    network = loaded()
    assert close(run(network), PROB)
    network.set_network_algo_workspace_limit(0)
    assert close(run(network), PROB)


# ---- sharing ------------------------------------------------------------------------------------------------------


def test_share_weights():
    source = loaded()
    twin = LiteNetwork()
    twin.threads_number = 2
    twin.share_weights_with(source)
    third = LiteNetwork()
    third.enable_cpu_inplace_mode()
    third.share_weights_with(twin)
    assert close(run(twin, IMAGES[:3]), PROB[:3])
    assert close(run(source), PROB)
    assert twin.get_io_tensor("data").layout.shapes[0] == 3
    assert (twin.threads_number, third.is_cpu_inplace_mode()) == (2, True)
    del source, twin
    gc.collect()
    assert close(run(third), PROB)


def test_share_weights_with_other_things():
    with pytest.raises(LiteArgumentError):
        LiteNetwork().share_weights_with(3)
    with pytest.raises(LiteError):
        LiteNetwork().share_weights_with(LiteNetwork())


def test_share_runtime_memory_with_a_network_that_goes():
    source, twin = LiteNetwork(), LiteNetwork()
    twin.share_runtime_memroy(source)
    source.load(DIGITS)
    twin.load(DIGITS)
    assert close(run(source), PROB)
    del source
    gc.collect()
    assert close(run(twin, IMAGES[:5]), PROB[:5])


def test_share_weights_replaces_a_model():
    network, source = loaded(ADD), loaded()
    held = network.get_io_tensor("sum")
    add(network, 1, 2)
    network.share_weights_with(source)
    assert network.get_all_input_name() == ["data"]
    assert close(run(network), PROB) and held.to_numpy().max() == 3
    network.share_weights_with(network)
    assert close(run(network), PROB)


@pytest.mark.parametrize("name", ["share_runtime_memroy", "share_runtime_memory"])
def test_share_runtime_memory(name):
    source, twin = LiteNetwork(), LiteNetwork()
    getattr(twin, name)(source)
    twin.share_runtime_memroy(twin)
    source.load(DIGITS)
    twin.load(API_MODELS / "batch_by_shape.mge")
    data = np.load(API_MODELS / "batch_by_shape.npz")
    for _ in range(2):
        assert close(run(source), PROB)
        twin.get_io_tensor("data").set_data_by_copy(data["in_data"])
        twin.forward()
        twin.wait()
        assert close(twin.get_io_tensor(twin.get_output_name(0)).to_numpy(), data["out_0"])
        assert close(source.get_io_tensor("prob").to_numpy(), PROB)
    with pytest.raises(LiteArgumentError):
        LiteNetwork().share_runtime_memroy(None)


# ---- discrete inputs ----------------------------------------------------------------------------------------------


def discrete(name="data", io=None) -> LiteNetwork:
    made = LiteConfig()
    made.discrete_input_name = name
    return loaded(API_MODELS / "test_discrete_input.mge", made, io)


def test_discrete_input():
    rng = np.random.default_rng(3)
    data = rng.random((3, 3, 224, 224), np.float32)
    roi = np.stack([np.eye(3, dtype="float32") * [1, 1, 1 + 0.1 * k] for k in range(3)]).astype("float32")
    whole = loaded(API_MODELS / "test_discrete_input.mge")
    whole.get_io_tensor("data").set_data_by_copy(data)
    whole.get_io_tensor("roi").set_data_by_copy(roi)
    whole.forward()
    expected = whole.get_io_tensor(whole.get_output_name(0)).to_numpy()

    network = discrete(b"data", LiteNetworkIO([LiteIO("data", layout=LiteLayout([3, 3, 224, 224]))]))
    network.get_io_tensor("roi").set_data_by_copy(roi)
    for k in range(3):
        piece = network.get_discrete_tensor("data", k)
        assert piece.layout.shapes == [1, 3, 224, 224]
        if k == 1:
            piece.set_data_by_share(data[1:2].copy())
        else:
            piece.set_data_by_copy(data[k : k + 1])
    for _ in range(2):
        network.forward()
        network.wait()
        assert (network.get_io_tensor(network.get_output_name(0)).to_numpy() == expected).all()
    assert (network.get_io_tensor("data").to_numpy() == data).all()


def test_discrete_input_that_is_none():
    network = discrete()
    for wrong in (("data", 3), ("data", -1), ("roi", 0), ("none", 0)):
        with pytest.raises(LiteIndexError):
            network.get_discrete_tensor(*wrong)
    with pytest.raises(LiteValueError):
        network.get_discrete_tensor("data", 0, LiteTensorPhase.LITE_OUTPUT)
    with pytest.raises(LiteIndexError):
        loaded().get_discrete_tensor("data", 0)
    with pytest.raises(LiteArgumentError):
        network.get_discrete_tensor(3, 0)
    with pytest.raises(LiteTypeError):
        network.get_discrete_tensor("data", "0")
    assert network.get_io_tensor("data").layout.shapes == [3, 3, 224, 224]
    network.get_discrete_tensor("data", 0).set_data_by_share(np.zeros((1, 3, 5, 5), "float32"))
    with pytest.raises(ShapeError, match="piece 0"):
        network.forward()
