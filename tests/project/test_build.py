"""What setup.py makes: few shared objects, each with an index of its modules; and what it says when it cannot."""

import importlib
import os
import re
import subprocess
import sys
from ast import literal_eval
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder, SourceFileLoader
from pathlib import Path

import pytest
from support.instruction_sets import INSTRUCTION_SETS
from support.places import ROOT

import megengine_lite
from megengine_lite import _compiled, _native
from megengine_lite._core.cpu.isa import DOT_MODULES, instruction_sets, native_sets
from megengine_lite._core.cpu.kernel_set import kernel_set

INSTALLED = Path(megengine_lite.__file__).parent


def test_one_shared_object_has_what_is_compiled_once():
    described = {".".join(p.relative_to(INSTALLED).with_suffix("").parts) for p in INSTALLED.glob("_core/**/*.pyi")}
    assert {*_native.MODULES} == (described | {"_cyutility"}) - {"_core.operators.c_library"}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_one_shared_object_has_what_is_compiled_for_a_set(isa):
    row, kernels, best = instruction_sets()[isa], kernel_set(isa), kernel_set()
    own, *others = (importlib.import_module(f"megengine_lite.kernels._{home}") for home in row.homes)
    modules = {*own.MODULES}.union(*(other.MODULES for other in others))
    assert len(modules) > 20
    for module in modules:
        index = own if not others or module in DOT_MODULES else others[0]
        assert kernels.module(module).__file__ == index.__file__
    assert {*own.MODULES} >= DOT_MODULES and (not others or {*own.MODULES} == DOT_MODULES)
    assert [kernel.name for kernel in kernels] == [kernel.name for kernel in best]


@pytest.mark.parametrize(
    ("wanted", "labels"),
    [("avx2_vnni", ["_avx2_vnni", "_avx2"]), ("avx2", ["_avx2"]), ("base,avx2_vnni", ["_avx2_vnni", "_avx2", "_base"])],
)
def test_a_set_is_built_with_what_it_takes_modules_from(wanted, labels):
    code = (
        "from setup import KERNELS, shared_objects\n"
        "made = {s.label: [p.name for p in s.parts] for s in shared_objects() if 'kernels' in s.name}\n"
        "print(len(KERNELS), made)"
    )
    environment = {"MEGENGINE_LITE_BUILD_ISA": wanted, "_PYTHON_HOST_PLATFORM": "linux-x86_64"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    count, made = done.stdout.split(" ", 1)
    made = literal_eval(made)
    assert [*made] == labels
    sizes = {label: len(parts) for label, parts in made.items()}
    assert sizes == {label: len(DOT_MODULES) if label == "_avx2_vnni" else int(count) for label in labels}


def test_there_are_few_shared_objects():
    """One for each instruction set, one of what is compiled once, one of the module in C++."""
    files = {p.name for p in INSTALLED.rglob("*") if p.name.endswith(tuple(EXTENSION_SUFFIXES))}
    found = {name.partition(".")[0] for name in files}
    assert found <= {"_native", "c_library", *(f"_{name}" for name in instruction_sets())}


def test_no_shared_object_needs_a_new_library_of_cxx():
    """Wheels that fit manylinux2014 run with the libstdc++ of gcc 4.8."""
    newest = {"GLIBCXX": (3, 4, 19), "CXXABI": (1, 3, 7)}
    needed = {
        (name.decode(), tuple(map(int, version.split(b"."))))
        for path in INSTALLED.rglob("*")
        if path.name.endswith(tuple(EXTENSION_SUFFIXES))
        for name, version in re.findall(rb"\0(GLIBCXX|CXXABI)_([\d.]+)", path.read_bytes())
    }
    assert not {(name, version) for name, version in needed if version > newest[name]}


def test_modules_in_python_are_found_as_python_finds_them():
    importlib.import_module("megengine_lite._core.formats.load")
    found = 0
    for name, module in [*sys.modules.items()]:
        parent = sys.modules.get(name.rpartition(".")[0])
        if name.startswith("megengine_lite.") and isinstance(module.__spec__.loader, SourceFileLoader):
            usual = PathFinder.find_spec(name, parent.__path__)
            assert module.__spec__ == usual and module.__spec__.has_location
            assert module.__spec__.cached == usual.cached and module.__file__ == usual.origin
            found += not hasattr(module, "__path__")
    assert found > 50
    assert _compiled._Finder.find_spec("megengine_lite._core", megengine_lite.__path__) is None
    assert _compiled._Finder.find_spec("megengine_lite_else.base", megengine_lite.__path__) is None


def test_a_module_that_is_not_there_is_not_found():
    name = f"megengine_lite.kernels._{kernel_set().name}.nothing"
    done = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True)
    assert f"No module named '{name}'" in done.stderr


