"""Commands that write files: encrypted models, packages, plain models, caches of algorithms."""

import json
import os
import struct
from argparse import Namespace
from pathlib import Path

import pytest

import megengine_lite
from megengine_lite._cli.gflags import IN_PLACE, READ, WRITTEN, with_names
from megengine_lite._core.cpu.algorithms.cache import KERNEL_REVISION, parse_cache, serialize_cache
from megengine_lite.cli import COMMANDS, command_parser, main
from megengine_lite.errors import LiteValueError

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
LOADER_MODELS = Path(__file__).parents[1] / "models" / "loader"
DIGITS = str(BUNDLED / "digits.mge")


@pytest.mark.parametrize("method", ["AES_256_GCM", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_encrypted_models_run_and_decrypt(run_json, error_of, tmp_path, method):
    key = bytes(range(7, 39)).hex()
    secret, plain = tmp_path / "secret.mge", tmp_path / "plain.mge"
    (tmp_path / "key").write_bytes(bytes.fromhex(key))
    result = run_json("encrypt", DIGITS, secret, "--method", method, "--key", f"@{tmp_path / 'key'}")
    assert result["written"] == {str(secret): secret.stat().st_size}
    run_json("decrypt", secret, plain, "--method", method, "--key", key)
    assert plain.read_bytes().rstrip(b"\0")[: 1 << 20].startswith(Path(DIGITS).read_bytes().rstrip(b"\0")[:1000])
    result = run_json("run", secret, "--decrypt", method, "--key", key, "--input", "{1,1,8,8}")
    assert result["cases"][0]["outputs"]["prob"]["shape"] == [1, 10]
    message = error_of("run", secret, "--decrypt", method, "--key", "11" * 32, "--input", "{1,1,8,8}")
    assert "key" in message and "11" * 32 not in message


@pytest.mark.parametrize("kind", ["v2", "v1", "test cases", "ONNX", "package", "package of ONNX"])
def test_what_encrypt_writes_can_be_loaded(run_json, error_of, tmp_path, kind):
    """Or it writes nothing."""
    model, secret = tmp_path / "model", tmp_path / "secret"
    if "ONNX" in kind:
        from onnx import parser

        text = '<ir_version: 8, opset_import: ["" : 17]> graph (float[2] x) => (float[2] y) { y = Neg(x) }'
        model.write_bytes(parser.parse_model(text).SerializeToString())
    else:
        content = (LOADER_MODELS / f"multi_io{'.v1' if kind == 'v1' else ''}.mge").read_bytes()
        model.write_bytes(b"mgbtest0" + struct.pack("<I", 0) + content if kind == "test cases" else content)
    if "package" in kind:
        package = tmp_path / "package"
        run_json("pack", model, package)
        model = package
    outputs = run_json("info", model)["outputs"]
    encrypt = ("encrypt", model, secret, "--method", "AES_256_GCM", "--key", "11" * 32)
    if "package" in kind:
        assert f"megengine-lite pack {package} {secret} --model-method AES_256_GCM" in error_of(*encrypt)
        assert not secret.exists()
        run_json("pack", package, secret, "--model-method", "AES_256_GCM", "--model-key", "11" * 32)
    else:
        run_json(*encrypt)
    assert run_json("info", secret, "--decrypt", "AES_256_GCM", "--key", "11" * 32)["outputs"] == outputs


def test_packages_hold_model_settings_and_cache(run_json, tmp_path):
    settings = {"name": "digits", "valid": True, "version": "1.13.0", "device": {"type": "CPU", "number_threads": 2}}
    (tmp_path / "info.json").write_text(json.dumps(settings))
    (tmp_path / "cache").write_bytes(bytes(4))
    package = tmp_path / "digits.lite"
    secret = ["--model-method", "AES_256_GCM", "--model-key", "env:MODEL_KEY", "--info-method", "RC4_default"]
    os.environ["MODEL_KEY"] = "open sesame"
    try:
        run_json("pack", DIGITS, package, "--info", tmp_path / "info.json", "--cache", tmp_path / "cache", *secret)
        result = run_json("info", package, "--decrypt", "AES_256_GCM", "--key", "env:MODEL_KEY")
        assert result["container"]["package"] == {
            "name": "digits", "model_encryption": "AES_256_GCM", "information_encryption": "RC4_default",
            "has_cache": True,
        }  # fmt: skip
        key = ["--decrypt", "AES_256_GCM", "--key", "env:MODEL_KEY"]
        assert run_json("bench", package, "--iter", 1, *key)["settings"]["threads"] == 2
        written = run_json("unpack", package, tmp_path / "parts", *key)["written"]
    finally:
        del os.environ["MODEL_KEY"]
    assert sorted(Path(p).name for p in written) == ["digits.cache", "digits.json", "digits.mge"]
    assert (tmp_path / "parts" / "digits.mge").read_bytes() == Path(DIGITS).read_bytes()
    assert json.loads((tmp_path / "parts" / "digits.json").read_text()) == settings


def test_package_is_packed_again_with_what_it_had(run_json, tmp_path):
    settings = {"name": "other_name", "valid": True, "version": "1.13.0", "device": {"type": "CPU"}}
    (tmp_path / "info.json").write_text(json.dumps(settings))
    (tmp_path / "cache").write_bytes(serialize_cache({b"profile:plat=cpu:x": {b"key": b"value"}}))
    first, second = tmp_path / "first.lite", tmp_path / "second.lite"
    run_json(
        "pack", DIGITS, first, "--info", tmp_path / "info.json", "--model-method", "AES_256_GCM", "--model-key", "11"
    )
    key = ["--decrypt", "AES_256_GCM", "--key", "11"]
    run_json("pack", first, second, "--cache", tmp_path / "cache", *key)
    run_json("unpack", second, tmp_path / "parts")
    assert (tmp_path / "parts" / "other_name.mge").read_bytes() == Path(DIGITS).read_bytes()
    assert json.loads((tmp_path / "parts" / "other_name.json").read_text()) == settings
    assert (tmp_path / "parts" / "other_name.cache").read_bytes() == (tmp_path / "cache").read_bytes()


def test_encrypted_model_can_be_packed(run_json, error_of, tmp_path):
    secret, package = tmp_path / "secret.mge", tmp_path / "model.lite"
    run_json("encrypt", DIGITS, secret, "--method", "RC4_default", "--key", "22" * 16)
    message = error_of("pack", secret, package)
    assert f"{secret}: not a MegEngine model" in message
    run_json("pack", secret, package, "--decrypt", "RC4_default", "--key", "22" * 16)
    assert run_json("verify", package, "--against", DIGITS)["outputs"]["prob"]["difference"] == 0


def test_what_cannot_be_written_is_named(error_of, tmp_path):
    path = tmp_path / "no_such_directory" / "out"
    for command in (
        ["encrypt", DIGITS, path, "--method", "RC4_default", "--key", "22" * 16],
        ["pack", DIGITS, path],
        ["convert", DIGITS, path],
    ):
        message = f"megengine-lite: error: {path} cannot be written: No such file or directory\n"
        assert error_of(*command) == message


def test_encrypting_without_a_key_warns_that_everybody_has_it(capsys, tmp_path):
    assert main(["encrypt", DIGITS, str(tmp_path / "out"), "--method", "AES_default"]) == 0
    assert "megengine-lite: warning: the model is encrypted with the default key" in capsys.readouterr().err


def test_file_that_is_no_cache_is_not_written_over(error_of, tmp_path):
    (tmp_path / "notes").write_text("do not lose me")
    message = error_of("bench", DIGITS, "--fast-run", "--fast-run-algo-policy", tmp_path / "notes")
    assert "notes is no cache of algorithms" in message
    assert (tmp_path / "notes").read_text() == "do not lose me"


def test_convert_takes_containers_off(run_json, tmp_path):
    package, plain = tmp_path / "digits.lite", tmp_path / "digits.mge"
    run_json("pack", DIGITS, package)
    run_json("convert", package, plain)
    result = run_json("verify", plain, "--against", DIGITS)
    assert result["outputs"]["prob"]["difference"] == 0
    assert "package" not in run_json("info", plain)["container"]


@pytest.mark.parametrize("layout", ["nchw", "nchw44", "nchw44_dot", "nchw88"])
def test_convert_brings_convolutions_into_a_layout(run_json, tmp_path, layout):
    written = tmp_path / "digits.mge"
    run_json("convert", DIGITS, written, "--layout", layout)
    assert run_json("verify", written, "--against", DIGITS)["outputs"]["prob"]["difference"] < 1e-5
    operators = run_json("info", written)["operators"]
    assert ("RelayoutFormat" in operators) == (layout != "nchw")


_OF_FILES = {"FILE", "OUT", "DIR", "MODEL", "PACKAGE", "JSON", "LIB", "('A', 'B')"}
# What is no name of a file as it stands; the rest of the options have an own metavar.
_FORMS = {"input": "data={}", "key": "@{}", "model_key": "@{}", "info_key": "@{}"}


def _options_with_files(command):
    return {a.dest for a in command_parser(command)._actions if str(a.metavar) in _OF_FILES or a.dest in _FORMS}


def test_every_option_with_a_file_says_whether_it_reads_or_writes():
    known = {*READ, *WRITTEN, "file"}  # the command cache changes a file
    assert set().union(*map(_options_with_files, COMMANDS)) == known


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_reads_is_no_place_to_write_to(command, tmp_path):
    """Of all pairs of its options."""
    parser, options = command_parser(command), _options_with_files(command)
    for read in options.intersection(READ):
        for written in options.intersection(WRITTEN):
            for name in WRITTEN[written]:
                file = tmp_path / (name or "file")
                file.touch()
                source, target = _FORMS.get(read, "{}").format(file), str(tmp_path if name else file)
                sources = {"compare": ["other", source], "input": ["x=[1]", f"a=y.npy;{source}"]}
                args = Namespace(**{read: sources.get(read, source)})
                setattr(args, written, [("io-dump", target)] if written == "dumps" else target)
                if read in IN_PLACE.get(written, ()):
                    assert with_names(parser, args) is args
                    continue
                with pytest.raises(LiteValueError, match=f"{name or 'file'} is the file that is read"):
                    with_names(parser, args)


def test_a_cache_is_filled_and_packed_at_once(run_json, tmp_path):
    fast = ("--fast-run", "--fast-run-algo-policy", tmp_path / "cache")
    pack = ("--packed-model-dump", tmp_path / "p.lite", "--pack-cache", tmp_path / "cache")
    run_json("run", DIGITS, "--input={1,1,8,8}", *fast, *pack)
    run_json("run", DIGITS, "--input={1,1,8,8}", *fast, *pack)
    assert run_json("info", tmp_path / "p.lite")["container"]["package"]["has_cache"]


@pytest.mark.parametrize(
    "words",
    [
        ["encrypt", "COPY", "COPY", "--method", "RC4_default"],
        ["convert", "COPY", "COPY"],
        ["pack", "COPY", "COPY"],
        ["prepare", "COPY", "-o", "COPY"],
        ["info", "COPY", "--graph", "COPY"],
        ["report", "COPY", "--iter=1", "--format=html", "-o", "COPY"],
        ["report", DIGITS, "--against", "COPY", "--iter=1", "--format=md", "--output", "COPY"],
        ["profile", "COPY", "--iter=1", "--output=COPY"],
        ["fit", "COPY", "--dump-fitting-model", "COPY"],
        ["bench", "COPY", "--iter=1", "--dump-config", "COPY"],
        ["report", DIGITS, "--other=--prepared COPY", "--format=html", "-o", "COPY"],
        *(
            ["run", "COPY", "--input={1,1,8,8}", flag, "COPY"]
            for flag in ("--output", "--io-dump", "--profile", "--profile-host", "--model-dump", "--packed-model-dump")
        ),
    ],
    ids=lambda words: " ".join(w for w in words if w != DIGITS),
)
def test_a_file_is_never_written_over_itself(words, error_of, tmp_path):
    copy = tmp_path / "model.mge"
    copy.write_bytes(Path(DIGITS).read_bytes())
    (tmp_path / "link").symlink_to(copy)
    for name in (copy, tmp_path / "link"):
        other = [w.replace("COPY", str(name)) for w in words[2:]]
        error = error_of(words[0], words[1].replace("COPY", str(copy)), *other)
        assert f"{name} is the file that is read; write to another one" in error
        assert copy.read_bytes() == Path(DIGITS).read_bytes()
    assert {p.name for p in tmp_path.iterdir()} == {"model.mge", "link"}


def test_what_is_no_model_is_not_encrypted(error_of, tmp_path):
    (tmp_path / "text").write_text("hello")
    assert "not a MegEngine model" in error_of(
        "encrypt", tmp_path / "text", tmp_path / "out", "--method", "RC4_default"
    )
    assert "is no package" in error_of("unpack", DIGITS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cache_is_filled_shown_and_pruned(run_json, tmp_path):
    file = tmp_path / "cache"
    run_json("bench", DIGITS, "--batch-size", 1, "--iter", 1, "--fast-run", "--fast-run-algo-policy", file)
    content = parse_cache(file.read_bytes())
    ours = next(name for name in content if name.startswith(b"megengine_lite:"))
    content[ours.replace(b":r", b":r1234", 1)] = content[b"profile:plat=cpu:x"] = {b"key": b"value"}
    content[b"megengine_lite:r%d:other: machine:avx2:t1:conv_f32" % KERNEL_REVISION] = {b"key": b"value"}
    file.write_bytes(serialize_cache(content))
    shown = run_json("cache", file)
    assert len(shown["categories"]) == len(content) and shown["removed"] == 0
    assert {c["made_by"] for c in shown["categories"]} == {"megengine_lite", "other"}
    assert "other: machine" in [c.get("processor") for c in shown["categories"]]
    assert run_json("cache", file, "--prune", "old")["removed"] == 1
    assert run_json("cache", file, "--prune", "foreign")["removed"] == 2
    assert ours in parse_cache(file.read_bytes())


@pytest.mark.parametrize(
    "words",
    [
        ["run", DIGITS, "--input", "{1,1,8,8}", "--output", "FILE.npz"],
        ["report", DIGITS, "--iter", "1", "-o", "FILE.html"],
        ["profile", DIGITS, "--output", "FILE.json"],
        ["info", DIGITS, "--graph", "FILE.svg"],
        ["prepare", DIGITS, "-o", "FILE.prepared"],
        ["convert", DIGITS, "FILE.mge"],
        ["convert", DIGITS, "FILE.onnx"],
        ["pack", DIGITS, "FILE.lite"],
        ["bench", DIGITS, "--iter", "1", "--dump-config", "FILE.json"],
    ],
    ids=lambda words: " ".join(w for w in words if w != DIGITS),
)
def test_a_file_that_cannot_be_written_is_named_as_it_was_given(error_of, tmp_path, words):
    place = f"{tmp_path}/no_folder/FILE"
    text = error_of(*(w.replace("FILE", place) for w in words))
    assert words[-1].replace("FILE", place) in text and "No such file or directory" in text
    assert ".tmp" not in text


SETTINGS = '"name": "digits", "valid": true, "version": "1.0.0"'


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'{{{SETTINGS}, "name": "other"}}', "name"),
        (f'{{{SETTINGS}, "valid": false}}', "valid"),
        (f'{{{SETTINGS}, "device": {{"type": "CPU", "number_threads": 1, "number_threads": 2}}}}', "number_threads"),
        (f'{{{SETTINGS}, "options": {{}}, "options": {{"graph_opt_level": 0}}}}', "options"),
        (f'{{{SETTINGS}, "IO": {{"inputs": [{{"name": "data", "name": "data"}}]}}}}', "name"),
        (f'{{{SETTINGS}, "extra_info": {{"a": [{{"b": 1, "b": 1}}]}}}}', "b"),
    ],
)
@pytest.mark.parametrize("flags", [[], ["--name", "digits"]], ids=["", "name"])
def test_settings_of_packages_say_everything_once(text, key, flags, error_of, tmp_path):
    """Of two values for one key the last one counted, and which is meant is not known."""
    (tmp_path / "info.json").write_text(text)
    error = error_of("pack", DIGITS, tmp_path / "p.lite", "--info", tmp_path / "info.json", *flags)
    assert f"info.json has '{key}' twice in one object: leave one of them out" in error
    assert not (tmp_path / "p.lite").exists()
