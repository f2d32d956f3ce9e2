"""Builds the package for ARM64 on an x86-64 machine and runs its tests in an emulator.

    python tools/emulate_arm.py                                    # as three processors; takes long
    python tools/emulate_arm.py --quick                            # kernels and networks only, as in CI
    python tools/emulate_arm.py tests/kernels/test_kernels_gemm.py         # what follows is for pytest
    python tools/emulate_arm.py --cpu neoverse-n1 tests -k int8
    python tools/emulate_arm.py --build-only --folder /tmp/arm     # compile, and say where

Processors are named as qemu does: ``cortex-a53`` has the vectors of every ARM64, ``neoverse-n1`` multiplies quads of
bytes (dotprod), ``max`` has all that the emulator knows (i8mm). They run at the same time. With ``--quick`` tests run
on the best instruction set of each, so that each set is run once.

A folder keeps what takes long: the Python of this machine's Debian for ARM64, the packages that tests need, and the
compiled sources; what has not changed is not made again. Needed are qemu-user-static, a cross compiler
(g++-aarch64-linux-gnu), and Python 3.11 or later with Cython and setuptools. Everything is downloaded from where this
machine's apt and pip get theirs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import stat
import subprocess
import sys
import textwrap
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sanitize import ROOT, copy_sources
from shared_objects import is_older

TRIPLE = "aarch64-linux-gnu"
EMULATOR = "qemu-aarch64-static"
CPUS = ("cortex-a53", "neoverse-n1", "max")
COMMANDS = {
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    EMULATOR: "qemu-user-static",
    f"{TRIPLE}-gcc": "g++-aarch64-linux-gnu",
    f"{TRIPLE}-g++": "g++-aarch64-linux-gnu",
}
NETWORKS = "tests/shared_models/test_engine.py"  # runs where the shared model collection lies beside the checkout
QUICK = (
    "tests/kernels/test_kernels_*.py",
    "tests/cpu/test_isa.py",
    "tests/cpu/test_integer_results.py",
    "tests/cpu/test_lower_quantized.py",
    "tests/runtime/test_session.py",
    NETWORKS,
)
TESTS = (
    "tests/kernels/test_*.py",
    "tests/cpu/test_*.py",
    "tests/operators/test_*.py",
    "tests/system/test_*.py",
    "tests/runtime/test_*.py",
    "tests/api/test_*.py",
    "tests/generated/test_*.py",
    NETWORKS,
)
# Types are checked on the machine that compiles; ONNX Runtime dies in the emulator while it is loaded.
LEFT_OUT = ("mypy", "onnxruntime")
WHEELS_FOR = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def require_commands() -> None:
    missing = sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})
    if missing:
        sys.exit(f"emulate_arm.py needs commands that are not here; try: apt-get install {' '.join(missing)}")


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megengine_lite" / "arm64"


# ---- the system ------------------------------------------------------------------------------------------------------


def apt_settings(folder: Path, sources: Path | None) -> Path:
    """A file of settings by which apt-get downloads for ARM64 into a folder, and knows of no installed package."""
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "state" / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (folder / "state" / "status").touch()
    other_sources = f'Dir::Etc::SourceList "{sources.resolve()}";\nDir::Etc::SourceParts "-";\n' if sources else ""
    settings = folder / "apt.conf"
    settings.write_text(
        'APT::Architecture "arm64";\n'
        "#clear APT::Architectures;\n"
        'APT::Architectures { "arm64"; };\n'
        'APT::Sandbox::User "root";\n'
        f'Dir::State "{folder}/state";\n'
        f'Dir::State::status "{folder}/state/status";\n'
        f'Dir::Cache "{folder}/cache";\n{other_sources}'
    )
    return settings


def make_system(folder: Path, sources: Path | None) -> Path:
    """A Debian for ARM64 in a folder: Python and what it depends on, unpacked and not configured."""
    system = folder / "system"
    done = system / ".unpacked"
    if not done.exists():
        shutil.rmtree(system, ignore_errors=True)
        downloads = folder / "downloads"
        environment = {**os.environ, "APT_CONFIG": str(apt_settings(downloads, sources))}
        subprocess.run(["apt-get", "-q", "update"], env=environment)  # one source of several may fail
        options = ["-q", "-y", "--no-install-recommends", "--download-only"]
        wanted = ["python3", "python3-dev", "libstdc++6"]  # the last is for numpy
        if subprocess.run(["apt-get", *options, "install", *wanted], env=environment).returncode:
            sys.exit("emulate_arm.py: apt has no packages for ARM64 here; name a list of sources that has by --sources")
        system.mkdir()
        for package in sorted((downloads / "cache" / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(system)], check=True)
        shutil.rmtree(downloads)
        done.touch()
    return system


def python_of(system: Path) -> Path:
    """The system's interpreter: ``.../usr/bin/python3.11``."""
    return min((system / "usr" / "bin").glob("python3.[0-9]*[0-9]"), key=lambda p: len(p.name))


