"""Extension modules of megengine_lite: every kernel source is compiled once per instruction set.

Modules are gathered in few shared objects: one for each instruction set, ``_native`` for all that is compiled once, and
one for the single module in C++. ``python setup.py build_ext --inplace`` builds beside the sources, with all cores.
Three environment variables change what is built:

``MEGENGINE_LITE_BUILD_ONLY``      comma-separated module names (``conv_direct,program``); others stay as they are
``MEGENGINE_LITE_BUILD_ISA``       comma-separated instruction sets (``avx512``); others are skipped, but for those that
                                   these take kernels from. ``native``: the best of this machine, and the one that every
                                   processor runs
``MEGENGINE_LITE_BUILD_SANITIZE``  ``address``: AddressSanitizer, UndefinedBehaviorSanitizer and checked indices of
                                   memoryviews; ``thread``: ThreadSanitizer. tools/sanitize.py builds so, in a copy of
                                   the sources, and runs the tests
"""

import gc
import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
from email import message_from_string
from logging import INFO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "tools"))
from build_packages import require_package

require_package("setuptools")  # before it is imported: an old one would not get far

from kernel_tables import ENUMERATIONS, SHARED, write_tables
from setuptools import Extension, setup
from setuptools.command.sdist import sdist
from shared_objects import (
    BuildSharedObjects,
    Part,
    SharedObject,
    compiler_kind,
    compiler_target,
    fingerprint,
    is_older,
    processor_macros,
)

# Cython makes trees of many objects, and looking through them for garbage takes a fifth of its time. Here, not where it
# is called, because processes that translate may import this file.
gc.set_threshold(200_000)

PACKAGE = Path("megengine_lite")
KERNEL_TABLES = Path("build/kernel-tables")  # what tools/kernel_tables.py makes
SHARED_UTILITY = "megengine_lite._cyutility"  # Cython's memoryview code, compiled once for all modules

COMMON_FLAGS = [
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fvisibility=hidden",
    "-fno-semantic-interposition",
    "-g0",
    "-Wno-unused-function",
]
KERNEL_FLAGS = {"gcc": ["-fno-tree-slp-vectorize"], "clang": ["-fno-slp-vectorize"]}
# Register blocks are arrays of vectors with constant bounds: the compiler must peel their loops completely.
BLOCK_FLAGS = {
    "gcc": ["--param=max-completely-peel-times=64", "--param=max-completely-peeled-insns=4000"],
    "clang": ["-mllvm", "-unroll-threshold=4000"],
}
# Kernels of many loops without such blocks. Unrolling what is left over behind vectors takes most of the time to
# compile them, and does not make them faster.
_LOOPS = {"gcc": ["-O2", "-ftree-vectorize", "-fvect-cost-model=dynamic"], "clang": ["-O2"]}
_SHORT_LOOPS = {"gcc": ["--param=max-completely-peel-times=8"], "clang": []}
LOOP_FLAGS = {
    "colour": _LOOPS,
    "compare": _LOOPS,
    "elemwise_int": _LOOPS,
    "elemwise_int64": _LOOPS,
    "pack_winograd": _LOOPS,
    "reduce_int": _SHORT_LOOPS,
    "typecvt": _SHORT_LOOPS,
}
# Kernels that agree with numpy to the last bit, in results or in places: no product and sum become one operation.
EXACT = {"colour", "deform_pool", "resize_int", "suppression"}
# The table of instruction sets; the package itself cannot be imported before it is built.
ISA_FILE = PACKAGE / "_core" / "cpu" / "isa.py"
ISA_TABLE = runpy.run_path(str(ISA_FILE))

# Modules that only pass Python objects on: their time is mostly Python's own, and more effort takes seconds to compile.
GLUE = {"_cyutility", "c_library", "dlpack", "file_bytes", "flatbuffer", "jobs", "memory", "processor", "strided"}
CXX_SOURCES = {"c_library"}  # calls into libraries that may throw C++ exceptions
# Wheels fit manylinux2014 with symbols only that the libstdc++ of gcc 4.8 has, too: by C++20, which gcc 8 calls so, the
# code of strings is compiled here.
CXX_FLAGS = ["-std=gnu++2a", "-fno-sized-deallocation"]
INCLUDE_DIRS = [str(PACKAGE / "kernels" / "common"), str(PACKAGE / "_core" / "system")]

# Builds for tests, by the value of MEGENGINE_LITE_BUILD_SANITIZE: what -fsanitize of gcc and clang takes.
SANITIZERS = {"address": "address,undefined,float-cast-overflow", "thread": "thread"}

