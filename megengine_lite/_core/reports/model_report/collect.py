"""What a report says: a dictionary of plain types, the content of the form ``json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._core.device.plan import PlanReport
from megengine_lite._core.ir.declared_shape import with_open_sizes
from megengine_lite._core.reports.file_nodes import file_nodes, imported_nodes
from megengine_lite._core.reports.model_facts import first_stage, model_facts, tensors_in_file
from megengine_lite._core.reports.model_report.failing import failing_nodes
from megengine_lite._core.reports.model_report.nodes import Boxes, file_boxes, planned_boxes
from megengine_lite._core.reports.model_report.recorded_run import RecordedRun, all_plans, set_medians
from megengine_lite._core.reports.model_report.roofline import measure_roof
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite.base import __version__
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.runtime.session import Session

FORMAT = "megengine_lite model report"
VERSION = 1
"""Of the form ``json``; it grows when something in it changes its meaning."""

BUSY = 1.5
"""If the slowest run takes so many times as long as the fastest, a note says that times are not reliable. So it does if
a run and the sum of its steps differ by this factor, beyond the time that no step has."""
UNTIMED = 1e-4
HICCUP = 5e-5
"""So much longer a run may take without any other work: an interrupt of the system, or the clock of a small model."""
CLOCK = 1e-7
"""So much of the time of a step may be that of reading the clock."""
MOST_WEIGHTS = 50
MOST_READERS = 3  # of a weight are named
# A plan of very many tensors is shown by the largest of them.
MOST_PIECES = 20_000


def describe(name: str, file_bytes: int | None = None) -> dict[str, Any]:
    """The beginning of a report."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "file_bytes": file_bytes,
        "made_by": f"megengine_lite {__version__}",
        "made_at": now,
        "problem": None,
    }


def unread(name: str, problem: str, file_bytes: int | None = None) -> dict[str, Any]:
    """The report on a file of which nothing can be told."""
    return {**describe(name, file_bytes), "problem": problem, "nodes": [], "edges": []}


def without_run(
    model: LoadedModel, name: str, shapes: Mapping[str, tuple[int, ...]], problem: str = "", size: int | None = None
) -> dict[str, Any]:
    """The report on a model that does not run: the graph of the file, and why."""
    facts = _facts(model, shapes)
    stage = None if facts["unsupported"] or facts["problem"] else first_stage(model, shapes)
    why = problem or facts["problem"]
    if facts["unsupported"] and not facts["problem"]:
        count = len(facts["unsupported"])
        why = f"{count} operator{'s are' if count > 1 else ' is'} not supported"
    why = with_open_sizes(why, model.graph.declared, shapes) if why else why
    file = file_nodes(model, stage, shapes)
    failing = failing_nodes(model, file.graph, why) if not facts["unsupported"] else []
    return {
        **describe(name, size),
        "problem": why,
        "model": facts,
        **_drawn(file_boxes(file, failing)),
        "weights": _weights(model),
    }


