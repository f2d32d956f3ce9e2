"""The workflows in .github: what they run of others is pinned, and they have no more rights than they need."""

import re

import pytest
from support.places import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
if not WORKFLOWS:
    pytest.skip("the workflows of the repository are not here", allow_module_level=True)

PINNED = re.compile(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+")
"""By the hash of a commit, which nobody can move, with the version that people read."""


def actions(text: str) -> list[str]:
    return [line.partition("uses:")[2].strip() for line in text.splitlines() if re.match(r"\s*(- )?uses:", line)]


def test_actions_are_pinned():
    used = {(file.name, action) for file in WORKFLOWS for action in actions(file.read_text(encoding="utf-8"))}
    assert {file for file, _ in used} == {file.name for file in WORKFLOWS}, "this test no longer finds actions"
    assert [f"{file}: {action}" for file, action in sorted(used) if not PINNED.fullmatch(action)] == []
    hashes = {}
    for file, action in sorted(used):
        name, _, version = action.partition("@")
        assert hashes.setdefault(name, version) == version, f"{file} takes another version of {name} than others"


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_rights_are_given_to_single_jobs(file):
    text = file.read_text(encoding="utf-8")
    assert "\npermissions:\n  contents: read\n\n" in text
    for checkout in re.findall(r"uses: actions/checkout@.*\n((?: {8,}.*\n)*)", text):
        assert "persist-credentials: false" in checkout
