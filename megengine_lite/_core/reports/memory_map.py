"""Where a plan puts its tensors, as the files ``graph.json`` and ``StaticMemoryInfo.json`` of the original.

MegEngine's tool that draws memory over time reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from megengine_lite._core.device.plan import PlanReport, StepTime
from megengine_lite._core.reports.original_names import Listed
from megengine_lite._core.reports.profile import Report
from megengine_lite._core.system.memory import ALIGNMENT


def _steps(plans: Sequence[PlanReport]) -> list[StepTime]:
    return [step for plan in plans for step in plan.steps]


def graph_object(plans: Sequence[PlanReport], listed: Sequence[Listed]) -> dict[str, Any]:
    """The content of ``graph.json``."""
    return Report(_steps(plans), listed).graph()


def _chunk(number: int, kind: str, begin: int, end: int, offset: int, nbytes: int) -> dict[str, str]:
    fields = {
        "id": number,
        "type": kind,
        "time_begin": begin,
        "time_end": end,
        "logic_addr_begin": offset,
        "logic_addr_end": offset + nbytes,
        "overwrite_dest_id": -1,
    }
    return {name: str(value) for name, value in fields.items()}


def static_memory_object(plans: Sequence[PlanReport], listed: Sequence[Listed]) -> dict[str, Any]:
    """The content of ``StaticMemoryInfo.json``: addresses are offsets in one piece of memory, times are steps.

    Weights follow the intermediate tensors; they live from the first step to the last.
    """
    steps: dict[str, Any] = {}
    for work in Report(_steps(plans), listed).works:
        for _ in work.kernels:
            number = str(len(steps))
            steps[number] = {"id": number, "name": work.name}
    chunks: dict[str, Any] = {}
    begin = 0
    for plan in plans:
        for p in plan.pieces:
            place = len(chunks)
            chunks[str(place)] = _chunk(place, "static_mem", begin + p.first, begin + p.last + 1, p.offset, p.nbytes)
        begin += len(plan.steps)
    offset = max((plan.arena_bytes for plan in plans), default=0)
    weights = {key: nbytes for plan in plans for key, nbytes in plan.weights.items()}
    for nbytes in weights.values():
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        chunks[str(len(chunks))] = _chunk(len(chunks), "weight_mem", 0, len(steps), offset, size)
        offset += size
    return {"opr": steps, "chunk": chunks}
