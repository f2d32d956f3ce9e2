"""Shape inference over a graph: specs of all variables, with the values of small tensors computed from shapes.

Inference walks nodes in order and stops where it needs something that only running can tell: the shape of a tensor
that depends on data, or the value of a tensor that is not known. Everything before that point is one *stage*.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set

import numpy as np

from megengine_lite._core.compile.expand import input_specs
from megengine_lite._core.compile.lifetimes import Lifetimes
from megengine_lite._core.compile.unroll import MOST_OF_STAGE, unrolled
from megengine_lite._core.ir.expansion import Expansion, Subgraphs
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    Constant,
    ConstantPool,
    DynamicNode,
    DynamicSpec,
    DynamicVar,
    Graph,
    ModelGraph,
    Node,
    Spec,
    TensorSpec,
    Var,
)
from megengine_lite._core.ir.shape_constant import value_constant
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import check_results, checked, compute_node, fail, naming, quiet
from megengine_lite._core.system.garbage import without_collector
from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite._core.system.own_faults import own_faults
from megengine_lite._records import field, record, replace
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, InternalError, LiteError, ShapeError

# Tensors up to this size are computed while planning when all inputs are known.
FOLD_SIZE = 4096
# Weights are folded only if the result takes at most this many times their memory. A node that only repeats them runs.
FOLD_GROWTH = 2
# Larger values that follow from constants and shapes, such as filters that a model computes, are folded up to this size
# each, until all together have taken so many steps (see ``folding_steps``).
FOLD_LARGE = 1 << 20
FOLD_STEPS = 1 << 23


class NeedsValue(Exception):
    """Inference of a node needs the value of a variable that exists before the stage begins."""

    def __init__(self, var: AnyVar, node: AnyNode):
        self.var = var
        self.node = node


class NeedsExpansion(Exception):
    """Inference comes to a node that stands for a graph, and enough is known to put that in its place.

    Such a node always begins a stage.
    """

    def __init__(self, key: Hashable, specs: Sequence[TensorSpec]):
        self.key = key
        self.specs = specs


class NeedsRounds(Exception):
    """Inference comes to a node that runs a graph again and again, which is a stage of its own."""

    def __init__(self, node: AnyNode):
        self.node = node


class Budget:
    """How many steps a stage may still take to fold large values, and how many nodes of loops it may still get."""

    __slots__ = ("rounds", "steps")

    def __init__(self) -> None:
        self.steps = FOLD_STEPS
        self.rounds = MOST_OF_STAGE

    def takes(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[Spec]) -> bool:
        """Whether a node may be folded; what it takes is then gone."""
        operator = REGISTRY[node.op]
        known = [s for s in outs if isinstance(s, TensorSpec) and s.size <= FOLD_LARGE]
        if len(known) < len(outs) or operator.repeats_elements:
            return False
        steps = operator.folding_steps(node, ins, known)
        if steps > self.steps:
            return False
        self.steps -= steps
        return True


@record(slots=True)
class Stage:
    """A run of nodes whose shapes are known: a graph of its own, plus where the rest begins.

    ``original`` maps the stage's variables to those of the model's graph. ``shapes`` has the specs of outputs of the
    model's graph of which only the shape is wanted, and which are not computed.
    """

    graph: Graph
    original: dict[AnyVar, AnyVar]
    next_node: int
    shapes: dict[AnyVar, TensorSpec] = field(default_factory=dict)


@own_faults("shape inference", passing=(NeedsValue, NeedsExpansion, NeedsRounds))
@quiet
@without_collector
def infer_stage(
    source: ModelGraph,
    begin: int,
    known: Mapping[AnyVar, TensorSpec],
    pool: ConstantPool,
    shape_only: Set[AnyVar] = frozenset(),
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
        A node needs the value of a variable of ``known``.
    NeedsExpansion
        The first node stands for a graph.
    NeedsRounds
        The first node runs a graph again and again.
    """
    copies: dict[AnyVar, Var | DynamicVar] = {}

    def copy_of(var: AnyVar) -> Var | DynamicVar:
        found = copies.get(var)
        if found is None:
            if isinstance(var, Var) and var.const is not None:
                found = Var(var.id, var.name, _constant_spec(var), var.const)
            else:
                value = known[var].value
                found = Var(var.id, var.name, known[var], None if value is None else value_constant(value))
            copies[var] = found
        return found

    nodes: list[Node | DynamicNode] = []
    budget = Budget()

    def add(node: AnyNode) -> bool:
        """Adds what a node computes; whether that was possible."""
        if any(v not in copies and v.const is None and v not in known for v in node.inputs):
            raise LiteError(f"{node.op} {node.name!r} reads a variable that is not defined yet")
        read = [copy_of(v) for v in node.inputs]
        ins = [v for v in read if isinstance(v, Var)]
        if len(ins) != len(read):
            return False
        missing = missing_value(node, ins)
        if missing is not None:
            if missing in known:
                raise NeedsValue(missing, node)
            return False
        outs = infer_node(node, ins, pool, budget)
        for var, made in zip(node.outputs, outs, strict=True):
            copies[var] = made
        if any(v.const is None for v in outs):
            nodes.append(shaped_node(node, ins, outs))
        return True

    def add_rounds(node: AnyNode) -> bool:
        """Adds all rounds of a loop, if they can be part of a stage."""
        if any(v not in copies and v.const is None and v not in known for v in node.inputs):
            return False
        specs = [v.spec for v in map(copy_of, node.inputs) if isinstance(v, Var)]
        rounds = unrolled(node, specs) if len(specs) == len(node.inputs) else None
        budget.rounds -= len(rounds or ())
        n_before = len(nodes)
        try:
            if rounds is not None and budget.rounds >= 0 and all(map(add, rounds)):
                return True
        except NOT_ABOUT_THE_MODEL:
            raise
        except (LiteError, NeedsValue):
            pass  # as a loop it says what is wrong, if anything is
        del nodes[n_before:]
        for var in node.outputs:
            copies.pop(var, None)
        return False

    k = begin
    for k in range(begin, len(source.nodes)):
        node = source.nodes[k]
        if isinstance(node.params, Subgraphs):
            if add_rounds(node):
                continue
            if k == begin:
                raise _needed(node, node.params, known)
            break
        if not add(node):
            break
    else:
        k = len(source.nodes)

    stage = _cut(source, k, nodes, copies, known, shape_only, lifetimes or Lifetimes.of(source))
    stage.graph.remove_dead()
    return stage


