"""Writes the graph of a model as an ONNX model. Start here."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.formats.onnx.export import DEFAULT_OPSET
from megengine_lite._core.formats.onnx.export import operators as _operators
from megengine_lite._core.formats.onnx.export.forms import STORED, Forms
from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.table import CONVERTERS, NodeCall, NotExported
from megengine_lite._core.formats.onnx.messages import (
    PRODUCER,
    Dimension,
    ElementType,
    GraphProto,
    ModelProto,
    OperatorSetIdProto,
    TensorShapeProto,
    TensorType,
    TypeProto,
    ValueInfoProto,
)
from megengine_lite._core.formats.onnx.own_operators import DOMAIN, attributes_of
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph
from megengine_lite._core.ir.known_shapes import KnownShapes, KnownVar, Shape
from megengine_lite._records import record
from megengine_lite.errors import LiteValueError, UnsupportedOperatorError, listed_nodes

assert _operators  # the import enters the converters

OLDEST, NEWEST = 13, 23
_IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}


class FixedSizesNeeded(Exception):
    """Raised for a graph that can be written only if some dimensions of its inputs keep their sizes."""

    def __init__(self, names: set[str]):
        super().__init__(", ".join(sorted(names)))
        self.names = names


@record(frozen=True, slots=True)
class ExportOptions:
    """How a model is written.

    Attributes
    ----------
    opset
        Version of the standard's operators.
    custom_domain
        Write nodes that the standard cannot say as operators of the domain ``megengine``, in place of refusing them.
    producer
        Name and version of the program that writes.
    """

    opset: int = DEFAULT_OPSET
    custom_domain: bool = False
    producer: tuple[str, str] = (PRODUCER, "")


def export_graph(graph: ModelGraph, known: KnownShapes, options: ExportOptions, what: str = "model") -> ModelProto:
    """The model as records of ONNX.

    Parameters
    ----------
    graph
        The graph of a model as it was loaded; it is not changed.
    known
        What is known of its variables.
    options
        How to write it.
    what
        Name of the model for messages.

    Raises
    ------
    UnsupportedOperatorError
        Nodes that cannot be written; all of them are listed.
    FixedSizesNeeded
        Nodes that can be written only if some dimensions of the inputs keep their sizes.
    LiteValueError
        There is no such version of the operators.
    """
    if not OLDEST <= options.opset <= NEWEST:
        raise LiteValueError(f"operator sets {OLDEST} to {NEWEST} can be written, not {options.opset}")
    return _Exporter(graph, known, options, what).run()


class _Exporter:
    def __init__(self, graph: ModelGraph, known: KnownShapes, options: ExportOptions, what: str):
        self.graph = graph
        self.known = known
        self.options = options
        self.what = what
        self.writer = GraphWriter(options.opset)
        self.forms: dict[AnyVar, Forms] = {}
        self.problems: list[tuple[str, str, str]] = []  # operator, name, reason
        self.to_fix: set[str] = set()

    def run(self) -> ModelProto:
        for given in self.graph.inputs:
            self._add_input(given)
        for var, known in self.known.variables.items():
            if var not in self.forms:
                self.forms[var] = Forms(self.writer, known)
        alive = self._alive()
        wanted = {v for node in alive for v in node.inputs} | set(self.graph.outputs)
        for node in alive:
            self._add_node(node, [v in wanted for v in node.outputs])
        if self.to_fix:
            raise FixedSizesNeeded(self.to_fix)
        if self.problems:
            self._refuse()
        names = self._name_outputs()
        self.writer.remove_dead(names)
        return self._model(names)

    def _alive(self) -> list[AnyNode]:
        """The nodes that an output needs, and whose results are not known beforehand."""
        needed: set[AnyVar] = set(self.graph.outputs)
        kept = []
        for node in reversed(self.graph.nodes):
            computed = [v for v in node.outputs if v in needed and not self._is_constant(v)]
            if computed:
                kept.append(node)
                needed.update(node.inputs)
        return kept[::-1]

    def _is_constant(self, var: AnyVar) -> bool:
        known = self.known.variables.get(var)
        return known is not None and known.constant is not None

    def _add_input(self, var: AnyVar) -> None:
        known = self.known.variables[var]
        if known.dtype.code not in STORED:
            self.problems.append(("the input", f"{var.name!r} is of type {known.dtype}", ""))
            return
        forms = self.forms[var] = Forms(self.writer, known)
        forms.stored[None] = OnnxValue(self.writer, self.writer.name(var.name), STORED[known.dtype.code])

    def _add_node(self, node: AnyNode, wanted: list[bool]) -> None:
        label = node.name or next((v.name for v in node.outputs if v.name), "") or f"{node.op}[{node.outputs[0].id}]"
        writer = self.writer
        writer.label = label
        call = NodeCall(node, writer, self.forms, wanted)
        begin = len(writer.nodes)
        try:
            self._check(node, wanted)
            converter = CONVERTERS.get(node.op)
            if converter is None:
                raise NotExported("ONNX has no such operator")
            converter(call)
        except NotExported as reason:
            del writer.nodes[begin:]
            self.to_fix |= reason.follows
            if self.options.custom_domain and not reason.follows and self._check_custom(call):
                self._add_custom(call)
                return
            self.problems.append((node.op, repr(label), str(reason)))
            self._stand_in(node)

    def _check(self, node: AnyNode, wanted: Sequence[bool]) -> None:
        outputs = [v for v, w in zip(node.outputs, wanted, strict=True) if w]
        for var in (*node.inputs, *outputs):
            known = self.known.variables.get(var)
            if known is None:
                raise NotExported("its shape is known only when the model runs")
            if known.dtype.code not in STORED:
                raise NotExported(f"ONNX has no elements of type {known.dtype}")

    def _stand_in(self, node: AnyNode) -> None:
        """Values for the outputs of a node that is not written, so that all problems are found."""
        for var in node.outputs:
            forms = self.forms.get(var)
            if forms is not None and not forms.stored:
                kind = STORED.get(forms.dtype.code, ElementType.FLOAT)
                forms.stored[None] = OnnxValue(self.writer, self.writer.name(f"missing:{node.op}"), kind)

    # ---- nodes of a domain of our own -------------------------------------------------------------------------------

    def _check_custom(self, call: NodeCall) -> bool:
        """Whether the types of a node's variables are known, so that it can be written as it is."""
        variables = (*call.node.inputs, *call.node.outputs)
        return all(v in self.forms and self.forms[v].dtype.code in STORED for v in variables)

    def _add_custom(self, call: NodeCall) -> None:
        """The node as an operator of our own, with its parameters as attributes."""
        node = call.node
        types = [[self.forms[v].dtype for v in variables] for variables in (node.inputs, node.outputs)]
        attributes = attributes_of(node, *types)
        kinds = [STORED[self.forms[v].dtype.code] for v in node.outputs]
        inputs = [call.stored(k) for k in range(call.count)]
        for k, value in enumerate(call.writer.nodes_of(node.op, inputs, kinds, DOMAIN, **attributes)):
            call.give(value, k)

    # ---- the model --------------------------------------------------------------------------------------------------

    def _refuse(self) -> None:
        raise UnsupportedOperatorError(
            f"{self.what}: these nodes cannot be written as ONNX: {listed_nodes(self.problems)}"
        )

    def _name_outputs(self) -> list[str]:
        """Gives the values of the graph's outputs the outputs' names."""
        outputs = []
        for var, wanted in zip(self.graph.outputs, self.graph.output_names, strict=True):
            self.writer.label = wanted
            outputs.append((wanted, self.forms[var].get_stored()))
        made = {name for node in self.writer.nodes for name in node.output}
        given = {self.forms[v].stored[None].name for v in self.graph.inputs}
        renamed: dict[str, str] = {}
        names: list[str] = []
        for wanted, value in outputs:
            if wanted == value.name and value.name in given - {*names}:  # an input of that name, which may be an output
                names.append(wanted)
                continue
            if value.name not in made or value.name in renamed:
                self.writer.label = wanted
                value = self.writer.op("Identity", value)
            name = wanted if wanted == value.name else self.writer.name(wanted)
            renamed[value.name] = name
            names.append(name)
        for node in self.writer.nodes:
            node.input = [renamed.get(n, n) for n in node.input]
            node.output = [renamed.get(n, n) for n in node.output]
        return names

    def _model(self, outputs: Sequence[str]) -> ModelProto:
        writer, options = self.writer, self.options
        dims = self._dimension_names()
        graph = GraphProto(
            node=writer.nodes,
            name="model",
            initializer=writer.stored_constants(),
            input=[
                _value_info(self.forms[v].stored[None].name, self.known.variables[v], dims) for v in self.graph.inputs
            ],
            output=[
                _value_info(name, self.known.variables[v], dims)
                for name, v in zip(outputs, self.graph.outputs, strict=True)
            ],
        )
        opsets = [OperatorSetIdProto(domain="", version=options.opset)]
        opsets += [OperatorSetIdProto(domain=d, version=1) for d in sorted(writer.domains - {""})]
        name, version = options.producer
        return ModelProto(
            ir_version=_IR_VERSIONS[options.opset],
            producer_name=name,
            producer_version=version,
            graph=graph,
            opset_import=opsets,
        )

    def _dimension_names(self) -> dict[tuple[int, ...], str]:
        """The sizes that a free dimension of an input had in all trials -> its name."""
        found: dict[tuple[int, ...], str] = {}
        for (name, axis), label in self.known.free.items():
            found.setdefault(tuple(sizes[name][axis] for sizes in self.known.sizes), label)
        return found


def _value_info(name: str, known: KnownVar, names: dict[tuple[int, ...], str]) -> ValueInfoProto:
    def dimension(axis: int, fixed: int | None) -> Dimension:
        if fixed is not None:
            return Dimension(value=fixed)
        return Dimension(parameter=names.get(_sizes(known.seen, axis), f"{name}_{axis}"))

    shape = TensorShapeProto(dim=[dimension(k, d) for k, d in enumerate(known.dims)])
    tensor = TensorType(elem_type=int(STORED[known.dtype.code]), shape=shape)
    return ValueInfoProto(name=name, type=TypeProto(tensor=tensor))


def _sizes(shapes: Sequence[Shape], axis: int) -> tuple[int, ...]:
    return tuple(s[axis] for s in shapes)
