"""Memory between forbidden pages: code that reads or writes outside of what it was given dies at once.

:func:`guarded_plans` puts all that native steps touch into such memory: constants, the pieces of the arena (each in
a place of its own, between bytes that nobody may change), outputs and scratch. What is allowed:

- Inputs, outputs, constants and scratch: exactly their bytes, to read and to write.
- A piece of the arena: its bytes. Up to SLACK bytes behind it may be read, not written; nothing in front of it.

A buffer can touch one forbidden page only: run with ``at_end`` true and false, as :func:`run_guarded` does.
"""

from __future__ import annotations

import ctypes
import mmap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest

from megengine_lite._core.cpu import planner
from megengine_lite._core.cpu.arena import assign_offsets
from megengine_lite._core.cpu.device import CpuDevice
from megengine_lite._core.cpu.dispatch import SHARED
from megengine_lite._core.cpu.host_memory import HostArena
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import Kernel, KernelSet, kernel_set, runnable_sets
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.planner import HostPlan
from megengine_lite._core.cpu.steps import MemoryPiece, Ref, Step
from megengine_lite._core.ir.graph import Constant, Var
from megengine_lite._core.system.memory import ALIGNMENT, Storage
from megengine_lite._records import replace
from megengine_lite.errors import LiteError
from megengine_lite.kernels.common.shared_constants import SLACK

_PAGE = mmap.PAGESIZE
_LIBC = ctypes.CDLL(None)
_BORDER = 0xA5
_LARGEST_ARENA = 256 << 20
_UNWRITTEN = 0xFF  # NaN as a float
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)


class WildWrite(Exception):
    """A kernel wrote outside of the memory that it was given."""


def _round_up(nbytes: int, multiple: int) -> int:
    return -(-nbytes // multiple) * multiple


def _map(nbytes: int) -> np.ndarray:
    """Zeroed pages of their own, as bytes."""
    try:
        return np.frombuffer(mmap.mmap(-1, nbytes), np.uint8)
    except OSError as error:
        raise LiteError("there is not enough memory") from error


def _protect(address: int, nbytes: int, protection: int) -> None:
    if _LIBC.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(nbytes), protection):
        raise LiteError("there is not enough memory for another forbidden page")


def _forbid_page(address: int) -> None:
    _protect(address, _PAGE, 0)


class _Place(NamedTuple):
    """Where something lies in mapped memory: between two forbidden pages, with a border on one side or both."""

    front: int  # the forbidden page in front ends
    begin: int
    end: int
    guard: int  # the forbidden page behind begins

    def check(self, memory: np.ndarray, what: str) -> None:
        """Raises WildWrite if a byte of the border was changed."""
        for first, last in ((self.front, self.begin), (self.end, self.guard)):
            wrong = (memory[first:last] != _BORDER).nonzero()[0]
            if wrong.size:
                raise WildWrite(
                    f"{wrong.size} bytes changed around {what} of {self.end - self.begin} bytes, "
                    f"{first + wrong[0] - self.begin} bytes from its start on"
                )

    def forget(self, memory: np.ndarray) -> None:
        """Fills the border, and the inside with what is no number."""
        memory[self.front : self.begin] = _BORDER
        memory[self.begin : self.end] = _UNWRITTEN
        memory[self.end : self.guard] = _BORDER


def _place(first: int, nbytes: int, at_end: bool, slack: int = 0, alignment: int = 1) -> _Place:
    """A place whose forbidden page in front begins at ``first``; it touches that page or the one behind."""
    front = first + _PAGE
    guard = front + max(_round_up(nbytes + slack, _PAGE), _PAGE)
    begin = (guard - slack - nbytes) // alignment * alignment if at_end else front
    return _Place(front, begin, begin + nbytes, guard)


class _Buffer:
    """Bytes in mapped memory of their own."""

    def __init__(self, nbytes: int, at_end: bool, alignment: int = 1):
        self.place = _place(0, nbytes, at_end, alignment=alignment)
        self.memory = _map(self.place.guard + _PAGE)
        self.memory[self.place.front : self.place.guard] = _BORDER
        self.inside = self.memory[self.place.begin : self.place.end]
        _forbid_page(self.memory.ctypes.data)
        _forbid_page(self.memory.ctypes.data + self.place.guard)

    def check(self, what: str) -> None:
        self.place.check(self.memory, what)

    def freeze(self) -> None:
        """Makes writing a crash."""
        front, guard = self.place.front, self.place.guard
        _protect(self.memory.ctypes.data + front, guard - front, mmap.PROT_READ)


def guarded_bytes(nbytes: int, at_end: bool = True) -> np.ndarray:
    """Zeroed bytes between forbidden pages, which end (or begin) where one begins (or ends)."""
    inside = _Buffer(nbytes, at_end).inside
    inside[...] = 0
    return inside


