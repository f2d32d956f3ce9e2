"""The pages of the documentation, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from support.places import ROOT

DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.glob("**/*.md"), *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))])


class Block(NamedTuple):
    """A block between three backticks."""

    language: str
    text: str
    begin: int
    """Where the text begins in the page."""


def blocks_of(page: Path, *languages: str) -> list[Block]:
    """The blocks of a page in their order: of some languages, or all."""
    found = re.finditer(r"^( *)```([^\n`]*)\n(.*?)^\1```$", page.read_text(), re.M | re.S)
    blocks = [Block(m[2], m[3], m.start(3)) for m in found]
    return [b for b in blocks if not languages or b.language in languages]


def id_of(page: Path) -> str:
    """The name of a page in the names of tests."""
    return page.relative_to(ROOT).as_posix()
