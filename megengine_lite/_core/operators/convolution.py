"""Two-dimensional convolutions: plain, with bias and activation, transposed, with a filter per sample, masked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import nchw_shape, to_nchw
from megengine_lite._core.operators.base import Operator, ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_count
from megengine_lite._core.operators.conv_shape import ConvShape, conv_shape, transposed_conv_shape
from megengine_lite._core.operators.conv_types import (
    check_addend,
    check_bias,
    check_nonlinearity,
    finish,
    operands,
    output_dtype,
)
from megengine_lite._core.operators.facts import FILTER, IMAGE, MATRIX, VOLUME, InFiles, InOriginal, Use
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, window_sizes
from megengine_lite._core.operators.samples import with_format
from megengine_lite._core.operators.window import correlate, pad_space, scatter, taps, window_2d

NON_NEGATIVE = (params.ConvBiasNonlineMode.RELU, params.ConvBiasNonlineMode.SIGMOID)
"""Activations whose results are never below 0."""


def _sums(node: AnyNode, shape: ConvShape, x: np.ndarray, w: np.ndarray, specs: Sequence[TensorSpec]) -> np.ndarray:
    """Sums of products in the groups of the output."""
    x, w = operands(x, w, specs, shape.terms)
    w = shape.filter_groups(w, node.params.mode)
    return correlate(shape.input_groups(x), w, shape.window, shape.out)


def _multiply_adds(node: Node) -> int:
    """Each element of the filter is used once for each pixel of the output."""
    shape = conv_shape(node, *(v.shape for v in node.inputs[:2]))
    return shape.n * math.prod(shape.out) * node.inputs[1].spec.size


def _size_origins(node: AnyNode, shapes: Sequence[Shape], data: int, filters: int) -> ShapeOrigins:
    """Of the result, in the layout in which it is plain what follows from what."""
    return [window_sizes(shapes, data, filters)] if node.params.format == params.ConvolutionFormat.NCHW else None


@register
class Convolution(ProductOperator):
    """Convolution of images; inputs data and filter in one of the layouts of ``format``."""

    name = "Convolution"
    param = params.Convolution
    in_files = InFiles(revision=2, record_version=2, has_policy=True)
    in_original = InOriginal(type="ConvolutionForward", label="conv", chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE, IMAGE)
    keeps_samples = with_format

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2)
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        return [TensorSpec(shape.output_shape, output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return _size_origins(node, shapes, 0, 1)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        sums = _sums(node, shape, ins[0], ins[1], in_specs)
        return [shape.store_output(finish(sums, in_specs, out_specs[0].dtype))]


def check_conv_bias(node: AnyNode, shape: ConvShape, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Checks bias, z and activation of a convolution; gives the spec of its output."""
    out = TensorSpec(shape.output_shape, output_dtype(node, ins[0].dtype, ins[1].dtype))
    check_nonlinearity(node, out.dtype)
    if len(ins) > 2:
        check_bias(node, ins[0].dtype, ins[1].dtype, ins[2].dtype)
        try:
            bias = nchw_shape(shape.output_format, ins[2].shape)
        except ValueError as error:
            raise fail(node, f"bias: {error}") from None
        whole = shape.output_nchw
        if bias[1] != whole[1] or any(b not in (1, o) for b, o in zip(bias, whole, strict=True)):
            raise fail(node, f"a bias of shape {ins[2].shape} does not fit the output {out.shape}")
    if len(ins) > 3:
        check_addend(node, out.dtype, ins[3].dtype)
        if ins[3].shape != out.shape:
            raise fail(node, f"z of shape {ins[3].shape} does not fit the output {out.shape}")
    return [out]


def finish_conv_bias(
    node: AnyNode,
    shape: ConvShape,
    sums: np.ndarray,
    ins: Sequence[np.ndarray],
    in_specs: Sequence[TensorSpec],
    out_specs: Sequence[TensorSpec],
) -> list[np.ndarray]:
    """Adds bias and z, applies the activation and stores the result."""
    bias, z = (*(to_nchw(shape.output_format, array) for array in ins[2:]), None, None)[:2]
    sums = sums.reshape(shape.output_nchw)
    result = finish(sums, in_specs, out_specs[0].dtype, bias, z, node.params.nonlineMode)
    return [shape.store_output(result)]