def guarded_copy(array: np.ndarray, at_end: bool = True) -> np.ndarray:
    """A dense copy of an array in guarded memory that nobody may write to."""
    buffer = _Buffer(array.nbytes, at_end)
    out = buffer.inside.view(array.dtype).reshape(array.shape)
    out[...] = array
    out.flags.writeable = False
    buffer.freeze()
    return out


# ---- the arena -------------------------------------------------------------------------------------------------------


class _ArenaSize(int):
    """Size of an arena, which knows the places in it."""

    places: tuple[_Place, ...] = ()


def _spread(pieces: Sequence[MemoryPiece], at_end: bool) -> _ArenaSize:
    """Gives each piece a place that no other has.

    Large arenas are laid out as usual: filling them would take too long.
    """
    if assign_offsets(pieces) > _LARGEST_ARENA:
        return _ArenaSize(assign_offsets(pieces))
    places = []
    total = 0
    for piece in pieces:
        if piece.kind == MemoryPiece.ARENA and piece.first is not None:
            # At the end, addresses are as odd as sizes let them be: kernels need no more than that of inputs.
            place = _place(total, piece.nbytes, at_end, SLACK, min(piece.nbytes & -piece.nbytes or 1, ALIGNMENT))
            piece.offset = place.begin
            places.append(place)
            total = place.guard
    layout = _ArenaSize(total + _PAGE if places else 0)
    layout.places = tuple(places)
    return layout


class GuardedArena(HostArena):
    """An arena that is laid out anew for each plan, and holds no number when a run begins."""

    def __init__(self) -> None:
        super().__init__()
        self._layout = _ArenaSize(0)

    def reserve(self, nbytes: int) -> int:
        self.check()
        if nbytes is not self._layout or not self.address:
            self._layout = nbytes if isinstance(nbytes, _ArenaSize) else _ArenaSize(nbytes)
            self._memory = _map(max(nbytes, 1))
            self.address = self._memory.ctypes.data
            for place in self._layout.places:
                _forbid_page(self.address + place.front - _PAGE)
                _forbid_page(self.address + place.guard)
        for place in self._layout.places:
            place.forget(self._memory)
        return self.address

    def check(self) -> None:
        """Raises WildWrite if a byte around a piece was changed."""
        for place in self._layout.places:
            place.check(self._memory, "a piece")


# ---- kernels ---------------------------------------------------------------------------------------------------------

RAN: set[tuple[str, str]] = set()
"""Instruction set that they are compiled for, and name, of the kernels that have run in guarded memory."""
_faults: list[WildWrite] = []
_scratches = threading.local()


def _scratch(nbytes: int, at_end: bool) -> _Buffer:
    """Scratch of this thread, without numbers in it; it may begin with int64."""
    found: _Buffer | None = _scratches.__dict__.get(f"{nbytes} {at_end}")
    if found is None:
        found = _scratches.__dict__[f"{nbytes} {at_end}"] = _Buffer(nbytes, at_end, 8)
    found.place.forget(found.memory)
    return found


@cache
def _guarded_kernel(isa: str, name: str, address: int, nbytes: int, at_end: bool) -> tuple[Callable, int]:
    """A function with the calling convention of kernels, and its address: runs a kernel with guarded scratch."""
    kernel = _KERNEL(address)

    def run(arguments: int, begin: int, end: int, _: int) -> None:
        RAN.add((isa, name))
        scratch = _scratch(nbytes, at_end) if nbytes else None
        kernel(arguments, begin, end, scratch.inside.ctypes.data if scratch else None)
        try:
            if scratch:
                scratch.check(f"scratch of {name}")
        except WildWrite as fault:  # nobody above can catch it
            _faults.append(fault)

    callback = _KERNEL(run)
    return callback, ctypes.cast(callback, ctypes.c_void_p).value or 0


@cache
def _names() -> dict[int, tuple[str, str]]:
    """Instruction set that it is compiled for, and name, of each kernel that can run here, by address."""
    sets = map(kernel_set, runnable_sets())
    return {kernel.address: (own.isa.home_of(kernel.module), kernel.name) for own in sets for kernel in own}


def _guarded_address(address: int, scratch: int, at_end: bool) -> int:
    return _guarded_kernel(*_names()[address], address, scratch, at_end)[1]


def _check_scratch() -> None:
    """Raises for the first kernel that wrote outside of its scratch; forgets the others."""
    if _faults:
        first = _faults[0]
        _faults.clear()
        raise first


def _kernels_for(step: Step) -> frozenset[str]:
    """The kernels that the dispatch names for the node of a step."""
    rows = [row for row in planner.TABLE.of(step.origin.op) if row.takes(step.origin)]
    return SHARED.union(*(row.kernels for row in rows))


# ---- plans and calls -------------------------------------------------------------------------------------------------


class _Guarded(tuple):
    """Owner of a constant that lies in guarded memory."""