def imported_graph(model: LoadedModel, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The boxes and arrows of the graph that is made of the operators of the file, where both can be told."""
    try:
        stage = first_stage(model, shapes)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError:
        stage = None
    return _drawn(file_boxes(imported_nodes(model.graph, stage)))


def with_runs(session: Session, name: str, runs: int, warmup: int, size: int | None = None) -> dict[str, Any]:
    """The report on a model that runs. The inputs of the session are set, and its configuration asks for explanations.

    Parameters
    ----------
    runs, warmup
        How often it is measured, and how often it runs before that.
    """
    model, config = session.model, session.config
    with errors_of(session.device):
        for _ in range(warmup + 1):
            session.run()
        seconds = [_time_of(session) for _ in range(runs)]
        is_bound = session.is_bound
        recorded = [_recorded(session) for _ in range(runs)]
        roof = measure_roof(config, session.device, session.device_id)
    parts = recorded[0].parts
    set_medians(parts, [run.parts for run in recorded[1:]])
    plans = list(all_plans(parts))
    shapes = session.input_shapes()
    explained = all(plan.report.graph is not None for plan in plans)
    if explained:
        boxes = planned_boxes(model.graph, parts)
    else:  # a device that does not explain its plans
        boxes = file_boxes(imported_nodes(model.graph, first_stage(model, shapes)))
    in_steps = median(run.seconds for run in recorded)
    if explained:  # the sum of medians, so that the parts of a report fit together
        nodes = (node for plan in plans for node in plan.nodes)
        in_steps = sum(kernel.seconds for node in nodes for kernel in node.kernels.values())
    seconds.sort()
    return {
        **describe(name, size),
        "model": _facts(model, shapes),
        "machine": {**session.device.facts(config), "threads": config.threads, "precision": config.precision},
        "note": _note(seconds, in_steps, recorded[0].n_steps, is_bound),
        "settings": {"fusion": config.fuse, "runs": runs},
        "ms": {"median": median(seconds) * 1e3, "fastest": seconds[0] * 1e3, "slowest": seconds[-1] * 1e3},
        "steps_ms": in_steps * 1e3,
        "operations": recorded[0].flops,
        **_drawn(boxes),
        "memory": {**_memory([plan.report for plan in plans]), **session.memory_usage()},
        "weights": _weights(model),
        "roof": roof,
    }


def _recorded(session: Session) -> RecordedRun:
    run = RecordedRun()
    session.run_recorded(run)
    return run


def _note(seconds: Sequence[float], in_steps: float, count: int, is_bound: bool = True) -> str | None:
    """What makes times doubtful, or what takes time beside the steps.

    Parameters
    ----------
    seconds
        Those of whole runs, in order.
    in_steps, count
        The sum of all steps that run, and their number.
    is_bound
        A run is one plan and nothing else: no rounds of loops, and no part of the graph that follows from data.
    """
    least = (in_steps - CLOCK * count) / BUSY
    middle = median(seconds)
    both = f"a run takes {_ms(middle)} and its steps together {_ms(in_steps)}"
    if seconds[-1] > BUSY * seconds[0] + HICCUP:
        found = f"the slowest run took {seconds[-1] / seconds[0]:.1f} times as long as the fastest"
    elif least < middle < BUSY * in_steps + UNTIMED:
        return None
    elif not is_bound and middle > in_steps:
        return (
            f"{both}: the rest goes by between them, in rounds of loops and where a part of the graph follows from data"
        )
    else:
        found = both
    return f"{found}: the machine had other work to do, so times are not reliable"


def _ms(seconds: float) -> str:
    ms = seconds * 1e3
    return f"{ms:.0f} ms" if ms >= 100 else f"{ms:.3g} ms"


def _time_of(session: Session) -> float:
    begin = perf_counter()
    session.run()
    session.device.synchronize(session.device_id)
    return perf_counter() - begin


def _facts(model: LoadedModel, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    facts = model_facts(model, shapes)
    del facts["layers"]  # the boxes say it
    return facts


def _drawn(boxes: Boxes) -> dict[str, Any]:
    return {"nodes": boxes.nodes, "edges": [list(edge) for edge in boxes.edges]}


def _memory(plans: Sequence[PlanReport]) -> dict[str, Any]:
    """The pieces of the arena: offset, bytes, first and last step of each. Each plan counts once."""
    pieces, begin = [], 0
    for plan in plans:
        pieces += [[p.offset, p.nbytes, begin + p.first, begin + p.last] for p in plan.pieces]
        begin += len(plan.steps)
    count, size = len(pieces), sum(p[1] for p in pieces)
    if count > MOST_PIECES:
        pieces = sorted(sorted(pieces, key=lambda p: -p[1])[:MOST_PIECES], key=lambda p: p[2])
    return {"pieces": pieces, "count": count, "bytes": size, "steps": begin}


def _weights(model: LoadedModel) -> list[dict[str, Any]]:
    """The largest tensors of the file, each with the operators that read it."""
    found = sorted(tensors_in_file(model, model.listed_graph()), key=lambda t: -t.nbytes)[:MOST_WEIGHTS]
    return [
        {
            "name": t.name,
            "type": str(t.dtype),
            "shape": list(t.shape),
            "bytes": t.nbytes,
            "by": list(t.readers)[:MOST_READERS],
            "more": max(len(t.readers) - MOST_READERS, 0),
        }
        for t in found
    ]
