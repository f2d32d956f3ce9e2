"""Networks on a device with memory of its own, through the whole API."""

import json
import pickle
import threading

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, close, loaded, packed, two_inputs
from support.devices import OURS, device_io, network, on_device, settings
from support.graphs import GraphBuilder
from support.numpy_device import NumpyMemory

import megengine_lite
from megengine_lite import (
    LiteDeviceType,
    LiteGlobal,
    LiteIO,
    LiteIOType,
    LiteNetwork,
    LiteNetworkIO,
    LiteTensor,
    get_model_io_info,
)
from megengine_lite.errors import (
    DeviceError,
    LiteError,
    LiteIndexError,
    LiteTypeError,
    ShapeError,
)

pytestmark = pytest.mark.usefixtures("device")


def classify(net: LiteNetwork, images: np.ndarray) -> np.ndarray:
    net.get_io_tensor("data").set_data_by_copy(images)
    net.forward()
    net.wait()
    return net.get_io_tensor("prob").to_numpy()


@pytest.mark.parametrize("io", [None, device_io()], ids=["host io", "device io"])
def test_network_computes_what_the_cpu_does(io):
    net = network(io=io)
    data, prob = net.get_io_tensor("data"), net.get_io_tensor("prob")
    for tensor in (data, prob):
        assert (tensor.device_type, tensor.is_pinned_host) == (OURS, io is None)
        assert isinstance(tensor._storage, NumpyMemory) == (io is not None)
    for images, expected in ((IMAGES, PROB), (IMAGES[:3], PROB[:3]), (IMAGES[5:8], PROB[5:8]), (IMAGES, PROB)):
        assert close(classify(net, images), expected)
        assert (prob.device_type, prob.is_pinned_host) == (OURS, io is None)
        assert isinstance(prob._storage, NumpyMemory) == (io is not None)


def test_io_of_the_host_is_read_and_written_directly():
    net = network()
    array = IMAGES[:2].copy()
    net.get_io_tensor("data").set_data_by_share(array)
    for first in range(3):
        array[...] = IMAGES[first : first + 2]
        net.forward()
        net.wait()
        assert close(net.get_io_tensor("prob").get_data_by_share(), PROB[first : first + 2])


def test_io_on_the_device_takes_tensors_of_the_device_and_is_no_host_memory():
    net = network(io=device_io())
    data = net.get_io_tensor("data")
    with pytest.raises(DeviceError, match="input 'data' is in memory of LITE_ATLAS"):
        data.set_data_by_share(IMAGES)
    images = on_device(IMAGES[:2])
    data.share_memory_with(images)
    for first in range(3):
        images.set_data_by_copy(IMAGES[first : first + 2])
        net.forward()
        net.wait()
        prob = net.get_io_tensor("prob")
        with pytest.raises(DeviceError, match="to_numpy"):
            prob.get_data_by_share()
        assert close(prob.to_numpy(), PROB[first : first + 2])


def test_strided_input_on_the_device():
    net = network(ADD, device_io("add"))
    wide = on_device(np.arange(12, dtype=np.float32).reshape(2, 6))
    net.get_io_tensor("a").share_memory_with(wide.slice([0, 0], [2, 6], [1, 2]))
    net.get_io_tensor("b").set_data_by_copy([1] * 6)
    for factor in (1, 10):
        wide.set_data_by_copy(factor * np.arange(12, dtype=np.float32).reshape(2, 6))
        net.forward()
        net.wait()
        even = factor * np.arange(0, 12, 2).reshape(2, 3)
        assert net.get_io_tensor("sum").to_numpy().tolist() == (even + 1).tolist()


def test_output_goes_on_to_another_network_on_the_device():
    first, second = network(ADD, device_io("add")), network(ADD, device_io("add"))
    second.get_io_tensor("a").share_memory_with(first.get_io_tensor("sum"))
    for value in (1, 2):
        add(first, value, 1)
        second.get_io_tensor("a").share_memory_with(first.get_io_tensor("sum"))
        second.get_io_tensor("b").set_data_by_copy([10] * 6)
        second.forward()
        second.wait()
        assert second.get_io_tensor("sum").to_numpy().tolist() == [[11 + value] * 3] * 2