@register
class ConvBiasForward(Operator):
    """``activation(convolution + bias + z)``; bias and z are optional.

    The bias has one number per channel or the shape of the output, in the output's layout.
    """

    name = "ConvBiasForward"
    param = params.ConvBias
    in_files = InFiles(revision=4, record_version=2, has_policy=True)
    in_original = InOriginal(label="conv_bias", chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (IMAGE, IMAGE)

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        return node.params.nonlineMode in NON_NEGATIVE

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3, 4)
        return check_conv_bias(node, conv_shape(node, ins[0].shape, ins[1].shape), ins)

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return _size_origins(node, shapes, 0, 1)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        sums = _sums(node, shape, ins[0], ins[1], in_specs)
        return finish_conv_bias(node, shape, sums, ins, in_specs, out_specs)

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        """A tensor that is added has samples, too."""
        return with_format(self, node, rows[:3]) and all(m == rows[0] for m in rows[3:])


@register
class BatchConvBiasForward(Operator):
    """ConvBias in which every sample has its own filter: the filter has the batch in front."""

    name = "BatchConvBiasForward"
    param = params.BatchConvBias
    in_files = InFiles(revision=1, record_version=2, has_policy=True)
    in_original = InOriginal(chooses_algorithm=True)
    sample_inputs = (IMAGE, VOLUME)

    def multiply_adds(self, node: Node) -> int:
        data, filters = node.inputs[:2]
        return math.prod(conv_shape(node, data.shape, filters.shape[1:]).out) * filters.spec.size

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3, 4)
        shape = conv_shape(node, ins[0].shape, ins[1].shape[1:])
        if ins[1].shape[0] != shape.n:
            raise fail(node, f"{ins[1].shape[0]} filters for {shape.n} samples")
        return check_conv_bias(node, shape, ins)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape[1:])
        x, w = operands(ins[0], ins[1], in_specs, shape.terms)
        filters = [shape.filter_groups(one, node.params.mode) for one in w]
        # Samples with filters of their own are groups of one large sample.
        as_groups = shape.input_groups(x).reshape(1, -1, shape.icpg, *shape.space)
        sums = correlate(as_groups, np.concatenate(filters), shape.window, shape.out)
        return finish_conv_bias(node, shape, sums, ins, in_specs, out_specs)


