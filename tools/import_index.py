"""Writes the indexes by which operators, tables of parameters and kernels are imported when they are needed.

    python tools/import_index.py            # rewrites the files
    python tools/import_index.py --check    # tells by the exit status whether they are current

They are made from the classes: ``import_index.py`` in ``megengine_lite/_core/operators/`` has the module of each
operator and its name in files, that in ``megengine_lite/_core/ir/params/`` the module of each name and the tables by
their codes, and ``megengine_lite/_core/cpu/kernel_index.py`` the module of each kernel. Run it after you have added,
renamed or moved a class or a kernel. The package must be built in place, or installed as
editable.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import megengine_lite
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import base
from megengine_lite._core.operators import registry

PACKAGE = Path(megengine_lite.__file__).parent / "_core"
NOTE = "Made from the classes by ``tools/import_index.py``."


def operators() -> str:
    """The index of operators."""
    registry.import_all()
    rows = []
    for name in sorted(registry.REGISTRY.imported()):
        operator = registry.REGISTRY[name]
        facts = operator.in_files
        module = type(operator).__module__.rpartition(".")[2]
        rows.append(f'    "{name}": ("{module}", "{facts.registered(name) if facts else ""}"),\n')
    return (
        f'"""Which module has an operator, and its name in files, if any.\n\n{NOTE}\n"""\n\n'
        "INDEX: dict[str, tuple[str, str]] = {\n" + "".join(rows) + "}\n"
    )


def tables() -> str:
    """The index of tables of parameters and their enumerations."""
    package = importlib.import_module("megengine_lite._core.ir.params")
    modules = [
        importlib.import_module(f"{package.__name__}.{m.name}")
        for m in pkgutil.iter_modules(package.__path__)
        if m.name not in ("base", "index")
    ]
    names = sorted((name, module.__name__.rpartition(".")[2]) for module in modules for name in own_names(module))
    codes = sorted((code, table.__name__) for code, table in base.BY_CODE.items())
    return (
        f'"""Which module has a table or an enumeration, and the tables by their codes.\n\n{NOTE}\n"""\n\n'
        "MODULES: dict[str, str] = {\n"
        + "".join(f'    "{name}": "{module}",\n' for name, module in names)
        + "}\nCODES: dict[int, str] = {\n"
        + "".join(f'    {code}: "{name}",\n' for code, name in codes)
        + "}\n"
    )


def kernels() -> str:
    """The index of kernels."""
    found = sorted((kernel.name, kernel.module) for kernel in kernel_set())
    return (
        f'"""Which compiled module has a kernel.\n\n{NOTE.replace("classes", "modules")}\n"""\n\n'
        "MODULES: dict[str, str] = {\n" + "".join(f'    "{name}": "{module}",\n' for name, module in found) + "}\n"
    )


def own_names(module: ModuleType) -> list[str]:
    """The public classes that a module defines."""
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__ and not name.startswith("_")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if a file is not current")
    check = parser.parse_args().check
    stale = 0
    indexes = {
        "operators/import_index.py": operators(),
        "ir/params/import_index.py": tables(),
        "cpu/kernel_index.py": kernels(),
    }
    for place, text in indexes.items():
        path = PACKAGE / place
        if path.exists() and path.read_text() == text:
            continue
        stale = 1
        if not check:
            path.write_text(text)
            print(f"wrote {path}")
    return stale if check else 0


if __name__ == "__main__":
    sys.exit(main())
