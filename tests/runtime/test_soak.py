"""Short forms of benchmarks/soak.py: nothing grows, nothing is wrong."""

import importlib.util
import mmap
import sys

import pytest
from support.places import ROOT
from support.processes import isolated

SCRIPT = ROOT / "benchmarks" / "soak.py"


def _load():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


soak = _load()
MODEL = str(soak.DIGITS)


def check_no_growth(measure):
    """A leak grows each time. What the allocator takes once, in a process that has run other tests, does not."""
    grown = []
    while len(grown) < 3:
        grown.append(measure())
        if grown[-1].fits(soak.ALLOWED):
            return
    pytest.fail("; ".join(map(str, grown)))


@pytest.mark.parametrize(("part", "count"), [("forwards", 20_000), ("shape_changes", 300)])
def test_nothing_grows_while_a_network_runs(part, count):
    check_no_growth(lambda: getattr(soak, part)(MODEL, count))


@pytest.mark.parametrize("way", soak.CYCLES)
def test_nothing_grows_while_networks_come_and_go(way):
    check_no_growth(lambda: soak.loads(MODEL, 60 if way != "observed" else 20, way))


def test_networks_with_shared_weights_run_at_the_same_time():
    count, wrong = soak.shared_weights(MODEL, 1.0)
    assert count > 10
    assert wrong == 0


@isolated
def test_growth_is_noticed(tmp_path):
    kept = []

    def leak(k):
        memory = mmap.mmap(-1, 100_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(bytes(100_000))
        kept.extend([memory, (tmp_path / str(k)).open("w")])

    grown = soak.growth(leak, 100)
    assert grown.files == 50 and grown.memory > soak.ALLOWED.memory
    assert not grown.fits(soak.ALLOWED)
    with pytest.raises(pytest.fail.Exception, match=r"50 files.*; .*50 files.*; .*50 files"):
        check_no_growth(lambda: soak.growth(leak, 100))
    for thing in kept:
        thing.close()
