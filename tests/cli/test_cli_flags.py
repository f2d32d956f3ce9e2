"""Flags of the original's tools, as docs/command-line.md lists them: each has its effect, or is refused with reason."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.c_library import compile_library
from support.places import ROOT, TESTS

import megengine_lite
from megengine_lite._cli.flags import MET_FLAGS, OPTION_FLAGS, REFUSED_FLAGS, REFUSED_SWITCHES
from megengine_lite._core.cpu.algorithms.cache import CACHE, parse_cache
from megengine_lite.cli import main

PAGE = ROOT / "docs" / "command-line.md"
BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")
EXTERN = TESTS / "models" / "extern"
INPUT = ["--input", "{1,1,8,8}"]
LAYOUTS_OF_OTHERS = ("enable-nchw4", "enable-nchw32", "enable-nchw64", "enable-nhwcd4")

Run = Callable[..., dict[str, Any]]


def flags_in_the_tables() -> set[str]:
    tables = PAGE.read_text().partition("## Flags of load_and_run")[2]
    left = re.findall(r"^\| (`[^|]*) \|", tables, re.M)
    return {name.replace("_", "-") for cell in left for name in re.findall(r"`([\w-]+)`", cell)}


@pytest.fixture
def run(run_json):
    """Runs the small model on some input."""

    def on_digits(*words: object) -> dict:
        given = [] if any(str(w).startswith(("--input", "--rng", "--load")) for w in words) else INPUT
        return run_json("run", DIGITS, *given, *words)

    return on_digits


# ---- flags with an effect: each function is named like its flag -----------------------------------------------------


class Effects:
    """``Effects.flag(run, path, patch)`` checks what the flag does; ``run`` takes words, ``path`` is a directory."""

    @staticmethod
    def iter(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        case = run("--iter", 3)["cases"][0]
        assert len(case["run_ms"]) == len(case["forward_ms"]) == case["time_ms"]["runs"] == 3
        assert case["time_ms"]["total"] == pytest.approx(sum(case["run_ms"]))

    @staticmethod
    def warmup_iter(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        case = run("-warmup_iter=2")["cases"][0]
        assert len(case["warmup_ms"]) == 2 and len(case["run_ms"]) == 1

    warm_up = warmup_iter

    @staticmethod
    def thread(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        result = run("--thread", 2, "--iter", 3, "--warm-up", 1)
        assert result["networks"] == 2
        assert len(result["cases"][0]["run_ms"]) == 6 and len(result["cases"][0]["warmup_ms"]) == 2

    @staticmethod
    def share_param_mem(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        shared = []
        share = megengine_lite.LiteNetwork.share_weights_with
        patch.setattr(megengine_lite.LiteNetwork, "share_weights_with", lambda a, b: (shared.append(b), share(a, b)))
        run("--thread", 2)
        assert not shared
        run("--thread", 3, "--share_param_mem")
        assert len(shared) == 2 and shared[0] is shared[1]

    @staticmethod
    def input(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        np.save(path / "x.npy", np.full((2, 1, 8, 8), 3, np.float32))
        described = run("--input", f"data:{path / 'x.npy'}")["cases"][0]["inputs"]["data"]
        assert described["shape"] == [2, 1, 8, 8] and described["min"] == described["max"] == 3

    @staticmethod
    def load_input_data(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        np.savez(path / "x.npz", data=np.full((2, 1, 8, 8), 3, np.float32))
        described = run("--load-input-data", path / "x.npz")["cases"][0]["inputs"]["data"]
        assert described["shape"] == [2, 1, 8, 8] and described["mean"] == 3

    @staticmethod
    def batch_size(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--batch_size", 5)["cases"][0]["outputs"]["prob"]["shape"] == [5, 10]

    @staticmethod
    def batchsize(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--batchsize", 5)["cases"][0]["outputs"]["prob"]["shape"] == [5, 10]

    @staticmethod
    def input_desc(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        described = run("--input-desc", "data:3,1,8,8")["cases"][0]["inputs"]["data"]
        assert described["shape"] == [3, 1, 8, 8] and 0 <= described["min"] < 0.1 < 0.9 < described["max"] < 1

    @staticmethod
    def seed(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        values = [run("--input-desc", "data:1,1,8,8", "--seed", n)["cases"][0]["inputs"]["data"] for n in (1, 1, 2)]
        assert values[0] == values[1] != values[2]

    @staticmethod
    def rng(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        flags = ["--input-desc", "data:2,1,8,8", "--seed", 7]
        described = run(*flags, "--rng", "data:randint(low=3,high=9,size={})")["cases"][0]["inputs"]["data"]
        expected = np.random.RandomState(7).randint(3, 9, size=(2, 1, 8, 8)).astype(np.float32)
        assert described["values"] == expected.ravel()[:8].tolist() and described["shape"] == [2, 1, 8, 8]

    @staticmethod
    def calc_output_rms(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        result = run("--calc-output-rms", "--output", path / "out.npz")["cases"][0]["outputs"]["prob"]
        with np.load(path / "out.npz") as file:
            assert result["rms"] == pytest.approx(float(np.sqrt(np.mean(file["prob"].astype(np.float64) ** 2))))
        assert "rms" not in run()["cases"][0]["outputs"]["prob"]

    @staticmethod
    def cpu(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--cpu")["cases"][0]["outputs"] == run("--nocpu")["cases"][0]["outputs"]

    @staticmethod
    def cpu_default(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--cpu_default")["settings"]["inplace"]
        assert not run("--cpu_default", "--nocpu_default")["settings"]["inplace"]

    @staticmethod
    def multithread(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        settings = run("--multithread", 2)["settings"]
        assert settings["threads"] == 2 and not settings["inplace"]

    @staticmethod
    def multithread_default(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        settings = run("--multithread_default", 2)["settings"]
        assert settings["threads"] == 2 and settings["inplace"]

    @staticmethod
    def multi_thread_core_ids(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        before = os.sched_getaffinity(0)
        try:
            core = min(before)
            assert run("--multi_thread_core_ids", core)["settings"]["cores"] == [core]
        finally:
            os.sched_setaffinity(0, before)

    @staticmethod
    def lite(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--lite")["cases"][0]["outputs"] == run("--mdl", "--nolite")["cases"][0]["outputs"]

    mdl = lite

    @staticmethod
    def fast_run(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        algorithms = run("--fast_run")["settings"]["algorithms"]
        assert algorithms["profile"] and algorithms["optimized"] and not algorithms["heuristic"]

    @staticmethod
    def full_run(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        algorithms = run("--full_run")["settings"]["algorithms"]
        assert algorithms["profile"] and not algorithms["optimized"] and not algorithms["heuristic"]

    @staticmethod
    def reproducible(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        algorithms = run("--reproducible")["settings"]["algorithms"]
        assert algorithms["reproducible"] and algorithms["heuristic"]

    @staticmethod
    def fast_run_algo_policy(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        CACHE.clear()
        run("--fast_run", "--fast_run_algo_policy", path / "cache")
        names = parse_cache((path / "cache").read_bytes())
        assert names and all(n.startswith(b"megengine_lite:") for n in names)
        CACHE.clear()
        patch.setattr("megengine_lite._core.cpu.algorithms.fast_run.measure", None)  # nothing is measured a second time
        run("--fast_run", f"--fast_run_algo_policy={path / 'cache'}")
        CACHE.clear()

    @staticmethod
    def fast_run_shared_batch_size(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--fast_run_shared_batch_size", 4)["settings"]["algorithms"]["shared_batch_size"] == 4

    @staticmethod
    def binary_equal_between_batch(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        algorithms = run("--binary_equal_between_batch")["settings"]["algorithms"]
        assert algorithms["binary_equal_between_batch"] and algorithms["reproducible"]

    @staticmethod
    def workspace_limit(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--workspace_limit", 0)["settings"]["algorithms"]["workspace_limit"] == 0

    @staticmethod
    def c_opr_lib(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert main(["run", DIGITS, *INPUT, "--c_opr_lib", str(path / "none.so")]) == 1

    @staticmethod
    def c_opr_init_interface(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        library = compile_library(path, "operators.c", "-Dmgb_c_opr_init=begin_operators")
        # In processes of their own: what a library registers stays.
        words = [
            sys.executable,
            "-m",
            "megengine_lite",
            "verify",
            EXTERN / "mix3.mge",
            "--against",
            EXTERN / "mix3.npz",
        ]
        words += ["--c_opr_lib", library]
        assert subprocess.run(words).returncode == 1  # it has no function of the usual name
        assert subprocess.run([*words, "--c_opr_init_interface", "begin_operators"]).returncode == 0
        assert main(["run", DIGITS, "--c_opr_init_interface", "begin_operators"]) == 2

    @staticmethod
    def io_dump(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--io_dump", path / "dump", "--iter", 2)
        text = (path / "dump").read_text()
        assert len(re.findall(r"^var\d+ produced: name=prob ", text, re.M)) == 2

    @staticmethod
    def bin_io_dump(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--bin_io_dump", path / "dumps")
        files = list((path / "dumps").iterdir())
        assert len(files) > 10 and all(re.fullmatch("[0-9a-f]{6}", f.name) for f in files)

    @staticmethod
    def bin_out_dump(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--bin_out_dump", path / "outs", "--iter", 2, "--warmup_iter", 1, "--output", path / "out.npz")
        files = sorted((path / "outs").iterdir())
        assert [re.sub(r"\d+$", "", f.name) for f in files] == ["run0-var", "run1-var", "run2-var"]
        content = files[2].read_bytes()
        name_bytes, dtype, ndim, *shape = np.frombuffer(content[:40], "<u4").tolist()
        assert (dtype, ndim, shape) == (0, 7, [1, 10, 0, 0, 0, 0, 0])
        assert b"name:prob" in content[40 : 40 + name_bytes]
        with np.load(path / "out.npz") as file:
            assert content[40 + name_bytes :] == file["prob"].tobytes()

    @staticmethod
    def profile(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--profile", path / "a.json", "--profile_host", path / "b.json")
        for name in ("a.json", "b.json"):
            content = json.loads((path / name).read_text())
            assert {"device", "host", "opr_footprint"} <= set(content["profiler"])
            assert set(content["graph_exec"]["comp_seq"]) <= set(content["graph_exec"]["operator"])

    profile_host = profile

    @staticmethod
    def get_static_mem_info(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--get_static_mem_info", path / "memory")
        assert {p.name for p in (path / "memory").iterdir()} == {"graph.json", "StaticMemoryInfo.json"}

    @staticmethod
    def wait_gdb(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        lines = []
        patch.setattr("sys.stdin.readline", lambda: lines.append("read"))
        run("--wait_gdb")
        run("--nowait_gdb")
        assert lines == ["read"]

    @staticmethod
    def model_info(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        assert run("--model_info")["model_info"] == {
            "inputs": [{"name": "data", "dtype": "float32", "shape": [360, 1, 8, 8]}],
            "outputs": [{"name": "prob", "dtype": "float32", "shape": [360, 10]}],
        }

    @staticmethod
    def model_dump(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        written = run("--model_dump", path / "model.mge")["written"]
        assert written == {str(path / "model.mge"): (path / "model.mge").stat().st_size}
        assert main(["convert", DIGITS, str(path / "converted.mge")]) == 0
        assert (path / "model.mge").read_bytes() == (path / "converted.mge").read_bytes()

    @staticmethod
    def packed_model_dump(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        information = {"name": "any", "valid": True, "version": "1.13.0", "options": {"const_shape": True}}
        (path / "info.json").write_text(json.dumps(information))
        (path / "cache").write_bytes(bytes(4))
        flags = "--pack_info_cryption RC4_default --pack_model_cryption SIMPLE_FAST_RC4_default".split()
        flags += ["--pack_info_json", str(path / "info.json"), "--pack_cache", str(path / "cache")]
        with pytest.warns(UserWarning, match="default key"):
            result = run("--packed_model_dump", path / "m.lite", *flags)
            assert result["written"] == {str(path / "m.lite"): (path / "m.lite").stat().st_size}
            package = megengine_lite._core.formats.load.load_model(path / "m.lite").package
        assert (package.name, package.model_cryption, package.information_cryption) == (
            "any", "SIMPLE_FAST_RC4_default", "RC4_default",
        )  # fmt: skip
        assert package.read_cache() == bytes(4)
        assert main(["run", DIGITS, *INPUT, *flags]) == 2  # for which package?

    pack_info_json = pack_cache = pack_info_cryption = pack_model_cryption = packed_model_dump

    @staticmethod
    def layout_transform(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        run("--layout_transform", "cpu", "--layout_transform_dump", path / "model.mge")
        assert main(["verify", str(path / "model.mge"), "--against", DIGITS, "--tolerance", "1e-5"]) == 0

    layout_transform_dump = layout_transform

    @staticmethod
    def verbose(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        before = megengine_lite.get_log_level()
        try:
            run("--verbose=true")
            assert megengine_lite.get_log_level() == megengine_lite.LiteLogLevel.DEBUG
        finally:
            megengine_lite.set_log_level(before)

    @staticmethod
    def copy_to_host(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        lines = []
        patch.setattr("megengine_lite._cli.watch.logger.debug", lambda text, *_: lines.append(text))
        run("--copy_to_host")
        assert any("memory of the host already" in line for line in lines)

    @staticmethod
    def fitting(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr("megengine_lite._cli.fit.time_one", lambda network: 1.0)
        assert run("--fitting", "--threads", 1)["best"]["flags"] == "--threads 1"

    @staticmethod
    def dump_fitting_model(run: Run, path: Path, patch: pytest.MonkeyPatch) -> None:
        patch.setattr("megengine_lite._cli.fit.time_one", lambda network: 1.0)
        run("--fitting", "--threads", 2, "--dump_fitting_model", path / "m.lite")
        assert megengine_lite._core.formats.load.load_model(path / "m.lite").information.number_threads == 2


OWN = {name.replace("_", "-") for name in vars(Effects) if not name.startswith("__")}
ELSEWHERE = {"io-dump-stdout", "io-dump-stderr", "range"}  # their tests are below


@pytest.mark.parametrize("flag", sorted(OWN))
def test_flag_has_its_effect(run, tmp_path, monkeypatch, flag):
    getattr(Effects, flag.replace("-", "_"))(run, tmp_path, monkeypatch)


@pytest.mark.parametrize("flag", OPTION_FLAGS)
@pytest.mark.filterwarnings("ignore:.*layout of other devices")
def test_flag_sets_an_option(run, flag):
    _, field, value = OPTION_FLAGS[flag]
    name = flag.replace("-", "_")
    assert run(f"--{name}")["settings"]["options"][field] == value
    options = run(f"--{name}", f"--no{name}")["settings"]["options"]
    assert field not in options  # as it is by default


@pytest.mark.parametrize("flag", LAYOUTS_OF_OTHERS)
def test_layouts_of_other_devices_are_told_to_have_no_effect(capsys, flag):
    assert main(["run", DIGITS, *INPUT, f"--{flag}"]) == 0
    assert "is a layout of other devices; it has no effect on a CPU" in capsys.readouterr().err


@pytest.mark.parametrize("flag", MET_FLAGS)
def test_flag_that_optimization_meets_contradicts_its_absence(run, error_of, flag):
    assert run(f"--{flag}")["cases"][0]["outputs"] == run(f"--no-{flag}")["cases"][0]["outputs"]
    message = error_of("run", DIGITS, *INPUT, f"--{flag}", "--option", "graph_opt_level=0", status=2)
    assert f"--{flag} contradicts --option graph_opt_level=0" in message


@pytest.mark.parametrize("flag", REFUSED_FLAGS)
def test_flag_that_cannot_be_is_refused_with_a_reason(run, error_of, flag):
    message = error_of("run", DIGITS, f"--{flag.replace('-', '_')}", status=2)
    assert f"--{flag} is not supported: {REFUSED_FLAGS[flag]}" in message
    if flag in REFUSED_SWITCHES:
        assert len(run(f"--no{flag.replace('-', '_')}")["cases"]) == 1  # off is what it is


def test_every_flag_in_the_tables_is_tested():
    tested = OWN | ELSEWHERE | set(OPTION_FLAGS) | set(MET_FLAGS) | set(REFUSED_FLAGS)
    assert flags_in_the_tables() == tested


# ---- flags that are looked at more closely --------------------------------------------------------------------------


def test_dumps_go_to_the_streams(capsys, error_of):
    assert main(["run", DIGITS, *INPUT, "--io-dump-stdout"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^var\d+ produced: name=prob ", out, re.M) and err == ""
    assert main(["run", DIGITS, *INPUT, "--io_dump_stderr", "--json"]) == 0
    out, err = capsys.readouterr()
    assert re.search(r"^var\d+ produced: name=prob ", err, re.M) and json.loads(out)["cases"]
    assert "both write to stdout" in error_of("run", DIGITS, *INPUT, "--io-dump-stdout", "--json", status=2)


def test_only_the_last_dump_is_made(capsys, tmp_path):
    words = [
        "--io_dump",
        tmp_path / "text",
        "--io_dump_stderr",
        "--noio_dump_stderr",
        "--bin_io_dump",
        tmp_path / "bin",
    ]
    assert main(["run", DIGITS, *INPUT, *map(str, words)]) == 0
    assert (
        capsys.readouterr().err == "megengine-lite: warning: only the last dump is made: --bin-io-dump, not --io-dump\n"
    )
    assert (tmp_path / "bin").is_dir() and not (tmp_path / "text").exists()


def test_range_names_the_first_variable_beyond_it(run, error_of, tmp_path):
    assert run("--range", 1e6)["cases"]
    np.save(tmp_path / "x.npy", np.full((1, 1, 8, 8), 5e8, np.float32))
    message = error_of("run", DIGITS, "--input", tmp_path / "x.npy", "--range", 1e8)
    assert "variable 'data' has the value 5e+08 at [0, 0, 0, 0]: that is beyond 1e+08" in message
    np.save(tmp_path / "x.npy", np.full((1, 1, 8, 8), np.nan, np.float32))
    assert "variable 'data' has the value nan" in error_of("run", DIGITS, "--input", tmp_path / "x.npy", "--range", 9e9)
    assert "no number from 0 on" in error_of("run", DIGITS, *INPUT, "--range=-1", status=2)


def test_range_looks_at_what_quantized_numbers_stand_for(run_json, error_of, tmp_path):
    with np.load(BUNDLED / "digits.npz") as file:
        np.save(tmp_path / "x.npy", file["images"][:1, None].astype(np.float32))
    model = TESTS / "models" / "digits" / "digits_int8.mge"
    words = ["run", model, "--input", tmp_path / "x.npy"]
    assert run_json(*words, "--range", 1e4)["cases"]
    assert "beyond 1, the limit of --range" in error_of(*words, "--range", 1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lite", "--mdl"], "--lite and --mdl exclude each other"),
        (["--fast-run", "--full-run"], "--fast-run and --full-run exclude each other"),
        (["--multithread", "2", "--multithread-default", "3"], "give different numbers"),
        (["--multithread", "2", "--multi-thread-core-ids", "0"], "has 1 cores; it takes one for each thread"),
        (["--layout-transform", "cuda"], "there is no device 'cuda'"),
        (["--rng", "label:randn(size={})"], "--rng takes NAME:... with one of the inputs data"),
        (["--rng", "data:system('ls',{})"], "there are beta, binomial"),
        (["--rng", "data:uniform(size=(1,1))"], "gives the shape (1, 1)"),
        (["--rng", "data:uniform(__import__('os'),size={})"], "--rng cannot make values"),
        (["--input-desc", "data:1,x"], "'1,x' is no shape"),
        (["--load-input-data", "x.pkl"], "pickle files can run code"),
        (["--isa", "mmx"], "unknown instruction set 'mmx'"),
    ],
)
def test_contradictions_and_bad_values_are_errors_of_one_line(capsys, words, message):
    try:
        status = main(["run", DIGITS, *words])
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status in (1, 2) and out == "" and message in err.splitlines()[-1]
