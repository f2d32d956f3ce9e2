"""What several threads do at the same moment: with the GIL they take turns at any place, without it not even that."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from support.api_samples import ADD, add, loaded
from support.processes import in_process

from megengine_lite import LiteNetwork
from megengine_lite._core.ir.graph import Constant, ConstantPool
from megengine_lite._core.runtime.jobs import Turns
from megengine_lite._core.system.memory import Storage

THREADS = 6
T = TypeVar("T")


def at_once(work: Callable[[], T]) -> list[T]:
    """What each thread gets from ``work()``, which all begin together."""
    start, results, errors = threading.Barrier(THREADS), list[T](), list[BaseException]()

    def begin() -> None:
        start.wait()
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=begin, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    assert len(results) == THREADS
    return results


def test_importing_leaves_the_gil_as_it_is():
    code = """
import sys
has_gil = getattr(sys, "_is_gil_enabled", lambda: True)
before = has_gil()
import megengine_lite
from megengine_lite._compiled import _native
import importlib
for name in _native.MODULES:
    importlib.import_module("megengine_lite." + name)
print(has_gil() == before)
"""
    assert in_process(code) == "True"


def test_memory_is_allocated_once():
    for _ in range(200):
        storage = Storage(1000)
        assert len(set(at_once(lambda s=storage: s.address))) == 1
        assert not np.frombuffer(storage, np.uint8).any()


def test_threads_get_the_same_constant():
    pool = ConstantPool()
    parent = Constant(np.ones(4, np.float32), "parent")
    for recipe in range(200):
        constants = at_once(lambda r=recipe: pool.derive(("twice", r), [parent], lambda a: 2 * a))
        assert len(set(map(id, constants))) == 1
        np.testing.assert_array_equal(constants[0].array, [2, 2, 2, 2])


class _Counting(Turns):
    """An engine whose forwards count."""

    def __init__(self) -> None:
        self.count = 0

    def _forward(self):
        return self.new_job(self._work, False)

    def _work(self) -> None:
        before = self.count
        sum(range(50))
        self.count = before + 1


def test_each_job_is_done_once():
    turns = _Counting()

    def work() -> None:
        for _ in range(200):
            turns.forward()
            turns.wait()

    at_once(work)
    turns.wait()
    assert turns.count == 200 * THREADS


class _Failing(_Counting):
    def _work(self) -> None:
        raise ValueError(self.count)

    def _recover(self) -> None:
        self.count += 1


def test_an_error_is_raised_for_one_thread():
    for _ in range(100):
        turns = _Failing()
        turns.forward()

        def wait(turns: Turns = turns) -> int:
            try:
                turns.wait()
            except ValueError:
                return 1
            return 0

        assert sum(at_once(wait)) == 1


def test_networks_of_threads_share_weights():
    first = loaded(ADD)
    add(first, 1, 2)

    def work() -> list[float]:
        network = LiteNetwork()
        network.share_weights_with(first)
        return [float(add(network, k, 1)[0, 0]) for k in range(20)]

    assert at_once(work) == [[k + 1.0 for k in range(20)]] * THREADS


def test_one_network_of_threads():
    network = loaded(ADD)
    add(network, 1, 2)

    def work() -> set[float]:
        seen = set[float]()
        for _ in range(100):
            network.forward()
            network.wait()
            seen.add(float(network.get_io_tensor("sum").to_numpy()[0, 0]))
        return seen

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        assert set().union(*at_once(work)) == {3.0}
    finally:
        sys.setswitchinterval(interval)
