"""Prepared models: a plan, and what a program asks of a model, without the model's graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.device.interface import Device
from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.prepared.record import PreparedInput, PreparedOutput, PreparedRecord
from megengine_lite._core.ir.graph import AnyVar, Constant, DynamicSpec, ModelGraph, Spec, TensorSpec, Var
from megengine_lite._core.runtime.only_plan import OnlyPlan
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system.device_errors import errors_of

if TYPE_CHECKING:
    from megengine_lite._core.runtime.session import Session


class PreparedModel:
    """A model of which there is a prepared plan.

    Parameters
    ----------
    record
        From a prepared file that was made for this process.
    what
        Name of the file for messages.
    load_graph
        Loads the model itself.

    Attributes
    ----------
    facts : dict
        What the plan depends on.
    model : LoadedModel
        Inputs and outputs; its graph has no nodes.
    """

    def __init__(self, record: PreparedRecord, what: str, load_graph: Callable[[], LoadedModel]):
        self.load_graph = load_graph
        self._record = record
        self._what = what
        self.facts = record.facts
        inputs = [Var(k, i.name, TensorSpec(i.declared, i.dtype)) for k, i in enumerate(record.inputs)]
        self._vars: dict[int, AnyVar] = dict(enumerate(inputs))
        computed = {slot.variable: slot for slot in record.plan.outputs}
        self._declared: dict[AnyVar, Spec] = {}
        for output in record.outputs:
            slot = computed[output.variable]
            var = self._vars.setdefault(
                output.variable, AnyVar(output.variable, output.name, TensorSpec(slot.shape, slot.dtype))
            )
            if output.dtype is not None:
                shape = output.declared
                self._declared[var] = DynamicSpec(output.dtype) if shape is None else TensorSpec(shape, output.dtype)
        names = [output.name for output in record.outputs]
        self.model = LoadedModel(
            ModelGraph([], inputs, [self._vars[output.variable] for output in record.outputs], names),
            record.input_names,
            names,
            {i.name: _constant(i, *i.default) for i in record.inputs if i.default is not None},
            "prepared",
            0,
            None,
            scalars=frozenset(record.scalars),
            properties=record.properties,
            open_shapes=record.open_shapes,
        )

    def new_plan(self, device: Device, device_id: int, config: SessionConfig) -> OnlyPlan:
        """The plan, for a session of its own."""
        with errors_of(device):
            plan = device.restore(self._record.plan, self._vars, config, self._what)
            plan.buffers = [device.allocate(slot.spec.nbytes, device_id) for slot in plan.outputs]
        return OnlyPlan(self.model.graph, plan, f"{self._what} has a plan for one shape", self._declared)


def _constant(given: PreparedInput, shape: tuple[int, ...], content: bytes) -> Constant:
    return Constant(np.frombuffer(content, given.dtype.storage).reshape(shape), ("default", given.name))


def _output(name: str, variable: int, spec: Spec | None) -> PreparedOutput:
    shape = spec.shape if isinstance(spec, TensorSpec) else None
    return PreparedOutput(name, variable, None if spec is None else spec.dtype, shape)


def record_of(session: Session, facts: Mapping[str, str]) -> PreparedRecord:
    """What a prepared file has of a session, for the inputs that are set. It must have made no other plan.

    Raises
    ------
    LiteError
        The model needs several plans, or steps that a prepared file cannot have.
    ShapeError
        The inputs do not fit the model, or each other.
    """
    model, graph = session.model, session.model.graph
    variables: dict[AnyVar, int] = {var: k for k, var in enumerate(graph.inputs)}
    for var in graph.outputs:
        variables.setdefault(var, len(variables))
    inputs = []
    for var in graph.inputs:
        default = model.default_inputs.get(var.name)
        value = None if default is None else (default.array.shape, default.array.tobytes())
        inputs.append(PreparedInput(var.name, var.dtype, var.shape, value))
    plan = session.plan_for_inputs()
    return PreparedRecord(
        dict(facts),
        inputs,
        list(model.input_names),
        [
            _output(name, variables[var], session.declared_output(name))
            for name, var in zip(graph.output_names, graph.outputs, strict=True)
        ],
        sorted(session.scalars),
        dict(model.properties),
        dict(model.open_shapes),
        session.device.record(plan, variables),
    )
