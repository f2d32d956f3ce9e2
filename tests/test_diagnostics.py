"""Profiles, dumps, memory information, rewritten models."""

import json
import struct

import numpy as np
import pytest
from api_samples import ADD, API_MODELS, DIGITS, IMAGES, PROB, add, config, loaded, run

from megengine_lite import LiteNetwork, get_model_io_info
from megengine_lite.errors import LiteError, LiteTypeError, LiteValueError

DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'


def close(a, b) -> bool:
    return bool(np.abs(a - b).max() <= 1e-5)


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
    assert set(graph["comp_seq"]) == set(graph["operator"]) == set(profiler["device"]) == set(profiler["opr_footprint"])
    end = 0.0
    for number in graph["comp_seq"]:
        operator = graph["operator"][number]
        assert operator["node_type"] == "operator" and operator["id"] == number
        assert {"name", "type", "input", "output", "waiting_spec"} <= set(operator)
        assert operator["extra"]["algorithm"]
        for var in operator["input"] + operator["output"]:
            assert graph["var"][var]["id"] == var
        times = profiler["device"][number][DEVICE]
        assert end <= times["start"] == times["kern"] <= times["end"]
        end = times["end"]
    assert 0 < end < 10
    convolutions = [n for n, o in graph["operator"].items() if "onv" in o["type"]]
    assert convolutions
    assert any(profiler["opr_footprint"][n]["computation"] for n in convolutions)
    last = graph["operator"][graph["comp_seq"][-1]]["output"][0]
    assert graph["var"][last]["mem_plan"]["layout"]["shape"] == [360, 10]


def test_profile_in_the_form_of_chrome(tmp_path):
    path = tmp_path / "trace.json"
    network = loaded()
    network.enable_profile_performance(path, form="chrome")
    run(network)
    events = [e for e in json.loads(path.read_text())["traceEvents"] if e["ph"] == "X"]
    assert events and all({"name", "ts", "dur", "pid", "tid", "args"} <= set(e) for e in events)
    assert any("GFLOP/s" in e["args"] for e in events)
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)


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


# ---- dumps --------------------------------------------------------------------------------------------------------