@pytest.mark.parametrize(
    ("platform", "macros", "sets"),
    [
        ("linux-x86_64", "", ["base"]),
        ("linux-x86_64", "__SSE4_1__ __AVX2__ __FMA__ __F16C__ __BMI2__", ["avx2", "base"]),
        ("linux-x86_64", "__SSE4_1__ __AVX2__ __FMA__ __F16C__", ["base"]),
        ("linux-x86_64", "__SSE4_1__ __AVX2__ __FMA__ __F16C__ __BMI2__ __AVXVNNI__", ["avx2_vnni", "base"]),
        ("linux-aarch64", "__ARM_NEON", ["neon"]),
        (
            "linux-aarch64",
            "__ARM_NEON __ARM_FEATURE_FP16_VECTOR_ARITHMETIC __ARM_FEATURE_DOTPROD",
            ["dotprod", "neon"],
        ),
        ("linux-armv7l", "__ARM_NEON __ARM_FEATURE_FMA", ["neon", "base"]),
        ("linux-armv7l", "", ["base"]),
        ("linux-riscv64", "__riscv_vector", ["base"]),
    ],
)
def test_native_sets_are_the_best_and_the_one_for_all(platform, macros, sets, monkeypatch):
    monkeypatch.setenv("_PYTHON_HOST_PLATFORM", platform)
    assert native_sets(macros.split()) == sets