def test_outputs_of_the_cpu_go_to_the_device_and_back():
    here, there = loaded(ADD), network(ADD, device_io("add"))
    add(here, 1, 2)
    there.get_io_tensor("a").copy_from(here.get_io_tensor("sum"))
    there.get_io_tensor("b").copy_from(here.get_io_tensor("sum"))
    there.forward()
    there.wait()
    here.get_io_tensor("a").copy_from(there.get_io_tensor("sum"))
    here.forward()
    here.wait()
    assert here.get_io_tensor("sum").to_numpy().tolist() == [[8] * 3] * 2


@pytest.mark.parametrize("where", ["host", "device"])
def test_results_in_memory_of_the_caller(where):
    net = network(ADD, device_io("add") if where == "device" else None, force_output_use_user_specified_memory=1)
    output = net.get_io_tensor("sum")
    with pytest.raises(LiteError, match="no memory"):
        net.forward()
    memory = on_device(np.zeros((2, 3), np.float32)) if where == "device" else LiteTensor([2, 3], dtype="float32")
    if where == "device":
        output.share_memory_with(memory)
    else:
        output.set_data_by_share(memory.get_data_by_share())
    for value in (1, 2, 3):
        assert add(net, value, 4).tolist() == [[value + 4] * 3] * 2
        assert memory.to_numpy().tolist() == [[value + 4] * 3] * 2


@pytest.mark.parametrize("io", [None, device_io("add")], ids=["host io", "device io"])
def test_fresh_outputs_keep_their_values(io):
    net = network(ADD, io, force_output_dynamic_alloc=1)
    held = []
    for value in range(3):
        add(net, value, 0)
        kept = on_device(is_pinned_host=io is None)
        kept.share_memory_with(net.get_io_tensor("sum"))
        held.append(kept)
    assert [t.to_numpy().max() for t in held] == [0, 1, 2]


def test_output_of_which_only_the_shape_is_wanted():
    io = LiteNetworkIO(outputs=[LiteIO("prob", io_type=LiteIOType.LITE_IO_SHAPE)])
    assert not classify(network(io=io), IMAGES[:2]).any()


@pytest.mark.parametrize("kind", ["fresh", "shape only"])
@pytest.mark.parametrize("io", ["host", "device"])
def test_output_that_shared_other_memory_is_told_where_the_next_result_is(kind, io):
    shown = LiteIO("sum", is_host=io == "host", io_type=LiteIOType(kind == "shape only"))
    net = loaded(ADD, settings(force_output_dynamic_alloc=kind == "fresh"), LiteNetworkIO([], [shown]), device_id=1)
    output = net.get_io_tensor("sum")
    if io == "host":
        other = LiteTensor([2, 3], device_id=5)
    else:
        other = LiteTensor([2, 3], OURS, device_id=0)
    for value in (1, 2):
        output.share_memory_with(other)
        expected = [[value + 4 if kind == "fresh" else 0] * 3] * 2
        assert add(net, value, 4).tolist() == expected
        assert (output.device_type, output.device_id, output.is_pinned_host) == (OURS, 1, io == "host")
        assert isinstance(output._storage, NumpyMemory) == (io == "device")
        if io == "host":
            assert np.from_dlpack(output).tolist() == output.get_data_by_share().tolist() == expected
        else:
            assert output.__dlpack_device__() == (12, 1)
        assert not other.to_numpy().any()


def test_discrete_input():
    made = settings()
    made.discrete_input_name = "data"
    net = loaded(config=made)
    net.get_io_tensor("data").layout = [3, 1, 8, 8]
    for k in range(3):
        net.get_discrete_tensor("data", k).set_data_by_copy(IMAGES[k : k + 1])
    net.forward()
    net.wait()
    assert close(net.get_io_tensor("prob").to_numpy(), PROB[:3])
    net.get_discrete_tensor("data", 1).set_data_by_share(IMAGES[7:8].copy())
    net.forward()
    net.wait()
    assert close(net.get_io_tensor("prob").to_numpy(), PROB[[0, 7, 2]])


def test_shapes_and_outputs_that_depend_on_data():
    net = network(API_MODELS / "cond_take.mge")
    case = np.load(API_MODELS / "cond_take.npz")
    same = loaded(API_MODELS / "cond_take.mge")
    names = net.get_all_input_name()
    for factor in (1, -1):
        for made in (net, same):
            for name in names:
                shown = made.get_io_tensor(name)
                shown.set_data_by_copy(np.ascontiguousarray(factor * _input_of(case, name, shown)))
            made.forward()
            made.wait()
        for name in net.get_all_output_name():
            got, want = net.get_io_tensor(name).to_numpy(), same.get_io_tensor(name).to_numpy()
            assert got.shape == want.shape and np.array_equal(got, want)


