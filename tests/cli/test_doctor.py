"""The command doctor: what it finds, the test of kernels, and advice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.instruction_sets import INSTRUCTION_SETS

import megengine_lite
from megengine_lite._cli import doctor, fit
from megengine_lite._core.system import control_groups

DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"


def test_it_tests_every_set_that_runs_here(run_json):
    result = run_json("doctor")
    assert set(result["tests"]) == set(INSTRUCTION_SETS) | {result["processor"]["chosen"]}
    assert all(t["passed"] and t["largest_difference"] < 1e-5 for t in result["tests"].values())
    assert result["versions"]["megengine_lite"] == megengine_lite.__version__
    assert {"python", "numpy", "pycryptodome", "system"} <= set(result["versions"])
    assert result["processors"]["usable"] == sorted(os.sched_getaffinity(0))
    most = control_groups.within_quota(len(os.sched_getaffinity(0)))
    assert result["processors"]["default_threads"] == {"load": most, "others": 1}
    assert result["memory"]["limit_bytes"] > 1 << 28


def test_a_set_that_does_not_run_here_fails(monkeypatch):
    test = doctor._test("portable16")
    assert not test["passed"] and "portable16" in test["error"]


def test_a_forced_set_that_does_not_exist_fails():
    words = [sys.executable, "-m", "megengine_lite", "doctor", "--json"]
    environment = {**os.environ, "MEGENGINE_LITE_ISA": "foo", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert done.returncode == 1 and found["failed"]
    (test,) = found["tests"].values()
    assert "MEGENGINE_LITE_ISA=foo names no instruction set" in test["error"]
    assert not any("please report" in text for text in found["advice"])  # it is not our fault


@pytest.mark.parametrize(("quota", "threads"), [(None, 4), (9.0, 4), (4.0, 4), (2.5, 2), (1.5, 1), (0.25, 1)])
def test_threads_are_those_that_a_quota_keeps_busy(quota, threads, monkeypatch):
    """As load() takes them, as fit tries them, and as the advice says."""
    monkeypatch.setattr(control_groups, "processors_of_groups", lambda root="/": quota)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    found = doctor._processors()
    assert (found["quota"], found["default_threads"]) == (quota, {"load": threads, "others": 1})
    model = megengine_lite.load(DIGITS)
    assert model._threads == fit.busy_processors() == threads
    advice = doctor._advice(result(processors={"quota": quota, "default_threads": found["default_threads"]}))
    if quota is None or quota >= 4:
        assert advice == []
    elif quota >= 1:
        assert advice[0].endswith(
            f"the time of {quota} of its 4 processors: more threads than {threads} stand still for part of it"
        )
    else:
        assert advice[0].endswith("the time of 0.25 of its 4 processors: runs stand still for part of it")


@pytest.mark.parametrize(
    ("machine", "groups", "available"),
    [(1 << 33, None, 1 << 33), (1 << 33, 1 << 28, 1 << 28), (1 << 28, 1 << 33, 1 << 28), (None, 1 << 28, 1 << 28)],
)
def test_memory_is_what_this_process_can_use(machine, groups, available, monkeypatch):
    """In a container that is not what the machine has left."""
    text = "MemTotal: 9 kB" if machine is None else f"MemTotal: 9 kB\nMemAvailable: {machine >> 10} kB\n"
    monkeypatch.setattr(doctor, "_read", lambda path: text)
    monkeypatch.setattr(control_groups, "memory_left_of_groups", lambda root="/": groups)
    assert doctor._memory()["available_bytes"] == available
    advice = doctor._advice(result(memory=doctor._memory()))
    assert advice == ([] if available > 1 << 29 else ["little memory is free: 256.0 MiB"])


def test_memory_may_be_unknown(monkeypatch):
    monkeypatch.setattr(doctor, "_read", lambda path: "")
    monkeypatch.setattr(control_groups, "memory_left_of_groups", lambda root="/": None)
    assert list(doctor._memory()) == ["limit_bytes"]


@pytest.mark.parametrize(
    ("files", "mhz", "text"),
    [
        (
            {
                **{f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_cur_freq": f"{i}500000" for i in (1, 2)},
                **{f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_min_freq": "800000" for i in (1, 2)},
                **{f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_max_freq": f"{i + 2}000000" for i in (1, 2)},
                "/proc/cpuinfo": "cpu MHz\t\t: 7.0",
            },
            {"now": 2000.0, "least": 800.0, "most": 4000.0},
            "2000 MHz now, 800 to 4000 allowed",
        ),
        ({"/proc/cpuinfo": "model\t: 1\ncpu MHz\t\t: 2000.5\ncpu MHz\t\t: 2001.5"}, {"now": 2001.0}, "2001 MHz now"),
        ({"/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "<unknown>"}, {}, "not known"),
        ({}, {}, "not known"),
    ],
)
def test_frequency(files, mhz, text, monkeypatch):
    monkeypatch.setattr(doctor, "_read", lambda path: files.get(path, ""))
    assert doctor._frequency([1, 2]) == mhz
    assert doctor._frequency_text(mhz) == text


def test_the_test_runs_the_package_that_asks(tmp_path, monkeypatch):
    """Beside the sources, as after pip install, or beside any folder of this name."""
    (tmp_path / "megengine_lite").mkdir()
    (tmp_path / "megengine_lite" / "__init__.py").write_text("raise ImportError('another package')")
    (tmp_path / "json.py").write_text("raise ImportError('another module')")
    monkeypatch.chdir(tmp_path)
    assert doctor._test(megengine_lite.cpu_info()["chosen"])["passed"]


def result(**changes):
    """What doctor has found on a machine without faults."""
    processors = {"in_machine": 4, "usable": [0, 1, 2, 3], "quota": None, "governors": ["performance"], "load": 0.1}
    found = {"tests": {"avx2": {"passed": True}}, "environment": {}, "memory": {"available_bytes": 1 << 33}}
    return {**found, **changes, "processors": {**processors, **changes.get("processors", {})}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"processors": {"quota": 1.5, "default_threads": {"load": 1}}}, "more threads than 1 stand still"),
        ({"processors": {"usable": [0, 1]}}, "2 of 4 processors"),
        ({"processors": {"load": 3.0}}, "load 3.0"),
        ({"processors": {"governors": ["powersave"]}}, "powersave"),
        ({"environment": {"MEGENGINE_LITE_ISA": "base"}}, "MEGENGINE_LITE_ISA=base decides"),
        ({"memory": {"available_bytes": 1 << 20}}, "1.0 MiB"),
        ({"tests": {"base": {"passed": False, "error": "?"}}}, "kernels of base do not pass"),
    ],
)
def test_advice(changes, says):
    assert doctor._advice(result()) == []
    (text,) = doctor._advice(result(**changes))
    assert says in text


def test_what_people_see(capsys):
    from megengine_lite.cli import main

    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "passed: largest difference" in text and "kernels" in text
