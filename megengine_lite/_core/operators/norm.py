"""Normalization. Statistics are computed in double precision."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BYTE, FLOAT32, DType
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import BNFwdMode, BNParamDim, ConvolutionFormat
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, ProductOperator, fail, register
from megengine_lite._core.operators.checks import broadcasts_to, check_count, check_float, check_ndim, check_same_shape
from megengine_lite._core.operators.facts import IMAGE, MATRIX, VECTOR, InFiles, InOriginal
from megengine_lite._core.operators.origins import Shape, ShapeOrigins, aligned_sizes
from megengine_lite._core.operators.samples import first_only

Array = np.ndarray

# Axes that batch statistics are taken over.
_BN_AXES = {
    BNParamDim.DIM_11HW: (0, 1),
    BNParamDim.DIM_1CHW: (0,),
    BNParamDim.DIM_1C11: (0, 2, 3),
    BNParamDim.DIM_111C: (0, 1, 2),
}


def batch_axes(p: params.BN) -> tuple[int, ...]:
    """The axes that batch statistics are taken over."""
    return _BN_AXES[BNParamDim(p.param_dim)]


def _store(x: Array, dtype: DType) -> Array:
    return from_float32(x.astype(np.float32), dtype)


def _moments(x: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and biased variance over axes, which stay; NaN for no elements, and where not all are finite."""
    count = np.float64(math.prod(x.shape[a] for a in axes))
    mean = x.sum(axes, keepdims=True) / count
    mean += mean - mean
    return mean, np.square(x - mean).sum(axes, keepdims=True) / count


@register
class BatchNorm(Operator):
    """Batch normalization with given statistics, or with those of the batch (``fwd_mode`` TRAINING).

    Inputs data, scale, bias[, mean, variance]. The last output is the result; the ones before are the new running
    mean and variance (only in training, if they are inputs), mean and inverse deviation of this run, and an
    empty tensor, which files up to release 1.6 do not have.
    """

    name = "BatchNorm"
    param = params.BN
    in_files = InFiles(revision=1)
    in_original = InOriginal(type="BatchNormForward", chooses_algorithm=True)
    runs_in_float32 = True
    becomes = "a multiplication and an addition, or part of a convolution"
    element_types = "floats"
    sample_outputs = slice(-1, None)

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        training = type(params) is self.param and params.fwd_mode == BNFwdMode.TRAINING
        return 6 if training and n_inputs == 5 else 4

    def hidden_outputs(self, node: AnyNode) -> tuple[int, int]:
        return 6 - len(node.outputs), 1

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3, 5)
        data = ins[0]
        if not data.dtype.is_float:
            raise fail(node, f"works on floats, not on {data.dtype}")
        statistics = ins[1].shape
        for spec, what in zip(ins[1:], ("scale", "bias", "mean", "variance"), strict=False):
            check_same_shape(node, spec, statistics, f"the {what}")
            check_float(node, [spec])
        if not broadcasts_to(statistics, data.shape):
            raise fail(node, f"statistics of shape {statistics} do not fit data of shape {data.shape}")
        self._check_mode(node, ins)
        lead = [TensorSpec(statistics, ins[1].dtype)] * (4 if self._has_running(node, ins) else 2)
        reserve = [TensorSpec((0,), BYTE)] * (len(node.outputs) - len(lead) - 1)
        if len(reserve) > 1:
            raise fail(node, f"cannot have {len(node.outputs)} outputs")
        return [*lead, *reserve, TensorSpec(data.shape, data.dtype)]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [*[None] * (len(node.outputs) - 1), aligned_sizes(shapes, [0])]

    @staticmethod
    def _check_mode(node: AnyNode, ins: Sequence[TensorSpec]) -> None:
        p = node.params
        if p.fwd_mode == BNFwdMode.INFERENCE:
            if len(ins) != 5:
                raise fail(node, "needs mean and variance")
            return
        if p.fwd_mode != BNFwdMode.TRAINING or p.param_dim not in _BN_AXES:
            raise fail(node, f"mode {p.fwd_mode} with statistics {p.param_dim} is not known")
        shape = check_ndim(node, ins[0], 4, "the data")
        axes = _BN_AXES[p.param_dim]
        check_same_shape(node, ins[1], tuple(1 if i in axes else d for i, d in enumerate(shape)), "the scale")

    @staticmethod
    def _has_running(node: AnyNode, ins: Sequence[object]) -> bool:
        return node.params.fwd_mode == BNFwdMode.TRAINING and len(ins) == 5

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p = node.params
        x, scale, bias, *running = (to_float64(a, s.dtype) for a, s in zip(ins, in_specs, strict=True))
        if p.fwd_mode == BNFwdMode.INFERENCE:
            mean, variance = running
            lead = [mean, variance]
        else:
            axes = _BN_AXES[p.param_dim]
            mean, variance = _moments(x, axes)
            lead = [mean, 1 / np.sqrt(variance + p.epsilon)]
            if running:
                count = x.size / max(mean.size, 1)
                batch = mean, variance * count / (count - 1)
                lead = [old + p.avg_factor * (new - old) for old, new in zip(running, batch, strict=True)] + lead
        y = (x - mean) / np.sqrt(variance + p.epsilon) * scale + bias
        reserve = [np.zeros(s.shape, np.uint8) for s in out_specs[len(lead) : -1]]
        stored = [_store(v, s.dtype) for v, s in zip(lead, out_specs, strict=False)]
        return [*stored, *reserve, _store(y, out_specs[-1].dtype)]

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return first_only(self, node, rows) and node.params.fwd_mode == BNFwdMode.INFERENCE


