"""The elements that indexing operators select.

All of them have the same parameter: a list of axes, each with begin, end and step of a slice or with an index. The
numbers are further inputs, item by item. The slices are applied first. The meaning of the indexes then differs between
four families of operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from megengine_lite._core.ir.graph import AnyNode
from megengine_lite._core.operators.base import broadcast_shapes, fail, normalize_axis
from megengine_lite._core.operators.checks import to_integer
from megengine_lite._core.operators.origins import Shape, SizeOrigins, aligned_sizes

Array = np.ndarray
Located = tuple[Any, ...]  # as in ``array[located]``: numbers, slices, arrays, an ellipsis


class Selection(NamedTuple):
    """One slice per axis, the shape that they leave, and for axes with an index the position of that input."""

    slices: tuple[slice, ...]
    sliced: Shape
    indexes: dict[int, int]


def slice_inputs(node: AnyNode, first: int) -> tuple[int, ...]:
    """Positions of the inputs that are begin, end or step of a slice; index inputs begin at ``first``."""
    places: list[int] = []
    position = first
    for item in node.params.items:
        n_slice = bool(item.begin) + bool(item.end) + bool(item.step)
        places.extend(range(position, position + n_slice))
        position += n_slice + bool(item.idx)
    if position != len(node.inputs):
        raise fail(node, f"its items need {position} inputs, it has {len(node.inputs)}")
    return tuple(places)


def select(node: AnyNode, shape: Shape, values: Sequence[Array | None], first: int) -> Selection:
    """The selection on data of a shape, for the values of all inputs of the node (those of indexes are not read).

    Raises
    ------
    ShapeError
        Axes or slices that do not exist, or numbers that are not known.
    """
    slices = [slice(None)] * len(shape)
    seen: set[int] = set()
    indexes: dict[int, int] = {}
    position = first
    for item in node.params.items:
        axis = normalize_axis(node, item.axis, len(shape))
        if axis in seen:
            raise fail(node, f"indexes axis {axis} twice")
        seen.add(axis)
        numbers: list[int | None] = [None, None, None]
        for k, flag in enumerate((item.begin, item.end, item.step)):
            if flag:
                numbers[k] = to_integer(node, values[position], "a number of a slice")
                position += 1
        if numbers[2] == 0:
            raise fail(node, f"the step of axis {axis} is 0")
        slices[axis] = slice(*numbers)
        if item.idx:
            indexes[axis] = position
            position += 1
    sliced = tuple(len(range(*s.indices(d))) for s, d in zip(slices, shape, strict=True))
    return Selection(tuple(slices), sliced, dict(sorted(indexes.items())))


class Family:
    """What index inputs mean in one family of operators."""

    def shape(self, node: AnyNode, selection: Selection, shapes: Sequence[Shape]) -> Shape:
        """The shape of the selected part for the shapes of all inputs; checks those of the indexes."""
        raise NotImplementedError

    def locate(self, node: AnyNode, selection: Selection, values: Sequence[Array]) -> Located:
        """What to index the sliced data with, for the values of all inputs."""
        raise NotImplementedError

    def origins(self, sliced: SizeOrigins, indexes: Mapping[int, int], shapes: Sequence[Shape]) -> SizeOrigins | None:
        """From what the sizes of the part follow; None if each may follow from everything.

        ``sliced`` says it of the sliced data. ``indexes`` has the position of an index for each axis with one, and
        ``shapes`` those of all inputs.
        """
        return None


class Scalars(Family):
    """Each index is one number and removes its axis."""

    def shape(self, node: AnyNode, selection: Selection, shapes: Sequence[Shape]) -> Shape:
        for axis, place in selection.indexes.items():
            if shapes[place] != (1,):
                raise fail(node, f"the index of axis {axis} must be one number, its shape is {shapes[place]}")
        return tuple(d for axis, d in enumerate(selection.sliced) if axis not in selection.indexes)

    def locate(self, node: AnyNode, selection: Selection, values: Sequence[Array]) -> Located:
        located: list[int | slice] = [slice(None)] * len(selection.slices)
        for axis, place in selection.indexes.items():
            located[axis] = to_integer(node, values[place], "an index")
        return (*located, Ellipsis)  # with the ellipsis even a single element is an array

    def origins(self, sliced: SizeOrigins, indexes: Mapping[int, int], shapes: Sequence[Shape]) -> SizeOrigins | None:
        return [origins for axis, origins in enumerate(sliced) if axis not in indexes] or [()]


class Vectors(Family):
    """Index tensors broadcast together and select single elements.

    If the indexed axes stand side by side, the shape of the indexes takes their place, else it comes first.
    """

    def shape(self, node: AnyNode, selection: Selection, shapes: Sequence[Shape]) -> Shape:
        axes = list(selection.indexes)
        if not axes:
            return selection.sliced
        picked = broadcast_shapes(node, [shapes[place] for place in selection.indexes.values()])
        rest = [d for axis, d in enumerate(selection.sliced) if axis not in selection.indexes]
        adjacent = axes[-1] - axes[0] + 1 == len(axes)
        place = axes[0] if adjacent else 0
        return (*rest[:place], *picked, *rest[place:])

    def locate(self, node: AnyNode, selection: Selection, values: Sequence[Array]) -> Located:
        located: list[Array | slice] = [slice(None)] * len(selection.slices)
        for axis, place in selection.indexes.items():
            located[axis] = values[place]
        return tuple(located)

    def origins(self, sliced: SizeOrigins, indexes: Mapping[int, int], shapes: Sequence[Shape]) -> SizeOrigins | None:
        if not indexes:
            return sliced
        axes, picked = list(indexes), aligned_sizes(shapes, list(indexes.values()))
        rest = [origins for axis, origins in enumerate(sliced) if axis not in indexes]
        place = axes[0] if axes[-1] - axes[0] + 1 == len(axes) else 0
        return [*rest[:place], *picked, *rest[place:]]


class Mesh(Family):
    """Index vectors select along each axis separately; the part is made of all combinations."""

    def shape(self, node: AnyNode, selection: Selection, shapes: Sequence[Shape]) -> Shape:
        out = list(selection.sliced)
        for axis, place in selection.indexes.items():
            if len(shapes[place]) != 1:
                raise fail(node, f"the index of axis {axis} must be a vector, its shape is {shapes[place]}")
            out[axis] = shapes[place][0]
        return tuple(out)

    def locate(self, node: AnyNode, selection: Selection, values: Sequence[Array]) -> Located:
        indexes = selection.indexes
        vectors = [
            values[indexes[axis]] if axis in indexes else np.arange(d) for axis, d in enumerate(selection.sliced)
        ]
        return np.ix_(*vectors)


class BatchedMesh(Family):
    """A mesh whose index vectors differ between the samples of axis 0."""

    def shape(self, node: AnyNode, selection: Selection, shapes: Sequence[Shape]) -> Shape:
        if 0 in selection.indexes:
            raise fail(node, "axis 0 is the batch and cannot be indexed")
        out = list(selection.sliced)
        for axis, place in selection.indexes.items():
            if len(shapes[place]) != 2 or shapes[place][0] != out[0]:
                raise fail(node, f"the index of axis {axis} must have shape ({out[0]}, n), has {shapes[place]}")
            out[axis] = shapes[place][1]
        return tuple(out)

    def locate(self, node: AnyNode, selection: Selection, values: Sequence[Array]) -> Located:
        located = []
        for axis, d in enumerate(selection.sliced):
            place = selection.indexes.get(axis)
            index = np.arange(d) if place is None else values[place]
            shape = [1] * len(selection.sliced)
            shape[axis] = index.shape[-1]
            if place is not None:
                shape[0] = index.shape[0]
            located.append(index.reshape(shape))
        return tuple(located)
