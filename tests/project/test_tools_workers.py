"""The processes in which scripts run what may crash or hang."""

import sys

import pytest
from support.places import ROOT

TOOLS = ROOT / "tools"
pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="the scripts of the repository are not here")

PROGRAM = f"""
import os, sys, time
sys.path.insert(0, {str(TOOLS)!r})
from isolated_workers import serve

def answer(task):
    if task == "die":
        os.abort()
    if task == "hang":
        time.sleep(60)
    if task == "speak":
        os.write(1, b"not an answer")
    return [task, os.getpid()]

serve(answer)
"""


@pytest.fixture
def Worker(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from isolated_workers import Worker

    return Worker


def test_tasks_that_crash_hang_or_print_cost_only_themselves(Worker):
    worker = Worker([sys.executable, "-c", PROGRAM], timeout=5)
    first, second, dead, speaking, hanging, last = worker.run(["a", "b", "die", "speak", "hang", "c"])
    assert first[1] == ["a", first[1][1]] and second[1] == ["b", first[1][1]]
    assert dead == ("die", None, "the process ended with -6")
    assert speaking[1][0] == "speak" and speaking[1][1] != first[1][1]
    assert hanging == ("hang", None, "no answer within 5 s")
    assert last[1][0] == "c" and last[2] == ""