if sys.platform == "darwin":  # Python may be for two processors at once; instruction sets are for one
    os.environ.setdefault("ARCHFLAGS", f"-arch {os.uname().machine}")
WIN64 = "x86_64-w64-mingw32"
COMPILER = compiler_kind()
LINK_FLAGS = [] if sys.platform == "darwin" else ["-Wl,-s", "-pthread"]
# Stacks of Windows are aligned to 16 bytes. gcc puts wider vectors there by instructions that need more, and programs
# crash on every other stack (bug 54412 of gcc); its assembler can take those that do not.
STACK_FLAGS = ["-Wa,-muse-unaligned-vector-move"] if (COMPILER, compiler_target()) == ("gcc", WIN64) else []
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


CORE = sorted((PACKAGE / "_core").rglob("*.pyx"))
KERNELS = sorted((PACKAGE / "kernels").rglob("*.pyx"))

# What the C sources are made of. A source distribution has them and tells, by a digest of all of this, whether they are
# still right.
MADE_FROM = [
    *CORE,
    *KERNELS,
    *sorted(PACKAGE.rglob("*.pxd")),
    *sorted({SHARED, *(e.module for e in ENUMERATIONS.values())}),
    Path("tools/kernel_tables.py"),
    Path("setup.py"),
]
SHIPPED = Path("translated")  # in a source distribution
DIGEST = "made_from.sha256"


def has_shipped_sources() -> bool:
    """Whether this is a source distribution whose sources nobody has changed."""
    digest = SHIPPED / DIGEST
    return not CHECK_INDICES and digest.exists() and digest.read_text() == fingerprint(MADE_FROM)


TRANSLATED = SHIPPED if has_shipped_sources() else Path("build/translated")  # the C sources


def instruction_sets() -> dict[str, Any]:
    """Name -> row of the table for all sets to compile: those that are asked for, and what these take modules from."""
    rows = ISA_TABLE["instruction_sets"]()
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ISA", "")
    names = [*filter(None, map(str.strip, wanted.split(",")))] or [*rows]
    if names == ["native"]:
        names = ISA_TABLE["native_sets"](processor_macros())
    if unknown := [name for name in names if name not in rows]:
        sys.exit(f"MEGENGINE_LITE_BUILD_ISA names {', '.join(unknown)}; there are {', '.join(rows)} and native")
    needed = {home for name in names for home in rows[name].homes}
    return {name: row for name, row in rows.items() if name in needed}


def kernel_flags(name: str) -> list[str]:
    """Compiler flags of a kernel module on every instruction set."""
    exact = ["-ffp-contract=off"] if name in EXACT else []
    return [*LOOP_FLAGS.get(name, BLOCK_FLAGS)[COMPILER], *KERNEL_FLAGS[COMPILER], *STACK_FLAGS, *exact]


def is_selected(name: str) -> bool:
    wanted = os.environ.get("MEGENGINE_LITE_BUILD_ONLY")
    return wanted is None or name in wanted.split(",")


def module_of(source: Path) -> str:
    return ".".join(source.with_suffix("").parts)


def c_source(source: Path) -> Path:
    return TRANSLATED / source.with_suffix(".cpp" if source.stem in CXX_SOURCES else ".c")


def part(source: Path, name: str, flags: list[str]) -> Part:
    language = CXX_FLAGS if source.stem in CXX_SOURCES else ["-std=gnu11"]
    effort = ["-O1"] if source.stem in GLUE else []
    return Part(
        name, c_source(source), [*language, *COMMON_FLAGS, *effort, *flags, *SANITIZER_FLAGS], is_selected(source.stem)
    )


def shared_objects() -> list[SharedObject]:
    def shared_object(name: str, parts: list[Part], sources: list[Path], **settings: Any) -> SharedObject:
        folder = PACKAGE / "kernels" / "common" if sources is KERNELS else PACKAGE / "_core"
        depends = [*folder.rglob("*.h"), ISA_FILE, Path(__file__)]
        return SharedObject(
            name, parts, sources=sources, depends=depends, include_dirs=INCLUDE_DIRS, link_flags=LINK_FLAGS, **settings
        )

    core_flags = [*ISA_TABLE["CORE_FLAGS"].get(ISA_TABLE["architecture"](), ())]
    c_core = [s for s in CORE if s.stem not in CXX_SOURCES]
    native = [part(s, module_of(s).removeprefix("megengine_lite."), core_flags) for s in c_core]
    native.append(part(Path("_cyutility.pyx"), "_cyutility", core_flags))
    objects = [shared_object("megengine_lite._native", native, c_core)]
    for source in CORE:
        if source.stem in CXX_SOURCES:  # by itself, so that nothing else needs a library of C++
            alone = [part(source, module_of(source), core_flags)]
            objects.append(shared_object(module_of(source), alone, [source], index=False, language="c++"))
    for isa, row in instruction_sets().items():
        own = [s for s in KERNELS if row.home_of(s.stem) == isa]
        parts = [part(s, s.stem, [*kernel_flags(s.stem), *row.flags(COMPILER)]) for s in own]
        objects.append(shared_object(f"megengine_lite.kernels._{isa}", parts, KERNELS))
    return objects


