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
from functools import partial

from megengine_lite._core.ir.describe import describe_graph
from megengine_lite._core.ir.dtype import INT8_OPERANDS, DTypeCode
from megengine_lite._core.ir.graph import ConstantPool, Graph
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system import debug
from megengine_lite._core.system.late_import import LateFunction
from megengine_lite._core.system.own_faults import own_faults

__all__ = ["run"]


Pass = Callable[[Graph, ConstantPool], None]


def _run(
    name: str, operators: set[str], types: set[DTypeCode], makes_weights: bool, graph: Graph, pool: ConstantPool
) -> None:
    """Runs a pass if the graph has any of these operators, and any variable of these types. A set that is empty asks
    for nothing. Without them the pass would change nothing, and its module is not imported."""
    if operators and operators.isdisjoint(node.op for node in graph.nodes):
        return
    if types and types.isdisjoint(v.spec.dtype.code for node in graph.nodes for v in (*node.inputs, *node.outputs)):
        return
    function = LateFunction(f"{__name__}.{name}", "run")
    if makes_weights:
        function(graph, pool)
    else:
        function(graph)


def _pass(
    name: str, *operators: str, types: tuple[DTypeCode, ...] = (), makes_weights: bool = False
) -> tuple[str, Pass]:
    return name, partial(_run, name, set(operators), set(types), makes_weights)


_VOLUMES = ("Convolution3D", "Convolution3DBackwardData")
_ALL: dict[str, Pass] = dict(
    [
        _pass("widen_float16", types=(DTypeCode.FLOAT16,), makes_weights=True),
        _pass("canonical_layout", makes_weights=True),
        _pass("flatten_volumes", *_VOLUMES, makes_weights=True),
        _pass("simplify", makes_weights=True),
        _pass("recognise_quantized", types=INT8_OPERANDS, makes_weights=True),
        _pass("gather_channels"),
        _pass("merge_reductions", "Reduce", "ReduceAxes"),
        _pass("recognise_norms", "ReduceAxes", makes_weights=True),
        _pass("recognise_softmax", "ReduceAxes", "OnnxReduce"),
        _pass("recognise_activations", "Elemwise"),
        _pass("recognise_attention", "Softmax"),
        _pass("functions_before_axes", "AxisAddRemove", makes_weights=True),
        _pass("fuse_conv", "Convolution", "ConvBiasForward", "FusedConv", makes_weights=True),
        _pass("fuse_quantized", types=INT8_OPERANDS),
        _pass("fuse_matmul", "MatrixMul", "QuantizedMatMul"),
        _pass("fuse_elemwise", "Elemwise"),
        _pass("tabulate", "TypeCvt", types=INT8_OPERANDS),
    ]
)
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
    graph.remove_dead()
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
