"""Operators from C libraries, run from models that MegEngine wrote, with a library that is compiled here."""

import ctypes
import gc
import logging
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from support.c_library import compile_library
from support.graphs import run as run_session
from support.places import TESTS

from megengine_lite import LiteGlobal, LiteNetwork
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators import c_library as extern_c
from megengine_lite._core.operators.c_library import Descriptor, load_library
from megengine_lite._core.runtime.session import Session
from megengine_lite.cli import main
from megengine_lite.errors import (
    LiteError,
    LiteFileNotFoundError,
    LiteTypeError,
    LiteValueError,
    ModelFormatError,
    ShapeError,
)

MODELS = TESTS / "models" / "extern"
REFUSED = {
    "unknown_loader": "no library has registered a loader 'no_such_loader'",
    "payload_too_short": "refuses 1 inputs with 6 bytes",
    "mixed_inputs_refused": "float32, int32",
    "int8_refused": "int8",
}
ALL_MODELS = sorted(p.name for p in MODELS.glob("*.mge"))
TOLERANCE = {"in_network": 1e-5, "after_conv": 1e-5}
AFFINE = b"AFN1" + np.array([2, 1], "<f4").tobytes()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="module")
def library(directory):
    """The library with the models' operators, opened; as seen by ctypes."""
    path = compile_library(directory, "operators.c")
    load_library(path)
    handle = ctypes.CDLL(os.fspath(path))
    handle.path = os.fspath(path)
    return handle


def counter(library, name: str) -> int:
    return ctypes.c_int.in_dll(library, name).value


