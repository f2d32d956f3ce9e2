"""The package on systems that lack functions of Linux: files are read and written, commands run."""

import subprocess
import sys

import pytest
from support.api_samples import DIGITS

WITHOUT = """
import os
if {system!r} == "Windows":
    os.supports_dir_fd.clear()  # with it shutil opens folders by what is taken away
import logging.handlers, subprocess, sys, tempfile
import numpy  # which asks for some itself
for name in {functions!r}:
    if hasattr(os, name):
        delattr(os, name)
sys.modules.update(dict.fromkeys({modules!r}))
import megengine_lite
from megengine_lite.cli import main
"""
LACKING = {
    "macOS": (
        "sched_getaffinity sched_setaffinity sched_setscheduler memfd_create posix_fadvise copy_file_range splice",
        "spwd",
    ),
    "Windows": (
        "sched_getaffinity sched_setaffinity fchmod fchown chown sysconf uname getuid geteuid getgid getegid pread "
        "pwrite preadv pwritev register_at_fork fork mkfifo O_NOFOLLOW O_CLOEXEC O_NONBLOCK O_DIRECTORY statvfs "
        "fdatasync killpg",
        "fcntl resource pwd grp termios",
    ),
}
REPLACES_FILES = """
for _ in range(2):
    for command in (["prepare", model, "-o", "prepared"], ["report", model, "-o", "report.html"]):
        assert not main(command), command
    megengine_lite.LiteGlobal.set_persistent_cache("cache", always_sync=True)
    network = megengine_lite.LiteNetwork()
    network.load(model)
    network.set_network_algo_policy(megengine_lite.LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
    network.forward()
    network.wait()
    megengine_lite.LiteGlobal.dump_persistent_cache("cache")
print(sorted(os.listdir()))
"""
LOADS = """
megengine_lite.load(model, share_weights=True)
for command in ("info", "bench", "profile", "verify", "doctor"):
    assert not main([command, *([model] if command != "doctor" else [])]), command
"""
PINS = """
assert main(["bench", model, "--multi-thread-core-ids", "0"]) == 1
"""


def run_on(system: str, code: str, folder) -> subprocess.CompletedProcess[str]:
    functions, modules = map(str.split, LACKING[system])
    program = f"{WITHOUT.format(system=system, functions=functions, modules=modules)}model = {str(DIGITS)!r}\n{code}"
    path = [str(DIGITS.parents[2])]
    code = f"import sys; sys.path[:0] = {path}\n{program}"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize("system", LACKING)
@pytest.mark.parametrize("code", [REPLACES_FILES, LOADS], ids=["replaces files", "loads"])
def test_commands_run(code, system, tmp_path):
    done = run_on(system, code, tmp_path)
    assert done.returncode == 0, done.stderr
    if code is REPLACES_FILES:
        assert {*done.stdout.splitlines()[-1][1:-1].split(", ")} >= {"'cache'", "'prepared'", "'report.html'"}


@pytest.mark.parametrize("system", LACKING)
def test_binding_to_cores_is_refused(system, tmp_path):
    done = run_on(system, PINS, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "megengine-lite: error: cannot run on the cores '0': this system binds no processes to cores\n"
    )
