"""Values of all variables of a model, for dumps: a second session that computes every variable as an output.

That session does not fuse or change layouts, so each operator of the file has a result. A dump has the operators that
the original runs. It leaves out those that only give a shape, or numbers from which a shape is computed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np

from megengine_lite._core.device.interface import Device
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, ConstantPool, ModelGraph, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.facts import Use
from megengine_lite._core.reports.original_names import Listed, list_operators
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._records import record, replace


class Known(IntEnum):
    """What the original knows about a shape or a value before it runs; the numbers are its own."""

    NOTHING = 1
    CONSTANT = 2
    FROM_INPUTS = 4
    INPUT_UNKNOWN = 8


@record(slots=True)
class _AllOutputs:
    """A model with every variable as an output, named by its number."""

    graph: ModelGraph
    input_names: list[str]
    output_names: list[str]


@record(slots=True)
class TracedValue:
    """A variable and its value. ``number``, ``name``, ``slot`` and ``owner`` are the original's.

    ``ran`` says whether the original runs its operator.
    """

    number: int
    name: str
    slot: int
    owner: Listed
    dtype: DType
    array: np.ndarray
    shape_known: Known
    value_known: Known
    ran: bool

    @property
    def static(self) -> bool:
        """Whether the shape follows from those of the inputs."""
        return self.shape_known in (Known.CONSTANT, Known.FROM_INPUTS)


@record(frozen=True, slots=True)
class Dependency:
    """A value that an operator reads: the last input at which it occurs, and which part of it is read."""

    position: int
    use: Use
    value: TracedValue


@record(slots=True)
class TracedOperator:
    """An operator that ran, with what it read and computed."""

    inputs: list[TracedValue]
    dependencies: list[Dependency]
    outputs: list[TracedValue]


def _uses(node: AnyNode) -> list[tuple[AnyVar, Use]]:
    """The inputs of a node, and what the original needs of each."""
    return list(zip(node.inputs, REGISTRY[node.op].original_uses(node), strict=True))


class _Knowledge:
    """What is known about the variables of a graph before the run."""

    def __init__(self, listed: list[Listed]):
        self.shape: dict[AnyVar, Known] = {}
        self.value: dict[AnyVar, Known] = {}
        for operator in listed:
            self._add(operator)

    def _add(self, operator: Listed) -> None:
        node = operator.node
        for var in operator.outputs:
            if node is None:
                known = Known.FROM_INPUTS if var.const is None else Known.CONSTANT
                self.shape[var] = self.value[var] = known
                continue
            uses = _uses(node)
            numbers = [self.value[v] for v, use in uses if use == Use.NUMBERS]
            shapes = [self.shape[v] for v, use in uses if use != Use.NUMBERS]
            self.shape[var] = Known.NOTHING if REGISTRY[node.op].dynamic else _together(shapes + numbers)
            read = [self.shape[v] if use == Use.SHAPE else self.value[v] for v, use in uses]
            predicted = REGISTRY[node.op].in_original.predicts_results
            self.value[var] = _together(read) if predicted else Known.NOTHING


def _together(parts: list[Known]) -> Known:
    """How much of a result is known before the run, from what is known of all that it depends on."""
    if any(p in (Known.NOTHING, Known.INPUT_UNKNOWN) for p in parts):
        return Known.INPUT_UNKNOWN
    return Known.FROM_INPUTS if Known.FROM_INPUTS in parts else Known.CONSTANT


def _needed(var: AnyVar, use: Use, known: _Knowledge) -> bool:
    """Whether the variable must be computed before an operator that needs this part of it can run."""
    if use == Use.CONTENT:
        return True
    table = known.shape if use == Use.SHAPE else known.value
    return table[var] not in (Known.CONSTANT, Known.FROM_INPUTS)


class _Order:
    """The operators in the original's order: of those that are ready, the one with the highest number runs first."""

    def __init__(self, graph: ModelGraph, listed: list[Listed], known: _Knowledge):
        self._owner = {v: k for k, operator in enumerate(listed) for v in operator.outputs}
        self._needs = [self._needs_of(operator, known) for operator in listed]
        waiting = dict.fromkeys(self._reached({self._owner[v] for v in graph.outputs}), 0)
        readers: dict[int, list[int]] = {k: [] for k in waiting}
        for k in waiting:
            waiting[k] = len(self._needs[k])
            for needed in self._needs[k]:
                readers[needed].append(k)
        ready = [-k for k, n in waiting.items() if not n]
        heapq.heapify(ready)
        self.places: list[int] = []
        while ready:
            k = -heapq.heappop(ready)
            self.places.append(k)
            for reader in readers[k]:
                waiting[reader] -= 1
                if not waiting[reader]:
                    heapq.heappush(ready, -reader)

    def _needs_of(self, operator: Listed, known: _Knowledge) -> set[int]:
        node = operator.node
        if node is None:
            return set()
        return {self._owner[v] for v, use in _uses(node) if _needed(v, use, known)}

    def _reached(self, begin: set[int]) -> set[int]:
        seen, stack = set(begin), list(begin)
        while stack:
            for needed in self._needs[stack.pop()] - seen:
                seen.add(needed)
                stack.append(needed)
        return seen