def run(path: Path, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    return run_session(Session(load_model(str(path))), **inputs)


def stored(model: str) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    case = np.load(MODELS / f"{model.split('.')[0]}.npz")
    inputs = {k[3:]: np.ascontiguousarray(case[k]) for k in case.files if k.startswith("in_")}
    return inputs, [case[k] for k in sorted(case.files) if k.startswith("out_")]


@pytest.mark.parametrize("model", [m for m in ALL_MODELS if m.split(".")[0] not in REFUSED])
def test_model_equals_stored_outputs(library, model):
    inputs, expected = stored(model)
    results = run(MODELS / model, inputs)
    assert len(results) == len(expected)
    for result, wanted in zip(results, expected, strict=True):
        assert result.shape == wanted.shape and result.dtype == wanted.dtype
        if wanted.dtype.kind in "iu" or model.startswith(("copy", "convert")):
            np.testing.assert_array_equal(result, wanted)
        else:
            error = np.abs(result - wanted).max() / np.abs(wanted).max()
            assert error <= TOLERANCE.get(model.split(".")[0], 1e-6)
    assert counter(library, "misaligned") == 0


def test_network_and_command_line_open_libraries(library, capsys):
    LiteGlobal.set_loader_lib_path(library.path)
    network = LiteNetwork()
    network.load(MODELS / "mix3.mge")
    inputs, expected = stored("mix3")
    for name, array in inputs.items():
        network.get_io_tensor(name).set_data_by_copy(array)
    network.forward()
    network.wait()
    np.testing.assert_array_equal(network.get_io_tensor(network.get_output_name(0)).to_numpy(), expected[0])
    case = MODELS / "mix3.npz"
    assert main(["verify", str(MODELS / "mix3.mge"), "--against", str(case), "--c_opr_lib", library.path]) == 0
    assert "same" in capsys.readouterr().out


@pytest.mark.parametrize("model", [m for m in ALL_MODELS if m.split(".")[0] in REFUSED])
def test_model_is_refused(library, model):
    inputs, _ = stored(model)
    with pytest.raises(LiteError, match=REFUSED[model.split(".")[0]]):
        run(MODELS / model, inputs)


def test_model_without_library_is_refused_when_it_is_loaded(library):
    assert library.remove_loader(b"rowstat", 0) == 1
    try:
        for model in ("rowstat.mge", "rowstat.v1.mge"):
            with pytest.raises(LiteError, match=r"'rowstat'.*set_loader_lib_path"):
                load_model(str(MODELS / model))
            assert sorted(load_model(str(MODELS / "rowstat.mge"), check=False).input_names) == ["img", "scale"]
    finally:
        load_library(library.path)
    assert "rowstat" in extern_c.loader_names()


def test_removed_loader_leaves_loaded_models_alone(library):
    model = load_model(str(MODELS / "affine.mge"))
    assert library.remove_loader(b"affine", 0) == 1
    try:
        with pytest.raises(LiteError, match="no library"):
            load_model(str(MODELS / "affine.mge"))
        inputs, expected = stored("affine")
        session = Session(model)
        session.set_array("data", inputs["data"])
        session.run()
        assert session.output(session.output_names[0]).shape == expected[0].shape
    finally:
        load_library(library.path)


def test_wrong_number_of_outputs_is_refused(library):
    """Version 2 files say how many outputs there are; the library must agree."""
    from megengine_lite._core.operators import REGISTRY

    with pytest.raises(ModelFormatError, match="2 outputs"):
        REGISTRY["ExternCOprRunner"].load_payload((b"affine", AFFINE), 1, 2)


def test_dummy_loader_takes_unknown_operators(library):
    assert library.add_dummy() == 1
    try:
        inputs, _ = stored("unknown_loader")
        for model in ("unknown_loader.mge", "unknown_loader.v1.mge"):
            result = run(MODELS / model, inputs)[0]
            np.testing.assert_array_equal(result, inputs["data"] + 1)
    finally:
        assert library.remove_loader(b"extern_opr_dummy", 1) == 1


def test_descriptors_are_released_once_and_with_the_model(library):
    gc.collect()  # graphs of earlier tests
    before = counter(library, "created") - counter(library, "released")
    inputs, _ = stored("in_network")
    session = Session(load_model(str(MODELS / "in_network.mge")))
    assert counter(library, "created") - counter(library, "released") == before + 4
    session.set_array("data", inputs["data"])
    executed = counter(library, "executed")
    session.run()
    session.run()
    assert counter(library, "executed") == executed + 8
    assert counter(library, "created") - counter(library, "released") == before + 4
    del session
    gc.collect()
    assert counter(library, "created") - counter(library, "released") == before


def test_versions_share_their_names(library):
    assert counter(library, "other_versions") == 0
    assert library.add_affine_as(b"affine_old", 0) == 0
    assert library.add_affine_as(b"affine", 1) == 0
    assert library.add_affine_as(b"another", 0) == 1
    assert library.remove_loader(b"another", 1) == 1
    assert library.remove_loader(b"another", 0) == 0


def test_loader_may_register_another_one(library):
    assert Descriptor(b"nested", AFFINE, 1).infer([(2,)], [0]) == [((2,), 0)]
    assert Descriptor(b"made_by_nested", AFFINE, 1).infer([(3,)], [0]) == [((3,), 0)]


def test_loaders_may_be_registered_from_any_thread(library):
    """ctypes calls release Python's lock, so these really meet."""
    names = [[f"thread{t}:{k}".encode() for k in range(200)] for t in range(4)]
    added: list[int] = []

    def work(mine):
        added.append(sum(library.add_affine_as(name, k % 2) for k, name in enumerate(mine)))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in names]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert added == [200] * 4
    assert {n.decode() for mine in names for n in mine} <= set(extern_c.loader_names())
    assert sum(library.remove_loader(name, 0) for mine in names for name in mine) == 800


@pytest.mark.parametrize(
    ("letter", "message"),
    [
        ("s", "64 bytes"),
        ("S", "88 bytes"),
        ("o", "0 outputs"),
        ("t", "no type_name"),
        ("r", "no release"),
        ("h", "no hash"),
        ("i", "no is_same"),
        ("e", "no execute"),
        ("f", "no infer_shape"),
        ("p", "dynamic_param"),
    ],
)
def test_broken_descriptor_is_refused_and_released(library, letter, message):
    before = counter(library, "released")
    with pytest.raises(LiteError, match=message):
        Descriptor(b"broken", letter.encode(), 1)
    assert counter(library, "released") == before + (letter != "r")


@pytest.mark.parametrize(("letter", "error"), [("n", ShapeError), ("N", ShapeError), ("d", LiteTypeError)])
def test_impossible_inference_is_refused(library, letter, error):
    descriptor = Descriptor(b"broken", letter.encode(), 1)
    with pytest.raises(error, match="'broken'"):
        descriptor.infer([(2, 3)], [0])


