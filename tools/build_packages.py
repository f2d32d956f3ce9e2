"""Asks for the packages that a build needs, in the versions that pyproject.toml names.

A build by pip has them. ``python setup.py`` takes what is installed, and setuptools before the version that is needed
would end in a page about keys of pyproject.toml that it does not know.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REQUIREMENTS = Path(__file__).parent.parent / "pyproject.toml"


def required() -> dict[str, str]:
    """Package -> oldest version that is good enough."""
    text = REQUIREMENTS.read_text(encoding="utf-8")  # Python 3.10 cannot read TOML
    (line,) = re.findall(r"^requires = \[(.*)\]$", text, re.MULTILINE)
    return dict(re.findall(r'"(\w+)>=([\d.]+)"', line))


def numbers(of: str) -> list[int]:
    """The numbers at the beginning of a version."""
    found = re.match(r"\d+(\.\d+)*", of)
    return [*map(int, found[0].split("."))] if found else []


def require_package(name: str) -> None:
    """Ends the build with one line if a package is missing or too old."""
    wanted = required()
    try:
        here = version(name)
    except PackageNotFoundError:
        here = ""
    if not here or numbers(here) < numbers(wanted[name]):
        install = " ".join(f'"{package}>={least}"' for package, least in wanted.items())
        sys.exit(
            f"megengine_lite: the build needs {name} {wanted[name]} or later, and "
            f"{f'{here} is installed' if here else 'it is not installed'}; run: python -m pip install {install}"
        )
