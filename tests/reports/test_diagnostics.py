"""Profiles, memory information, rewritten models."""

import json
import os

import numpy as np
import pytest
from support.api_samples import API_MODELS, DIGITS, IMAGES, PROB, close, config, loaded, run
from support.loader_samples import constant_operator, input_operator, operator, to_bytes

from megengine_lite import LiteNetwork, export_onnx, get_model_io_info, load
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.params import LSTM, Axis, Elemwise, ElemwiseMode, MatrixMul
from megengine_lite.errors import LiteError, LiteTypeError, LiteValueError

DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'


# ---- profile ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before load", "after load"])
def test_profile_in_the_form_of_the_original(tmp_path, when):
    path = tmp_path / "profile.json"
    network = LiteNetwork()
    if when == "before load":
        network.enable_profile_performance(str(path))
    network.load(DIGITS)
    if when == "after load":
        network.enable_profile_performance(path)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.forward()
    assert not path.exists()
    network.wait()
    assert close(network.get_io_tensor("prob").to_numpy(), PROB)
    content = json.loads(path.read_text())
    assert set(content) == {"graph_exec", "profiler"}
    graph, profiler = content["graph_exec"], content["profiler"]
    assert set(graph) == {"operator", "var", "mem_chunk", "comp_seq"}
    assert set(profiler) == {"device", "host", "opr_footprint", "opr_internal_pf"}
    ran = graph["comp_seq"]
    assert set(ran) == set(profiler["device"]) == set(profiler["host"]) == set(profiler["opr_footprint"])
    assert set(ran) < set(graph["operator"]) and len(ran) == len(set(ran)) > 5
    end = 0.0
    for number in ran:
        times = profiler["device"][number][DEVICE]
        assert end <= times["start"] == times["kern"] <= times["end"]
        end = times["end"]
    assert 0 < end < 10
    last = graph["operator"][ran[-1]]
    assert (last["name"], last["type"]) == ("softmax(fc.ADD)[135]", "SoftmaxForward")
    assert graph["var"][last["output"][0]]["name"] == "prob"
    assert graph["var"][last["output"][0]]["mem_plan"]["layout"] == {
        "shape": [360, 10],
        "stride": [10, 1],
        "dtype": "Float32",
    }


KEYS = {
    "operator": {"node_type", "id", "name", "type", "input", "output", "extra", "waiting_spec"},
    "var": {
        "node_type", "id", "name", "comp_node", "dev_ptr", "prev_dev_ptr", "flag", "mem_plan", "mem_readonly_fwd_src",
        "force_update_src", "static_infer_tags",
    },
    "mem_chunk": {"node_type", "id", "size", "owner_var", "dev_ptr"},
}  # fmt: skip


def profile_of(tmp_path, network) -> dict:
    network.enable_profile_performance(tmp_path / "profile.json")
    network.forward()
    network.wait()
    return json.loads((tmp_path / "profile.json").read_text())


@pytest.mark.parametrize("model", ["digits", "batch_by_shape", "multi_io", "cond_take", "test_discrete_input"])
def test_profile_is_connected_and_has_all_keys(tmp_path, model):
    content = profile_of(tmp_path, loaded(DIGITS if model == "digits" else API_MODELS / f"{model}.mge"))
    graph = content["graph_exec"]
    for kind, keys in KEYS.items():
        for number, entry in graph[kind].items():
            assert set(entry) == keys and (entry["node_type"], entry["id"]) == (kind, number)
    # operators and variables share one count
    assert not set(graph["operator"]) & set(graph["var"])
    owners: dict[str, list[str]] = {}
    for number, entry in graph["operator"].items():
        for var in entry["output"]:
            owners.setdefault(var, []).append(number)
    assert set(owners) == set(graph["var"])
    assert all(var in owners for o in graph["operator"].values() for var in o["input"])
    assert len({o["name"] for o in graph["operator"].values()}) == len(graph["operator"])
    for var in graph["var"].values():
        if var["mem_plan"] is not None:
            assert graph["mem_chunk"][var["mem_plan"]["mem_chunk_id"]]["owner_var"] == var["id"]
        for tag in var["static_infer_tags"].values():
            assert set(tag) == {"node_type", "infer_type", "inferred_result", "deps"}
            assert {d["var"] for d in tag["deps"]} <= set(graph["var"])
    for footprint in content["profiler"]["opr_footprint"].values():
        assert set(footprint) == {"computation", "memory", "in_shapes", "out_shapes", "param"}


