"""Short forms of benchmarks/soak.py: nothing grows, nothing is wrong."""

import importlib.util
import mmap
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "soak.py"


def _load():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


soak = _load()
MODEL = str(soak.DIGITS)


@pytest.mark.parametrize(("part", "count"), [("forwards", 20_000), ("shape_changes", 300)])
def test_nothing_grows_while_a_network_runs(part, count):
    grown = getattr(soak, part)(MODEL, count)
    assert grown.fits(soak.ALLOWED), str(grown)


@pytest.mark.parametrize("way", soak.CYCLES)
def test_nothing_grows_while_networks_come_and_go(way):
    grown = soak.loads(MODEL, 60 if way != "observed" else 20, way)
    assert grown.fits(soak.ALLOWED), str(grown)


def test_networks_with_shared_weights_run_at_the_same_time():
    count, wrong = soak.shared_weights(MODEL, 1.0)
    assert count > 10
    assert wrong == 0


def test_growth_is_noticed(tmp_path):
    kept = []

    def leak(k):
        memory = mmap.mmap(-1, 100_000, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.write(bytes(100_000))
        kept.extend([memory, (tmp_path / str(k)).open("w")])

    grown = soak.growth(leak, 100)
    assert grown.files == 50 and grown.memory > soak.ALLOWED.memory
    assert not grown.fits(soak.ALLOWED)
    for thing in kept:
        thing.close()
