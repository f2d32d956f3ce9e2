"""The instruction sets that kernels are compiled for: one row for each.

``setup.py`` runs this file by its path to learn what to compile, so it imports nothing of the package. The engine
(:mod:`~megengine_lite._core.cpu.kernel_set`) chooses among the same rows at run time. How to add one is described in
``docs/adding-an-instruction-set.md``.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from enum import Enum
from typing import NamedTuple

X86_64 = "x86-64"
ARM64 = "arm64"
ARM32 = "arm32"
OTHER = "other"

_MACHINES = {
    "x86_64": X86_64,
    "amd64": X86_64,
    "aarch64": ARM64,
    "arm64": ARM64,
    "arm64_v8a": ARM64,
    "armv7l": ARM32,
    "armv8l": ARM32,
}
_OF_32_BITS = {X86_64: OTHER, ARM64: ARM32}
"""What a processor is to programs of 32 bits."""

CORE_FLAGS: dict[str, tuple[str, ...]] = {X86_64: ("-march=x86-64",)}
"""Compiler flags, by architecture, of compiled modules that are not kernels: they run on every processor of it."""


DOT_MODULES = frozenset(
    ("conv_depthwise_int8", "conv_direct_int8", "conv_winograd_int8", "gemm_int8", "gemm_wide_int8")
)
"""The kernel modules with dot products of bytes: what :class:`DotKind` says is compiled into these, and no others."""


class DotKind(Enum):
    """What a set offers for dot products of 8-bit integers, summed up in int32.

    It decides in which form inputs reach the kernels and how weights are packed.
    """

    U8S8_QUADS = "u8s8_quads"
    """Four products of unsigned by signed bytes for each sum (VNNI)."""
    S8S8_QUADS = "s8s8_quads"
    """Four products of signed bytes for each sum (SDOT)."""
    S8S8_STEPS = "s8s8_steps"
    """The same in several instructions, which need registers (SMULL, and additions of neighbours)."""
    MIXED_QUADS = "mixed_quads"
    """Four products of bytes of either kind by signed bytes for each sum (SDOT and USDOT), and eight for each of four
    sums (SMMLA and USMMLA)."""
    SHORT_PAIRS = "short_pairs"
    """Two products of bytes, the first of which is not negative, for each sum of 16 bits (PMADDUBSW). What does not fit
    there is computed as with ``PAIRS_16``."""
    PAIRS_16 = "pairs_16"
    """Two products of 16-bit numbers for each sum: bytes are widened before. Every set can do this."""

    @property
    def widens(self) -> bool:
        """Whether bytes become 16-bit numbers before they are multiplied, except for short sums."""
        return self in (DotKind.SHORT_PAIRS, DotKind.PAIRS_16)

    @property
    def is_one_instruction(self) -> bool:
        """Whether the processor does it by an instruction of its own."""
        return self in (DotKind.U8S8_QUADS, DotKind.S8S8_QUADS, DotKind.MIXED_QUADS)

    @property
    def takes_signed(self) -> bool:
        """Whether all signed bytes can be multiplied as they are, four at a time."""
        return self in (DotKind.S8S8_QUADS, DotKind.S8S8_STEPS, DotKind.MIXED_QUADS)

    @property
    def takes_unsigned(self) -> bool:
        """Whether all unsigned bytes can be."""
        return self in (DotKind.U8S8_QUADS, DotKind.MIXED_QUADS)


class CostFactors(NamedTuple):
    """What moving a number costs, for estimates: in the multiply-adds that a core does in the same time.

    Attributes
    ----------
    weight : float
        Reading a number of packed weights from memory.
    relayout : float
        Bringing a number into another layout: from plain memory to blocks of channels, or back.
    """

    weight: float
    relayout: float


COSTS_OF_A_LANE = CostFactors(weight=1.2, relayout=2)
"""Costs for each lane of the vectors: more lanes do more multiply-adds, while memory stays as it is."""


class InstructionSet(NamedTuple):
    """One row of the table.

    Attributes
    ----------
    name : str
        What users say (``MEGENGINE_LITE_ISA``), and with ``_`` in front the package of its kernels.
    architecture : str
        ``X86_64``, ``ARM64``, ``ARM32`` or ``OTHER``. A name stands once for each architecture.
    header : str
        The file of its vector operations in ``kernels/common/simd/``.
    width : int
        float32 lanes of a vector, which is also the channel block of blocked layouts.
    registers : int
        Vector registers; they bound the blocks of products.
    dot : DotKind
        The dot product of 8-bit integers.
    for_all : bool
        Every processor of the architecture runs it: the set that ``base`` means. One for each architecture. Rows below
        it are used only where they are asked for, or where nothing else is built.
    by_lane : bool
        Whether multiplying instructions take one lane of a vector as a factor of all lanes of another.
    features : tuple of str
        What processor and system must offer, by the names of ``system/processor.pyx``.
    bfloat16 : tuple of str
        What a processor must offer besides for products of bfloat16; empty if the set has no kernels for them.
    gcc : tuple of str
        Compiler flags for gcc.
    clang : tuple of str or None
        Compiler flags for clang; None where they are those of gcc.
    others_from : str
        The set that it differs from in dot products of bytes alone. Only ``DOT_MODULES`` are compiled for it; it takes
        all others from there. Empty if it has all modules itself.
    """

    name: str
    architecture: str
    header: str
    width: int
    registers: int
    dot: DotKind
    for_all: bool = False
    by_lane: bool = False
    features: tuple[str, ...] = ()
    bfloat16: tuple[str, ...] = ()
    gcc: tuple[str, ...] = ()
    clang: tuple[str, ...] | None = None
    others_from: str = ""

    @property
    def costs(self) -> CostFactors:
        """By which the algorithms of convolutions are compared."""
        return CostFactors(*(cost * self.width for cost in COSTS_OF_A_LANE))

    @property
    def widens_float16(self) -> bool:
        """Whether an instruction makes float32 numbers of float16 ones."""
        return self.architecture == ARM64 or "f16c" in self.features

    @property
    def near_bytes(self) -> int:
        """What a core may read over and over without waiting for memory: processors for x86-64 have a third-level cache
        for it, small ones for ARM64 only a second-level one."""
        return 2 << 20 if self.architecture == X86_64 else 256 << 10

    def home_of(self, module: str) -> str:
        """The name of the set that a kernel module is compiled for, if this set uses it."""
        return self.others_from if self.others_from and module not in DOT_MODULES else self.name

    @property
    def homes(self) -> tuple[str, ...]:
        """The names of the sets that its kernel modules are compiled for."""
        return (self.name, self.others_from) if self.others_from else (self.name,)

    def flags(self, compiler: str) -> tuple[str, ...]:
        """Compiler flags for ``"gcc"`` or ``"clang"``, with the definitions that ``simd.h`` asks for."""
        own = self.clang if compiler == "clang" and self.clang is not None else self.gcc
        return (
            *(f"-DML_SIMD_HEADER=simd/{self.header}", f"-DVW={self.width}", f"-DVREGS={self.registers}"),
            f"-DDOT_UNSIGNED={int(self.dot is DotKind.U8S8_QUADS)}",
            f"-DDOT_SIGNED={int(self.dot.takes_signed)}",
            f"-DDOT_SHORT={int(self.dot is DotKind.SHORT_PAIRS)}",
            f"-DDOT_STEPS={int(self.dot is DotKind.S8S8_STEPS)}",
            f"-DDOT_MATRIX={int(self.dot is DotKind.MIXED_QUADS)}",
            f"-DDOT_BFLOAT16={int(bool(self.bfloat16))}",
            f"-DBY_LANE={int(self.by_lane)}",
            *own,
        )


_AVX2 = ("avx2", "fma", "f16c", "bmi2")
_AVX512 = (*_AVX2, "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vbmi", "avx512vnni")
_GENERIC = "-mtune=generic"
_DOTPROD = ("asimd", "asimdhp", "asimddp")  # names of Linux: vectors, float16 arithmetic, SDOT
_I8MM = (*_DOTPROD, "i8mm", "bf16")

# gcc leaves out the vectors of ARM of 32 bits, which take denormal numbers as zeros, unless it may change results. What
# it would change is forbidden again, flag by flag; kernels take denormal numbers as zeros everywhere.
_VECTORS_OF_ARM32 = ("-funsafe-math-optimizations", "-fno-associative-math", "-fno-reciprocal-math", "-fsigned-zeros")

INSTRUCTION_SETS = (
    InstructionSet(
        "avx512", X86_64, "avx512.h", 16, 32, DotKind.U8S8_QUADS, features=_AVX512, bfloat16=("avx512bf16",),
        gcc=("-march=icelake-server", _GENERIC, "-mprefer-vector-width=512"),
    ),
    InstructionSet(
        "avx2_vnni", X86_64, "avx2_vnni.h", 8, 16, DotKind.U8S8_QUADS, features=(*_AVX2, "avxvnni"),
        gcc=("-march=haswell", "-mavxvnni", _GENERIC), others_from="avx2",
    ),
    InstructionSet(
        "avx2", X86_64, "avx2.h", 8, 16, DotKind.SHORT_PAIRS, features=_AVX2,
        gcc=("-march=haswell", _GENERIC),
    ),
    InstructionSet(
        "base", X86_64, "sse.h", 4, 16, DotKind.SHORT_PAIRS, for_all=True, features=("sse4.1",),
        gcc=("-march=x86-64", _GENERIC, "-msse4.1"),
    ),
    InstructionSet(
        "i8mm", ARM64, "neon.h", 4, 32, DotKind.MIXED_QUADS, by_lane=True, features=_I8MM,
        gcc=("-march=armv8.2-a+fp16+dotprod+i8mm+bf16",),
    ),
    InstructionSet(
        "dotprod", ARM64, "neon.h", 4, 32, DotKind.S8S8_QUADS, by_lane=True, features=_DOTPROD,
        gcc=("-march=armv8.2-a+fp16+dotprod",),
    ),
    InstructionSet(
        "neon", ARM64, "neon.h", 4, 32, DotKind.S8S8_STEPS, for_all=True, by_lane=True, features=("asimd",),
        gcc=("-march=armv8-a",),
    ),
    InstructionSet(
        "neon", ARM32, "portable.h", 4, 16, DotKind.PAIRS_16, features=("neon", "vfpv4"),
        gcc=("-march=armv7-a+neon-vfpv4", *_VECTORS_OF_ARM32), clang=("-march=armv7-a", "-mfpu=neon-vfpv4"),
    ),
    InstructionSet("base", ARM32, "portable.h", 4, 16, DotKind.PAIRS_16, for_all=True),
    InstructionSet("base", OTHER, "portable.h", 4, 16, DotKind.PAIRS_16, for_all=True),
)  # fmt: skip
"""All rows; the better ones of an architecture stand first."""

LOWEST = "base"
"""What users may call the set that all processors of an architecture run."""


def architecture() -> str:
    """That of this machine, or of the one that a cross build is for.

    Cross builds name it by the variable that Python's own build and cibuildwheel use: for example ``linux-aarch64``.
    """
    target = os.environ.get("_PYTHON_HOST_PLATFORM", "")
    # Windows has no uname. The module platform would ask the same, but takes milliseconds to import.
    here = os.uname().machine if hasattr(os, "uname") else os.environ.get("PROCESSOR_ARCHITECTURE", "")
    if target:
        return _MACHINES.get(target.rpartition("-")[2].lower(), OTHER)
    found = _MACHINES.get(here.lower(), OTHER)
    return found if sys.maxsize > 1 << 32 else _OF_32_BITS.get(found, found)


def instruction_sets(of: str | None = None) -> dict[str, InstructionSet]:
    """The rows of an architecture, by default this machine's, by name; the best first."""
    of = of or architecture()
    return {row.name: row for row in INSTRUCTION_SETS if row.architecture == of}