def test_profile_has_the_names_numbers_and_work_of_operators(tmp_path):
    content = profile_of(tmp_path, loaded(DIGITS))
    graph, footprint = content["graph_exec"], content["profiler"]["opr_footprint"]
    data = next(o for o in graph["operator"].values() if o["type"] == "Host2DeviceCopy")
    assert graph["var"][data["output"][0]]["name"] == "data"
    product = next(n for n in graph["comp_seq"] if graph["operator"][n]["type"] == "MatrixMul")
    (x, y), (out,) = footprint[product]["in_shapes"][:2], footprint[product]["out_shapes"]
    assert footprint[product]["computation"] == 2 * out[0] * out[1] * x[1]
    assert footprint[product]["memory"] == 4 * (x[0] * x[1] + y[0] * y[1] + out[0] * out[1] + out[1])
    assert graph["operator"][product]["extra"]["algorithm"]
    convolution = next(n for n in graph["comp_seq"] if graph["operator"][n]["type"] == "ConvBiasForward")
    assert footprint[convolution]["param"]["stride_h"] == 1
    bias = graph["operator"][convolution]["input"][2]
    assert graph["var"][bias]["static_infer_tags"]["SHAPE"]["infer_type"] == "CONST"


def test_profile_counts_the_steps_of_an_operator_as_one(tmp_path):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (5, 2, 3))], [(1, "")], {1: "y"})
    params = LSTM(hidden_size=4, num_layers=1, bidirectional=False, bias=True)
    record.operators += [
        constant_operator(4, (1, 2, 4), data=bytes(32)),
        constant_operator(5, (4 * (3 + 4 + 2), 4), data=bytes(4 * 36 * 4)),
        operator("LSTMForward", (0, 4, 4, 5), (1, 2, 3, 6), params),
    ]
    content = profile_of(tmp_path, loaded(to_bytes(record)))
    graph = content["graph_exec"]
    (recurrent,) = [o for o in graph["operator"].values() if o["type"] == "LSTM"]
    assert recurrent["extra"]["steps"] > 1 and graph["comp_seq"].count(recurrent["id"]) == 1


def test_profile_has_no_numbers_that_json_does_not_know(tmp_path):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3,))], [(2, "")], {2: "y"})
    record.operators.append(constant_operator(1, (3,), data=np.array([1, -np.inf, np.nan], "float32")))
    record.operators.append(operator("Elemwise", (0, 1), (2,), Elemwise(mode=ElemwiseMode.MAX)))
    content = profile_of(tmp_path, loaded(to_bytes(record)))
    values = [v["static_infer_tags"]["VALUE"]["inferred_result"] for v in content["graph_exec"]["var"].values()]
    assert [1.0, "-inf", "nan"] in values


def test_profile_where_the_graph_is_freed(tmp_path):
    options = {"comp_node_seq_record_level": 2, "var_sanity_check_first_run": 0, "fake_next_exec": 0}
    path = tmp_path / "profile.json"
    names = []
    for enable_first in (True, False):
        network = LiteNetwork(config(**options))
        network.load(DIGITS)
        if enable_first:
            network.enable_profile_performance(path)
        run(network)
        if not enable_first:
            network.enable_profile_performance(path)
        run(network)
        graph = json.loads(path.read_text())["graph_exec"]
        names.append([graph["operator"][n]["name"] for n in graph["comp_seq"]])
    # as the graph is known, or not any more
    assert "softmax(fc.ADD)[135]" in names[0] and names[1][-1].startswith("softmax(prob)[")


# ---- Chrome traces --------------------------------------------------------------------------------------------------


def trace_of(tmp_path, network) -> list[dict]:
    path = tmp_path / "trace.json"
    network.enable_profile_performance(path, form="chrome")
    network.forward()
    network.wait()
    content = json.loads(path.read_text())
    assert set(content) == {"traceEvents", "displayTimeUnit"} and content["displayTimeUnit"] == "ns"
    return content["traceEvents"]


