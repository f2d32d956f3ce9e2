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
from megengine_lite._core.operators.base import fail, label
from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite.errors import LiteMemoryError

if TYPE_CHECKING:
    from megengine_lite._core.runtime.plans_by_shape import Plans

MOST_ROUNDS = 1 << 20
"""A loop that has not ended by then never will."""

_PART_OF_MEMORY = 4
"""The states of a loop that grow may take this part of the memory, with those of the next round."""

Values = dict[AnyVar, RunValue]
Store = Callable[[np.ndarray, DType], RunValue]
_Kept = tuple[np.ndarray, RunValue]  # the same memory twice, if it is the host's


class _Slices:
    """The parts of an input, one for each round, one after the other in memory."""

    __slots__ = ("_backwards", "_length", "spec", "whole")

    def __init__(self, value: RunValue, how: Sliced, store: Store):
        shape = list(value.shape)
        self._length = shape.pop(how.axis)
        if any(n != 1 for n in shape[: how.axis % (len(shape) + 1)]):
            value = store(_dense(np.moveaxis(value.array(), how.axis, 0)), value.dtype)
        self.whole = value
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
    result may also be one of the inputs. States of the host lie in two pieces of memory in turn.
    """

    __slots__ = ("_given", "_kept", "_sliced", "_spare", "_states", "_views", "plan")

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
        self._kept: list[_Kept] = []
        self._spare: list[_Kept] = []

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

    def keep(self, arrays: Sequence[np.ndarray], types: Sequence[DType], store: Store) -> list[RunValue]:
        """The states that a round gave, in memory that the next round leaves alone."""
        if self._spare:
            for (array, _), given in zip(self._spare, arrays, strict=True):
                np.copyto(array, given)
            kept = self._spare
        else:
            copies = [array.copy() for array in arrays]
            kept = list(zip(copies, map(store, copies, types), strict=True))
        self._spare = [k for k in self._kept if k[1].storage.device is None]
        self._kept = kept
        return [value for _, value in kept]


class _StackedParts:
    """The parts of an output that is stacked, in their places if it is known how many there will be."""

    __slots__ = ("_how", "_list", "_rows", "_whole", "shapes")

    def __init__(self, how: Stacked):
        self._how = how
        self._list: list[np.ndarray] = []
        self._rows: np.ndarray | None = None
        self._whole = np.empty(0)
        self.shapes: dict[tuple[int, ...], None] = {}

    def add(self, k: int, count: int | None, part: np.ndarray) -> int:
        """Keeps a copy of the part of a round; tells how many bytes it takes until all are stacked."""
        self.shapes[part.shape] = None
        how = self._how
        if how.shape == ():
            part = part.reshape(())  # a single number stands as (1,)
        if not k and count is not None and count * part.nbytes <= memory_limit():
            self._make_rows(count, part.shape)
        if self._rows is None:
            self._list.append(part.copy())
            return 2 * part.nbytes  # with its place in the whole, which is made while all parts are there
        if len(self.shapes) == 1:
            self._rows[k] = part
            return self._whole.nbytes if not k else 0
        return part.nbytes

    def stacked(self) -> np.ndarray:
        """All of them, dense. Then there are no parts left."""
        if self._rows is None:
            parts = self._list
            rows = self._make_rows(len(parts), parts[0].shape if parts else self._how.shape)
            for k in reversed(range(len(parts))):
                rows[k] = parts.pop()  # the last one first: the system gets back what is at the end of the heap
        return self._whole

    def _make_rows(self, count: int, shape: tuple[int, ...]) -> np.ndarray:
        how = self._how
        axis = how.axis % (len(shape) + 1)
        self._whole = np.empty((*shape[:axis], count, *shape[axis:]), how.dtype.storage)
        self._rows = np.moveaxis(self._whole, axis, 0)[:: -1 if how.backwards else 1]
        return self._rows


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
        store: Store,
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
        parts = [_StackedParts(s) for s in p.stacked]
        expected = None if p.asks else count
        ends = p.asks + p.n_states
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
            following, given_parts = arrays[p.asks : ends], arrays[ends:]
            if again is None and condition and (count is None or k + 1 < count):
                self._check_growth(states, following, k + 1)
            if again is None:
                states = [store(array.copy(), t) for array, t in zip(following, types, strict=False)]
            else:
                states = again.keep(following, types, store)
            for collected, array in zip(parts, given_parts, strict=True):
                total += collected.add(k, expected, array)
            if total > memory_limit():
                raise fail(node, f"its outputs take more memory than there is after {k + 1} rounds")
            k += 1
        stacked = [store(self._stack(x), s.dtype) for x, s in zip(parts, p.stacked, strict=True)]
        values.update(zip(node.outputs, [*states, *stacked], strict=True))

    def _keeps_shapes(self, states: Sequence[RunValue], results: Sequence[RunValue]) -> bool:
        """Whether the next round has states of the same shapes."""
        p = self._repetition
        ends = results[p.asks : p.asks + p.n_states]
        return all(a.spec.shape == b.spec.shape for a, b in zip(states, ends, strict=True))

    def _check_growth(self, before: Sequence[RunValue], after: Sequence[np.ndarray], rounds: int) -> None:
        """Raises if the states of a next round, which grow by as much as the last one has added, leave too little room.

        Then there are the states, what the round makes of them, and its copy.
        """
        old, new = (sum(v.nbytes for v in some) for some in ([v.array() for v in before], after))
        needed, most = new + 2 * (new + new - old), memory_limit() // _PART_OF_MEMORY
        if new > old and needed > most:
            raise LiteMemoryError(
                f"{label(self.node)}: its states have grown to {describe_bytes(new)} in {rounds} rounds; another one "
                f"needs {describe_bytes(needed)}, and {describe_bytes(most)} is the most here: give it fewer rounds or "
                "smaller states"
            )

    def _common_length(self, cut: Sequence[_Slices]) -> int:
        lengths = {len(x) for x in cut}
        if len(lengths) > 1:
            raise fail(self.node, f"its inputs have {' and '.join(map(str, sorted(lengths)))} parts")
        return lengths.pop()

    def _stack(self, parts: _StackedParts) -> np.ndarray:
        if len(parts.shapes) > 1:
            shapes = " and ".join(str(list(shape)) for shape in parts.shapes)
            raise fail(self.node, f"the parts of an output have the shapes {shapes[:200]}")
        return parts.stacked()


def _dense(x: np.ndarray) -> np.ndarray:
    """A copy of an array with its elements one after the other; a single number as (1,)."""
    return np.array(x, order="C", ndmin=1)
