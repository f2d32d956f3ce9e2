"""What stderr shows while something takes long."""

import io
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import megengine_lite
from megengine_lite._cli import progress

DIGITS = str(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch):
    """Stderr as a terminal, progress switched on and without delay."""
    stream = Terminal()
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


def test_bar_is_wiped_out_when_the_work_fails(terminal):
    items = progress.bar(range(3), 3, "working")
    next(items)
    next(items)
    items.close()
    assert terminal.getvalue().endswith("\r\033[K")


def test_waiting_shows_the_seconds(terminal):
    with progress.waiting("planning"):
        end = time.monotonic() + 10
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