@pytest.mark.parametrize(
    ("version", "machine", "unaligned"),
    [
        ("gcc (MinGW-Builds) 14.2.0", "x86_64-w64-mingw32", True),
        ("clang version 19.1.7", "x86_64-w64-mingw32", False),
        ("gcc (Debian 12.2.0-14) 12.2.0", "x86_64-linux-gnu", False),
        ("gcc (Debian 12.2.0-14) 12.2.0", "aarch64-linux-gnu", False),
    ],
)
def test_wide_vectors_may_lie_anywhere_on_stacks_of_windows(version, machine, unaligned, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\nif [ "$1" = -dumpmachine ]; then echo {machine}; else echo "{version}"; fi\n')
    compiler.chmod(0o755)
    code = "from setup import shared_objects\nprint([(s.label, [p.flags for p in s.parts]) for s in shared_objects()])"
    environment = {**os.environ, "CC": str(compiler), "_PYTHON_HOST_PLATFORM": "linux-x86_64"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    kernels = [flags for label, parts in literal_eval(done.stdout) for flags in parts if label == "_avx512"]
    assert len(kernels) > 20
    assert {"-Wa,-muse-unaligned-vector-move" in flags for flags in kernels} == {unaligned}


@pytest.mark.parametrize("machine", ["arm64", "x86_64"])
def test_a_python_for_two_processors_builds_for_the_one_that_is_here(machine):
    """As the installer of python.org for macOS brings it: its own flags name both."""
    code = f"""
import os, sys, types
import setuptools.command.build_ext, setuptools.command.sdist
sys.platform = "darwin"
os.uname = lambda: types.SimpleNamespace(machine={machine!r}, release="23.0.0")
import _osx_support, setup
_osx_support._supports_universal_builds = lambda: True
print(*_osx_support.compiler_fixup(["clang", "-arch", "arm64", "-arch", "x86_64", "-c"], []))
print(*[s.label for s in setup.shared_objects() if "kernels" in s.name])
"""
    environment = {name: value for name, value in os.environ.items() if name != "ARCHFLAGS"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    compiler, labels = done.stdout.splitlines()
    assert compiler == f"clang -c -arch {machine}"
    assert ("_neon" in labels.split()) == (machine == "arm64")


def run_setup(tmp_path, **environment):
    command = [sys.executable, "setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True)


@pytest.mark.parametrize(("variable", "language"), [("CC", "C"), ("CXX", "C++")])
def test_a_missing_compiler_is_one_line(variable, language, tmp_path):
    done = run_setup(tmp_path, **{variable: "no-such-compiler -x"})
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"megengine_lite: no {language} compiler: 'no-such-compiler -x' does not run; install gcc and g++ (or clang), "
        f"or name one by the environment variable {variable}"
    )
    assert "Traceback" not in done.stderr
    assert [*tmp_path.iterdir()] == []


def test_a_compiler_that_does_not_know_a_set_is_one_line(tmp_path):
    compiler = tmp_path / "old-cc"
    compiler.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-mavxvnni*) echo "old-cc: error: unknown option -mavxvnni" >&2; exit 1; esac\n'
        'exec cc "$@"\n'
    )
    compiler.chmod(0o755)
    build = tmp_path / "build"
    done = run_setup(build, CC=str(compiler), _PYTHON_HOST_PLATFORM="linux-x86_64", MEGENGINE_LITE_BUILD_ISA="")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"megengine_lite: '{compiler}' cannot compile _avx2_vnni (old-cc: error: unknown option -mavxvnni); name a "
        "newer one by the environment variable CC, or instruction sets that it knows by MEGENGINE_LITE_BUILD_ISA"
    )
    assert "Traceback" not in done.stderr and not build.exists()


@pytest.mark.parametrize(("package", "here"), [("setuptools", "65.5.0"), ("Cython", "3.1.9"), ("Cython", "0.29.37")])
def test_a_package_that_is_too_old_is_one_line(package, here, tmp_path):
    """Only what describes the package is replaced: the build asks before it imports."""
    described = tmp_path / "path" / f"{package.lower()}-{here}.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {here}\n")
    done = run_setup(tmp_path / "build", PYTHONPATH=str(described.parent))
    least = {"setuptools": "77", "Cython": "3.2"}[package]
    assert done.returncode == 1
    assert done.stderr == (
        f"megengine_lite: the build needs {package.lower()} {least} or later, and {here} is installed; "
        'run: python -m pip install "setuptools>=77" "cython>=3.2"\n'
    )
    assert not (tmp_path / "build").exists()


def test_a_package_that_is_missing_is_one_line(tmp_path):
    """As in a new environment of Python 3.12, which has no setuptools."""
    command = [sys.executable, "-S", "setup.py", "build_ext"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(
        "megengine_lite: the build needs setuptools 77 or later, and it is not installed; run: "
    )
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_set_is_refused_with_the_names(tmp_path):
    done = run_setup(tmp_path, MEGENGINE_LITE_BUILD_ISA="avx3,base")
    assert done.returncode == 1
    known = ", ".join(instruction_sets())
    assert done.stderr.splitlines()[-1] == f"MEGENGINE_LITE_BUILD_ISA names avx3; there are {known} and native"


def test_a_machine_of_the_other_byte_order_is_refused_before_anything_is_compiled(tmp_path):
    command = ["setup.py", "build_ext", "--build-lib", str(tmp_path), "--build-temp", str(tmp_path)]
    run = "runpy.run_path('setup.py', None, '__main__')"
    code = f"import runpy, sys; sys.byteorder, sys.argv = 'big', {command}; {run}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "megengine_lite: runs on little-endian processors only; this Python is big-endian"
    )
    assert [*tmp_path.iterdir()] == []