def test_text_dump(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(ADD)
    network.io_txt_dump(str(path))
    assert path.read_text() == ""
    network.get_io_tensor("a").set_data_by_copy([1, 2, 3, 4, 5, 6])
    network.get_io_tensor("b").set_data_by_copy([1, 1, 1, 1, 1, 1])
    network.forward()
    network.wait()
    expected = (
        "var0 produced: name=a layout={2(3),3(1) Float32} owner_opr=h2d[0]{Host2DeviceCopy} opr0\n"
        " deps:\n"
        " val: [1, 2, 3, 4, 5, ...]min=1 max=6 mean=3.5 l2=3.89 sd=1.87 s\n"
        "var1 produced: name=b layout={2(3),3(1) Float32} owner_opr=h2d[1]{Host2DeviceCopy} opr1\n"
        " deps:\n"
        " val: [1, 1, 1, 1, 1, ...]min=1 max=1 mean=1 l2=1 sd=0 s\n"
        "var2 produced: name=sum layout={2(3),3(1) Float32} owner_opr=sum{Elemwise} opr2\n"
        " deps:\n"
        "  [i0]var0: [1, 2, 3, 4, 5, ...] s\n"
        "  [i1]var1: [1, 1, 1, 1, 1, ...] s\n"
        " val: [2, 3, 4, 5, 6, ...]min=2 max=7 mean=4.5 l2=4.81 sd=1.87 s\n"
    )
    assert path.read_text() == expected
    network.forward()
    network.wait()
    assert path.read_text() == expected * 2


def test_text_dump_has_every_operator(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(API_MODELS / "multi_io.mge")
    network.io_txt_dump(path)
    network.forward()
    network.wait()
    text = path.read_text()
    assert text.count(" produced: ") == text.count("\n deps:\n") == text.count("\n val: ")
    assert "{Host2DeviceCopy}" in text and "{ImmutableTensor}" in text and "name=features" in text


def test_text_dump_marks_what_depends_on_data(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(API_MODELS / "cond_take.mge")
    network.io_txt_dump(path)
    network.forward()
    network.wait()
    values = [line for line in path.read_text().splitlines() if line.startswith(" val: ")]
    assert {v[-1] for v in values} == {"s", "d"}


def read_binary(path):
    content = path.read_bytes()
    length, code, most = struct.unpack_from("<III", content)
    shape = struct.unpack_from(f"<{most}I", content, 12)
    begin = 12 + 4 * most
    return content[begin : begin + length].decode(), code, most, shape, content[begin + length :]


def test_binary_dump(tmp_path):
    directory = tmp_path / "new" / "out"
    network = loaded(ADD)
    network.io_bin_dump(str(directory))
    add(network, 1, 2)
    add(network, 3, 4)
    assert sorted(p.name for p in directory.iterdir()) == ["000000", "000001", "000002"]
    name, code, most, shape, data = read_binary(directory / "000002")
    assert (code, most, shape) == (0, 7, (2, 3, 0, 0, 0, 0, 0))
    assert name.startswith("var={id:2, layout:{2(3),3(1) Float32}, Float32, owner:sum{Elemwise}, name:sum, slot:0, ")
    assert " owner_opr_inputs=0={id:0, " in name and " 1={id:1, " in name
    assert np.frombuffer(data, "float32").tolist() == [7] * 6


def test_last_dump_wins(tmp_path):
    network = loaded(ADD)
    network.io_txt_dump(tmp_path / "first.txt")
    network.io_bin_dump(tmp_path)
    add(network, 1, 2)
    assert (tmp_path / "first.txt").read_text() == ""
    assert (tmp_path / "000002").exists()


def test_dump_that_cannot_be_written(tmp_path):
    network = loaded(ADD)
    with pytest.raises(LiteError):
        network.io_txt_dump(tmp_path / "none" / "io.txt")
    (tmp_path / "file").touch()
    with pytest.raises(LiteError):
        network.io_bin_dump(tmp_path / "file")
    assert add(network, 1, 2).max() == 3


# ---- memory -------------------------------------------------------------------------------------------------------


def test_static_memory_info(tmp_path):
    network = loaded()
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:4])
    network.get_static_memory_alloc_info(tmp_path / "logs" / "a-b")
    graph = json.loads((tmp_path / "logs" / "a-b" / "graph.json").read_text())["graph_exec"]
    info = json.loads((tmp_path / "logs" / "a-b" / "StaticMemoryInfo.json").read_text())
    assert set(graph) == {"operator", "var", "mem_chunk", "comp_seq"}
    steps = len(info["opr"])
    assert steps == len(graph["comp_seq"]) > 0
    static, weights = [], []
    for number, chunk in info["chunk"].items():
        assert chunk["id"] == number and all(isinstance(v, str) for v in chunk.values())
        begin, end, low, high = (
            int(chunk[k]) for k in ("time_begin", "time_end", "logic_addr_begin", "logic_addr_end")
        )
        assert 0 <= begin < end <= steps and low <= high and chunk["overwrite_dest_id"] == "-1"
        (static if chunk["type"] == "static_mem" else weights).append((begin, end, low, high))
    assert static and weights
    assert all(w[:2] == (0, steps) and (w[3] - w[2]) % 64 == 0 for w in weights)
    assert min(w[2] for w in weights) >= max(s[3] for s in static)
    for i, a in enumerate(static):
        for b in static[:i]:
            meet = a[0] < b[1] and b[0] < a[1]
            assert not meet or a[3] <= b[2] or b[3] <= a[2]


def test_memory_usage():
    network = loaded()
    run(network)
    usage = network.memory_usage
    assert set(usage) == {"weights", "arena", "scratch", "outputs"}
    assert usage["outputs"] == PROB.nbytes
    assert DIGITS.stat().st_size / 4 < usage["weights"] < 1e6


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
