"""Makes a model's graph from the records of an ONNX file.

Nodes may stand in any order; those that no output needs are left out. Functions of the model are replaced by their
nodes, and an ``If`` whose condition is known by those of its branch. All nodes that cannot be converted are collected
and reported together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.onnx.branches import Branch, LaterBranch, OutputForm
from megengine_lite._core.formats.onnx.declarations import Declarations
from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Length, Value
from megengine_lite._core.formats.onnx.messages import (
    AttributeProto,
    ElementType,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    TensorProto,
    ValueInfoProto,
)
from megengine_lite._core.formats.onnx.operators import find_converter, first_version
from megengine_lite._core.formats.onnx.operators.table import NEWEST, OLDEST, STANDARD, Call, NeedsShapes, NotConverted
from megengine_lite._core.formats.onnx.ordering import in_order, label_of, names_read
from megengine_lite._core.formats.onnx.tensors import DTYPES, element_type, shape_of, tensor_constant
from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.declared_shape import DeclaredShape
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Constant, ModelGraph, TensorSpec, Var
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import LiteError, ModelFormatError, UnsupportedOperatorError, brief, listed

MAX_NODES = 1 << 17
"""Calls of a model whose functions are inlined."""
MAX_PARTS = 1 << 21
"""Names and attributes of these, those of functions and branches counted for each call."""
_E = ElementType
# What tensors of the API hold in place of types that they do not have. An int32 has the bits of a uint32.
_AT_THE_API = {_E.INT64: INT32, _E.UINT32: INT32, _E.UINT64: INT32, _E.DOUBLE: FLOAT32, _E.BFLOAT16: FLOAT32}
_CHECKED = (_E.INT64, _E.UINT64)

FunctionKey = tuple[str, str, str]


@dataclass(slots=True)
class _Scope:
    """The values that nodes of one graph or function can read. None stands for one that could not be made.

    Attributes
    ----------
    values, initializers
        By name; an initializer becomes a value when it is first read.
    outer
        The scope around it; None for the model's graph and for functions.
    versions
        Version of each domain's operators.
    attributes
        Those of a function's caller.
    calls
        Functions that are being inlined.
    values
        By their names; None for what cannot be made, and for what ``omitted`` has.
    omitted
        Inputs of a function that its caller leaves out.
    declared
        What the graph says of its values.
    """

    versions: Mapping[str, int]
    outer: _Scope | None = None
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    calls: tuple[FunctionKey, ...] = ()
    values: dict[str, Value | None] = field(default_factory=dict)
    initializers: dict[str, TensorProto] = field(default_factory=dict)
    omitted: set[str] = field(default_factory=set)
    declared: dict[str, ValueInfoProto] = field(default_factory=dict)

    def omits(self, name: str) -> bool:
        """Whether the name, which has no value, is an input that a caller leaves out."""
        place: _Scope | None = self
        while place is not None and name not in place.values:
            place = place.outer
        return place is not None and name in place.omitted


def import_model(record: ModelProto, files: ExternalFiles, what: str) -> LoadedModel:
    """The model that the records describe.

    Raises
    ------
    ModelFormatError
        Its parts do not fit together.
    UnsupportedOperatorError
        Some nodes cannot be converted; all of them are listed.
    """
    importer = _Importer(record, files, what)
    try:
        return importer.model()
    except UnsupportedOperatorError:
        if not importer.waits_for_shapes:
            raise
    return _Importer(record, files, what).model_for_later()


class _Importer:
    """Makes the graph of one model.

    Parameters
    ----------
    stored
        Values of stored tensors that other graphs of the same model have, by the identity of the record.
    given
        Variables in the place of inputs, by name, with the shapes that the graph is made for.
    ids
        Where variables get their numbers from.
    """

    def __init__(
        self,
        record: ModelProto,
        files: ExternalFiles,
        what: str,
        stored: dict[int, Constant] | None = None,
        given: Mapping[str, tuple[AnyVar, TensorSpec]] | None = None,
        ids: Iterator[int] | None = None,
    ):
        self._record = record
        self._files = files
        self._what = what
        self._stored = {} if stored is None else stored
        self._given = {} if given is None else given
        self._builder = GraphBuilder(ids)
        self._n_waiting = 0  # nodes among the missing that can be converted once shapes are known
        self._n_nodes = 0
        self._n_parts = 0
        self._ordered: dict[int, list[NodeProto]] = {}
        self._imports: dict[FunctionKey, dict[str, int]] = {}
        self._missing: list[str] = []
        self._said = Declarations(what)
        self._functions: dict[FunctionKey, FunctionProto] = {}
        for function in record.functions:
            key = (_domain(function.domain), function.name, function.overload)
            if key in self._functions:
                raise self._fault(f"the function {brief(function.name)} is defined twice")
            self._functions[key] = function

    def _fault(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"{self._what}: {message}")

    # ---- the model --------------------------------------------------------------------------------------------------

    @property
    def waits_for_shapes(self) -> bool:
        """Whether every node that is missing can be converted once the shapes of the inputs are known."""
        unknown = any(not declared.is_fixed for declared in self._builder.declared.values())
        return unknown and 0 < len(self._missing) == self._n_waiting

    def model(self) -> LoadedModel:
        """The model with the graph for inputs of any shapes."""
        scope, inputs, scalars = self._start()
        outputs = self._outputs(scope, scalars)
        return self._loaded(self._builder.nodes, inputs, outputs, scalars)

    def model_for_later(self) -> LoadedModel:
        """The model with one node, which stands for the graph that is made once the shapes of the inputs are known."""
        _, inputs, scalars = self._start()
        graph = self._main
        outputs: dict[str, AnyVar] = {}
        for info in graph.output:
            outputs[info.name] = AnyVar(self._builder.new_id(), info.name)
            tensor = None if info.type is None else info.type.tensor
            if tensor is not None and tensor.shape is not None and not tensor.shape.dim:
                scalars.add(info.name)
        if len(outputs) < len(graph.output) or not outputs:
            raise self._fault("two outputs have one name" if outputs else "the model has no outputs")

        def make(variables: Sequence[AnyVar], specs: Sequence[TensorSpec]) -> ModelGraph:
            given = {v.name: (v, spec) for v, spec in zip(variables, specs, strict=True)}
            return self._again(given).graph()

        node = AnyNode("OnnxGraph", onnx_params.OnnxGraph(make), inputs, outputs.values(), graph.name)
        return self._loaded([node], inputs, outputs, scalars)

    def graph(self) -> ModelGraph:
        """The graph for inputs of the given shapes, in the place of a node that reads them."""
        scope, _, scalars = self._start()
        outputs = self._outputs(scope, scalars)
        return ModelGraph(self._builder.nodes, [], list(outputs.values()), list(outputs))

    def _again(self, given: Mapping[str, tuple[AnyVar, TensorSpec]]) -> _Importer:
        """An importer of the same model for another graph."""
        return _Importer(self._record, self._files, self._what, self._stored, given, self._builder.ids)

    @property
    def _main(self) -> GraphProto:
        graph = self._record.graph
        assert graph is not None  # the reader has checked it
        return graph

    def _start(self) -> tuple[_Scope, list[Var], set[str]]:
        """The scope of the model's graph with its inputs, their variables, and the names of those that are scalars."""
        scope = _Scope(self._versions(self._record.opset_import))
        self._add_initializers(self._main, scope)
        inputs: list[Var] = []
        scalars = set()
        for info in self._main.input:
            if info.name in scope.initializers:
                continue
            var, value = self._input(info)
            if info.name in scope.values:
                raise self._fault(f"two inputs have the name {brief(info.name)}")
            scope.values[info.name] = value
            inputs.append(var)
            if value.rank == 0:
                scalars.add(info.name)
        return scope, inputs, scalars

    def _outputs(self, scope: _Scope, scalars: set[str]) -> dict[str, AnyVar]:
        """Converts all nodes; the variables of outputs by name. Adds scalars among them."""
        found = self._graph(self._main, scope)
        self._refuse()
        if not found:
            raise self._fault("the model has no outputs")
        outputs: dict[str, AnyVar] = {}
        for info, output in zip(self._main.output, found, strict=True):
            assert output is not None  # else it is listed as missing
            if info.name in outputs:
                raise self._fault(f"two outputs have the name {brief(info.name)}")
            self._builder.label = info.name
            outputs[info.name] = self._output(output)
            if output.rank == 0:
                scalars.add(info.name)
        return outputs

    def _loaded(
        self, nodes: list[AnyNode], inputs: list[Var], outputs: dict[str, AnyVar], scalars: set[str]
    ) -> LoadedModel:
        made = ModelGraph(nodes, inputs, list(outputs.values()), list(outputs))
        made.declared = tuple(self._builder.declared.values())
        return LoadedModel(
            graph=made,
            input_names=[v.name for v in inputs],
            output_names=list(outputs),
            default_inputs={},
            container="onnx",
            version=self._record.ir_version or 0,
            metadata=None,
            has_operator_names=any(node.name for node in self._main.node),
            scalars=frozenset(scalars),
        )

    def _refuse(self) -> None:
        if self._missing:
            raise UnsupportedOperatorError(f"{self._what}: these nodes cannot be run: {listed(self._missing)}")
        self._said.check()

    def _versions(self, sets: Sequence[OperatorSetIdProto]) -> dict[str, int]:
        versions = {_domain(s.domain): 0 if s.version is None else s.version for s in sets}
        version = versions.get(STANDARD)
        if version is not None and not OLDEST <= version <= NEWEST:
            newer = "a newer megengine_lite may read it, or " if version > NEWEST else ""
            raise UnsupportedOperatorError(
                f"{self._what}: operators of version {version} of the standard are not read, only {OLDEST} to "
                f"{NEWEST}; {newer}convert the model with onnx.version_converter"
            )
        return versions

    def _input(self, info: ValueInfoProto) -> tuple[Var, Value]:
        """The variable of an input, and the value that nodes read."""
        tensor = None if info.type is None else info.type.tensor
        if tensor is None or tensor.shape is None:
            what = "is no tensor" if tensor is None else "has no shape, not even a number of dimensions"
            raise UnsupportedOperatorError(
                f"{self._what}: input {brief(info.name)} {what}; give it one and export again"
            )
        kind = element_type(tensor.elem_type, f"input {brief(info.name)}", self._what)
        dims = tensor.shape.dim
        # What is symbolic is 1 until the input is given. Some programs write -1 for it.
        sizes = [None if d.value == -1 else d.value for d in dims]
        shape = tuple(1 if size is None else size for size in sizes)
        if len(shape) > MAX_NDIM or any(not 0 <= d < 2**31 for d in shape):
            raise self._fault(f"input {brief(info.name)} has the shape {shape[:20]}, which no tensor can have")
        dtype = _AT_THE_API.get(kind, DTYPES[kind])
        var = Var(self._builder.new_id(), info.name, TensorSpec(shape or (1,), dtype))
        names = (d.parameter if d.parameter != "?" else None for d in dims)  # all unknown sizes may have the name "?"
        named = (name or None if size is None else size for name, size in zip(names, sizes, strict=True))
        declared = DeclaredShape(info.name, tuple(named))
        self._builder.declared[var] = declared
        length = Length(shape[0], frozenset((declared,))) if len(shape) == 1 and declared.is_fixed else None
        value = Value(var, kind, len(shape), dtype, length)
        if info.name in self._given:
            value = Value(self._given[info.name][0], kind, len(shape), dtype)
            self._builder.know(value, self._given[info.name][1])
        if kind == _E.INT64 or dtype == DTYPES[kind]:
            return var, value
        self._builder.label = info.name
        return var, Value(self._builder.exact(value), kind, len(shape), DTYPES[kind], value.extent)

    def _output(self, value: Value) -> AnyVar:
        """A variable of a type that the API has."""
        target = _AT_THE_API.get(value.kind, DTYPES[value.kind])
        if value.kind in _CHECKED and value.dtype != target:
            parameters = onnx_params.OnnxElemwise(onnx_params.OnnxMode.NARROW)
            return self._builder.nodes_of("OnnxElemwise", parameters, [value.var])[0]
        return self._builder.converted(value, target)

    # ---- graphs and nodes -------------------------------------------------------------------------------------------

    def _add_initializers(self, graph: GraphProto, scope: _Scope) -> None:
        if graph.sparse_initializer:
            raise UnsupportedOperatorError(f"{self._what}: sparse initializers are not read; store dense ones")
        for tensor in graph.initializer:
            if tensor.name in scope.initializers:
                raise self._fault(f"two initializers have the name {brief(tensor.name)}")
            scope.initializers[tensor.name] = tensor

    def _constant(self, tensor: TensorProto) -> Value:
        """A stored tensor as a value."""
        constant = self._stored.get(id(tensor))
        if constant is None:
            constant = tensor_constant(tensor, self._files, self._builder.constant_key(), self._what)
            self._stored[id(tensor)] = constant
        kind = ElementType(tensor.data_type or 0)
        spec = TensorSpec(shape_of(tensor, self._what) or (1,), DTYPES[kind])
        var = Var(self._builder.new_id(), tensor.name, spec, constant)
        return Value(var, kind, len(tensor.dims), spec.dtype)

    def _lookup(self, name: str, scope: _Scope | None) -> Value | None:
        place = scope
        while place is not None:
            if name in place.values:
                return place.values[name]
            if name in place.initializers:
                value = place.values[name] = self._constant(place.initializers[name])
                return value
            place = place.outer
        raise self._fault(f"the value {brief(name)} is read, and no node before it makes it")

    def _graph(self, graph: GraphProto, scope: _Scope) -> list[Value | None]:
        """Converts the nodes of a graph; gives its outputs."""
        names = [info.name for info in graph.output]
        scope.declared = {info.name: info for info in (*graph.value_info, *graph.output)}
        self._nodes(graph, names, scope)
        found = [self._lookup(name, scope) for name in names]
        for info, value in zip(graph.output, found, strict=True):
            if value is not None:
                self._said.compare(info, value)
        return found

    def _nodes(self, owner: GraphProto | FunctionProto, wanted: Sequence[str], scope: _Scope) -> None:
        """Converts the nodes of a graph or function, whose order is found once, however often it is called."""
        ordered = self._ordered.get(id(owner))
        if ordered is None:
            ordered = self._ordered[id(owner)] = in_order(owner.node, wanted, self._what)
        for node in ordered:
            self._node(node, scope)

    def _count_parts(self, count: int) -> None:
        self._n_parts += count
        if self._n_parts > MAX_PARTS:
            raise self._fault(f"more than {MAX_PARTS} parts, those of functions counted for each call")

    def _node(self, node: NodeProto, scope: _Scope) -> None:
        self._n_nodes += 1
        if self._n_nodes > MAX_NODES:
            raise self._fault(f"more than {MAX_NODES} nodes, those of functions counted for each call")
        self._count_parts(len(node.input) + len(node.output) + len(node.attribute))
        results = self._results(node, scope)
        for name, value in zip(node.output, results, strict=False):
            if name in scope.values:
                raise self._fault(f"two nodes make the value {brief(name)}")
            if name:
                scope.values[name] = value
                if value is not None and name in scope.declared:
                    self._said.compare(scope.declared[name], value)

    def _results(self, node: NodeProto, scope: _Scope) -> Sequence[Value | None]:
        """The outputs of a node; None for those that cannot be made."""
        nothing = [None] * len(node.output)
        inputs = [self._lookup(name, scope) if name else None for name in node.input]
        if None in inputs and any(
            v is None and name and not scope.omits(name) for v, name in zip(inputs, node.input, strict=True)
        ):
            return nothing  # what it needs is listed already
        label = label_of(node)
        domain, outer_label = _domain(node.domain), self._builder.label
        self._builder.label = label
        try:
            attributes = self._attributes(node, scope)
            function = self._functions.get((domain, node.op_type, node.overload))
            if function is not None:
                return self._inlined(function, inputs, attributes, scope, domain)
            if domain == STANDARD and node.op_type == "If":
                return self._branch(inputs, attributes, scope)
            version = scope.versions.get(domain)
            if version is None:
                raise self._fault(
                    f"{_shown(node.op_type)} {brief(label)} is of the domain {brief(domain)}, whose version is "
                    "not given"
                )
            convert = find_converter(domain, node.op_type, version)
            if convert is None:
                since = first_version(domain, node.op_type)
                if since is None:
                    raise NotConverted("there is no such operator here")
                raise NotConverted(f"it is read from version {since} of the operators on, the model has {version}")
            wanted = [bool(name) for name in node.output]
            call = Call(node.op_type, version, inputs, attributes, wanted, self._builder, self._constant)
            with self._naming(node, label):
                made = convert(call)
            if more := call.unread_inputs():
                raise NotConverted(f"it has {len(call.inputs)} inputs, and must not have more than {more[0]}")
            if unread := call.unread():
                raise NotConverted(f"its attribute {brief(unread[0])} is not known here")
            results: Sequence[Value | None] = [made] if isinstance(made, Value) else made
            if len(results) < len(wanted) or any(w and r is None for w, r in zip(wanted, results, strict=False)):
                raise NotConverted(f"it has {len(wanted)} outputs, {len(results)} can be made")
            return results
        except NotConverted as reason:
            self._n_waiting += isinstance(reason, NeedsShapes)
            name = f"{domain}.{node.op_type}" if domain else node.op_type
            self._missing.append(f"{_shown(name)} {brief(label)} ({reason})")
            return nothing
        finally:
            self._builder.label = outer_label

    @contextlib.contextmanager
    def _naming(self, node: NodeProto, label: str) -> Iterator[None]:
        """Names the model and the node in errors about them."""
        try:
            yield
        except ModelFormatError as error:
            if str(error).startswith(self._what):
                raise
            raise self._fault(f"{_shown(node.op_type)} {brief(label)}: {error}") from error
        except LiteError:
            raise
        except (ValueError, TypeError, ArithmeticError, LookupError) as error:
            raise self._fault(
                f"{_shown(node.op_type)} {brief(label)} cannot be converted: its inputs and attributes do not fit "
                "together"
            ) from error

    def _attributes(self, node: NodeProto, scope: _Scope) -> dict[str, AttributeProto]:
        """The attributes of a node; what refers to the caller of a function is replaced, or left out."""
        found: dict[str, AttributeProto] = {}
        for attribute in node.attribute:
            if attribute.name in found:
                raise self._fault(
                    f"{_shown(node.op_type)} {brief(node.name)} has the attribute {brief(attribute.name)} twice"
                )
            if not attribute.reference:
                found[attribute.name] = attribute
            elif attribute.reference in scope.attributes:
                found[attribute.name] = scope.attributes[attribute.reference]
        return found

    def _inlined(
        self,
        function: FunctionProto,
        inputs: Sequence[Value | None],
        attributes: Mapping[str, AttributeProto],
        scope: _Scope,
        domain: str,
    ) -> list[Value | None]:
        """The outputs of a function, by its own nodes."""
        key = (domain, function.name, function.overload)
        if key in scope.calls:
            raise self._fault(f"the function {brief(function.name)} calls itself")
        if len(inputs) > len(function.input):
            raise self._fault(
                f"the function {brief(function.name)} has {len(function.input)} inputs, {len(inputs)} are given"
            )
        self._count_parts(len(function.input) + len(function.output) + len(function.attribute_proto))
        versions = scope.versions
        if function.opset_import:
            own = self._imports.get(key)
            if own is None:
                own = self._imports[key] = self._versions(function.opset_import)
            self._count_parts(len(own))
            versions = {**versions, **own}
        if function.attribute_proto:
            attributes = {**{a.name: a for a in function.attribute_proto}, **attributes}
        inner = _Scope(versions, None, attributes, (*scope.calls, key))
        for k, name in enumerate(function.input):
            value = inputs[k] if k < len(inputs) else None
            inner.values[name] = value
            if value is None:
                inner.omitted.add(name)
        self._nodes(function, function.output, inner)
        if left_out := inner.omitted & {*function.output}:
            raise self._fault(
                f"the function {brief(function.name)} gives its input {brief(min(left_out))}, which its caller "
                "leaves out"
            )
        return [self._lookup(name, inner) for name in function.output]

    def _branch(
        self, inputs: Sequence[Value | None], attributes: Mapping[str, AttributeProto], scope: _Scope
    ) -> list[Value | None]:
        """The outputs of an If: those of a branch, or of both."""
        condition = inputs[0] if len(inputs) == 1 else None
        if condition is None:
            raise self._fault(f"If {brief(self._builder.label)} needs one input, the condition")
        graphs = []
        for name in ("then_branch", "else_branch"):
            attribute = attributes.get(name)
            if attribute is None or attribute.g is None:
                raise self._fault(f"If {brief(self._builder.label)} has no {name}")
            graphs.append(attribute.g)
        decided = self._builder.known_value(condition)
        if decided is not None:
            return self._inner(graphs[0 if decided.reshape(-1).any() else 1], scope)
        return self._both_branches(condition, graphs, scope)

    def _inner(self, graph: GraphProto, scope: _Scope) -> list[Value | None]:
        """The outputs of a graph inside of another one, whose values it can read."""
        self._count_parts(len(graph.initializer) + len(graph.output))
        inner = _Scope(scope.versions, scope, scope.attributes, scope.calls)
        self._add_initializers(graph, inner)
        return self._graph(graph, inner)

    def _both_branches(self, condition: Value, graphs: Sequence[GraphProto], scope: _Scope) -> list[Value | None]:
        """The outputs of an If that is decided when the model runs."""
        label = self._builder.label
        branches = [self._branch_of(graph, scope) for graph in graphs]
        if None in branches:
            return [None] * len(graphs[0].output)  # listed already
        first, second = (b for b in branches if b is not None)
        if len(first.values) != len(second.values):
            raise self._fault(
                f"the branches of If {brief(label)} have {len(first.values)} and {len(second.values)} outputs"
            )
        results = [*zip(first.values, second.values, strict=True)]
        if any(a is None and b is None for a, b in results):
            raise NeedsShapes("its branches depend on shapes that are known only when the model runs")
        for a, b in results:
            if a is not None and b is not None and a.kind != b.kind:
                raise self._fault(f"the branches of If {brief(label)} give {a.kind.name} and {b.kind.name}")
            if a is not None and b is not None and a.rank != b.rank:
                raise NeedsShapes(f"its branches give results of {a.rank} and of {b.rank} dimensions")
        forms = [OutputForm.of(a, b) for a, b in results]
        graphs_of = [branch.graph(self._builder, forms) for branch in (first, second)]
        inputs = dict.fromkeys(v for branch in (first, second) for v in branch.inputs)
        outs = self._builder.nodes_of("OnnxIf", onnx_params.OnnxIf(*graphs_of), [condition.var, *inputs], len(forms))
        return [Value(var, f.kind, f.rank, f.dtype) for var, f in zip(outs, forms, strict=True)]

    def _branch_of(self, graph: GraphProto, scope: _Scope) -> Branch | LaterBranch | None:
        """A branch, converted now or, where only shapes are missing, later; None if it cannot be."""
        n_missing, n_waiting = len(self._missing), self._n_waiting
        with self._builder.aside() as nodes:
            results = self._inner(graph, scope)
        values = [v for v in results if v is not None]
        if len(values) == len(results):
            return Branch(values, nodes)
        added = len(self._missing) - n_missing
        if not added or self._n_waiting - n_waiting < added:
            return None
        del self._missing[n_missing:]
        self._n_waiting = n_waiting
        captured = {}
        for name in names_read(graph):
            with contextlib.suppress(ModelFormatError):  # a name of the branch's own
                captured[name] = self._lookup(name, scope)

        def convert(specs: Mapping[AnyVar, TensorSpec]) -> tuple[Sequence[Value], GraphBuilder]:
            again = self._again({})
            inner = _Scope(scope.versions, None, scope.attributes, scope.calls, {**captured})
            inner.omitted.update(name for name, value in captured.items() if value is None)
            for value in captured.values():
                if value is not None and value.var in specs:
                    again._builder.know(value, specs[value.var])
            found = again._inner(graph, inner)
            again._refuse()
            return [v for v in found if v is not None], again._builder

        inputs = [v.var for v in captured.values() if v is not None and v.var.const is None]
        return LaterBranch([None] * len(graph.output), inputs, convert)


def _shown(name: str) -> str:
    """A name from the file for a message, without quotes."""
    return brief(name, 60)[1:-1]


def _domain(name: str) -> str:
    return STANDARD if name == "ai.onnx" else name
