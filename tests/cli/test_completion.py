"""Completion of commands and flags, in real shells where they are installed."""

import os
import pty
import re
import select
import shutil
import subprocess
import time

import pytest
from support.processes import LIMIT

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
    (["run", "--isa", "ba"], ["base"]),
    (["encrypt", "--method", "AES_"], ["AES_256_GCM", "AES_default"]),
    (["decrypt", "--method", "R"], ["RC4_default"]),
    (["report", "--decrypt", "S"], ["SIMPLE_FAST_RC4_default"]),
    (["pack", "--model-method", "R"], ["RC4_default"]),
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


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["info", "my"], ["my model.mge", "my*model.mge"]),
        (["info", "it's"], ["it's $HOME.onnx"]),
        (["report", "m.mge", "--format", "=", "j"], ["json"]),
        (["report", "m.mge", "--format", "="], ["html", "json", "md"]),
    ],
    ids=lambda v: " ".join(v),
)
def test_bash_completes_names_of_files_and_values_behind_an_equals_sign(typed, offered, run_json, tmp_path):
    for name in ("my model.mge", "my*model.mge", "it's $HOME.onnx"):
        (tmp_path / name).touch()
    (tmp_path / "script").write_text(run_json("completion", "bash")["script"])
    program = (
        'source ./script; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _megengine_lite; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    words = ["bash", "-c", program, "bash", "megengine-lite", *typed]
    found = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path).stdout.splitlines()
    assert sorted(found) == sorted(offered)


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
@pytest.mark.parametrize(("typed", "offered"), CASES, ids=lambda v: " ".join(v))
def test_fish_completes(typed, offered, run_json, tmp_path):
    (tmp_path / "script").write_text(run_json("completion", "fish")["script"])
    program = f"source {tmp_path / 'script'}; complete -C 'megengine-lite {' '.join(typed)}'"
    found = subprocess.run(["fish", "-c", program], capture_output=True, text=True, check=True).stdout.splitlines()
    assert sorted(line.partition("\t")[0] for line in found) == offered


# Completion in zsh only works where somebody types. What it offers is printed on its way to the list.
IN_ZSH = """PS1=; unsetopt zle_bracketed_paste; fpath=({folder} $fpath); autoload -Uz compinit; compinit -u -D
{also}
compadd() {{
    if [[ ${{@[1,(i)(-|--)]}} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return; fi
    local -a offers; builtin compadd -O offers "$@"; print -l -- OFFER=$^offers; builtin compadd "$@"
}}
echo REA''DY
"""


def typed_in_zsh(folder, line, also="") -> str:
    """What a terminal shows when a line and Tab are typed."""
    terminal, inner = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-f", "-i"], stdin=inner, stdout=inner, stderr=inner, start_new_session=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb"},
    )  # fmt: skip
    os.close(inner)

    def until(mark: str) -> str:
        shown, end = "", time.monotonic() + LIMIT
        while mark not in shown:
            assert time.monotonic() < end, shown
            if select.select([terminal], [], [], 1)[0]:
                shown += os.read(terminal, 65536).decode()
        return shown

    try:
        os.write(terminal, IN_ZSH.format(folder=folder, also=also).encode())
        until("READY")
        os.write(terminal, f"{line}\t".encode())
        begin = until("OFFER=")
        os.write(terminal, b"\x15echo DO''NE\n")
        return begin + until("DONE")
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
@pytest.mark.parametrize(("typed", "offered"), CASES, ids=lambda v: " ".join(v))
def test_zsh_completes(typed, offered, run_json, tmp_path):
    (tmp_path / "_megengine-lite").write_text(run_json("completion", "zsh")["script"])
    shown = typed_in_zsh(tmp_path, f"megengine-lite {' '.join(typed)}")
    assert sorted(re.findall(r"OFFER=([^\r\n]*)", shown)) == offered


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_completes_after_the_script_is_sourced(run_json, tmp_path):
    (tmp_path / "script").write_text(run_json("completion", "zsh")["script"])
    for how in ("source {}", "source <(cat {})", 'eval "$(cat {})"'):
        shown = typed_in_zsh(tmp_path, "megengine-lite inf", how.format(tmp_path / "script"))
        assert re.findall(r"OFFER=([^\r\n]*)", shown) == ["info"], how


def test_an_unknown_shell_is_an_error(error_of):
    assert "'tcsh'" in error_of("completion", "tcsh", status=2)
