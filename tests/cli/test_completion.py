"""Completion of commands and flags, in real shells where they are installed."""

import shutil
import subprocess

import pytest

from megengine_lite.cli import COMMANDS

# What is typed, and what completion offers.
CASES = [
    (["con"], ["convert"]),
    (["profile", "--form", ""], ["chrome", "megengine"]),
    (["profile", "--format", ""], ["json", "md"]),
    (["bench", "--thr"], ["--thread", "--threads"]),
    (["bench", "--str"], ["--streams"]),
    (["bench", "--du"], ["--dump-config", "--duration"]),
    (["info", "--gr"], ["--graph"]),
    (["completion", ""], ["bash", "fish", "zsh"]),
]


@pytest.fixture(params=["bash", "zsh", "fish"])
def script(request, run_json, tmp_path):
    path = tmp_path / f"completion.{request.param}"
    path.write_text(run_json("completion", request.param)["script"])
    return path


def test_scripts_have_all_commands_and_are_valid(script):
    text = script.read_text()
    assert all(name in text for name in COMMANDS)
    shell = shutil.which(script.suffix[1:])
    if shell is not None:
        done = subprocess.run([shell, "-n", str(script)], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("typed", "offered"), CASES, ids=lambda v: " ".join(v))
def test_bash_completes(typed, offered, run_json, tmp_path):
    (tmp_path / "script").write_text(run_json("completion", "bash")["script"])
    program = 'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _megengine_lite; echo "${COMPREPLY[@]}"'
    words = ["bash", "-c", program, "bash", str(tmp_path / "script"), "megengine-lite", *typed]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    assert sorted(found) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered"), CASES, ids=lambda v: " ".join(v))
def test_fish_completes(typed, offered, run_json, tmp_path):
    (tmp_path / "script").write_text(run_json("completion", "fish")["script"])
    program = f"source {tmp_path / 'script'}; complete -C 'megengine-lite {' '.join(typed)}'"
    found = subprocess.run(["fish", "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.partition("\t")[0] for line in found) == offered


def test_an_unknown_shell_is_an_error(error_of):
    assert "'tcsh'" in error_of("completion", "tcsh", status=2)
