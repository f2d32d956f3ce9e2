"""The cores on which threads of the pool run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.api_samples import IMAGES, loaded, run
from support.processes import isolated

from megengine_lite import LiteNetwork
from megengine_lite._core.cpu.threads import prefer_cores

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads run anywhere here")


def cores_of_workers(workers: int) -> list[set[int]]:
    """Runs a network with so many threads beside the caller's; the cores of each, fewest first."""
    before = {path.name for path in Path("/proc/self/task").iterdir()}
    network = LiteNetwork()
    network.threads_number = workers + 1
    network.enable_cpu_inplace_mode()
    network.load(loaded()._source)
    run(network, IMAGES)
    after = {path.name for path in Path("/proc/self/task").iterdir()}
    return sorted((os.sched_getaffinity(int(thread)) for thread in after - before), key=len)


@isolated
def test_as_many_workers_as_there_are_preferred_cores_stay_there():
    usable = os.sched_getaffinity(0)
    core = max(usable)
    prefer_cores((core,))
    assert cores_of_workers(3) == [{core}, usable, usable]
    assert os.sched_getaffinity(0) == usable


@isolated
def test_cores_that_may_not_be_used():
    """Another one of the machine, one that is not there, one that no mask of the system has."""
    usable = os.sched_getaffinity(0)
    core = min(usable)
    os.sched_setaffinity(0, {core})
    prefer_cores((*(usable - {core}), 1000, 100000))
    assert cores_of_workers(2) == [{core}, {core}]


@isolated
def test_cores_are_preferred_by_the_next_workers():
    usable = os.sched_getaffinity(0)
    assert cores_of_workers(1) == [usable]
    prefer_cores((min(usable), max(usable)))
    assert cores_of_workers(2) == [{min(usable), max(usable)}]
