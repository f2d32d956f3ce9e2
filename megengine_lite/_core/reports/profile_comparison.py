"""Two profiles side by side, operator by operator: what became slower or faster, and what only one of them has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import quantiles
from typing import Any

from megengine_lite._records import field, record

MARGIN = 0.05
"""A smaller change of a time, in parts of it, is none."""

SLOWER, FASTER, SAME, ONLY_FIRST, ONLY_SECOND = "slower", "faster", "same", "only in the first", "only in the second"
CHANGES = (SLOWER, FASTER, SAME, ONLY_FIRST, ONLY_SECOND)


@record(slots=True)
class MeasuredStep:
    """A step of a profile: milliseconds, and those of single runs where they are known."""

    operator: str
    name: str
    algorithm: str
    ms: float
    times_ms: Sequence[float] = ()


@record(slots=True)
class _Operator:
    """The steps of one operator together."""

    ms: float = 0.0
    times_ms: list[float] = field(default_factory=list)
    algorithms: list[str] = field(default_factory=list)
    has_times: bool = True

    def add(self, step: MeasuredStep) -> None:
        if not self.algorithms:
            self.times_ms = [0.0] * len(step.times_ms)
        self.has_times = self.has_times and len(step.times_ms) == len(self.times_ms) > 1
        if self.has_times:
            self.times_ms = [a + b for a, b in zip(self.times_ms, step.times_ms, strict=True)]
        self.ms += step.ms
        self.algorithms.append(step.algorithm)

    def usual(self) -> tuple[float, float]:
        """The bounds of the middle half of the runs; the time as both of them where single runs are not known."""
        if not self.has_times:
            return self.ms, self.ms
        low, _, high = quantiles(self.times_ms, n=4)
        return low, high


_Key = tuple[str, str, int]


def compare_profiles(first: Sequence[MeasuredStep], second: Sequence[MeasuredStep]) -> dict[str, Any]:
    """Times of both in milliseconds, those of operators with the greatest differences first; None where one has none.

    Operators belong together by type and name, and those that share both by their order. ``change`` is one of
    :data:`CHANGES`, as seen from the first. A time has changed if it differs by more than :data:`MARGIN`, and if the
    middle halves of the runs do not overlap.

    >>> step = MeasuredStep("Softmax", "prob", "softmax_f32", 2.0)
    >>> found = compare_profiles([step], [MeasuredStep("Softmax", "prob", "numpy", 5.0)])
    >>> found["ms"], found["counts"]["slower"], found["operators"][0]["algorithms"]
    ([2.0, 5.0], 1, ['softmax_f32', 'numpy'])
    """
    sides = _grouped(first), _grouped(second)
    rows = [_row(key, sides[0].get(key), sides[1].get(key)) for key in dict.fromkeys([*sides[0], *sides[1]])]
    rows.sort(key=lambda row: -abs((row["ms"][1] or 0.0) - (row["ms"][0] or 0.0)))
    counts = Counter(row["change"] for row in rows)
    return {
        "ms": [sum(step.ms for step in steps) for steps in (first, second)],
        "counts": {change: counts[change] for change in CHANGES},
        "operators": rows,
    }


def _grouped(steps: Sequence[MeasuredStep]) -> dict[_Key, _Operator]:
    """The operators. Steps of one stand together; what has no name is called by its type, and is one for each step."""
    found: dict[_Key, _Operator] = {}
    seen: Counter[tuple[str, str]] = Counter()
    before: tuple[str, str] | None = None
    for step in steps:
        called = step.operator, step.name
        if called != before or step.name in ("", step.operator):
            seen[called] += 1
        found.setdefault((*called, seen[called]), _Operator()).add(step)
        before = called
    return found


def _row(key: _Key, a: _Operator | None, b: _Operator | None) -> dict[str, Any]:
    return {
        "operator": key[0],
        "name": key[1],
        "ms": [None if side is None else side.ms for side in (a, b)],
        "algorithms": [None if side is None else ", ".join(dict.fromkeys(side.algorithms)) for side in (a, b)],
        "change": _change(a, b),
    }


def _change(a: _Operator | None, b: _Operator | None) -> str:
    if a is None or b is None:
        return ONLY_SECOND if a is None else ONLY_FIRST
    usual_a, usual_b = a.usual(), b.usual()
    if b.ms > a.ms * (1 + MARGIN) and usual_b[0] > usual_a[1]:
        return SLOWER
    if a.ms > b.ms * (1 + MARGIN) and usual_a[0] > usual_b[1]:
        return FASTER
    return SAME
