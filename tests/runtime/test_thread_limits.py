"""Networks where the system gives no threads, or fewer than are asked for."""

from __future__ import annotations

import logging
import os
import resource
import threading

import pytest
from support.api_samples import ADD, IMAGES, PROB, add, config, loaded, run
from support.processes import isolated

from megengine_lite import LiteNetwork
from megengine_lite.log import logger


class Lines(logging.Handler):
    """Collects what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        logger.addHandler(self)
        logger.setLevel(logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def refuse(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


def forbid_threads() -> None:
    """Lets the system refuse every thread from now on."""
    if os.getuid() == 0:
        os.setuid(60123)  # the limit does not hold for root
    resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
    with pytest.raises(RuntimeError):
        threading.Thread(target=print).start()


def check_modes(lines: Lines) -> None:
    """Computes in the modes that have a thread of their own where there is none."""
    here = threading.get_ident()
    network = loaded(ADD)
    seen: list[tuple[int, float]] = []

    def callback() -> None:
        seen.append((threading.get_ident(), network.get_io_tensor("sum").to_numpy()[0, 0]))

    network.async_with_callback(callback)
    for k in range(3):
        assert add(network, k, 1).tolist() == [[k + 1] * 3] * 2
    assert seen == [(here, k + 1) for k in range(3)]

    always = loaded(ADD, config(async_exec_level=4))
    for k in range(3):
        assert add(always, k, 2).tolist() == [[k + 2] * 3] * 2

    sometimes = loaded(ADD)
    for k in range(3):
        sometimes._engine._seconds = 1.0
        assert add(sometimes, k, 3).tolist() == [[k + 3] * 3] * 2
    assert len(lines.texts) == 1
    assert "no thread can be started" in lines.texts[0]


@isolated
def test_threads_that_python_cannot_start():
    lines = Lines()
    threading.Thread.start = refuse
    check_modes(lines)


@isolated
def test_threads_that_the_system_refuses():
    add(loaded(ADD), 1, 2)  # what is imported late may not be readable for the other user
    lines = Lines()
    forbid_threads()
    check_modes(lines)


@isolated
def test_failures_without_threads_are_told_as_always():
    threading.Thread.start = refuse
    network = loaded(ADD)

    def fail() -> None:
        raise ZeroDivisionError("on purpose")

    network.async_with_callback(fail)
    network.forward()
    with pytest.raises(ZeroDivisionError, match="on purpose"):
        network.wait()
    network.async_with_callback(None)
    assert add(network, 1, 2).tolist() == [[3] * 3] * 2


@isolated
def test_threads_that_can_be_started_again():
    real = threading.Thread.start
    network = loaded(ADD)
    seen: list[int] = []
    network.async_with_callback(lambda: seen.append(threading.get_ident()))
    threading.Thread.start = refuse
    add(network, 1, 2)
    threading.Thread.start = real
    add(network, 1, 2)
    assert seen[0] == threading.get_ident() != seen[1]


def with_threads(threads: int) -> LiteNetwork:
    network = LiteNetwork()
    network.threads_number = threads
    network.load(loaded()._source)
    return network


@pytest.mark.parametrize("workers", [0, 1, 2])
@isolated
def test_pool_that_gets_fewer_threads(workers):
    from megengine_lite._core.cpu.threads import limit_workers

    expected = run(loaded(), IMAGES).copy()
    lines = Lines()
    limit_workers(workers)
    network = with_threads(5)
    for _ in range(3):
        assert (run(network, IMAGES) == expected).all()
    assert abs(expected - PROB).max() < 1e-4
    assert len(lines.texts) == 1
    assert f"{workers + 1} work on a run that may have 5" in lines.texts[0]


@isolated
def test_pool_that_gets_no_threads_from_the_system():
    expected = run(loaded(), IMAGES).copy()
    network = with_threads(3)
    lines = Lines()
    forbid_threads()
    for _ in range(3):
        assert (run(network, IMAGES) == expected).all()
    assert [text for text in lines.texts if "1 work on a run that may have 3" in text] != []
    assert len(lines.texts) == 2  # the other is of the thread that forward wants
