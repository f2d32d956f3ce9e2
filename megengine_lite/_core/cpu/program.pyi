from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

Argument: TypeAlias = int | float | tuple[int, int] | None
Record: TypeAlias = tuple[int, Sequence[Argument], int, bool]

Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

def array_at(address: int, nbytes: int) -> memoryview: ...

class RecordTable:
    kernels: Integers
    counts: Integers
    work: Integers
    serial: Integers
    values: Integers
    bases: Integers
    def __init__(
        self,
        kernels: Integers,
        counts: Integers,
        work: Integers,
        serial: Integers,
        values: Integers,
        bases: Integers,
    ) -> None: ...
    def __len__(self) -> int: ...

class Program:
    def __init__(self, steps: Sequence[Record] | RecordTable, bases: int, scratch: int, threads: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def scratch_bytes(self) -> int: ...
    def set_base(self, base: int, address: int) -> None: ...
    def base(self, base: int) -> int: ...
    def run(self, begin: int, end: int) -> None: ...
    def run_timed(self, begin: int, end: int) -> list[int]: ...
