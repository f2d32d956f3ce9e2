"""Indexing: taking, setting and increasing parts of a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.operators.base import Operator, fail, normalize_axis, register
from megengine_lite._core.operators.checks import (
    broadcasts_to,
    check_count,
    check_index_dtype,
    check_same_shape,
    check_shape,
    common_dtype,
    index_error,
)
from megengine_lite._core.operators.facts import IMAGE, MATRIX, ONE, VECTOR, InOriginal
from megengine_lite._core.operators.index_selection import (
    BatchedMesh,
    Family,
    Located,
    Mesh,
    Scalars,
    Selection,
    Vectors,
    select,
    slice_inputs,
)
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    Number,
    NumberOrigins,
    Origin,
    Shape,
    ShapeOrigins,
    later_numbers,
    moved_numbers,
    sizes_of,
)
from megengine_lite._core.operators.samples import first_only, is_another_axis


class _IndexOperator(Operator):
    """Base of the operators with IndexDescMaskDump; ``n_data`` inputs come before those of the items."""

    param = params.IndexDescMaskDump
    family: ClassVar[Family]
    n_data: ClassVar[int] = 1

    def _select(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Selection:
        """The selection, with the types of its inputs checked."""
        selection = select(node, ins[0].shape, [s.value for s in ins], self.n_data)
        for place in selection.indexes.values():
            check_index_dtype(node, ins[place], "an index")
        return selection

    def index_inputs(self, node: AnyNode) -> tuple[int, ...]:
        slices = slice_inputs(node, self.n_data)
        return tuple(k for k in range(self.n_data, len(node.inputs)) if k not in slices)

    def _check_inputs(self, node: AnyNode, ins: Sequence[TensorSpec]) -> None:
        if len(ins) < self.n_data:
            raise fail(node, f"needs {self.n_data} inputs before those of its items, has {len(ins)}")
        if len(node.params.items) > len(ins[0].shape):
            raise fail(node, f"indexes more axes than shape {ins[0].shape} has")
        slice_inputs(node, self.n_data)  # raises if inputs are missing


class _Take(_IndexOperator):
    """The selected part of the data."""

    reads_part = True

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        return slice_inputs(node, self.n_data)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        self._check_inputs(node, ins)
        selection = self._select(node, ins)
        shape = self.family.shape(node, selection, [s.shape for s in ins])
        return [TensorSpec(check_shape(node, shape or (1,)), ins[0].dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        sizes: list[list[Origin]] = [[size] for size in sizes_of(shapes[0], 0)]
        numbers = iter(range(self.n_data, len(shapes)))
        indexes: dict[int, int] = {}
        for item in node.params.items:
            sizes[item.axis] += [Number(next(numbers), 0) for given in (item.begin, item.end, item.step) if given]
            if item.idx:
                indexes[item.axis % len(sizes)] = next(numbers)
        return [self.family.origins(sizes, dict(sorted(indexes.items())), shapes)]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        numbers = later_numbers([spec.shape for spec in specs])
        if not all(map(known.is_fixed, numbers)) or any(spec.value is None for spec in specs[1:]):
            return None
        values = [spec.value for spec in specs[1:] if spec.value is not None]
        (out,) = self.infer(node, specs)
        return moved_numbers(0, specs[0].shape, lambda x: self.compute(node, [x, *values], specs, [out])[0])

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        selection = select(node, ins[0].shape, ins, self.n_data)
        try:
            part = ins[0][selection.slices][self.family.locate(node, selection, ins)]
        except IndexError as error:
            raise index_error(node, str(error)) from None
        return [part.reshape(out_specs[0].shape)]


class _Change(_IndexOperator):
    """A copy of the data with the selected part changed; inputs data, value, those of the items."""

    n_data = 2
    has_shape_of = slice(1)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        self._check_inputs(node, ins)
        dtype = common_dtype(node, ins[:2])
        if all(ins[i].value is not None for i in slice_inputs(node, self.n_data)):
            self._check_value(node, ins, self._select(node, ins))
        return [TensorSpec(ins[0].shape, dtype)]

    def _check_value(self, node: AnyNode, specs: Sequence[TensorSpec], selection: Selection) -> None:
        shape = specs[1].shape
        part = self.family.shape(node, selection, [s.shape for s in specs])
        if shape != (1,) and not broadcasts_to(shape, part):
            raise fail(node, f"a value of shape {shape} does not broadcast to the selected part of shape {part}")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        out = ins[0].copy()
        selection = select(node, out.shape, ins, self.n_data)
        self._check_value(node, in_specs, selection)
        value = ins[1] if ins[1].shape != (1,) else ins[1].reshape(())
        try:
            self.change(out[selection.slices], self.family.locate(node, selection, ins), value)
        except IndexError as error:
            raise index_error(node, str(error)) from None
        return [out]

    def change(self, view: np.ndarray, located: Located, value: np.ndarray) -> None:
        """Changes the located elements of ``view``."""
        raise NotImplementedError


class _Set(_Change):
    """The part is replaced by the value. If an element gets several values, it has one of them afterwards."""

    def change(self, view: np.ndarray, located: Located, value: np.ndarray) -> None:
        view[located] = value


class _Increase(_Change):
    """The value is added to the part; several values for one element are all added."""

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        out = super().infer(node, ins)
        if out[0].dtype.code in (DTypeCode.BOOL, DTypeCode.BFLOAT16):
            raise fail(node, f"is not defined for {out[0].dtype}")
        return out

    def change(self, view: np.ndarray, located: Located, value: np.ndarray) -> None:
        np.add.at(view, located, value)


@register
class Subtensor(_Take):
    """Slices, and single elements of axes, which vanish."""

    name = "Subtensor"
    family = Scalars()
    in_original = InOriginal(
        mentioned_inputs=1, has_workspace=False, predicts_results=True, numbers_from=1, leaves_gaps=True
    )
    runs_in_float32 = True
    moves_elements = True
    sample_inputs = (IMAGE,)

    def is_identity(self, node: Node) -> bool:
        return not node.params.items

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        items = node.params.items
        return first_only(self, node, rows) and all(is_another_axis(i.axis, node) and not i.idx for i in items)


@register
class SetSubtensor(_Set):
    """Assignment to a Subtensor."""

    name = "SetSubtensor"
    family = Scalars()
    in_original = InOriginal(mentioned_inputs=2, has_workspace=False, predicts_results=True, numbers_from=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class IncrSubtensor(_Increase):
    """Addition to a Subtensor."""

    name = "IncrSubtensor"
    family = Scalars()
    in_original = InOriginal(mentioned_inputs=2, has_workspace=False, predicts_results=True, numbers_from=2)
    sample_inputs = (IMAGE, IMAGE)

    def change(self, view: np.ndarray, located: Located, value: np.ndarray) -> None:
        view[located] += value  # slices have no element twice, so that the slower np.add.at is not needed


@register
class IndexingMultiAxisVec(_Take):
    """Elements selected by index tensors."""

    name = "IndexingMultiAxisVec"
    elements_of = slice(1)
    family = Vectors()
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (IMAGE,)


@register
class IndexingSetMultiAxisVec(_Set):
    """Assignment to elements selected by index tensors."""

    name = "IndexingSetMultiAxisVec"
    family = Vectors()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class IndexingIncrMultiAxisVec(_Increase):
    """Addition to elements selected by index tensors."""

    name = "IndexingIncrMultiAxisVec"
    family = Vectors()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class MeshIndexing(_Take):
    """All combinations of indexes along several axes."""

    name = "MeshIndexing"
    family = Mesh()
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (IMAGE,)


@register
class SetMeshIndexing(_Set):
    """Assignment to a mesh of indexes."""

    name = "SetMeshIndexing"
    family = Mesh()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class IncrMeshIndexing(_Increase):
    """Addition to a mesh of indexes."""

    name = "IncrMeshIndexing"
    family = Mesh()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class BatchedMeshIndexing(_Take):
    """A mesh of indexes for each sample."""

    name = "BatchedMeshIndexing"
    family = BatchedMesh()
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (IMAGE,)


@register
class BatchedSetMeshIndexing(_Set):
    """Assignment to a mesh of indexes for each sample."""

    name = "BatchedSetMeshIndexing"
    family = BatchedMesh()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


@register
class BatchedIncrMeshIndexing(_Increase):
    """Addition to a mesh of indexes for each sample."""

    name = "BatchedIncrMeshIndexing"
    family = BatchedMesh()
    in_original = InOriginal(mentioned_inputs=2)
    sample_inputs = (IMAGE, IMAGE)


def _one_hot_index(node: AnyNode, index: np.ndarray, axis: int, length: int) -> np.ndarray:
    """The index with the axis that it selects from, of length 1."""
    if index.size and not (index.min() >= 0 and index.max() < length):
        raise index_error(node, f"an index is out of range for axis {axis} of length {length}")
    return np.expand_dims(index.astype(np.int64), axis)


class _OneHot(Operator):
    """One element along an axis for each position of the other axes."""

    param = params.Axis
    n_inputs: ClassVar[int]

    def _infer_part(self, node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[int, ...]:
        """Checks data and index; gives the shape of the selected elements."""
        check_count(node, ins, self.n_inputs)
        shape = ins[0].shape
        axis = normalize_axis(node, node.params.axis, len(shape))
        check_index_dtype(node, ins[1], "the index")
        rest = (*shape[:axis], *shape[axis + 1 :])
        check_same_shape(node, ins[1], rest or (1,), "the index")
        return (*shape[:axis], 1, *shape[axis + 1 :])

    @staticmethod
    def _locate(node: AnyNode, data: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, int]:
        axis = node.params.axis % data.ndim
        if data.ndim == 1:  # the index has shape (1,), as there is no tensor without dimensions
            index = index.reshape(())
        return _one_hot_index(node, index, axis, data.shape[axis]), axis


@register
class IndexingOneHot(_OneHot):
    """The elements at an index along an axis, which stays with length 1; inputs data, index."""

    name = "IndexingOneHot"
    reads_part = True
    n_inputs = 2
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (VECTOR, [1])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        return [TensorSpec(self._infer_part(node, ins), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        index, axis = self._locate(node, ins[0], ins[1])
        return [np.take_along_axis(ins[0], index, axis)]


@register
class IndexingSetOneHot(_OneHot):
    """A copy with the elements at an index along an axis replaced; inputs data, index, value."""

    name = "IndexingSetOneHot"
    n_inputs = 3
    in_original = InOriginal(mentioned_inputs=1)
    sample_inputs = (VECTOR, [1], ONE)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        part = self._infer_part(node, ins)
        check_same_shape(node, ins[2], part, "the value")
        return [TensorSpec(ins[0].shape, common_dtype(node, (ins[0], ins[2])))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        out = ins[0].copy()
        index, axis = self._locate(node, out, ins[1])
        np.put_along_axis(out, index, ins[2], axis)
        return [out]


@register
class IndexingRemap(Operator):
    """Elements at the positions that a map lists; inputs data, map of shape [..., dimensions of data]."""

    name = "IndexingRemap"
    reads_part = True
    param = params.IndexingRemap
    sample_inputs = (MATRIX, [3, 3])

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        data, positions = ins
        if positions.dtype != INT32:
            raise fail(node, f"the map must be int32, is {positions.dtype}")
        if positions.shape[-1:] != (len(data.shape),):
            raise fail(node, f"a map of shape {positions.shape} does not fit data of shape {data.shape}")
        return [TensorSpec(positions.shape[:-1] or (1,), data.dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        data, positions = ins
        flat = positions.reshape(-1, data.ndim)
        if flat.size and not ((flat >= 0).all() and (flat < data.shape).all()):
            raise index_error(node, f"the map points outside of data of shape {data.shape}")
        return [data[tuple(flat.T)].reshape(out_specs[0].shape)]