class Tracer:
    """Runs a model and gives the results of every operator.

    Parameters
    ----------
    model
        A loaded model.
    config
        The configuration of the session that the model runs in; threads and the like are taken from it.
    device, device_id
        Where that session runs.
    """

    def __init__(self, model: Any, config: SessionConfig, device: Device, device_id: int):
        graph = model.graph
        self._listed = list_operators(graph, model.has_operator_names)
        self._known = _Knowledge(self._listed)
        self._order = _Order(graph, self._listed, self._known).places
        wanted = {v.id: v for node in graph.nodes for v in node.outputs if v.id != NOT_NUMBERED}
        names = [str(number) for number in wanted]
        traced = _AllOutputs(
            ModelGraph(graph.nodes, graph.inputs, list(wanted.values()), names), list(model.input_names), names
        )
        plain = replace(config, fuse=False, plan_cache_size=1)
        self._session = Session(traced, plain, pool=ConstantPool(), device=device, device_id=device_id)  # type: ignore[arg-type]  # all it needs

    def run(self, inputs: dict[str, np.ndarray]) -> Iterator[TracedOperator]:
        """Computes everything, then gives the operators in order of execution. Arrays are valid until the next run."""
        session = self._session
        for name, array in inputs.items():
            session.set_array(name, array)
        session.run()
        values: dict[AnyVar, TracedValue] = {}
        running = set(self._order)
        for place, operator in enumerate(self._listed):
            for k, var in enumerate(operator.outputs):
                if var.id != NOT_NUMBERED:
                    values[var] = self._value(operator, k, var, inputs, place in running)
        for place in self._order:
            operator = self._listed[place]
            read = operator.node.inputs if operator.node is not None else []
            yield TracedOperator(
                [values[v] for v in read],
                self._dependencies(operator.node, values),
                [values[v] for v in operator.outputs if v in values],
            )

    @staticmethod
    def _dependencies(node: AnyNode | None, values: dict[AnyVar, TracedValue]) -> list[Dependency]:
        if node is None:
            return []
        last = {v: (k, use) for k, (v, use) in enumerate(_uses(node))}
        return [Dependency(k, use, values[v]) for v, (k, use) in sorted(last.items(), key=lambda item: item[1])]

    def _value(self, operator: Listed, k: int, var: AnyVar, inputs: dict[str, np.ndarray], ran: bool) -> TracedValue:
        if operator.node is not None or not isinstance(var, Var):
            dtype, array = self._computed(var)
        else:
            dtype, array = var.dtype, inputs[var.name] if var.const is None else var.const.array
        return TracedValue(
            operator.numbers[k],
            operator.names[k],
            operator.first_slot + k,
            operator,
            dtype,
            array,
            self._known.shape[var],
            self._known.value[var],
            ran,
        )

    def _computed(self, var: AnyVar) -> tuple[DType, np.ndarray]:
        value = self._session.output(str(var.id))
        array = value.array()
        array.flags.writeable = False
        return value.dtype, array
