"""Rewrites of a stage's graph, one per file, in the order in which they run.

::

    Graph ─► widen_float16 ─► canonical_layout ─► flatten_volumes ─► simplify ─► recognise_quantized ─┐
      ┌───────────────────────────────────────────────────────────────────────────────────────────────┘
      └► gather_channels ─► merge_reductions ─► recognise_norms ─► recognise_softmax ─────────────────┐
      ┌───────────────────────────────────────────────────────────────────────────────────────────────┘
      └► recognise_activations ─► recognise_attention ─► functions_before_axes ─► fuse_conv ──────────┐
      ┌───────────────────────────────────────────────────────────────────────────────────────────────┘
      └► fuse_quantized ─► fuse_matmul ─► fuse_elemwise ─► tabulate ─► Graph

A pass sees nodes whose shapes are known. It leaves nodes whose outputs depend on data where they are. It changes the
graph in place and does not change what its outputs mean. Weights that it changes are derived through the constant pool,
so they are made once per model. ``merge_reductions`` is the shortest one; start there.
"""

from __future__ import annotations

from collections.abc import Callable

from megengine_lite._core.compile.passes import (
    canonical_layout,
    flatten_volumes,
    functions_before_axes,
    fuse_conv,
    fuse_elemwise,
    fuse_matmul,
    fuse_quantized,
    gather_channels,
    merge_reductions,
    recognise_activations,
    recognise_attention,
    recognise_norms,
    recognise_quantized,
    recognise_softmax,
    simplify,
    tabulate,
    widen_float16,
)
from megengine_lite._core.ir.describe import describe_graph
from megengine_lite._core.ir.graph import ConstantPool, Graph
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system import debug
from megengine_lite._core.system.own_faults import own_faults

__all__ = ["run"]


Pass = Callable[[Graph, ConstantPool], None]


def _without_pool(run: Callable[[Graph], None]) -> Pass:
    return lambda graph, pool: run(graph)


_ALL: dict[str, Pass] = {
    "widen_float16": widen_float16.run,
    "canonical_layout": canonical_layout.run,
    "flatten_volumes": flatten_volumes.run,
    "simplify": simplify.run,
    "recognise_quantized": recognise_quantized.run,
    "gather_channels": _without_pool(gather_channels.run),
    "merge_reductions": _without_pool(merge_reductions.run),
    "recognise_norms": recognise_norms.run,
    "recognise_softmax": _without_pool(recognise_softmax.run),
    "recognise_activations": _without_pool(recognise_activations.run),
    "recognise_attention": _without_pool(recognise_attention.run),
    "functions_before_axes": functions_before_axes.run,
    "fuse_conv": fuse_conv.run,
    "fuse_quantized": _without_pool(fuse_quantized.run),
    "fuse_matmul": _without_pool(fuse_matmul.run),
    "fuse_elemwise": _without_pool(fuse_elemwise.run),
    "tabulate": _without_pool(tabulate.run),
}
_ELEMWISE = {"fuse_elemwise": _ALL["fuse_elemwise"]}


def run(graph: Graph, pool: ConstantPool, config: SessionConfig) -> None:
    """Runs all passes that the options ask for.

    Raises
    ------
    InternalError
        A pass has failed, or the graph that comes out cannot be computed in its order. With ``MEGENGINE_LITE_DEBUG=3``
        the graph is checked after each pass, so the last pass that was printed has the fault.
    """
    chosen = _ALL if config.fuse else _ELEMWISE if config.fuse_elemwise else {}
    if debug.level() >= debug.PASSES:
        _run_shown(graph, pool, chosen)
    else:
        for name, run_pass in chosen.items():
            with own_faults(f"pass {name}"):
                run_pass(graph, pool)
    graph.verify()


def _run_shown(graph: Graph, pool: ConstantPool, chosen: dict[str, Pass]) -> None:
    """Prints the graph before the passes and after each that changes it, and verifies it each time."""
    before = _show("before the passes", graph, [])
    for name, run_pass in chosen.items():
        with own_faults(f"pass {name}"):
            run_pass(graph, pool)
        before = _show(f"after {name}", graph, before)
        graph.verify()


def _show(when: str, graph: Graph, before: list[str]) -> list[str]:
    lines = describe_graph(graph)
    if lines == before:
        debug.say(f"graph {when}: unchanged")
    else:
        debug.say(f"graph {when}: {len(graph.nodes)} nodes")
        for line in lines:
            debug.say(f"  {line}")
    return lines
