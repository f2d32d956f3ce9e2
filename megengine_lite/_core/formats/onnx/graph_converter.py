"""Converts the nodes of graphs: that of a model, those of its functions and branches.

Nodes may stand in any order; those that no output needs are left out. Functions of the model are replaced by their
nodes, and an ``If`` whose condition is known by those of its branch. All nodes that cannot be converted are collected
and reported together.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from megengine_lite._core.formats.loaded_model import ResultNames
from megengine_lite._core.formats.onnx import control_flow
from megengine_lite._core.formats.onnx.control_flow import ControlFlow
from megengine_lite._core.formats.onnx.declarations import Declarations
from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, tensors_of
from megengine_lite._core.formats.onnx.messages import (
    ATTRIBUTE_FIELDS,
    AttributeProto,
    ElementType,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    OperatorSetIdProto,
    StoredTensorProto,
)
from megengine_lite._core.formats.onnx.narrowing import Narrowing, narrowed_constant
from megengine_lite._core.formats.onnx.operators import find_converter, first_version
from megengine_lite._core.formats.onnx.operators.table import (
    MICROSOFT,
    NEWEST,
    OLDEST,
    STANDARD,
    Call,
    Converter,
    NeedsShapes,
    NotConverted,
)
from megengine_lite._core.formats.onnx.operators.user_operators import convert_user_operator
from megengine_lite._core.formats.onnx.ordering import in_order, label_of
from megengine_lite._core.formats.onnx.own_operators import DOMAIN as OWN_DOMAIN
from megengine_lite._core.formats.onnx.own_operators import convert_own_operator
from megengine_lite._core.formats.onnx.reader import MAX_DEPTH
from megengine_lite._core.formats.onnx.scope import NO_VALUES, FunctionKey, Scope
from megengine_lite._core.formats.onnx.stored_tensors import StoredTensors
from megengine_lite._core.formats.onnx.tensors import (
    DTYPES,
    FEW_BITS,
    initializers_of,
    kind_of,
    name_of,
    shape_of,
    tensor_constant,
)
from megengine_lite._core.ir.graph import Constant, TensorSpec, Var
from megengine_lite._core.operators.base import is_about_values
from megengine_lite._core.operators.custom import find_user_operator
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite._core.system.own_faults import own_fault
from megengine_lite.errors import LiteError, ModelFormatError, UnsupportedOperatorError, brief, listed_nodes
from megengine_lite.log import warn

MAX_NODES = 1 << 17
"""Calls of a model whose functions are inlined."""
MAX_PARTS = 1 << 21
"""Names and attributes of these, those of functions and branches counted for each call."""


_READ_FEW_BITS = ((STANDARD, "Cast"), (STANDARD, "DequantizeLinear"), (MICROSOFT, "DequantizeLinear"))
"""What makes numbers of wider types of stored integers of less than 8 bits: for these it does not matter which."""
_OF_ONE_PROCESSOR = f"{MICROSOFT}.nchwc."
"""The domain of operators on images whose channels and weights lie in blocks as a processor has vectors."""


class _NoSuchOperator(NotConverted):
    """Raised for an operator that is not known."""


class GraphConverter(ControlFlow):
    """Converts the graphs of one model.

    Parameters
    ----------
    stored
        Values of stored tensors that other graphs of the same model have, by the identity of the record.
    ids
        Where variables get their numbers from.
    narrow_double
        Compute doubles as float32.
    result_names
        Takes the names of the results of the model's own nodes.
    operators
        Where the names of operators in the file are kept, by the label of the node.

    Attributes
    ----------
    builder
        Has the nodes that have been made.
    narrowing
        Chooses the element types.
    stored_tensors
        What the file stores of what has been read.
    not_converted
        The identities of nodes of the record that cannot be run, or that call such.
    """

    def __init__(
        self,
        record: ModelProto,
        files: ExternalFiles,
        what: str,
        stored: dict[int, Constant] | None = None,
        ids: Iterator[int] | None = None,
        narrow_double: bool = False,
        result_names: ResultNames | None = None,
        operators: dict[str, str] | None = None,
    ):
        self._record = record
        self._files = files
        self._what = what
        self._stored = {} if stored is None else stored
        self.builder = GraphBuilder(ids, operators)
        self.narrowing = Narrowing(self.builder, narrow_double)
        self.stored_tensors = StoredTensors()
        self._n_waiting = 0  # nodes among the missing that can be converted once shapes are known
        self._n_nodes = 0
        self._n_parts = 0
        self._ordered: dict[int, list[NodeProto]] = {}
        self._call_counts: dict[int, int] = {}
        self._imports: dict[FunctionKey, dict[str, int]] = {}
        self._missing: list[tuple[str, str, str]] = []  # operator, name, reason
        self._made_graphs: list[GraphProto] = []
        self._versions_not_read: dict[int, str] = {}
        self._lacks_inputs = False  # whether inputs of the model are among them
        self._unknown: list[str] = []  # names of operators among them that are not known at all
        self.not_converted: set[int] = set()
        self.result_names = ResultNames() if result_names is None else result_names
        self._said = Declarations(what, self.narrowing)
        self._functions: dict[FunctionKey, FunctionProto] = {}
        for function in record.functions:
            key = (_domain(function.domain), function.name, function.overload)
            if key in self._functions:
                raise self.fault(f"the function {brief(function.name)} is defined twice")
            self._functions[key] = function

    def fault(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"{self._what}: {message}")

    @property
    def only_waits(self) -> bool:
        """Whether some nodes are missing, and all of these can be converted once the shapes of inputs are known."""
        return 0 < len(self._missing) == self._n_waiting and not self._versions_not_read

    def anew(self) -> GraphConverter:
        """A converter for another graph of the same model."""
        ids, narrows, names = self.builder.ids, self.narrowing.asked, self.result_names
        operators = self.builder.operators
        return GraphConverter(self._record, self._files, self._what, self._stored, ids, narrows, names, operators)

    def refuse(self) -> None:
        """Raises if nodes could not be converted, or if values are not what the model says of them."""
        problems = list(self._versions_not_read.values())
        if self._missing:
            what = "these inputs and nodes" if self._lacks_inputs else "these nodes"
            problems.append(f"{what} cannot be run: {listed_nodes(self._missing)}{self._way_out()}")
        if problems:
            raise UnsupportedOperatorError(f"{self._what}: {'; '.join(problems)}")
        self._said.check()

    def _way_out(self) -> str:
        """What can be done about operators that are not known."""
        if not self._unknown:
            return ""
        if any(name.startswith(_OF_ONE_PROCESSOR) for name in self._unknown):
            return (
                "; ONNX Runtime has optimized this file for one kind of processor: take the model from before, or let "
                "it save one with graph_optimization_level = ORT_ENABLE_EXTENDED"
            )
        return f"; register_operator({brief(self._unknown[0])}) defines one in Python"

    def miss_input(self, name: str, error: UnsupportedOperatorError) -> None:
        """Lists an input of the model that cannot be read."""
        self._lacks_inputs = True
        self._missing.append(("input", brief(name), self._reason(error)))

    def _reason(self, error: Exception) -> str:
        return str(error).removeprefix(f"{self._what}: ")

    def versions_of(self, sets: Sequence[OperatorSetIdProto]) -> dict[str, int]:
        """The version of each domain's operators.

        One of the standard that is not read is told in the end. Until then the next one stands for it, so that all that
        is missing is found.
        """
        # Exporters leave out the domain of ONNX Runtime, which has one version and is known there without.
        versions = {MICROSOFT: 1} | {_domain(s.domain): 0 if s.version is None else s.version for s in sets}
        version = versions.get(STANDARD)
        if version is not None and not OLDEST <= version <= NEWEST:
            newer = "a newer megengine_lite may read it, or " if version > NEWEST else ""
            self._versions_not_read[version] = (
                f"operators of version {version} of the standard are not read, only {OLDEST} to {NEWEST}; "
                f"{newer}convert the model with onnx.version_converter"
            )
            versions[STANDARD] = min(max(version, OLDEST), NEWEST)
        return versions

    # ---- graphs and nodes -------------------------------------------------------------------------------------------

    def add_initializers(self, graph: GraphProto, scope: Scope) -> None:
        """Makes the stored tensors of a graph readable in its scope."""
        for tensor in initializers_of(graph):
            name = name_of(tensor)
            if name in scope.initializers:
                raise self.fault(f"two initializers have the name {brief(name)}")
            scope.initializers[name] = tensor

    def _constant(self, tensor: StoredTensorProto, widens: bool = False) -> Value:
        """A stored tensor as a value; ``widens`` is as in ``tensor_constant``."""
        constant = self._stored.get(id(tensor))
        shape = shape_of(tensor, self._what)
        said = kind_of(tensor)
        narrows = self.narrowing.narrows_stored(said, shape)
        if constant is None or (said in FEW_BITS and not widens):
            stored = tensor_constant(tensor, self._files, self.builder.constant_key(), self._what, widens)
            constant = self._stored[id(tensor)] = narrowed_constant(stored) if narrows else stored
        kind = ElementType.FLOAT if narrows else ElementType(said or 0)
        kind = FEW_BITS[kind][0] if kind in FEW_BITS else kind
        spec = TensorSpec(shape or (1,), DTYPES[kind])
        var = Var(self.builder.new_id(), name_of(tensor), spec, constant)
        return Value(var, kind, len(tensor.dims), spec.dtype)

    def _lookup(
        self, name: str, scope: Scope | None, reader: tuple[str, str] | None = None, widens: bool = False
    ) -> Value | None:
        """The value of a name; None if it cannot be made. Then what reads it, a node or else an output, is listed.

        ``widens`` is as in ``tensor_constant``.
        """
        place = scope
        while place is not None:
            if name in place.values:
                return place.values[name]
            if name in place.initializers:
                stored = place.initializers[name]
                try:
                    value = self._constant(stored, widens)
                except UnsupportedOperatorError as error:  # each that reads it is listed
                    self._missing.append((*(reader or ("output", brief(name))), self._reason(error)))
                    return None
                self.stored_tensors.add(value, name, stored)
                if kind_of(stored) not in FEW_BITS:  # others than this reader must not take these for wider ones
                    place.values[name] = value
                return value
            place = place.outer
        raise self.fault(f"the value {brief(name)} is read, and no node before it makes it")

    def graph(self, graph: GraphProto, scope: Scope) -> list[Value | None]:
        """Converts the nodes of a graph; gives its outputs."""
        names = [info.name for info in graph.output]
        scope.declared = {info.name: info for info in (*graph.value_info, *graph.output)}
        self._nodes(graph, names, scope)
        found = self.narrowing.values(self._lookup(name, scope) for name in names)
        for info, value in zip(graph.output, found, strict=True):
            if value is not None:
                self._said.compare(info, value)
        return found

    def _inner(self, graph: GraphProto, scope: Scope, given: Mapping[str, Value] = NO_VALUES) -> list[Value | None]:
        self._count_parts(len(graph.initializer) + len(graph.output))
        inner = Scope(scope.versions, scope, scope.attributes, scope.calls, {**given}, depth=self._depth_in(scope))
        self.add_initializers(graph, inner)
        return self.graph(graph, inner)

    def _nodes(self, owner: GraphProto | FunctionProto, wanted: Sequence[str], scope: Scope) -> None:
        """Converts the nodes of a graph or function, whose order is found once, however often it is called."""
        for node in self._ordered_nodes(owner, wanted):
            self._node(node, scope)

    def _ordered_nodes(self, owner: GraphProto | FunctionProto, wanted: Sequence[str]) -> list[NodeProto]:
        ordered = self._ordered.get(id(owner))
        if ordered is None:
            ordered = self._ordered[id(owner)] = in_order(owner, wanted, self._what)
        return ordered

    def _nodes_of_call(self, function: FunctionProto) -> int:
        """How many nodes a call of a function becomes, at least: those of graphs in its nodes are not counted."""
        counts, entered, stack = self._call_counts, set[int](), [function]
        while stack:
            called = stack[-1]
            if id(called) in counts:
                stack.pop()
                continue
            nodes = self._ordered_nodes(called, called.output)
            inner = [f for f in (self._functions.get(_key(node)) for node in nodes) if f is not None]
            if id(called) in entered:  # one that calls itself has no count yet, and is refused when that is reached
                counts[id(called)] = len(nodes) + sum(counts.get(id(f), 0) for f in inner)
                continue
            entered.add(id(called))
            stack += [f for f in inner if id(f) not in counts and id(f) not in entered]
        return counts[id(function)]

    def _count_parts(self, count: int) -> None:
        self._n_parts += count
        if self._n_parts > MAX_PARTS:
            raise self.fault(f"more than {MAX_PARTS} parts, those of functions counted for each call")

    def _depth_in(self, scope: Scope) -> int:
        """The depth of a scope in this one."""
        if scope.depth == MAX_DEPTH:
            raise self.fault(f"graphs and functions are nested more than {MAX_DEPTH} times")
        return scope.depth + 1

    def _check_nodes(self, count: int) -> None:
        if count > MAX_NODES:
            raise self.fault(f"more than {MAX_NODES} nodes, those of functions counted for each call")

    def _node(self, node: NodeProto, scope: Scope) -> None:
        self._n_nodes += 1
        self._check_nodes(self._n_nodes)
        self._count_parts(len(node.input) + len(node.output) + len(node.attribute))
        results = self._results(node, scope)
        for name, value in zip(node.output, results, strict=False):
            if name:
                scope.values[name] = value
                if value is not None and name in scope.declared:
                    self._said.compare(scope.declared[name], value)
                if scope.outer is None and not scope.calls:
                    self._name_result(value, name, node)

    def _name_result(self, value: Value | None, name: str, node: NodeProto) -> None:
        for tensor in tensors_of([value]):
            if tensor is value and tensor.var.const is None:
                self.result_names.add(tensor.var.id, name, node.name if len(node.output) == 1 else "")

    def _results(self, node: NodeProto, scope: Scope) -> Sequence[Value | None]:
        """The outputs of a node; None for those that cannot be made."""
        nothing = [None] * len(node.output)
        label, domain, n_missing = label_of(node), _domain(node.domain), len(self._missing)
        shown = f"{domain}.{node.op_type}" if domain else node.op_type
        reader = (_shown(shown), brief(label))
        widens = (domain, node.op_type) in _READ_FEW_BITS
        inputs = [self._lookup(name, scope, reader, widens) if name else None for name in node.input]
        # What such a node needs is listed already.
        lacks_inputs = None in inputs and any(
            v is None and name and not scope.omits(name) for v, name in zip(inputs, node.input, strict=True)
        )
        outer_label = self.builder.label
        self.builder.label = label
        self.builder.operators.setdefault(label, shown)
        try:
            function = self._functions.get(_key(node))
            version = scope.versions.get(domain)
            of_graphs = domain == STANDARD and node.op_type in control_flow.OPERATORS
            if lacks_inputs:
                # What stands behind nodes that wait for shapes is told when these are known.
                checks = function is None and version is not None and not of_graphs and domain != OWN_DOMAIN
                if checks and version is not None and not self._n_waiting:
                    _converter(domain, node.op_type, version)
                return nothing
            attributes = self._attributes(node, scope)
            if function is not None:
                return self._inlined(function, inputs, attributes, scope, domain)
            self.stored_tensors.note_reader(inputs, f"{shown} {label}")
            if version is None:
                raise self.fault(
                    f"{_shown(node.op_type)} {brief(label)} is of the domain {brief(domain)}, whose version is "
                    "not given"
                )
            wanted = [bool(name) for name in node.output]
            call = Call(node.op_type, version, inputs, attributes, wanted, self.builder, self._constant)
            if of_graphs:
                self.narrowing.make_data(call)
                with self._naming(node, label):
                    return self._of_graphs(call, scope)
            user = find_user_operator(shown)
            if user is not None:
                if find_converter(domain, node.op_type, version) is None:
                    self.narrowing.make_data(call)
                    return convert_user_operator(call, user)
                name = repr(user.type_name)
                warn(f"{self._what}: {name} is an operator that is read here; the one registered is not used")
            if domain == OWN_DOMAIN:
                self.narrowing.make_data(call)
                with self._naming(node, label):
                    return convert_own_operator(call)
            convert = _converter(domain, node.op_type, version)
            with self._naming(node, label):
                results = self.narrowing.converted(convert, call)
            if node.op_type == "Constant" and domain == STANDARD:
                self.stored_tensors.add(results[0], node.output[0], node)
            if more := call.unread_inputs():
                raise NotConverted(f"it has {len(call.inputs)} inputs, and must not have more than {more[0]}")
            if unread := call.unread():
                raise NotConverted(f"its attribute {brief(unread[0])} is not known here")
            if len(results) < len(wanted) or any(w and r is None for w, r in zip(wanted, results, strict=False)):
                raise NotConverted(f"it has {len(wanted)} outputs, {len(results)} can be made")
            most = max((value.rank for value in tensors_of(results)), default=0)
            if most > MAX_NDIM:
                raise NotConverted(f"its result has {most} dimensions, and tensors have at most {MAX_NDIM}")
            return results
        except (NotConverted, UnsupportedOperatorError) as reason:
            self._n_waiting += isinstance(reason, NeedsShapes)
            if isinstance(reason, _NoSuchOperator):
                self._unknown.append(shown)
            self._missing.append((*reader, self._reason(reason)))
            return nothing
        finally:
            self.builder.label = outer_label
            if len(self._missing) > n_missing:
                self.not_converted.add(id(node))

    @contextlib.contextmanager
    def _naming(self, node: NodeProto, label: str) -> Iterator[None]:
        """Names the model and the node in errors about them."""
        try:
            yield
        except ModelFormatError as error:
            if str(error).startswith(self._what):
                raise
            raise self.fault(f"{_shown(node.op_type)} {brief(label)}: {error}") from error
        except (LiteError, NotConverted, MemoryError):
            raise
        except Exception as error:
            shown = f"{_shown(node.op_type)} {brief(label)}"
            if not is_about_values(error):
                raise own_fault(f"{self._what}: {shown}: {type(error).__name__}: {error}") from error
            raise self.fault(f"{shown} cannot be converted: its inputs and attributes do not fit together") from error

    def _attributes(self, node: NodeProto, scope: Scope) -> dict[str, AttributeProto]:
        """The attributes of a node; what refers to the caller of a function is replaced, or left out."""
        found: dict[str, AttributeProto] = {}
        for attribute in node.attribute:
            if attribute.name in found:
                raise self.fault(
                    f"{_shown(node.op_type)} {brief(node.name)} has the attribute {brief(attribute.name)} twice"
                )
            if problem := _problem_of(attribute, bool(scope.calls)):
                raise self.fault(
                    f"the attribute {brief(attribute.name)} of {_shown(node.op_type)} {brief(label_of(node))} {problem}"
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
        scope: Scope,
        domain: str,
    ) -> list[Value | None]:
        """The outputs of a function, by its own nodes."""
        key = (domain, function.name, function.overload)
        if key in scope.calls:
            raise self.fault(f"the function {brief(function.name)} calls itself")
        if len(inputs) > len(function.input):
            raise self.fault(
                f"the function {brief(function.name)} has {len(function.input)} inputs, {len(inputs)} are given"
            )
        self._check_nodes(self._n_nodes + self._nodes_of_call(function))  # before any of them is made
        self._count_parts(len(function.input) + len(function.output) + len(function.attribute_proto))
        versions = scope.versions
        if function.opset_import:
            own = self._imports.get(key)
            if own is None:
                own = self._imports[key] = self.versions_of(function.opset_import)
            self._count_parts(len(own))
            versions = {**versions, **own}
        if function.attribute_proto:
            attributes = {**{a.name: a for a in function.attribute_proto}, **attributes}
        inner = Scope(versions, None, attributes, (*scope.calls, key), depth=self._depth_in(scope))
        for k, name in enumerate(function.input):
            value = inputs[k] if k < len(inputs) else None
            inner.values[name] = value
            if value is None:
                inner.omitted.add(name)
        self._nodes(function, function.output, inner)
        if left_out := inner.omitted & {*function.output}:
            raise self.fault(
                f"the function {brief(function.name)} gives its input {brief(min(left_out))}, which its caller "
                "leaves out"
            )
        return [self._lookup(name, inner) for name in function.output]


def _converter(domain: str, op_type: str, version: int) -> Converter:
    """What converts an operator.

    Raises
    ------
    NotConverted
        Nothing does.
    """
    convert = find_converter(domain, op_type, version)
    if convert is not None:
        return convert
    since = first_version(domain, op_type)
    if since is None:
        raise _NoSuchOperator("there is no such operator here")
    raise NotConverted(f"it is read from version {since} of the operators on, the model has {version}")


def _problem_of(attribute: AttributeProto, in_function: bool) -> str:
    """What is wrong with an attribute whatever the operator is; empty if nothing is."""
    if attribute.reference and not in_function:
        return f"stands for {brief(attribute.reference)} of a function's caller, and is in no function; store its value"
    held = [(kind, name) for kind, name in ATTRIBUTE_FIELDS.items() if getattr(attribute, name) not in (None, ())]
    if len(held) > 1:
        return f"has {len(held)} values: {', '.join(name for _, name in held)}; keep one"
    if held and attribute.type not in (None, held[0][0]):
        return f"must be of the kind {held[0][0].name}, as its value is"
    return ""


def _shown(name: str) -> str:
    """A name from the file for a message, without quotes."""
    return brief(name, 60)[1:-1]


def _key(node: NodeProto) -> FunctionKey:
    """That of the function that a node calls, if it calls one."""
    return _domain(node.domain), node.op_type, node.overload


def _domain(name: str) -> str:
    return STANDARD if name == "ai.onnx" else name
