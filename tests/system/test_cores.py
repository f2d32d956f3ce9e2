"""The kinds of cores, from files as Linux has them."""

import os
from pathlib import Path

import pytest

from megengine_lite import cpu_info
from megengine_lite._core.system import processor
from megengine_lite._core.system.cores import SYSTEM_CPUS, CoreKind, arm_name, brand_of, core_kinds, fast_cores

A76, A55, UNKNOWN = 0x414FD0B1, 0x412FD050, 0x7A0F1230


def system(folder, online, registers=(), **numbers):
    """Files of cores; ``registers`` and each of ``numbers`` have one entry for each core, None for no file."""
    (folder / "online").write_text(online + "\n")
    files = {"cpu_capacity": "cpu_capacity", "khz": "cpufreq/cpuinfo_max_freq"}
    columns = {"regs/identification/midr_el1": [f"{r:#018x}" for r in registers]}
    columns |= {files[key]: values for key, values in numbers.items()}
    for name, values in columns.items():
        for cpu, value in enumerate(values):
            if value is not None:
                path = folder / f"cpu{cpu}" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{value}\n")
    return folder


@pytest.fixture
def no_list(tmp_path):
    return tmp_path / "nothing"


def test_names():
    assert (arm_name(A76), arm_name(A55)) == ("Cortex-A76", "Cortex-A55")
    assert arm_name(A76 | 0xF << 20) == "Cortex-A76"  # whatever its revision
    assert arm_name(UNKNOWN) == "ARM64 processor 0x7a:0x123"


def test_big_and_little_cores(tmp_path, no_list):
    """As on an RK3588, with one of the fast cores switched off."""
    folder = system(
        tmp_path, "0-6", [A55] * 4 + [A76] * 4, cpu_capacity=[530] * 4 + [1024] * 4, khz=[1800000] * 4 + [2400000] * 4
    )
    kinds = core_kinds("", 0, folder, no_list)
    assert kinds == (
        CoreKind("Cortex-A76", 3, 1024, 2400, (4, 5, 6)),
        CoreKind("Cortex-A55", 4, 530, 1800, (0, 1, 2, 3)),
    )
    assert brand_of(kinds) == "3 Cortex-A76 + 4 Cortex-A55"


def test_cores_of_one_name_and_two_clocks(tmp_path, no_list):
    folder = system(tmp_path, "0,2-3", [A76] * 4, khz=[2000000, 0, 2000000, 2600000])
    kinds = core_kinds("", 0, folder, no_list)
    assert [(k.max_mhz, k.cpus) for k in kinds] == [(2600, (3,)), (2000, (0, 2))]
    assert brand_of(kinds) == "Cortex-A76"


@pytest.mark.parametrize(
    "capacities, fast",
    [
        ([530, 530, 1024, 1024], (2, 3)),
        ([250, 250, 870, 870, 1024], (4, 2, 3)),  # of three kinds two
        ([250, 1024, 1024, 250], (1, 2)),
        ([1024, 1024], ()),
        ([1000, 1024], ()),
        ([None, None], ()),
        ([], ()),
    ],
)
def test_fast_cores(capacities, fast, tmp_path, no_list):
    folder = system(tmp_path, ",".join(map(str, range(len(capacities)))), cpu_capacity=capacities)
    assert fast_cores(core_kinds("", A76, folder, no_list)) == fast


LIST = """processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd03

Hardware\t: BCM2835
"""


def test_list_of_cores(tmp_path):
    """Older systems have no files with the register."""
    info = tmp_path / "cpuinfo"
    info.write_text(LIST)
    kinds = core_kinds("", 0, system(tmp_path, "0-1"), info)
    assert [(k.name, k.count) for k in kinds] == [("Cortex-A72", 1), ("Cortex-A53", 1)]


def test_system_that_says_little(tmp_path, no_list):
    folder = system(tmp_path, "0-1", khz=["fast", None])
    assert core_kinds("Big Chip", 0, folder, no_list) == (CoreKind("Big Chip", 2, 0, 0, (0, 1)),)
    assert core_kinds("Big Chip", A76, folder, no_list)[0].name == "Cortex-A76"
    for online in ("", "x-y"):
        assert core_kinds("Big Chip", A76, system(tmp_path, online), no_list) == ()
    assert core_kinds("Big Chip", A76, no_list, no_list) == ()
    assert brand_of(()) == ""


def test_cores_of_this_machine():
    info = cpu_info()
    assert info["brand"] == processor.brand()
    assert all(kind["count"] == len(kind["cpus"]) > 0 for kind in info["cores"])
    if Path(SYSTEM_CPUS, "online").exists():
        assert len({cpu for kind in info["cores"] for cpu in kind["cpus"]}) == os.sysconf("SC_NPROCESSORS_ONLN")
    info["cores"].append({})
    assert {} not in cpu_info()["cores"]
