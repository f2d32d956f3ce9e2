"""Runs tests on builds that the sanitizers of gcc or clang watch; run once for each release.

    python tools/sanitize.py address     # addresses, undefined behaviour, indices of memoryviews; all instruction sets
    python tools/sanitize.py thread      # ThreadSanitizer, on what threads do with networks
    python tools/sanitize.py address --compiler clang
    python tools/sanitize.py address --isa avx2 --folder /tmp/watched tests/kernels/test_kernels_conv.py

The sources that git knows are copied to a folder and built there, so the usual build stays as it is. A folder that is
given is kept, and only what has changed is built again; each kind and compiler needs a folder of its own. The exit
status is 1 if a test failed or a sanitizer found something; what it found is printed.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Kind(NamedTuple):
    """What belongs to a kind of build: the library that must be loaded first, its options, the tests that fit."""

    library: str
    options: dict[str, str]
    tests: tuple[str, ...]


KINDS = {
    "address": Kind(
        "asan",
        {
            # Python does not free everything at its end. Too large allocations are errors that tests expect.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        (
            "tests/kernels/test_kernels_*.py",
            "tests/kernels/test_guarded_memory.py",
            "tests/cpu/test_algorithms.py",
            "tests/cpu/test_lower_quantized.py",
            "tests/cpu/test_program.py",
            "tests/compile/test_passes.py",
            "tests/runtime/test_session.py",
            "tests/runtime/test_engine_*.py",
            "tests/api/test_network*.py",
            "tests/api/test_tensor*.py",
            "tests/formats/test_loader*.py",
            "tests/formats/test_onnx_[dfim]*.py",
            "tests/formats/test_cryption.py",
            "tests/operators/test_oprs_*.py",
        ),
    ),
    "thread": Kind(
        "tsan",
        {"TSAN_OPTIONS": f"exitcode=0:die_after_fork=0:suppressions={ROOT}/tools/thread_suppressions.txt"},
        ("tests/cpu/test_program.py", "tests/api/test_network_stress.py", "tests/runtime/test_session.py"),
    ),
}
# These measure the memory of the process, or start children: sanitizers take memory, and do not live through fork.
SKIPPED = "not does_not_grow and not fork"
# clang reports a null pointer plus 0, which C++ defines and Cython's own code has.
FINDING = re.compile(
    r"runtime error: (?!applying zero offset to null pointer)"
    r"|ERROR: AddressSanitizer|WARNING: ThreadSanitizer|: Sanitizer CHECK failed"
)
# An index out of bounds, where a kernel cannot raise.
UNRAISABLE = "error::pytest.PytestUnraisableExceptionWarning"


def copy_sources(folder: Path) -> None:
    """Brings a folder up to date; files that are the same keep their times, so that they are not built again."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = {*filter(None, listed.stdout.split("\0"))}
    for old in (folder / "megengine_lite").rglob("*.p*"):  # a module that has moved would be built in both places
        if old.suffix in (".py", ".pyi", ".pyx", ".pxd") and old.relative_to(folder).as_posix() not in names:
            old.unlink()
    for name in sorted(names):
        source, target = ROOT / name, folder / name
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def build(folder: Path, kind: str, compiler: str, isa: str | None) -> None:
    environment = {**os.environ, "MEGENGINE_LITE_BUILD_SANITIZE": kind, "CC": compiler, "CXX": cxx_of(compiler)}
    if isa:
        environment["MEGENGINE_LITE_BUILD_ISA"] = isa
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=folder, env=environment, check=True
    )


def cxx_of(compiler: str) -> str:
    """The C++ compiler that belongs to a C compiler."""
    return compiler.replace("clang", "clang++").replace("gcc", "g++")


def library(name: str, compiler: str) -> str:
    """Where a compiler has the library of a sanitizer."""
    file = f"libclang_rt.{name}-{platform.machine()}.so" if "clang" in compiler else f"lib{name}.so"
    asked = [*shlex.split(compiler), f"-print-file-name={file}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(found):
        sys.exit(f"{compiler} has no {file}; install its sanitizers (libclang-rt-dev on Debian)")
    return found


def files_of(folder: Path, pattern: str) -> list[Path]:
    """The files that fit a pattern; there must be one."""
    found = sorted(folder.glob(pattern))
    if not found:
        sys.exit(f"no file fits {pattern}")
    return found


def run_tests(folder: Path, kind: Kind, preloaded: str, isa: str | None, tests: list[str]) -> tuple[int, str]:
    """Exit status of pytest, and what came to stderr, which sanitizers write to."""
    environment = {**os.environ, **kind.options, "LD_PRELOAD": preloaded, "PYTHONMALLOC": "malloc"}
    if isa:
        environment["MEGENGINE_LITE_ISA"] = isa
    files = [str(p.relative_to(folder)) for t in tests or kind.tests for p in files_of(folder, t)]
    # Addresses must not be random for ThreadSanitizer; only Python's own output may be captured.
    command = ["setarch", platform.machine(), "-R", sys.executable, "-m", "pytest", "--capture=sys", "--tb=short"]
    command += ["-p", "no:faulthandler", "-p", "no:cacheprovider", "-W", UNRAISABLE, "-k", SKIPPED, *files]
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        status = subprocess.run(command, cwd=folder, env=environment, stderr=errors).returncode
        errors.seek(0)
        return status, errors.read()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--compiler", default="gcc", help="gcc (the default) or clang, with its path or version")
    parser.add_argument("--isa", help="build and run this instruction set only")
    parser.add_argument("--folder", type=Path, help="where to build; a folder that is removed afterwards by default")
    parser.add_argument("tests", nargs="*", help="patterns of files, instead of those that fit")
    arguments = parser.parse_intermixed_args()
    kind = KINDS[arguments.kind]
    folder = (arguments.folder or Path(tempfile.mkdtemp(prefix="sanitize-"))).resolve()
    try:
        preloaded = library(kind.library, arguments.compiler)
        copy_sources(folder)
        build(folder, arguments.kind, arguments.compiler, arguments.isa)
        status, errors = run_tests(folder, kind, preloaded, arguments.isa, arguments.tests)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)
    print(errors)
    found = len(FINDING.findall(errors))
    print(f"{found} findings, pytest ended with {status}")
    return 1 if found or status else 0


if __name__ == "__main__":
    sys.exit(main())
