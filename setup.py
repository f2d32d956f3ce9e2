"""Extension modules of megengine_lite: every kernel source is compiled once per instruction set.

``python setup.py build_ext --inplace`` builds beside the sources, with all cores. Three environment
variables change what is built:

``MEGENGINE_LITE_BUILD_ONLY``      comma-separated module names (``conv_direct,program``); others are skipped
``MEGENGINE_LITE_BUILD_ISA``       comma-separated instruction sets (``avx512``); others are skipped
``MEGENGINE_LITE_BUILD_SANITIZE``  ``address``: AddressSanitizer, UndefinedBehaviorSanitizer and checked indices of
                                   memoryviews; ``thread``: ThreadSanitizer. tools/sanitize.py builds so, in a copy of
                                   the sources, and runs the tests
"""

import os
import runpy
import shlex
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "tools"))
from kernel_tables import write_tables

PACKAGE = Path("megengine_lite")
KERNEL_TABLES = Path("build/kernel-tables")  # what tools/kernel_tables.py makes
SHARED_UTILITY = "megengine_lite.kernels._cyutility"  # Cython's memoryview code, compiled once for all modules

COMMON_FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
    "-g0",
    "-Wno-unused-function",
]
# Register blocks are arrays of vectors with constant bounds: the compiler must peel their loops completely.
KERNEL_FLAGS = {
    "gcc": [
        "--param=max-completely-peel-times=64",
        "--param=max-completely-peeled-insns=4000",
        "-fno-tree-slp-vectorize",
    ],
    "clang": ["-fno-slp-vectorize"],
}
# The table of instruction sets; the package itself cannot be imported before it is built.
ISA_TABLE = runpy.run_path(str(PACKAGE / "_core" / "cpu" / "isa.py"))

# A few sources need flags of their own.
EXTRA_FLAGS: dict[str, list[str]] = {}
CXX_SOURCES = {"c_library"}  # calls into libraries that may throw C++ exceptions


def compiler() -> str:
    """``"clang"`` or ``"gcc"``: whose flags the C compiler takes."""
    command = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True).stdout
    except OSError:
        return "gcc"  # the build itself says that there is no compiler
    return "clang" if "clang" in said else "gcc"


COMPILER = compiler()

# Builds for tests, by the value of MEGENGINE_LITE_BUILD_SANITIZE: what -fsanitize of gcc and clang takes.
SANITIZERS = {"address": "address,undefined,float-cast-overflow", "thread": "thread"}

LINK_FLAGS = ["-Wl,-s", "-pthread"]
SANITIZER_FLAGS: list[str] = []
CHECK_INDICES = False
if sanitizer := os.environ.get("MEGENGINE_LITE_BUILD_SANITIZE"):
    if sanitizer not in SANITIZERS:
        sys.exit(f"MEGENGINE_LITE_BUILD_SANITIZE is {sanitizer!r}; it must be one of {', '.join(SANITIZERS)}")
    CHECK_INDICES = sanitizer == "address"
    LINK_FLAGS = ["-pthread", f"-fsanitize={SANITIZERS[sanitizer]}"]
    if COMPILER == "clang":
        LINK_FLAGS.append("-shared-libsan")  # Python loads the library first; clang would link a second one
    # Python itself is compiled with -fwrapv, and hands that on; with it sanitizers do not see overflow.
    SANITIZER_FLAGS = ["-O1", "-g1", "-fno-wrapv", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZERS[sanitizer]}"]


def instruction_sets() -> dict[str, list[str]]:
    """Name -> compiler flags of each kernel build on this machine's architecture."""
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ISA")
    return {
        name: [*KERNEL_FLAGS[COMPILER], *row.flags(COMPILER)]
        for name, row in ISA_TABLE["instruction_sets"]().items()
        if wanted is None or name in wanted.split(",")
    }


def selected(sources: list[Path]) -> list[Path]:
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ONLY")
    return [s for s in sorted(sources) if wanted is None or s.stem in wanted.split(",")]


def extension(name: str, source: Path, flags: list[str], depends: Sequence[Path] = ()) -> Extension:
    standard = "-std=gnu++17" if source.stem in CXX_SOURCES else "-std=gnu11"
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(PACKAGE / "kernels" / "common"), str(PACKAGE / "_core" / "system")],
        extra_compile_args=[standard, *COMMON_FLAGS, *flags, *EXTRA_FLAGS.get(source.stem, []), *SANITIZER_FLAGS],
        extra_link_args=LINK_FLAGS,
        depends=[str(p) for p in depends],
    )


def translate(extensions: list[Extension], build_dir: str) -> list[Extension]:
    flags = {e.name: [*e.extra_compile_args] for e in extensions}
    translated = cythonize(
        extensions,
        build_dir=build_dir,
        include_path=[".", str(KERNEL_TABLES)],
        quiet=True,
        shared_utility_qualified_name=SHARED_UTILITY,
        compiler_directives={
            "language_level": "3",
            "boundscheck": CHECK_INDICES,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": CHECK_INDICES,
            "binding": False,
        },
    )
    for e in translated:  # cythonize adds flags of earlier builds of the same source
        e.extra_compile_args = flags[e.name]
    return translated


def shared_utility() -> Extension:
    source = Path("build/cython/_cyutility.c")
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "cython", f"--generate-shared={source}"], check=True)
    return Extension(SHARED_UTILITY, [str(source)], extra_compile_args=["-O2", "-g0"], extra_link_args=["-Wl,-s"])


def extension_modules() -> list[Extension]:
    modules = [shared_utility()]
    core_flags = [*ISA_TABLE["CORE_FLAGS"].get(ISA_TABLE["architecture"](), ())]
    core = [
        extension(".".join(s.with_suffix("").parts), s, core_flags)
        for s in selected(list((PACKAGE / "_core").rglob("*.pyx")))
    ]
    if core:
        modules += translate(core, "build/cython")
    headers = sorted((PACKAGE / "kernels" / "common").rglob("*.h"))
    kernels = selected(list((PACKAGE / "kernels").rglob("*.pyx")))
    write_tables(kernels, KERNEL_TABLES)
    for isa, flags in instruction_sets().items():
        (PACKAGE / "kernels" / f"_{isa}").mkdir(exist_ok=True)  # for builds in place
        exts = [extension(f"megengine_lite.kernels._{isa}.{s.stem}", s, flags, headers) for s in kernels]
        if exts:
            modules += translate(exts, f"build/cython-{isa}")
    return modules


class ParallelBuild(build_ext):
    """``build_ext`` that uses every core by default."""

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


setup(ext_modules=extension_modules(), cmdclass={"build_ext": ParallelBuild})
