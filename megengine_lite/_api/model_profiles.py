"""Profiles of models as objects; imported when the first is asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from megengine_lite._api.arguments import checked_runs
from megengine_lite._api.loading import name_of
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.reports.profile import MOST_SHAPES
from megengine_lite._core.reports.text_table import MOST_AT_END, one_line, shortened, table
from megengine_lite._core.reports.units import counted, shape_text
from megengine_lite._core.system.own_faults import own_faults

if TYPE_CHECKING:
    import numpy as np

    from megengine_lite._api.engine import Engine
    from megengine_lite._core.device.plan import StepTime

HEADER = ("ms", "%", "GFLOP/s", "operator", "algorithm", "outputs", "name")
SUMS_HEADER = ("ms", "%", "operator")


class ModelProfile:
    """How long each step of a run takes, by which algorithm and at what speed.

    Made by :meth:`Model.profile <megengine_lite.model.Model.profile>`. Printed it is the tables of ``megengine-lite
    profile``; a notebook shows them.

    Attributes
    ----------
    name : str
        What the model is called: its file.
    rows : list of dict
        The steps in order: ``name``, ``operator``, ``algorithm``, shapes of ``outputs``, the median ``ms`` of
        ``times_ms`` in all runs, and ``gflops``, or None where no arithmetic is counted.
    """

    def __init__(self, name: str, rows: Sequence[Mapping[str, Any]]):
        self.name = name
        self.rows = [dict(row) for row in rows]

    @property
    def total_ms(self) -> float:
        """The sum of all steps."""
        return float(sum(row["ms"] for row in self.rows))

    @property
    def operators_ms(self) -> dict[str, float]:
        """The sum for each type of operator, the largest first."""
        sums: defaultdict[str, float] = defaultdict(float)
        for row in self.rows:
            sums[row["operator"]] += row["ms"]
        return dict(sorted(sums.items(), key=lambda item: -item[1]))

    def _cells(self) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """What both tables show."""
        total = max(self.total_ms, 1e-9)
        rows: list[tuple[str, ...]] = [
            (
                f"{row['ms']:.4f}",
                f"{100 * row['ms'] / total:.1f}",
                "" if row["gflops"] is None else f"{row['gflops']:.1f}",
                row["operator"],
                row["algorithm"],
                " ".join(map(shape_text, row["outputs"])),
                shortened(one_line(row["name"]), MOST_AT_END),
            )
            for row in self.rows
        ]
        sums = [(f"{ms:.4f}", f"{100 * ms / total:.1f}", op) for op, ms in self.operators_ms.items()]
        return rows, [*sums, (f"{self.total_ms:.4f}", "100.0", "all")]

    def __str__(self) -> str:
        rows, sums = self._cells()
        return f"{table(rows, HEADER, 'rrr')}\n\n{table(sums, SUMS_HEADER, 'rr')}"

    def __repr__(self) -> str:
        return one_line(f"<ModelProfile {self.name}, {counted(len(self.rows), 'step')}, {self.total_ms:.3f} ms>")

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import table as html_table

        rows, sums = self._cells()
        return html_table(HEADER, rows) + html_table(SUMS_HEADER, sums)


def make_profile(
    engine: Engine, source: str | bytes | memoryview | None, feeds: Mapping[str, np.ndarray], runs: Any, warmup: Any
) -> ModelProfile:
    """The profile of a network's model."""
    runs, warmup = checked_runs("a profile", runs, warmup)
    session = engine.explained_session(feeds)
    with own_faults("the profile"):
        for _ in range(warmup + 1):
            session.run()
        measured = [session.run_profiled() for _ in range(runs)]
        return ModelProfile(name_of(source)[0], [_row(steps) for steps in zip(*measured, strict=True)])


def _row(steps: Sequence[StepTime]) -> dict[str, Any]:
    """One step, from its times in all runs."""
    first = steps[0]
    times = [1e3 * step.seconds for step in steps]
    ms = median(times)
    return {
        "name": first.origin.name or first.origin.op,
        "operator": first.origin.op,
        "algorithm": first.kernel,
        "outputs": [list(s.shape) if isinstance(s, TensorSpec) else [] for s in first.origin.outputs[:MOST_SHAPES]],
        "ms": ms,
        "times_ms": times,
        "gflops": first.flops / ms * 1e-6 if first.flops and ms else None,
    }
