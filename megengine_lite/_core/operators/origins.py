"""From which sizes and numbers of its inputs the shapes and numbers of an operator's results follow."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np


class Size(NamedTuple):
    """The size of an axis of an input."""

    input: int
    axis: int


class Number(NamedTuple):
    """A number of an input, by its place in flat data."""

    input: int
    place: int


Shape: TypeAlias = tuple[int, ...]
Origin: TypeAlias = Size | Number


class Multiple(NamedTuple):
    """A size or number times a positive integer, which is the same for inputs of all sizes."""

    of: Origin
    factor: int


SizeOrigins: TypeAlias = Sequence[Collection[Origin]]
"""Of a shape: from what each of its sizes follows."""
ShapeOrigins: TypeAlias = Sequence[SizeOrigins | None] | None
"""Of the shapes of all outputs; None where everything may follow from everything."""
NumberOrigins: TypeAlias = Sequence[Origin | Multiple | list[Origin]] | None
"""Of the numbers of an output, in flat order: one origin for a copy of it or a multiple, a list for what is computed of
these in another way."""


class KnownOrigins(Protocol):
    """What is known of sizes and numbers for inputs of all sizes that the model may get."""

    def is_fixed(self, origin: Origin) -> bool:
        """Whether it is the same for all of them."""

    def is_size(self, origin: Origin) -> bool:
        """Whether it is the size of an axis for all of them, which is never negative."""


def sizes_of(shape: Sequence[int], k: int) -> list[Size]:
    """All sizes of input ``k``."""
    return [Size(k, axis) for axis in range(len(shape))]


def numbers_of(shape: Sequence[int], k: int) -> list[Number]:
    """All numbers of input ``k``."""
    return [Number(k, place) for place in range(math.prod(shape))]


def later_numbers(shapes: Sequence[Shape]) -> list[Number]:
    """All numbers of all inputs but the first."""
    return [number for k, shape in enumerate(shapes) if k for number in numbers_of(shape, k)]


def kept_sizes(shape: Sequence[int], axes: Collection[int]) -> SizeOrigins:
    """Of the first input after some axes have become 1."""
    return [() if size.axis in axes else (size,) for size in sizes_of(shape, 0)]


def aligned_sizes(shapes: Sequence[Shape], places: Sequence[int]) -> list[list[Origin]]:
    """For each axis of the shape to which some inputs broadcast, the sizes that it follows from."""
    ndim = max((len(shapes[k]) for k in places), default=0)
    missing = {k: ndim - len(shapes[k]) for k in places}
    return [[Size(k, axis - missing[k]) for k in places if axis >= missing[k]] for axis in range(ndim)]


def aligned_numbers(shapes: Sequence[Shape], places: Sequence[int]) -> list[Origin | list[Origin]]:
    """For each element of the shape to which some inputs broadcast, in flat order, the numbers that it follows from."""
    shape = np.broadcast_shapes(*(shapes[k] for k in places))
    flat = [(k, moved_numbers(k, shapes[k], lambda x: np.broadcast_to(x, shape))) for k in places]
    return [[numbers[element] for _, numbers in flat] for element in range(math.prod(shape))]


def moved_numbers(k: int, shape: Sequence[int], move: Callable[[np.ndarray], np.ndarray]) -> list[Number]:
    """The numbers of input ``k`` in the order in which a function puts its elements."""
    places = np.arange(math.prod(shape)).reshape(shape)
    return [Number(k, int(place)) for place in move(places).reshape(-1)]


def window_sizes(shapes: Sequence[Shape], data: int, filters: int | None = None) -> SizeOrigins:
    """Of the result of windows that move over images or volumes in NCHW, which are input ``data``.

    The channels of the result follow from the filters, an input, if there are such; else they are those of the data.
    """
    own = [] if filters is None else sizes_of(shapes[filters], filters)
    batch, channels, *space = sizes_of(shapes[data], data)
    return [[batch], own or [channels], *([size, *own] for size in space)]
