"""The collector of cyclic garbage waits during loading and planning, and only then."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator

import pytest
from support.api_samples import DIGITS

import megengine_lite
from megengine_lite._core.system.garbage import without_collector


@pytest.fixture(autouse=True)
def enabled() -> Iterator[None]:
    gc.enable()
    yield
    gc.enable()


def test_waits_during_a_call() -> None:
    @without_collector
    def double(x: int, *, more: int) -> int:
        assert not gc.isenabled()
        return 2 * x + more

    assert double(3, more=1) == 7
    assert gc.isenabled()


def test_goes_on_after_an_exception() -> None:
    @without_collector
    def fail() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert gc.isenabled()


def test_stays_off_if_the_program_has_turned_it_off() -> None:
    gc.disable()
    without_collector(lambda: None)()
    assert not gc.isenabled()


@pytest.fixture
def other_call() -> Iterator[None]:
    """Another thread is in the middle of a call."""
    inside, go_on = threading.Event(), threading.Event()

    @without_collector
    def wait() -> None:
        inside.set()
        go_on.wait()

    other = threading.Thread(target=wait)
    other.start()
    inside.wait()
    yield
    go_on.set()
    other.join()
    assert gc.isenabled()


@pytest.mark.usefixtures("other_call")
def test_calls_inside_of_calls_and_in_threads() -> None:
    without_collector(without_collector(lambda: None))()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("other_call")
def test_a_child_does_not_wait_for_threads_that_it_does_not_have() -> None:
    child = os.fork()
    if not child:
        os._exit(0 if gc.isenabled() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_loading_and_planning_collect_nothing() -> None:
    seen: list[str] = []

    def look(phase: str, about: object) -> None:
        if phase == "start":
            seen.append(phase)

    model = megengine_lite.LiteNetwork()
    thresholds = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(look)
    gc.set_threshold(2000)
    try:
        model.load(DIGITS)
        loaded = len(seen)
        model.forward()
        model.wait()
    finally:
        gc.callbacks.remove(look)
        gc.set_threshold(*thresholds)
    assert loaded <= 1 and len(seen) <= 3, "one collection comes when the collector goes on"
