"""Rewrites the graph of another format with what files of MegEngine's can say.

What is computed from the sizes of the inputs becomes constants, since ONNX computes it in 64 bits, which the files do
not have; sizes and multiples of them are computed in the file. It checks the sizes from which such constants follow
when it runs, and takes inputs of all others.
``counterparts`` has what stands for operators that files lack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from megengine_lite._core.compile.passes.simplify import passes_through
from megengine_lite._core.compile.transform.counterparts import find, is_for_any_size, reads_sizes
from megengine_lite._core.compile.transform.counterparts.integer_ranges import (
    IntegerRanges,
    fits_int32,
    is_index_in_32_bits,
    used_as_indexes,
)
from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten
from megengine_lite._core.compile.transform.known_part import MISSING, KnownPart, known_part
from megengine_lite._core.compile.transform.size_origins import NOTHING, InputSize, InputSizes, KnownNumber
from megengine_lite._core.ir import params
from megengine_lite._core.ir.declared_shape import check_shapes
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32, UINT8, UINT16, DType, DTypeCode
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
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
from megengine_lite._core.operators.shape import NO_AXIS
from megengine_lite.errors import UnsupportedOperatorError, brief, listed_nodes

_CARRIERS = {UINT16: INT32, DType(DTypeCode.BFLOAT16): FLOAT32}
"""Types in which the original converts, and computes nearly nothing, and those in which it computes their numbers."""
_MOST_CARRIED = 4096
"""Elements of a constant that is stored in another type; larger ones are converted when the file is run."""
_MOST_DIMENSIONS = 6
"""Of inputs and outputs in the original; between them there may be 7."""
_EMPTY = "the original has no constants without elements"
_LONGEST = 2**31 - 1
"""The length of an axis that an index of int32 can reach."""
_MOST_EXACT = 2**24
"""float32 has all whole numbers up to here."""


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
    part = known_part(source, known)
    graph, more = _FileWriter(source, part, known).graph()
    listing = _Listing(source)
    for node, reason in [*part.problems, *more]:
        listing.add(node, reason)
    for thing, variables, names in (
        ("input", graph.inputs, [v.name for v in graph.inputs]),
        ("output", graph.outputs, graph.output_names),
    ):
        for var, name in zip(variables, names, strict=True):
            if len(shape_of(var)) > _MOST_DIMENSIONS:
                reason = f"the original has none of {len(shape_of(var))} dimensions"
                listing.lines[name, thing] = (thing, brief(name), reason)
    if listing.lines:
        raise UnsupportedOperatorError(
            f"{what}: files of MegEngine's have no counterpart of these nodes: {listed_nodes(listing.lines.values())}"
        )
    return graph


class _Listing:
    """The nodes of the model that cannot be written, each once, with the names that they have there."""

    def __init__(self, source: ModelGraph):
        self._operators = source.operators_in_file
        self._inputs = {v.name for v in source.inputs}
        self.lines: dict[tuple[str, str], tuple[str, str, str]] = {}

    def add(self, node: AnyNode, reason: str) -> None:
        other = "input" if node.name in self._inputs else node.op or "output"
        op = self._operators.get(node.name, other)
        self.lines.setdefault((node.name, ""), (op, brief(node.name), reason))


def _too_wide(var: AnyVar) -> str:
    return f"its numbers, elements of {dtype_of(var)}, may need more than 32 bits"


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

    def __init__(self, source: ModelGraph, part: KnownPart, known: Mapping[AnyVar, TensorSpec]):
        self.source, self.stage = source, part.stage
        self.origins, self.originals = part.origins(known), part.stage.original
        self.pieces = Pieces()
        self.ranges, self.ranges_of_any_size = IntegerRanges(any_size=False), IntegerRanges(any_size=True)
        self.indexes = used_as_indexes(self.stage.graph.nodes, self.stage.graph.outputs)
        self.made: dict[AnyVar, AnyVar] = {}
        self.missing: dict[AnyNode, tuple[AnyNode, str]] = {}  # by what stands in its place
        # The sizes of inputs from which something in the file follows.
        self.taken: set[InputSize] = set()
        for var, axis in part.decided:
            self.taken |= self.origins.of(var) if axis is None else self.origins.sizes(var)[axis]
        trusted = {declared.name: declared.trusted for declared in source.declared}
        self.taken |= {InputSize(var, axis) for var in source.inputs for axis in trusted.get(var.name, ())}
        self.computed: dict[tuple[AnyVar, int, int], Var] = {}
        self.inputs: list[Var] = []
        self.given: dict[AnyVar, AnyVar] = {}
        self.copies = {original: copy for copy, original in self.originals.items()}
        for var in source.inputs:
            copy = self.copies.get(var, var)
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
        outputs: list[AnyVar] = []
        names = []
        for var, name in zip(self.source.outputs, self.source.output_names, strict=True):
            copy = self.copies.get(var, var)
            if copy not in self.made and copy.const is None:
                continue  # it depends on data, which is told already
            self.pieces.name = name
            names.append(name)
            try:
                outputs.append(self._output(copy))
                self.taken |= self._behind_numbers(copy)
            except NotWritten as reason:
                outputs += self._stand_in(AnyNode("", None, [], [copy], name), str(reason))
        if self.taken:
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
        for original, var in self.given.items():
            axes = sorted(place.axis for place in self.taken if place.input is original)
            if not axes:
                continue
            pieces.name = var.name
            sizes_now = self._sizes_now(var, axes)
            expected = pieces.constant(np.array([shape_of(var)[axis] for axis in axes], np.int32))
            if max(shape_of(var)) > _MOST_EXACT:  # float32 does not tell all such numbers apart, but their differences
                sizes_now = pieces.subtract(sizes_now, expected)
                expected = pieces.constant(np.zeros(len(axes), np.int32))
            sizes = [pieces.constant(expected.constant.array, FLOAT32), pieces.converted(sizes_now, FLOAT32)]
            checks.append(pieces.make("AssertEqual", params.AssertEqual(maxerr=0.0), sizes))
            checked[var] = pieces.make("VirtualDep", None, [var, checks[-1]])
        for node in others:
            node.inputs = [checked.get(v, v) for v in node.inputs]
        pieces.nodes += others
        found = [checked.get(v, v) for v in outputs]
        if found and checks:  # of an input, only the sizes may be used: nobody reads it in the file
            found[0] = pieces.make("VirtualDep", None, [found[0], *checks])
        return found

    def _sizes_now(self, var: AnyVar, axes: Sequence[int]) -> Var:
        """The sizes of some axes of a variable, as the file computes them."""
        pieces = self.pieces
        if len(axes) == len(shape_of(var)):
            return pieces.make("GetVarShape", params.OptionalAxisV1(), [var])
        return pieces.joined([pieces.make("GetVarShape", params.OptionalAxisV1(axis=a), [var]) for a in axes], 0)

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
        if var in self.indexes:
            return  # where it is used, its low bits have to be enough
        if not fits_int32(self.ranges.of(var)):
            raise NotWritten(_too_wide(var))
        if not fits_int32(self.ranges_of_any_size.of(var)):
            self.taken |= self._all_sizes()

    def _add(self, node: AnyNode) -> None:
        self.ranges.add(node)
        self.ranges_of_any_size.add(node)
        pieces = self.pieces
        pieces.name = node.name
        pieces.types = [dtype_of(v) for v in node.inputs]
        pieces.ranges = [self.ranges.of(v) for v in node.inputs]
        pieces.ranges_of_any_size = [self.ranges_of_any_size.of(v) for v in node.inputs]
        pieces.takes_sizes, pieces.takes_ranges = not is_for_any_size(node.op), False
        pieces.takes_axes.clear()
        begin, taken = len(pieces.nodes), NOTHING
        try:
            node = self._with_computed_sizes(node)
            taken = NOTHING.union(*map(self._behind_numbers, node.inputs))
            inputs = [v for v in map(self._standing, node.inputs) if isinstance(v, Var)]
            results = [v for v in node.outputs if isinstance(v, Var)]  # all: what depends on data is not there
            # The original drops broadcasts to the same shape while it loads them, and then misses them; reshapes, too,
            # where it knows the shape of the data.
            is_known = bool(node.inputs) and self._behind_shape(node.inputs[0]) <= self.taken
            is_dropped = len(node.inputs) == 1 or taken or is_known or operator_of(node.op).repeats_elements
            if is_dropped and isinstance(node, Node) and passes_through(node):
                self.made[node.outputs[0]] = inputs[0]
                if len(node.inputs) > 1:  # at other sizes it may not
                    self.taken |= taken.union(*map(self._behind_shape, (*node.inputs[:1], *node.outputs)))
                return
            self._check_types(node)
            self._check_indexes(node)
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
        self.taken |= self._taken_by(node, taken)
        self.made.update(zip(node.outputs, made, strict=True))

    def _carried(self, var: Var, dtype: DType) -> Var:
        """The numbers of a variable in another type; small constants stay constants."""
        if var.const is None or var.spec.size > _MOST_CARRIED:
            return self.pieces.converted(var, dtype)
        numbers = to_float32(var.const.array, var.dtype) if dtype == FLOAT32 else var.const.array
        return self.pieces.constant(numbers, dtype)

    # ---- sizes ------------------------------------------------------------------------------------------------------

    def _all_sizes(self) -> InputSizes:
        return frozenset(InputSize(var, axis) for var in self.source.inputs for axis in range(len(var.shape)))

    def _behind_numbers(self, var: AnyVar) -> InputSizes:
        """The sizes of inputs that decide the numbers of a variable which is a constant in the file only."""
        return NOTHING if var.const is None else self.origins.numbers(self.originals.get(var, var))

    def _behind_shape(self, var: AnyVar) -> InputSizes:
        original = self.originals.get(var, var)
        return NOTHING.union(*self.origins.sizes(original)) if original in self.copies else NOTHING

    def _taken_by(self, node: AnyNode, taken: InputSizes) -> InputSizes:
        """The sizes of inputs from which something follows that has been written for a node."""
        pieces = self.pieces
        if pieces.takes_ranges:
            return self._all_sizes()
        if pieces.takes_sizes:
            return taken.union(*map(self._behind_shape, (*node.inputs, *node.outputs)))
        original = self.originals.get(node.inputs[0], node.inputs[0]) if node.inputs else None
        if original not in self.copies:
            return taken
        sizes = self.origins.sizes(original)
        return taken.union(*(sizes[axis] for axis in pieces.takes_axes))

    def _with_computed_sizes(self, node: AnyNode) -> AnyNode:
        """The node, which reads computed variables in place of numbers that are sizes of others, where it can.

        Of the shape that data get one number may be left open, which then need not be known. A single one always is:
        the original drops reshapes to the shape of their own data while it loads them, and then misses them.
        """
        if not reads_sizes(node.op) or not any(map(self._behind_numbers, node.inputs)):
            return node
        inputs, parameters = list(node.inputs), node.params
        for k, var in enumerate(node.inputs):
            if not self._behind_numbers(var):
                continue
            numbers = self.origins.each(self.originals[var])
            computed = [n for n in numbers if n.places and self._size_in_file(n) is None]
            free = None
            single = numbers if len(numbers) == 1 else computed
            if node.op == "Reshape" and k == 1 and parameters.axis == NO_AXIS and len(single) == 1:
                free = next(place for place, n in enumerate(numbers) if n is single[0])
            elif computed:
                continue
            inputs[k] = self._numbers_in_file(var, numbers, free)
            if free is not None:
                parameters = params.OptionalAxisV1(axis=free)
        return type(node)(node.op, parameters, inputs, node.outputs, node.name, node.output_dtype, node.payload)

    def _size_in_file(self, number: KnownNumber) -> AnyVar | None:
        """The variable of the file of whose size a number is a multiple."""
        if number.copied is None:
            return None
        var = self.copies.get(number.copied[0])
        found = None if var is None else self.made.get(var)
        return None if found is None or found.const is not None else found

    def _numbers_in_file(self, var: AnyVar, numbers: Sequence[KnownNumber], free: int | None) -> Var:
        """A vector of numbers and of sizes that the file computes. The one that is left open is 1."""
        pieces = self.pieces
        parts: list[Var] = []
        constants: list[int] = []
        for place, (number, known) in enumerate(zip(var.constant.array.reshape(-1), numbers, strict=True)):
            source = self._size_in_file(known)
            if source is None or place == free:
                constants.append(1 if place == free else int(number))
                continue
            if constants:
                parts.append(pieces.constant(np.array(constants, np.int32)))
                constants = []
            assert known.copied is not None
            axis = known.copied[1]
            key = source, axis, known.factor
            if key not in self.computed:
                # A part of the whole shape: the original takes what `GetVarShape` gives for one axis, if data are
                # brought into that shape, for the first axis of the same variable.
                shape = self._sizes_now(source, range(len(shape_of(source))))
                size = pieces.part(shape, 0, axis, axis + 1)
                factor = pieces.constant(np.array([known.factor], np.int32))
                self.computed[key] = size if known.factor == 1 else pieces.multiply(size, factor)
            parts.append(self.computed[key])
        if constants:
            parts.append(pieces.constant(np.array(constants, np.int32)))
        found = pieces.joined(parts, 0)
        spec = TensorSpec(found.shape, found.dtype, var.constant.array.astype(np.int32))
        if found.const is not None:
            return Var(found.id, found.name, spec, found.const)  # others may read this constant as what it holds
        found.spec = spec
        return found

    def _check_types(self, node: AnyNode) -> None:
        for var in node.outputs:
            dtype = dtype_of(var)
            if dtype.is_wide and dtype.storage.kind == "f":
                raise NotWritten("there are no elements of float64")
            if dtype.is_wide and var.const is None:
                self._check_range(var)

    def _check_indexes(self, node: AnyNode) -> None:
        """Of integers that may need more than 32 bits the low ones are written; no others may become indexes so."""
        for k in operator_of(node.op).index_inputs(node):
            numbers = self.ranges.of(node.inputs[k])
            if fits_int32(numbers):
                continue
            length = max(shape_of(node.inputs[0]))
            if not is_index_in_32_bits(numbers, length):
                raise NotWritten(_too_wide(node.inputs[k]))
            if not is_index_in_32_bits(self.ranges_of_any_size.of(node.inputs[k]), _LONGEST):
                self.taken |= self._behind_shape(node.inputs[0])

    def _as_it_is(self, node: AnyNode) -> list[Var]:
        """The node itself, which files have."""
        if isinstance(node.params, OnnxAttributes):
            raise NotWritten("it is an operator in Python, whose attributes files cannot hold")
        in_files = operator_of(node.op).in_files
        if in_files is None:
            raise NotWritten(MISSING)
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
