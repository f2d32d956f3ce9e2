"""The order in which the original lists a model's inputs: that of a hash map of its C++ library.

Programs ask for inputs by position, so the order is part of the interface. The map is ``std::unordered_map`` of
libstdc++, which keeps all elements in one list and for each bucket the place where its elements begin.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from megengine_lite._core.system.hashes import std_hash

# Bucket counts that the library goes through while a map grows.
_BUCKET_COUNTS = (
    *(1, 13, 29, 59, 127, 257, 541, 1109, 2357, 5087, 10273, 20753, 42043, 85229, 172933, 351061, 712697, 1447153),
    *(2938679, 5967347, 12117689, 24607243, 49969847, 101473717, 206062531),
)


class _HashMap:
    """Keys of a hash map in a doubly linked list; each bucket knows the first of its keys."""

    def __init__(self, buckets: int):
        self.buckets = buckets
        self._first: dict[int, str] = {}
        self._next: dict[str | None, str | None] = {None: None}  # None stands in front of the head and behind the tail
        self._previous: dict[str | None, str | None] = {None: None}

    def insert(self, key: str, hashed: int) -> None:
        """In front of the keys of its bucket, or of the whole list if the bucket is empty."""
        bucket = hashed % self.buckets
        behind = self._first.get(bucket, self._next[None])
        before = self._previous[behind]
        self._next[before] = self._previous[behind] = key
        self._next[key], self._previous[key] = behind, before
        self._first[bucket] = key

    def __iter__(self) -> Iterator[str]:
        key = self._next[None]
        while key is not None:
            yield key
            key = self._next[key]


def listed_order(names: Sequence[str]) -> list[str]:
    """Distinct names in the order in which the original lists them, given the order of the file."""
    hashes = {name: std_hash(name.encode()) for name in names}
    counts = iter(_BUCKET_COUNTS)
    table = _HashMap(next(counts))
    for size, name in enumerate(names, 1):
        if size > table.buckets:
            grown = _HashMap(next(counts))
            for old in table:
                grown.insert(old, hashes[old])
            table = grown
        table.insert(name, hashes[name])
    return list(table)