def test_trace_names_its_process_and_thread(tmp_path):
    named = [e for e in trace_of(tmp_path, loaded()) if e["ph"] == "M"]
    assert [(e["name"], e["args"]) for e in named] == [
        ("process_name", {"name": "megengine_lite"}),
        ("thread_name", {"name": "forward"}),
    ]
    assert {(e["pid"], e["tid"]) for e in named} == {(os.getpid(), 0)}


@pytest.mark.parametrize("model", ["digits", "cond_take", "batch_by_shape"])
def test_trace_has_complete_events_one_after_the_other(tmp_path, model):
    events = trace_of(tmp_path, loaded(DIGITS if model == "digits" else API_MODELS / f"{model}.mge"))
    slices = [e for e in events if e["ph"] == "X"]
    assert len(slices) == len(events) - 2 > 2
    end = 0.0
    for e in slices:
        assert set(e) == {"name", "cat", "ph", "pid", "tid", "ts", "dur", "args"}
        assert isinstance(e["name"], str) and e["name"] and (e["pid"], e["tid"]) == (os.getpid(), 0)
        assert e["dur"] >= 0 and e["ts"] == pytest.approx(end, abs=1e-6)
        end = e["ts"] + e["dur"]
        assert {"algorithm", "operator", "inputs", "outputs"} <= set(e["args"])
    assert 0 < end < 10e6


def test_trace_is_in_microseconds(tmp_path):
    network = loaded()
    events = trace_of(tmp_path, network)
    seconds = sum(t.seconds for t in network._profile.times)
    assert sum(e["dur"] for e in events if e["ph"] == "X") == pytest.approx(seconds * 1e6)


def test_trace_tells_algorithm_speed_and_shapes(tmp_path):
    network = loaded()
    events = trace_of(tmp_path, network)
    steps = [t for t in network._profile.times if t.origin.op == "FusedMatMul"]
    products = [e for e in events if e.get("cat") == "FusedMatMul"]
    assert len(products) == len(steps) > 0
    for e, t in zip(products, steps, strict=True):
        assert e["args"]["algorithm"] == t.kernel
        assert e["args"]["GFLOP/s"] == pytest.approx(t.flops / t.seconds * 1e-9, abs=0.01)
        assert e["args"]["inputs"] == [list(s.shape) for s in t.origin.inputs]
        assert e["args"]["outputs"] == [list(s.shape) for s in t.origin.outputs]
    assert all("GFLOP/s" not in e["args"] for e in events if e.get("args", {}).get("algorithm") == "fill_halo_blocked")


def test_trace_marks_steps_in_numpy(tmp_path):
    events = trace_of(tmp_path, loaded(API_MODELS / "cond_take.mge"))
    assert [e["name"] for e in events if e["args"].get("algorithm") == "numpy"] == ["CondTake:o0"]


# ---- what cannot be, and how it is measured -------------------------------------------------------------------------


def test_profile_that_cannot_be(tmp_path):
    network = loaded()
    for path in (tmp_path / "none" / "profile.json", tmp_path):
        with pytest.raises(LiteError, match="directory"):
            network.enable_profile_performance(path)
    for path in (None, 3):
        with pytest.raises(LiteTypeError):
            network.enable_profile_performance(path)
    with pytest.raises(LiteValueError, match="chrome"):
        network.enable_profile_performance(tmp_path / "x", form="other")
    assert close(run(network), PROB)


def test_profile_of_asynchronous_runs(tmp_path):
    path = tmp_path / "profile.json"
    network = loaded()
    network.enable_profile_performance(path)
    calls = []
    network.async_with_callback(lambda: calls.append(1))
    run(network)
    assert calls == [1]
    assert json.loads(path.read_text())["graph_exec"]["comp_seq"]


# ---- memory -------------------------------------------------------------------------------------------------------


def static_information(tmp_path, network) -> tuple[dict, dict]:
    network.get_static_memory_alloc_info(tmp_path / "logs" / "a-b")
    directory = tmp_path / "logs" / "a-b"
    assert sorted(p.name for p in directory.iterdir()) == ["StaticMemoryInfo.json", "graph.json"]
    return (json.loads((directory / name).read_text()) for name in ("graph.json", "StaticMemoryInfo.json"))


