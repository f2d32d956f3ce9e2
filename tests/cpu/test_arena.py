"""Offsets in the arena: pieces of memory that live at the same time never overlap."""

import random

import pytest

from megengine_lite._core.cpu import arena
from megengine_lite._core.cpu.arena import ALIGNMENT, assign_offsets
from megengine_lite._core.cpu.steps import MemoryPiece
from megengine_lite.kernels.common.shared_constants import SLACK


def piece(nbytes, first, last):
    p = MemoryPiece(nbytes)
    p.first, p.last = first, last
    return p


@pytest.fixture(params=["by size", "by time"])
def strategy(request, monkeypatch):
    """How pieces are placed: as in plans of the usual size, or as where too many are alive at the same time."""
    if request.param == "by time":
        monkeypatch.setattr(arena, "MAX_PAIRS", 0)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.usefixtures("strategy")
def test_assign_offsets_never_overlaps_living_pieces(seed):
    rng = random.Random(seed)
    pieces = []
    for _ in range(60):
        first = rng.randrange(40)
        pieces.append(piece(rng.randrange(1, 5000), first, first + rng.randrange(12)))
    total = assign_offsets(pieces)
    assert total <= sum(-(-p.nbytes // ALIGNMENT) * ALIGNMENT for p in pieces) + SLACK
    for i, a in enumerate(pieces):
        assert a.offset % ALIGNMENT == 0
        assert a.offset + a.nbytes <= total
        for b in pieces[:i]:
            if a.first <= b.last and b.first <= a.last:
                assert a.offset + a.nbytes <= b.offset or b.offset + b.nbytes <= a.offset


@pytest.mark.usefixtures("strategy")
def test_assign_offsets_reuses_memory_of_dead_pieces():
    chain = [piece(1 << 20, k, k + 1) for k in range(10)]
    assert assign_offsets(chain) < (2 << 20) + 4096


def test_assign_offsets_skips_pieces_that_no_step_touches():
    assert assign_offsets([MemoryPiece(1 << 20)]) == 0
