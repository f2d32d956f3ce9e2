"""What the processor and the operating system offer: CPUID and the register state that the system saves on x86-64,
what the system says about ARM; denormals."""

import sys
from functools import cache


cdef extern from "platform.h" nogil:
    int ml_cpuid(unsigned leaf, unsigned sub, unsigned* abcd)
    unsigned long long ml_xgetbv()
    int ml_is_arm64()
    int ml_is_arm32()
    unsigned long ml_hwcap(int which)
    unsigned long ml_midr()
    int ml_sysctl(const char* name, void* value, size_t* size)
    unsigned long long ml_flush_denormals()
    void ml_restore_denormals(unsigned long long old)


# feature -> (CPUID leaf, sub-leaf, register 0..3 = a..d, bit)
_X86_BITS = {
    "sse4.1": (1, 0, 2, 19),
    "avx": (1, 0, 2, 28),
    "fma": (1, 0, 2, 12),
    "f16c": (1, 0, 2, 29),
    "avx2": (7, 0, 1, 5),
    "bmi2": (7, 0, 1, 8),
    "avx512f": (7, 0, 1, 16),
    "avx512dq": (7, 0, 1, 17),
    "avx512bw": (7, 0, 1, 30),
    "avx512vl": (7, 0, 1, 31),
    "avx512vbmi": (7, 0, 2, 1),
    "avx512vnni": (7, 0, 2, 11),
    "avxvnni": (7, 1, 0, 4),
    "avx512bf16": (7, 1, 0, 5),
}


# feature, by its name in Linux -> (word of the auxiliary vector, bit), and what macOS calls it
_ARM64_BITS = {
    "asimd": (0, 1, b"hw.optional.neon"),
    "cpuid": (0, 11, b""),  # the system lets programs read MIDR_EL1
    "asimdhp": (0, 10, b"hw.optional.arm.FEAT_FP16"),
    "asimddp": (0, 20, b"hw.optional.arm.FEAT_DotProd"),
    "sve": (0, 22, b""),
    "sve2": (1, 1, b""),
    "i8mm": (1, 13, b"hw.optional.arm.FEAT_I8MM"),
    "bf16": (1, 14, b"hw.optional.arm.FEAT_BF16"),
}


# The same for ARM of 32 bits, which Linux has other bits for.
_ARM32_BITS = {
    "neon": (0, 12),
    "vfpv4": (0, 16),
}


def features():
    """Names of the instruction sets that both the processor and the operating system support, as a frozenset.

    On x86-64 the system must save the wider registers on a context switch: XCR0 bits 1-2 for AVX, 5-7 also for AVX-512.
    On ARM the system says what programs may use.
    """
    if ml_is_arm32():
        return frozenset(name for name, (word, bit) in _ARM32_BITS.items() if ml_hwcap(word) >> <unsigned>bit & 1)
    return _arm64_features() if ml_is_arm64() else _x86_features()


def _x86_features():
    cdef unsigned regs[4]
    cdef unsigned top
    cdef unsigned long long state
    if not ml_cpuid(0, 0, regs):
        return frozenset()
    top = regs[0]
    ml_cpuid(1, 0, regs)
    state = ml_xgetbv() if regs[2] >> 27 & 1 else 0
    found = set()
    for name, (leaf, sub, register, bit) in _X86_BITS.items():
        if leaf > top:
            continue
        ml_cpuid(leaf, sub, regs)
        if not regs[<int>register] >> <unsigned>bit & 1:
            continue
        if name.startswith("avx512") and (state & 0xE6) != 0xE6:
            continue
        if (name.startswith("avx") or name in ("fma", "f16c")) and (state & 6) != 6:
            continue
        found.add(name)
    return frozenset(found)


def _arm64_features():
    if sys.platform == "darwin":
        return frozenset(name for name, (_, _, key) in _ARM64_BITS.items() if key and _sysctl_number(key))
    return frozenset(name for name, (word, bit, _) in _ARM64_BITS.items() if ml_hwcap(word) >> <unsigned>bit & 1)


def _sysctl_number(bytes name):
    """The number that macOS gives for a name; 0 if it does not know the name."""
    cdef int value = 0
    cdef size_t size = sizeof(value)
    return value if ml_sysctl(name, &value, &size) else 0


def _sysctl_text(bytes name):
    cdef char text[256]
    cdef size_t size = sizeof(text)
    return (<char*>text)[:size].split(b"\0")[0].decode("utf-8", "replace") if ml_sysctl(name, text, &size) else ""


@cache
def cores():
    """The kinds of cores, the fastest first: a tuple of :class:`~megengine_lite._core.system.cores.CoreKind`."""
    from megengine_lite._core.system.cores import core_kinds

    if ml_is_arm64():
        return core_kinds(_sysctl_text(b"machdep.cpu.brand_string"), _readable_midr())
    return core_kinds(_x86_brand())


@cache
def brand():
    """The processor's name. Processors of different speed have different ones; empty if an x86-64 does not say it."""
    if not (ml_is_arm64() or ml_is_arm32()):
        return _x86_brand()
    from megengine_lite._core.system.cores import arm_name, brand_of

    if ml_is_arm32():
        return brand_of(cores())
    midr = _readable_midr()
    found = _sysctl_text(b"machdep.cpu.brand_string") or brand_of(cores()) or (arm_name(midr) if midr else "")
    return found or "ARM64 processor with " + " ".join(sorted(features()))


def _readable_midr():
    """MIDR_EL1 of the core that runs this, 0 where the system does not let us read it."""
    return ml_midr() if "cpuid" in _arm64_features() else 0


def _x86_brand():
    cdef unsigned regs[4]
    if not ml_cpuid(0x80000000, 0, regs) or regs[0] < 0x80000004:
        return ""
    text = b""
    for leaf in range(0x80000002, 0x80000005):
        ml_cpuid(leaf, 0, regs)
        text += (<char*>regs)[:16]
    return text.split(b"\0")[0].decode("ascii", "replace").strip()


def flush_denormals():
    """Makes this thread take denormal numbers as zeros, as kernels do; returns the previous mode."""
    return ml_flush_denormals()


def restore_denormals(unsigned long long mode):
    """Restores the mode that :func:`flush_denormals` returned."""
    ml_restore_denormals(mode)