@pytest.mark.parametrize("model", ["digits", "digits_int8", "batch_by_shape", "multi_io", "cond_take"])
def test_static_memory_info_is_consistent(tmp_path, model):
    places = {"digits": DIGITS, "digits_int8": API_MODELS.parent / "digits" / "digits_int8.mge"}
    network = loaded(places.get(model, API_MODELS / f"{model}.mge"))
    graph, info = static_information(tmp_path, network)
    assert set(graph) == {"operator", "var", "mem_chunk", "comp_seq"}
    assert set(info) == {"opr", "chunk"}
    steps = len(info["opr"])
    assert steps > 0 and list(info["opr"]) == [str(k) for k in range(steps)]
    names = {graph["operator"][n]["name"] for n in graph["comp_seq"]}
    assert {o["name"] for o in info["opr"].values()} == names
    assert all(set(o) == {"id", "name"} and o["id"] == n for n, o in info["opr"].items())
    static, weights = [], []
    assert list(info["chunk"]) == [str(k) for k in range(len(info["chunk"]))]
    for number, chunk in info["chunk"].items():
        assert set(chunk) == {
            "id", "type", "time_begin", "time_end", "logic_addr_begin", "logic_addr_end", "overwrite_dest_id",
        }  # fmt: skip
        assert chunk["id"] == number and all(isinstance(v, str) for v in chunk.values())
        begin, end, low, high = (
            int(chunk[k]) for k in ("time_begin", "time_end", "logic_addr_begin", "logic_addr_end")
        )
        assert 0 <= begin < end <= steps and low <= high and chunk["overwrite_dest_id"] == "-1"
        {"static_mem": static, "weight_mem": weights}[chunk["type"]].append((begin, end, low, high))
    chunks = static + weights
    assert chunks and all(w[:2] == (0, steps) and (w[3] - w[2]) % 64 == 0 for w in weights)
    assert min((w[2] for w in weights), default=0) >= max((s[3] for s in static), default=0)
    for i, a in enumerate(chunks):
        for b in chunks[:i]:
            meet = a[0] < b[1] and b[0] < a[1]
            assert not meet or a[3] <= b[2] or b[3] <= a[2]


def test_static_memory_info_agrees_with_memory_usage(tmp_path):
    network = loaded()
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:4])
    _, info = static_information(tmp_path, network)
    run(network, IMAGES[:4])
    ends = [int(c["logic_addr_end"]) for c in info["chunk"].values() if c["type"] == "static_mem"]
    sizes = [int(c["logic_addr_end"]) - int(c["logic_addr_begin"]) for c in info["chunk"].values()]
    weights = sum(s for s, c in zip(sizes, info["chunk"].values(), strict=True) if c["type"] == "weight_mem")
    usage = network.memory_usage
    assert 0 <= usage["arena"] - max(ends) < 1024 + 64
    assert 0 <= weights - usage["weights"] < 64 * len(info["chunk"])


def test_static_memory_info_in_a_place_that_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(LiteError, match="cannot be made"):
        loaded().get_static_memory_alloc_info(tmp_path / "file")


def weighted(n: int, columns: int) -> bytes:
    """``y = x w`` with a weight of ``n`` rows."""
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3, n))], [(2, "")], {2: "y"})
    weight = np.ones((n, columns), "float32")
    record.operators.append(constant_operator(1, (n, columns), data=weight))
    record.operators.append(operator("MatrixMul", (0, 1), (2,), MatrixMul()))
    return to_bytes(record)


def test_memory_usage_before_and_after_the_first_forward():
    network = loaded()
    assert network.memory_usage == {"weights": 0, "arena": 0, "scratch": 0, "outputs": 0, "cache": 0}
    run(network)
    usage = network.memory_usage
    assert usage["outputs"] == PROB.nbytes
    assert DIGITS.stat().st_size / 4 < usage["weights"] < 1e6
    assert usage["arena"] > 360 * 8 * 8 * 4


def test_memory_usage_is_exact():
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (5,), INT32)], [(2, "")], {2: "y"})
    record.operators.append(constant_operator(1, (10, 7), data=np.ones((10, 7), "float32")))
    record.operators.append(operator("IndexingOneHot", (1, 0), (2,), Axis(axis=1)))
    record.operators[0] = input_operator(0, "x", (10,), INT32)
    network = loaded(to_bytes(record))
    network.forward()
    network.wait()
    usage = network.memory_usage
    # a weight that is read as it is stored, beside the flag for an index that is out of range
    assert usage == {"weights": 10 * 7 * 4 + 4, "arena": 0, "scratch": 0, "outputs": 10 * 4, "cache": 0}


