"""What functions that run a kernel on arrays check before; it depends on no instruction set, so it is not compiled."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def conv_extents(
    x: Sequence[int], packed: int, shape: Iterable[int], stride: Sequence[int], dilate: Sequence[int], width: int
) -> tuple[int, int, int]:
    """Channel blocks, height and width of the output of a convolution in blocked layout.

    ``x`` is the shape of the image, ``packed`` the number of weights, ``width`` the channels of a block.

    Raises
    ------
    ValueError
        They do not fit.
    """
    groups, oc, ic, kh, kw = shape
    n, blocks, *size, lanes = x
    oc_blocks, ic_blocks = -(-oc // width), -(-ic // width)
    if lanes != width or blocks != groups * ic_blocks:
        raise ValueError(f"the image must have {groups * ic_blocks} blocks of {width} channels")
    if groups > 1 and (oc % width or ic % width):
        raise ValueError(f"channels of a group must be multiples of {width}")
    if packed != groups * oc_blocks * width * ic * kh * kw:
        raise ValueError("the packed filter has another size than its shape tells")
    if min(*stride, *dilate) < 1:
        raise ValueError(f"stride {stride} and dilation {dilate} must be 1 or more")
    oh, ow = ((h - (k - 1) * d - 1) // s + 1 for h, k, s, d in zip(size, (kh, kw), stride, dilate, strict=True))
    if min(n, groups, oc, ic, kh, kw, oh, ow) < 1:
        raise ValueError(
            f"a filter {shape} with stride {stride} and dilation {dilate} does not fit {size[0]} x {size[1]}"
        )
    return groups * oc_blocks, oh, ow


def product_extents(a: Sequence[int], b: Sequence[int], strides: Sequence[int]) -> tuple[int, int, int]:
    """Rows, columns and depth of the product of two float32 matrices with these shapes.

    ``strides`` are those of both matrices in bytes.

    Raises
    ------
    ValueError
        The matrices do not fit together, one is empty, or its elements do not lie a number of elements apart.
    """
    (m, k), (depth, n) = a, b
    if depth != k:
        raise ValueError(f"a matrix of {m} x {k} cannot be multiplied by one of {depth} x {n}")
    if min(m, n, k) < 1:
        raise ValueError(f"matrices of {m} x {k} and {k} x {n} are empty")
    if any(stride % 4 for stride in strides):
        raise ValueError(f"strides must be multiples of the 4 bytes of an element, not {strides}")
    return m, n, k


def pooled_extents(
    shape: Sequence[int],
    mode: int,
    modes: Iterable[int],
    window: Iterable[int],
    stride: Iterable[int],
    pad: Iterable[int],
) -> tuple[int, int]:
    """Height and width of pooled images [N, C, H, W]; windows lie in the padded image.

    Raises
    ------
    ValueError
        The images are empty, there is no such mode, or the windows do not fit them.
    TypeError
        A number is no integer.
    """
    if mode not in modes or min(shape) < 1:
        raise ValueError(f"cannot pool images of shape {shape} by mode {mode}")
    extents = []
    for size, *given in zip(shape[2:], window, stride, pad, strict=True):
        k, s, p = map(operator.index, given)
        if not (0 <= p < k <= size + 2 * p and p <= size and s >= 1):
            raise ValueError(f"windows of {k} with stride {s} and padding {p} do not fit {size} pixels")
        extents.append((size + 2 * p - k) // s + 1)
    return extents[0], extents[1]


def chain_steps(
    steps: Sequence[tuple[int, Sequence[int]]],
    inputs: Sequence[NDArray[np.float32]],
    modes: Mapping[int, int],
    max_inputs: int,
    max_registers: int,
) -> list[tuple[int, tuple[int, ...]]]:
    """The steps of an elementwise chain as integers; ``modes`` has the number of operands of each mode.

    Raises
    ------
    ValueError
        A step or an input is not what the kernel takes.
    TypeError
        A mode or a register is no integer.
    """
    if not 1 <= len(inputs) <= max_inputs or not steps or len(inputs) + len(steps) > max_registers:
        raise ValueError(f"a chain has 1 to {max_inputs} inputs and {max_registers} registers in all")
    taken = [(operator.index(mode), tuple(operator.index(r) for r in args)) for mode, args in steps]
    for at, (mode, args) in enumerate(taken, start=len(inputs)):
        if mode not in modes:
            raise ValueError(f"mode {mode} does not exist for float32")
        if len(args) != modes[mode] or any(not 0 <= r < at for r in args):
            raise ValueError(f"mode {mode} takes {modes[mode]} registers below {at}, not {args}")
    if any(not x.flags.c_contiguous for x in inputs):
        raise ValueError("the inputs of a chain must be C-contiguous")
    return taken


def reduced_shape(
    x: NDArray[np.float32], mode: int, axes: Iterable[int], modes: Iterable[int]
) -> tuple[tuple[int, ...], list[int]]:
    """The axes of a reduction as integers, and the shape of its result.

    Raises
    ------
    ValueError
        The array is empty or not C-contiguous, or there is no such mode or axis.
    TypeError
        An axis is no integer.
    """
    axes = tuple(operator.index(axis) for axis in axes)
    if not x.flags.c_contiguous:
        raise ValueError(f"only C-contiguous arrays are reduced; strides {x.strides} of shape {x.shape} are not")
    if mode not in modes or not x.size or any(not 0 <= axis < x.ndim for axis in axes):
        raise ValueError(f"cannot reduce axes {axes} of shape {x.shape} by mode {mode}")
    return axes, [1 if k in axes else n for k, n in enumerate(x.shape)]
