"""The command line: what it prints, what it writes, how it fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from loader_samples import constant_operator, to_bytes

import megengine_lite
from megengine_lite._cli import report
from megengine_lite._cli.flags import OPTION_FLAGS, REFUSED_FLAGS, normalize
from megengine_lite._cli.verify import compare
from megengine_lite._core.algo_cache import KERNEL_REVISION, parse_cache, serialize_cache
from megengine_lite._core.loader.records import ModelRecord
from megengine_lite.cli import COMMANDS, build_parser, main

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")
EXTERN = Path(__file__).parent / "models" / "extern"


@pytest.fixture(autouse=True)
def keys():
    """Puts back the keys of the encryption methods, which the command line changes for the whole process."""
    from megengine_lite._core.loader.cryption import METHODS

    before = {name: method.key for name, method in METHODS.items()}
    yield
    for name, key in before.items():
        METHODS[name].key = key


@pytest.fixture(scope="module")
def data():
    with np.load(BUNDLED / "digits.npz") as file:
        return dict(file)


@pytest.fixture
def run_json(capsys):
    """Runs a command with --json; gives its result, or a part of it after checking the exit status."""

    def run(*argv: object, status: int = 0) -> dict:
        assert main([*map(str, argv), "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def error_of(capsys):
    """Runs a command that must fail; gives its message on stderr."""

    def run(*argv: object, status: int = 1) -> str:
        try:
            assert main([*map(str, argv)]) == status
        except SystemExit as end:
            assert end.code == status
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return run


# ---- run ----------------------------------------------------------------------------------------------------------


def test_run_computes_outputs_of_npy_npz_json_and_text(run_json, data, tmp_path):
    image = data["images"][:1, None].astype(np.float32)
    np.save(tmp_path / "x.npy", image)
    np.savez(tmp_path / "x.npz", data=image)
    np.savez(tmp_path / "in.npz", in_data=image)
    (tmp_path / "x.json").write_text(
        json.dumps({"data": {"shape": [1, 1, 8, 8], "type": "float32", "raw": image.ravel().tolist()}})
    )
    numbers = str(image.tolist()).replace(" ", "")
    for value in (tmp_path / "x.npy", tmp_path / "x.npz", tmp_path / "in.npz", tmp_path / "x.json", numbers):
        for word in (f"data={value}", f"data:{value}", str(value)):
            out = tmp_path / "out.npz"
            result = run_json("run", DIGITS, "--input", word, "--output", out)
            assert result["cases"][0]["outputs"]["prob"]["shape"] == [1, 10]
            with np.load(out) as file:
                np.testing.assert_allclose(file["prob"], data["prob"][:1], atol=1e-6)


def test_run_computes_the_test_cases_behind_a_model(run_json, data, tmp_path):
    cases = [
        to_bytes(ModelRecord("v2", 101300, [constant_operator(0, (1, 1, 8, 8), data=image)], [(0, "")]))
        for image in data["images"][:2].astype(np.float32)
    ]
    content = b"mgbtest0" + len(cases).to_bytes(4, "little") + Path(DIGITS).read_bytes() + b"".join(cases)
    (tmp_path / "with_cases.mge").write_bytes(content)
    results = run_json("run", tmp_path / "with_cases.mge", "--top", 1)["cases"]
    assert [r["outputs"]["prob"]["top"][0]["index"] for r in results] == data["labels"][:2].tolist()
    given = run_json("run", tmp_path / "with_cases.mge", "--input", "{3,1,8,8}")["cases"]
    assert [r["outputs"]["prob"]["shape"] for r in given] == [[3, 10]]


def test_run_shows_the_largest_values(run_json, data, tmp_path):
    np.save(tmp_path / "x.npy", data["images"][3:4, None].astype(np.float32))
    top = run_json("run", DIGITS, "--input", tmp_path / "x.npy", "--top", 3)["cases"][0]["outputs"]["prob"]["top"]
    assert [t["index"] for t in top] == np.argsort(-data["prob"][3])[:3].tolist()
    assert top[0]["value"] == pytest.approx(data["prob"][3].max(), abs=1e-6)


def test_run_reads_images(run_json, data, tmp_path):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(data["images"][5] * 15).save(tmp_path / "digit.png")
    flags = ["--image-std", "15", "--batch-size", "2"]
    result = run_json("run", DIGITS, "--input", tmp_path / "digit.png", "--top", 1, *flags)["cases"][0]
    assert result["inputs"]["data"]["shape"] == [2, 1, 8, 8]
    assert result["inputs"]["data"]["max"] == data["images"][5].max()
    assert result["outputs"]["prob"]["top"][0]["index"] % 10 == data["labels"][5]


def test_run_counts_runs_and_warmups(run_json):
    result = run_json("run", DIGITS, "--input", "data={2,1,8,8}", "--iter", 4, "--warmup_iter", 2)
    assert len(result["cases"][0]["run_ms"]) == result["cases"][0]["time_ms"]["runs"] == 4


def test_run_takes_the_flags_of_load_and_run(run_json):
    flags = "--cpu_default -multithread 2 --enable-nchw88 --weight_preprocess=true --noconst_shape --reproducible"
    result = run_json("run", DIGITS, "--input", "{1,1,8,8}", *flags.split())
    assert sum(result["cases"][0]["outputs"]["prob"]["values"]) <= 1


def test_run_without_input_says_what_is_missing(error_of):
    assert "input 'data' (float32 360x1x8x8) has no value" in error_of("run", DIGITS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("none=x.npy", "the model has no input 'none'; its inputs are data"),
        ("data=nothing.npy", "nothing.npy"),
        ("data=file.txt", "neither .npy"),
        ("data=[[1,2],[3", "is not a list of numbers"),
    ],
)
def test_run_refuses_inputs(error_of, value, message):
    assert message in error_of("run", DIGITS, "--input", value)


@pytest.mark.parametrize("flag", [f for f in REFUSED_FLAGS if f not in OPTION_FLAGS])
def test_flags_without_effect_here_are_refused_with_a_reason(error_of, flag):
    message = error_of("run", DIGITS, f"--{flag.replace('-', '_')}", status=2)
    assert f"--{flag} is not supported: {REFUSED_FLAGS[flag]}" in message


def test_wrong_options_are_refused(error_of):
    assert "graph_opt_level" in error_of("run", DIGITS, "--option", "graph_opt_levl=1", "--input", "{1,1,8,8}")
    assert "NAME=N" in error_of("run", DIGITS, "--option", "graph_opt_level", "--input", "{1,1,8,8}")
    assert "hexadecimal" in error_of("run", DIGITS, "--key", "xyz", "--decrypt", "AES_default")


def test_operators_of_a_library_can_be_opened(error_of):
    message = error_of("run", EXTERN / "affine.mge", "--c_opr_lib", "no_such_library.so", "--input", "{2,3,4,5}")
    assert "no_such_library.so" in message


# ---- info, bench, demo --------------------------------------------------------------------------------------------


def test_info_counts_operators_parameters_and_work(run_json):
    result = run_json("info", DIGITS, "--shape", "data=1x1x8x8", "--layers")
    assert result["inputs"] == [{"name": "data", "dtype": "float32", "shape": [1, 1, 8, 8]}]
    assert result["outputs"] == [{"name": "prob", "dtype": "float32", "shape": [1, 10]}]
    assert result["operators"]["Convolution"] == 4 and len(result["layers"]) == sum(result["operators"].values())
    # 16 3x3 filters at 64 places, 32 16x3x3 at 16, 32 3x3 at 16, 64x32 at 16; then 64x10.
    convolutions = 16 * 9 * 64 + 32 * 16 * 9 * 16 + 32 * 9 * 16 + 64 * 32 * 16
    assert result["multiply_adds"] == {"Convolution": convolutions, "MatrixMul": 640}
    assert result["unsupported"] == [] and result["problem"] is None and result["complete"]


def test_info_needs_no_library_of_operators(run_json):
    result = run_json("info", EXTERN / "rowstat.mge")
    assert sorted(i["name"] for i in result["inputs"]) == ["img", "scale"]
    assert [o["shape"] for o in result["outputs"]] == [None, None]
    assert "rowstat" in result["problem"]


def test_bench_measures(run_json):
    result = run_json("bench", DIGITS, "--iter", 5, "--batch-size", 1, "--thread", 2, "--share-param-mem")
    assert result["time_ms"]["runs"] == 10 and result["networks"] == 2
    assert result["time_ms"]["p10"] <= result["time_ms"]["median"] <= result["time_ms"]["p99"]
    assert result["inputs"] == {"data": [1, 1, 8, 8]}
    assert result["gflops"] == pytest.approx(2 * result["multiply_adds"] / result["time_ms"]["median"] / 1e6)
    assert result["peak_memory_bytes"] > 1 << 20 and result["load_ms"] > 0 and result["first_run_ms"] > 0


def test_demo_is_as_accurate_as_the_original(run_json):
    result = run_json("demo")
    assert result["accuracy"] == result["accuracy_of_batch"] == pytest.approx(356 / 360)
    assert len(result["predictions"]) == 360
    assert result["largest_difference"] < 1e-5


@pytest.mark.parametrize(
    "command",
    [
        ["run", DIGITS, "--input", "{1,1,8,8}", "--iter", "2", "--top", "2"],
        ["info", DIGITS, "--layers"],
        ["bench", DIGITS, "--iter", "3"],
        ["verify", DIGITS, "--input", "{1,1,8,8}"],
        ["demo"],
    ],
)
def test_text_is_for_people(capsys, command):
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert err == "" and len(out.splitlines()) > 4
    assert "prob" in out or "latency" in out or "accuracy 98.9 %" in out


# ---- profile, cache -----------------------------------------------------------------------------------------------


def test_profile_times_every_step(run_json, tmp_path):
    out = tmp_path / "profile.json"
    result = run_json("profile", DIGITS, "--batch-size", 1, "--iter", 3, "--output", out)
    assert {"FusedConv", "Softmax"} <= {s["operator"] for s in result["steps"]}
    assert all(s["ms"] >= 0 and s["algorithm"] for s in result["steps"])
    assert sum(result["operators_ms"].values()) == pytest.approx(result["total_ms"])
    assert any(e["ph"] == "X" for e in json.loads(out.read_text())["traceEvents"])
    run_json("profile", DIGITS, "--batch-size", 1, "--iter", 1, "--output", out, "--form", "megengine")
    assert "opr_footprint" in json.loads(out.read_text())["profiler"]


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


# ---- verify -------------------------------------------------------------------------------------------------------


def test_verify_compares_with_stored_outputs(run_json, data, tmp_path):
    case = {"in_data": data["images"][:, None].astype(np.float32), "out_0": data["prob"]}
    np.savez(tmp_path / "case.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "case.npz", "--tolerance", 1e-5)
    assert result["outputs"]["prob"]["equal"] and result["outputs"]["prob"]["relative"] < 1e-5
    case["out_0"] = data["prob"] + 0.01
    np.savez(tmp_path / "wrong.npz", **case)
    result = run_json("verify", DIGITS, "--against", tmp_path / "wrong.npz", status=1)
    assert result["outputs"]["prob"]["difference"] == pytest.approx(0.01, rel=1e-3)


def test_verify_compares_models_and_unoptimized_runs(run_json):
    for against in ([], ["--against", DIGITS]):
        result = run_json("verify", DIGITS, "--threads", 2, "--enable-nchw44", *against)
        assert result["outputs"]["prob"]["relative"] < 1e-5 and not result["failed"]


def test_compare_sees_shapes_and_special_values():
    a = np.array([1, np.nan, np.inf], np.float32)
    assert compare(a, a, 0)["equal"]
    assert not compare(a, np.array([1, 2, np.inf]), 1)["equal"]
    assert not compare(a, a[:2], 1)["equal"]
    assert compare(np.array([1.0, 4.0]), np.array([1.5, 4.0]), 0.1) == {
        "equal": False, "difference": 0.5, "relative": 0.125, "largest": 4.0
    }  # fmt: skip
    assert compare(np.zeros((0, 3)), np.zeros((0, 3)), 0)["equal"]


# ---- containers ---------------------------------------------------------------------------------------------------


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
        assert run_json("bench", package, "--iter", 1, *key)["threads"] == 2
        written = run_json("unpack", package, tmp_path / "parts", *key)["written"]
    finally:
        del os.environ["MODEL_KEY"]
    assert sorted(Path(p).name for p in written) == ["digits.cache", "digits.json", "digits.mge"]
    assert (tmp_path / "parts" / "digits.mge").read_bytes() == Path(DIGITS).read_bytes()
    assert json.loads((tmp_path / "parts" / "digits.json").read_text()) == settings


def test_convert_takes_containers_off(run_json, tmp_path):
    package, plain = tmp_path / "digits.lite", tmp_path / "digits.mge"
    run_json("pack", DIGITS, package)
    run_json("convert", package, plain)
    result = run_json("verify", plain, "--against", DIGITS)
    assert result["outputs"]["prob"]["difference"] == 0
    assert "package" not in run_json("info", plain)["container"]


def test_a_file_is_never_written_over_itself(error_of, tmp_path):
    copy = tmp_path / "model.mge"
    copy.write_bytes(Path(DIGITS).read_bytes())
    assert "is the file that is read" in error_of("encrypt", copy, copy, "--method", "RC4_default")
    assert "is the file that is read" in error_of("convert", copy, copy)
    assert copy.read_bytes() == Path(DIGITS).read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.mge"]


def test_what_is_no_model_is_not_encrypted(error_of, tmp_path):
    (tmp_path / "text").write_text("hello")
    assert "not a MegEngine model" in error_of(
        "encrypt", tmp_path / "text", tmp_path / "out", "--method", "RC4_default"
    )
    assert "is no package" in error_of("unpack", DIGITS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# ---- the program --------------------------------------------------------------------------------------------------


def test_normalize_brings_flags_into_one_form():
    assert normalize(["run", "-iter", "3", "--warmup_iter=2", "--enable_nchw88=false", "--noconst_shape", "-h"]) == [
        "run", "--iter", "3", "--warmup-iter=2", "--no-enable-nchw88", "--no-const-shape", "-h",
    ]  # fmt: skip
    assert normalize(["run", "--", "--a_b"]) == ["run", "--", "--a_b"]
    assert normalize(["--no-sanity-check", "-1", "a_b"]) == ["--no-sanity-check", "-1", "a_b"]


def test_missing_model_is_an_error_of_one_line(error_of):
    message = error_of("info", "no_such_file.mge")
    assert message.startswith("megengine-lite: error: ") and "no_such_file.mge" in message and message.count("\n") == 1


def test_numbers_that_json_lacks_become_text(run_json, tmp_path):
    np.save(tmp_path / "x.npy", np.full((1, 1, 8, 8), np.nan, np.float32))
    result = run_json("run", DIGITS, "--input", tmp_path / "x.npy")
    assert result["cases"][0]["inputs"]["data"]["min"] == "nan"


@pytest.mark.parametrize("command", [[], ["unknown"], ["run"], ["bench", DIGITS, "--threads", "0"]])
def test_wrong_usage_ends_with_status_2(error_of, command):
    assert "usage:" in error_of(*command, status=2)


def test_every_command_has_help(capsys):
    for command in COMMANDS:
        with pytest.raises(SystemExit) as end:
            build_parser().parse_args([command, "--help"])
        assert end.value.code == 0
        assert f"megengine-lite {command}" in capsys.readouterr().out


def test_module_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(Path(megengine_lite.__file__).parent.parent)}
    command = [sys.executable, "-m", "megengine_lite", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=Path(__file__).parent)
    assert done.returncode == 0 and done.stdout.strip() == f"megengine_lite {megengine_lite.__version__}"


def test_numbers_are_readable():
    assert report.count_text(1.814e9) == "1.81 G" and report.count_text(640) == "640"
    assert report.bytes_text(3 << 20) == "3.0 MiB" and report.bytes_text(17) == "17 B"
    assert report.shape_text((1, 3, 8)) == "1x3x8" and report.shape_text(None) == "?"
    assert list(report.progress([1, 2], 2, "x")) == [1, 2]
