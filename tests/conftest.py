"""Makes new processes of tests find the package that is tested."""

import os
from pathlib import Path

import pytest

import megengine_lite


@pytest.fixture(autouse=True, scope="session")
def _import_path():
    """Python puts the working directory first: beside the sources it would find these, which may not be built."""
    os.environ["PYTHONPATH"] = str(Path(megengine_lite.__file__).parent.parent)
    os.chdir(Path(__file__).parent)
