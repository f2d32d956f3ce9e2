"""ONNX files: told by their content or name, encrypted, packed, with values in other files; by the commands, too."""

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.onnx_models import load, make, run

from megengine_lite.cli import main
from megengine_lite.errors import LiteError, LiteFileNotFoundError, ModelFormatError, UnsupportedOperatorError

F = TensorProto.FLOAT
X = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4)
W = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)


def small():
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"], "product"), helper.make_node("Relu", ["m"], ["y"], "relu")]
    return make(nodes, [("x", F, [3, 4])], [("y", F, [3, 5])], {"w": W})


EXPECTED = np.maximum(X @ W, 0)
RANDOM = ("--input-desc", "x:3,4")


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(small().SerializeToString())
    return str(file)


def test_a_file_is_told_by_its_content_or_its_name(path, tmp_path):
    np.testing.assert_allclose(run(load(path), x=X)[0], EXPECTED, rtol=1e-6)
    other = tmp_path / "model.bin"
    other.write_bytes(small().SerializeToString())
    np.testing.assert_allclose(run(load(str(other)), x=X)[0], EXPECTED, rtol=1e-6)
    with open(path, "rb") as file:
        np.testing.assert_allclose(run(load(file), x=X)[0], EXPECTED, rtol=1e-6)
    graph_first = onnx.ModelProto(graph=small().graph, opset_import=small().opset_import)
    (tmp_path / "graph.onnx").write_bytes(graph_first.SerializeToString())
    np.testing.assert_allclose(run(load(str(tmp_path / "graph.onnx")), x=X)[0], EXPECTED, rtol=1e-6)


def test_a_damaged_file_is_no_model(path):
    content = small().SerializeToString()
    with pytest.raises(ModelFormatError, match="are left"):
        load(content[:-3])
    for length in range(4, len(content), 7):
        with pytest.raises(LiteError):
            load(content[:length])


def test_commands_take_onnx_files(path, tmp_path, run_json, capsys):
    info = run_json("info", path)
    assert (info["container"]["format"], info["container"]["release"]) == ("onnx", 10)
    assert [(i["name"], i["shape"]) for i in info["inputs"]] == [("x", [3, 4])]
    assert info["multiply_adds"] == {"MatrixMul": 60}
    np.savez(tmp_path / "io.npz", in_x=X, y=EXPECTED)
    compared = run_json("verify", path, "--against", tmp_path / "io.npz")
    assert compared["outputs"]["y"]["equal"] and compared["outputs"]["y"]["largest"] == float(EXPECTED.max())
    assert run_json("run", path, *RANDOM)["cases"][0]["outputs"]["y"]["shape"] == [3, 5]
    assert run_json("bench", path, "--iter", 3)["settings"]["threads"] == 1
    assert main(["profile", path]) == 0
    assert "relu" in capsys.readouterr().out  # the name of the result


