"""Trained models that Python packages bring along. The packages are found, and never imported."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest


def model_file(name: str) -> Path:
    """The path of a file in a package, ``package/folder/file``. Without the package the calling test is skipped.

    Where the environment variable ``MEGENGINE_LITE_TEST_TRAINED`` is set, as in CI, it fails instead.
    """
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    found = [folder / inside for folder in folders if (folder / inside).is_file()]
    if not found:
        if os.environ.get("MEGENGINE_LITE_TEST_TRAINED"):
            raise FileNotFoundError(f"{name} is missing: install the packages that .ci/run names")
        pytest.skip(f"{name} is not installed")
    return found[0]
