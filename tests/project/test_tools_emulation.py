"""tools/emulate_arm.py: what is copied from the usual build, and tests on several processors at the same time."""

import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.places import ROOT

sys.path.insert(0, str(ROOT / "tools"))
emulate_arm = pytest.importorskip("emulate_arm", reason="the scripts of the repository are not here")

BUILT = 1000.0  # the time of the C sources


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with one source and what was made of it."""
    root = tmp_path / "checkout"
    for name, changed in (
        ("setup.py", BUILT - 2),
        ("megengine_lite/kernels/fill.pyx", BUILT - 2),
        ("build/kernel-tables/fill_table.pxi", BUILT - 1),
        ("build/translated/kernels/fill.c", BUILT),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, (changed, changed))
    monkeypatch.setattr(emulate_arm, "ROOT", root)
    return root


def test_c_sources_of_the_usual_build_are_taken(checkout, tmp_path):
    emulate_arm.take_translations(tmp_path / "copy")
    table, made = (
        tmp_path / "copy" / "build" / n for n in ("kernel-tables/fill_table.pxi", "translated/kernels/fill.c")
    )
    assert made.read_text() == "build/translated/kernels/fill.c"
    assert BUILT < table.stat().st_mtime <= made.stat().st_mtime  # Cython does not make it again


@pytest.mark.parametrize("changed", ["setup.py", "megengine_lite/kernels/fill.pyx"])
def test_c_sources_that_are_out_of_date_are_not_taken(changed, checkout, tmp_path):
    os.utime(checkout / changed, (BUILT + 1, BUILT + 1))
    emulate_arm.take_translations(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_c_sources_that_are_there_stay(checkout, tmp_path):
    there = tmp_path / "copy" / "build" / "translated"
    there.mkdir(parents=True)
    emulate_arm.take_translations(tmp_path / "copy")
    assert [*there.iterdir()] == []


def test_processors_that_fail_are_named(tmp_path, capfd):
    pythons = {}
    for cpu, status in (("old", 0), ("new", 1)):
        pythons[cpu] = tmp_path / cpu
        pythons[cpu].write_text(f'#!/bin/sh\necho "{cpu}: $*"\nexit {status}\n')
        pythons[cpu].chmod(0o755)
    assert emulate_arm.run_tests(pythons, tmp_path, tmp_path, ["-k", "int8"]) == ["new"]
    lines = capfd.readouterr().out.splitlines()
    arguments = "-m pytest -p no:cacheprovider -k int8"
    assert lines == ["== old", f"old: {arguments}", "", "== new", f"new: {arguments}", ""]
    assert emulate_arm.run_tests({"old": pythons["old"]}, tmp_path, tmp_path, []) == []
    assert capfd.readouterr().out == "old: -m pytest -p no:cacheprovider\n"


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(happened):
    """However busy the machine is; what hangs sleeps for longer."""
    end = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_processors_that_hang_are_stopped_with_what_they_started(tmp_path, monkeypatch, capfd):
    """The time is over when both have come so far."""
    started = tmp_path / "started"
    readings = []

    def clock():
        readings.append(len(readings))
        if len(readings) == 3:  # at the beginning, before the first ends, before the second does not
            wait_for(started.exists)
            return 3600
        return 0

    monkeypatch.setattr(emulate_arm, "time", SimpleNamespace(monotonic=clock))
    pythons = {}
    hanging = "echo begun; sleep 600 & echo $! >starting; mv starting started; wait"
    for cpu, command in (("fast", "echo done"), ("slow", hanging)):
        pythons[cpu] = tmp_path / cpu
        pythons[cpu].write_text(f"#!/bin/sh\n{command}\n")
        pythons[cpu].chmod(0o755)
    failed = emulate_arm.run_tests(pythons, tmp_path, tmp_path, [], minutes=60)
    assert failed == ["slow (not done after 60 minutes)"] and len(readings) == 3
    assert capfd.readouterr().out.splitlines() == ["== fast", "done", "", "== slow", "begun", ""]
    process = int(started.read_text())
    wait_for(lambda: not is_running(process))
