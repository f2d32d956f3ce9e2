"""How setup.py makes few shared objects of many modules, each compiled by itself.

A shared object holds the ``PyInit_`` functions of all its modules and an index of them: a module with the object's own
name, whose ``MODULES`` lists what is inside. ``megengine_lite/_compiled.py`` imports modules from there. Objects
(``.o``) are compiled by all cores, the largest first, and only those whose sources have changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from logging import INFO
from pathlib import Path
from typing import NamedTuple

from setuptools import Extension
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

INDICES = Path("build/index")

_INDEX = """\
/* Made by tools/shared_objects.py: which modules this shared object holds. */
#include <Python.h>

static const char *const names[] = {%(names)s, NULL};

/* Python itself would refuse with fewer words, and not in all of its versions. */
static int refused(void) {
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) == 0) return 0;
    PyErr_SetString(PyExc_ImportError,
                    "megengine_lite works in the main interpreter of a process only, because numpy and the pool of "
                    "threads belong to the whole process; start another process instead of a subinterpreter");
    return 1;
}

static int fill(PyObject *module) {
    if (refused()) return -1;
    PyObject *list = PyList_New(0), *tuple = NULL, *path = PyList_New(0);
    int failed = !list || !path;
    for (const char *const *name = names; !failed && *name; name++) {
        PyObject *text = PyUnicode_FromString(*name);
        failed = !text || PyList_Append(list, text);
        Py_XDECREF(text);
    }
    failed = failed || !(tuple = PyList_AsTuple(list)) || PyObject_SetAttrString(module, "MODULES", tuple) ||
             PyObject_SetAttrString(module, "__path__", path); /* of a package */
    Py_XDECREF(list);
    Py_XDECREF(tuple);
    Py_XDECREF(path);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)fill},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED}, /* so that it can refuse */
#endif
#ifdef Py_mod_gil
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "%(own)s", NULL, 0, NULL, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_%(own)s(void) { return PyModuleDef_Init(&definition); }
"""


class Part(NamedTuple):
    """One module of a shared object.

    Attributes
    ----------
    name
        As the index lists it.
    source
        Its C source, which need not exist yet.
    flags
        Of the compiler.
    selected
        Whether it is compiled. If not, the object file of an earlier build is taken, if there is one.
    """

    name: str
    source: Path
    flags: Sequence[str]
    selected: bool = True


class SharedObject(Extension):
    """An extension made of parts.

    Parameters
    ----------
    name
        Full name of the module that is the index; of the only part, if there is no index.
    parts
        What it consists of.
    sources
        Those that people write, for source distributions.
    depends
        Files whose change makes every part out of date.
    """

    def __init__(
        self,
        name: str,
        parts: Sequence[Part],
        *,
        sources: Iterable[Path],
        depends: Iterable[Path],
        include_dirs: Sequence[str],
        link_flags: Sequence[str],
        index: bool = True,
        language: str = "c",
    ):
        super().__init__(
            name,
            [*map(str, sources)],
            include_dirs=[*include_dirs],
            extra_link_args=[*link_flags],
            depends=[*map(str, depends)],
            language=language,
        )
        self.parts = parts
        self.index = index

    @property
    def label(self) -> str:
        return self.name.rpartition(".")[2]

    def write_index(self, parts: Iterable[Part]) -> Part:
        """The part that lists the others; a file that is right already keeps its time."""
        names = ", ".join(f'"{part.name}"' for part in parts)
        target, code = INDICES / f"{self.label}.c", _INDEX % {"names": names, "own": self.label}
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (target.exists() and target.read_text() == code):
            target.write_text(code)
        return Part(self.label, target, ["-O1", "-g0"])


class BuildSharedObjects(build_ext):
    """``build_ext`` for :class:`SharedObject`: compiles with every core and tells how far it is."""

    extensions: list[SharedObject]

    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def translate(self) -> None:
        """Makes the C sources; setup.py says how."""

    def run(self) -> None:
        require_compilers()
        for shared in self.extensions:
            require_flags(shared)
        self.translate()
        super().run()

    def build_extensions(self) -> None:
        wanted = []  # what to compile
        contents: list[tuple[SharedObject, list[Path]]] = []
        for shared in self.extensions:
            parts = [p for p in shared.parts if p.selected or self.object_of(shared, p).exists()]
            if not parts:
                continue
            if shared.index:
                parts.append(shared.write_index(parts))
            contents.append((shared, [self.object_of(shared, p) for p in parts]))
            for part in parts:
                changed = [part.source, *map(Path, shared.depends)]
                if self.force or (part.selected and is_older(self.object_of(shared, part), changed)):
                    wanted.append((shared, part))
        self.extensions = [shared for shared, _ in contents]
        wanted.sort(key=lambda work: -work[1].source.stat().st_size)
        self.compile_all(wanted)
        for shared, objects in contents:
            self.link(shared, objects)

    def folder_of(self, shared: SharedObject) -> str:
        return os.path.join(self.build_temp, shared.label)

    def object_of(self, shared: SharedObject, part: Part) -> Path:
        return Path(*self.compiler.object_filenames([str(part.source)], output_dir=self.folder_of(shared)))

    def compile_all(self, wanted: list[tuple[SharedObject, Part]]) -> None:
        done, lock = 0, threading.Lock()

        def compile_one(shared: SharedObject, part: Part) -> None:
            nonlocal done
            self.compiler.compile(
                [str(part.source)],
                output_dir=self.folder_of(shared),
                include_dirs=shared.include_dirs,
                extra_postargs=[*part.flags],
            )
            with lock:
                done += 1
                self.announce(f"[{done}/{len(wanted)}] {shared.label}: {part.name}", level=INFO)

        with ThreadPoolExecutor(self.parallel) as pool:
            futures = [pool.submit(compile_one, *work) for work in wanted]
            try:
                for future in futures:
                    future.result()
            except CompileError:
                pool.shutdown(cancel_futures=True)
                raise

    def link(self, shared: SharedObject, objects: list[Path]) -> None:
        target = Path(self.get_ext_fullpath(shared.name))
        if not (self.force or is_older(target, objects)):
            return
        self.compiler.link_shared_object(
            [*map(str, objects)],
            str(target),
            libraries=self.get_libraries(shared),
            extra_postargs=shared.extra_link_args,
            build_temp=self.build_temp,
            target_lang=shared.language,
        )


def is_older(target: Path, sources: Iterable[Path]) -> bool:
    """Whether a file is missing or older than one of its sources."""
    return not target.exists() or any(s.stat().st_mtime > target.stat().st_mtime for s in sources)


def fingerprint(files: Iterable[Path]) -> str:
    """A digest of the names and contents of files."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.as_posix()}\n{len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