def _needed(node: AnyNode, expansion: Subgraphs, known: Mapping[AnyVar, TensorSpec]) -> Exception:
    if not isinstance(expansion, Expansion):
        return NeedsRounds(node)
    specs = input_specs(node, known)
    for position in expansion.values:
        if specs[position].value is None:
            return NeedsValue(node.inputs[position], node)
    return NeedsExpansion(checked(node, expansion.key, node, specs), specs)


def shaped_node(node: AnyNode, ins: list[Var], outs: Sequence[Var | DynamicVar]) -> Node | DynamicNode:
    """A copy of a node that reads and computes other variables."""
    shaped = [v for v in outs if isinstance(v, Var)]
    if len(shaped) == len(outs):
        return Node(node.op, node.params, ins, shaped, node.name, node.output_dtype, node.payload)
    return DynamicNode(node.op, node.params, ins, outs, node.name, node.output_dtype, node.payload)


def _constant_spec(var: Var) -> TensorSpec:
    """The spec of a constant, with its value if inference may need that. Weights, which it never needs, stay unread."""
    spec = var.spec
    if spec.size > FOLD_SIZE and spec.dtype.storage != np.int32:
        return TensorSpec(spec.shape, spec.dtype)
    return TensorSpec(spec.shape, spec.dtype, var.constant.array)


def missing_value(node: AnyNode, ins: Sequence[Var]) -> AnyVar | None:
    """A variable whose value is needed to infer a node and is not known; None if all are known."""
    for i in checked(node, REGISTRY[node.op].needed_values, node):
        var = ins[i]
        if var.spec.value is None:
            if var.const is None:
                return node.inputs[i]
            var.spec = replace(var.spec, value=var.const.array)
    return None