class _AxesNorm(Operator):
    """Base of LayerNorm and GeneralNorm: statistics over neighbouring axes, weights for these axes.

    Outputs: result, mean and inverse standard deviation, float32 with the other axes.
    """

    def axes(self, node: AnyNode, shape: Shape) -> tuple[int, int]:
        """First normalized axis and the one behind the last."""
        raise NotImplementedError

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 3 if node.params.affine else 1)
        dtype, shape = check_float(node, ins), ins[0].shape
        begin, end = self.axes(node, shape)
        for spec, what in zip(ins[1:], ("weight", "bias"), strict=False):
            check_same_shape(node, spec, shape[begin:end], f"the {what}")
        statistics = TensorSpec(shape[:begin] + shape[end:] or (1,), FLOAT32)
        return [TensorSpec(shape, dtype), statistics, statistics]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [aligned_sizes(shapes, [0]), None, None]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, *weights = (to_float64(a, s.dtype) for a, s in zip(ins, in_specs, strict=True))
        begin, end = self.axes(node, x.shape)
        axes = tuple(range(begin, end))
        mean, variance = _moments(x, axes)
        inverse = 1 / np.sqrt(variance + node.params.eps)
        y = (x - mean) * inverse
        if weights:
            weight, bias = (w.reshape(w.shape + (1,) * (x.ndim - end)) for w in weights)
            y = y * weight + bias
        lead = out_specs[1].shape
        return [
            _store(y, out_specs[0].dtype),
            mean.astype(np.float32).reshape(lead),
            inverse.astype(np.float32).reshape(lead),
        ]


@register
class LayerNorm(_AxesNorm):
    """Normalization over the last axes; inputs data[, weight, bias]."""

    name = "LayerNorm"
    param = params.LayerNorm
    in_original = InOriginal(type="LayerNormForward")
    n_outputs = 3
    runs_in_float32 = True
    sample_inputs = (MATRIX, VECTOR, VECTOR)

    def axes(self, node: AnyNode, shape: Shape) -> tuple[int, int]:
        n = node.params.normalized_dim
        if not 1 <= n <= len(shape):
            raise fail(node, f"cannot normalize {n} dimensions of shape {shape}")
        return len(shape) - n, len(shape)

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return first_only(self, node, rows) and 0 < node.params.normalized_dim < len(node.inputs[0].shape)


@register
class GeneralNorm(_AxesNorm):
    """Normalization over axes in any place; inputs data[, weight, bias]."""

    name = "GeneralNorm"
    param = params.GeneralNorm
    in_original = InOriginal(type="GeneralNormForward")
    n_outputs = 3
    runs_in_float32 = True
    element_types = "floats"

    def axes(self, node: AnyNode, shape: Shape) -> tuple[int, int]:
        begin, end = node.params.axis_start, node.params.axis_end
        if not 0 <= begin < end <= len(shape):
            raise fail(node, f"cannot normalize axes {begin} to {end - 1} of shape {shape}")
        return begin, end

    def keeps_samples(self, node: Node, rows: Sequence[int]) -> bool:
        return first_only(self, node, rows) and node.params.axis_start > 0


