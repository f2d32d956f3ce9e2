"""The command line as a program: forms of flags, help, errors, exit status."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.places import TESTS

import megengine_lite
from megengine_lite._cli import display
from megengine_lite._cli.flags import REFUSED_SWITCHES
from megengine_lite._cli.gflags import normalize
from megengine_lite.cli import COMMANDS, command_parser, main

BUNDLED = Path(megengine_lite.__file__).parent / "bundled"
DIGITS = str(BUNDLED / "digits.mge")


# ---- forms of flags -------------------------------------------------------------------------------------------------


def test_normalize_brings_flags_into_one_form():
    on_off = {"enable-nchw88", "const-shape", "no-sanity-check"}
    words = ["-iter", "3", "--warmup_iter=2", "--enable_nchw88=false", "--noconst_shape", "-h"]
    assert normalize(words, on_off) == [
        "--iter", "3", "--warmup-iter=2", "--no-enable-nchw88", "--no-const-shape", "-h",
    ]  # fmt: skip
    assert normalize(["x", "--", "--a_b"], on_off) == ["x", "--", "--a_b"]
    assert normalize(["--no-sanity-check", "-1", "a_b"], on_off) == ["--no-sanity-check", "-1", "a_b"]
    assert normalize(["--nono_sanity_check", "--const_shape=1", "--const-shape=F"], on_off) == [
        "--no-no-sanity-check", "--const-shape", "--no-const-shape",
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_every_switch_can_be_switched_off(command):
    parser = command_parser(command)
    switched = {o[2:]: a for a in parser._actions if a.nargs == 0 for o in a.option_strings if o.startswith("--")}
    hidden = {name for name, action in switched.items() if action.help == argparse.SUPPRESS}
    for name in set(switched) - hidden - {"help", "version"}:
        assert f"no-{name}" in hidden, name
    if command == "run":
        assert {f"no-{name}" for name in REFUSED_SWITCHES} < hidden


def test_flagfile_stands_for_the_flags_in_it(run_json, error_of, tmp_path):
    (tmp_path / "more").write_text("--iter=3\n")
    (tmp_path / "flags").write_text(
        f"# what we always want\n\n-warmup_iter 2\n  --noconst_shape\n--flagfile={tmp_path / 'more'}\n"
    )
    case = run_json("run", "--flagfile", tmp_path / "flags", DIGITS, "--input", "{1,1,8,8}")["cases"][0]
    assert len(case["run_ms"]) == 3 and len(case["warmup_ms"]) == 2
    (tmp_path / "round").write_text(f"--flagfile={tmp_path / 'round'}\n")
    assert "name one another" in error_of("run", DIGITS, f"--flagfile={tmp_path / 'round'}", status=2)
    (tmp_path / "text").write_text("iter=3\n")
    assert "'iter=3' is no flag" in error_of("run", DIGITS, f"--flagfile={tmp_path / 'text'}", status=2)
    assert "cannot be read" in error_of("run", DIGITS, "--flagfile=nowhere", status=2)
    assert "needs a value" in error_of("run", DIGITS, "--flagfile", status=2)


def test_fromenv_takes_flags_from_the_environment(run_json, error_of, monkeypatch):
    monkeypatch.setenv("FLAGS_iter", "4")
    monkeypatch.setenv("FLAGS_warmup_iter", "1")
    monkeypatch.setenv("FLAGS_reproducible", "true")
    flags = "--fromenv=iter,warmup-iter,reproducible"
    case = run_json("run", DIGITS, flags, "--input", "{1,1,8,8}")["cases"][0]
    assert len(case["run_ms"]) == 4 and len(case["warmup_ms"]) == 1
    message = error_of("run", DIGITS, "--fromenv", "no_such", status=2)
    assert message == "megengine-lite: error: --fromenv no_such: the environment variable FLAGS_no_such is not set\n"


# ---- help and errors ------------------------------------------------------------------------------------------------


def test_missing_model_is_an_error_of_one_line(error_of):
    message = error_of("info", "no_such_file.mge")
    assert message.startswith("megengine-lite: error: ") and "no_such_file.mge" in message and message.count("\n") == 1


def test_numbers_that_json_lacks_become_text(run_json, tmp_path):
    np.save(tmp_path / "x.npy", np.full((1, 1, 8, 8), np.nan, np.float32))
    result = run_json("run", DIGITS, "--input", tmp_path / "x.npy")
    assert result["cases"][0]["inputs"]["data"]["min"] == "nan"


@pytest.mark.parametrize("command", [[], ["unknown"], ["run"], ["bench", DIGITS, "--threads", "0"], ["--iter", "3"]])
def test_wrong_usage_ends_with_status_2(error_of, command):
    assert "usage:" in error_of(*command, status=2)


def test_no_argument_shows_all_commands(error_of):
    text = error_of(status=2)
    assert all(f"\n    {command} " in text for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(capsys, command):
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: megengine-lite {command} ")
    # The summary in the list of commands begins what the command says of itself.
    assert COMMANDS[command].split(":")[0].split(",")[0].rstrip(".") in " ".join(out.split())


def test_version_is_told_with_and_without_a_command(capsys):
    for words in (["--version"], ["run", "--version"]):
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        assert capsys.readouterr().out == f"megengine_lite {megengine_lite.__version__}\n"


def test_helpmatch_shows_the_flags_with_a_word(capsys):
    def shown(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(words)
        assert end.value.code == 0
        return capsys.readouterr().out

    text = shown("run", "--helpmatch", "fast_run")
    assert "--fast-run-algo-policy FILE" in text and "--iter" not in text
    assert "no flag of megengine-lite run has 'elephant'" in shown("run", "--helpmatch=elephant")
    text = shown("--helpmatch", "dump-fitting")
    assert text.startswith("megengine-lite fit:") and "--dump-fitting-model FILE" in text and "--iter" not in text
    assert "no command has a flag with 'elephant'" in shown("--helpmatch", "elephant")


def test_lack_of_memory_is_an_error_of_one_line(error_of):
    message = error_of("run", DIGITS, "--input", "{1000000000,1000,8,8}")
    assert message.startswith("megengine-lite: error: ") and message.count("\n") == 1


def test_help_does_not_import_the_engine():
    code = (
        "import sys\nfrom megengine_lite.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "late = ('megengine_lite._core.runtime.session', 'megengine_lite._cli.run')\n"
        "print([m for m in sys.modules if m.startswith(late)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


COMPARISONS = {
    "_cli.compare_profiles",
    "_core.reports.model_report.layers",
    "_core.reports.profile_comparison",
    "difflib",
}
REPORTS = {f"_core.reports.model_report.{name}" for name in ("collect", "report", "roofline", "html", "markdown")}
DRAWINGS = {f"_core.reports.model_report.{name}" for name in ("graph_files", "graph_layout")}
ALL = {*COMPARISONS, *REPORTS, *DRAWINGS, "_api.model_reports", "_api.model_profiles", "_cli.bench_report"}


@pytest.mark.parametrize(
    ("words", "used"),
    [
        ("bench --iter=1", set()),
        ("profile --iter=1", {"_api.model_profiles"}),
        ("info", set()),
        ("run --input={1,1,8,8}", set()),
        ("verify", set()),
        ("prepare -oOUT", set()),
        ("convert OUT", set()),
        ("pack OUT", set()),
        ("report --iter=1 --format=json", {*REPORTS, "_api.model_reports"}),
    ],
)
def test_a_command_imports_what_it_uses(words, used, tmp_path):
    command, *flags = words.replace("OUT", str(tmp_path / "out")).split()
    code = "import sys; from megengine_lite.cli import main; main(sys.argv[1:]); print('loaded', *sys.modules)"
    line = [sys.executable, "-c", code, command, DIGITS, *flags]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    loaded = done.stdout.splitlines()[-1].replace("megengine_lite.", "").split()
    assert loaded[0] == "loaded" and ALL.intersection(loaded) <= used
    if command == "run":
        assert {"_cli.dumps", "_core.reports.trace", "_core.reports.io_dump"}.isdisjoint(loaded)


def test_module_runs_as_a_program():
    environment = {**os.environ, "PYTHONPATH": str(Path(megengine_lite.__file__).parent.parent)}
    command = [sys.executable, "-m", "megengine_lite", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=TESTS)
    assert done.returncode == 0 and done.stdout.strip() == f"megengine_lite {megengine_lite.__version__}"


def test_numbers_are_readable():
    assert display.count_text(1.814e9) == "1.81 G" and display.count_text(640) == "640"
    assert display.bytes_text(3 << 20) == "3.0 MiB" and display.bytes_text(17) == "17 B"
    assert display.shape_text((1, 3, 8)) == "1x3x8" and display.shape_text(None) == "?"


def test_statistics_have_percentiles():
    t = display.statistics([4.0, 1.0, 2.0, 3.0])
    assert t["runs"] == 4 and t["total"] == 10.0 and t["mean"] == 2.5 and t["std"] == pytest.approx(1.25**0.5)
    assert [t[k] for k in ("min", "p50", "max")] == [1.0, 2.5, 4.0]
    assert [t[k] for k in ("p90", "p99")] == pytest.approx([3.7, 3.97])
    text = display.statistics_text(t)
    assert text.startswith("total 10.000 ms, mean 2.500, std 1.118, min 1.000, p50 2.500, p90 3.700, p99 3.970")


def test_names_with_line_breaks_stay_in_their_line(capsys, tmp_path):
    named = tmp_path / "a\nb\t.mge"
    named.write_bytes(Path(DIGITS).read_bytes())
    other = tmp_path / "c\nd.mge"
    for command, *flags in (["info"], ["bench", "--iter", "1"], ["verify", "--input", "{1,1,8,8}"]):
        assert main([command, str(named), *flags]) == 0
    assert main(["convert", str(named), str(other)]) == 0
    text = capsys.readouterr().out
    assert text.count("a\\nb\\t.mge") == 3 and "c\\nd.mge" in text
    assert "a\nb" not in text and "c\nd" not in text
    assert display.table([("x\ny", 1)], ("name", "number")).count("\n") == 2


@pytest.mark.parametrize(("words", "status"), [(["info", DIGITS], 0), (["info", "nothing.mge"], 1), (["infi"], 2)])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_streams_that_a_parent_has_closed_change_no_status(words, status, closed):
    command = shlex.join([sys.executable, "-m", "megengine_lite", *words])
    done = subprocess.run(["sh", "-c", f"{command} {closed}"], capture_output=True, text=True)
    assert done.returncode == status and "Traceback" not in done.stderr