def _input_of(case, name: str, tensor: LiteTensor) -> np.ndarray:
    found = [case[k] for k in case.files if k.endswith(name)]
    return found[0] if found else np.linspace(-1, 1, tensor.nbytes // 4, dtype=np.float32).reshape(tensor.layout.shapes)


def test_values_of_inputs_that_decide_shapes_are_read_from_the_device():
    net, same = network(API_MODELS / "batch_by_shape.mge"), loaded(API_MODELS / "batch_by_shape.mge")
    for made in (net, same):
        for k, name in enumerate(made.get_all_input_name()):
            tensor = made.get_io_tensor(name)
            count = int(np.prod(tensor.layout.shapes))
            values = np.arange(count).reshape(tensor.layout.shapes) % 5 + k
            tensor.set_data_by_copy(values.astype(tensor.layout.dtype))
        made.forward()
        made.wait()
    for name in net.get_all_output_name():
        assert close(net.get_io_tensor(name).to_numpy(), same.get_io_tensor(name).to_numpy())


@pytest.mark.parametrize("io", [None, device_io()], ids=["host io", "device io"])
def test_async_and_callbacks(io):
    net = network(io=io)
    seen, done = [], threading.Event()
    net.set_start_callback(lambda ios: seen.append(("start", ios["data"].to_numpy().shape)))
    net.set_finish_callback(lambda ios: seen.append(("finish", close(ios["prob"].to_numpy(), PROB[:4]))))
    net.async_with_callback(done.set)
    net.get_io_tensor("data").set_data_by_copy(IMAGES[:4])
    net.forward()
    assert done.wait(60)
    net.wait()
    assert seen == [("start", (4, 1, 8, 8)), ("finish", True)]
    net.async_with_callback(None)
    net.forward()
    net.wait()
    assert seen == [("start", (4, 1, 8, 8)), ("finish", True)] * 2


def test_forward_on_a_worker():
    net = network(io=device_io(), async_exec_level=5)
    for first in range(4):
        net.get_io_tensor("data").set_data_by_copy(IMAGES[first : first + 3])
        net.forward()
        assert close(net.get_io_tensor("prob").to_numpy(), PROB[first : first + 3])


def test_networks_share_weights_and_memory():
    first = network()
    second = LiteNetwork(settings())
    second.share_weights_with(first)
    third = LiteNetwork(settings(), device_io())
    third.share_runtime_memory(first)
    third.load(DIGITS)
    here = LiteNetwork()  # on the CPU, with the weights and the turns of the others
    here.share_runtime_memory(first)
    here.share_weights_with(first)
    for net in (first, second, third, here):
        assert close(classify(net, IMAGES[:5]), PROB[:5])
    assert here.get_io_tensor("prob").device_type == LiteDeviceType.LITE_CPU


def test_graph_can_be_freed_and_shapes_fixed():
    net = network(comp_node_seq_record_level=2, var_sanity_check_first_run=0)
    for _ in range(2):
        assert close(classify(net, IMAGES[:5]), PROB[:5])
    with pytest.raises(ShapeError, match="record_level"):
        classify(net, IMAGES[:6])


def test_wrong_data_is_told_and_forgotten():
    net = network(ADD)
    net.get_io_tensor("a").set_data_by_copy(np.zeros((3, 2), np.float32))
    with pytest.raises(ShapeError):
        net.forward()
    net.get_io_tensor("a").set_data_by_copy(np.zeros((2, 3), np.float32))
    assert add(net, 1, 2).tolist() == [[3] * 3] * 2
    with pytest.raises(LiteTypeError):
        net.get_io_tensor("a").set_data_by_share(np.zeros((2, 3), np.int32))
    with pytest.raises(LiteIndexError):
        net.get_io_tensor("c")


def test_profile_dumps_and_memory_information(tmp_path):
    net = network()
    net.enable_profile_performance(tmp_path / "profile.json")
    net.io_bin_dump(tmp_path / "values")
    assert close(classify(net, IMAGES[:2]), PROB[:2])
    content = json.loads((tmp_path / "profile.json").read_text())
    ran = [content["graph_exec"]["operator"][k] for k in content["graph_exec"]["comp_seq"]]
    assert {work["extra"]["algorithm"] for work in ran} == {"numpy"} and "ConvolutionForward" in {
        w["type"] for w in ran
    }
    here = loaded()
    here.io_bin_dump(tmp_path / "expected")
    classify(here, IMAGES[:2])
    dumped = {p.name: p.read_bytes() for p in (tmp_path / "values").iterdir()}
    assert len(dumped) > 5 and dumped.keys() == {p.name for p in (tmp_path / "expected").iterdir()}
    net.get_static_memory_alloc_info(tmp_path / "memory")
    memory = json.loads((tmp_path / "memory" / "StaticMemoryInfo.json").read_text())
    assert len(memory["opr"]) == len(ran) and memory["chunk"] == {}
    usage = net.memory_usage
    assert usage["outputs"] == 2 * 10 * 4 and usage["arena"] == usage["weights"] == 0
    LiteGlobal.try_coalesce_all_free_memory()
    assert close(classify(net, IMAGES[:2]), PROB[:2])


@pytest.mark.filterwarnings("ignore:.* no effect on LITE_ATLAS:megengine_lite.LiteWarning")
def test_options_have_their_effects():
    for options in (
        {"graph_opt_level": 0},
        {"weight_preprocess": 1},
        {"force_dynamic_alloc": 1},
        {"const_shape": 1},
        {"jit_level": 1},
        {"enable_nchw44": 1},
    ):
        assert close(classify(network(**options), IMAGES), PROB)
    net = network(fake_next_exec=1)
    assert not classify(net, IMAGES[:2]).any()
    assert close(classify(net, IMAGES[:2]), PROB[:2])
    made = LiteNetwork(settings())
    with pytest.raises(DeviceError, match="CPU"):
        made.enable_cpu_inplace_mode()
    made.set_network_algo_policy(2)
    made.load(DIGITS)
    made.set_network_algo_workspace_limit(0)
    assert close(classify(made, IMAGES), PROB)


def test_settings_of_a_package_name_the_device():
    net = LiteNetwork()
    net.load(packed(information={"device": {"type": "ATLAS", "device_id": 1}}))
    assert net.get_io_tensor("sum").device_type == OURS and net.get_io_tensor("sum").device_id == 1
    assert add(net, 1, 2).tolist() == [[3] * 3] * 2
    with pytest.raises(DeviceError, match="LITE_CUDA"):
        LiteNetwork().load(packed(information={"device": {"type": "CUDA"}}))


def test_network_is_pickled_with_its_device():
    net = pickle.loads(pickle.dumps(network()))
    assert close(classify(net, IMAGES[:3]), PROB[:3])
    assert net.get_io_tensor("data").device_type == OURS
    assert get_model_io_info(DIGITS, settings()).inputs[0].name == "data"


def test_tensors_outlive_their_network(device):
    net = network(io=device_io())
    classify(net, IMAGES[:2])
    prob = net.get_io_tensor("prob")
    del net
    assert close(prob.to_numpy(), PROB[:2])


@pytest.mark.parametrize("shape", [(0, 3), (1,), (2, 3, 4)])
def test_shapes_of_all_kinds(shape):
    net = network(two_inputs(shape), device_io("add"))
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    for name in "ab":
        net.get_io_tensor(name).set_data_by_copy(values)
    net.forward()
    net.wait()
    assert net.get_io_tensor("sum").to_numpy().tolist() == (2 * values).tolist()


def test_graph_builder_models_run_in_sessions_of_the_device(device):
    from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
    from megengine_lite._core.runtime.session import Session

    b = GraphBuilder()
    x = b.input("x", (2, 3))
    graph = b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x]))
    model = megengine_lite._core.formats.load.load_model(DIGITS)
    model.graph, model.input_names, model.output_names = graph, ["x"], graph.output_names
    session = Session(model, device=device, device_id=1)
    session.set_array("x", np.float32([[1, -1, 2], [3, -3, 4]]))
    times = session.run_profiled()
    assert [t.kernel for t in times] == ["numpy"]
    assert session.output(graph.output_names[0]).array().tolist() == [[1, 0, 2], [3, 0, 4]]
