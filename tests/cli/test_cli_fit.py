"""The command fit: what it tries, what it chooses, and the package that it writes."""

import json
import os
from pathlib import Path

import pytest

import megengine_lite
from megengine_lite._cli import fit, info
from megengine_lite._core.reports import model_facts
from megengine_lite._core.runtime.session import Session
from megengine_lite.cli import command_parser
from megengine_lite.errors import InternalError

DIGITS = str(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")


@pytest.fixture
def speeds(monkeypatch):
    """Lets each network take a made-up time, by its settings."""

    def use(milliseconds):
        monkeypatch.setattr(fit, "time_one", milliseconds)
        monkeypatch.setattr(fit, "busy_processors", lambda: 2)

    return use


def test_fit_tries_threads_fast_run_and_options(run_json, speeds):
    speeds(lambda network: 4.0 / network.threads_number)
    result = run_json("fit", DIGITS, "--batch-size", 1)
    assert [t["flags"] for t in result["trials"]] == [
        "--threads 1",
        "--threads 2",
        "--threads 1 --fast-run",
        "--threads 2 --fast-run",
        "--threads 2 --cpu-default",
        "--threads 2 --weight-preprocess",
        "--threads 2 --const-shape",
        "--threads 2 --record-comp-seq",
        "--threads 2 --record-comp-seq2",
        "--threads 2 --cpu-default --record-comp-seq2",
        "--threads 2 --option graph_opt_level=0",
        "--threads 2 --option graph_opt_level=0 --enable-jit",
    ]
    assert all(t["time_ms"]["runs"] == 10 for t in result["trials"])
    assert result["best"]["flags"] == "--threads 2" and result["best"]["time_ms"]["p50"] == 2.0
    assert result["default"]["flags"] == "--threads 1" and result["default"]["time_ms"]["p50"] == 4.0


def test_our_fault_is_not_told_of_a_candidate(monkeypatch, speeds):
    def fails(session):
        raise InternalError("no")

    speeds(lambda network: 1.0)
    monkeypatch.setattr(Session, "run", fails)
    arguments = command_parser("fit").parse_args([DIGITS, "--batch-size", "1"])
    with pytest.raises(InternalError):
        fit._measure(arguments, [fit._Candidate({"threads": 1})])


def test_our_fault_is_not_told_of_data(monkeypatch):
    def fails(*arguments):
        raise InternalError("no")

    monkeypatch.setattr(model_facts, "infer_stage", fails)
    with pytest.raises(InternalError):
        info.count_work(command_parser("info").parse_args([DIGITS]), {})


def test_fit_leaves_alone_what_the_command_line_sets(run_json, speeds):
    speeds(lambda network: 1.0)
    flags = "--threads 3 --fast-run --const-shape --option jit_level=1 --cpu-default --batch-size 1"
    result = run_json("fit", DIGITS, *flags.split())
    assert [t["flags"] for t in result["trials"]] == [
        "--threads 3 --fast-run",
        "--threads 3 --fast-run --weight-preprocess",
        "--threads 3 --fast-run --record-comp-seq",
        "--threads 3 --fast-run --record-comp-seq2",
    ]


def test_fit_chooses_an_option_only_where_it_wins_twice(run_json, speeds):
    def constant_shape_is_fast(network):
        return 1.0 if network.config.options.const_shape else 2.0

    speeds(constant_shape_is_fast)
    assert run_json("fit", DIGITS, "--batch-size", 1)["best"]["flags"] == "--threads 1 --const-shape"
    speeds(lambda network: 1.99 if network.config.options.const_shape else 2.0)  # less than the noise
    assert run_json("fit", DIGITS, "--batch-size", 1)["best"]["flags"] == "--threads 1"
    seen = {"runs": 0}

    def fast_once(network):
        seen["runs"] += 1 if network.config.options.const_shape else 0
        return 1.0 if network.config.options.const_shape and seen["runs"] <= 13 else 2.0

    speeds(fast_once)
    assert run_json("fit", DIGITS, "--batch-size", 1)["best"]["flags"] == "--threads 1"


@pytest.mark.parametrize("command", ["run", "bench"])
def test_fitting_is_the_command_fit(run_json, error_of, speeds, command):
    speeds(lambda network: 1.0)
    result = run_json(command, DIGITS, "--fitting", "--batch-size", 1)
    assert result["best"]["flags"] == "--threads 1"
    assert "fit: error: unrecognized arguments: --iter 3" in error_of(
        command, DIGITS, "-fitting", "--iter", 3, status=2
    )
    assert "cases" in run_json("run", DIGITS, "--nofitting", "--input-desc", "data:1,1,8,8")


def test_fit_writes_a_package_with_the_best_options(run_json, speeds, tmp_path):
    speeds(lambda n: 1.0 / n.threads_number - 0.25 * n.config.options.const_shape - 0.1 * n._algo.profile)
    package, again = tmp_path / "digits.lite", tmp_path / "again.lite"
    result = run_json("fit", DIGITS, "--batch-size", 1, "--dump-fitting-model", package)
    assert result["best"]["flags"] == "--threads 2 --fast-run --const-shape"
    assert result["written"] == {str(package): os.path.getsize(package)}
    run_json("unpack", package, tmp_path)
    assert json.loads((tmp_path / "digits.json").read_text()) == {
        "name": "digits",
        "valid": True,
        "version": "1.13.0",
        "device": {"type": "CPU", "number_threads": 2, "enable_inplace_model": False},
        "options": {"const_shape": True},
    }
    assert (tmp_path / "digits.cache").stat().st_size > 4
    assert (tmp_path / "digits.mge").read_bytes() == Path(DIGITS).read_bytes()
    assert run_json("run", package, "--input", "{1,1,8,8}")["settings"]["threads"] == 2
    # What a package says besides stays; what it sets does not count for the trials.
    speeds(lambda network: float(network.threads_number))
    run_json("fit", package, "--batch-size", 1, "--dump-fitting-model", again)
    run_json("unpack", again, tmp_path)
    information = json.loads((tmp_path / "digits.json").read_text())
    assert information["device"]["number_threads"] == 1 and information["options"] == {"const_shape": True}


def test_fit_says_why_a_model_cannot_run(error_of, tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    assert "not a MegEngine model" in error_of("fit", tmp_path / "x.txt")
    assert "there is no device" in error_of("fit", DIGITS, "--layout-transform", "cuda", status=2)


def test_fit_shows_a_table_for_people(capsys, speeds):
    from megengine_lite.cli import main

    speeds(lambda network: 3.0 / network.threads_number)
    assert main(["fit", DIGITS, "--batch-size", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "best: --threads 2" in lines
    assert lines[-1] == "median 1.500 ms, 2.00 times as fast as --threads 1"
