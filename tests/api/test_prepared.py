"""Prepared files: the same results as usual, what they are refused for, and what is done with damaged ones."""

import os
import pickle
import re
import struct
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, config, run
from support.places import TESTS
from support.processes import in_process

import megengine_lite
from megengine_lite import LiteError, LiteIOType, LiteLayout, LiteNetwork, LiteNetworkIO, LiteWarning
from megengine_lite._api.preparing import MODEL_FILE
from megengine_lite._core.formats.prepared import identity
from megengine_lite._core.formats.prepared.record import HEADER_BYTES, MAGIC
from megengine_lite._core.system.hashes import xxh64
from megengine_lite.batch import Predictor
from megengine_lite.errors import LiteFileNotFoundError, ModelFormatError, ShapeError

INT8 = TESTS / "models" / "digits" / "digits_int8.mge"
MULTI_IO = API_MODELS / "multi_io.mge"
FEW = IMAGES[:3]


def network(model=DIGITS, prepared=None, images=None, made=None, **settings):
    """A network with a model; its first input has ``images``, if there are any."""
    found = LiteNetwork(made)
    for name, value in settings.items():
        setattr(found, name, value)
    found.load(model, prepared=prepared)
    if images is not None:
        found.get_io_tensor(found.get_input_name(0)).set_data_by_copy(images)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The digits model, prepared for three images and one thread."""
    path = tmp_path_factory.mktemp("prepared") / "digits.prepared"
    network(images=FEW).prepare(path)
    return path


def is_used(found: LiteNetwork) -> bool:
    """Whether a network runs a prepared plan."""
    return found._engine._prepared is not None


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---- the same as usual -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", [DIGITS, INT8, MULTI_IO, API_MODELS / "batch_by_shape.mge", ADD])
def test_names_layouts_and_results_are_those_of_a_usual_load(model, threads, tmp_path):
    usual = network(model, threads_number=threads)
    usual.prepare(tmp_path / "p")
    quick = network(model, tmp_path / "p", threads_number=threads)
    assert quick.get_all_input_name() == usual.get_all_input_name()
    assert quick.get_all_output_name() == usual.get_all_output_name()
    names = usual.get_all_output_name()
    random = np.random.default_rng(1)
    for name in usual.get_all_input_name():
        array = usual.get_io_tensor(name).to_numpy()
        assert quick.get_io_tensor(name).layout == usual.get_io_tensor(name).layout
        np.testing.assert_array_equal(quick.get_io_tensor(name).to_numpy(), array)  # the default, if it has one
        value = random.random(array.shape).astype(array.dtype) if array.dtype.kind == "f" else array
        for one in (usual, quick):
            one.get_io_tensor(name).set_data_by_copy(value)
    for name in names:
        assert quick.get_io_tensor(name, 2).layout == usual.get_io_tensor(name, 2).layout
    for _ in range(2):
        for one in (usual, quick):
            one.forward()
            one.wait()
        for name in names:
            a, b = (one.get_io_tensor(name, 2).to_numpy() for one in (usual, quick))
            assert a.shape == b.shape and a.tobytes() == b.tobytes()
    assert is_used(quick)


def test_other_shapes_run_as_usual_from_then_on(prepared):
    usual, quick = network(), network(prepared=prepared)
    assert run(quick, FEW).tobytes() == run(usual, FEW).tobytes()
    assert is_used(quick)
    for images in (IMAGES[:5], FEW, IMAGES):
        assert run(quick, images).tobytes() == run(usual, images).tobytes()
        assert not is_used(quick)


def test_models_run_other_shapes_as_usual_from_then_on(prepared):
    quick, usual = (megengine_lite.load(DIGITS, threads=1, prepared=path) for path in (prepared, None))
    assert is_used(quick._workers[0].network)
    for images in (FEW, IMAGES[:5], FEW):
        assert quick(images)["prob"].tobytes() == usual(images)["prob"].tobytes()
    assert not is_used(quick._workers[0].network)


def test_inputs_of_the_declared_shape_need_another_plan(prepared):
    quick = network(prepared=prepared)
    assert quick.get_io_tensor("data").layout.shapes == [360, 1, 8, 8]
    assert quick.get_io_tensor("prob").layout.shapes == [360, 10]
    assert run(quick).tobytes() == run(network()).tobytes()


def test_a_shape_that_does_not_fit_is_an_error_and_the_network_stays_usable(prepared):
    quick = network(prepared=prepared)
    expected = run(network(), FEW)
    with pytest.raises(ShapeError):
        run(quick, np.zeros([3, 2, 8, 8], np.float32))
    assert run(quick, FEW).tobytes() == expected.tobytes()


def test_a_process_imports_nothing_that_makes_plans(prepared):
    code = f"""
