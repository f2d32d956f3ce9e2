"""Tests run from an installed wheel without the checkout: what looks into it is skipped, and says so."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.places import TESTS

OUTCOMES = {
    "test_there": "pass",
    "test_page": 'assert (ROOT / "docs" / "index.md").read_text()',
    "test_command": 'subprocess.run([sys.executable, ROOT / "tools" / "x.py"], check=True)',
    "test_folder": "subprocess.run([sys.executable, '-c', 'pass'], cwd=ROOT, check=True)",
    "test_text": 'assert str(ROOT / "examples")',
    "test_empty": "raise AssertionError('files of the checkout are parameters')",
}


@pytest.fixture
def alone(tmp_path):
    """A folder of tests, with nothing beside it, that use the checkout in several ways."""
    support = tmp_path / "tests" / "support"
    support.mkdir(parents=True)
    (support / "places.py").write_bytes((TESTS / "support" / "places.py").read_bytes())
    lines = [
        "import subprocess, sys, pytest\nfrom support.places import IN_CHECKOUT, ROOT",
        "PAGES = ROOT / 'docs'",
        "FILES = [*ROOT.glob('*')] if IN_CHECKOUT else []",
        *(f"def {name}({'file' * (name == 'test_empty')}):\n    {body}" for name, body in OUTCOMES.items()),
        "test_empty = pytest.mark.parametrize('file', FILES)(test_empty)",
    ]
    (tmp_path / "tests" / "test_some.py").write_text("\n".join(lines))
    whole = "import sys\nfrom support.places import ROOT\nsys.path.append(str(ROOT / 'tools'))\ndef test_tool(): pass\n"
    (tmp_path / "tests" / "test_whole.py").write_text(whole)
    return tmp_path


def outcomes(folder: Path) -> dict[str, str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "-q", "-c", "/dev/null", "--rootdir=."]
    environment = {"PYTHONPATH": str(folder / "tests"), "PATH": ""}
    done = subprocess.run([*command, "tests"], cwd=folder, env=environment, capture_output=True, text=True)
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    return {rest: word for word, rest in filter(lambda line: len(line) == 2, lines) if word.isupper()}


def test_only_what_needs_the_checkout_is_skipped(alone):
    found = outcomes(alone)
    assert [rest for rest, word in found.items() if word != "SKIPPED"] == ["tests/test_some.py::test_there"]
    said = "\n".join(rest for rest, word in found.items() if word == "SKIPPED")
    for path in ("/docs/index.md", "/tools/x.py", "", "/examples", "/tools"):
        assert f"the tests stand alone: the checkout{path} is not here" in said
    assert "empty parameter set" in said
