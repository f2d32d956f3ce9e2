"""Numbers and sizes as people read them."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.system.memory_limit import describe_bytes

bytes_text = describe_bytes


def shape_text(shape: Sequence[int] | None) -> str:
    """``1x3x224x224``, or ``?`` if it depends on data."""
    return "?" if shape is None else "x".join(map(str, shape))


def count_text(value: float) -> str:
    """A large number in three digits: ``1.82 G``."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 node``, ``2 nodes``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def fixed_text(value: float, digits: int) -> str:
    """The number with so many digits behind the point; what is rounded to zero has no sign.

    >>> fixed_text(-0.04, 1), fixed_text(-0.06, 1)
    ('0.0', '-0.1')
    """
    return f"{round(value, digits) + 0.0:.{digits}f}"


def ratio_text(times: Sequence[float | None]) -> str:
    """How many times as long the second takes; empty if that cannot be said.

    >>> ratio_text([2.0, 5.0]), ratio_text([None, 5.0])
    ('2.50', '')
    """
    before, after = times
    return f"{after / before:.2f}" if before and after is not None else ""
