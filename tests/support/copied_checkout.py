"""A copy of the checkout, in which examples of the guides are added, built and run."""

import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import megengine_lite
from support.places import ROOT

INSTALLED = Path(megengine_lite.__file__).parent
VARIABLES = ("BUILD_ONLY", "BUILD_ISA", "ISA", "TEST_ISA")


def is_compiled(name: str) -> bool:
    """Whether a file of such a name is a compiled module."""
    return name.endswith(tuple(EXTENSION_SUFFIXES))


def copy_checkout(tree: Path) -> Path:
    """Copies sources, pages, tests and tools to ``tree``, and the compiled modules of the package that is tested."""

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [n for n in names if n in ("__pycache__", "models", "translated") or is_compiled(n)]

    for folder in ("megengine_lite", "docs", "tests", "tools"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=left_out)
    for name in ("setup.py", "pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree)
    for compiled in INSTALLED.rglob("*"):
        if is_compiled(compiled.name):
            shutil.copy(compiled, tree / "megengine_lite" / compiled.relative_to(INSTALLED).parent)
    return tree


def run_in(tree: Path, *command: str, **variables: str) -> str:
    """What Python prints for a command in a copy; fails if the command fails."""
    environment = {k: v for k, v in os.environ.items() if k.removeprefix("MEGENGINE_LITE_") not in VARIABLES}
    environment |= {"PYTHONPATH": str(tree), **variables}
    done = subprocess.run([sys.executable, *command], cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
