"""Plans whose work a program does: what they share, whether lowering has made them or a file."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from megengine_lite._core.cpu.host_memory import HostArena
from megengine_lite._core.device.plan import Arena, Plan, Slot
from megengine_lite._core.system.memory import Storage
from megengine_lite._records import record
from megengine_lite.errors import LiteError

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._core.cpu.kernel_set import Kernel
    from megengine_lite._core.cpu.program import Program

# The base pointer of a program that stands for the arena.
ARENA_BASE = 0


def described_arguments(kernel: Kernel) -> str:
    """Name and kind of each argument of a kernel, as prepared files have them."""
    return " ".join(f"{name}:{kind}" for name, kind in kernel.arguments.items())


@record(frozen=True, slots=True, eq=False)
class Fault:
    """A number that a kernel sets when data is wrong, and the error that the run then raises."""

    flag: np.ndarray
    error: type[LiteError]
    message: str


class NativePlan(Plan):
    """A plan with a program.

    Attributes
    ----------
    program : Program
        The calls of kernels.
    arena_bytes : int
        Size of the arena that base 0 points to.
    faults : list
        What steps that can find wrong data may say.
    """

    program: Program
    arena_bytes: int
    faults: list[Fault]

    def bind(self, slot: Slot, storage: Storage, offset: int) -> None:
        self.program.set_base(slot.base, storage.address + offset)

    def _take(self, arena: Arena) -> None:
        """Uses an arena for this run."""
        assert isinstance(arena, HostArena)
        self.program.set_base(ARENA_BASE, arena.reserve(self.arena_bytes))

    def _check_faults(self) -> None:
        """Raises for the first step that found wrong data, and resets the flags of all steps."""
        found = [fault for fault in self.faults if fault.flag[0]]
        if found:
            for fault in self.faults:
                fault.flag[0] = 0
            raise found[0].error(found[0].message)

    def forget_run(self) -> None:
        super().forget_run()
        with contextlib.suppress(LiteError):
            self._check_faults()  # of the data at that time
