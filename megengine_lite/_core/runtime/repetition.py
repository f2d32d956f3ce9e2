"""Runs a graph again and again: the loops of a model.

Each round is a run of the graph's own plans, which are found by the shapes of what goes in. So a loop whose shapes stay
the same plans once, and one whose states grow plans for each size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.device.plan import Plan, RunValue
from megengine_lite._core.ir.dtype import BOOL, INT64, DType
from megengine_lite._core.ir.expansion import Repetition, Sliced, Stacked
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec, Var
from megengine_lite._core.operators.base import fail
from megengine_lite._core.system.memory_limit import memory_limit

if TYPE_CHECKING:
    from megengine_lite._core.runtime.plans_by_shape import Plans

MOST_ROUNDS = 1 << 20
"""A loop that has not ended by then never will."""

Values = dict[AnyVar, RunValue]


class _Slices:
    """The parts of an input, one for each round, one after the other in memory."""

    __slots__ = ("_backwards", "_length", "spec", "whole")

    def __init__(self, value: RunValue, how: Sliced, store: Callable[[np.ndarray, DType], RunValue]):
        if how.axis != 0:
            value = store(_dense(np.moveaxis(value.array(), how.axis, 0)), value.dtype)
        self.whole = value
        self._length, *shape = value.shape
        self.spec = TensorSpec(tuple(shape) or (1,), value.dtype)  # a single number stands as (1,)
        self._backwards = how.backwards

    def __len__(self) -> int:
        return self._length

    def place(self, k: int) -> int:
        """Where the part of a round begins in the storage."""
        return self.whole.offset + (self._length - 1 - k if self._backwards else k) * self.spec.nbytes

    def __getitem__(self, k: int) -> RunValue:
        return RunValue(self.spec, self.whole.storage, self.place(k))


class _Again:
    """The plan of a round, run for later rounds without a look at the graph.

    It stays bound to what is the same in all rounds, and keeps the arrays of the results, in the plan's memory. A
    result may also be one of the inputs.
    """

    __slots__ = ("_given", "_sliced", "_states", "_views", "plan")

    def __init__(
        self,
        plan: Plan,
        inputs: Sequence[AnyVar],
        states: int,
        cut: Sequence[_Slices],
        outputs: Sequence[AnyVar],
        results: Sequence[RunValue],
    ):
        slots = {slot.var: slot for slot in plan.inputs}
        self.plan = plan
        self._states = [(k, slots[v]) for k, v in enumerate(inputs[:states]) if v in slots]
        sliced = zip(inputs[states:], cut, strict=False)
        self._sliced = [(slots[v], x) for v, x in sliced if v in slots]
        self._views = [value.array() for value in results]
        sources: dict[AnyVar, int | _Slices] = {v: k for k, v in enumerate(inputs[:states])}
        sources |= zip(inputs[states:], cut, strict=False)
        self._given = [(k, sources[v]) for k, v in enumerate(outputs) if v in sources]

    def bind(self, k: int, states: Sequence[RunValue]) -> None:
        """Binds the states, and the parts of a round."""
        plan = self.plan
        for place, slot in self._states:
            plan.bind(slot, states[place].storage, states[place].offset)
        for slot, slices in self._sliced:
            plan.bind(slot, slices.whole.storage, slices.place(k))

    def results(self, k: int, states: Sequence[RunValue]) -> list[np.ndarray]:
        """The results of a round that has run, until the next one runs."""
        if not self._given:
            return self._views
        found = list(self._views)
        for place, source in self._given:
            found[place] = (states[source] if isinstance(source, int) else source[k]).array()
        return found


class Repeated:
    """A stage that is one node, which runs a graph in rounds.

    Parameters
    ----------
    node
        The node.
    plans
        Those of its graph.
    """

    def __init__(self, node: AnyNode, plans: Plans):
        assert isinstance(node.params, Repetition)
        self.node = node
        self.plans = plans
        self.has_dynamic_outputs = True
        self._repetition = node.params

    def touched(self) -> list[AnyVar]:
        """The variables of the model's graph that the stage reads or makes."""
        return [*self.node.inputs, *self.node.outputs]

    def run(
        self,
        values: Values,
        run_body: Callable[[Values], Plan | None],
        run_bound: Callable[[Plan], None] | None,
        store: Callable[[np.ndarray, DType], RunValue],
    ) -> None:
        """Runs all rounds and adds the outputs to the values.

        Parameters
        ----------
        run_body
            Runs the graph once; adds its outputs to the values that are given. Gives the plan, if there is one for all
            data of these shapes.
        run_bound
            Runs a plan whose inputs and outputs are bound. None if every run must be seen.
        store
            Makes a value of an array.
        """
        node, p = self.node, self._repetition
        given = [
            store(v.const.array, v.spec.dtype) if isinstance(v, Var) and v.const is not None else values[v]
            for v in node.inputs
        ]
        count = int(given.pop(0).array().reshape(-1)[0]) if p.has_count else None
        condition = bool(given.pop(0).array().reshape(-1)[0]) if p.has_condition else True
        # The value of a first state may be known, those of the others are not: a plan must not build on it.
        states = [RunValue(TensorSpec(v.shape, v.dtype), v.storage, v.offset) for v in given[: p.n_states]]
        given = given[p.n_states :]
        cut = [_Slices(v, s, store) for v, s in zip(given, p.sliced, strict=False)]
        if cut:
            count = self._common_length(cut)
        inputs: list[AnyVar] = [*self.plans.graph.inputs, *p.outside]
        outside, outputs = given[len(cut) :], self.plans.graph.outputs
        parts: list[list[np.ndarray]] = [[] for _ in p.stacked]
        again: _Again | None = None
        types: list[DType] = []  # of states and parts
        k, total = 0, 0
        while condition and (count is None or k < count):
            if k == MOST_ROUNDS:
                raise fail(node, f"it has not ended after {MOST_ROUNDS} rounds")
            begins = [store(np.array([k]), INT64), store(np.array([condition]), BOOL)] if p.asks else []
            begins += states
            if again is not None and run_bound is not None:
                again.bind(k, begins)
                run_bound(again.plan)
                arrays = again.results(k, begins)
            else:
                round_values: Values = dict(zip(inputs, [*begins, *(x[k] for x in cut), *outside], strict=True))
                plan = run_body(round_values)
                results = [round_values[v] for v in outputs]
                if plan is not None and run_bound is not None and self._keeps_shapes(states, results):
                    again = _Again(plan, inputs, len(begins), cut, outputs, results)
                types = [v.dtype for v in results[p.asks :]]
                arrays = [v.array() for v in results]
            if p.asks:
                condition = bool(arrays[0].reshape(-1)[0])
            # The next round overwrites the memory of this one's results.
            copies = [array.copy() for array in arrays[p.asks :]]
            states = list(map(store, copies[: p.n_states], types))
            for collected, copy in zip(parts, copies[p.n_states :], strict=True):
                collected.append(copy)
                total += copy.nbytes
            if total > memory_limit():
                raise fail(node, f"its outputs take more memory than there is after {k + 1} rounds")
            k += 1
        stacked = [store(self._stack(x, s), s.dtype) for x, s in zip(parts, p.stacked, strict=True)]
        values.update(zip(node.outputs, [*states, *stacked], strict=True))

    def _keeps_shapes(self, states: Sequence[RunValue], results: Sequence[RunValue]) -> bool:
        """Whether the next round has states of the same shapes."""
        p = self._repetition
        ends = results[p.asks : p.asks + p.n_states]
        return all(a.spec.shape == b.spec.shape for a, b in zip(states, ends, strict=True))

    def _common_length(self, cut: Sequence[_Slices]) -> int:
        lengths = {len(x) for x in cut}
        if len(lengths) > 1:
            raise fail(self.node, f"its inputs have {' and '.join(map(str, sorted(lengths)))} parts")
        return lengths.pop()

    def _stack(self, parts: Sequence[np.ndarray], how: Stacked) -> np.ndarray:
        if len({x.shape for x in parts}) > 1:
            shapes = " and ".join(str(list(shape)) for shape in dict.fromkeys(x.shape for x in parts))
            raise fail(self.node, f"the parts of an output have the shapes {shapes[:200]}")
        shape = parts[0].shape if parts and how.shape else how.shape  # a single number stands as (1,)
        rows = [x.reshape(shape) for x in (reversed(parts) if how.backwards else parts)]
        whole = np.stack(rows) if rows else np.empty((0, *shape), how.dtype.storage)
        return _dense(np.moveaxis(whole, 0, how.axis))


def _dense(x: np.ndarray) -> np.ndarray:
    """A copy of an array with its elements one after the other; a single number as (1,)."""
    return np.array(x, order="C", ndmin=1)
