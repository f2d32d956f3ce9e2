"""Shape inference over a graph: specs of all variables, with the values of small tensors computed from shapes.

Inference walks nodes in order and stops where it needs something that only running can tell: the shape of a tensor
that depends on data, or the value of a tensor that is not known. Everything before that point is one *stage*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.shape_constant import value_constant
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import check_results, fail, naming, quiet
from megengine_lite._core.system.limits import describe_bytes, memory_limit
from megengine_lite.errors import LiteError, ShapeError

# Tensors up to this size are computed while planning when all inputs are known.
FOLD_SIZE = 4096
# Weights are folded only if the result takes at most so many times their memory: a node that merely repeats them runs.
FOLD_GROWTH = 2


class NeedsValue(Exception):
    """Inference needs the value of a variable that exists before the stage begins."""

    def __init__(self, var: Var):
        self.var = var


@dataclass(slots=True)
class Stage:
    """A run of nodes whose shapes are known: a graph of its own, plus where the rest begins.

    ``original`` maps the stage's variables to those of the model's graph. ``shapes`` has the specs of outputs of the
    model's graph of which only the shape is wanted, and which are not computed.
    """

    graph: Graph
    original: dict[Var, Var]
    next_node: int
    shapes: dict[Var, TensorSpec] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """How long the variables of a graph are needed: the position of the last node that reads each, and the outputs."""

    last_reads: Mapping[Var, int]
    outputs: Mapping[Var, None]

    @classmethod
    def of(cls, graph: Graph) -> Lifetimes:
        return cls({v: k for k, node in enumerate(graph.nodes) for v in node.inputs}, dict.fromkeys(graph.outputs))

    def is_needed(self, var: Var, position: int) -> bool:
        """Whether the variable is an output, or a node from this position on reads it."""
        return var in self.outputs or self.last_reads.get(var, -1) >= position


@quiet
def infer_stage(
    source: Graph,
    begin: int,
    known: Mapping[Var, TensorSpec],
    pool: ConstantPool,
    shape_only: Set[Var] = frozenset(),
    lifetimes: Lifetimes | None = None,
) -> Stage:
    """Infers from node ``begin`` on, given the specs of the variables that exist before it.

    Outputs of the graph in ``shape_only`` are computed only if their shape cannot be inferred, or if a later stage
    reads them. Callers that infer stage after stage give the graph's ``lifetimes``.

    Returns
    -------
    Stage
        Its graph holds copies of the nodes; folded nodes are gone, their outputs are constants. The graph's inputs
        are the variables of ``known`` that are read; its outputs those that later stages or the caller read.

    Raises
    ------
    NeedsValue
        The first node needs the value of a variable of ``known``.
    """
    copies: dict[Var, Var] = {}

    def copy_of(var: Var) -> Var:
        found = copies.get(var)
        if found is None:
            if var.const is not None:
                found = Var(var.id, var.name, _constant_spec(var), var.const)
            else:
                found = Var(var.id, var.name, known[var])
                value = known[var].value
                if value is not None:
                    found.const = value_constant(value)
            copies[var] = found
        return found

    nodes: list[Node] = []
    k = begin
    for k in range(begin, len(source.nodes)):
        node = source.nodes[k]
        if any(v not in copies and v.const is None and v not in known for v in node.inputs):
            raise LiteError(f"{node.op} {node.name!r} reads a variable that is not defined yet")
        ins = [copy_of(v) for v in node.inputs]
        if any(v.spec.shape is None for v in ins):
            break
        missing = missing_value(node, ins)
        if missing is not None:
            if missing in known:
                raise NeedsValue(missing)
            break
        outs = infer_node(node, ins, pool)
        for var, made in zip(node.outputs, outs, strict=True):
            copies[var] = made
        if any(v.const is None for v in outs):
            copy = Node(node.op, node.params, ins, outs, node.name, node.output_dtype, node.payload)
            nodes.append(copy)
    else:
        k = len(source.nodes)

    stage = _cut(source, k, nodes, copies, known, shape_only, lifetimes or Lifetimes.of(source))
    stage.graph.remove_dead()
    return stage


def _constant_spec(var: Var) -> TensorSpec:
    """The spec of a constant, with its value if inference may need that. Weights, which it never needs, stay unread."""
    spec = var.spec
    if spec.size > FOLD_SIZE and spec.dtype.storage != np.int32:
        return TensorSpec(spec.shape, spec.dtype)
    return TensorSpec(spec.shape, spec.dtype, var.constant.array)


def missing_value(node: Node, ins: list[Var]) -> Var | None:
    """A variable whose value is needed to infer a node and is not known; None if all are known."""
    for i in naming(node, REGISTRY[node.op].needed_values, node):
        var = ins[i]
        if var.spec.value is None:
            if var.const is None:
                return node.inputs[i]
            var.spec = replace(var.spec, value=var.const.array)
    return None


def infer_node(node: Node, ins: list[Var], pool: ConstantPool) -> list[Var]:
    """New variables for the outputs of a node, with specs, and constants where all inputs are known.

    Parameters
    ----------
    node
        A node of the model's graph.
    ins
        The stage's variables for its inputs. Their shapes are known, and so are the values that
        :func:`missing_value` asks for.
    pool
        Makes the constants that follow from weights.
    """
    out_specs = naming(node, REGISTRY[node.op].infer, node, [v.spec for v in ins])
    if len(out_specs) != len(node.outputs):
        raise ShapeError(
            f"{node.op} {node.name!r} has {len(node.outputs)} outputs in the file, {len(out_specs)} by definition"
        )
    outs = [Var(v.id, v.name, s) for v, s in zip(node.outputs, out_specs, strict=True)]
    for v in outs:
        if v.spec.shape is not None and v.spec.nbytes > memory_limit():
            size = describe_bytes(v.spec.nbytes)
            raise fail(node, f"an output of shape {v.spec.shape} takes {size}, more memory than there is")
    for v in outs:
        if v.spec.value is not None:
            v.const = value_constant(v.spec.value)
    is_known = bool(ins) and all(v.const is not None for v in ins)
    if is_known and any(v.const is None for v in outs) and REGISTRY[node.op].folds:
        _fold(node, ins, outs, pool)
    return outs


def _fold(node: Node, ins: list[Var], outs: list[Var], pool: ConstantPool) -> None:
    """Computes a node whose inputs are all known, if that is cheap or if it reads nothing but weights of the model."""
    small = all(v.spec.shape is not None and v.spec.size <= FOLD_SIZE for v in outs)
    weights_only = all(not _is_value(v.const) for v in ins)
    if not small and not (weights_only and _is_compact(ins, outs)):
        return
    specs, out_specs = [v.spec for v in ins], [v.spec for v in outs]

    def compute(arrays: Sequence[np.ndarray], which: int) -> np.ndarray:
        results = naming(node, REGISTRY[node.op].compute, node, arrays, specs, out_specs)
        check_results(node, results, out_specs)
        return np.ascontiguousarray(results[which])

    dynamic = any(s.shape is None for s in out_specs)
    for i, v in enumerate(outs):
        if weights_only:
            recipe = ("fold", i, *(x.id for x in outs))
            v.const = pool.derive(recipe, [x.constant for x in ins], lambda *arrays, i=i: compute(arrays, i))
        else:
            v.const = value_constant(compute([x.constant.array for x in ins], i))
        if dynamic or small:
            array = v.constant.array
            v.spec = TensorSpec(array.shape, v.spec.dtype, array)


def _is_compact(ins: list[Var], outs: list[Var]) -> bool:
    """Whether the outputs take about as much memory as the inputs, or less. Outputs that depend on data do."""
    made = sum(v.spec.nbytes for v in outs if v.spec.shape is not None)
    return made <= FOLD_GROWTH * sum(v.spec.nbytes for v in ins)


def _is_value(constant: Constant | None) -> bool:
    return constant is not None and isinstance(constant.key, tuple) and constant.key[0] == "value"


def _cut(
    source: Graph,
    end: int,
    nodes: list[Node],
    copies: dict[Var, Var],
    known: Mapping[Var, TensorSpec],
    shape_only: Set[Var],
    lifetimes: Lifetimes,
) -> Stage:
    """The stage's graph: its outputs are what the caller or later nodes read."""
    wanted: list[Var] = []
    shapes: dict[Var, TensorSpec] = {}
    made = [var for var in copies if var.const is None and var not in known]
    if end == len(source.nodes):
        # The last stage hands out outputs that are inputs or constants.
        graph_inputs = set(source.inputs)
        for var in lifetimes.outputs:
            if var in graph_inputs or var.const is not None:
                made.append(var)
                if var not in copies:
                    spec = known.get(var) or TensorSpec(var.constant.array.shape, var.dtype)
                    copies[var] = Var(var.id, var.name, spec, var.const)
    for var in made:
        spec = copies[var].spec
        if lifetimes.last_reads.get(var, -1) >= end:
            wanted.append(var)
        elif var in lifetimes.outputs:
            if var in shape_only and spec.shape is not None:
                shapes[var] = spec
            else:
                wanted.append(var)
    inputs = [copy for v, copy in copies.items() if v in known]
    outputs = [copies[v] for v in wanted]
    names = [v.name for v in wanted]
    return Stage(Graph(nodes, inputs, outputs, names), {c: v for v, c in copies.items()}, end, shapes)
