"""Show what this machine is and has, test the kernels, and say what is worth changing.

Issue forms ask for the output. The test runs the bundled model on every instruction set that works here, and compares
with stored numbers; it takes a few seconds.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from statistics import fmean
from typing import Any

from megengine_lite._cli import display
from megengine_lite.errors import DeviceError, InternalError

USAGE = "[flags]"

PACKAGES = ("numpy", "pycryptodome", "pillow", "onnx", "onnxruntime")
VARIABLES = ("MEGENGINE_LITE_ISA", "MEGENGINE_LITE_DEBUG", "OMP_NUM_THREADS", "LC_ALL", "PYTHONPATH")
_LARGEST_DIFFERENCE = 1e-5
_ANY = "any"  # in the place of a name, where no instruction set can be used
_SECONDS = 60
_DEMO = """
import os, sys
sys.path[:] = sys.argv.pop().split(os.pathsep)
from megengine_lite.cli import main
sys.exit(main())
"""
"""A program that finds modules where this process does: the current folder may hold another megengine_lite."""


def add(parser: ArgumentParser) -> None:
    """No arguments of its own."""


def execute(args: Namespace) -> dict[str, Any]:
    """Looks, tests, and collects advice."""
    from megengine_lite import cpu_info

    info = cpu_info()
    processors = _processors()
    tests = {name: _test(name) for name in _sets(info)} if info["chosen"] else {_ANY: _no_set()}
    result = {
        "versions": _versions(),
        "processor": info,
        "processors": processors,
        "memory": _memory(),
        "environment": {name: os.environ[name] for name in VARIABLES if name in os.environ},
        "tests": tests,
        "advice": [],
        "failed": any(not t["passed"] for t in tests.values()),
    }
    result["advice"] = _advice(result)
    return result


def _versions() -> dict[str, str]:
    from megengine_lite import __version__

    found = {
        "megengine_lite": __version__,
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": platform.platform(),
    }
    libc = " ".join(platform.libc_ver())
    if libc.strip():
        found["libc"] = libc
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _sets(info: dict[str, Any]) -> list[str]:
    """The instruction sets that run here, the chosen one first."""
    chosen = info["chosen"]
    return [chosen, *(name for name, why in info["refused"].items() if "is better" in why)]


def _no_set() -> dict[str, Any]:
    """The result of a test where no instruction set can be used."""
    from megengine_lite._core.cpu.kernel_set import instruction_set

    try:
        name = instruction_set().name
    except DeviceError as error:
        return {"passed": False, "error": str(error)}
    raise InternalError(f"{name} can be used, but is not chosen")


def _processors() -> dict[str, Any]:
    """How many there are for this process, and how fast they may be."""
    from megengine_lite._api.run_settings import RunSettings
    from megengine_lite._core.runtime.devices import busy_processors
    from megengine_lite._core.system.control_groups import processors_of_groups

    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    governors = {_read(f"/sys/devices/system/cpu/cpu{i}/cpufreq/scaling_governor") for i in usable} - {""}
    return {
        "in_machine": os.cpu_count(),
        "usable": usable,
        "quota": processors_of_groups(),
        "governors": sorted(governors),
        "mhz": _frequency(usable),
        "default_threads": {"load": busy_processors(), "others": RunSettings().threads},
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def _frequency(usable: list[int]) -> dict[str, float]:
    """In MHz: the mean of now, and the least and most that the system would give the processors."""
    scales = {"now": "scaling_cur_freq", "least": "scaling_min_freq", "most": "scaling_max_freq"}
    found = {
        name: [
            int(text) / 1e3
            for i in usable
            if (text := _read(f"/sys/devices/system/cpu/cpu{i}/cpufreq/{file}")).isdecimal()
        ]
        for name, file in scales.items()
    }
    if not found["now"]:  # virtual machines say it here
        lines = [line.partition(":") for line in _read("/proc/cpuinfo").splitlines()]
        found["now"] = [float(value) for name, _, value in lines if name.strip() == "cpu MHz"]
    combine: dict[str, Callable[[list[float]], float]] = {"now": fmean, "least": min, "most": max}
    return {name: round(combine[name](values), 1) for name, values in found.items() if values}


def _memory() -> dict[str, int]:
    """How much this process can have, and how much of it is free now: of the machine and of its control groups."""
    from megengine_lite._core.system.control_groups import memory_left_of_groups
    from megengine_lite._core.system.memory_limit import memory_limit

    left = [memory_left_of_groups()]
    left += [int(s.split()[1]) * 1024 for s in _read("/proc/meminfo").splitlines() if s.startswith("MemAvailable:")]
    known = [nbytes for nbytes in left if nbytes is not None]
    return {"limit_bytes": memory_limit(), **({"available_bytes": min(known)} if known else {})}


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _test(name: str) -> dict[str, Any]:
    """Runs the bundled model on an instruction set, in a process of its own because a set is chosen once."""
    words = [sys.executable, "-c", _DEMO, "demo", "--json", os.pathsep.join(sys.path)]
    environment = {**os.environ, "MEGENGINE_LITE_ISA": name, "MEGENGINE_LITE_DEBUG": "0"}
    try:
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        return {"passed": False, "error": f"no answer within {_SECONDS} seconds"}
    if done.returncode:
        says = done.stderr.strip().splitlines()
        return {"passed": False, "error": says[-1] if says else f"the process ended with status {done.returncode}"}
    found = json.loads(done.stdout)
    difference = found["largest_difference"]
    return {
        "passed": isinstance(difference, float) and difference <= _LARGEST_DIFFERENCE,
        "largest_difference": difference,
        "image_ms": found["time_ms"]["p50"],
    }


def _advice(result: dict[str, Any]) -> list[str]:
    found = []
    processors, quota = result["processors"], result["processors"]["quota"]
    usable = len(processors["usable"])
    for name, test in result["tests"].items():
        if not test["passed"] and name != _ANY:
            found.append(f"the kernels of {name} do not pass the test: please report this output")
    if quota is not None and quota < usable:
        most = f"more threads than {processors['default_threads']['load']}"
        then = f"{'runs' if quota < 1 else most} stand still for part of it"
        found.append(f"control groups give this process the time of {quota:.3g} of its {usable} processors: {then}")
    if usable < (processors["in_machine"] or usable):
        found.append(f"this process may use {usable} of {processors['in_machine']} processors")
    if (load := processors["load"]) and load > usable / 2:
        found.append(f"other programs are busy (load {load:.1f}): measured times will be too long")
    if "powersave" in processors["governors"]:
        found.append("the processors save power (governor powersave): first runs are slow")
    if forced := result["environment"].get("MEGENGINE_LITE_ISA"):
        found.append(f"MEGENGINE_LITE_ISA={forced} decides which kernels run")
    memory = result["memory"]
    if memory.get("available_bytes", 1 << 40) < 1 << 29:
        found.append(f"little memory is free: {display.bytes_text(memory['available_bytes'])}")
    return found


def _frequency_text(mhz: dict[str, float]) -> str:
    now = f"{mhz['now']:.0f} MHz now" if "now" in mhz else "not known"
    return f"{now}, {mhz['least']:.0f} to {mhz['most']:.0f} allowed" if {"least", "most"} <= set(mhz) else now


def show(result: dict[str, Any]) -> None:
    """Prints a line per fact, the tests, and the advice."""
    info, processors, memory = result["processor"], result["processors"], result["memory"]
    quota, threads = processors["quota"], processors["default_threads"]
    rows = [
        *result["versions"].items(),
        ("processor", info["brand"]),
        ("features", " ".join(info["features"])),
        ("kernels", f"{info['chosen']} ({info['why']})"),
        *((f"not {name}", why) for name, why in info["refused"].items()),
        ("processors", f"{len(processors['usable'])} usable of {processors['in_machine']}"),
        ("quota", "no limit" if quota is None else f"{quota:g} processors"),
        (
            "threads",
            f"{threads['load']} in load(), {threads['others']} in LiteNetwork and commands, unless told otherwise",
        ),
        ("frequency", _frequency_text(processors["mhz"])),
        ("governor", ", ".join(processors["governors"]) or "not known"),
        ("memory", ", ".join(f"{display.bytes_text(n)} {k.partition('_')[0]}" for k, n in memory.items())),
        *result["environment"].items(),
    ]
    for name, test in result["tests"].items():
        if "error" in test:
            text = test["error"]
        else:
            text = f"largest difference {test['largest_difference']:.1e}, {test['image_ms'] * 1e3:.0f} µs an image"
        rows.append((f"test {name}", f"{'passed' if test['passed'] else 'FAILED'}: {text}"))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        display.print_line(f"{name:{width}}  {value}")
    for text in result["advice"]:
        display.print_line(f"! {text}")
