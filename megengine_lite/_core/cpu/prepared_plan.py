"""Plans that come from a prepared file: a program and weights that are mapped, and nothing to plan with.

What is imported here is what a process needs that starts from a prepared file. The file is trusted as a shared object
is: its numbers go to kernels. They are compared with what is known here all the same, so that a file that was made by
mistake is an error: kernels by name and arguments, pointers by the size of what they point into.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from megengine_lite._core.cpu.kernel_set import Kernel, instruction_set, is_present, kernels_of, shared_object
from megengine_lite._core.cpu.native_plan import Fault, NativePlan, described_arguments
from megengine_lite._core.cpu.program import Program, RecordTable
from megengine_lite._core.device.plan import Arena, PlanReport, Slot, StepTime
from megengine_lite._core.formats.prepared.record import NO_BASE, PreparedKernel, PreparedPlan
from megengine_lite._core.ir.graph import AnyVar, TensorSpec
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system.file_bytes import MappedFile
from megengine_lite._core.system.files import open_file
from megengine_lite._core.system.hashes import xxh64
from megengine_lite.errors import (
    InternalError,
    LiteError,
    LiteIndexError,
    LiteMemoryError,
    LiteValueError,
    ModelFormatError,
)

_ERRORS: dict[str, type[LiteError]] = {error.__name__: error for error in (LiteIndexError, LiteValueError)}
"""What runs may raise for wrong data."""


def kernels_version(config: SessionConfig) -> tuple[str, str]:
    """The instruction set of a configuration, and the checksum of the files with its kernels."""
    isa, checksum = instruction_set(config.isa), 0
    for home in isa.homes:
        with open_file(str(shared_object(home).__file__)) as file:
            checksum = xxh64(MappedFile(file, "kernels"), checksum)
    return isa.name, f"{checksum:016x}"


class MappedPlan(NativePlan):
    """A plan from a prepared file."""

    def __init__(self, record: PreparedPlan, inputs: list[Slot], outputs: list[Slot], table: RecordTable, threads: int):
        super().__init__(None, inputs, outputs, {})
        self.arena_bytes = record.arena_bytes
        self._weights = np.frombuffer(record.weights, np.uint8)
        flags = np.zeros(len(record.faults) + 1, np.int32)
        self.faults = [Fault(flags[k : k + 1], _ERRORS[e], message) for k, (e, message) in enumerate(record.faults)]
        bases = 1 + len(inputs) + len(outputs)
        self.program = Program(table, bases + 2, record.scratch_bytes, threads)
        self.program.set_base(bases, self._weights.ctypes.data)
        self.program.set_base(bases + 1, flags.ctypes.data)

    def run(self, arena: Arena) -> None:
        self._take(arena)
        self.program.run(0, len(self.program))
        if self.faults:
            self._check_faults()

    def run_timed(self, arena: Arena) -> list[StepTime]:
        raise InternalError("a plan from a prepared file does not know what its steps were made from")

    def report(self) -> PlanReport:
        weights: dict[Hashable, int] = {self._weights.ctypes.data: self._weights.nbytes}
        return PlanReport([], weights, self.program.scratch_bytes, self.arena_bytes)


def restore(record: PreparedPlan, variables: Mapping[int, AnyVar], config: SessionConfig, what: str) -> MappedPlan:
    """The plan of a record.

    Parameters
    ----------
    record
        From a file that was prepared for this processor and this version.
    variables
        The variables of slots, by their numbers.
    config
        The session's.
    what
        Name of the file for messages.

    Raises
    ------
    ModelFormatError
        The record does not fit the kernels that are here, or itself.
    LiteMemoryError
        There is not enough memory.
    """
    kernels = _kernels(record.kernels, config, what)
    steps = record.steps.reshape(-1, 3) if len(record.steps) % 3 == 0 else np.zeros([0, 3], np.int64)
    which = steps[:, 0]
    if len(record.steps) % 3 or np.any((which < 0) | (which >= len(kernels))):
        raise _unfit(what, "steps without kernel")
    counts = np.array([len(k.arguments) for k in kernels], np.int64)[which]
    table = RecordTable(
        np.array([k.address for k in kernels], np.int64)[which],
        counts,
        np.ascontiguousarray(steps[:, 1]),
        np.ascontiguousarray(steps[:, 2]),
        record.values,
        record.bases,
    )
    if counts.sum() != len(record.values) or len(record.bases) != len(record.values):
        raise _unfit(what, "steps without arguments")
    _check_pointers(record, kernels, which, what)
    if not {error for error, _ in record.faults} <= {*_ERRORS}:
        raise _unfit(what, "an error that there is not")
    inputs, outputs = (
        [Slot(variables[s.variable], TensorSpec(s.shape, s.dtype), s.base) for s in slots]
        for slots in (record.inputs, record.outputs)
    )
    try:
        return MappedPlan(record, inputs, outputs, table, config.threads)
    except (MemoryError, OverflowError) as error:
        raise LiteMemoryError(f"{what}: there is not enough memory for the plan: {error}") from error


def _kernels(wanted: Sequence[PreparedKernel], config: SessionConfig, what: str) -> list[Kernel]:
    isa = instruction_set(config.isa)
    modules = {m: kernels_of(isa, m) if is_present(isa, m) else {} for m in dict.fromkeys(k.module for k in wanted)}
    found = []
    for kernel in wanted:
        here = modules[kernel.module].get(kernel.name)
        if here is None or described_arguments(here) != kernel.arguments:
            raise _unfit(what, f"a kernel {kernel.name!r} that is another one here")
        found.append(here)
    return found


def _check_pointers(record: PreparedPlan, kernels: Sequence[Kernel], which: np.ndarray, what: str) -> None:
    """Raises unless pointers, and nothing else, have a base and lie in its memory."""
    values, bases = record.values, record.bases
    slots = [TensorSpec(s.shape, s.dtype).nbytes for s in (*record.inputs, *record.outputs)]
    sizes = np.array([record.arena_bytes, *slots, len(record.weights), 4 * len(record.faults)], np.int64)
    kinds = [np.array([kind == "p" for kind in k.arguments.values()]) for k in kernels]
    is_pointer = np.concatenate([kinds[k] for k in which]) if len(which) else np.zeros(0, bool)
    has_base = bases != NO_BASE
    if np.any(has_base & ~is_pointer) or np.any(is_pointer & ~has_base & (values != 0)):
        raise _unfit(what, "a number in the place of a pointer")
    inside, offsets = bases[has_base], values[has_base]
    if np.any((inside < 0) | (inside >= len(sizes))):
        raise _unfit(what, "a pointer into memory that is not there")
    if np.any((offsets < 0) | (offsets > sizes[inside])):
        raise _unfit(what, "a pointer behind its memory")


def _unfit(what: str, problem: str) -> ModelFormatError:
    return ModelFormatError(f"{what}: the plan has {problem}; prepare the file again")
