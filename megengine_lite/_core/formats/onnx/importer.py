"""Makes a model's graph from the records of an ONNX file: its inputs, its outputs, and what converting nodes gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.onnx.external_files import ExternalFiles
from megengine_lite._core.formats.onnx.graph_converter import GraphConverter
from megengine_lite._core.formats.onnx.graph_values import Length, Nothing, TensorList, Value
from megengine_lite._core.formats.onnx.messages import (
    PRODUCER,
    Dimension,
    ElementType,
    GraphProto,
    ModelProto,
    TypeProto,
    ValueInfoProto,
)
from megengine_lite._core.formats.onnx.ordering import count_operators
from megengine_lite._core.formats.onnx.scope import Scope
from megengine_lite._core.formats.onnx.tensors import DTYPES, element_type
from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.declared_shape import DeclaredShape, OpenShape
from megengine_lite._core.ir.dtype import FLOAT32, INT32, DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec, Var
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError, brief

_E = ElementType
# What tensors of the API hold in place of types that they do not have. An int32 has the bits of a uint32.
_AT_THE_API = {_E.INT64: INT32, _E.UINT32: INT32, _E.UINT64: INT32, _E.DOUBLE: FLOAT32, _E.BFLOAT16: FLOAT32}
_CHECKED = (_E.INT64, _E.UINT64, _E.DOUBLE)


def import_model(
    record: ModelProto, files: ExternalFiles, what: str, check: bool = True, narrow_double: bool = False
) -> LoadedModel:
    """The model that the records describe.

    Parameters
    ----------
    check
        Refuse a model that cannot be converted. Without it the graph of the file can be looked at.
    narrow_double
        Compute doubles as float32.

    Raises
    ------
    ModelFormatError
        Its parts do not fit together, and it is checked.
    UnsupportedOperatorError
        Some nodes cannot be converted; all of them are listed.
    """
    converter = GraphConverter(record, files, what, narrow_double=narrow_double)
    importer = _Importer(record, what, converter)

    def in_file() -> ModelGraph:
        return _unconverted(record, files, what).graph

    try:
        model = importer.model()
        model.file_graph = None if check else in_file
        return model
    except (UnsupportedOperatorError, ModelFormatError) as error:
        if isinstance(error, ModelFormatError) or not importer.waits_for_shapes:
            if check:
                raise
            return _unconverted(record, files, what, str(error), converter.not_converted)
    converter = GraphConverter(record, files, what, narrow_double=narrow_double)
    model = _Importer(record, what, converter).model_for_later()
    model.as_in_file = in_file
    return model


def _unconverted(record: ModelProto, files: ExternalFiles, what: str, *why: Any) -> LoadedModel:
    from megengine_lite._core.formats.onnx.unconverted import unconverted_model

    return unconverted_model(record, files, what, *why)


class _Importer:
    """Makes the graph of one model.

    Parameters
    ----------
    given
        Variables in the place of inputs, by name, with the shapes that the graph is made for.
    """

    def __init__(
        self,
        record: ModelProto,
        what: str,
        converter: GraphConverter,
        given: Mapping[str, tuple[AnyVar, TensorSpec]] | None = None,
    ):
        self._record = record
        self._what = what
        self._converter = converter
        self._builder = converter.builder
        self._given = {} if given is None else given
        self._output_types: dict[str, DType] = {}
        self._unsigned: dict[str, str] = {}

    @property
    def waits_for_shapes(self) -> bool:
        """Whether every node that is missing can be converted once the shapes of the inputs are known."""
        unknown = any(not declared.is_fixed for declared in self._builder.declared.values())
        return unknown and self._converter.only_waits

    def model(self) -> LoadedModel:
        """The model with the graph for inputs of any shapes."""
        scope, inputs, scalars = self._start()
        outputs = self._outputs(scope, scalars)
        loaded = self._loaded(self._builder.nodes, inputs, outputs, scalars)
        loaded.stored_tensors = [*self._converter.stored_tensors.found.values()]
        return loaded

    def model_for_later(self) -> LoadedModel:
        """The model with one node, which stands for the graph that is made once the shapes of the inputs are known."""
        _, inputs, scalars = self._start()
        graph = self._main
        outputs: dict[str, AnyVar] = {}
        for info in graph.output:
            if info.type is not None and info.type.sequence is not None:
                raise UnsupportedOperatorError(
                    f"{self._what}: output {brief(info.name)} is a sequence, and how many tensors it has depends on "
                    "the shapes of the inputs; give the inputs fixed shapes and export again"
                )
            outputs[info.name] = AnyVar(self._builder.new_id(), info.name)
            tensor = None if info.type is None else info.type.tensor
            if tensor is not None and tensor.shape is not None and not tensor.shape.dim:
                scalars.add(info.name)
            if tensor is not None and tensor.elem_type in DTYPES:
                self._output_types[info.name] = _at_the_api(
                    self._converter.narrowing.kind(ElementType(tensor.elem_type))
                )
        if len(outputs) < len(graph.output) or not outputs:
            raise self._converter.fault("two outputs have one name" if outputs else "the model has no outputs")

        def make(variables: Sequence[AnyVar], specs: Sequence[TensorSpec]) -> ModelGraph:
            given = {v.name: (v, spec) for v, spec in zip(variables, specs, strict=True)}
            return self._again(given).graph()

        node = AnyNode("OnnxGraph", onnx_params.OnnxGraph(make), inputs, outputs.values(), graph.name)
        return self._loaded([node], inputs, outputs, scalars)

    def graph(self) -> ModelGraph:
        """The graph for inputs of the given shapes, in the place of a node that reads them."""
        scope, _, scalars = self._start()
        outputs = self._outputs(scope, scalars)
        made = ModelGraph(self._builder.nodes, [], list(outputs.values()), list(outputs))
        made.scalars = frozenset(outputs[name] for name in scalars & outputs.keys())
        return made

    def _again(self, given: Mapping[str, tuple[AnyVar, TensorSpec]]) -> _Importer:
        """An importer of the same model for another graph."""
        self._converter.result_names.clear()  # else they would grow with every graph
        return _Importer(self._record, self._what, self._converter.anew(), given)

    @property
    def _main(self) -> GraphProto:
        graph = self._record.graph
        assert graph is not None  # the reader has checked it
        return graph

    def _start(self) -> tuple[Scope, list[Var], set[str]]:
        """The scope of the model's graph with its inputs, their variables, and the names of those that are scalars."""
        scope = Scope(self._converter.versions_of(self._record.opset_import))
        self._converter.add_initializers(self._main, scope)
        inputs: list[Var] = []
        scalars = set()
        for info in self._main.input:
            if info.name in scope.initializers:
                continue
            if info.name in scope.values:
                raise self._converter.fault(f"two inputs have the name {brief(info.name)}")
            try:
                var, value = self._input(info)
            except UnsupportedOperatorError as error:
                self._converter.miss_input(info.name, error)
                scope.values[info.name] = None
                continue
            scope.values[info.name] = value
            inputs.append(var)
            if value.rank == 0:
                scalars.add(info.name)
        return scope, inputs, scalars

    def _outputs(self, scope: Scope, scalars: set[str]) -> dict[str, AnyVar]:
        """Converts all nodes; the variables of outputs by name. Adds scalars among them."""
        found = self._converter.graph(self._main, scope)
        self._converter.refuse()
        if not found:
            raise self._converter.fault("the model has no outputs")
        outputs: dict[str, AnyVar] = {}
        for info, output in zip(self._main.output, found, strict=True):
            assert output is not None  # else it is listed as missing
            for name, value in self._tensors_of(info.name, output):
                if name in outputs:
                    raise self._converter.fault(f"two outputs have the name {brief(name)}")
                self._builder.label = name
                outputs[name] = self._output(value)
                if outputs[name] is not value.var:
                    self._converter.result_names.add(outputs[name].id, name, "")
                self._output_types[name] = _at_the_api(value.kind)
                if value.rank == 0:
                    scalars.add(name)
        if not outputs:
            raise UnsupportedOperatorError(f"{self._what}: its outputs are empty sequences, so nothing can be run")
        return outputs

    def _tensors_of(self, name: str, output: Value) -> list[tuple[str, Value]]:
        """An output with its name; the tensors of a sequence are outputs of their own."""
        if isinstance(output, Nothing):
            raise UnsupportedOperatorError(f"{self._what}: output {brief(name)} is an optional value that is not there")
        if isinstance(output, TensorList):
            if output.stack is not None:
                raise UnsupportedOperatorError(
                    f"{self._what}: output {brief(name)} is a sequence, and how many tensors it has is known only when "
                    "the model runs; make it a tensor with ConcatFromSequence"
                )
            return [(f"{name}[{k}]", value) for k, value in enumerate(output.parts)]
        return [(name, output)]

    def _loaded(
        self, nodes: list[AnyNode], inputs: list[Var], outputs: dict[str, AnyVar], scalars: set[str]
    ) -> LoadedModel:
        made = ModelGraph(nodes, inputs, list(outputs.values()), list(outputs))
        made.declared = tuple(self._builder.declared.values())
        made.operators_in_file = self._builder.operators
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
            unsigned=self._unsigned,
            open_shapes=self._open_shapes(outputs),
            output_types=self._output_types,
            properties={entry.key: entry.value for entry in self._record.metadata_props},
            result_names=self._converter.result_names,
            file_operators=count_operators(self._main),
        )

    def _open_shapes(self, outputs: Mapping[str, AnyVar]) -> dict[str, OpenShape | None]:
        """The shapes of inputs that leave sizes open, and what the model says of its outputs then."""
        found: dict[str, OpenShape | None] = {
            declared.name: declared.open_shape for declared in self._builder.declared.values() if not declared.is_fixed
        }
        if found:
            said = {info.name: info.type.tensor for info in self._main.output if info.type is not None}
            for name in outputs:
                tensor = said.get(name)
                shape = None if tensor is None or tensor.shape is None else tensor.shape.dim
                found.setdefault(name, None if shape is None else DeclaredShape(name, _dims(shape)).open_shape)
        return found

    def _input(self, info: ValueInfoProto) -> tuple[Var, Value]:
        """The variable of an input, and the value that nodes read."""
        said = info.type
        untyped = self._converter.fault(f"input {brief(info.name)} has no type; give it one and export again")
        if said is None or said == TypeProto():
            raise untyped
        if said.optional is not None:
            said = said.optional.elem_type  # it is always given here
        tensor = None if said is None else said.tensor
        if tensor is None or tensor.shape is None:
            what = "it has no shape, not even a number of dimensions; give it one and export again"
            if tensor is None:
                what = "it is no tensor; make an input of each tensor, and join them by SequenceConstruct"
            raise UnsupportedOperatorError(what)
        if tensor.elem_type in (None, _E.UNDEFINED):
            raise untyped
        said_kind = element_type(tensor.elem_type, "it", self._what)
        kind = self._converter.narrowing.kind(said_kind)
        dims = _dims(tensor.shape.dim)
        shape = tuple(d if isinstance(d, int) else 1 for d in dims)  # what is symbolic is 1 until the input is given
        if len(shape) > MAX_NDIM or any(not 0 <= d < 2**31 for d in shape):
            raise self._converter.fault(
                f"input {brief(info.name)} has the shape {shape[:20]}, which no tensor can have"
            )
        if kind in (_E.UINT32, _E.UINT64):
            self._unsigned[info.name] = "uint32" if kind == _E.UINT32 else "uint64"
        dtype = _at_the_api(kind)
        var = Var(self._builder.new_id(), info.name, TensorSpec(shape or (1,), dtype))
        declared = DeclaredShape(info.name, dims)
        if self._record.producer_name == PRODUCER:
            declared.trusted.update(axis for axis, d in enumerate(dims) if isinstance(d, int))
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
        target = _at_the_api(value.kind)
        if value.kind in _CHECKED and value.dtype != target:
            parameters = onnx_params.OnnxElemwise(onnx_params.OnnxMode.NARROW)
            return self._builder.nodes_of("OnnxElemwise", parameters, [value.var])[0]
        return self._builder.converted(value, target)


def _at_the_api(kind: ElementType) -> DType:
    """The type that tensors of the API have for values of a type of ONNX."""
    return _AT_THE_API.get(kind, DTYPES[kind])


def _dims(shape: Sequence[Dimension]) -> tuple[int | str | None, ...]:
    """Dimensions as the model says them. Some programs write -1 for an unknown size, or the name "?" for all such."""
    return tuple(
        d.value if d.value is not None and d.value != -1 else d.parameter if d.parameter not in ("", "?") else None
        for d in shape
    )
