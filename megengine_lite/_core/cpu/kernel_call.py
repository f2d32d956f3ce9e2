"""Runs one kernel on numpy arrays, by the same records as in a program: to pack weights, in tests and benchmarks."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.program import Program


class KernelCall:
    """A program of one step.

    Parameters
    ----------
    kernels
        The kernels of one instruction set.
    name
        A name of its table.
    work
        Number of work items.
    scratch
        Bytes that each thread needs.
    threads
        How many threads share the work.
    **arguments
        The kernel's arguments by name. Pointers are arrays, ``(array, first element)`` or None; nothing checks that
        they are large enough.

    Raises
    ------
    TypeError
        An argument is missing, or the kernel has none of that name, or a pointer is no array.
    ValueError
        There is no such kernel.
    """

    def __init__(
        self, kernels: KernelSet, name: str, *, work: int, scratch: int = 0, threads: int = 1, **arguments: object
    ):
        try:
            kernel = kernels[name]
        except KeyError:
            raise ValueError(f"there is no kernel {name!r}") from None
        self._keep = arguments
        values = [
            _address(value) if kind == "p" else value
            for kind, value in zip(kernel.arguments.values(), kernel.values(arguments), strict=True)
        ]
        self._program = Program([(kernel.address, values, work, False)], 0, scratch, threads)

    def run(self) -> None:
        """Runs the kernel once."""
        self._program.run(0, 1)

    def seconds(self) -> float:
        """Runs the kernel once and gives the time it took."""
        return self._program.run_timed(0, 1)[0] * 1e-9


def _address(value: object) -> tuple[int, int] | None:
    if value is None:
        return None
    array, first = value if isinstance(value, tuple) else (value, 0)
    if not isinstance(array, np.ndarray):
        raise TypeError(f"a pointer is an array, (array, first element) or None, not {array!r}")
    return -1, array.ctypes.data + first * array.itemsize