class _ChannelNorm(Operator):
    """Base of GroupNorm and InstanceNorm: statistics per sample and group of channels.

    Inputs data [N, C, ...][, weight [C], bias [C]]; outputs result, mean and variance, float32 [N, groups].
    """

    param = params.GroupNorm

    def groups(self, node: AnyNode, channels: int) -> int:
        """Number of groups of channels."""
        raise NotImplementedError

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p = node.params
        check_count(node, ins, 3 if p.affine else 1)
        dtype, shape = check_float(node, ins), ins[0].shape
        if p.format != ConvolutionFormat.NCHW:
            raise fail(node, f"format {p.format} is not supported")
        if len(shape) < 3:
            raise fail(node, f"the data must have 3 dimensions or more, its shape is {shape}")
        n, channels = shape[:2]
        groups = self.groups(node, channels)
        if groups < 1 or channels % groups:
            raise fail(node, f"{channels} channels cannot be cut into {groups} groups")
        for spec, what in zip(ins[1:], ("weight", "bias"), strict=False):
            check_same_shape(node, spec, (channels,), f"the {what}")
        statistics = TensorSpec((n, groups), FLOAT32)
        return [TensorSpec(shape, dtype), statistics, statistics]

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        return [aligned_sizes(shapes, [0]), None, None]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, *weights = (to_float64(a, s.dtype) for a, s in zip(ins, in_specs, strict=True))
        n, groups = out_specs[1].shape
        per_group = math.prod(x.shape[2:]) * (x.shape[1] // groups if groups else 0)
        rows = x.reshape(n, groups, per_group)
        mean, variance = _moments(rows, (2,))
        y = ((rows - mean) / np.sqrt(variance + node.params.eps)).reshape(x.shape)
        if weights:
            weight, bias = (w.reshape(-1, *[1] * (x.ndim - 2)) for w in weights)
            y = y * weight + bias
        return [
            _store(y, out_specs[0].dtype),
            mean[..., 0].astype(np.float32),
            variance[..., 0].astype(np.float32),
        ]


@register
class GroupNorm(_ChannelNorm):
    """Normalization over groups of channels of a sample."""

    name = "GroupNorm"
    in_files = InFiles(record_version=2)
    in_original = InOriginal(type="GroupNormForward")
    n_outputs = 3
    runs_in_float32 = True
    sample_inputs = (IMAGE, VECTOR, VECTOR)

    def groups(self, node: AnyNode, channels: int) -> int:
        result: int = node.params.group
        return result


@register
class InstanceNorm(_ChannelNorm):
    """Normalization of each channel of a sample."""

    name = "InstanceNorm"
    in_files = InFiles(record_version=2)
    in_original = InOriginal(type="InstanceNormForward")
    n_outputs = 3
    runs_in_float32 = True
    sample_inputs = (IMAGE, VECTOR, VECTOR)

    def groups(self, node: AnyNode, channels: int) -> int:
        return channels


@register
class LRN(ProductOperator):
    """Local response normalization: x (k + alpha * sum of squares of n neighbouring channels) ** -beta."""

    name = "LRN"
    param = params.LRN
    in_original = InOriginal(type="LRNForward")
    runs_in_float32 = True
    sample_inputs = (IMAGE,)
    has_shape_of = slice(1)
    keeps_samples = first_only

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = check_ndim(node, ins[0], 4, "the data")
        if node.params.n % 2 == 0:
            raise fail(node, f"the number of channels n must be odd, is {node.params.n}")
        return [TensorSpec(shape, check_float(node, ins))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, in_specs[0].dtype
        x = to_float64(ins[0], dtype)
        channels = x.shape[1]
        reach = min(p.n // 2, channels)  # more channels than there are change nothing
        squares = np.pad(x * x, ((0, 0), (reach, reach), (0, 0), (0, 0)))
        near = sum(squares[:, i : i + channels] for i in range(2 * reach + 1))
        return [_store(x * (p.k + p.alpha * near) ** -p.beta, dtype)]
