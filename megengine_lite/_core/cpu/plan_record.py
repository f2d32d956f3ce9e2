"""Makes the record of a plan, for a prepared file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from megengine_lite._core.cpu.kernel_set import Kernel
from megengine_lite._core.cpu.native_plan import described_arguments
from megengine_lite._core.cpu.planner import HostPlan
from megengine_lite._core.cpu.program import array_at
from megengine_lite._core.cpu.steps import HostStep, MemoryPiece, Ref, Step
from megengine_lite._core.device.plan import Slot
from megengine_lite._core.formats.prepared.record import NO_BASE, PAGE, PreparedKernel, PreparedPlan, PreparedSlot
from megengine_lite._core.ir.graph import AnyVar
from megengine_lite._core.ir.image_layouts import round_up
from megengine_lite._core.system.memory import ALIGNMENT
from megengine_lite.errors import LiteError


def record_of(plan: HostPlan, variables: Mapping[AnyVar, int]) -> PreparedPlan:
    """The record of a plan.

    Parameters
    ----------
    plan
        The plan, of a whole model.
    variables
        The number of each input and output of the model.

    Raises
    ------
    LiteError
        Some operators have no kernel here.
    """
    hosts = [step.node for step in plan.steps if isinstance(step, HostStep)]
    if hosts or plan.has_dynamic_outputs or plan.shapes:
        named = ", ".join(dict.fromkeys(f"{node.op} {node.name!r}" for node in hosts[:3]))
        raise LiteError(f"a prepared file has calls of kernels only, and for {named or 'some outputs'} there is none")
    return _PlanRecorder(plan).record(variables)


class _PlanRecorder:
    """Goes through the steps of a plan and gathers constants and kernels."""

    def __init__(self, plan: HostPlan):
        self._plan = plan
        self._weights = 1 + len(plan.inputs) + len(plan.outputs)  # the base
        self._flags = {fault.flag.ctypes.data: k for k, fault in enumerate(plan.faults)}
        self._kernels: dict[str, tuple[int, Kernel]] = {}
        self._pieces: dict[int, tuple[int, MemoryPiece]] = {}  # by address; with the offset in the file
        self._size = 0

    def record(self, variables: Mapping[AnyVar, int]) -> PreparedPlan:
        plan = self._plan
        steps, values, bases = [], [], []
        for step in plan.steps:
            assert isinstance(step, Step)
            kernel = self._kernels.setdefault(step.kernel.name, (len(self._kernels), step.kernel))[0]
            steps.append((kernel, step.work, bool(step.serial)))
            for argument in step.arguments:
                base, value = self._argument(argument)
                bases.append(base)
                values.append(value)
        return PreparedPlan(
            [_slot(slot, variables) for slot in plan.inputs],
            [_slot(slot, variables) for slot in plan.outputs],
            plan.arena_bytes,
            plan.program.scratch_bytes // max(plan.threads, 1),
            [PreparedKernel(k.module, k.name, described_arguments(k)) for _, k in self._kernels.values()],
            np.array(steps, np.int64).reshape(-1),
            np.array(values, np.int64),
            np.array(bases, np.int64),
            [(fault.error.__name__, fault.message) for fault in plan.faults],
            self._content(),
        )

    def _argument(self, argument: Ref | int | float | None) -> tuple[int, int]:
        """Base and value."""
        if argument is None:
            return NO_BASE, 0
        if isinstance(argument, float):
            (bits,) = struct.unpack("<q", struct.pack("<d", argument))
            return NO_BASE, int(bits)
        if not isinstance(argument, Ref):
            return NO_BASE, argument
        piece = argument.piece
        if piece.kind != MemoryPiece.CONSTANT:
            return argument.address()
        if piece.address in self._flags:
            return self._weights + 1, 4 * self._flags[piece.address] + argument.offset
        return self._weights, self._offset(piece) + argument.offset

    def _offset(self, piece: MemoryPiece) -> int:
        """Where a constant is among the weights."""
        found = self._pieces.get(piece.address)
        if found is None or found[1].nbytes < piece.nbytes:
            found = self._pieces[piece.address] = self._size, piece
            self._size += round_up(piece.nbytes, ALIGNMENT)
        return found[0]

    def _content(self) -> Any:
        content = np.zeros(round_up(self._size, PAGE) + PAGE, np.uint8)
        for offset, piece in self._pieces.values():
            if piece.nbytes:
                content[offset : offset + piece.nbytes] = np.frombuffer(array_at(piece.address, piece.nbytes), np.uint8)
        return content


def _slot(slot: Slot, variables: Mapping[AnyVar, int]) -> PreparedSlot:
    return PreparedSlot(variables[slot.var], slot.spec.dtype, slot.spec.shape, slot.base)
