"""Models whose weights are in memory that processes share: results, other shapes, what is never written to a file."""

import os
import pickle
import tempfile

import numpy as np
import pytest
from support import onnx_models
from support.api_samples import DIGITS, IMAGES, PROB, close

import megengine_lite
from megengine_lite import LiteGlobal
from megengine_lite._core.system import shared_arrays
from megengine_lite.batch import Predictor
from megengine_lite.errors import ModelFormatError

pytestmark = pytest.mark.skipif(shared_arrays.fcntl is None, reason="needs locks of POSIX")

WEIGHT = np.random.default_rng(0).random((512, 256), "float32")
TABLE = np.random.default_rng(1).random((3000, 32), "float32")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / f"megengine_lite-{os.geteuid()}"


def bytes_in(folder):
    return sum(p.stat().st_size for p in folder.iterdir()) if folder.exists() else 0


@pytest.fixture
def model(tmp_path):
    """A product, whose weights are packed, and a table, which kernels read as it is in the file."""
    from onnx import helper

    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"]),
        helper.make_node("Gather", ["t", "k"], ["rows"]),
    ]
    ends = [("x", 1, ["n", 512]), ("k", 7, ["m"])], [("y", 1, ["n", 256]), ("rows", 1, ["m", 32])]
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_models.make(nodes, *ends, {"w": WEIGHT, "t": TABLE}).SerializeToString())
    return path


def inputs(rows):
    return {"x": np.random.default_rng(rows).random((rows, 512), "float32"), "k": np.arange(rows * 3)}


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_results_are_the_same_bits(model, folder, precision):
    own = megengine_lite.load(model, threads=1, precision=precision)
    shared = megengine_lite.load(model, threads=1, precision=precision, share_weights=True)
    for rows in (1, 3, 1, 64, 7):
        for name, array in own(inputs(rows)).items():
            assert shared(inputs(rows))[name].tobytes() == array.tobytes()
    packed = WEIGHT.nbytes if precision == "float32" else WEIGHT.nbytes // 2
    assert packed + TABLE.nbytes <= bytes_in(folder) < 2 * WEIGHT.nbytes + 1.1 * TABLE.nbytes


def test_another_model_of_the_same_file_adds_nothing(model, folder):
    first = megengine_lite.load(model, threads=1, share_weights=True)
    first(inputs(2))
    size = bytes_in(folder)
    second = megengine_lite.load(model, threads=1, share_weights=True)
    workers = megengine_lite.load(model, threads=1, workers=3, share_weights=True)
    copy = pickle.loads(pickle.dumps(second))
    for each in (second, copy, workers, workers, workers):
        assert each(inputs(2))["y"].tobytes() == first(inputs(2))["y"].tobytes()
    assert bytes_in(folder) == size > 0
    del first, second, workers, copy, each
    assert bytes_in(folder) == 0


def test_models_in_memory_share_too(model, folder):
    content = model.read_bytes()
    models = [megengine_lite.load(content, threads=1, share_weights=True) for _ in range(2)]
    models[0](inputs(2))
    size = bytes_in(folder)
    models[1](inputs(2))
    assert bytes_in(folder) == size > WEIGHT.nbytes


def test_memory_counts_what_is_shared(model):
    models = [megengine_lite.load(model, threads=1, share_weights=share) for share in (True, False)]
    for each in models:
        each(inputs(2))
    sizes = [each._workers[0].network._engine.session.memory_usage() for each in models]
    assert sizes[0] == sizes[1] and sizes[0]["weights"] > WEIGHT.nbytes


def test_without_the_folder_a_model_has_its_own(model, folder):
    folder.write_text("")
    shared = megengine_lite.load(model, threads=1, share_weights=True)
    own = megengine_lite.load(model, threads=1)
    assert shared(inputs(2))["y"].tobytes() == own(inputs(2))["y"].tobytes()


def test_a_file_that_is_overwritten_is_told_as_before(model):
    """The weights that are needed for another plan are those of the file, or shared; never others."""
    shared = megengine_lite.load(model, threads=1, share_weights=True)
    before = shared(inputs(2))["y"]
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 255
    with model.open("r+b") as file:
        file.write(content)
    assert shared(inputs(2))["y"].tobytes() == before.tobytes()
    try:
        after = shared(inputs(70))["y"]
    except ModelFormatError:
        return
    assert np.allclose(after, inputs(70)["x"] @ WEIGHT, rtol=1e-4)


# ---- predictors -----------------------------------------------------------------------------------------------------


def test_predictors_share_by_default(model, folder):
    assert Predictor(model)(inputs(1) | {"k": np.arange(1)})["y"].shape == (1, 256)
    assert bytes_in(folder) > WEIGHT.nbytes


def test_predictors_share_nothing_if_told(model, folder):
    Predictor(model, share_weights=False)(inputs(1) | {"k": np.arange(1)})
    assert bytes_in(folder) == 0


def test_rows_in_several_batches_are_right(folder):
    assert close(Predictor(DIGITS, batch_size=7)(IMAGES), PROB)


# ---- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["method", "container", "package", "plain package", "plain"])
def test_weights_of_encrypted_models_are_never_written(model, folder, how, tmp_path, run_json, _keys):
    plain, secret = tmp_path / "plain.mge", tmp_path / "secret"
    run_json("convert", model, plain, "--shape", "x=2x512", "--shape", "k=6")
    decryption = ""
    if "package" in how:
        run_json("pack", plain, secret, *([] if how.startswith("plain") else ["--model-method", "AES_default"]))
    elif how == "container":
        run_json("encrypt", plain, secret, "--method", "AES_256_GCM", "--key", "01" * 32)
        LiteGlobal.update_decryption_key("AES_256_GCM", bytes([1] * 32))
    elif how == "method":
        decryption = "RC4_default"
        run_json("encrypt", plain, secret, "--method", decryption)
    else:
        secret = plain
    shared = megengine_lite.load(secret, threads=1, decryption=decryption, share_weights=True)
    assert np.allclose(shared(inputs(2))["y"], inputs(2)["x"] @ WEIGHT, rtol=1e-4)
    assert (bytes_in(folder) > WEIGHT.nbytes) == how.startswith("plain")
