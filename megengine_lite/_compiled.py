"""Where compiled modules are found: many of them lie together in one shared object.

The build gathers what is compiled once in ``_native``, and all kernels of an instruction set in ``kernels/_<set>``.
Each shared object is also a module, whose ``MODULES`` lists what is inside. A finder, the first that Python asks, loads
those modules from there, under the names of their sources (``megengine_lite._core.cpu.program``), and kernels under the
name of their set (``megengine_lite.kernels._<set>.gemm``). It also finds the package's modules in Python, which lie
where their names say: the usual finders would try several other kinds of files for each. What it does not find,
packages above all, is left to them. The package imports this module before any other of its own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.machinery import ExtensionFileLoader, ModuleSpec, SourceFileLoader
from types import ModuleType

try:
    import megengine_lite._native as _native
except ModuleNotFoundError as error:
    raise ImportError(
        f"the compiled modules of megengine_lite are not in {os.path.dirname(__file__)}. If these are the sources, an "
        "installed package is found from any other folder; to use them as they are, run 'python setup.py build_ext "
        "--inplace' there"
    ) from error

_PACKAGE = __name__.rpartition(".")[0]
_INSIDE = {f"{_PACKAGE}.{name}" for name in _native.MODULES}


class _Finder:  # importlib.abc has a base class, and brings twenty modules
    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname in _INSIDE:
            return _spec(fullname, _native)
        parent, _, own = fullname.rpartition(".")
        if parent.startswith(f"{_PACKAGE}.kernels._"):
            kernels = sys.modules[parent]  # Python imports a package before what is inside
            if own in getattr(kernels, "MODULES", ()):
                return _spec(fullname, kernels)
        elif path and fullname.startswith(f"{_PACKAGE}."):
            file = os.path.join(path[0], f"{own}.py")
            if os.path.exists(file):
                return _located(SourceFileLoader(fullname, file))
        return None


def _spec(fullname: str, shared_object: ModuleType) -> ModuleSpec:
    return _located(ExtensionFileLoader(fullname, str(shared_object.__file__)))


def _located(loader: ExtensionFileLoader | SourceFileLoader) -> ModuleSpec:
    spec = ModuleSpec(loader.name, loader, origin=loader.path)
    spec.has_location = True
    return spec


sys.meta_path.insert(0, _Finder)  # the usual finders would first look through folders for each module
