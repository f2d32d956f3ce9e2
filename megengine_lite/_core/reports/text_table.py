"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from megengine_lite.errors import printable


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], right: str = "") -> str:
    """Columns of text; ``right`` has one character per column, ``r`` for those that are aligned right."""
    cells = [[one_line(str(c)) for c in row] for row in ([*header], *rows)]
    widths = [max(len(row[k]) for row in cells) for k in range(len(header))]
    sides = right.ljust(len(header), "l")
    lines = [
        "  ".join(c.rjust(w) if s == "r" else c.ljust(w) for c, w, s in zip(row, widths, sides, strict=True)).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def one_line(text: str) -> str:
    """The text as it is printed, with line breaks and tabs escaped, too: :func:`printable` leaves these."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))
