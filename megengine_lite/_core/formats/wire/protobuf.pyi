from array import array
from collections.abc import Iterator
from enum import IntFlag
from typing import Any

from megengine_lite._core.formats.wire.cursor import Cursor

class Wire(IntFlag):
    VARINT = 0
    FIXED64 = 1
    BYTES = 2
    FIXED32 = 5

class FieldReader:
    def __init__(self, cursor: Cursor, begin: int, end: int, thing: str, padded: bool = False) -> None: ...
    def __iter__(self) -> Iterator[tuple[int, int, int, int]]: ...
    def __next__(self) -> tuple[int, int, int, int]: ...

def signed(value: int) -> int: ...
def as_float32(bits: int) -> float: ...
def packed(cursor: Cursor, begin: int, end: int, code: str, thing: str) -> array[Any]: ...
