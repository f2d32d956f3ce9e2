"""Files that are taken for models, and other mix-ups: the error says what it is and what to do."""

from __future__ import annotations

import bz2
import collections
import gzip
import io
import json
import lzma
import os
import pickle
import random
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, loaded, packed
from support.loader_samples import MODELS, SMALL
from support.processes import in_process

from megengine_lite import LiteGlobal, LiteNetwork, get_model_io_info
from megengine_lite._core.cpu.algorithms.cache import parse_cache, serialize_cache
from megengine_lite._core.cpu.isa import instruction_sets
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.foreign_files import recognise
from megengine_lite._core.formats.load import load_model
from megengine_lite.cli import main
from megengine_lite.errors import DeviceError, LiteError, ModelFormatError, ShapeError

# What megengine.save makes of a state_dict, with protocol 4: numpy arrays in an OrderedDict.
STATE: dict[str, np.ndarray] = collections.OrderedDict(
    [("bias", np.ones((1, 2), "float32")), ("weight", np.ones((2, 2), "float32"))]
)

CHECKPOINTS = ((2, STATE), (3, {"epoch": 1}), (4, STATE), (4, {"state_dict": STATE}), (5, [STATE]))
TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02ctorch._utils\n"


def archived(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "tar":
        with tarfile.open(fileobj=stream, mode="w") as tar:
            tar.add(DIGITS, "digits.mge")
    else:
        with zipfile.ZipFile(stream, "w") as file:
            file.writestr({"zip": "digits.mge", "torch": "archive/data.pkl"}[kind], b"x" * 100)
    return stream.getvalue()


def arrays(**named: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **named)
    return stream.getvalue()


def array() -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.ones((2, 3)))
    return stream.getvalue()


PAGE = b"\n <!DOCTYPE html>\n<html><head><title>404</title></head><body>Not found</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"