# ---- the compiler ----------------------------------------------------------------------------------------------------


def compiler_command(variable: str = "CC") -> list[str]:
    """The compiler for C (``CC``) or C++ (``CXX``) that the environment names, or else the build of Python."""
    default = {"CC": "cc", "CXX": "c++"}[variable]
    return shlex.split(os.environ.get(variable) or sysconfig.get_config_var(variable) or default)


def say(command: list[str], text: str = "") -> str | None:
    """What a compiler prints; ``None`` if it is not there or fails."""
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def compiler_kind() -> str:
    """``"clang"`` or ``"gcc"``: whose flags the C compiler takes."""
    return "clang" if "clang" in (say([*compiler_command(), "--version"]) or "") else "gcc"


def compiler_target() -> str:
    """The system that the C compiler makes programs for: ``x86_64-w64-mingw32``."""
    return (say([*compiler_command(), "-dumpmachine"]) or "").strip()


def require_compilers() -> None:
    """Ends the build with one line if a compiler is missing."""
    for variable, language in (("CC", "C"), ("CXX", "C++")):
        command = compiler_command(variable)
        if say([*command, "--version"]) is None:
            sys.exit(
                f"megengine_lite: no {language} compiler: {shlex.join(command)!r} does not run; install gcc and g++ "
                f"(or clang), or name one by the environment variable {variable}"
            )


def require_flags(shared: SharedObject) -> None:
    """Ends the build with one line if a compiler is too old for a shared object."""
    variable = "CXX" if shared.language == "c++" else "CC"
    command = compiler_command(variable)
    preprocess = [*command, *shared.parts[0].flags, "-E", "-x", shared.language, "-"]
    done = subprocess.run(preprocess, input="", capture_output=True, text=True)
    if done.returncode:
        found = next((line for line in done.stderr.splitlines() if "error" in line), f"status {done.returncode}")
        sys.exit(
            f"megengine_lite: {shlex.join(command)!r} cannot compile {shared.label} ({found}); name a newer one by the "
            f"environment variable {variable}, or instruction sets that it knows by MEGENGINE_LITE_BUILD_ISA"
        )


def processor_macros() -> set[str]:
    """The macros that the compiler defines for what this machine's processor has."""
    flag = "-mcpu=native" if sys.platform == "darwin" and os.uname().machine == "arm64" else "-march=native"
    said = say([*compiler_command(), flag, "-dM", "-E", "-x", "c", "-"])
    if said is None:
        sys.exit(f"{shlex.join(compiler_command())} does not know {flag}; name instruction sets instead of native")
    return {*re.findall(r"^#define (\w+)", said, re.MULTILINE)}
