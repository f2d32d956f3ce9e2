"""The instruction sets that tests run on: all that are built and run here, or those that were asked for.

``pytest --isa avx2`` and the environment variable ``MEGENGINE_LITE_TEST_ISA=avx2`` limit them; several names are
separated by commas; ``best`` is the best set that runs here.
"""

from __future__ import annotations

import os
from types import ModuleType

from megengine_lite._core.cpu.isa import DotKind, InstructionSet, instruction_sets
from megengine_lite._core.cpu.kernel_set import Kernel, KernelSet, kernel_set, runnable_sets

TEST_ISA = "MEGENGINE_LITE_TEST_ISA"
BEST = "best"


def chosen_sets(wanted: str) -> list[str]:
    """The runnable sets among the names, the best last; all for an empty string.

    Raises
    ------
    ValueError
        A name is not that of a set that runs here.
    """
    here = runnable_sets()[::-1]
    names = [here[-1] if name.strip() == BEST else name.strip() for name in wanted.split(",") if name.strip()]
    if unknown := sorted({*names} - {*here}):
        raise ValueError(f"{', '.join(unknown)}: no instruction set that runs here; there are {', '.join(here)}")
    return [name for name in here if not names or name in names]


INSTRUCTION_SETS = chosen_sets(os.environ.get(TEST_ISA, ""))


def takes_unsigned_bytes(isa: str) -> bool:
    """Whether the dot product of an instruction set multiplies unsigned bytes."""
    return instruction_sets()[isa].dot is DotKind.U8S8_QUADS


class _StandIn(KernelSet):
    """The row of one set with the kernels of another: it can plan, not run."""

    def __init__(self, row: InstructionSet, kernels: KernelSet):
        super().__init__(row)
        self._others = kernels

    def __getitem__(self, name: str) -> Kernel:
        return self._others[name]

    def module(self, name: str) -> ModuleType:
        return self._others.module(name)


def planning_kernels(row: InstructionSet) -> KernelSet | None:
    """Kernels by which nodes can be planned for a set, also for one of another architecture.

    What plans ask of kernels follows from the number of lanes. None where no set with as many is among those that tests
    run on.
    """
    if instruction_sets().get(row.name) == row and row.name in INSTRUCTION_SETS:
        return kernel_set(row.name)
    alike = [name for name in INSTRUCTION_SETS if instruction_sets()[name].width == row.width]
    return _StandIn(row, kernel_set(alike[0])) if alike else None
