"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from megengine_lite.errors import printable

MOST_WIDTH = 80
"""Of a column: names of exporters have room, and one endless name does not make all lines as long."""
MOST_AT_END = 160
"""Of a name in the last column of text that a notebook may show, where an endless one makes the page as wide."""


def table(rows: Iterable[Sequence[Any]], header: Sequence[str], right: str = "") -> str:
    """Columns of text; ``right`` has one character per column, ``r`` for those that are aligned right.

    Text of more than ``MOST_WIDTH`` characters is cut in its middle, except in the last column, which nothing follows.
    """
    last = len(header) - 1
    cells = [
        [text if k == last else shortened(text) for k, text in enumerate(one_line(str(c)) for c in row)]
        for row in ([*header], *rows)
    ]
    widths = [min(max(len(row[k]) for row in cells), MOST_WIDTH) for k in range(len(header))]
    sides = right.ljust(len(header), "l")
    lines = [
        "  ".join(c.rjust(w) if s == "r" else c.ljust(w) for c, w, s in zip(row, widths, sides, strict=True)).rstrip()
        for row in cells
    ]
    lines.insert(1, "  ".join("-" * w for w in widths))
    return "\n".join(lines)


def shortened(text: str, most: int = MOST_WIDTH) -> str:
    """The text, or its two ends, where names differ most.

    >>> shortened("encoder.layers.11.attention.query", 20)
    'encoder....ion.query'
    """
    end = most // 2
    return text if len(text) <= most else f"{text[: most - end - 3]}...{text[-end:]}"


def one_line(text: str) -> str:
    """The text as it is printed, with line breaks and tabs escaped, too: :func:`printable` leaves these."""
    return printable(text.replace("\n", "\\n").replace("\t", "\\t"))
