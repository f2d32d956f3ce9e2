"""The instruction sets that kernels are compiled for: one row for each, and nowhere else.

``setup.py`` runs this file by its path to learn what to compile, so it imports nothing of the package. The engine
(:mod:`~megengine_lite._core.cpu.kernel_set`) chooses among the same rows at run time. How to add one is described in
``docs/adding-an-instruction-set.md``.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from enum import Enum

X86_64 = "x86-64"
ARM64 = "arm64"
OTHER = "other"

_MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": ARM64, "arm64": ARM64}

CORE_FLAGS: dict[str, tuple[str, ...]] = {X86_64: ("-march=x86-64",)}
"""Compiler flags, by architecture, of compiled modules that are not kernels: they run on every processor of it."""


class Dot(Enum):
    """What one instruction of a set offers for dot products of 8-bit integers, summed up in int32.

    It decides in which form inputs reach the kernels and how weights are packed.
    """

    NONE = "none"
    """Nothing: multiplied and added in steps."""
    U8S8_QUADS = "u8s8_quads"
    """Four products of unsigned by signed bytes for each sum (VNNI)."""
    S8S8_QUADS = "s8s8_quads"
    """Four products of signed bytes for each sum (SDOT)."""
    PAIRS_16 = "pairs_16"
    """Two products of 16-bit numbers for each sum: bytes are widened before."""


@dataclass(frozen=True)
class InstructionSet:
    """One row of the table.

    Attributes
    ----------
    name : str
        What users say (``MEGENGINE_LITE_ISA``), and with ``_`` in front the folder of its kernels.
    architecture : str
        ``X86_64``, ``ARM64`` or ``OTHER``. A name stands once for each architecture.
    header : str
        The file of its vector operations in ``kernels/common/simd/``.
    width : int
        float32 lanes of a vector, which is also the channel block of blocked layouts.
    registers : int
        Vector registers; they bound the blocks of products.
    dot : Dot
        The dot product of 8-bit integers.
    features : tuple of str
        What processor and system must offer, by the names of ``system/processor.pyx``.
    gcc : tuple of str
        Compiler flags for gcc.
    clang : tuple of str or None
        Compiler flags for clang; None where they are those of gcc.
    """

    name: str
    architecture: str
    header: str
    width: int
    registers: int
    dot: Dot
    features: tuple[str, ...] = ()
    gcc: tuple[str, ...] = ()
    clang: tuple[str, ...] | None = None

    def flags(self, compiler: str) -> tuple[str, ...]:
        """Compiler flags for ``"gcc"`` or ``"clang"``, with the definitions that ``simd.h`` asks for."""
        own = self.clang if compiler == "clang" and self.clang is not None else self.gcc
        unsigned = int(self.dot is Dot.U8S8_QUADS)
        return (
            *(f"-DML_SIMD_HEADER=simd/{self.header}", f"-DVW={self.width}", f"-DVREGS={self.registers}"),
            f"-DDOT_UNSIGNED={unsigned}",
            *own,
        )


_AVX2 = ("avx2", "fma", "f16c", "bmi2")
_AVX512 = (*_AVX2, "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni")
_GENERIC = "-mtune=generic"

INSTRUCTION_SETS = (
    InstructionSet(
        "avx512", X86_64, "avx512.h", 16, 32, Dot.U8S8_QUADS, _AVX512,
        gcc=("-march=icelake-server", _GENERIC, "-mprefer-vector-width=512"),
    ),
    InstructionSet("avx2", X86_64, "avx2.h", 8, 16, Dot.PAIRS_16, _AVX2, gcc=("-march=haswell", _GENERIC)),
    InstructionSet(
        "base", X86_64, "sse.h", 4, 16, Dot.PAIRS_16, ("sse4.1",), gcc=("-march=x86-64", _GENERIC, "-msse4.1")
    ),
    InstructionSet("base", ARM64, "portable.h", 4, 32, Dot.NONE),
    InstructionSet("base", OTHER, "portable.h", 4, 16, Dot.NONE),
)  # fmt: skip
"""All rows; the better ones of an architecture stand first."""


def architecture() -> str:
    """That of this machine."""
    return _MACHINES.get(platform.machine().lower(), OTHER)


def instruction_sets(of: str | None = None) -> dict[str, InstructionSet]:
    """The rows of an architecture, by default this machine's, by name; the best first."""
    of = of or architecture()
    return {row.name: row for row in INSTRUCTION_SETS if row.architecture == of}
