"""What the processor and the operating system offer: CPUID, the register state that the system saves, denormals."""


cdef extern from "platform.h" nogil:
    int ml_cpuid(unsigned leaf, unsigned sub, unsigned* abcd)
    unsigned long long ml_xgetbv()
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


def features():
    """Names of the instruction sets that both the processor and the operating system support, as a frozenset.

    The system must save the wider registers on a context switch: XCR0 bits 1-2 for AVX, 5-7 also for AVX-512.
    """
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


def brand():
    """The processor's name, or an empty string."""
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
