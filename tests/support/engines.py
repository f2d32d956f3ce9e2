"""Engines that tests run on where they are installed."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest


def engine(name: str) -> Any:
    """The module; without it the tests of the calling module are skipped.

    Where the environment variable ``MEGENGINE_LITE_TEST_ENGINES`` is set, as in CI, they fail instead.
    """
    if os.environ.get("MEGENGINE_LITE_TEST_ENGINES"):
        return importlib.import_module(name)
    return pytest.importorskip(name)
