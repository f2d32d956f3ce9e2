"""Memory with forbidden pages behind it: code that reads or writes past the end dies at once.

:func:`guarded_plans` puts what native steps touch into such memory: constants, the storages of the arena (each in a
place of its own, between bytes that nobody may change) and outputs.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest

from megengine_lite._core import planner
from megengine_lite._core import session as session_module
from megengine_lite._core.arena import ALIGNMENT, SLACK, assign_offsets
from megengine_lite._core.graph import Constant
from megengine_lite._core.lower.context import Lowering, Ref, Storage
from megengine_lite._core.session import Arena
from megengine_lite.errors import LiteError

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None)
_BORDER = 0xA5
_LARGEST_ARENA = 256 << 20
_UNWRITTEN = 0xFF  # NaN as a float


class WildWrite(Exception):
    """A kernel wrote outside of the storage that it was given."""


def _round_up(nbytes: int, multiple: int) -> int:
    return -(-nbytes // multiple) * multiple


def _map(nbytes: int) -> np.ndarray:
    """Zeroed pages of their own, as bytes."""
    try:
        return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
    except OSError as error:
        raise LiteError("there is not enough memory") from error


def _forbid_page(address: int) -> None:
    if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(_PAGE), 0):
        raise LiteError("there is not enough memory for another forbidden page")


def guarded_bytes(nbytes: int) -> np.ndarray:
    """Zeroed bytes that end where a forbidden page begins."""
    end = _round_up(nbytes, _PAGE)
    memory = _map(end + _PAGE)
    _forbid_page(memory.ctypes.data + end)
    return memory[end - nbytes : end]


def guarded_copy(array: np.ndarray) -> np.ndarray:
    """A dense copy of an array in guarded memory."""
    out = guarded_bytes(array.nbytes).view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


class _Place(NamedTuple):
    """A storage in the arena: its border begins, it begins, it ends, the forbidden page begins."""

    border: int
    begin: int
    end: int
    guard: int


class _Layout(int):
    """Size of an arena, which knows the places in it."""

    places: tuple[_Place, ...] = ()


def _spread(storages: Sequence[Storage]) -> _Layout:
    """Gives each storage a place that no other has, with a forbidden page behind the slack that kernels may read.

    Large arenas are laid out as usual: filling them would take too long.
    """
    if assign_offsets(storages) > _LARGEST_ARENA:
        return _Layout(assign_offsets(storages))
    places = []
    total = 0
    for storage in storages:
        if storage.kind == Storage.ARENA and storage.first is not None:
            behind = _round_up(storage.nbytes + SLACK, ALIGNMENT)
            guard = total + _round_up(behind + ALIGNMENT, _PAGE)
            storage.offset = guard - behind
            places.append(_Place(total, storage.offset, storage.offset + storage.nbytes, guard))
            total = guard + _PAGE
    layout = _Layout(total)
    layout.places = tuple(places)
    return layout


class GuardedArena(Arena):
    """An arena that is laid out anew for each plan."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = _Layout(0)

    def reserve(self, nbytes: int) -> int:
        if nbytes is not self._layout or not self.address:
            self.check()
            self._layout = nbytes if isinstance(nbytes, _Layout) else _Layout(nbytes)
            self._memory = _map(max(nbytes, 1))
            self.address = self._memory.ctypes.data
            for place in self._layout.places:
                self._memory[place.border : place.guard] = _BORDER
                self._memory[place.begin : place.end] = _UNWRITTEN
                _forbid_page(self.address + place.guard)
        return self.address

    def check(self) -> None:
        """Raises WildWrite if a byte around a storage was changed."""
        for place in self._layout.places:
            for begin, end in ((place.border, place.begin), (place.end, place.guard)):
                wrong = (self._memory[begin:end] != _BORDER).nonzero()[0]
                if wrong.size:
                    raise WildWrite(
                        f"{wrong.size} bytes changed around a storage of {place.end - place.begin} bytes, "
                        f"{begin + wrong[0] - place.begin} bytes from its start on"
                    )


class _Guarded(tuple):
    """Owner of a constant that lies in guarded memory."""


@contextmanager
def guarded_plans() -> Iterator[None]:
    """Plans made inside of this context use guarded constants, arenas and outputs. Give sessions a GuardedArena."""
    plain_constant = Lowering.constant

    def constant(self: Lowering, value: Constant) -> Ref:
        ref = plain_constant(self, value)
        storage = ref.storage
        is_fault = isinstance(value.key, tuple) and value.key[0] == "fault"  # those are written to
        if not is_fault and not isinstance(storage.owner, _Guarded):
            copy = guarded_copy(np.ascontiguousarray(value.array))
            storage.owner = _Guarded((storage.owner, copy))
            storage.address = copy.ctypes.data
        return ref

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lowering, "constant", constant)
        patch.setattr(planner, "assign_offsets", _spread)
        patch.setattr(session_module, "aligned_bytes", guarded_bytes)
        yield
