"""Short forms of benchmarks/soak.py: nothing grows, nothing is wrong."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "soak.py"


@pytest.fixture(scope="module")
def soak():
    spec = importlib.util.spec_from_file_location("soak", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["soak"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("part", "count"), [("forwards", 20_000), ("loads", 100), ("shape_changes", 300)])
def test_memory_stays(soak, part, count):
    assert getattr(soak, part)(str(soak.DIGITS), count) <= soak.ALLOWED_BYTES


def test_networks_with_shared_weights_run_at_the_same_time(soak):
    count, wrong = soak.shared_weights(str(soak.DIGITS), 1.0)
    assert count > 10
    assert wrong == 0
