"""Smoothing of images, and their cosine transform."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.image_layouts import Format, from_nchw, layout_shape
from megengine_lite._core.ir.params import BorderMode
from megengine_lite._core.ir.quantize import from_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_ndim
from megengine_lite._core.operators.facts import InFiles
from megengine_lite._core.operators.sampling import border_index

_C = DTypeCode
_BORDERS = (BorderMode.REPLICATE, BorderMode.REFLECT, BorderMode.REFLECT_101, BorderMode.WRAP, BorderMode.CONSTANT)
_MAX_KERNEL = 1 << 12
# Binomial kernels stand for a Gaussian of unknown width.
_BINOMIAL = {
    1: (1.0,),
    3: (0.25, 0.5, 0.25),
    5: (0.0625, 0.25, 0.375, 0.25, 0.0625),
    7: (0.03125, 0.109375, 0.21875, 0.28125, 0.21875, 0.109375, 0.03125),
}


def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """Weights of a Gaussian of ``size`` points that sum up to 1; ``sigma <= 0`` chooses it by the size.

    >>> gaussian_kernel(3, 0).tolist()
    [0.25, 0.5, 0.25]
    """
    if sigma <= 0 and size in _BINOMIAL:
        return np.array(_BINOMIAL[size])
    if sigma <= 0:
        sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    distance = np.arange(size) - (size - 1) * 0.5
    weights = np.exp(-(distance**2) / (2 * sigma**2))
    result: np.ndarray = weights / weights.sum()
    return result


def _smooth(x: np.ndarray, axis: int, kernel: np.ndarray, border: int) -> np.ndarray:
    """Weighted sums along one axis; CONSTANT has zeros outside."""
    length, reach = x.shape[axis], len(kernel) // 2
    total = np.zeros_like(x)
    for offset, weight in zip(range(-reach, reach + 1), kernel, strict=True):
        index = border_index(np.arange(length) + offset, length, border)
        shape = [1] * x.ndim
        shape[axis] = length
        total += np.where((index >= 0).reshape(shape), x.take(index, axis), 0) * weight
    return total


def kernel_sizes(node: AnyNode, data: TensorSpec) -> list[tuple[int, float]]:
    """Size and sigma of the kernel for rows (along the height) and for columns."""
    p = node.params
    reach = 3 if data.dtype.code is _C.UINT8 else 4
    sigmas = (p.sigma_y if p.sigma_y > 0 else p.sigma_x, p.sigma_x)
    if not all(np.isfinite(s) for s in sigmas):
        raise fail(node, f"sigma is {sigmas}")
    kernels = []
    for size, sigma in zip((p.kernel_height, p.kernel_width), sigmas, strict=True):
        if size == 0 and sigma > 0:
            size = int(np.floor(min(sigma, _MAX_KERNEL) * reach * 2 + 1.5)) | 1
        kernels.append((size, sigma))
    return kernels


@register
class GaussianBlur(Operator):
    """Smoothing of NHWC images by a separable Gaussian.

    For uint8 the kernels have 8 fractional bits, and the result is rounded once.
    """

    name = "GaussianBlur"
    param = params.GaussianBlur
    element_types = "float32, uint8"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        shape = check_ndim(node, ins[0], 4, "the image")
        p = node.params
        if ins[0].dtype.code not in (_C.UINT8, _C.FLOAT32) or min(shape[1:3]) < 1:
            raise fail(node, f"needs an NHWC image in uint8 or float32, has {ins[0].dtype} {shape}")
        if p.border_mode not in _BORDERS:
            raise fail(node, f"border mode {p.border_mode!s} is not supported")
        for size, _ in kernel_sizes(node, ins[0]):
            if size % 2 == 0 or size > _MAX_KERNEL:
                raise fail(node, f"needs kernels of odd size up to {_MAX_KERNEL}, not of {size}")
        return [ins[0]]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        rows, columns = (gaussian_kernel(*k) for k in kernel_sizes(node, in_specs[0]))
        border = node.params.border_mode
        if ins[0].dtype == np.uint8:
            bits = [(k * 256).astype(np.int64) for k in (rows, columns)]
            total = _smooth(_smooth(ins[0].astype(np.int64), 2, bits[1], border), 1, bits[0], border)
            return [np.clip((total + (1 << 15)) >> 16, 0, 255).astype(np.uint8)]
        kernels = [k.astype(np.float32) for k in (rows, columns)]
        return [_smooth(_smooth(ins[0], 2, kernels[1], border), 1, kernels[0], border)]


def dct_matrix(size: int) -> np.ndarray:
    """The orthonormal cosine transform (DCT-II) of vectors."""
    k, i = np.arange(size)[:, None], np.arange(size)
    matrix = np.cos(np.pi * (2 * i + 1) * k / (2 * size)) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    result: np.ndarray = matrix.astype(np.float32)
    return result


@register
class DctChannelSelect(Operator):
    """Cosine transform of the blocks of an image, coefficients as channels.

    Inputs: NCHW image in uint8 and, optionally, which coefficients to keep: ``mask_offset`` (where the list of each
    channel begins, and the end of the last) and ``mask_val`` (row-major index of each coefficient).
    """

    name = "DctChannelSelect"
    param = params.DctChannelSelect
    in_files = InFiles(revision=1)
    element_types = "uint8"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1, 3)
        n, c, h, w = check_ndim(node, ins[0], 4, "the image")
        p = node.params
        size = p.dct_block_size
        if ins[0].dtype.code is not _C.UINT8 or not 1 <= size <= 64 or h % size or w % size:
            raise fail(node, f"needs a uint8 image of whole blocks of {size}, has {ins[0].dtype} {ins[0].shape}")
        channels = c * size * size
        if len(ins) == 3:
            lists = [s.dtype.code is _C.INT32 and len(s.shape) == 1 for s in ins[1:]]
            if not all(lists) or ins[1].shape[0] != c + 1:
                raise fail(node, f"masks {ins[1].shape} and {ins[2].shape} do not fit {c} channels")
            channels = ins[2].shape[0]
        dtype = node.output_dtype or FLOAT32
        if p.format == Format.NCHW and dtype.code is _C.FLOAT32:
            fmt = Format.NCHW
        elif p.format == Format.NCHW4 and dtype.code is _C.QUANTIZED_S8 and channels % 4 == 0:
            fmt = Format.NCHW4
        else:
            raise fail(node, f"cannot give {channels} channels of {dtype} in format {p.format!s}")
        return [TensorSpec(layout_shape(fmt, n, channels, h // size, w // size), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        size = node.params.dct_block_size
        n, c, h, w = ins[0].shape
        blocks = ins[0].astype(np.float32).reshape(n, c, h // size, size, w // size, size).transpose(0, 1, 2, 4, 3, 5)
        matrix = dct_matrix(size)
        coefficients = (matrix @ blocks @ matrix.T).reshape(n, c, h // size, w // size, -1).transpose(0, 1, 4, 2, 3)
        if len(ins) == 3:
            chosen = self._chosen(node, ins[1], ins[2], size * size)
            kept = [coefficients[:, channel, index] for channel, index in enumerate(chosen)]
            result = np.concatenate(kept, axis=1)
        else:
            result = coefficients.reshape(n, -1, h // size, w // size)
        return [from_nchw(node.params.format, from_float32(result, out_specs[0].dtype))]

    @staticmethod
    def _chosen(node: AnyNode, offset: np.ndarray, values: np.ndarray, coefficients: int) -> list[np.ndarray]:
        """The coefficients of each channel."""
        ordered = offset[0] == 0 and offset[-1] == len(values) and np.all(np.diff(offset) >= 0)
        if not ordered or np.any((values < 0) | (values >= coefficients)):
            raise fail(node, f"mask_offset {offset.tolist()} and mask_val {values.tolist()} do not fit")
        return np.split(values, offset[1:-1])