def usual_sets(of: str | None = None) -> list[str]:
    """The names of the rows that are used without being asked for: down to the one that all processors run."""
    sets = instruction_sets(of)
    end = next(k for k, row in enumerate(sets.values()) if row.for_all)
    return [*sets][: end + 1]


_MACROS = {
    "sse4.1": "__SSE4_1__",
    "asimd": "__ARM_NEON",
    "asimdhp": "__ARM_FEATURE_FP16_VECTOR_ARITHMETIC",
    "asimddp": "__ARM_FEATURE_DOTPROD",
    "i8mm": "__ARM_FEATURE_MATMUL_INT8",
    "bf16": "__ARM_FEATURE_BF16",
    "neon": "__ARM_NEON",
    "vfpv4": "__ARM_FEATURE_FMA",
}
"""The macros of gcc and clang for features that are not simply called ``__FEATURE__``."""


def native_sets(macros: Collection[str]) -> list[str]:
    """The best set for the processor that a compiler defines such macros for, and the set that all processors run."""
    sets, usual = instruction_sets(), usual_sets()

    def fits(name: str) -> bool:
        return all(_MACROS.get(feature, f"__{feature.upper()}__") in macros for feature in sets[name].features)

    best = next(filter(fits, usual), usual[-1])
    return [*dict.fromkeys((best, usual[-1]))]


def full_name(name: str) -> str:
    """The name of a row of this machine's architecture; ``"base"`` also names the one that all processors run."""
    return usual_sets()[-1] if name == LOWEST else name
