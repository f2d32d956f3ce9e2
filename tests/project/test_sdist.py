"""The source distribution has everything that a build and the tests need, and a module is built from it."""

import fcntl
import os
import subprocess
import sys
import tarfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from support.places import ROOT

FOLDERS = ("megengine_lite", "tests", "tools", "benchmarks", "examples", "docs", "conda", ".github")
BUILT = (*EXTENSION_SUFFIXES, ".so", ".pyc")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    """The folder of an unpacked source distribution."""
    folder = tmp_path_factory.mktemp("sdist")
    (folder / "info").mkdir()
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", folder / "info", "sdist", "-d", folder]
    with open(tmp_path_factory.getbasetemp().parent / "sdist.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of pytest-xdist would translate into one folder at the same time
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        if hasattr(tarfile, "data_filter"):
            files.extractall(folder, filter="data")
        else:
            files.extractall(folder)
    (found,) = folder.glob("megengine_lite-*/")
    return found


def sources(folder: Path) -> set[str]:
    """Files below a folder that people write."""
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {p.relative_to(folder).as_posix() for p in files if not p.name.endswith(BUILT)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_is_missing(folder, unpacked):
    assert sources(ROOT / folder) - sources(unpacked / folder) == set()
    assert len(sources(unpacked / folder)) > 0


def test_files_beside_the_folders(unpacked):
    names = {"setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md"}
    assert names - {p.name for p in unpacked.iterdir()} == set()
    assert all(os.access(unpacked / ".ci" / name, os.X_OK) for name in ("run", "emulate"))


def test_nothing_that_was_built_is_inside(unpacked):
    assert [p.name for p in unpacked.rglob("*") if p.name.endswith(BUILT)] == []
    assert not (unpacked / "build").exists()


def test_every_cython_source_is_translated(unpacked):
    package = unpacked / "megengine_lite"
    translated = {
        p.relative_to(unpacked / "translated").with_suffix("") for p in (unpacked / "translated").rglob("*.c*")
    }
    wanted = {p.relative_to(unpacked).with_suffix("") for p in package.rglob("*.pyx")}
    assert translated == wanted | {Path("_cyutility")}


NO_CYTHON = "import sys; sys.modules['Cython'] = None; "


@pytest.mark.parametrize(("change", "says"), [("", "translated"), ("\n", "build/translated")])
def test_changed_sources_are_translated_again(change, says, unpacked):
    source = unpacked / "megengine_lite" / "kernels" / "move" / "fill.pyx"
    before = source.read_bytes()
    source.write_bytes(before + change.encode())
    code = NO_CYTHON + "sys.argv = ['setup.py']; import setup; print(setup.TRANSLATED.as_posix())"
    done = subprocess.run([sys.executable, "-c", code], cwd=unpacked, capture_output=True, text=True, check=True)
    source.write_bytes(before)
    assert done.stdout == f"{says}\n"


def test_a_module_is_built_from_it(unpacked):
    """Of the smallest kernels, without Cython; a whole build takes minutes."""
    (unpacked / "no_cython").mkdir()
    (unpacked / "no_cython" / "Cython.py").write_text("raise ImportError('the C sources are there')\n")
    path = str(unpacked / "no_cython")
    environment = {**os.environ, "MEGENGINE_LITE_BUILD_ONLY": "fill,hashes", "PYTHONPATH": path}
    command = [sys.executable, "setup.py", "build_ext", "--inplace"]
    done = subprocess.run(command, cwd=unpacked, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "_native: _core.system.hashes" in done.stdout  # the progress
    code = "import megengine_lite._native as n; print(n.MODULES)"
    package = "import sys, types; p = types.ModuleType('megengine_lite'); p.__path__ = ['megengine_lite']; "
    package += "sys.modules['megengine_lite'] = p; "
    loaded = subprocess.run([sys.executable, "-c", package + code], cwd=unpacked, capture_output=True, text=True)
    assert loaded.stdout == "('_core.system.hashes',)\n"