def infer_node(
    node: AnyNode, ins: Sequence[Var], pool: ConstantPool, budget: Budget | None = None
) -> list[Var | DynamicVar]:
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
    budget
        For large values; None to fold small ones and weights only.
    """
    out_specs = checked(node, REGISTRY[node.op].infer, node, [v.spec for v in ins])
    if len(out_specs) != len(node.outputs):
        raise ShapeError(
            f"{node.op} {node.name!r} has {len(node.outputs)} outputs in the file, {len(out_specs)} by definition"
        )
    outs = [_output(node, v, spec) for v, spec in zip(node.outputs, out_specs, strict=True)]
    constants = [v.const for v in ins if v.const is not None]
    is_known = bool(ins) and len(constants) == len(ins)
    if is_known and any(v.const is None for v in outs) and REGISTRY[node.op].folds:
        return _folded(node, ins, constants, outs, pool, budget)
    return outs


def _output(node: AnyNode, var: AnyVar, spec: Spec) -> Var | DynamicVar:
    """The variable for an output; a constant if its value follows from shapes."""
    if isinstance(spec, DynamicSpec):
        return DynamicVar(var.id, var.name, spec)
    if spec.nbytes > memory_limit():
        size = describe_bytes(spec.nbytes)
        raise fail(node, f"an output of shape {spec.shape} takes {size}, more memory than there is")
    return Var(var.id, var.name, spec, None if spec.value is None else value_constant(spec.value))


def _folded(
    node: AnyNode,
    ins: Sequence[Var],
    constants: list[Constant],
    outs: list[Var | DynamicVar],
    pool: ConstantPool,
    budget: Budget | None,
) -> list[Var | DynamicVar]:
    """The outputs of a node whose inputs are all known: constants, if that is cheap or it reads weights only."""
    specs, out_specs = [v.spec for v in ins], [v.spec for v in outs]
    # What is counted in data or chosen of them is about as much as the data.
    sizes = [spec.size for spec in (s for s in (*specs, *out_specs) if isinstance(s, TensorSpec))]
    dynamic = any(isinstance(s, DynamicSpec) for s in out_specs)
    small = max(sizes if dynamic else sizes[len(specs) :], default=0) <= FOLD_SIZE
    from_pool = not any(map(_is_value, constants))
    if not small and not (from_pool and _is_compact(ins, outs)):
        if budget is None or not budget.takes(node, specs, out_specs):
            return outs
        from_pool = True

    def compute(arrays: Sequence[np.ndarray], which: int) -> np.ndarray:
        results = naming(node, compute_node, node, arrays, specs, out_specs)
        check_results(node, results, out_specs)
        return np.ascontiguousarray(results[which])

    folded: list[Var | DynamicVar] = []
    for i, v in enumerate(outs):
        if from_pool:
            recipe = ("fold", i, *(x.id for x in outs))
            constant = pool.derive(recipe, constants, lambda *arrays, i=i: compute(arrays, i))
        else:
            constant = value_constant(compute([c.array for c in constants], i))
        if REGISTRY[node.op].moves_elements:
            constant.scales = constants[0].scales
        spec = v.spec
        if dynamic or small or isinstance(spec, DynamicSpec):
            spec = TensorSpec(constant.array.shape, spec.dtype, constant.array)
        folded.append(Var(v.id, v.name, spec, constant))
    return folded


def _is_compact(ins: Sequence[Var], outs: Sequence[Var | DynamicVar]) -> bool:
    """Whether the outputs take about as much memory as the inputs, or less. Unknown shapes count as nothing."""
    made = sum(v.spec.nbytes for v in outs if isinstance(v, Var))
    return made <= FOLD_GROWTH * sum(v.spec.nbytes for v in ins)


def _is_value(constant: Constant) -> bool:
    return isinstance(constant.key, tuple) and constant.key[0] == "value"


def _cut(
    source: ModelGraph,
    end: int,
    nodes: list[Node | DynamicNode],
    copies: dict[AnyVar, Var | DynamicVar],
    known: Mapping[AnyVar, TensorSpec],
    shape_only: Set[AnyVar],
    lifetimes: Lifetimes,
) -> Stage:
    """The stage's graph: its outputs are what the caller or later nodes read."""
    wanted: list[AnyVar] = []
    shapes: dict[AnyVar, TensorSpec] = {}
    made = [var for var in copies if var.const is None and var not in known]
    if end == len(source.nodes):
        # The last stage hands out outputs that are inputs or constants.
        graph_inputs = set(source.inputs)
        for var in lifetimes.outputs:
            if var in graph_inputs or var.const is not None:
                made.append(var)
                if var not in copies:
                    spec = known[var] if var in known else _shape_of_constant(var)
                    copies[var] = Var(var.id, var.name, spec, var.const)
    for var in made:
        made_spec = copies[var].spec
        if lifetimes.is_read(var, end):
            wanted.append(var)
        elif var in lifetimes.outputs:
            if var in shape_only and isinstance(made_spec, TensorSpec):
                shapes[var] = made_spec
            else:
                wanted.append(var)
    inputs = [copy for v, copy in copies.items() if v in known and isinstance(copy, Var)]
    outputs = [copies[v] for v in wanted]
    names = [v.name for v in wanted]
    return Stage(Graph(nodes, inputs, outputs, names), {c: v for v, c in copies.items()}, end, shapes)


def _shape_of_constant(var: AnyVar) -> TensorSpec:
    if not isinstance(var, Var):
        raise InternalError(f"{var} is read and neither known nor a constant")
    return TensorSpec(var.constant.array.shape, var.dtype)
