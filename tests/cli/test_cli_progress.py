"""What stderr shows while something takes long."""

import io
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.processes import LIMIT

import megengine_lite
from megengine_lite._cli import progress
from megengine_lite.cli import main

DIGITS = str(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Stderr as a terminal, progress switched on and without delay; the package tqdm is not there."""
    stream = Terminal()
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream))  # pytest sets that of the process
    monkeypatch.setattr(progress, "_DELAY", 0.0)
    monkeypatch.setattr(progress, "_INTERVAL", 0.0)
    progress.enable(True)
    yield stream
    progress.enable(False)


def test_bar_grows_and_is_wiped_out(terminal):
    seen = list(progress.bar("abcd", 4, "working"))
    assert seen == list("abcd")
    drawn = terminal.getvalue().split("\r")
    assert f"working [{'#' * 15}{'.' * 15}] 2/4" in drawn
    assert drawn[-1] == "\033[K"


def test_bar_shows_what_it_is_told(terminal):
    list(progress.bar(range(2), 8.0, "seconds", lambda: 6.0))
    assert f"seconds [{'#' * 22}{'.' * 8}] 6/8" in terminal.getvalue()


@pytest.mark.parametrize(
    ("total", "done", "shown"), [(1.5, 1.26, "1.3/1.5"), (0.25, 0.125, "0.12/0.25"), (3.0, 1.4, "1/3"), (2, 2, "2/2")]
)
def test_bar_shows_as_many_decimals_of_what_is_done_as_of_all(total, done, shown, terminal, monkeypatch):
    list(progress.bar(range(2), total, "seconds", lambda: done))
    filled = int(30 * done / total)
    assert f"seconds [{'#' * filled}{'.' * (30 - filled)}] {shown}" in terminal.getvalue().split("\r")
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    MADE.clear()
    list(progress.bar(range(2), total, "seconds", lambda: done))
    (bar,) = MADE
    form = bar.given["bar_format"].rpartition("| ")[2]
    assert form.format(n=done, total=total) == shown


def test_bar_is_wiped_out_when_the_work_fails(terminal):
    items = progress.bar(range(3), 3, "working")
    next(items)
    next(items)
    items.close()
    assert terminal.getvalue().endswith("\r\033[K")


def test_waiting_shows_the_seconds(terminal):
    with progress.waiting("planning"):
        end = time.monotonic() + LIMIT
        while "planning" not in terminal.getvalue() and time.monotonic() < end:
            time.sleep(0.001)
    assert "\rplanning ... 0 s" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\033[K")


@pytest.mark.parametrize("enabled", [False, True])
def test_nothing_is_shown_where_stderr_is_no_terminal_or_json_is_asked_for(terminal, monkeypatch, enabled):
    progress.enable(enabled)
    monkeypatch.setattr(terminal, "isatty", lambda: not enabled)
    with progress.waiting("planning"):
        assert list(progress.bar([1, 2], 2, "working")) == [1, 2]
        time.sleep(0.01)
    assert terminal.getvalue() == ""


def test_json_switches_progress_off(run_json, terminal):
    run_json("bench", "--iter", 3, "--batch-size", 1, DIGITS)
    assert terminal.getvalue() == ""


# ---- bars of tqdm ---------------------------------------------------------------------------------------------------


class Bar:
    """What tqdm is asked to do."""

    def __init__(self, **given):
        self.total = given["total"]
        self.given = given
        self.n = 0
        self.shown = []
        MADE.append(self)

    def refresh(self):
        self.shown.append(self.n)

    def close(self):
        self.shown.append("closed")


MADE: list[Bar] = []


@pytest.fixture
def tqdm(terminal, monkeypatch):
    """The package tqdm, as far as it is used; gives the bars that are made."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    MADE.clear()
    return MADE


def test_bars_are_those_of_tqdm_where_it_is_installed(tqdm, terminal):
    assert list(progress.bar("abcd", 4, "working")) == list("abcd")
    (bar,) = tqdm
    assert bar.shown == [0, 1, 2, 3, "closed"]
    given = bar.given
    assert (given["total"], given["desc"], given["leave"], given["file"]) == (4, "working", False, terminal)
    assert given["bar_format"].format(desc="d", percentage=75.2, bar="##", n=3.4, total=4.5) == "d  75%|##| 3/4.5"
    assert terminal.getvalue() == ""


def test_bars_of_tqdm_end_with_the_work(tqdm):
    list(progress.bar(range(2), 1.5, "seconds", lambda: 6.0))
    items = progress.bar(range(3), 3, "working")
    next(items)
    items.close()
    assert [bar.shown for bar in tqdm] == [[1.5, 1.5, "closed"], [0, "closed"]]


@pytest.mark.parametrize(("command", "count"), [(["bench", "--iter", "4"], 1), (["fit", "--threads", "1"], 4)])
def test_commands_that_measure_show_bars(tqdm, command, count, capsys):
    progress.enable(False)
    assert main([*command, DIGITS, "--batch-size", "1"]) == 0
    assert len(tqdm) >= count and all(bar.shown[-1] == "closed" for bar in tqdm)
    assert {bar.given["desc"] for bar in tqdm} <= {"measuring", "planning"}


def test_tqdm_is_not_imported_where_nothing_is_shown(run_json, terminal, tmp_path):
    (tmp_path / "tqdm").mkdir()
    (tmp_path / "tqdm" / "__init__.py").write_text("raise SystemExit('tqdm is imported')")
    program = "import sys; from megengine_lite.cli import main; sys.exit(main(sys.argv[1:]))"
    path = os.pathsep.join([str(tmp_path), os.environ["PYTHONPATH"]])
    for words in (["bench", "--seconds=1.2"], ["bench", "--iter=2", "--json"]):
        done = subprocess.run(
            [sys.executable, "-c", program, *words, DIGITS, "--batch-size=1"],
            env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