@register
class ConvolutionBackwardData(ProductOperator):
    """Transposed convolution; inputs filter and data, and optionally a tensor that has the result's shape."""

    name = "ConvolutionBackwardData"
    param = params.Convolution
    in_files = InFiles(revision=2, record_version=2, has_policy=True)
    in_original = InOriginal(label="conv_bwd_data", mentioned_inputs=2, chooses_algorithm=True)
    runs_in_float32 = True
    sample_inputs = (FILTER, IMAGE)

    def multiply_adds(self, node: Node) -> int:
        filters, data = node.inputs[:2]
        shape = transposed_conv_shape(node, filters.shape, data.shape)
        return shape.n * math.prod(shape.out) * filters.spec.size

    def original_uses(self, node: AnyNode) -> list[Use]:
        return [Use.CONTENT, Use.CONTENT, Use.SHAPE][: len(node.inputs)]

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        shape = transposed_conv_shape(node, *(s.shape for s in ins))
        return [TensorSpec(shape.input_shape, output_dtype(node, ins[1].dtype, ins[0].dtype))]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return None if len(shapes) > 2 else _size_origins(node, shapes, 1, 0)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = transposed_conv_shape(node, *(a.shape for a in ins))
        specs = [in_specs[1], in_specs[0]]
        y, w = operands(ins[1], ins[0], specs, shape.ocpg * shape.terms // shape.icpg)
        w = shape.filter_groups(w, node.params.mode)
        sums = scatter(shape.output_groups(y), w, shape.window, shape.space)
        return [shape.store_input(finish(sums, specs, out_specs[0].dtype))]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        """The filter comes first."""
        return with_format(self, node, (rows[1], rows[0], *rows[2:]))


@register
class RegionRestrictedConvolution(Operator):
    """Channel-wise convolution in which a tap counts only where input and output belong to the same region.

    Inputs data, filter, the region of each input element ``(n, h, w)`` and of each output element.
    """

    name = "RegionRestrictedConvolution"
    param = params.Convolution
    in_original = InOriginal(type="RegionRestrictedConvolutionForward", label="region_restricted_conv_fwd")
    element_types = "floats"

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 4)
        if node.params.format != params.ConvolutionFormat.NCHW:
            raise fail(node, "is defined for NCHW only")
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        if shape.ocpg != 1 or shape.icpg != 1:
            raise fail(node, f"needs a channel-wise filter, not {ins[1].shape}")
        for label, spec, space in (("rin", ins[2], shape.space), ("rout", ins[3], shape.out)):
            if spec.shape != (shape.n, *space) or spec.dtype.storage.kind not in "iu":
                raise fail(node, f"{label} must be integers of shape {(shape.n, *space)}, is {spec.dtype} {spec.shape}")
        if not ins[0].dtype.is_float:
            raise fail(node, f"needs float data, not {ins[0].dtype}")
        return [TensorSpec(shape.output_shape, output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        x, w = operands(ins[0], ins[1], in_specs, shape.terms)
        w = shape.filter_groups(w, node.params.mode)
        pad = shape.window.pad
        x, rin = pad_space(x, pad), pad_space(ins[2].astype(np.int64), pad)
        rout = ins[3].astype(np.int64)
        sums = np.zeros(shape.output_nchw, x.dtype)
        for (i, j), where in taps(shape.window, shape.out):
            same = rin[where] == rout
            sums += x[where] * w[:, 0, 0, i, j][:, None, None] * same[:, None]
        return [finish(sums, in_specs, out_specs[0].dtype)]


@register
class MaskConvolution(Operator):
    """Convolution whose result is zero where the mask of the output plane is zero."""

    name = "MaskConvolution"
    param = params.Convolution
    in_files = InFiles(revision=2)
    sample_inputs = (IMAGE, FILTER, MATRIX)

    def multiply_adds(self, node: Node) -> int:
        return _multiply_adds(node)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3)
        if node.params.format != params.ConvolutionFormat.NCHW:
            raise fail(node, "is defined for NCHW only")
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        if ins[2].shape != shape.out:
            raise fail(node, f"the mask has shape {ins[2].shape}, the output plane {shape.out}")
        return [TensorSpec(shape.output_shape, output_dtype(node, ins[0].dtype, ins[1].dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        shape = conv_shape(node, ins[0].shape, ins[1].shape)
        sums = _sums(node, shape, ins[0], ins[1], in_specs).reshape(shape.output_nchw)
        return [finish(np.where(ins[2] != 0, sums, 0), in_specs, out_specs[0].dtype)]


@register
class MaskPropagate(Operator):
    """Mask of the outputs of a convolution that see any marked input."""

    name = "MaskPropagate"
    param = params.MaskPropagate
    sample_inputs = (MATRIX,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if len(ins) != 1 or len(ins[0].shape) != 2:
            raise fail(node, f"needs one mask of two dimensions, has {', '.join(str(s.shape) for s in ins)}")
        window = window_2d(node.params, (node.params.kernel_h, node.params.kernel_w))
        return [TensorSpec(window.output(node, ins[0].shape), ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        window = window_2d(node.params, (node.params.kernel_h, node.params.kernel_w))
        marked = pad_space(ins[0] != 0, window.pad)
        result = np.zeros(out_specs[0].shape, bool)
        for _, where in taps(window, result.shape):
            result |= marked[where]
        return [result.astype(out_specs[0].dtype.storage)]
