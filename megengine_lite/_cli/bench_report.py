"""The files of ``bench --report``: every run and every operator, as JSON and as tables."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import json_files
from megengine_lite._cli.display import one_line, shape_text
from megengine_lite._cli.profile import measure_steps
from megengine_lite._core.system.files import to_path
from megengine_lite.errors import os_error, printable

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

# Runs in which the steps are timed, after those that are measured as a whole.
_RUNS = 10
_ITERATION = ("network", "begin_ms", "ms")
_OPERATOR = ("operator", "name", "algorithm", "outputs", "ms", "min_ms", "max_ms", "gflops")
# Where a spreadsheet takes text for a formula: at the beginning of a cell, which may be behind any separator. The last
# four characters are the wide forms of the first.
_FORMULA = re.compile(r"(?:^|(?<=[,;|]))(?=\s*[=+\-@＝＋－＠])")


def make_folder(path: str) -> Path:
    """The folder, made if it is not there.

    Raises
    ------
    LiteOSError
        It cannot be made.
    """
    folder = Path(to_path(path))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise os_error(error, f"--report {path}: the folder cannot be made: {error.strerror}", path) from None
    return folder


def measure_operators(network: LiteNetwork) -> list[dict[str, Any]]:
    """The steps of a run of a network that runs alone, with their times."""
    steps = measure_steps(network, _RUNS)
    return [{**step, "min_ms": min(step["times_ms"]), "max_ms": max(step["times_ms"])} for step in steps]


def write(
    folder: Path, result: Mapping[str, Any], iterations: list[dict[str, Any]], operators: list[dict[str, Any]]
) -> dict[str, int]:
    """Writes ``bench.json``, ``iterations.csv`` and ``operators.csv``; gives their sizes."""
    content = {k: v for k, v in result.items() if k != "written"}
    paths = [str(folder / name) for name in ("bench.json", "iterations.csv", "operators.csv")]
    texts = [
        json_files.to_text({**content, "iterations": iterations, "operators": operators}) + "\n",
        _table(_ITERATION, iterations),
        _table(_OPERATOR, operators),
    ]
    return {path: json_files.write_text(path, text) for path, text in zip(paths, texts, strict=True)}


def _table(header: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(row[name]) for name in header] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    """A number in full, shapes, or text that neither a terminal nor a spreadsheet obeys: names come from files."""
    if isinstance(value, list):
        return " ".join(map(shape_text, value))
    if not isinstance(value, str):
        return "" if value is None else repr(value)
    shown = one_line(printable(value))
    return _FORMULA.sub("'", shown)
