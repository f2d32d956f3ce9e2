from typing import Any

CPU_DEVICE: tuple[int, int]
HOST_DEVICES: tuple[int, ...]

class Borrowed: ...

def make_capsule(
    owner: object,
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    code: int,
    bits: int,
    readonly: bool,
    versioned: bool,
    copied: bool,
) -> Any: ...  # a capsule, a type that has no name in Python
def is_capsule(source: object) -> bool: ...
def take_capsule(
    capsule: object,
) -> tuple[Borrowed, int, tuple[int, ...], tuple[int, ...] | None, int, int, bool]: ...
