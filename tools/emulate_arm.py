"""Builds the package for ARM64 on an x86-64 machine and runs its tests in an emulator.

    python tools/emulate_arm.py                                    # kernels and networks, as three processors
    python tools/emulate_arm.py tests/kernels/test_kernels_gemm.py         # what follows is for pytest
    python tools/emulate_arm.py --cpu neoverse-n1 tests -k int8
    python tools/emulate_arm.py --build-only --folder /tmp/arm     # compile, and say where

Processors are named as qemu does: ``cortex-a53`` has the vectors of every ARM64, ``neoverse-n1`` multiplies quads of
bytes (dotprod), ``max`` has all that the emulator knows (i8mm).

A folder keeps what takes long: a Debian for ARM64 with its Python, the packages that tests need, and the compiled
sources; what has not changed is not made again. Needed are debootstrap, qemu-user-static and a cross compiler
(g++-aarch64-linux-gnu), and Python 3.11. Everything is downloaded from where this machine's apt and pip get theirs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sanitize import ROOT, copy_sources

TRIPLE = "aarch64-linux-gnu"
EMULATOR = "qemu-aarch64-static"
CPUS = ("cortex-a53", "neoverse-n1", "max")
COMMANDS = {
    "debootstrap": "debootstrap",
    EMULATOR: "qemu-user-static",
    f"{TRIPLE}-gcc": "g++-aarch64-linux-gnu",
    f"{TRIPLE}-g++": "g++-aarch64-linux-gnu",
}
TESTS = (
    "tests/kernels/test_kernels_*.py",
    "tests/cpu/test_isa.py",
    "tests/cpu/test_lower_quantized.py",
    "tests/runtime/test_session.py",
)
NETWORKS = "tests/shared_models/test_engine.py"  # runs where the shared model collection lies beside the checkout
WHEELS_FOR = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64")


def require_commands() -> None:
    missing = sorted({package for command, package in COMMANDS.items() if shutil.which(command) is None})
    if missing:
        sys.exit(f"emulate_arm.py needs commands that are not here; try: apt-get install {' '.join(missing)}")


def default_folder() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "megengine_lite" / "arm64"


# ---- the system ------------------------------------------------------------------------------------------------------


def release() -> str:
    """The name of this machine's Debian release."""
    fields = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    return fields.get("VERSION_CODENAME", "").strip('"')


def mirror(suite: str) -> str:
    """Where this machine gets packages of a release from."""
    form = "$(CREATED_BY) $(CODENAME) $(COMPONENT) $(REPO_URI)"
    listed = subprocess.run(["apt-get", "indextargets", "--format", form], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        kind, name, component, address = line.split(maxsplit=3)
        if (kind, name, component) == ("Packages", suite, "main"):
            return address
    sys.exit(f"this machine's apt has no packages of {suite!r}; name others by --suite and --mirror")


def make_system(folder: Path, suite: str, address: str) -> Path:
    """A Debian for ARM64 in a folder, unpacked and not configured: enough for its Python."""
    system = folder / f"system-{suite}"
    done = system / ".unpacked"
    if not done.exists():
        shutil.rmtree(system, ignore_errors=True)
        options = ["--arch=arm64", "--foreign", "--variant=minbase", "--include=python3,python3-dev"]
        subprocess.run(["debootstrap", *options, suite, str(system), address], check=True)
        for package in sorted((system / "var" / "cache" / "apt" / "archives").glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", str(package), str(system)], check=True)
            package.unlink()
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
    # mypy is a matter of the machine that compiles
    wanted = [*project["dependencies"], *(p for p in project["optional-dependencies"]["test"] if p != "mypy")]
    list_file = site / ".packages"
    if not list_file.exists() or list_file.read_text() != "\n".join(wanted):
        shutil.rmtree(site, ignore_errors=True)
        options = ["--only-binary=:all:", f"--python-version={version}", *(f"--platform={p}" for p in WHEELS_FOR)]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", *options, f"--target={site}", *wanted], check=True
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


def link_shared_models(folder: Path) -> bool:
    """Puts the shared model collection, if it is here, where tests look for it; says whether it is."""
    shared, link = ROOT.parent / "shared", folder / "shared"
    if shared.is_dir() and not link.exists():
        link.symlink_to(shared.resolve())
    return link.exists()


def build(sources: Path, environment: dict[str, str], isa: str | None) -> None:
    if isa:
        environment = {**environment, "MEGENGINE_LITE_BUILD_ISA": isa}
    subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"], cwd=sources, env=environment, check=True
    )


# ---- tests -----------------------------------------------------------------------------------------------------------


def emulated_python(folder: Path, system: Path, cpu: str, path: list[Path]) -> Path:
    """A command that is the system's Python in the emulator, and stays so in the processes that it starts."""
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
    program = f'{shutil.which(EMULATOR)} -cpu {cpu} -L "{system}" "{python_of(system)}"'
    command.write_text(
        f"#!/bin/sh\n"
        f'export PYTHONPATH="{search}${{PYTHONPATH:+:$PYTHONPATH}}" EMULATED_PYTHON="{command}"\n'
        f"export PYTHONDONTWRITEBYTECODE=1 CI=1  # with CI, hypothesis has no limits of time\n"
        f'exec {program} "$@"\n'
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    return command


def run_tests(python: Path, sources: Path, arguments: list[str]) -> int:
    """Exit status of pytest."""
    return subprocess.run([python, "-m", "pytest", "-p", "no:cacheprovider", *arguments], cwd=sources).returncode


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cpu", action="append", help=f"a processor to emulate; may be repeated ({', '.join(CPUS)})")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="what is kept (%(default)s)")
    parser.add_argument("--isa", help="compile these instruction sets only, separated by commas")
    parser.add_argument("--suite", default=release(), help="the Debian release (%(default)s)")
    parser.add_argument("--mirror", help="where its packages are; by default where this machine has its own from")
    parser.add_argument("--build-only", action="store_true", help="run no tests")
    arguments, for_pytest = parser.parse_known_args()
    require_commands()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    system = make_system(folder, arguments.suite, arguments.mirror or mirror(arguments.suite))
    version = python_of(system).name.removeprefix("python")
    site = install_packages(folder, version)
    sources = folder / "sources"
    copy_sources(sources)
    build(sources, cross_settings(folder, system, version), arguments.isa)
    print(f"built in {sources}", flush=True)
    if arguments.build_only:
        return 0
    patterns = (*TESTS, NETWORKS) if link_shared_models(folder) else TESTS
    tests = for_pytest or [str(p.relative_to(sources)) for pattern in patterns for p in sorted(sources.glob(pattern))]
    failed = []
    for cpu in arguments.cpu or CPUS:
        print(f"== {cpu}", flush=True)
        if run_tests(emulated_python(folder, system, cpu, [sources, site]), sources, tests):
            failed.append(cpu)
    print(f"failed: {', '.join(failed)}" if failed else "passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