def test_inference_gives_shapes_and_types(library):
    assert Descriptor(b"affine:some/part", AFFINE, 1).infer([(2, 3)], [0]) == [((2, 3), 0)]
    assert Descriptor(b"affine", AFFINE, 1).infer([()], [3]) == [((1,), 3)]
    assert Descriptor(b"rowstat", bytes(5), 2).infer([(4, 2, 3), (1,)], [2, 0]) == [((4, 2, 3), 0), ((4, 2), 1)]
    with pytest.raises(ShapeError, match="1 inputs, got 2"):
        Descriptor(b"affine", AFFINE, 1).infer([(2,), (2,)], [0, 0])
    with pytest.raises(ShapeError, match="cannot take"):
        Descriptor(b"affine", AFFINE, 1).infer([(1,) * 8], [0])
    with pytest.raises(ShapeError, match="cannot take"):
        Descriptor(b"affine", AFFINE, 1).infer([(2**32,)], [0])


def test_name_that_begins_with_a_colon_is_taken_whole(library):
    with pytest.raises(LiteError, match="a loader ':affine'"):
        Descriptor(b":affine", AFFINE, 1)


def test_one_descriptor_is_never_entered_twice(library):
    descriptor = Descriptor(b"affine", AFFINE, 1)
    x = np.ones(1 << 18, np.float32)
    ctypes.c_int.in_dll(library, "most_concurrent").value = 0

    def work():
        y = np.empty_like(x)
        for _ in range(5):
            descriptor.execute([(x.shape, 0, x.ctypes.data)], [(y.shape, 0, y.ctypes.data)])
        assert y[0] == 3

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert counter(library, "most_concurrent") == 1


def test_cpp_exceptions_become_lite_errors(directory, caplog):
    load_library(compile_library(directory, "throwing.cpp"))
    with pytest.raises(LiteError, match="create_desc failed: no luck in c"):
        Descriptor(b"throwing", b"c", 1)
    for letter, function in ((b"s", "infer_shape"), (b"d", "infer_dtype")):
        with pytest.raises(LiteError, match=f"{function} failed: no luck in {letter.decode()}"):
            Descriptor(b"throwing", letter, 1).infer([(1,)], [0])
    x, y = np.ones(1, np.float32), np.zeros(1, np.float32)
    tensors = [((1,), 0, x.ctypes.data)], [((1,), 0, y.ctypes.data)]
    with pytest.raises(LiteError, match="execute failed: no luck in e"):
        Descriptor(b"throwing", b"e", 1).execute(*tensors)
    with pytest.raises(LiteError, match="execute failed: Unknown exception"):
        Descriptor(b"throwing", b"x", 1).execute(*tensors)
    descriptor = Descriptor(b"throwing", b"r", 1)
    descriptor.execute(*tensors)
    assert y[0] == 2
    with caplog.at_level(logging.ERROR, "megengine_lite"):
        del descriptor
    assert "release failed: no luck in r" in caplog.text


def test_exception_in_init_is_an_error(directory):
    path = compile_library(directory, "throwing.cpp", "-DTHROW_IN_INIT")
    with pytest.raises(LiteError, match=r"mgb_c_opr_init of library .* failed: no luck in init"):
        load_library(path)


def test_library_that_registers_nothing_is_a_warning(directory, caplog):
    path = compile_library(directory, "empty.c")
    with caplog.at_level(logging.WARNING, "megengine_lite"):
        load_library(os.fsencode(path))
    assert f"{str(path)!r} has not registered any operator" in caplog.text


def test_second_library_with_a_name_that_is_taken_is_a_warning(library, directory, caplog):
    path = compile_library(directory, "empty.c", '-DTAKE_NAME="affine"')
    with caplog.at_level(logging.WARNING, "megengine_lite"):
        load_library(str(path))
    assert str(path) in caplog.text and library.path in caplog.text and "'affine'" in caplog.text
    np.testing.assert_array_equal(run(MODELS / "affine.mge", stored("affine")[0])[0], stored("affine")[1][0])


def test_same_library_again_is_silent(library, caplog):
    with caplog.at_level(logging.WARNING, "megengine_lite"):
        load_library(library.path)
    assert not caplog.records


def test_what_cannot_be_opened_is_refused(directory, tmp_path):
    with pytest.raises(LiteFileNotFoundError, match="no_such_library"):
        load_library(tmp_path / "no_such_library.so")
    text = tmp_path / "text.so"
    text.write_text("not a library")
    with pytest.raises(LiteError, match=r"text\.so"):
        load_library(text)
    with pytest.raises(LiteError, match="mgb_c_opr_init"):
        load_library(compile_library(directory, "empty.c", "-DNO_INIT"))
    with pytest.raises(LiteValueError):
        load_library("")
    with pytest.raises(LiteValueError):
        load_library("with\0zero")
    for wrong in (None, 3):
        with pytest.raises(LiteTypeError):
            load_library(wrong)
