"""Convolution of volumes, plain and transposed (NCDHW)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.operators.base import ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.conv_shape import count_pixels
from megengine_lite._core.operators.conv_types import finish, operands, output_dtype
from megengine_lite._core.operators.facts import VOLUME, InFiles, InOriginal
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, window_sizes
from megengine_lite._core.operators.window import Window, correlate, mirrored, scatter
from megengine_lite._records import record


@record(frozen=True, slots=True)
class Conv3DShape:
    """Sizes of a convolution of volumes; ``space`` belongs to the forward input, ``out`` to the forward output."""

    groups: int
    ocpg: int
    icpg: int
    n: int
    space: tuple[int, ...]
    out: tuple[int, ...]
    window: Window

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.n, self.groups * self.ocpg, *self.out

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.n, self.groups * self.icpg, *self.space

    @property
    def terms(self) -> int:
        return self.icpg * int(np.prod(self.window.size))

    def filter_groups(self, w: np.ndarray, mode: int) -> np.ndarray:
        plain = w.reshape(self.groups, self.ocpg, self.icpg, *self.window.size)
        return mirrored(plain, 3) if mode == params.ConvolutionMode.CONVOLUTION else plain


def conv3d_shape(
    node: AnyNode, data: tuple[int, ...], filters: tuple[int, ...], transposed: bool = False, like: Sequence[int] = ()
) -> Conv3DShape:
    """Checks and describes a convolution of volumes.

    For a transposed one, ``data`` is the forward convolution's output and ``like`` the shape of the result, if given.
    """
    p = node.params
    if p.format != params.Convolution3DFormat.NCDHW:
        raise fail(node, f"is defined for NCDHW only, not for format {p.format!s}")
    if p.mode not in list(params.ConvolutionMode) or p.sparse not in list(params.ConvolutionSparse):
        raise fail(node, f"unknown mode {p.mode} or sparse {p.sparse}")
    grouped = p.sparse == params.ConvolutionSparse.GROUP
    if len(data) != 5 or len(filters) != 5 + grouped or min(filters) < 1:
        raise fail(node, f"needs data of 5 and a filter of {5 + grouped} dimensions, has {data} and {filters}")
    groups, ocpg, icpg, *size = filters if grouped else (1, *filters)
    window = Window(
        tuple(size),
        (p.stride_d, p.stride_h, p.stride_w),
        (p.pad_d, p.pad_h, p.pad_w),
        (p.dilate_d, p.dilate_h, p.dilate_w),
    )
    n, c, *space = data
    channels = groups * (ocpg if transposed else icpg)
    if c != channels:
        raise fail(node, f"the filter {filters} reads {channels} channels, the data {data} have {c}")
    if not transposed:
        return Conv3DShape(groups, ocpg, icpg, n, tuple(space), window.output(node, space), window)
    if not like:
        return Conv3DShape(groups, ocpg, icpg, n, window.transposed_output(node, space), tuple(space), window)
    if tuple(like[:2]) != (n, groups * icpg) or len(like) != 5 or window.output(node, like[2:]) != tuple(space):
        raise fail(node, f"data {data} and filter {filters} do not give the output shape {tuple(like)}")
    return Conv3DShape(groups, ocpg, icpg, n, tuple(like[2:]), tuple(space), window)


def _check_float(node: AnyNode, spec: TensorSpec) -> None:
    if not spec.dtype.is_float and spec.dtype != FLOAT64:
        raise fail(node, f"needs float data, not {spec.dtype}")


@register
class Convolution3D(ProductOperator):
    """Convolution of volumes; inputs data and filter."""

    name = "Convolution3D"
    becomes = "a convolution of images, if the filter is constant; else `conv_plain_f32`"
    param = params.Convolution3D
    in_files = InFiles(record_version=2, has_policy=True)
    in_original = InOriginal(type="Convolution3DForward", label="conv3d", chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (VOLUME, VOLUME)

    def multiply_adds(self, node: Node) -> int:
        return count_pixels(node.outputs[0].shape) * node.inputs[1].spec.size

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        _check_float(node, ins[0])
        shape = conv3d_shape(node, ins[0].shape, ins[1].shape)
        return [TensorSpec(shape.output_shape, output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return None if node.params.format != params.Convolution3DFormat.NCDHW else [window_sizes(shapes, 0, 1)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv3d_shape(node, ins[0].shape, ins[1].shape)
        x, w = operands(ins[0], ins[1], in_specs, shape.terms)
        x = x.reshape(shape.n, shape.groups, shape.icpg, *shape.space)
        sums = correlate(x, shape.filter_groups(w, node.params.mode), shape.window, shape.out)
        return [finish(sums.reshape(shape.output_shape), in_specs, out_specs[0].dtype)]


@register
class Convolution3DBackwardData(ProductOperator):
    """Transposed convolution of volumes; inputs filter, data and optionally a tensor that has the result's shape."""

    name = "Convolution3DBackwardData"
    becomes = "a transposed convolution of images, if the filter is constant"
    param = params.Convolution3D
    in_files = InFiles(record_version=2, has_policy=True)
    in_original = InOriginal(label="conv3d_bwd_data", chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = ((4, 4, 3, 3, 3), VOLUME)

    def multiply_adds(self, node: Node) -> int:
        return count_pixels(node.inputs[1].shape) * node.inputs[0].spec.size

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        _check_float(node, ins[1])
        shape = self._shape(node, ins)
        return [TensorSpec(shape.input_shape, output_dtype(node, ins[1].dtype, ins[0].dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = self._shape(node, in_specs)
        specs = [in_specs[1], in_specs[0]]
        y, w = operands(ins[1], ins[0], specs, shape.terms)
        y = y.reshape(shape.n, shape.groups, shape.ocpg, *shape.out)
        sums = scatter(y, shape.filter_groups(w, node.params.mode), shape.window, shape.space)
        return [finish(sums.reshape(shape.input_shape), specs, out_specs[0].dtype)]

    @staticmethod
    def _shape(node: AnyNode, ins: Sequence[TensorSpec]) -> Conv3DShape:
        like = ins[2].shape if len(ins) == 3 else ()
        return conv3d_shape(node, ins[1].shape, ins[0].shape, transposed=True, like=like)
