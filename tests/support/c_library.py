"""Compiles the libraries of C operators that tests load."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.places import TESTS

SOURCES = TESTS / "support" / "extern_c"


def compile_library(out: Path, source: str, *flags: str) -> Path:
    """A library in the folder ``out``, which may have others."""
    command = os.environ.get("CXX", "c++") if source.endswith(".cpp") else os.environ.get("CC", "cc")
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs a compiler ({command})")
    path = out / f"lib{Path(source).stem}{len(list(out.iterdir()))}.so"
    subprocess.run(
        [*command.split(), "-O1", "-shared", "-fPIC", *flags, "-o", path, SOURCES / source, "-lm"], check=True
    )
    return path