def install_packages(folder: Path, version: str) -> Path:
    """The packages that the project and its tests need, for that Python."""
    import tomllib  # of Python 3.11

    site = folder / f"site-{version}"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    tests = project["optional-dependencies"]["test"]
    wanted = [*project["dependencies"], *(package for package in tests if package not in LEFT_OUT)]
    list_file = site / ".packages"
    if not list_file.exists() or list_file.read_text() != "\n".join(wanted):
        shutil.rmtree(site, ignore_errors=True)
        options = ["--only-binary=:all:", f"--python-version={version}", *(f"--platform={p}" for p in WHEELS_FOR)]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *options, f"--target={site}", *wanted],
            check=True,
        )
        list_file.write_text("\n".join(wanted))
    return site


# ---- the build -------------------------------------------------------------------------------------------------------


def cross_settings(folder: Path, system: Path, version: str) -> dict[str, str]:
    """Environment in which this Python compiles extension modules for the other one.

    Python reads its build's settings from a module that a variable names; this makes one of the system's, in which the
    folders of headers are those that are here.
    """
    settings = folder / f"settings-{version}"
    settings.mkdir(exist_ok=True)
    name = f"_sysconfigdata__{TRIPLE}"
    headers = system / "usr" / "include"
    include = headers / f"python{version}"
    own = (system / "usr" / "lib" / f"python{version}" / f"{name}.py").read_text()
    compilers = {
        "CC": f"{TRIPLE}-gcc",
        "CXX": f"{TRIPLE}-g++",
        "LDSHARED": f"{TRIPLE}-gcc -shared",
        "LDCXXSHARED": f"{TRIPLE}-g++ -shared",
    }
    changed = {"INCLUDEPY": str(include), "CONFINCLUDEPY": str(include), **compilers}
    (settings / f"{name}.py").write_text(f"{own}\nbuild_time_vars.update({changed!r})\n")
    return {
        **os.environ,
        **{variable: os.environ.get(f"ARM64_{variable}", command) for variable, command in compilers.items()},
        "CPPFLAGS": f"-I{include} -idirafter {headers}",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(settings), os.environ.get("PYTHONPATH")])),
        "_PYTHON_SYSCONFIGDATA_NAME": name,
        "_PYTHON_HOST_PLATFORM": "linux-aarch64",
    }


def link_shared_models(folder: Path) -> None:
    """Puts the shared model collection, if it is here, where tests look for it; without it they are skipped."""
    shared, link = ROOT.parent / "shared", folder / "shared"
    if shared.is_dir() and not link.exists():
        link.symlink_to(shared.resolve())


def take_translations(sources: Path) -> None:
    """Copies the C sources that the usual build has made, if nothing has changed since; Cython takes a minute."""
    made, target = ROOT / "build" / "translated", sources / "build" / "translated"
    c_sources = [p for p in made.rglob("*.c*") if p.is_file()]
    kinds = (".py", ".pyx", ".pxd")
    made_from = [ROOT / "setup.py", *(p for p in (ROOT / "megengine_lite").rglob("*") if p.suffix in kinds)]
    if target.exists() or not c_sources or any(is_older(c, made_from) for c in c_sources):
        return
    for folder in ("kernel-tables", "translated"):  # in this order: the first are what the second are made of
        shutil.copytree(ROOT / "build" / folder, sources / "build" / folder, copy_function=shutil.copyfile)


def build(sources: Path, environment: dict[str, str], isa: str | None) -> None:
    if isa:
        environment = {**environment, "MEGENGINE_LITE_BUILD_ISA": isa}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=sources, env=environment, check=True
    )


