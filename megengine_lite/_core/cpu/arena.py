"""One memory arena for all intermediate tensors of a plan: offsets from lifetimes.

Greedy by size: the largest piece of memory is placed first, each at the lowest offset where it overlaps none that is
alive at the same time (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", arXiv 2001.03288).
If very many are alive at the same time, this takes too long. Pieces are then placed in the order of their first steps,
each in the smallest gap that it fits into.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

from megengine_lite._core.cpu.steps import MemoryPiece
from megengine_lite._core.system.memory import ALIGNMENT
from megengine_lite.kernels.common.shared_constants import SLACK

# With more pairs of pieces that are alive at the same time, they are not placed by size.
MAX_PAIRS = 1_000_000


def assign_offsets(pieces: Sequence[MemoryPiece]) -> int:
    """Gives each used piece of the arena its offset; returns the size of the arena in bytes."""
    used = [p for p in pieces if p.kind == MemoryPiece.ARENA and p.first is not None]
    place = _place_by_size if _count_pairs(used) <= MAX_PAIRS else _place_by_time
    total = place(used)
    return total + SLACK if total else 0


def _size(p: MemoryPiece) -> int:
    return -(-max(p.nbytes, 1) // ALIGNMENT) * ALIGNMENT


def _first(p: MemoryPiece) -> int:
    assert p.first is not None
    return p.first


def _count_pairs(pieces: Sequence[MemoryPiece]) -> int:
    """Pairs of pieces such that one begins while the other is alive."""
    begins = sorted(map(_first, pieces))
    return sum(bisect_left(begins, p.last + 1) - bisect_left(begins, _first(p)) for p in pieces)


def _place_by_size(pieces: Sequence[MemoryPiece]) -> int:
    placed = _Timeline(max((p.last for p in pieces), default=0))
    total = 0
    for p in sorted(pieces, key=lambda p: (-p.nbytes, p.first)):
        size = _size(p)
        offset = 0
        for begin, end in placed.during(_first(p), p.last):
            if begin - offset >= size:
                break
            offset = max(offset, end)
        p.offset = offset
        placed.add(_first(p), p.last, (offset, offset + size))
        total = max(total, offset + size)
    return total


class _Timeline:
    """Ranges of memory by the steps in which they are taken: a tree of halves of the time."""

    def __init__(self, last: int):
        self._leaves = 1 << last.bit_length()
        self._within: dict[int, list[tuple[int, int]]] = {}  # taken in some step below a node of the tree
        self._throughout: dict[int, list[tuple[int, int]]] = {}  # taken in all of them

    def add(self, first: int, last: int, taken: tuple[int, int]) -> None:
        touched: set[int] = set()
        for node in self._cover(first, last):
            self._throughout.setdefault(node, []).append(taken)
            while node and node not in touched:
                touched.add(node)
                self._within.setdefault(node, []).append(taken)
                node >>= 1

    def during(self, first: int, last: int) -> list[tuple[int, int]]:
        """Ranges that are taken at some time between two steps, by address."""
        found: set[tuple[int, int]] = set()
        for node in self._cover(first, last):
            found.update(self._within.get(node, ()))
            while node := node >> 1:
                found.update(self._throughout.get(node, ()))
        return sorted(found)

    def _cover(self, first: int, last: int) -> list[int]:
        """The nodes of the tree that make up a span of steps."""
        nodes = []
        begin, end = first + self._leaves, last + self._leaves + 1
        while begin < end:
            if begin & 1:
                nodes.append(begin)
                begin += 1
            if end & 1:
                end -= 1
                nodes.append(end)
            begin, end = begin >> 1, end >> 1
        return nodes


def _place_by_time(pieces: Sequence[MemoryPiece]) -> int:
    gaps = _Gaps()
    ending: dict[int, list[MemoryPiece]] = {}
    for p in pieces:
        ending.setdefault(p.last + 1, []).append(p)
    events = sorted({*map(_first, pieces), *ending})
    starting: dict[int, list[MemoryPiece]] = {}
    for p in pieces:
        starting.setdefault(_first(p), []).append(p)
    for time in events:
        for p in ending.get(time, ()):
            gaps.give_back(p.offset, _size(p))
        for p in sorted(starting.get(time, ()), key=_size, reverse=True):
            p.offset = gaps.take(_size(p))
    return gaps.total


class _Gaps:
    """Memory that grows at its end, and the gaps in it."""

    def __init__(self) -> None:
        self.total = 0
        self._by_size: list[tuple[int, int]] = []  # size, offset
        self._begins: dict[int, int] = {}  # offset of a gap -> its end
        self._ends: dict[int, int] = {}  # the reverse

    def take(self, size: int) -> int:
        """The offset of so many bytes, in the smallest gap that has them, or at the end."""
        k = bisect_left(self._by_size, (size, -1))
        if k < len(self._by_size):
            found, offset = self._by_size[k]
            self._remove(offset, offset + found)
            if found > size:
                self._insert(offset + size, offset + found)
            return offset
        offset = self._ends.get(self.total, self.total)  # a gap at the end is made larger
        if offset < self.total:
            self._remove(offset, self.total)
        self.total = offset + size
        return offset

    def give_back(self, offset: int, size: int) -> None:
        begin, end = offset, offset + size
        if begin in self._ends:
            begin = self._ends[begin]
            self._remove(begin, offset)
        if end in self._begins:
            after = self._begins[end]
            self._remove(end, after)
            end = after
        self._insert(begin, end)

    def _insert(self, begin: int, end: int) -> None:
        insort(self._by_size, (end - begin, begin))
        self._begins[begin] = end
        self._ends[end] = begin

    def _remove(self, begin: int, end: int) -> None:
        del self._by_size[bisect_left(self._by_size, (end - begin, begin))]
        del self._begins[begin]
        del self._ends[end]
