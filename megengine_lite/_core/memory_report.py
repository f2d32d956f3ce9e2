"""Where a plan puts its tensors, as the files ``graph.json`` and ``StaticMemoryInfo.json`` of the original.

MegEngine's tool that draws memory over time reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from megengine_lite._core.arena import ALIGNMENT
from megengine_lite._core.lower.context import HostStep, Origin, Storage, origin_of
from megengine_lite._core.planner import Plan, StepTime
from megengine_lite._core.profile_report import graph_exec


def _origins(plan: Plan) -> list[Origin]:
    return [origin_of(s.node) if isinstance(s, HostStep) else s.origin for s in plan.steps]


def _name(origin: Origin, step: int) -> str:
    return origin.name or f"{origin.op}[{step}]"


def graph_object(plans: Sequence[Plan]) -> dict[str, Any]:
    """The content of ``graph.json``."""
    return {"graph_exec": graph_exec([StepTime(o, "", 0.0, 0) for plan in plans for o in _origins(plan)])}


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


def static_memory_object(plans: Sequence[Plan]) -> dict[str, Any]:
    """The content of ``StaticMemoryInfo.json``: addresses are offsets in one piece of memory, times are steps.

    Weights follow the intermediate tensors; they live from the first step to the last.
    """
    steps: dict[str, Any] = {}
    chunks: dict[str, Any] = {}
    begin = 0
    for plan in plans:
        for origin in _origins(plan):
            number = str(len(steps))
            steps[number] = {"id": number, "name": _name(origin, len(steps))}
        for storage in plan.storages:
            if storage.kind == Storage.ARENA and storage.first is not None:
                chunks[str(len(chunks))] = _chunk(
                    len(chunks),
                    "static_mem",
                    begin + storage.first,
                    begin + storage.last + 1,
                    storage.offset,
                    storage.nbytes,
                )
        begin += len(plan.steps)
    offset = max((plan.arena_bytes for plan in plans), default=0)
    weights = {s.address: s.nbytes for plan in plans for s in plan.constants()}
    for nbytes in weights.values():
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        chunks[str(len(chunks))] = _chunk(len(chunks), "weight_mem", 0, len(steps), offset, size)
        offset += size
    return {"opr": steps, "chunk": chunks}
