"""Limits of control groups: those of the process's own group, of all groups around it, of both versions."""

import os

import pytest

from megengine_lite._core.system import memory_limit
from megengine_lite._core.system.control_groups import (
    memory_left_of_groups,
    memory_of_groups,
    processors_of_groups,
    within_quota,
)

TMPFS = "24 1 0:22 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755"
V2 = "25 24 0:23 / /sys/fs/cgroup rw,nosuid,nodev shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "26 24 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "27 24 0:25 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"
UNIFIED = "28 24 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"


def tree(folder, groups, mounts, settings):
    """A folder with /proc/self of a process and the files of control groups, by their paths below /sys/fs/cgroup."""
    proc = folder / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text("\n".join(groups) + "\n")
    (proc / "mountinfo").write_text("\n".join(mounts) + "\n")
    for name, value in settings.items():
        file = folder / "sys" / "fs" / "cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    return str(folder)


CASES = {
    "no groups": ([], [], {}, None, None),
    "nothing is limited": (["0::/a"], [V2], {"a/cpu.max": "max 100000", "a/memory.max": "max"}, None, None),
    "the root of a container": (["0::/"], [V2], {"cpu.max": "150000 100000", "memory.max": 1000}, 1.5, 1000),
    "a service": (
        ["0::/system.slice/x.service"],
        [V2],
        {"system.slice/x.service/cpu.max": "50000 100000", "system.slice/x.service/memory.max": 2000},
        0.5,
        2000,
    ),
    "groups around": (
        ["0::/kubepods/pod/box"],
        [V2],
        {
            "kubepods/cpu.max": "800000 100000",
            "kubepods/pod/cpu.max": "200000 100000",
            "kubepods/pod/box/cpu.max": "max 100000",
            "kubepods/memory.max": 100,
            "kubepods/pod/memory.max": "max",
            "kubepods/pod/box/memory.max": 300,
        },
        2.0,
        100,
    ),
    "groups beside do not count": (["0::/a/b"], [V2], {"a/c/cpu.max": "1000 100000", "a/bc/memory.max": 1}, None, None),
    "version 1": (
        ["4:memory:/docker/7", "3:cpu,cpuacct:/docker/7"],
        [TMPFS, V1_CPU, V1_MEMORY],
        {
            "cpu,cpuacct/cpu.cfs_quota_us": -1,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/docker/cpu.cfs_quota_us": 300000,
            "cpu,cpuacct/docker/cpu.cfs_period_us": 100000,
            "cpu,cpuacct/docker/7/cpu.cfs_quota_us": 25000,
            "cpu,cpuacct/docker/7/cpu.cfs_period_us": 50000,
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/docker/7/memory.limit_in_bytes": 4096,
        },
        0.5,
        4096,
    ),
    "version 1, a container that sees its own group as the outermost": (
        ["4:memory:/docker/7/inner", "3:cpu:/docker/7"],
        [V1_CPU.replace(" / /sys", " /docker/7 /sys"), V1_MEMORY.replace(" / /sys", " /docker/7 /sys")],
        {
            "cpu,cpuacct/cpu.cfs_quota_us": 200000,
            "cpu,cpuacct/cpu.cfs_period_us": 100000,
            "memory/memory.limit_in_bytes": 9000,
            "memory/inner/memory.limit_in_bytes": 5000,
            "memory/docker/7/memory.limit_in_bytes": 1,
        },
        2.0,
        5000,
    ),
    "both versions": (
        ["4:memory:/m", "0::/u"],
        [TMPFS, V1_MEMORY, UNIFIED],
        {"memory/m/memory.limit_in_bytes": 7000, "unified/u/cpu.max": "100000 100000", "memory/u/cpu.max": "1 100000"},
        1.0,
        7000,
    ),
    "a group outside of the namespace": (["0::/../other"], [V2], {"cpu.max": "100000 50000"}, 2.0, None),
    "names with spaces, colons and commas": (
        ["0::/a b:c,d"],
        [V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/x\\040y")],
        {"x y/a b:c,d/cpu.max": "100000 100000"},
        1.0,
        None,
    ),
    "files that say nothing": (
        ["0::/a", "nonsense", "::", ""],
        [V2, "short", "1 2 3 - cgroup2", ""],
        {"a/cpu.max": "", "cpu.max": "x y", "a/memory.max": "-5", "memory.max": ""},
        None,
        None,
    ),
    "a period of nothing": (["0::/"], [V2], {"cpu.max": "1000 0"}, None, None),
}


@pytest.mark.parametrize("case", CASES)
def test_least_limit_of_all_groups(case, tmp_path):
    groups, mounts, settings, processors, memory = CASES[case]
    root = tree(tmp_path, groups, mounts, settings)
    assert (processors_of_groups(root), memory_of_groups(root)) == (processors, memory)


STAT = "anon 5\nfile 700\ninactive_file 300\nactive_file 400\ntotal_inactive_file 350"
LEFT = {
    "no limit": ([V2], {"a/memory.max": "max", "a/memory.current": 900}, None),
    "nothing is known of what is taken": ([V2], {"a/memory.max": 1000}, None),
    "a limit": ([V2], {"a/memory.max": 1000, "a/memory.current": 900}, 100),
    "files that the system can drop": (
        [V2], {"a/memory.max": 1000, "a/memory.current": 900, "a/memory.stat": STAT}, 400,
    ),
    "more than the limit": ([V2], {"a/memory.max": 1000, "a/memory.current": 1200}, 0),
    "a group around, which others fill": (
        [V2],
        {"a/memory.max": 2000, "a/memory.current": 1990, "a/b/memory.max": 1000, "a/b/memory.current": 100},
        10,
    ),
    "version 1": (
        [V1_MEMORY],
        {
            "memory/memory.limit_in_bytes": 9223372036854771712,
            "memory/memory.usage_in_bytes": 10**6,
            "memory/a/b/memory.limit_in_bytes": 1000,
            "memory/a/b/memory.usage_in_bytes": 900,
            "memory/a/b/memory.stat": STAT,
        },
        450,
    ),
    "a file that is damaged": (
        [V2], {"a/memory.max": 1000, "a/memory.current": 900, "a/memory.stat": "inactive_file"}, 100,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_memory_that_groups_leave(case, tmp_path):
    mounts, settings, left = LEFT[case]
    group = "4:memory:/a/b" if mounts == [V1_MEMORY] else "0::/a/b"
    assert memory_left_of_groups(tree(tmp_path, [group], mounts, settings)) == left


@pytest.mark.parametrize(
    ("quota", "processors"), [("max", 4), ("400000", 4), ("399999", 3), ("150000", 1), ("100000", 1), ("1000", 1)]
)
def test_threads_within_a_quota(quota, processors, tmp_path):
    assert within_quota(4, tree(tmp_path, ["0::/a"], [V2], {"a/cpu.max": f"{quota} 100000"})) == processors


def test_this_process():
    """What the system says here is read; a limit of memory is not more than the machine has."""
    quota = processors_of_groups()
    assert quota is None or quota > 0
    memory_limit.memory_limit.cache_clear()
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_limit.memory_limit() == min(machine, memory_of_groups() or machine)


def test_a_group_limits_what_a_model_may_ask_for(tmp_path, monkeypatch):
    root = tree(tmp_path, ["0::/a/b"], [V2], {"a/memory.max": 1 << 27, "a/b/memory.max": "max"})
    monkeypatch.setattr(memory_limit, "memory_of_groups", lambda: memory_of_groups(root))
    memory_limit.memory_limit.cache_clear()
    try:
        assert memory_limit.memory_limit() == 1 << 27
    finally:
        memory_limit.memory_limit.cache_clear()
