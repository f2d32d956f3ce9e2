"""Makes the graph of a model from its records and checks that the parts fit."""

from __future__ import annotations

from typing import Any

from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.mge.input_order import listed_order
from megengine_lite._core.formats.mge.records import ModelRecord, OperatorRecord
from megengine_lite._core.formats.mge.repair import drop_double_padding
from megengine_lite._core.formats.stored_values import TensorRecord, file_constant
from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, Constant, ModelGraph, TensorSpec, Var
from megengine_lite._core.ir.params import Empty, Host2DeviceCopy
from megengine_lite._core.operators.sources import CONSTANTS, INPUT
from megengine_lite._records import field, record
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError, listed_nodes

MAX_VARIABLES = 1 << 18


@record(slots=True)
class _Builder:
    """Walks the operators of a record; each one defines variables that later ones read."""

    what: str
    compressed: bool
    names: dict[int, str]
    token: object = field(default_factory=object)  # makes keys of constants unique to this load
    variables: dict[int, AnyVar] = field(default_factory=dict)
    nodes: list[AnyNode] = field(default_factory=list)
    inputs: dict[str, Var] = field(default_factory=dict)
    defaults: dict[str, Constant] = field(default_factory=dict)

    def add(self, position: int, operator: OperatorRecord) -> None:
        if operator.type == INPUT:
            self._add_input(position, operator)
        elif operator.type in CONSTANTS:
            self._add_constants(position, operator)
        else:
            self._add_node(operator)

    def _define(self, number: int, var: AnyVar, operator: OperatorRecord) -> None:
        if number in self.variables:
            raise ModelFormatError(f"{self.what}: {operator.describe()} defines variable {number} a second time")
        if len(self.variables) == MAX_VARIABLES:
            raise ModelFormatError(f"{self.what}: more than {MAX_VARIABLES} variables")
        self.variables[number] = var

    def _single(self, operator: OperatorRecord) -> tuple[TensorRecord, int]:
        if len(operator.tensors) != 1 or len(operator.outputs) != 1:
            raise ModelFormatError(
                f"{self.what}: {operator.describe()} has {len(operator.tensors)} tensors and {len(operator.outputs)} "
                "outputs; one of each is expected"
            )
        return operator.tensors[0], operator.outputs[0]

    def _add_input(self, position: int, operator: OperatorRecord) -> None:
        tensor, number = self._single(operator)
        name = tensor.name or f"input[{len(self.inputs)}]"
        if name in self.inputs:
            raise ModelFormatError(f"{self.what}: two inputs have the name {name!r}")
        if not tensor.shape:
            raise ModelFormatError(f"{self.what}: input {name!r} has no shape")
        var = self.inputs[name] = Var(number, name, TensorSpec(tensor.shape, tensor.dtype))
        self._define(number, var, operator)
        params = operator.params
        if isinstance(params, Host2DeviceCopy) and params.dump_default_value and tensor.data is not None:
            self.defaults[name] = file_constant(
                tensor, self.compressed, (self.token, position, operator.type, 0), self.what
            )

    def _add_constants(self, position: int, operator: OperatorRecord) -> None:
        if len(operator.tensors) != len(operator.outputs):
            raise ModelFormatError(
                f"{self.what}: {operator.describe()} has {len(operator.tensors)} tensors and {len(operator.outputs)} "
                "outputs; there must be as many"
            )
        for i, (tensor, number) in enumerate(zip(operator.tensors, operator.outputs, strict=True)):
            if not tensor.shape:
                raise ModelFormatError(f"{self.what}: the tensor of {operator.describe()} has no shape")
            constant = file_constant(tensor, self.compressed, (self.token, position, operator.type, i), self.what)
            name = tensor.name or self.names.get(number, "")
            self._define(number, Var(number, name, TensorSpec(tensor.shape, tensor.dtype), constant), operator)

    def _add_node(self, operator: OperatorRecord) -> None:
        missing = [number for number in operator.inputs if number not in self.variables]
        if missing:
            raise ModelFormatError(
                f"{self.what}: {operator.describe()} reads variable {missing[0]}, which no operator before it defines"
            )
        outputs = []
        for number in operator.outputs:
            var = AnyVar(number, self.names.get(number, ""))
            if number != NOT_NUMBERED:
                self._define(number, var, operator)
            outputs.append(var)
        name = operator.name or next((v.name for v in outputs if v.name), "")
        inputs = [self.variables[number] for number in operator.inputs]
        op = operator.type or operator.label
        self.nodes.append(AnyNode(op, operator.params, inputs, outputs, name, operator.output_dtype, operator.payload))

    def outputs(self, listed: list[tuple[int, str]]) -> dict[str, AnyVar]:
        """The graph's outputs by name; a variable that is listed twice under one name counts once."""
        found: dict[str, AnyVar] = {}
        seen: set[tuple[int, str]] = set()
        for number, alias in listed:
            var = self.variables.get(number)
            if var is None:
                raise ModelFormatError(f"{self.what}: variable {number} is an output and not defined by any operator")
            if (number, alias) in seen:
                continue
            seen.add((number, alias))
            # An input that is an output has two names: that of its data and that of its variable.
            name = alias or self.names.get(number) or var.name or self._invented_name(var)
            found[name if name not in found else f"{name}[{number}]"] = var
        if not found:
            raise ModelFormatError(f"{self.what}: the model has no outputs")
        return found

    def _invented_name(self, var: AnyVar) -> str:
        """Names for the outputs of models that were dumped without names."""
        maker = next((node.op for node in self.nodes if var in node.outputs), "CONSTANT")
        return f"{maker}[{var.id}]"


