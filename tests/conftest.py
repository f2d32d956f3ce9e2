"""The option ``--isa``; makes new processes of tests find the package that is tested; runs commands."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings

import megengine_lite

settings.register_profile("without a clock", deadline=None)  # a busy machine takes as long as it takes
settings.load_profile("without a clock")


def pytest_addoption(parser):
    parser.addoption(
        "--isa",
        action="append",
        metavar="NAME",
        help="run tests of kernels on these instruction sets only: avx2 or best, say",
    )


def pytest_configure(config):
    """Test modules read the choice when they are imported, and so do the processes that tests start."""
    if names := config.getoption("--isa"):
        os.environ["MEGENGINE_LITE_TEST_ISA"] = ",".join(names)
    try:
        import support.instruction_sets  # noqa: F401
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(autouse=True, scope="session")
def _import_path():
    """Python puts the working directory first: beside the sources it would find these, which may not be built."""
    os.environ["PYTHONPATH"] = str(Path(megengine_lite.__file__).parent.parent)
    os.chdir(Path(__file__).parent)


@pytest.fixture
def device(monkeypatch):
    """A device with memory of its own, which is known during the test."""
    from support.numpy_device import NumpyDevice

    from megengine_lite._core.runtime import devices

    monkeypatch.setattr(devices, "_DEVICES", dict(devices._DEVICES))
    made = NumpyDevice()
    devices.register_device(made)
    return made


@pytest.fixture
def _keys():
    """Puts back the keys of the encryption methods, which the command line changes for the whole process."""
    from megengine_lite._core.formats.containers.cryption import METHODS

    before = {name: method.key for name, method in METHODS.items()}
    yield
    for name, key in before.items():
        METHODS[name].key = key


@pytest.fixture
def run_json(capsys, _keys):
    """Runs a command with --json; gives its result after checking the exit status."""
    from megengine_lite.cli import main

    def run(*argv: object, status: int = 0) -> dict:
        assert main([*map(str, argv), "--json"]) == status
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def error_of(capsys, _keys):
    """Runs a command that must fail; gives its message on stderr."""
    from megengine_lite.cli import main

    def run(*argv: object, status: int = 1) -> str:
        try:
            assert main([*map(str, argv)]) == status
        except SystemExit as end:
            assert end.code == status
        out, err = capsys.readouterr()
        assert out == ""
        return err

    return run
