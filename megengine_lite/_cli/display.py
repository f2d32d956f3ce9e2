"""How results are shown to people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.reports.text_table import one_line as one_line
from megengine_lite._core.reports.text_table import table as table
from megengine_lite._core.reports.units import bytes_text as bytes_text
from megengine_lite._core.reports.units import count_text as count_text
from megengine_lite._core.reports.units import fixed_text as fixed_text
from megengine_lite._core.reports.units import shape_text as shape_text

_PREVIEW = 8


def print_line(text: str) -> None:
    """Prints a line: one, whatever the names in it are."""
    print(one_line(text))


def told_apart(a: str, b: str) -> list[str]:
    """Two files of one name with as many of the folders around them as it takes to tell them apart.

    >>> told_apart("/models/old/net.onnx", "/models/new/net.onnx")
    ['old/net.onnx', 'new/net.onnx']
    """
    parts = [os.path.abspath(path).split(os.sep) for path in (a, b)]
    most = max(map(len, parts))
    count = next((n for n in range(1, most) if parts[0][-n:] != parts[1][-n:]), 1)
    return [os.path.join(*whole[-count:]) for whole in parts]


def describe_array(array: np.ndarray, rms: bool = False) -> dict[str, Any]:
    """Shape, type, range, first values and, if wanted, root mean square of an array, as plain types."""
    result: dict[str, Any] = {"shape": list(array.shape), "dtype": array.dtype.name}
    if array.size:
        wide = array.astype(np.float64)
        with np.errstate(all="ignore"):  # the values may be infinite
            result.update(min=float(wide.min()), max=float(wide.max()), mean=float(wide.mean()))
            if rms:
                result["rms"] = float(np.sqrt(np.mean(wide * wide)))
    result["values"] = array.reshape(-1)[:_PREVIEW].tolist()
    return result


def array_row(name: str, described: dict[str, Any]) -> list[str]:
    """One row of a table of arrays: name, type, shape, min, max, mean, first values."""
    numbers = [f"{described[k]:.5g}" if k in described else "-" for k in ("min", "max", "mean")]
    values = " ".join(f"{v:.5g}" for v in described["values"])
    return [name, described["dtype"], shape_text(described["shape"]), *numbers, values]


ARRAY_HEADER = ("name", "type", "shape", "min", "max", "mean", "first values")
ARRAY_SIDES = "lllrrr"


def kernels_text(result: dict[str, Any]) -> str:
    """The line about what a model ran on, if the result has it."""
    threads, networks = result["settings"]["threads"], result["networks"]
    return f"{result['instruction_set']}, {threads} thread(s), {networks} network(s)"


def statistics(milliseconds: Sequence[float]) -> dict[str, float]:
    """Count, sum, mean, standard deviation and percentiles of times."""
    t = np.asarray(milliseconds)
    return {
        "runs": len(t),
        "total": float(t.sum()),
        "mean": float(t.mean()),
        "std": float(t.std()),
        "min": float(t.min()),
        "p50": float(np.percentile(t, 50)),
        "p90": float(np.percentile(t, 90)),
        "p99": float(np.percentile(t, 99)),
        "max": float(t.max()),
    }


def statistics_text(t: dict[str, float]) -> str:
    """The result of :func:`statistics` in one line."""
    return f"total {t['total']:.3f} ms, " + ", ".join(
        f"{name} {t[name]:.3f}" for name in ("mean", "std", "min", "p50", "p90", "p99", "max")
    )