def build_model(record: ModelRecord, *, what: str = "model", compressed: bool = False) -> LoadedModel:
    """The model that a record describes.

    Raises
    ------
    ModelFormatError
        Something refers to a variable that does not exist, or values are missing.
    UnsupportedOperatorError
        A file of the first generation has unknown operators. The number of their outputs is not known, so the graph
        cannot be made.
    """
    if record.container == "v1":
        _refuse([op for op in record.operators if not op.type], what)
    builder = _Builder(what, compressed, record.variable_names)
    for position, operator in enumerate(record.operators):
        builder.add(position, operator)
    outputs = builder.outputs(record.outputs)
    inputs = builder.inputs
    graph = ModelGraph(builder.nodes, list(inputs.values()), list(outputs.values()), list(outputs))
    drop_double_padding(graph)
    return LoadedModel(
        graph=graph,
        input_names=listed_order(list(inputs)),
        output_names=list(outputs),
        default_inputs=builder.defaults,
        container=record.container,
        version=record.version,
        metadata=record.metadata,
        has_operator_names=any(operator.name for operator in record.operators),
    )


def check_operators(record: ModelRecord, what: str = "model") -> None:
    """Checks that all operators of a model can be run, with the parameters that they expect.

    Raises
    ------
    UnsupportedOperatorError
        Some operators are not known; the message lists all of them.
    ModelFormatError
        An operator has the parameters of another one.
    """
    from megengine_lite._core.operators import REGISTRY

    operators = [op for op in record.operators if op.type != INPUT and op.type not in CONSTANTS]
    _refuse([op for op in operators if op.type not in REGISTRY], what)
    for operator in operators:
        operator.payload = REGISTRY[operator.type].load_payload(
            operator.payload, len(operator.inputs), len(operator.outputs)
        )
        expected: Any = REGISTRY[operator.type].param
        if expected is None or isinstance(operator.params, expected):
            continue
        if expected is Empty and operator.param_code == 0:
            continue
        raise ModelFormatError(
            f"{what}: {operator.describe()} has parameters of kind {operator.param_code}, "
            f"{expected.__name__} ({expected.code}) is expected"
        )


def _refuse(operators: list[OperatorRecord], what: str) -> None:
    if not operators:
        return
    shown = listed_nodes([(op.label, op.describe()[len(op.label) + 1 :], "") for op in operators], ", ")
    raise UnsupportedOperatorError(f"{what}: these operators are not supported: {shown}")