def test_memory_usage_of_packed_weights():
    network = loaded(weighted(40, 50))
    network.forward()
    network.wait()
    session = network._loaded("memory_usage").session
    (packed,) = [s for p in session.plans() for s in p.constants()]
    width = kernel_set().width
    columns = -(-50 // width) * width  # padded to whole vectors, and perhaps to whole blocks of them
    assert packed.nbytes % (40 * width * 4) == 0 and packed.nbytes >= 40 * columns * 4
    usage = network.memory_usage
    assert usage["weights"] == usage["cache"] == packed.nbytes
    assert usage["outputs"] == 3 * 50 * 4


def test_memory_usage_of_shared_weights():
    first, second = loaded(weighted(40, 50)), LiteNetwork()
    second.share_weights_with(first)
    for network in (first, second):
        network.forward()
        network.wait()
    packed = first.memory_usage["cache"]
    assert packed > 0 and second.memory_usage["cache"] == second.memory_usage["weights"] == packed
    addresses = [{s.address for p in n._loaded("x").session.plans() for s in p.constants()} for n in (first, second)]
    assert addresses[0] == addresses[1]


def test_memory_usage_of_several_shapes():
    network = loaded()
    for n, kept in ((3, 3), (5, 3 + 5), (3, 3 + 5)):
        run(network, IMAGES[:n])
        assert network.memory_usage["outputs"] == kept * 10 * 4


# ---- rewritten models ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["batch_by_shape.mge", "multi_io.mge", "cond_take.mge"])
def test_layout_transform_dump(tmp_path, model):
    path = tmp_path / "after.mge"
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(API_MODELS / model)
    network.dump_layout_transform_model(str(path))
    before, after = get_model_io_info(API_MODELS / model), get_model_io_info(path)
    assert repr(before) == repr(after)
    data = np.load(API_MODELS / model.replace(".mge", ".npz"))
    again = loaded(path)
    for name in again.get_all_input_name():
        again.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
    again.forward()
    for i, name in enumerate(again.get_all_output_name()):
        assert close(again.get_io_tensor(name).to_numpy(), data[f"out_{i}"])


def test_layout_transform_dump_needs_to_be_enabled(tmp_path):
    with pytest.raises(LiteError, match="enable_global_layout_transform"):
        loaded().dump_layout_transform_model(tmp_path / "x")
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(DIGITS)
    with pytest.raises(LiteError):
        network.dump_layout_transform_model(tmp_path / "none" / "x")


def test_profile_and_dump_of_unfused_networks(tmp_path):
    network = loaded(config=config(graph_opt_level=0))
    network.enable_profile_performance(tmp_path / "p.json")
    network.io_txt_dump(tmp_path / "io.txt")
    assert close(run(network), PROB)
    assert (tmp_path / "p.json").stat().st_size > 1000 and "name=prob" in (tmp_path / "io.txt").read_text()


WRITERS = {
    "profile": lambda net, path: net.enable_profile_performance(path),
    "text dump": lambda net, path: net.io_txt_dump(path),
    "layouts": lambda net, path: net.dump_layout_transform_model(path),
    "prepare": lambda net, path: net.prepare(path),
    "report": lambda net, path: net.report(runs=1, warmup=0).save(path, "html"),
    "report of two": lambda net, path: (
        load(DIGITS).report(IMAGES, runs=1).beside(net.report(runs=1)).save(path, "html")
    ),
    "onnx": lambda net, path: export_onnx(path, path),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_nothing_is_written_over_the_file_of_the_model(tmp_path, writer):
    (tmp_path / "m.mge").write_bytes(DIGITS.read_bytes())
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(tmp_path / "m.mge")
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    with pytest.raises(LiteValueError, match="is the file that is read; write to another one"):
        WRITERS[writer](network, str(tmp_path / "m.mge"))
    assert (tmp_path / "m.mge").read_bytes() == DIGITS.read_bytes()
