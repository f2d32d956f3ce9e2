"""The cores of this machine by kind: fast and slow ones of a phone or board, and what ARM calls its processors."""

from __future__ import annotations

import contextlib
import os
from collections import Counter

from megengine_lite._records import record

Path = str | os.PathLike[str]  # pathlib takes longer to import than all of this takes to run

SYSTEM_CPUS = "/sys/devices/system/cpu"
CPU_INFO = "/proc/cpuinfo"

# Implementer and part of MIDR_EL1 -> name. What is not here is named by its numbers.
_ARM, _FUJITSU, _HISILICON, _NVIDIA, _QUALCOMM, _AMPERE = 0x41, 0x46, 0x48, 0x4E, 0x51, 0xC0
_PARTS = {
    (_ARM, 0xD02): "Cortex-A34", (_ARM, 0xD03): "Cortex-A53", (_ARM, 0xD04): "Cortex-A35",
    (_ARM, 0xD05): "Cortex-A55", (_ARM, 0xD06): "Cortex-A65", (_ARM, 0xD07): "Cortex-A57",
    (_ARM, 0xD08): "Cortex-A72", (_ARM, 0xD09): "Cortex-A73", (_ARM, 0xD0A): "Cortex-A75",
    (_ARM, 0xD0B): "Cortex-A76", (_ARM, 0xD0C): "Neoverse N1", (_ARM, 0xD0D): "Cortex-A77",
    (_ARM, 0xD40): "Neoverse V1", (_ARM, 0xD41): "Cortex-A78", (_ARM, 0xD44): "Cortex-X1",
    (_ARM, 0xD46): "Cortex-A510", (_ARM, 0xD47): "Cortex-A710", (_ARM, 0xD48): "Cortex-X2",
    (_ARM, 0xD49): "Neoverse N2", (_ARM, 0xD4B): "Cortex-A78C", (_ARM, 0xD4D): "Cortex-A715",
    (_ARM, 0xD4E): "Cortex-X3", (_ARM, 0xD4F): "Neoverse V2", (_ARM, 0xD80): "Cortex-A520",
    (_ARM, 0xD81): "Cortex-A720", (_ARM, 0xD82): "Cortex-X4", (_ARM, 0xD8E): "Neoverse N3",
    (_FUJITSU, 0x001): "A64FX", (_HISILICON, 0xD01): "Kunpeng 920", (_NVIDIA, 0x004): "Carmel",
    (_QUALCOMM, 0x802): "Kryo 385 Gold", (_QUALCOMM, 0x803): "Kryo 385 Silver",
    (_QUALCOMM, 0x804): "Kryo 485 Gold", (_QUALCOMM, 0x805): "Kryo 485 Silver",
    (_AMPERE, 0xAC3): "Ampere-1", (_AMPERE, 0xAC4): "Ampere-1a",
}  # fmt: skip


FAST = 0.6
"""Cores of this share of the largest capacity are fast: of three kinds the middle one is, too, but not little ones."""


def arm_name(midr: int) -> str:
    """What the register MIDR_EL1 says about a core: ``"Cortex-A76"``, or the numbers of one that is not known.

    Examples
    --------
    >>> arm_name(0x414FD0B1), arm_name(0x411FFFF1)
    ('Cortex-A76', 'ARM64 processor 0x41:0xfff')
    """
    implementer, part = midr >> 24 & 0xFF, midr >> 4 & 0xFFF
    return _PARTS.get((implementer, part), f"ARM64 processor {implementer:#04x}:{part:#05x}")


@record(frozen=True, slots=True)
class CoreKind:
    """Cores that are alike.

    Attributes
    ----------
    name
        What they are called; empty if nothing says so.
    count
        How many there are.
    capacity
        Work that one does in a time, of 1024 for the fastest; 0 if the system does not say.
    max_mhz
        The highest clock; 0 if the system does not say.
    cpus
        Their numbers in the system.
    """

    name: str
    count: int
    capacity: int
    max_mhz: int
    cpus: tuple[int, ...]


def core_kinds(brand: str, midr: int = 0, system: Path = SYSTEM_CPUS, info: Path = CPU_INFO) -> tuple[CoreKind, ...]:
    """The kinds of the cores that are switched on, the fastest first; empty where the system shows no files of them.

    Parameters
    ----------
    brand
        The name of cores that have none of their own.
    midr
        MIDR_EL1 of the core that asks, where the processor is an ARM64: for systems that do not say more.
    system, info
        Where Linux describes cores: one by one, and in a list.
    """
    numbers = _online(system)
    registers = _listed_registers(info)
    groups: dict[tuple[str, int, int], list[int]] = {}
    for cpu in numbers:
        folder = os.path.join(system, f"cpu{cpu}")
        register = _number(os.path.join(folder, "regs", "identification", "midr_el1")) or registers.get(cpu, midr)
        name = arm_name(register) if register else brand
        clock = _number(os.path.join(folder, "cpufreq", "cpuinfo_max_freq")) // 1000  # the file is in kHz
        groups.setdefault((name, _number(os.path.join(folder, "cpu_capacity")), clock), []).append(cpu)
    kinds = [
        CoreKind(name, len(cpus), capacity, clock, tuple(cpus)) for (name, capacity, clock), cpus in groups.items()
    ]
    return tuple(sorted(kinds, key=lambda kind: (-kind.capacity, -kind.max_mhz, kind.cpus)))


def fast_cores(kinds: tuple[CoreKind, ...]) -> tuple[int, ...]:
    """The numbers of the cores that do nearly as much as the fastest; empty if all do, or the system does not say."""
    least = FAST * max((kind.capacity for kind in kinds), default=0)
    fast = [kind for kind in kinds if kind.capacity >= least]
    return tuple(cpu for kind in fast for cpu in kind.cpus) if len(fast) < len(kinds) else ()


def brand_of(kinds: tuple[CoreKind, ...]) -> str:
    """One name for all cores: ``"4 Cortex-A76 + 4 Cortex-A55"``; that of a core if all have the same."""
    names = Counter[str]()
    for kind in kinds:
        names[kind.name] += kind.count
    if len(names) == 1:
        return next(iter(names))
    return " + ".join(f"{count} {name}" for name, count in names.items())


def _online(system: Path) -> list[int]:
    """Numbers of the cores that are switched on, as in the file ``online``: ``0-3,6``."""
    text = _text(os.path.join(system, "online"))
    found: list[int] = []
    with contextlib.suppress(ValueError):
        for piece in filter(None, text.split(",")):
            first, _, last = piece.partition("-")
            found += range(int(first), int(last or first) + 1)
    return found


def _listed_registers(info: Path) -> dict[int, int]:
    """MIDR_EL1 by core, put together from the parts that ``/proc/cpuinfo`` shows on ARM64."""
    found: dict[int, int] = {}
    for block in _text(info).split("\n\n"):
        fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in block.splitlines())}
        with contextlib.suppress(KeyError, ValueError):
            implementer, part = int(fields["CPU implementer"], 0), int(fields["CPU part"], 0)
            found[int(fields["processor"])] = implementer << 24 | part << 4
    return found


def _number(path: Path) -> int:
    """The number in a file, decimal or with 0x; 0 where there is none."""
    try:
        return int(_text(path), 0)
    except ValueError:
        return 0


def _text(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return os.fsdecode(file.read()).strip()
    except OSError:
        return ""
