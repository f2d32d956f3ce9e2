"""The examples of the documentation pages run, and what the pages say of flags and files is so."""

import doctest
import re
from pathlib import Path

import pytest

from megengine_lite._cli.flags import OPTION_FLAGS, REFUSED_FLAGS
from megengine_lite.cli import COMMANDS, build_parser

ROOT = Path(__file__).parent.parent
PAGES = sorted([*(ROOT / "docs").glob("**/*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"])


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_run(page, monkeypatch):
    monkeypatch.chdir(Path(__file__).parent / "models" / "extern")
    assert doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS).failed == 0


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_every_command_is_described():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for command in COMMANDS:
        assert re.search(rf"^\| `{command}\b", text, re.M), command


def test_every_flag_of_load_and_run_is_in_the_table():
    text = (ROOT / "docs" / "command-line.md").read_text()
    for flag in (*OPTION_FLAGS, *REFUSED_FLAGS):
        assert f"`{flag.replace('-', '_')}`" in text, flag


def test_flags_in_the_table_exist():
    """Each name of the left column is a flag of `run` or `bench`, or the right column says where it went."""
    text = (ROOT / "docs" / "command-line.md").read_text().partition("## Flags of load_and_run")[2]
    parser = build_parser()
    commands = next(a for a in parser._actions if a.dest == "command").choices
    known = {o.lstrip("-") for c in ("run", "bench") for a in commands[c]._actions for o in a.option_strings}
    for left, right in re.findall(r"^\| (`[^|]*) \| ([^|]*) \|$", text, re.M):
        if right.startswith(("refused", "not there", "the command", "`run")):
            continue
        for name in re.findall(r"`(\w+)`", left):
            assert name.replace("_", "-") in known, name
