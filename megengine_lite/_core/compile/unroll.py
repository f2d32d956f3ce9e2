"""Writes the rounds of a short loop one after another, so that they become part of a stage.

A loop that cuts its inputs in slices has as many rounds as these have parts, which follows from shapes; the number of
rounds of others may be a constant. If there are few, they cost less as nodes of the stage around them than as runs of
their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count

import numpy as np

from megengine_lite._core.ir.dtype import BOOL, INT32, INT64, DType
from megengine_lite._core.ir.expansion import Repetition, Sliced, Stacked, Subgraphs
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec, Var
from megengine_lite._core.ir.params import (
    Axis,
    AxisAddRemove,
    AxisDesc,
    AxisMethod,
    Empty,
    IndexDescMaskDump,
    IndexDescMaskItem,
)
from megengine_lite._core.ir.shape_constant import value_constant
from megengine_lite._core.operators import REGISTRY

MOST_NODES = 64
"""Of all rounds of a loop together."""
MOST_OF_STAGE = 1024
"""Of all loops of a stage together: planning takes time for each node."""


def unrolled(node: AnyNode, specs: Sequence[TensorSpec]) -> list[AnyNode] | None:
    """The nodes of all rounds of a loop, in the place of its node; None if it stays a loop.

    Parameters
    ----------
    specs
        The shapes of the node's inputs.
    """
    p = node.params
    rounds = _number_of_rounds(p, specs) if isinstance(p, Repetition) else None
    if not rounds:
        return None
    nodes = p.body.nodes
    is_plain = not any(isinstance(n.params, Subgraphs) or REGISTRY[n.op].dynamic for n in nodes)
    if not is_plain or rounds * max(len(nodes), 1) > MOST_NODES:
        return None
    return _Rounds(node, p).nodes(rounds)


def sliced_inputs(node: AnyNode) -> list[tuple[AnyVar, int]]:
    """The inputs of a loop without a condition that are cut in slices, and along which axes: they decide the rounds."""
    p = node.params
    first = p.has_count + p.has_condition + p.n_states
    return [(v, how.axis) for v, how in zip(node.inputs[first:], p.sliced, strict=False)]


def _number_of_rounds(p: Repetition, specs: Sequence[TensorSpec]) -> int | None:
    """How many rounds there are, if that is known."""
    n_given = p.has_count + p.has_condition
    if not p.asks:
        cut = specs[n_given + p.n_states :][: len(p.sliced)]
        lengths = {spec.shape[how.axis % len(spec.shape)] for spec, how in zip(cut, p.sliced, strict=True)}
        return lengths.pop() if len(lengths) == 1 else None
    known = [spec.value for spec in specs[:n_given]]
    numbers = [int(value.reshape(-1)[0]) for value in known if value is not None]
    if not p.has_count or len(numbers) < n_given or not all(numbers[1:]) or not _goes_on(p):
        return None
    return numbers[0]


def _goes_on(p: Repetition) -> bool:
    """Whether the condition of a next round is that of this one, or a true constant."""
    makers = {v: n for n in p.body.nodes for v in n.outputs}
    condition = p.body.outputs[0]
    while condition in makers and makers[condition].op == "Identity":
        (condition,) = makers[condition].inputs
    return condition is p.body.inputs[1] or (condition.const is not None and bool(condition.const.array.all()))


class _Rounds:
    """Makes the nodes of the rounds. Numbers of their variables are negative, and the same each time."""

    def __init__(self, node: AnyNode, p: Repetition):
        self._node = node
        self._p = p
        self._ids = count(-(node.outputs[0].id + 1) << 20)
        self._made: list[AnyNode] = []

    def nodes(self, rounds: int) -> list[AnyNode]:
        node, p = self._node, self._p
        given = node.inputs[p.has_count + p.has_condition :]
        states, whole = list(given[: p.n_states]), given[p.n_states : p.n_states + len(p.sliced)]
        parts: list[list[AnyVar]] = [[] for _ in p.stacked]
        for k in range(rounds):
            slices = [self._part(v, how, k, rounds) for v, how in zip(whole, p.sliced, strict=True)]
            own = [self._number(np.array([k]), INT64), self._number(np.array([True]), BOOL)] if p.asks else []
            results = self._round(dict(zip(p.body.inputs, [*own, *states, *slices], strict=True)))[p.asks :]
            states = results[: p.n_states]
            for collected, result in zip(parts, results[p.n_states :], strict=True):
                collected.append(result)
        ends = [*states, *map(self._stacked, parts, p.stacked)]
        self._made += [
            AnyNode("Identity", Empty(), [v], [out], node.name) for v, out in zip(ends, node.outputs, strict=True)
        ]
        return self._made

    def _add(self, op: str, parameters: object, inputs: Sequence[AnyVar]) -> AnyVar:
        out = AnyVar(next(self._ids), self._node.name)
        self._made.append(AnyNode(op, parameters, inputs, [out], self._node.name))
        return out

    def _number(self, value: np.ndarray, dtype: DType) -> Var:
        return Var(next(self._ids), "", TensorSpec(value.shape, dtype, value), value_constant(value))

    def _part(self, whole: AnyVar, how: Sliced, k: int, rounds: int) -> AnyVar:
        index = self._number(np.array([rounds - 1 - k if how.backwards else k], np.int32), INT32)
        item = IndexDescMaskItem(how.axis, False, False, False, True)
        return self._add("Subtensor", IndexDescMaskDump(items=(item,)), [whole, index])

    def _round(self, meaning: Mapping[AnyVar, AnyVar]) -> list[AnyVar]:
        """The outputs of the graph for these inputs."""
        found = dict(meaning)
        for n in self._p.body.nodes:
            found.update((v, AnyVar(next(self._ids), v.name)) for v in n.outputs)
            inputs, outputs = ([found.get(v, v) for v in some] for some in (n.inputs, n.outputs))
            self._made.append(AnyNode(n.op, n.params, inputs, outputs, n.name, n.output_dtype, n.payload))
        return [found.get(v, v) for v in self._p.body.outputs]

    def _stacked(self, parts: Sequence[AnyVar], how: Stacked) -> AnyVar:
        """The parts along a new axis; a single number, which stands as (1,), has that axis already."""
        if how.shape:
            added = AxisAddRemove(desc=(AxisDesc(AxisMethod.ADD_1, how.axis),))
            parts = [self._add("AxisAddRemove", added, [v]) for v in parts]
        if how.backwards:
            parts = parts[::-1]
        return parts[0] if len(parts) == 1 else self._add("Concat", Axis(axis=how.axis), parts)
