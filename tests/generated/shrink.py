"""Makes a failing graph small: fewer outputs, nodes, runs, smaller inputs, plainer settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
from support.instruction_sets import INSTRUCTION_SETS

from generated.check import Checker, Failure
from generated.expected import evaluate
from generated.maker import Case, Values
from generated.settings import Setting
from megengine_lite._core.ir.graph import ModelGraph, Node, TensorSpec, Var
from megengine_lite.errors import LiteError

_ROUNDS = 4


def rebuild(
    graph: ModelGraph,
    outputs: list[Var] | None = None,
    names: list[str] | None = None,
    instead: Mapping[Var, Var] | None = None,
) -> ModelGraph:
    """A graph with other outputs, or with variables in the place of others; without what nobody needs.

    Variables that no node makes any more are inputs.
    """
    instead = instead or {}
    outputs = [instead.get(v, v) for v in (outputs if outputs is not None else graph.outputs)]
    names = names or graph.output_names
    nodes = [
        Node(n.op, n.params, [instead.get(v, v) for v in n.inputs], n.outputs, n.name, n.output_dtype, n.payload)
        for n in graph.nodes
    ]
    found = ModelGraph(nodes, [], outputs, list(names))
    found.remove_dead()
    made = {v for node in found.nodes for v in node.outputs}
    read = [v for node in found.nodes for v in node.inputs] + outputs
    found.inputs = [v for v in dict.fromkeys(read) if v.const is None and v not in made]
    return found


class _Shrinker:
    def __init__(self, case: Case, failure: Failure):
        self.case = case
        self.failure = failure

    def accept(self, case: Case, setting: Setting | None = None) -> bool:
        """Goes on with another graph or setting if it fails in the same way."""
        try:
            failure = Checker(case).check(setting or self.failure.setting)
        except LiteError:
            return False  # it is no graph any more
        if failure is None or failure.kind != self.failure.kind:
            return False
        self.case, self.failure = case, failure
        return True

    def graphs(self, graph: ModelGraph, runs: list[Values] | None = None) -> Case:
        return replace(self.case, graph=graph, runs=runs or self.case.runs)

    def run(self) -> None:
        for _ in range(_ROUNDS):
            before = self._size()
            for shrink in (self._runs, self._outputs, self._cut, self._bypass, self._ends, self._inputs, self._setting):
                shrink()
            if self._size() == before:
                break

    def _size(self) -> tuple[int, ...]:
        graph = self.case.graph
        elements = sum(a.size for run in self.case.runs for a in run.values())
        return len(graph.nodes), len(graph.outputs), len(self.case.runs), elements, len(str(self.failure.setting))

    def _runs(self) -> None:
        for k in range(len(self.case.runs)):
            if len(self.case.runs) > 1 and self.accept(replace(self.case, runs=[self.case.runs[k]])):
                return

    def _outputs(self) -> None:
        graph = self.case.graph
        if len(graph.outputs) == 1:
            return
        for k, v in enumerate(graph.outputs):
            if self.accept(self.graphs(rebuild(graph, [v], [graph.output_names[k]]))):
                return
        for k in reversed(range(len(graph.outputs))):
            graph = self.case.graph
            if len(graph.outputs) > 1:
                rest = [i for i in range(len(graph.outputs)) if i != k]
                outputs, names = [graph.outputs[i] for i in rest], [graph.output_names[i] for i in rest]
                self.accept(self.graphs(rebuild(graph, outputs, names)))

    def _cut(self) -> None:
        """Variables become inputs with the values that they have; the latest first, which removes most."""
        tried: set[Var] = set()
        while True:
            graph = self.case.graph
            left = [
                v for node in reversed(graph.nodes) for v in node.outputs if v not in tried and v not in graph.outputs
            ]
            if not left:
                return
            var = left[0]
            tried.add(var)
            values = [evaluate(graph, run)[var] for run in self.case.runs]
            new = Var(var.id, f"in_{var.name}", TensorSpec(values[0].shape, var.dtype))
            runs = [{**run, new.name: value} for run, value in zip(self.case.runs, values, strict=True)]
            self.accept(self._with_inputs(rebuild(graph, instead={var: new}), runs))

    def _with_inputs(self, graph: ModelGraph, runs: list[Values]) -> Case:
        names = {v.name for v in graph.inputs}
        return self.graphs(graph, [{k: v for k, v in run.items() if k in names} for run in runs])

    def _bypass(self) -> None:
        """Nodes make way for one of their inputs of the same shape and type."""
        for node in reversed(list(self.case.graph.nodes)):
            if len(node.outputs) != 1:
                continue
            out = node.outputs[0]
            for v in node.inputs:
                if v.const is None and v.shape == out.shape and v.dtype == out.dtype:
                    graph = self.case.graph
                    if out in {w for n in graph.nodes for w in n.outputs}:
                        changed = rebuild(graph, instead={out: v})
                        if self.accept(self._with_inputs(changed, self.case.runs)):
                            break

    def _ends(self) -> None:
        """An inner variable becomes the only output, if it is wrong already."""
        for node in list(self.case.graph.nodes):
            for var in node.outputs:
                graph = self.case.graph
                if var in {w for n in graph.nodes for w in n.inputs}:
                    changed = rebuild(graph, [var], ["out"])
                    if self.accept(self._with_inputs(changed, self.case.runs)):
                        return

    def _inputs(self) -> None:
        """Fewer samples, then shorter sides of images."""
        for axis, length in ((0, 1), (3, 1), (2, 1), (3, 2), (2, 2), (3, 4), (2, 4)):
            runs, variables = [], {}
            for run in self.case.runs:
                runs.append({k: np.ascontiguousarray(_first(a, axis, length)) for k, a in run.items()})
            for v in self.case.graph.inputs:
                shape = runs[0][v.name].shape
                variables[v] = Var(v.id, v.name, TensorSpec(shape, v.dtype))
            if any(variables[v].shape != v.shape for v in variables):
                with suppress(LiteError):  # shapes that do not go together
                    graph = _respecified(rebuild(self.case.graph, instead=variables), runs[0])
                    self.accept(self.graphs(graph, runs))

    def _setting(self) -> None:
        plain = Setting(isa=self.failure.setting.isa)
        for field in fields(Setting):
            simpler = replace(self.failure.setting, **{field.name: getattr(plain, field.name)})
            if simpler != self.failure.setting:
                self.accept(self.case, simpler)
        for isa in INSTRUCTION_SETS:
            if self.failure.setting.isa == INSTRUCTION_SETS[0]:
                break
            self.accept(self.case, replace(self.failure.setting, isa=isa))


def _first(array: np.ndarray, axis: int, length: int) -> np.ndarray:
    return array[(slice(None),) * axis + (slice(length),)] if array.ndim > axis else array


def _respecified(graph: ModelGraph, inputs: Values) -> ModelGraph:
    """The graph with the specs that follow from other shapes of the inputs."""
    values = evaluate(graph, inputs)
    instead: dict[Var, Var] = {}
    nodes = []
    for node in graph.nodes:
        outs = [Var(v.id, v.name, TensorSpec(values[v].shape, v.dtype)) for v in node.outputs]
        ins = [instead.get(v, v) for v in node.inputs]
        instead.update(zip(node.outputs, outs, strict=True))
        nodes.append(Node(node.op, node.params, ins, outs, node.name, node.output_dtype, node.payload))
    return ModelGraph(nodes, graph.inputs, [instead.get(v, v) for v in graph.outputs], graph.output_names)


def shrink(case: Case, failure: Failure) -> tuple[Case, Failure]:
    """A small graph that fails in the same way, and how it does."""
    shrinker = _Shrinker(case, failure)
    shrinker.run()
    return shrinker.case, shrinker.failure


def describe(case: Case) -> Iterator[str]:
    """Lines that tell what a graph is made of."""
    graph = case.graph

    def name(v: Var) -> str:
        if v.const is None:
            return v.name
        array = v.const.array
        values = array.tolist() if array.size <= 6 and v.dtype.storage.kind == "i" else "constant"
        return f"<{values} {v.dtype} {list(array.shape)}>"

    for v in graph.inputs:
        shapes = " ".join(str(list(run[v.name].shape)) for run in case.runs)
        yield f"input {v.name}: {v.dtype} {shapes}"
    for node in graph.nodes:
        outs = ", ".join(f"{v.name} {v.dtype} {list(v.shape)}" for v in node.outputs)
        yield f"{outs} = {node.op}({', '.join(map(name, node.inputs))}) {node.params or ''}"
    for label, v in zip(graph.output_names, graph.outputs, strict=True):
        yield f"output {label}: {name(v)}"
