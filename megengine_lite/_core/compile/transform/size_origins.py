"""Finds out from which sizes of a model's inputs the shapes and the known numbers of its graph follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.origins import Multiple, Origin, Size

MOST_TIMES = 1 << 10
"""What a size is multiplied by in a file, which computes in 32 bits."""
_MOST_NUMBERS = 256
"""Of a variable whose numbers are looked at one by one: more is no shape."""


class InputSize(NamedTuple):
    """An axis of an input of the model."""

    input: AnyVar
    axis: int


InputSizes: TypeAlias = frozenset[InputSize]
NOTHING: InputSizes = frozenset()


class KnownNumber(NamedTuple):
    """A number that is known before the data.

    Attributes
    ----------
    places
        The sizes that it follows from.
    copied
        The variable and the axis whose size it is, times ``factor``, for inputs of all sizes; None if it is computed in
        another way.
    """

    places: InputSizes
    copied: tuple[AnyVar, int] | None = None
    factor: int = 1

    def times(self, factor: int) -> KnownNumber:
        """The number times a positive integer."""
        is_small = self.copied is not None and self.factor * factor <= MOST_TIMES
        return self._replace(factor=self.factor * factor) if is_small else KnownNumber(self.places)


FIXED = KnownNumber(NOTHING)


class SizeOrigins:
    """What follows from which sizes, in a graph without nodes that stand for graphs.

    Parameters
    ----------
    specs
        The shapes of all variables, and the numbers that are known, for inputs of some sizes.
    """

    def __init__(self, graph: ModelGraph, specs: Mapping[AnyVar, TensorSpec]):
        self._specs = specs
        self._axes: dict[AnyVar, tuple[InputSizes, ...]] = {}
        self._numbers: dict[AnyVar, list[KnownNumber]] = {}
        self._computed: dict[AnyVar, InputSizes] = {}  # of numbers that are not told apart
        for var in graph.inputs:
            self._axes[var] = tuple(frozenset((InputSize(var, k),)) for k in range(len(specs[var].shape)))
        for node in graph.nodes:
            if all(v in specs for v in node.inputs):
                self._add(node)

    # ---- what is asked ----------------------------------------------------------------------------------------------

    def sizes(self, var: AnyVar) -> tuple[InputSizes, ...]:
        """From what the size of each axis follows."""
        found = self._axes.get(var)
        if found is not None:
            return found
        spec = self._specs.get(var, var.spec)  # a constant may have no reader
        return (NOTHING,) * len(spec.shape) if isinstance(spec, TensorSpec) else ()

    def numbers(self, var: AnyVar) -> InputSizes:
        """From what the numbers of a variable follow, as far as they are known before the data."""
        found = self._numbers.get(var)
        return self._computed.get(var, NOTHING) if found is None else _union(n.places for n in found)

    def of(self, var: AnyVar) -> InputSizes:
        """From what the shape and the numbers follow."""
        return _union((*self.sizes(var), self.numbers(var)))

    def each(self, var: AnyVar) -> Sequence[KnownNumber]:
        """The numbers of a small variable, one by one."""
        found = self._numbers.get(var)
        return [KnownNumber(self.numbers(var))] * math.prod(self._specs[var].shape) if found is None else found

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def _add(self, node: AnyNode) -> None:
        inputs, operator = node.inputs, operator_of(node.op)
        everything = _union(self.of(v) for v in inputs)
        if not everything:
            return  # it is the same for inputs of all sizes
        ins = [self._specs[v] for v in inputs]
        outputs = [(k, v) for k, v in enumerate(node.outputs) if v in self._specs]
        shapes = operator.shape_origins(node, [s.shape for s in ins])
        for k, var in outputs:
            ndim = len(self._specs[var].shape)
            origins = None if shapes is None else shapes[k]
            found = (everything,) * ndim if origins is None else tuple(self._union_of(inputs, o) for o in origins)
            # Without dimensions there is one: what removes the last one leaves it.
            self._axes[var] = found if len(found) == ndim else (everything,) * ndim
        for k, var in outputs:
            spec = self._specs[var]
            if spec.value is None:
                continue
            self._computed[var] = everything
            if k == 0 and spec.size <= _MOST_NUMBERS and not _union(self.sizes(var)):
                self._add_numbers(node, var, ins, everything)

    def _add_numbers(self, node: AnyNode, var: AnyVar, ins: Sequence[TensorSpec], everything: InputSizes) -> None:
        """Adds what the numbers of a result follow from, of which there are the same for inputs of all sizes."""
        inputs = node.inputs
        origins = operator_of(node.op).number_origins(node, ins, _KnownOf(self, inputs))
        if origins is None:
            self._numbers[var] = [KnownNumber(everything)] * self._specs[var].size
            return
        self._numbers[var] = [
            KnownNumber(self._union_of(inputs, o))
            if isinstance(o, list)
            else self.of_origin(inputs, o.of).times(o.factor)
            if isinstance(o, Multiple)
            else self.of_origin(inputs, o)
            for o in origins
        ]

    def _union_of(self, inputs: Sequence[AnyVar], origins: Iterable[Origin]) -> InputSizes:
        return _union(self.of_origin(inputs, origin).places for origin in origins)

    def of_origin(self, inputs: Sequence[AnyVar], origin: Origin) -> KnownNumber:
        """What is known of a size or number of some variables."""
        var = inputs[origin.input]
        if isinstance(origin, Size):
            places = self.sizes(var)[origin.axis]
            return KnownNumber(places, (var, origin.axis)) if places else FIXED
        if shape := _union(self.sizes(var)):  # which number stands at a place depends on the shape
            return KnownNumber(shape | self.numbers(var))
        found = self._numbers.get(var)
        return KnownNumber(self.numbers(var)) if found is None else found[origin.place]


class _KnownOf:
    """What operators ask of their inputs."""

    def __init__(self, found: SizeOrigins, inputs: Sequence[AnyVar]):
        self._found, self._inputs = found, inputs

    def is_fixed(self, origin: Origin) -> bool:
        return not self._found.of_origin(self._inputs, origin).places

    def is_size(self, origin: Origin) -> bool:
        return self._found.of_origin(self._inputs, origin).copied is not None


def _union(places: Iterable[InputSizes]) -> InputSizes:
    found = {p for p in places if p}
    return found.pop() if len(found) == 1 else NOTHING.union(*found)
