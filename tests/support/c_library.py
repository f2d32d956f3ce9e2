"""Compiles the libraries of C operators that tests load."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from support.places import TESTS

SOURCES = TESTS / "support" / "extern_c"


def compile_library(out: Path, source: str, *flags: str) -> Path:
    """A library in the folder ``out``, which may have others.

    The compiler is that of the build, so that libraries are for the processor that this Python is for, also in an
    emulator.
    """
    variable, usual = ("CXX", "c++") if source.endswith(".cpp") else ("CC", "cc")
    command = os.environ.get(variable) or sysconfig.get_config_var(variable) or usual
    if shutil.which(command.split()[0]) is None:
        pytest.skip(f"needs a compiler ({command})")
    path = out / f"lib{Path(source).stem}{len(list(out.iterdir()))}.so"
    subprocess.run(
        [*command.split(), "-O1", "-shared", "-fPIC", *flags, "-o", path, SOURCES / source, "-lm"], check=True
    )
    return path
