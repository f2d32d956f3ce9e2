"""Values of all variables of a model, for dumps: a second session that computes every variable as an output.

Nothing is fused or laid out anew there, so that each operator of the file has its result.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from megengine_lite._core.config import SessionConfig
from megengine_lite._core.dtype import DType
from megengine_lite._core.graph import ConstantPool, Graph, Node, Var
from megengine_lite._core.loader.records import NOT_NUMBERED
from megengine_lite._core.memory import Storage
from megengine_lite._core.oprs import REGISTRY
from megengine_lite._core.session import Session


@dataclass(slots=True)
class _AllOutputs:
    """A model of which every variable is an output, named by its number."""

    graph: Graph
    input_names: list[str]
    output_names: list[str]


@dataclass(slots=True)
class Value:
    """A variable and what it holds.

    ``kind`` is ``"constant"``, ``"input"`` or ``"computed"``; ``static`` tells that the shape follows from those of
    the inputs. ``owner`` and ``owner_type`` name the operator, ``owner_id`` is its position in order of execution.
    """

    var: Var
    dtype: DType
    array: np.ndarray
    kind: str
    static: bool
    slot: int
    owner: str
    owner_type: str
    owner_id: int


@dataclass(slots=True)
class Record:
    """An operator that ran: its inputs and its outputs."""

    inputs: list[Value]
    outputs: list[Value]


class Tracer:
    """Runs a model and tells what every operator made.

    Parameters
    ----------
    model
        A loaded model.
    config
        Of the session that the model runs in; threads and the like are taken from it.
    """

    def __init__(self, model: Any, config: SessionConfig):
        graph = model.graph
        wanted = {v.id: v for node in graph.nodes for v in node.outputs if v.id != NOT_NUMBERED}
        names = [str(number) for number in wanted]
        traced = _AllOutputs(
            Graph(graph.nodes, graph.inputs, list(wanted.values()), names), list(model.input_names), names
        )
        plain = replace(config, fuse=False, plan_cache_size=1)
        self._session = Session(traced, plain, pool=ConstantPool())  # type: ignore[arg-type]  # all it needs
        self._graph = graph

    def run(self, inputs: dict[str, np.ndarray]) -> Iterator[Record]:
        """Computes everything, then gives the operators in order of execution. Arrays are valid until the next run."""
        session = self._session
        for name, array in inputs.items():
            session.set_input(name, array.ctypes.data, array.shape, None, array)
        session.run()
        values: dict[Var, Value] = {}
        numbers = iter(range(1 << 62))
        by_var = {var: inputs[var.name] for var in self._graph.inputs}
        for node in self._graph.nodes:
            for var in node.inputs:
                if var not in values and var.producer is None:
                    values[var] = source = self._source(var, by_var, next(numbers))
                    yield Record([], [source])
            number = next(numbers)
            inputs_read = [values[v] for v in node.inputs]
            static = not REGISTRY[node.op].dynamic and all(v.static for v in inputs_read)
            outputs = []
            for slot, var in enumerate(node.outputs):
                if var.id != NOT_NUMBERED:  # those are workspaces
                    values[var] = self._computed(node, var, slot, number, static)
                    outputs.append(values[var])
            yield Record(inputs_read, outputs)

    def _source(self, var: Var, inputs: dict[Var, np.ndarray], number: int) -> Value:
        if var.const is None:
            return Value(var, var.dtype, inputs[var], "input", True, 0, f"h2d[{number}]", "Host2DeviceCopy", number)
        array = var.const.array
        shape = ",".join(map(str, array.shape))
        return Value(
            var, var.dtype, array, "constant", True, 0, f"const{{{shape}}}[{number}]", "ImmutableTensor", number
        )

    def _computed(self, node: Node, var: Var, slot: int, number: int, static: bool) -> Value:
        address, shape, dtype, owner = self._session.output(str(var.id))
        array = np.empty(shape, dtype.storage)
        if array.nbytes:
            array = np.ndarray(
                shape, dtype.storage, memoryview(Storage.at(address, array.nbytes, owner, readonly=True))
            )
        name = node.name or f"{node.op}[{number}]"
        return Value(var, dtype, array, "computed", static, slot, name, node.op, number)