# content, what it is, what to do
FILES = {
    "empty": (b"", "an empty file", "copy it again"),
    "pointer": (POINTER, "a pointer of Git LFS", "git lfs pull"),
    "page": (PAGE, "a web page", "direct link"),
    "page with a mark": (b"\xef\xbb\xbf<HTML>", "a web page", "direct link"),
    "xml": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "a web page", "direct link"),
    **{
        f"checkpoint {k}": (pickle.dumps(content, protocol), "megengine.save writes checkpoints", r"trace\(symbolic")
        for k, (protocol, content) in enumerate(CHECKPOINTS)
    },
    "torch pickle": (TORCH, "a checkpoint of PyTorch", "export"),
    "torch": (archived("torch"), "a checkpoint of PyTorch", "export"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(60), "a TensorFlow Lite model", "convert it"),
    "gguf": (b"GGUF\3\0\0\0" + bytes(16), "a GGUF file", "llama.cpp"),
    "keras": (b"\x89HDF\r\n\x1a\n" + bytes(60), "an HDF5 file", "convert it"),
    "openvino": (b'<?xml version="1.0"?>\n<net name="n" version="11">\n<layers>', "an OpenVINO model", "convert it"),
    "ncnn": (b"7767517\n75 83\nInput data 0 1 data\n", "an ncnn model", "convert it"),
    "safetensors": (b"\x40" + bytes(7) + b'{"w":{"dtype":"F32"' + bytes(64), "a .safetensors file", r"trace\(symbolic"),
    "npz": (arrays(a=np.ones(3)), "a .npz file", "inputs"),
    "npy": (array(), "an array of numpy's", "inputs"),
    "zip": (archived("zip"), "a zip archive", "Unpack it"),
    "tar": (archived("tar"), "a tar archive", "Unpack it"),
    "gzip": (gzip.compress(ADD), "a compressed file", "Unpack it"),
    "bzip2": (bz2.compress(ADD), "a compressed file", "Unpack it"),
    "xz": (lzma.compress(ADD), "a compressed file", "Unpack it"),
    "library": (Path(sys.executable).resolve().read_bytes()[:8192], "a program or a library", "--c-opr-lib"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(50), "an image", "inputs"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(50), "an image", "inputs"),
    "cache": (serialize_cache({b"megengine_lite:r2:cpu:avx2:t1:conv": {}}), "a cache of algorithms", "fast-run"),
    "cache of the original": (serialize_cache({b"profile:plat=cpu": {}}), "a cache of algorithms", "fast-run"),
    "json": (json.dumps({"name": "net"}).encode(), "a JSON file", "pack"),
    "text": (b"hello\n", "a text file", ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_is_no_model_is_named(kind, tmp_path, capsys):
    content, noun, advice = FILES[kind]
    path = tmp_path / "model.mge"
    path.write_bytes(content)
    pattern = rf"not a MegEngine model but .*{noun}.*{advice}"
    for read in (LiteNetwork().load, get_model_io_info):
        for source in (content, str(path)):
            with pytest.raises(ModelFormatError, match=pattern):
                read(source)
    for command in ("run", "info", "bench", "verify"):
        assert main([command, str(path)]) == 1
        assert noun in capsys.readouterr().err


@pytest.mark.parametrize("kind", sorted(FILES.keys() - {"empty"}))
def test_a_file_that_is_only_named_like_a_model_of_onnx_is_named(kind, tmp_path):
    content, noun, advice = FILES[kind]
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for read in (LiteNetwork().load, get_model_io_info):
        with pytest.raises(ModelFormatError, match=rf"not an ONNX model but .*{noun}.*{advice}"):
            read(str(path))


def test_a_pipe_without_a_writer_is_not_called_an_empty_file(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for read in (LiteNetwork().load, get_model_io_info):
        with pytest.raises(ModelFormatError, match="a pipe that nobody is writing to; start the program"):
            read(pipe)
    reading, writing = os.pipe()
    os.write(writing, DIGITS.read_bytes()[:100])
    os.close(writing)
    with pytest.raises(ModelFormatError, match=r"/dev/fd/.* the end is at 100: "):
        LiteNetwork().load(f"/dev/fd/{reading}")
    os.close(reading)


@pytest.mark.parametrize("name", [*SMALL, None])
def test_models_are_told_from_all_that(name):
    content = packed() if name is None else (MODELS / name).read_bytes()
    kind = recognise(content)
    assert kind is not None and kind.noun == "a MegEngine model"


@pytest.mark.parametrize("third", b"\x12\x1a\x22\x28\x32\x3a\x42")
def test_a_model_is_one_whatever_its_size_is(third):
    """The second generation begins with it; the same bytes begin an ONNX model."""
    content = DIGITS.read_bytes()
    size = (third << 16) + 0x0A08
    content = size.to_bytes(4, "little") + content[4:] + bytes(size + 4 - len(content))
    assert recognise(content).noun == "a MegEngine model"
    assert load_model(content).output_names == ["prob"]


def test_what_cannot_be_told_is_not_guessed():
    """Random bytes, as encrypted files are; of 2000 a few may begin like something."""
    generator = random.Random(1)
    guessed = [recognise(generator.randbytes(300)) for _ in range(2000)]
    assert sum(kind is not None for kind in guessed) <= 4


@pytest.mark.parametrize("name", ["secret.mge", "secret.onnx"])
@pytest.mark.parametrize("method", ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
@pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning")
def test_an_encrypted_model_asks_how(method, name, tmp_path, error_of):
    path = tmp_path / name
    path.write_bytes(cryption.encrypt(method, DIGITS.read_bytes()))
    with pytest.raises(ModelFormatError, match=r"If it is encrypted, say how: by LiteConfig\.bare_model_cryption_name"):
        LiteNetwork().load(path)
    for command in (["run", path], ["info", path], ["convert", path, tmp_path / "out"]):
        assert "--decrypt METHOD --key KEY" in error_of(*command)


# ---- other files in other places ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*sorted(set(FILES) - {"cache", "cache of the original", "empty"}), "model"])
def test_a_file_that_is_no_cache_is_named(kind, tmp_path, error_of, caplog):
    content, noun, _ = FILES[kind] if kind != "model" else (DIGITS.read_bytes(), "a MegEngine model", "")
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match=rf"not a cache of algorithms but .*{noun}"):
        parse_cache(content)
    assert noun in error_of("cache", path)
    assert noun in error_of("bench", DIGITS, "--fast-run-algo-policy", path)
    assert noun in error_of("pack", DIGITS, tmp_path / "out", "--pack-cache", path)
    with caplog.at_level("WARNING", "megengine_lite"):
        LiteGlobal.set_persistent_cache(path)
    assert noun in caplog.text and "not used" in caplog.text
    assert path.read_bytes() == content


def test_verify_against_an_array(tmp_path, run_json, error_of):
    np.save(tmp_path / "x.npy", IMAGES)
    np.save(tmp_path / "prob.npy", PROB)
    result = run_json("verify", DIGITS, "--input", tmp_path / "x.npy", "--against", tmp_path / "prob.npy")
    assert result["outputs"]["prob"]["difference"] < 1e-5
    np.save(tmp_path / "prob.npy", PROB + 1)
    run_json("verify", DIGITS, "--input", tmp_path / "x.npy", "--against", tmp_path / "prob.npy", status=1)
    several = MODELS.parent / "api" / "multi_io.mge"
    values = np.load(several.with_suffix(".npz"))
    words = [w for n in values if n.startswith("in_") for w in ("--input", f"{n[3:]}={several.with_suffix('.npz')}")]
    message = error_of("verify", several, *words, "--against", tmp_path / "prob.npy")
    assert "is one array, the model has the outputs" in message and "use a .npz" in message
    for suffix in (".npy", ".npz", ".mge"):
        missing = tmp_path / f"missing{suffix}"
        message = error_of("verify", several, *words, "--against", missing)
        assert f"there is no file {str(missing)!r}" in message
    (tmp_path / "text.npy").write_text("no array")
    message = error_of("verify", several, *words, "--against", tmp_path / "text.npy")
    assert f"cannot read {tmp_path / 'text.npy'}: " in message


@pytest.mark.parametrize("kind", ["text", "checkpoint 2", "zip", "png", "page", "empty", "pointer"])
def test_a_file_that_has_no_arrays_is_named(kind, tmp_path, error_of):
    content, noun, _ = FILES[kind]
    for suffix in (".npy", ".npz"):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        for command in (
            ["run", DIGITS, "--input", f"data={path}"],
            ["verify", DIGITS, "--input", "{1,1,8,8}", "--against", path],
        ):
            message = error_of(*command)
            assert f"cannot read {path}: it is a" in message and noun in message


def test_arrays_that_are_damaged_are_an_error(tmp_path, error_of):
    content = arrays(data=np.ones((1, 1, 8, 8), "float32"), out_0=np.array([None, {}], object))
    path = tmp_path / "x.npz"
    for size in (30, 100, len(content) - 40):
        path.write_bytes(content[:size])
        assert str(path) in error_of("run", DIGITS, "--input", path)
    damaged = bytearray(content)
    damaged[300] ^= 1
    path.write_bytes(damaged)
    assert str(path) in error_of("run", DIGITS, "--input", path)
    path.write_bytes(content)
    assert "out_0" in error_of("verify", DIGITS, "--input", "{1,1,8,8}", "--against", path)


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n\x1a\n", b"", b"GIF89a" + bytes(20), b"text", b"\xff\xd8\xff\xe0" * 20]
)
def test_images_that_are_damaged_are_an_error(content, tmp_path, error_of):
    pytest.importorskip("PIL")
    (tmp_path / "x.png").write_bytes(content)
    assert "cannot be read as an image" in error_of("run", DIGITS, "--input", tmp_path / "x.png")


# ---- shapes, instruction sets, commands and flags -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 8, 8), (8, 8), (1, 1, 1, 8, 8), (2, 3, 8, 8)])
def test_a_shape_that_does_not_fit_is_named_beside_the_declared_one(shape):
    network = loaded()
    network.get_io_tensor("data").set_data_by_copy(np.ones(shape, "float32"))
    with pytest.raises(ShapeError) as caught:
        network.forward()
    declared = get_model_io_info(DIGITS).inputs[0].config_layout.shapes
    assert f"input 'data' was given shape {list(shape)}, the model declares {declared}" in str(caught.value)
    network.get_io_tensor("data").set_data_by_copy(IMAGES[:2])
    network.forward()
    assert np.abs(network.get_io_tensor("prob").to_numpy() - PROB[:2]).max() < 1e-5


SETS = ", ".join(instruction_sets())
BEST, *_, PLAINEST = instruction_sets()
UNKNOWN = "MEGENGINE_LITE_ISA={} names no instruction set (there are {})"
MISSPELT = f"{BEST[:-2]}-{BEST[-2:]}"
ISA = """
import os
os.environ["MEGENGINE_LITE_ISA"] = {name!r}
import megengine_lite
assert len(megengine_lite.get_model_io_info({model!r}).inputs) == 1  # needs no kernels
try:
    megengine_lite.LiteNetwork().load({model!r})
except megengine_lite.DeviceError as error:
    print(error)
else:
    print("chosen", megengine_lite.cpu_info()["chosen"])
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (MISSPELT, UNKNOWN.format(MISSPELT, SETS) + f"; did you mean {BEST!r}?"),
        ("xyz", UNKNOWN.format("xyz", SETS)),
        (f" {PLAINEST.upper()} ", f"chosen {PLAINEST}"),
    ],
)
def test_an_instruction_set_that_is_not_known(name, message):
    assert in_process(ISA.format(name=name, model=str(DIGITS))) == message


def test_an_instruction_set_on_the_command_line(error_of):
    assert f"did you mean {BEST!r}?" in error_of("bench", DIGITS, "--isa", MISSPELT)
    with pytest.raises(DeviceError, match="there are " + SETS):
        from megengine_lite._core.cpu.kernel_set import kernel_set

        kernel_set("vsx")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["rnu", "m"], "did you mean 'run'?"),
        (["profil", "m"], "did you mean 'profile'?"),
        (["xyzzy"], "there are run, info, bench"),
        ([str(DIGITS)], f"to run a model: megengine-lite run {DIGITS}"),
        (["--iter", "5", "bench", "m"], "flags with a value come after the command: megengine-lite bench"),
        (["run", "m", "--fast-rum"], "did you mean '--fast-run'?"),
        (["run", "m", "--thred=2", "--ieter", "3"], "; did you mean '--thread' and '--iter'?"),
        (["bench", "m", "-treads", "2"], "did you mean '--threads'?"),
        (["verify", "m", "--tolerence", "1"], "did you mean '--tolerance'?"),
        (["encrypt", "m", "o", "--methud", "x"], "--method"),
        (["run", "m", "--xyzzy"], "unrecognized arguments: --xyzzy\n"),
    ],
)
def test_commands_and_flags_that_are_not_known_get_a_suggestion(words, hint, error_of):
    assert hint in error_of(*words, status=2)


def test_a_suggestion_ends_its_sentence(error_of):
    messages = [
        error_of("bench", DIGITS, "--isa", "avx-512"),
        error_of("rnu", DIGITS, status=2),
        error_of("run", DIGITS, "--thred=2", "--ieter", "3", status=2),
        error_of("run", DIGITS, "--option", "weight_prepocess=1"),
        in_process(ISA.format(name="avx", model=str(DIGITS))),
    ]
    for message in messages:
        before, hint, after = message.strip().partition("did you mean ")
        assert hint and before.endswith("; ") and after.endswith("?"), message
        assert "did you mean" not in after


def test_errors_are_all_of_this_package():
    for content, *_ in FILES.values():
        with pytest.raises(LiteError):
            LiteNetwork().load(content)
