"""``profile --compare``: two profiles side by side."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Mapping
from typing import Any

from megengine_lite._cli import display, json_files
from megengine_lite._cli.gflags import UsageError
from megengine_lite._core.reports.model_report import markdown
from megengine_lite._core.reports.profile import slices
from megengine_lite._core.reports.profile_comparison import CHANGES, MeasuredStep, compare_profiles
from megengine_lite._core.reports.units import ratio_text
from megengine_lite.errors import LiteValueError

_HEADER = ("difference", "ratio", "change", "operator", "algorithm", "name")
_NUMBERS = 4
"""Columns of them, at the beginning; tables in Markdown have them at the end."""
_TAKEN = ("compare", "format", "json", "verbose")
_HOW = "megengine-lite profile MODEL --json (or --output FILE) and bench MODEL --report DIR write some"


def execute(args: argparse.Namespace) -> dict[str, Any]:
    """Compares the files; gives what is shown as ``text``, unless JSON is wanted anyway."""
    if without := _without_effect(args):
        raise UsageError(f"--compare reads two profiles and runs nothing: leave out {', '.join(without)}")
    steps = [_read(path) for path in args.compare]
    names = [os.path.basename(path) for path in args.compare]
    found = {"names": args.compare if names[0] == names[1] else names, **compare_profiles(*steps)}
    forms = {"json": json_files.to_text, "md": _markdown, None: _table}
    return found if args.json else {**found, "text": forms[args.format](found)}


def _without_effect(args: argparse.Namespace) -> list[str]:
    """What the command line has for a run."""
    from megengine_lite.cli import command_parser

    found: dict[str, str] = {}
    for action in command_parser("profile")._actions:
        value = getattr(args, action.dest, action.default)
        if repr(value) != repr(action.default) and action.dest not in _TAKEN:
            found.setdefault(action.dest, next(iter(action.option_strings), value))
    return list(found.values())


def _read(path: str) -> list[MeasuredStep]:
    """The steps of a profile: what ``profile --json`` or ``bench --report`` writes, or a Chrome trace."""
    content = json_files.read(path, "profile")
    try:
        if "traceEvents" in content:
            return [_step(e["cat"], e["name"], e["args"]["algorithm"], e["dur"] / 1e3) for e in slices(content)]
        steps = content["steps" if "steps" in content else "operators"]
        return [_step(s["operator"], s["name"], s["algorithm"], s["ms"], s.get("times_ms", ())) for s in steps]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise LiteValueError(f"{path} is no profile that can be compared: {_HOW}") from None


def _step(operator: Any, name: Any, algorithm: Any, ms: Any, times: Any = ()) -> MeasuredStep:
    if not all(isinstance(text, str) for text in (operator, name, algorithm)):
        raise TypeError
    if not all(type(t) in (int, float) and math.isfinite(t) and t >= 0 for t in (ms, *times)):
        raise TypeError
    return MeasuredStep(operator, name, algorithm, float(ms), [float(t) for t in times])


# ---- showing ---------------------------------------------------------------------------------------------------------


def _title(found: Mapping[str, Any]) -> list[str]:
    """Two lines: the times, and how many operators have changed."""
    (a, b), (before, after) = found["names"], found["ms"]
    ratio = f", {after / before:.3f} times as long" if before else ""
    counts = ", ".join(f"{found['counts'][change]} {change}" for change in CHANGES)
    return [f"{a} {before:.3f} ms, {b} {after:.3f} ms{ratio}", f"operators: {counts}"]


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [_row(row) for row in found["operators"]]


def _row(row: Mapping[str, Any]) -> tuple[str, ...]:
    a, b = row["ms"]
    kernels = [k for k in dict.fromkeys(row["algorithms"]) if k is not None]
    return (
        *("" if ms is None else f"{ms:.4f}" for ms in (a, b)),
        f"{round((b or 0.0) - (a or 0.0), 4) + 0.0:+.4f}",
        ratio_text(row["ms"]),
        row["change"],
        row["operator"],
        " -> ".join(kernels),
        row["name"],
    )


def _header(found: Mapping[str, Any]) -> tuple[str, ...]:
    return (*(f"ms, {name}" for name in found["names"]), *_HEADER)


def _table(found: Mapping[str, Any]) -> str:
    lines = map(display.one_line, _title(found))
    return "\n".join([*lines, "", display.table(_rows(found), _header(found), "r" * _NUMBERS)])


def _markdown(found: Mapping[str, Any]) -> str:
    lines = [line for text in _title(found) for line in (markdown.line(text), "")]
    rows = [(*row[_NUMBERS:], *row[:_NUMBERS]) for row in (_header(found), *_rows(found))]
    return "\n".join([*lines, *markdown.table([*map(markdown.cell, rows[0])], rows[1:], _NUMBERS)])


def show(result: Mapping[str, Any]) -> None:
    """Prints it."""
    print(result["text"])