class Build(BuildSharedObjects):
    def run(self) -> None:
        if sys.byteorder != "little":  # importing it would be refused, after minutes of compiling
            sys.exit(f"megengine_lite: runs on little-endian processors only; this Python is {sys.byteorder}-endian")
        super().run()

    def translate(self) -> None:
        if TRANSLATED != SHIPPED:
            self.translate_some([s for s in (*CORE, *KERNELS) if is_selected(s.stem)], is_selected("_cyutility"))

    def translate_some(self, sources: list[Path], utility: bool, force: bool = False) -> None:
        """Kernels are translated once; each instruction set compiles the same C sources."""
        require_package("cython")
        from Cython.Build import cythonize

        TRANSLATED.mkdir(parents=True, exist_ok=True)
        shared = TRANSLATED / "_cyutility.c"
        if utility and (force or is_older(shared, [])):
            subprocess.run([sys.executable, "-m", "cython", f"--generate-shared={shared}"], check=True)
        write_tables(KERNELS, KERNEL_TABLES)
        self.announce(f"translating {len(sources)} Cython sources", level=INFO)
        cythonize(
            [Extension(module_of(s), [str(s)]) for s in sources],
            build_dir=str(TRANSLATED),
            include_path=[".", str(KERNEL_TABLES)],
            nthreads=self.parallel if len(sources) > 1 and sys.platform == "linux" else 0,
            quiet=True,
            force=force,
            shared_utility_qualified_name=SHARED_UTILITY,
            compiler_directives={
                "language_level": "3",
                "boundscheck": CHECK_INDICES,
                "wraparound": False,
                "cdivision": True,
                "initializedcheck": CHECK_INDICES,
                "binding": False,
                "freethreading_compatible": True,
                "emit_code_comments": False,  # they would be a third of the C code
            },
        )

    def copy_extensions_to_source(self) -> None:
        """Compiled modules that other versions of the sources had would hide those of now."""
        super().copy_extensions_to_source()
        kernels = {f"_{isa}" for isa in ISA_TABLE["instruction_sets"]()}
        made = {"_native", *CXX_SOURCES, *kernels}
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for old in PACKAGE.rglob(f"*{suffix}"):
            if old.name.removesuffix(suffix) not in made:
                old.unlink()


def project_urls() -> dict[str, str]:
    """Addresses of the repository whose workflow builds; in a source distribution those that it was made with."""
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        source = f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{repository}"
        owner, _, name = repository.partition("/")
        return {
            "Homepage": source,
            "Documentation": f"https://{owner.lower()}.github.io/{name}/",
            "Issues": f"{source}/issues",
            "Changelog": f"{source}/blob/HEAD/CHANGELOG.md",
        }
    if not (described := Path("PKG-INFO")).exists():
        return {}
    urls = message_from_string(described.read_text(encoding="utf-8")).get_all("Project-URL", [])
    return dict(url.split(", ", 1) for url in urls)


class SourceDistribution(sdist):
    """With the C sources, so that a build of it needs neither Cython nor its time."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        super().make_release_tree(base_dir, files)
        sources = [Path("_cyutility.pyx"), *CORE, *KERNELS]
        if TRANSLATED != SHIPPED:  # all again, if any may be out of date: Cython does not see all that they are made of
            force = any(is_older(c_source(s), MADE_FROM) for s in sources)
            self.get_finalized_command("build_ext").translate_some([*CORE, *KERNELS], utility=True, force=force)
        target = Path(base_dir, SHIPPED)
        for source in map(c_source, sources):
            copy = target / source.relative_to(TRANSLATED)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
        (target / DIGEST).write_text(fingerprint(MADE_FROM))


if __name__ == "__main__":  # processes that translate may import this file
    commands = {"build_ext": Build, "sdist": SourceDistribution}
    setup(ext_modules=shared_objects(), cmdclass=commands, project_urls=project_urls())