import sys, numpy
import megengine_lite
network = megengine_lite.LiteNetwork()
network.load({str(DIGITS)!r}, prepared={str(prepared)!r})
network.get_io_tensor("data").set_data_by_copy(numpy.zeros([3, 1, 8, 8], "float32"))
network.forward()
network.wait()
print(network.get_io_tensor("prob").to_numpy().shape, *(m for m in sys.modules if m.startswith("megengine_lite.")))
"""
    *shape, modules = in_process(code).split(" ", 2)
    assert " ".join(shape) == "(3, 10)"
    core = {m.removeprefix("megengine_lite._core.") for m in modules.split()}
    assert {"cpu.prepared_plan", "formats.prepared.reader", "runtime.prepared"} <= core
    for part in ("compile", "operators", "formats.onnx", "formats.mge", "formats.containers", "reports", "ir.params",
                 "cpu.lower", "cpu.lowering", "cpu.planner", "cpu.packing", "cpu.algorithms"):  # fmt: skip
        assert not [m for m in core if m == part or m.startswith(f"{part}.")], part


def test_threads_callbacks_and_asynchronous_runs(prepared):
    expected = run(network(), FEW).tobytes()
    quick = network(prepared=prepared, images=FEW)
    seen = []
    quick.set_start_callback(lambda inputs: seen.append(("start", [io.name for io in inputs])))
    quick.set_finish_callback(lambda outputs: seen.append(("finish", [io.name for io in outputs])))
    quick.forward()
    quick.wait()
    assert seen == [("start", ["data"]), ("finish", ["prob"])]
    quick.async_with_callback(lambda: seen.append("async"))
    quick.forward()
    quick.wait()
    assert "async" in seen and is_used(quick)
    assert quick.get_io_tensor("prob").to_numpy().tobytes() == expected


def test_networks_that_share_weights_share_the_file(prepared):
    first = network(prepared=prepared)
    second = LiteNetwork()
    second.share_weights_with(first)
    assert is_used(first) and is_used(second)
    expected = run(network(), FEW).tobytes()
    assert run(second, FEW).tobytes() == expected
    del first
    assert run(second, FEW).tobytes() == expected


def test_a_network_with_other_threads_shares_the_model_itself(prepared):
    first = network(prepared=prepared)
    second = LiteNetwork()
    second.threads_number = 2
    second.share_weights_with(first)
    assert not is_used(second)
    assert run(second, FEW).tobytes() == run(first, FEW).tobytes()


def test_a_model_with_workers_pickles_and_tells_what_it_is(prepared):
    model = megengine_lite.load(DIGITS, threads=1, workers=2, prepared=prepared)
    usual = megengine_lite.load(DIGITS, threads=1)
    assert model.inputs == usual.inputs and model.outputs == usual.outputs
    again = pickle.loads(pickle.dumps(model))
    for one in (model, again):
        assert all(is_used(w.network) for w in one._workers)
        assert one(FEW)["prob"].tobytes() == usual(FEW)["prob"].tobytes()
    assert re.search(r"memory [\d.]+ [KM]iB", repr(model))
    restored = pickle.loads(pickle.dumps(network(prepared=prepared)))
    assert is_used(restored) and run(restored, FEW).tobytes() == usual(FEW)["prob"].tobytes()


def test_a_predictor_takes_it(prepared):
    rows = {"data": FEW}
    expected = Predictor(DIGITS)(rows)["prob"]
    predict = pickle.loads(pickle.dumps(Predictor(DIGITS, prepared=prepared)))
    assert predict(rows)["prob"].tobytes() == expected.tobytes()
    assert is_used(predict._model()._workers[0].network)


def test_bytes_of_a_model_take_it(prepared):
    quick = network(DIGITS.read_bytes(), prepared)
    assert is_used(quick)
    assert run(quick, FEW).tobytes() == run(network(), FEW).tobytes()


def test_options_about_memory_and_checks(prepared):
    expected = run(network(), FEW).tobytes()
    for options in (
        {"var_sanity_check_first_run": True}, {"force_output_dynamic_alloc": True}, {"force_dynamic_alloc": True},
        {"weight_preprocess": True}, {"comp_node_seq_record_level": 2, "var_sanity_check_first_run": False},
        {"const_shape": True},
    ):  # fmt: skip
        quick = network(prepared=prepared, made=config(**options))
        assert run(quick, FEW).tobytes() == expected
        assert run(quick, FEW).tobytes() == expected


def test_results_go_into_memory_of_the_caller(prepared):
    quick = network(prepared=prepared, images=FEW, made=config(force_output_use_user_specified_memory=True))
    given = np.zeros([3, 10], np.float32)
    quick.get_io_tensor("prob").set_data_by_share(given)
    quick.forward()
    quick.wait()
    assert given.tobytes() == run(network(), FEW).tobytes()


def test_descriptions_of_inputs_and_outputs(prepared):
    shown = []
    for path in (None, prepared):
        io = LiteNetworkIO()
        io.add_input("data", layout=LiteLayout([3, 1, 8, 8], "float32"))
        io.add_output("prob", io_type=LiteIOType.LITE_IO_SHAPE)
        found = LiteNetwork(None, io)
        found.load(DIGITS, prepared=path)
        shown.append([found.get_io_tensor(name).layout for name in ("data", "prob")])
        assert not run(found, FEW).any()
        shown[-1] += [found.get_io_tensor("prob").layout.shapes]
    assert shown[0] == shown[1] and shown[0][2] == [3, 10]


def test_profiles_reports_and_policies_use_the_graph(prepared, tmp_path):
    expected = run(network(), FEW).tobytes()
    quick = network(prepared=prepared, images=FEW)
    assert [len(quick.report(runs=1).content["reports"])] == [1]
    assert not is_used(quick) and run(quick, FEW).tobytes() == expected
    quick = network(prepared=prepared, images=FEW)
    quick.enable_profile_performance(tmp_path / "profile.json")
    assert run(quick, FEW).tobytes() == expected and (tmp_path / "profile.json").stat().st_size > 100
    quick = network(prepared=prepared, images=FEW)
    quick.io_txt_dump(tmp_path / "dump.txt")
    assert run(quick, FEW).tobytes() == expected and (tmp_path / "dump.txt").stat().st_size > 100
    quick = network(prepared=prepared, images=FEW)
    quick.set_network_algo_workspace_limit(1 << 20)
    assert run(quick, FEW).tobytes() == expected
    assert quick.memory_usage["weights"] > 10_000
    quick = network(prepared=prepared, images=FEW)
    assert quick.memory_usage["weights"] > 10_000 and is_used(quick)
    quick.prepare(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == prepared.read_bytes()


def test_a_model_that_was_overwritten_is_not_mixed_with_its_prepared_form(tmp_path):
    model = tmp_path / "model.mge"
    model.write_bytes(DIGITS.read_bytes())
    network(model, images=FEW).prepare(tmp_path / "p")
    quick = network(model, tmp_path / "p")
    model.write_bytes(DIGITS.read_bytes()[:-1] + b"!")
    expected = run(network(), FEW).tobytes()
    assert run(quick, FEW).tobytes() == expected
    with pytest.raises(ModelFormatError, match="overwritten"):
        run(quick, IMAGES)
    assert run(quick, FEW).tobytes() == expected


# ---- what is not prepared --------------------------------------------------------------------------------------------


def test_models_that_cannot_be_prepared_say_why(tmp_path):
    with pytest.raises(LiteError, match=r"CondTake.*none|depend on data"):
        network(API_MODELS / "cond_take.mge").prepare(tmp_path / "p")
    with pytest.raises(LiteError, match="call load before prepare"):
        LiteNetwork().prepare(tmp_path / "p")
    assert list(tmp_path.iterdir()) == []


def test_encrypted_models_and_packages_are_not_prepared(tmp_path, _keys):
    from support.api_samples import packed

    from megengine_lite._core.formats.containers import cryption

    encrypted = tmp_path / "digits.enc"
    encrypted.write_bytes(cryption.encrypt("AES_256_GCM", DIGITS.read_bytes(), b"k" * 32))
    megengine_lite.LiteGlobal.update_decryption_key("AES_256_GCM", b"k" * 32)
    with pytest.raises(LiteError, match="encrypted"):
        network(encrypted).prepare(tmp_path / "p")
    with pytest.raises(LiteError, match="package"):
        network(packed(DIGITS.read_bytes())).prepare(tmp_path / "p")
    assert not (tmp_path / "p").exists()


# ---- made for something else -----------------------------------------------------------------------------------------


def stamped(content: bytes) -> bytes:
    """A file with the checksums that fit what is behind its header."""
    (head,) = struct.unpack_from("<Q", content, 24)
    header = bytearray(content[: HEADER_BYTES - 8])
    struct.pack_into("<Q", header, 32, xxh64(content[HEADER_BYTES : HEADER_BYTES + head], 0))
    struct.pack_into("<Q", header, 48, xxh64(content[HEADER_BYTES + head :], 0))
    return bytes(header) + struct.pack("<Q", xxh64(header, 0)) + content[HEADER_BYTES:]


def place_of(content: bytes, name: str) -> int:
    """Where the value of a fact begins in a file."""
    return content.index(struct.pack("<Q", len(name)) + name.encode()) + 8 + -(-len(name) // 8) * 8 + 8


@pytest.mark.parametrize("name", ["release", "processor", "instruction set", "kernels", "threads", "options", "model"])
def test_a_file_for_something_else_is_named_and_not_used(prepared, tmp_path, name):
    content = bytearray(prepared.read_bytes())
    content[place_of(content, name)] ^= 1
    content[place_of(content, MODEL_FILE)] ^= 1  # so that the model is read
    other = tmp_path / "other"
    other.write_bytes(stamped(bytes(content)))
    with pytest.warns(LiteWarning, match=f"was prepared for (a )?{name}.*as usual"):
        found = network(prepared=other)
    assert not is_used(found)
    assert run(found, FEW).tobytes() == run(network(), FEW).tobytes()


def test_settings_and_models_that_differ_are_named(prepared, tmp_path):
    with pytest.warns(LiteWarning, match="prepared for threads 1, and here it is 2"):
        assert not is_used(network(prepared=prepared, threads_number=2))
    with pytest.warns(LiteWarning, match="prepared for options"):
        network(prepared=prepared, made=config(graph_opt_level=0))
    with pytest.warns(LiteWarning, match=r"prepared for a model of \d+ bytes"):
        network(MULTI_IO, prepared)
    content = prepared.read_bytes()
    header = content[:8] + struct.pack("<I", 99) + content[12 : HEADER_BYTES - 8]
    (tmp_path / "new").write_bytes(header + struct.pack("<Q", xxh64(header, 0)) + content[HEADER_BYTES:])
    with pytest.warns(LiteWarning, match="version 99 of the format"):
        network(prepared=tmp_path / "new")


@pytest.fixture
def own_model(monkeypatch, tmp_path):
    """A file of the digits model, which counts as unchanged since long."""
    monkeypatch.setattr(identity, "_SETTLED_NS", -(1 << 62))
    path = tmp_path / "model.mge"
    path.write_bytes(DIGITS.read_bytes())
    return path


def test_a_model_whose_file_is_as_it_was_is_not_read(own_model, tmp_path, monkeypatch):
    network(own_model, images=FEW).prepare(tmp_path / "p")
    monkeypatch.setattr(identity, "xxh64", lambda *_: pytest.fail("the model was read"))
    assert is_used(network(own_model, tmp_path / "p"))


def test_a_model_whose_file_has_changed_since_it_was_loaded_is_not_prepared(own_model, tmp_path):
    """The prepared file would have the weights of one model under the name of the other."""
    loaded = network(own_model, images=FEW)
    own_model.write_bytes(DIGITS.read_bytes()[:-1] + b"!")
    with pytest.raises(LiteError, match=r"model\.mge: the file has changed since it was loaded"):
        loaded.prepare(tmp_path / "p")
    assert not (tmp_path / "p").exists()
    network(own_model, images=FEW).prepare(tmp_path / "p")
    assert is_used(network(own_model, tmp_path / "p"))


@pytest.mark.parametrize("replaces", [False, True])
def test_another_model_of_the_same_size_and_time_is_found(own_model, tmp_path, replaces):
    network(own_model, images=FEW).prepare(tmp_path / "p")
    before = own_model.stat()
    while own_model.stat().st_ctime_ns == before.st_ctime_ns:
        if replaces:
            own_model.unlink()
        own_model.write_bytes(DIGITS.read_bytes()[:-1] + b"!")
        os.utime(own_model, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (own_model.stat().st_size, own_model.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    with pytest.warns(LiteWarning, match=r"prepared for a model of \d+ bytes"):
        assert not is_used(network(own_model, tmp_path / "p"))


@pytest.mark.parametrize(
    ("ctime_ns", "is_trusted"),
    [(50_123_456_789, True), (50_000_000_000, False), (98_123_456_789, False), (200_000_000_001, False)],
)
def test_only_times_that_say_something_are_trusted(own_model, monkeypatch, ctime_ns, is_trusted):
    monkeypatch.setattr(identity, "_SETTLED_NS", 2_000_000_000)
    monkeypatch.setattr(identity.time, "time_ns", lambda: 100_000_000_000)
    found = os.stat(own_model)
    real = {name: getattr(found, name) for name in ("st_dev", "st_ino", "st_size", "st_mode", "st_mtime_ns")}
    monkeypatch.setattr(identity.os, "fstat", lambda _: SimpleNamespace(**real, st_ctime_ns=ctime_ns))
    assert bool(identity.identity_of(str(own_model)).state) == is_trusted


# ---- damaged files ---------------------------------------------------------------------------------------------------


def refused(content: bytes, path) -> str:
    """The error for a file with this content."""
    path.write_bytes(content)
    with pytest.raises(LiteError) as caught:
        network(prepared=path)
    return str(caught.value)


def test_a_file_that_is_cut_off_is_refused(prepared, tmp_path):
    content = prepared.read_bytes()
    for size in (*range(HEADER_BYTES + 1), *range(HEADER_BYTES + 1, len(content), 997), len(content) - 1):
        assert str(tmp_path / "p") in refused(content[:size], tmp_path / "p")
    refused(content + b"\0", tmp_path / "p")


def test_every_byte_is_covered_by_a_checksum(prepared, tmp_path):
    content = prepared.read_bytes()
    places = [*range(HEADER_BYTES + 200), *range(HEADER_BYTES + 200, len(content), 211), len(content) - 1]
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 0x10
        refused(bytes(damaged), tmp_path / "p")


def test_other_files_are_refused(prepared, tmp_path):
    assert "not a prepared file" in refused(DIGITS.read_bytes(), tmp_path / "p")
    assert "not a prepared file" in refused(b"", tmp_path / "p")
    assert prepared.read_bytes().startswith(MAGIC)
    with pytest.raises(LiteFileNotFoundError):
        network(prepared=tmp_path / "none")
    with pytest.raises(LiteError):
        network(prepared=tmp_path)


def test_numbers_of_a_plan_are_checked_whatever_the_checksums_say(prepared, tmp_path):
    """Only the load: a number that goes to a kernel is as trusted as code."""
    content = prepared.read_bytes()
    (head,) = struct.unpack_from("<Q", content, 24)
    begin = HEADER_BYTES + struct.unpack_from("<Q", content, 16)[0]
    outcomes = {"error": 0, "loaded": 0}
    path = tmp_path / "p"
    for place in range(begin, HEADER_BYTES + head, 8):
        for number in (-1, 1 << 40, (1 << 63) - 1):
            damaged = bytearray(content)
            struct.pack_into("<q", damaged, place, number)
            path.write_bytes(stamped(bytes(damaged)))
            try:
                network(prepared=path)
                outcomes["loaded"] += 1
            except LiteError:
                outcomes["error"] += 1
    assert outcomes["error"] > outcomes["loaded"] / 4 and outcomes["loaded"] > 100
