"""Where things are in the checkout, and what stands for it where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import pytest

TESTS = Path(__file__).parents[1]
IN_CHECKOUT = (TESTS.parent / "setup.py").exists()
"""Whether sources, pages and tools are here. Tests of an installed wheel may stand alone."""


class _Nowhere:
    """A path in a checkout that is not here. It may be put together; a test that looks what is there is skipped."""

    def __init__(self, path: str = "the checkout"):
        self._path = path

    def __truediv__(self, name: object) -> _Nowhere:
        return _Nowhere(f"{self._path}/{name}")

    def _skip(self, *_: object) -> NoReturn:
        pytest.skip(f"the tests stand alone: {self._path} is not here", allow_module_level=True)

    __fspath__ = __str__ = read_text = read_bytes = exists = is_dir = is_file = glob = rglob = iterdir = _skip


ROOT = TESTS.parent if IN_CHECKOUT else _Nowhere()
"""The checkout: sources, pages, tools."""
SHARED_MODELS = TESTS.parents[1] / "shared" / "models"
"""The shared model collection; tests that read it are skipped where it is absent."""
