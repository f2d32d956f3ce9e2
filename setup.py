"""Extension modules of megengine_lite: every kernel source is compiled once per instruction set.

``python setup.py build_ext --inplace`` builds beside the sources, with all cores. Three environment
variables change what is built:

``MEGENGINE_LITE_BUILD_ONLY``      comma-separated module names (``conv_direct,program``); others are skipped
``MEGENGINE_LITE_BUILD_ISA``       comma-separated instruction sets (``avx512``); others are skipped
``MEGENGINE_LITE_BUILD_SANITIZE``  what ``-fsanitize`` of gcc takes (``thread``, say); tools/sanitize.py builds
                                   so, in a copy of the sources, and runs the tests
"""

import os
import platform
import subprocess
import sys
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = Path("megengine_lite")
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
KERNEL_FLAGS = [
    "--param=max-completely-peel-times=64",
    "--param=max-completely-peeled-insns=4000",
    "-fno-tree-slp-vectorize",
]
X86_SETS = {
    "base": ["-march=x86-64", "-mtune=generic", "-msse4.1"],
    "avx2": ["-march=haswell", "-mtune=generic"],
    "avx512": ["-march=icelake-server", "-mtune=generic", "-mprefer-vector-width=512"],
}
PORTABLE_SETS = {"base": []}

LINK_FLAGS = ["-Wl,-s", "-pthread"]
SANITIZER_FLAGS: list[str] = []
if sanitizers := os.environ.get("MEGENGINE_LITE_BUILD_SANITIZE"):
    LINK_FLAGS = ["-pthread", f"-fsanitize={sanitizers}"]
    # Python itself is compiled with -fwrapv, and hands that on; with it sanitizers do not see overflow.
    SANITIZER_FLAGS = ["-O1", "-g1", "-fno-wrapv", "-fno-omit-frame-pointer", f"-fsanitize={sanitizers}"]

# A few sources need flags of their own.
EXTRA_FLAGS: dict[str, list[str]] = {}
CXX_SOURCES = {"c_library"}  # calls into libraries that may throw C++ exceptions


def instruction_sets() -> dict[str, list[str]]:
    """Name -> compiler flags of each kernel build on this machine's architecture."""
    sets = X86_SETS if platform.machine().lower() in ("x86_64", "amd64") else PORTABLE_SETS
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ISA")
    return {k: v for k, v in sets.items() if wanted is None or k in wanted.split(",")}


def selected(sources: list[Path]) -> list[Path]:
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ONLY")
    return [s for s in sorted(sources) if wanted is None or s.stem in wanted.split(",")]


def extension(name: str, source: Path, flags: list[str]) -> Extension:
    standard = "-std=gnu++17" if source.stem in CXX_SOURCES else "-std=gnu11"
    return Extension(
        name,
        [str(source)],
        include_dirs=[str(PACKAGE / "kernels" / "common"), str(PACKAGE / "_core" / "system")],
        extra_compile_args=[standard, *COMMON_FLAGS, *flags, *EXTRA_FLAGS.get(source.stem, []), *SANITIZER_FLAGS],
        extra_link_args=LINK_FLAGS,
    )


def translate(extensions: list[Extension], build_dir: str) -> list[Extension]:
    return cythonize(
        extensions,
        build_dir=build_dir,
        quiet=True,
        shared_utility_qualified_name=SHARED_UTILITY,
        compiler_directives={
            "language_level": "3",
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "binding": False,
        },
    )


def shared_utility() -> Extension:
    source = Path("build/cython/_cyutility.c")
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "cython", f"--generate-shared={source}"], check=True)
    return Extension(SHARED_UTILITY, [str(source)], extra_compile_args=["-O2", "-g0"], extra_link_args=["-Wl,-s"])


def extension_modules() -> list[Extension]:
    modules = [shared_utility()]
    core = [
        extension(".".join(s.with_suffix("").parts), s, ["-march=x86-64"] if "base" in X86_SETS else [])
        for s in selected(list((PACKAGE / "_core").rglob("*.pyx")))
    ]
    if core:
        modules += translate(core, "build/cython")
    kernels = selected(list((PACKAGE / "kernels").rglob("*.pyx")))
    for isa, flags in instruction_sets().items():
        exts = [extension(f"megengine_lite.kernels._{isa}.{s.stem}", s, KERNEL_FLAGS + flags) for s in kernels]
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