@contextmanager
def guarded_plans(at_end: bool = True) -> Iterator[None]:
    """Plans made inside of this context use guarded constants, arenas, outputs and scratch.

    Give sessions a GuardedArena. What kernels wrote around scratch is raised at the end. Every step must be by a kernel
    that the dispatch names for its node.
    """
    plain_constant = Lowering.constant
    plain_record = Step.record

    def constant(self: Lowering, value: Constant) -> Ref:
        ref = plain_constant(self, value)
        piece = ref.piece
        is_fault = isinstance(value.key, tuple) and value.key[0] == "fault"  # those are written to
        if not is_fault and not isinstance(piece.owner, _Guarded):
            copy = guarded_copy(np.ascontiguousarray(value.array), at_end)
            piece.owner = _Guarded((piece.owner, copy))
            piece.address = copy.ctypes.data
        return ref

    def record(self: Step) -> tuple:
        assert self.kernel.name in _kernels_for(self), f"the dispatch of {self.origin.op} names no {self.kernel.name}"
        address, *rest = plain_record(self)
        return _guarded_address(address, self.scratch, at_end), *rest

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lowering, "constant", constant)
        patch.setattr(Step, "record", record)
        patch.setattr(planner, "assign_offsets", lambda pieces: _spread(pieces, at_end))
        patch.setattr(CpuDevice, "allocate", lambda self, nbytes, *_: Storage.of_buffer(guarded_bytes(nbytes, at_end)))
        yield
    _check_scratch()


def run_guarded(
    make_plan: Callable[[], HostPlan], value_of: Callable[[Var], np.ndarray]
) -> tuple[list[np.ndarray], HostPlan]:
    """Copies of the outputs of a plan, and the plan; all memory is between forbidden pages.

    The plan is made and run twice, with everything at the end and at the beginning of its pages, and must have the
    same results.
    """
    results = []
    for at_end in (True, False):
        with guarded_plans(at_end):
            plan = make_plan()
            arena = GuardedArena()
            inputs = [guarded_copy(value_of(slot.var), at_end) for slot in plan.inputs]
            outputs = [_Buffer(slot.spec.nbytes, at_end) for slot in plan.outputs]
            for slot, array in zip(plan.inputs, inputs, strict=True):
                plan.program.set_base(slot.base, array.ctypes.data)
            for slot, buffer in zip(plan.outputs, outputs, strict=True):
                buffer.inside[...] = _UNWRITTEN
                plan.program.set_base(slot.base, buffer.inside.ctypes.data)
            plan.run(arena)
            arena.check()
            for buffer in outputs:
                buffer.check("an output")
        results.append([b.inside.copy() for b in outputs])
    for at_end, at_begin in zip(*results, strict=True):
        np.testing.assert_array_equal(at_end, at_begin, "results depend on where memory lies")
    shaped = zip(results[0], plan.outputs, strict=True)
    return [array.view(slot.spec.dtype.storage).reshape(slot.spec.shape) for array, slot in shaped], plan


class _GuardedKernels:
    """A kernel set whose kernels get guarded scratch."""

    def __init__(self, kernels: KernelSet, scratch: int, at_end: bool):
        self._kernels = kernels
        self._scratch = scratch
        self._at_end = at_end

    def __getitem__(self, name: str) -> Kernel:
        kernel = self._kernels[name]
        return replace(kernel, address=_guarded_address(kernel.address, self._scratch, self._at_end))


class GuardedCall:
    """A KernelCall on copies of its arrays between forbidden pages; ``run`` writes the results back."""

    def __init__(self, kernels: KernelSet, name: str, *, scratch: int = 0, **arguments: Any):
        self._kernels = kernels
        self._name = name
        self._scratch = scratch
        self._arguments = arguments

    def run(self) -> None:
        """Runs the kernel on both kinds of places; the results must be the same."""
        at_end, at_begin = self._run(True), self._run(False)
        for array, buffer in at_end.values():
            other = at_begin[id(array)][1]
            np.testing.assert_array_equal(buffer.inside, other.inside, "results depend on where memory lies")
            if array.flags.writeable:
                array.reshape(-1).view(np.uint8)[...] = buffer.inside

    def _run(self, at_end: bool) -> dict[int, tuple[np.ndarray, _Buffer]]:
        buffers: dict[int, tuple[np.ndarray, _Buffer]] = {}

        def guarded(value: Any) -> Any:
            if isinstance(value, tuple):
                return guarded(value[0]), value[1]
            if not isinstance(value, np.ndarray):
                return value
            if id(value) not in buffers:
                assert value.flags.c_contiguous
                buffer = _Buffer(value.nbytes, at_end)
                buffer.inside[...] = value.reshape(-1).view(np.uint8)
                buffers[id(value)] = value, buffer
            return buffers[id(value)][1].inside.view(value.dtype)

        arguments = {name: guarded(value) for name, value in self._arguments.items()}
        kernels: Any = _GuardedKernels(self._kernels, self._scratch, at_end)
        KernelCall(kernels, self._name, scratch=self._scratch, **arguments).run()
        _check_scratch()
        for array, buffer in buffers.values():
            buffer.check(f"an array {array.shape} of {self._name}")
        return buffers