# ---- tests -----------------------------------------------------------------------------------------------------------


def emulated_python(folder: Path, system: Path, cpu: str, path: list[Path], emulator: str | None = None) -> Path:
    """A command that is the system's Python in the emulator, and stays so in the processes that it starts."""
    emulator = emulator or shutil.which(EMULATOR)
    command = folder / f"python-{cpu}"
    start = folder / "start"
    start.mkdir(exist_ok=True)
    (start / "sitecustomize.py").write_text(
        textwrap.dedent(
            """\
            import os, sys

            sys.executable = sys._base_executable = os.environ["EMULATED_PYTHON"]
            """
        )
    )
    search = ":".join(map(str, [start, *path]))
    program = f'{emulator} -cpu {cpu} -L "{system}" "{python_of(system)}"'
    command.write_text(
        f"#!/bin/sh\n"
        f'export PYTHONPATH="{search}${{PYTHONPATH:+:$PYTHONPATH}}" EMULATED_PYTHON="{command}"\n'
        f"export CI=1  # with it, hypothesis has no limits of time\n"
        f'exec {program} "$@"\n'
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def run_tests(
    pythons: dict[str, Path], sources: Path, log_folder: Path, arguments: list[str], minutes: float | None = None
) -> list[str]:
    """Runs pytest as all processors at the same time; those on which it failed, or did not end in time.

    What a single one prints comes at once; of several, one after the other when they have ended.
    """
    end = time.monotonic() + minutes * 60 if minutes is not None else None
    running: dict[str, subprocess.Popen[bytes]] = {}
    logs = {cpu: log_folder / f"log-{cpu}.txt" for cpu in pythons}
    with ExitStack() as files:
        for cpu, python in pythons.items():
            log = files.enter_context(logs[cpu].open("w")) if len(pythons) > 1 else None
            command = [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
            running[cpu] = subprocess.Popen(
                command, cwd=sources, stdout=log, stderr=subprocess.STDOUT if log else None, start_new_session=True
            )
        failed = []
        try:
            for cpu, process in running.items():
                try:
                    status = process.wait(max(0, end - time.monotonic()) if end is not None else None)
                except subprocess.TimeoutExpired:
                    status, failure = 1, f"{cpu} (not done after {minutes:g} minutes)"
                else:
                    failure = cpu
                if status:
                    failed.append(failure)
                if len(pythons) > 1:
                    print(f"== {cpu}\n{logs[cpu].read_text(errors='replace')}", flush=True)
        finally:
            for process in running.values():
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)  # with the processes that tests have started
                    process.wait()
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="append", help=f"a processor to emulate; may be repeated ({', '.join(CPUS)})")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="what is kept (%(default)s)")
    parser.add_argument("--isa", help="compile these instruction sets only, separated by commas")
    parser.add_argument("--sources", type=Path, help="a sources.list with packages for ARM64, where apt's own has none")
    parser.add_argument("--quick", action="store_true", help="run what CI runs")
    parser.add_argument("--minutes", type=float, help="tests that run longer are stopped, and fail")
    parser.add_argument("--fetch-only", action="store_true", help="download, and do no more")
    parser.add_argument("--build-only", action="store_true", help="run no tests")
    arguments, for_pytest = parser.parse_known_args()
    require_commands()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    system = make_system(folder, arguments.sources)
    version = python_of(system).name.removeprefix("python")
    site = install_packages(folder, version)
    if arguments.fetch_only:
        return 0
    sources = folder / "sources"
    copy_sources(sources)
    take_translations(sources)
    build(sources, cross_settings(folder, system, version), arguments.isa)
    print(f"built in {sources}", flush=True)
    if arguments.build_only:
        return 0
    link_shared_models(folder)
    patterns = QUICK if arguments.quick else TESTS
    tests = for_pytest or [str(p.relative_to(sources)) for pattern in patterns for p in sorted(sources.glob(pattern))]
    if arguments.quick:
        tests += ["--isa", "best"]
    cpus = arguments.cpu or CPUS
    pythons = {cpu: emulated_python(folder, system, cpu, [sources, site]) for cpu in cpus}
    failed = run_tests(pythons, sources, folder, tests, arguments.minutes)
    print(f"failed: {', '.join(failed)}" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
