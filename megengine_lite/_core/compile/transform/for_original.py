"""Rewrites the graph of another format with what files of MegEngine's can say.

What is computed from the sizes of the inputs becomes constants, since ONNX computes it in 64 bits, which the files do
not have. If the file has any of these it checks the sizes when it runs; else it takes inputs of all sizes.
``counterparts`` has what stands for operators that files lack.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from megengine_lite._core.compile.expand import all_nodes, expanded
from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, Stage, infer_stage
from megengine_lite._core.compile.passes.simplify import passes_through
from megengine_lite._core.compile.transform.counterparts import find, is_for_any_size
from megengine_lite._core.compile.transform.counterparts.integer_ranges import IntegerRanges, fits_int32
from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten
from megengine_lite._core.ir import params
from megengine_lite._core.ir.declared_shape import check_shapes
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32, UINT8, UINT16, DType, DTypeCode
from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    ConstantPool,
    DynamicNode,
    DynamicSpec,
    ModelGraph,
    Node,
    TensorSpec,
    Var,
)
from megengine_lite._core.ir.onnx_params import OnnxAttributes
from megengine_lite._core.ir.params import ReduceMode
from megengine_lite._core.ir.quantize import to_float32
from megengine_lite._core.operators.base import operator_of
from megengine_lite.errors import UnsupportedOperatorError, brief, listed

_CARRIERS = {UINT16: INT32, DType(DTypeCode.BFLOAT16): FLOAT32}
"""Types in which the original converts, and computes nearly nothing, and those in which it computes their numbers."""
_MOST_CARRIED = 4096
"""Elements of a constant that is stored in another type; larger ones are converted when the file is run."""
_MOST_DIMENSIONS = 6
"""Of inputs and outputs in the original; between them there may be 7."""
_MOST_EXACT = 2**24
"""float32 has all whole numbers up to here."""
_ON_DATA = "the shape of its results depends on data"


def for_original(source: ModelGraph, what: str, shapes: Mapping[str, tuple[int, ...]]) -> ModelGraph:
    """A graph that computes the same for inputs of certain sizes, with operators that files have.

    Inputs without a name in ``shapes`` have their sizes in the graph. Truth values of inputs and outputs are bytes,
    since the original has no tensors of them.

    Raises
    ------
    UnsupportedOperatorError
        Some nodes have no counterpart; all of them are listed.
    ShapeError
        The shapes are not those that the model declares.
    """
    check_shapes(source.declared, {v.name: shapes.get(v.name, v.shape) for v in source.inputs})
    known: dict[AnyVar, TensorSpec] = {v: TensorSpec(shapes.get(v.name, v.shape), v.dtype) for v in source.inputs}
    stage, problems, fixed = _known_part(source, known)
    writer = _FileWriter(source, stage, known, fixed)
    graph, more = writer.graph()
    listing = _Listing(source)
    for node, reason in [*problems, *more]:
        listing.add(node, reason)
    for thing, variables, names in (
        ("input", graph.inputs, [v.name for v in graph.inputs]),
        ("output", graph.outputs, graph.output_names),
    ):
        for var, name in zip(variables, names, strict=True):
            if len(shape_of(var)) > _MOST_DIMENSIONS:
                listing.lines[name, thing] = (
                    f"{thing} {brief(name)} (the original has none of {len(shape_of(var))} dimensions)"
                )
    if listing.lines:
        raise UnsupportedOperatorError(
            f"{what}: files of MegEngine's have no counterpart of these nodes: {listed(listing.lines.values())}"
        )
    return graph


class _Listing:
    """The nodes of the model that cannot be written, each once, with the names that they have there."""

    def __init__(self, source: ModelGraph):
        self._operators = source.operators_in_file
        self._inputs = {v.name for v in source.inputs}
        self.lines: dict[tuple[str, str], str] = {}

    def add(self, node: AnyNode, reason: str) -> None:
        other = "input" if node.name in self._inputs else node.op or "output"
        op = self._operators.get(node.name, other)
        self.lines.setdefault((node.name, ""), f"{op} {brief(node.name)} ({reason})")


# ---- what is known before the model runs ----------------------------------------------------------------------------


def _known_part(
    source: ModelGraph, known: Mapping[AnyVar, TensorSpec]
) -> tuple[Stage, list[tuple[AnyNode, str]], set[AnyVar]]:
    """The graph with all shapes known, and what follows from them constant; what depends on data; and the variables
    of the stage that have the same numbers for inputs of all sizes.

    Nodes that read what depends on data are left out. They are told only if files would not have them otherwise.
    """
    graph = source
    problems: list[tuple[AnyNode, str]] = []
    while True:
        end, culprits = 0, []
        try:
            stage = infer_stage(graph, 0, known, ConstantPool())
        except NeedsExpansion as need:
            graph = expanded(graph, 0, need.specs)
            continue
        except (NeedsRounds, NeedsValue):
            pass
        else:
            end = stage.next_node
            made = {
                stage.original.get(v, v) for n in stage.graph.nodes if isinstance(n, DynamicNode) for v in n.outputs
            }
            culprits = [node for node in graph.nodes[:end] if not made.isdisjoint(node.outputs)]
            if end == len(graph.nodes) and not culprits:
                return stage, problems, _fixed(graph, stage)
            if end < len(graph.nodes) and isinstance(graph.nodes[end].params, Subgraphs):
                specs = _specs_of(stage, graph, end, known)
                if specs is not None:
                    graph = expanded(graph, end, specs)
                    continue
        for node in culprits or [graph.nodes[end]]:
            problems.append((node, _reason_of(node)))
            graph, others = _without(graph, node)
            problems += others


def _fixed(graph: ModelGraph, stage: Stage) -> set[AnyVar]:
    """The variables of a stage that are constants of the model, or are computed from such alone."""
    alone: set[AnyVar] = set()

    def is_fixed(var: AnyVar) -> bool:
        return var.const is not None or var in alone

    for node in graph.nodes:
        if not isinstance(node.params, Subgraphs) and node.inputs and all(map(is_fixed, node.inputs)):
            alone.update(node.outputs)
    return {copy for copy, original in stage.original.items() if is_fixed(original)}


def _specs_of(
    stage: Stage, graph: ModelGraph, end: int, known: Mapping[AnyVar, TensorSpec]
) -> Sequence[TensorSpec] | None:
    """What is known of the inputs of a node that stands for a graph, if that is enough to put the graph there."""
    before = ModelGraph(graph.nodes[:end], graph.inputs, list(graph.nodes[end].inputs), [])
    part = infer_stage(before, 0, known, ConstantPool())
    made = {original: copy for copy, original in part.original.items()}
    specs: dict[AnyVar, TensorSpec] = {**known}
    for var in graph.nodes[end].inputs:
        copy = made.get(var)
        if copy is not None and isinstance(copy.spec, TensorSpec):
            specs[var] = (
                copy.spec if copy.const is None else TensorSpec(copy.spec.shape, copy.spec.dtype, copy.const.array)
            )
        elif var.const is None and var not in specs:
            return None
    try:
        infer_stage(graph, end, specs, ConstantPool())
    except NeedsExpansion as need:
        return need.specs
    except (NeedsRounds, NeedsValue):
        return None
    return None


def _reason_of(node: AnyNode) -> str:
    if not isinstance(node.params, Subgraphs):
        return _MISSING if _is_missing(node) else _ON_DATA
    return "whether and how often its graph is computed depends on data"


def _without(graph: ModelGraph, node: AnyNode) -> tuple[ModelGraph, list[tuple[AnyNode, str]]]:
    """The graph without a node and all that read what it makes; of these, those that files have not either."""
    gone, kept, problems = set(node.outputs), [], []
    for other in graph.nodes:
        if other is node:
            problems += [(n, _MISSING) for n in _inside(other) if _is_missing(n)]
        elif gone.isdisjoint(other.inputs):
            kept.append(other)
        else:
            gone.update(other.outputs)
            problems += [(n, _MISSING) for n in (other, *_inside(other)) if _is_missing(n)]
    pairs = [(v, n) for v, n in zip(graph.outputs, graph.output_names, strict=True) if v not in gone]
    return ModelGraph(kept, graph.inputs, [v for v, _ in pairs], [n for _, n in pairs]), problems


_MISSING = "there is no such operator"
_EMPTY = "the original has no constants without elements"


def _inside(node: AnyNode) -> Iterator[AnyNode]:
    if isinstance(node.params, Subgraphs):
        for inner in node.params.known_graphs():
            yield from all_nodes(inner)


def _is_missing(node: AnyNode) -> bool:
    """Whether files lack a node whatever its shapes are."""
    return operator_of(node.op).in_files is None and find(node.op) is None and not operator_of(node.op).of_shapes


def _carriers_of(node: AnyNode) -> Mapping[DType, DType]:
    """In which types a node is computed in the place of some. What moves bfloat16 or converts takes it as it is."""
    types = {dtype_of(v) for v in (*node.inputs, *node.outputs)}
    if isinstance(getattr(node.params, "dtype", None), DType):
        return {}
    return {
        k: v for k, v in _CARRIERS.items() if k in types and (k == UINT16 or not operator_of(node.op).moves_elements)
    }


def _needs_elements(node: AnyNode) -> bool:
    """Whether the original fails or gives what is in memory, because an input of the node has no elements."""
    if not any(0 in shape_of(v) for v in node.inputs):
        return False
    if node.op in ("Concat", "MatrixMul"):
        return False
    if node.op == "Reduce":
        return node.params.mode not in (ReduceMode.SUM, ReduceMode.PRODUCT)
    return node.op.startswith("Elemwise") or not any(0 in shape_of(v) for v in node.outputs)


# ---- nodes ----------------------------------------------------------------------------------------------------------


class _FileWriter:
    """Writes the nodes of a stage, one after the other."""

    def __init__(self, source: ModelGraph, stage: Stage, known: Mapping[AnyVar, TensorSpec], fixed: set[AnyVar]):
        self.source, self.stage, self.fixed = source, stage, fixed
        self.pieces = Pieces()
        self.ranges, self.ranges_of_any_size = IntegerRanges(any_size=False), IntegerRanges(any_size=True)
        self.made: dict[AnyVar, AnyVar] = {}
        self.missing: dict[AnyNode, tuple[AnyNode, str]] = {}  # by what stands in its place
        # Whether something in the file follows from the sizes of inputs: branches and rounds may.
        self.takes_sizes = any(isinstance(node.params, Subgraphs) for node in source.nodes)
        self.takes_sizes |= any(declared.trusted for declared in source.declared)
        self.inputs: list[Var] = []
        self.given: dict[AnyVar, AnyVar] = {}
        copies = {original: copy for copy, original in stage.original.items()}
        for var in source.inputs:
            copy = copies.get(var, var)
            spec = known[var]
            given = Var(var.id, var.name, TensorSpec(spec.shape, UINT8 if spec.dtype == BOOL else spec.dtype))
            self.inputs.append(given)
            self.pieces.name = var.name
            self.given[var] = given
            self.made[copy] = self.made[var] = self.pieces.converted(given, spec.dtype)

    def graph(self) -> tuple[ModelGraph, list[tuple[AnyNode, str]]]:
        """The graph that is written, and the nodes that cannot be, of those that an output needs."""
        for node in self.stage.graph.nodes:
            self._add(node)
        copies = {original: copy for copy, original in self.stage.original.items()}
        outputs: list[AnyVar] = []
        names = []
        for var, name in zip(self.source.outputs, self.source.output_names, strict=True):
            copy = copies.get(var, var)
            if copy not in self.made and copy.const is None:
                continue  # it depends on data, which is told already
            self.pieces.name = name
            names.append(name)
            try:
                outputs.append(self._output(copy))
                self.takes_sizes |= self._follows_from_sizes(copy)
            except NotWritten as reason:
                outputs += self._stand_in(AnyNode("", None, [], [copy], name), str(reason))
        if self.takes_sizes:
            outputs = self._with_checks(outputs)
        graph = ModelGraph(self.pieces.nodes, self.inputs, outputs, names)
        graph.remove_dead()
        return graph, [self.missing[node] for node in graph.nodes if node in self.missing]

    def _with_checks(self, outputs: Sequence[AnyVar]) -> list[AnyVar]:
        """Puts checks of the sizes of the inputs in front of all that read these, and of an output: at others, results
        are wrong."""
        pieces = self.pieces
        others, pieces.nodes = pieces.nodes, []
        checked: dict[AnyVar, AnyVar] = {}
        checks: list[AnyVar] = []
        for var in self.inputs:
            pieces.name = var.name
            shape = pieces.make("GetVarShape", params.OptionalAxisV1(), [var])
            expected = pieces.constant(np.array(var.shape, np.int32))
            if max(var.shape) > _MOST_EXACT:  # float32 does not tell all such numbers apart, but their differences
                shape, expected = pieces.subtract(shape, expected), pieces.constant(np.zeros(len(var.shape), np.int32))
            sizes = [pieces.constant(expected.constant.array, FLOAT32), pieces.converted(shape, FLOAT32)]
            checks.append(pieces.make("AssertEqual", params.AssertEqual(maxerr=0.0), sizes))
            checked[var] = pieces.make("VirtualDep", None, [var, checks[-1]])
        for node in others:
            node.inputs = [checked.get(v, v) for v in node.inputs]
        pieces.nodes += others
        found = [checked.get(v, v) for v in outputs]
        if found and checks:  # of an input, only the sizes may be used: nobody reads it in the file
            found[0] = pieces.make("VirtualDep", None, [found[0], *checks])
        return found

    def _output(self, var: AnyVar) -> AnyVar:
        found = self._standing(var)
        if 0 in shape_of(found):
            raise NotWritten(_EMPTY if found.const is not None else "the original gives no results without elements")
        return self.pieces.converted(found, UINT8) if dtype_of(found) == BOOL else found

    def _standing(self, var: AnyVar) -> AnyVar:
        """What is read in the file in place of a variable of the model."""
        found = self.made.get(var)
        if found is not None:
            return found
        if var.const is not None and dtype_of(var).is_wide:
            if dtype_of(var).storage.kind == "f":
                raise NotWritten("there are no elements of float64")
            self._check_range(var)
            found = self.made[var] = self.pieces.constant(var.const.array, INT32)
            return found
        return var

    def _check_range(self, var: AnyVar) -> None:
        if not fits_int32(self.ranges.of(var)):
            raise NotWritten(f"its numbers, elements of {dtype_of(var)}, may need more than 32 bits")
        self.takes_sizes |= not fits_int32(self.ranges_of_any_size.of(var))

    def _add(self, node: AnyNode) -> None:
        self.ranges.add(node)
        self.ranges_of_any_size.add(node)
        pieces = self.pieces
        pieces.name = node.name
        pieces.types = [dtype_of(v) for v in node.inputs]
        pieces.ranges = [self.ranges.of(v) for v in node.inputs]
        pieces.ranges_of_any_size = [self.ranges_of_any_size.of(v) for v in node.inputs]
        pieces.takes_sizes = not is_for_any_size(node.op) or any(map(self._follows_from_sizes, node.inputs))
        begin = len(pieces.nodes)
        try:
            inputs = [v for v in map(self._standing, node.inputs) if isinstance(v, Var)]
            results = [v for v in node.outputs if isinstance(v, Var)]  # all: what depends on data is not there
            # The original drops broadcasts to the same shape while it loads them, and then misses them.
            is_dropped = len(node.inputs) == 1 or pieces.takes_sizes or operator_of(node.op).repeats_elements
            if is_dropped and isinstance(node, Node) and passes_through(node):
                self.made[node.outputs[0]] = inputs[0]
                self.takes_sizes |= len(node.inputs) > 1  # at other sizes it may not
                return
            self._check_types(node)
            carriers = _carriers_of(node)
            inputs = [self._carried(v, carriers[v.dtype]) if v.dtype in carriers else v for v in inputs]
            results = [
                Var(v.id, v.name, TensorSpec(v.shape, carriers[v.dtype])) if v.dtype in carriers else v for v in results
            ]
            dtype = None if node.output_dtype is None else carriers.get(node.output_dtype, node.output_dtype)
            copy = Node(node.op, node.params, inputs, results, node.name, dtype, node.payload)
            write = find(node.op)
            written = self._as_it_is(copy) if write is None else write(pieces, copy)
            made = [written] if isinstance(written, AnyVar) else list(written)
            made = [
                pieces.converted(v, dtype_of(old)) if dtype_of(old) in carriers else v
                for v, old in zip(made, node.outputs, strict=True)
            ]
            if any(v.const is not None and 0 in shape_of(v) for n in pieces.nodes[begin:] for v in n.inputs):
                raise NotWritten(_EMPTY)
            if any(map(_needs_elements, pieces.nodes[begin:])):
                raise NotWritten("the original takes no data without elements here")
        except NotWritten as reason:
            del pieces.nodes[begin:]
            made = self._stand_in(node, str(reason))
        self.takes_sizes |= pieces.takes_sizes
        self.made.update(zip(node.outputs, made, strict=True))

    def _carried(self, var: Var, dtype: DType) -> Var:
        """The numbers of a variable in another type; small constants stay constants."""
        if var.const is None or var.spec.size > _MOST_CARRIED:
            return self.pieces.converted(var, dtype)
        numbers = to_float32(var.const.array, var.dtype) if dtype == FLOAT32 else var.const.array
        return self.pieces.constant(numbers, dtype)

    def _follows_from_sizes(self, var: AnyVar) -> bool:
        """Whether a variable is a constant in the file only, whose numbers the sizes of inputs decide."""
        return var.const is not None and var not in self.fixed

    def _check_types(self, node: AnyNode) -> None:
        for var in node.outputs:
            dtype = dtype_of(var)
            if dtype.is_wide and dtype.storage.kind == "f":
                raise NotWritten("there are no elements of float64")
            if dtype.is_wide and var.const is None:
                self._check_range(var)

    def _as_it_is(self, node: AnyNode) -> list[Var]:
        """The node itself, which files have."""
        if isinstance(node.params, OnnxAttributes):
            raise NotWritten("it is an operator in Python, whose attributes files cannot hold")
        in_files = operator_of(node.op).in_files
        if in_files is None:
            raise NotWritten(_MISSING)
        if not in_files.released:
            raise NotWritten("no release of the original knows it")
        found = self.pieces.results(node.op, node.params, node.inputs, len(node.outputs), node.output_dtype)
        self.pieces.nodes[-1].payload = node.payload
        return found

    def _stand_in(self, node: AnyNode, reason: str) -> list[Var]:
        """Variables for the results of a node that is not written, so that all such nodes are found."""
        made = []
        for var in node.outputs:
            spec = var.spec
            dtype = FLOAT32 if spec is None else spec.dtype
            if dtype.is_wide or dtype.is_quantized:
                dtype = FLOAT32 if dtype.is_quantized or dtype.storage.kind == "f" else INT32
            shape = () if spec is None or isinstance(spec, DynamicSpec) else spec.shape
            made.append(Var(0, "", TensorSpec(shape, dtype)))
        inputs = [self.made.get(v, v) for v in node.inputs]
        stand_in = AnyNode(node.op, node.params, inputs, made, node.name)
        self.missing[stand_in] = (node, reason)
        self.pieces.nodes.append(stand_in)
        return made