@pytest.mark.parametrize("method", ["AES_256_GCM", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_an_encrypted_file_is_decrypted(method, path, tmp_path, run_json, error_of):
    locked, key = str(tmp_path / "locked.onnx"), bytes(range(32)).hex()
    run_json("encrypt", path, locked, "--method", method, "--key", key)
    compared = run_json("verify", locked, "--decrypt", method, "--key", key)
    assert compared["outputs"]["y"]["equal"]
    assert "key" in error_of("run", locked, *RANDOM, "--decrypt", method, "--key", "11" * 32)


@pytest.mark.parametrize("method", ["AES_256_GCM", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
@pytest.mark.parametrize("last", [b"", b"\x28\0", onnx.ModelProto(doc_string="\0" * 3).SerializeToString()])
@pytest.mark.parametrize("length", range(8))
def test_encryption_gives_back_the_file(length, last, method, tmp_path, run_json):
    """Whatever its size is, and what it ends with: the ciphers of the original encrypt whole words of eight bytes."""
    model, key = small(), bytes(range(32)).hex()
    model.producer_name = "p" * length
    content = model.SerializeToString() + last
    settings = json.dumps({"name": "model", "valid": True, "version": "1.13.0", "extra_info": "i" * length}).encode()
    path, locked, packed, again = (tmp_path / f"model.{end}" for end in ("onnx", "locked", "lite", "again"))
    path.write_bytes(content)
    (tmp_path / "info").write_bytes(settings)
    ciphers = ["--model-method", method, "--model-key", key, "--info-method", method, "--info-key", key]
    opened = ["--decrypt", method, "--key", key]

    run_json("encrypt", path, locked, "--method", method, "--key", key)
    assert run_json("verify", locked, "--against", path, *opened)["outputs"]["y"]["equal"]
    run_json("decrypt", locked, tmp_path / "plain", "--method", method, "--key", key)
    assert (tmp_path / "plain").read_bytes() == content
    run_json("pack", locked, packed, "--info", tmp_path / "info", *ciphers, *opened)
    assert run_json("verify", packed, "--against", path, *opened)["outputs"]["y"]["equal"]
    run_json("pack", packed, again, *opened)
    for package, flags in ((packed, opened), (again, [])):
        run_json("unpack", package, tmp_path / "parts", *flags)
        assert (tmp_path / "parts" / "model.onnx").read_bytes() == content
        assert (tmp_path / "parts" / "model.json").read_bytes() == settings


@pytest.mark.parametrize(
    "first", ["producer_name", "producer_version", "domain", "model_version", "doc_string", "graph"]
)
def test_a_decrypted_file_is_told_by_its_first_fields(first, path, tmp_path, run_json):
    model = onnx.ModelProto(ir_version=8, graph=small().graph, opset_import=small().opset_import)
    if first != "graph":
        setattr(model, first, 7 if first == "model_version" else "text")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    run_json("encrypt", tmp_path / "model.onnx", tmp_path / "locked", "--method", "AES_default", "--key", "11" * 32)
    opened = ["--decrypt", "AES_default", "--key", "11" * 32]
    assert run_json("verify", tmp_path / "locked", "--against", path, *opened)["outputs"]["y"]["equal"]


@pytest.mark.parametrize("method", ["NONE", "AES_default"])
def test_a_packed_file_is_unpacked(method, path, tmp_path, run_json):
    packed, key = str(tmp_path / "model.lite"), bytes(range(32)).hex()
    run_json("pack", path, packed, "--model-method", method, *(["--model-key", key] if method != "NONE" else []))
    locked = ["--decrypt", method, "--key", key] if method != "NONE" else []
    assert run_json("run", packed, *RANDOM, *locked)["cases"][0]["outputs"]["y"]["shape"] == [3, 5]
    if method == "NONE":
        np.testing.assert_allclose(run(load(packed), x=X)[0], EXPECTED, rtol=1e-6)


# ---- values in other files -------------------------------------------------------------------------------------------


def external(location, **entries):
    """A model whose weights are elsewhere."""
    model = small()
    (weights,) = model.graph.initializer
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        weights.external_data.add(key=key, value=str(value))
    return model


def store(folder, model, name="model.onnx"):
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return str(path)


def test_external_values_are_read_at_their_place(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"12345678" + W.tobytes() + b"rest")
    path = store(tmp_path, external("sub/w.bin", offset=8, length=W.nbytes))
    np.testing.assert_allclose(run(load(path), x=X)[0], EXPECTED, rtol=1e-6)
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = store(tmp_path, external("w.bin"))
    np.testing.assert_allclose(run(load(path), x=X)[0], EXPECTED, rtol=1e-6)
    monkeypatch.chdir(tmp_path)
    np.testing.assert_allclose(run(load("model.onnx"), x=X)[0], EXPECTED, rtol=1e-6)


@pytest.mark.parametrize("entries", [{}, {"offset": 8}, {"length": W.nbytes}])
def test_external_values_take_what_their_shape_needs_if_no_length_is_given(entries, tmp_path):
    """Other values lie behind them; a package of the model has only theirs."""
    (tmp_path / "w.bin").write_bytes(bytes(entries.get("offset", 0)) + W.tobytes() + b"others")
    path = store(tmp_path, external("w.bin", **entries))
    np.testing.assert_allclose(run(load(path), x=X)[0], EXPECTED, rtol=1e-6)
    assert main(["pack", path, str(tmp_path / "model.lite")]) == 0
    np.testing.assert_allclose(run(load(str(tmp_path / "model.lite")), x=X)[0], EXPECTED, rtol=1e-6)


def test_external_values_may_lie_behind_2_gib(tmp_path):
    """In a file with a hole, which takes no room on the disk; a model of such a size has them in one file."""
    needed = 2**31 + 2**20
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") < 2 * needed:
        pytest.skip("there is not enough memory to read a file of 2 GiB")
    with open(tmp_path / "w.bin", "wb") as file:
        file.truncate(needed)
        file.seek(2**31 + 8)
        file.write(W.tobytes())
    if os.stat(tmp_path / "w.bin").st_blocks * 512 > 2**20:
        pytest.skip("this disk has no files with holes")
    path = store(tmp_path, external("w.bin", offset=2**31 + 8, length=W.nbytes))
    np.testing.assert_allclose(run(load(path), x=X)[0], EXPECTED, rtol=1e-6)


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "C:\\w.bin", "\\w.bin", "..\\w.bin", "", "a\0b"]
)
def test_external_values_outside_of_the_folder_are_refused(location, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(ModelFormatError, match="only files in the model's folder are read"):
        load(store(tmp_path / "in", external(location)))


def test_links_out_of_the_folder_are_refused_and_links_inside_are_followed(tmp_path):
    inside = tmp_path / "in"
    inside.mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    (inside / "link.bin").symlink_to(tmp_path / "w.bin")
    (inside / "folder").symlink_to(tmp_path)
    for location in ("link.bin", "folder/w.bin"):
        with pytest.raises(ModelFormatError, match=r"is a link to .* outside of the model's folder"):
            load(store(inside, external(location)))
    (inside / "own.bin").write_bytes(W.tobytes())
    (inside / "again.bin").symlink_to("own.bin")
    np.testing.assert_allclose(run(load(store(inside, external("again.bin"))), x=X)[0], EXPECTED, rtol=1e-6)


def test_a_model_that_is_a_link_has_its_files_as_links_to_the_same_folder(tmp_path):
    """As caches of downloads have them; links to other folders are refused all the same."""
    blobs, snapshot, other = (tmp_path / name for name in ("blobs", "snapshot", "blobs2"))
    for folder in (blobs, snapshot, other):
        folder.mkdir()
    (blobs / "aa").write_bytes(external("w.bin").SerializeToString())
    for folder in (blobs, other):
        (folder / "bb").write_bytes(W.tobytes())
    path = snapshot / "model.onnx"
    path.symlink_to(Path("..", "blobs", "aa"))
    (snapshot / "w.bin").symlink_to(Path("..", "blobs", "bb"))
    np.testing.assert_allclose(run(load(str(path)), x=X)[0], EXPECTED, rtol=1e-6)
    assert main(["pack", str(path), str(tmp_path / "model.lite")]) == 0
    np.testing.assert_allclose(run(load(str(tmp_path / "model.lite")), x=X)[0], EXPECTED, rtol=1e-6)
    (snapshot / "w.bin").unlink()
    (snapshot / "w.bin").symlink_to(other / "bb")
    with pytest.raises(ModelFormatError, match=r"is a link to .* outside of the model's folder"):
        load(str(path))


@pytest.mark.parametrize(
    "entries, message",
    [
        ({"offset": 4}, "has 76 bytes, 20 elements of FLOAT take 80"),
        ({"offset": 81}, "the file is cut off or damaged"),
        ({"offset": 0, "length": 84}, "the file is cut off or damaged"),
        ({"offset": 2**64 - 40, "length": 80}, "must be a number"),
        ({"offset": -1}, "must be a number"),
        ({"length": "8e1"}, "must be a number"),
        ({"length": 79}, "has 79 bytes"),
    ],
)
def test_external_places_are_checked(entries, message, tmp_path):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(ModelFormatError, match=message):
        load(store(tmp_path, external("w.bin", **entries)))


def test_external_values_of_models_without_a_folder_or_a_file_are_refused(tmp_path):
    with pytest.raises(ModelFormatError, match="load the model by its path"):
        load(external("w.bin"))
    with pytest.raises(LiteFileNotFoundError, match=r"tensor 'w' is in the file 'w\.bin': there is no file "):
        load(store(tmp_path, external("w.bin")))


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("raw_data", b"123", "has 3 bytes, 20 elements of FLOAT take 80"),
        ("float_data", [1, 2], "has 2 numbers, its shape .4, 5. needs 20"),
        ("dims", [-1, 5], "none of them negative"),
        ("dims", [2**62, 2**62], "not so many elements"),
        ("dims", [1] * 8, "up to 7 dimensions"),
        ("data_type", 8, "elements of type STRING"),
        ("data_type", 77, "elements of type number 77"),
    ],
)
def test_values_that_do_not_fit_their_shape_are_refused(field, value, message):
    model = small()
    (weights,) = model.graph.initializer
    if field == "float_data":
        weights.ClearField("raw_data")
        weights.float_data.extend(value)
    elif field == "dims":
        weights.dims[:] = value
    else:
        setattr(weights, field, value)
    with pytest.raises((ModelFormatError, UnsupportedOperatorError), match=message):
        load(model)


@pytest.mark.parametrize(
    "dtype",
    ["float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool", "float16"],
)
@pytest.mark.parametrize("raw", [True, False])
def test_constants_of_every_type_keep_their_values(dtype, raw):
    value = np.array([[0, 1, 5], [1, 100, 0]]).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    stored = numpy_helper.from_array(value, "w") if raw else helper.make_tensor("w", kind, [2, 3], value.reshape(-1))
    model = make([helper.make_node("Cast", ["w"], ["y"], to=F)], [], [("y", F, [2, 3])])
    model.graph.initializer.append(stored)
    np.testing.assert_array_equal(run(load(model))[0], value.astype(np.float32))
