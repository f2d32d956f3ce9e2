"""Memory layouts of images and convolution filters, and the way from and to plain NCHW.

A ``format`` parameter names the layout of activations *and* of the filter. Everything here works on arrays and on
shapes alike, so that inference and computation share one description.

Activations are converted to ``(n, c, h, w)``. Filters are converted to ``(groups, ocpg, icpg, fh, fw)`` (output and
input channels per group; a dense filter has one group). Filter layouts are written as a string with one letter per
axis: ``G O I`` count groups and channels (or blocks of them), ``h w`` are the window, ``g o i`` are the positions
inside a block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.params import ConvolutionFormat

Format = ConvolutionFormat  # filters have their own layout in each

_F = Format

_MIXED = {
    _F.NCHW4_NCHW32: (_F.NCHW4, _F.NCHW32),
    _F.NCHW32_NCHW4: (_F.NCHW32, _F.NCHW4),
    _F.NCHW4_NCHW: (_F.NCHW4, _F.NCHW),
    _F.NCHW4_NHWC: (_F.NCHW4, _F.NHWC),
    _F.NHWC_NCHW: (_F.NHWC, _F.NCHW),
    _F.NHWC_NCHW4_IC_SMALL: (_F.NHWC, _F.NCHW4),
    _F.NCHW_NCHW4_IC_SMALL: (_F.NCHW, _F.NCHW4),
}
_BLOCK = {
    _F.NCHW: 1,
    _F.NHWC: 1,
    _F.NHWCD4: 4,
    _F.NCHW4: 4,
    _F.NCHW8: 8,
    _F.NCHW32: 32,
    _F.NCHW88: 8,
    _F.NCHW44: 4,
    _F.NCHW44_DOT: 4,
    _F.CHWN4: 4,
    _F.NCHW64: 64,
}
# Order of the stored axes in which they read n, c, h, w or n, block, position in block, h, w.
_AXES_AS_NCHW = {
    _F.NCHW: (0, 1, 2, 3),
    _F.NHWC: (0, 3, 1, 2),
    _F.NHWCD4: (0, 2, 4, 1, 3),
    _F.CHWN4: (3, 0, 4, 1, 2),
}
_BLOCKED_AXES = (0, 1, 4, 2, 3)

_Forms = dict[bool, tuple[str, ...]]  # by whether the filter is grouped
_PLAIN_FILTERS: _Forms = {False: ("OIhw",), True: ("GOIhw",)}
_INPUT_BLOCKED_FILTERS: _Forms = {False: ("OIhwi",), True: ("GOIhwi",)}
_IN_OUT_BLOCKED_FILTERS: _Forms = {False: ("OIhwio", "OhwIo"), True: ("GOIhwio", "GOIhwg")}
_OUT_IN_BLOCKED_FILTERS: _Forms = {False: ("OIhwoi", "OhwIo"), True: ("GOIhwoi", "GOIhwg")}
_FILTERS: dict[Format, _Forms] = {
    _F.NCHW: _PLAIN_FILTERS,
    _F.NHWC: {False: ("OhwI",), True: ("GOhwI",)},
    _F.NHWCD4: {False: ("OhwIo", "OhwIoi"), True: ("GOhwg", "GOhwIo", "GOhwIoi")},
    _F.NCHW4: _INPUT_BLOCKED_FILTERS,
    _F.NCHW8: _INPUT_BLOCKED_FILTERS,
    _F.NCHW32: _INPUT_BLOCKED_FILTERS,
    _F.NCHW64: _INPUT_BLOCKED_FILTERS,
    _F.NCHW88: _IN_OUT_BLOCKED_FILTERS,
    _F.NCHW44: _IN_OUT_BLOCKED_FILTERS,
    _F.NCHW44_DOT: _OUT_IN_BLOCKED_FILTERS,
    _F.CHWN4: {False: ("IhwOi",), True: ()},
}
_HYBRID_FORMATS = (_F.NCHW44, _F.NCHW88, _F.NCHW44_DOT)


def split_format(fmt: int) -> tuple[Format, Format]:
    """The layouts of input and output that a ``format`` parameter stands for; ``ValueError`` if it is unknown."""
    fmt = Format(fmt)
    return _MIXED.get(fmt, (fmt, fmt))


def block_size(fmt: Format) -> int:
    """Channels that stand together in one block (1 for NCHW and NHWC)."""
    return _BLOCK[fmt]


def dense_strides(shape: Sequence[int], step: int = 1) -> list[int]:
    """Strides of a row-major tensor whose elements are ``step`` apart.

    >>> dense_strides((2, 3, 4))
    [12, 4, 1]
    """
    strides = []
    for extent in reversed(shape):
        strides.append(step)
        step *= extent
    return strides[::-1]


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple that is not below ``value``."""
    return -(-value // multiple) * multiple


def stored_axes(fmt: Format) -> tuple[int, ...]:
    """Order of the stored axes in which they read n, c, h, w, or n, block, position in block, h, w."""
    return _AXES_AS_NCHW.get(fmt, _BLOCKED_AXES)


def nchw_shape(fmt: Format, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """``(n, c, h, w)`` of an activation stored as ``fmt``; ``ValueError`` if the shape is not one of that layout.

    >>> nchw_shape(Format.NCHW88, (1, 3, 10, 12, 8))
    (1, 24, 10, 12)
    """
    axes, block = stored_axes(fmt), _BLOCK[fmt]
    if len(shape) != len(axes):
        raise ValueError(f"{fmt.name} needs {len(axes)} dimensions, not shape {tuple(shape)}")
    if block == 1:
        n, c, h, w = (shape[i] for i in axes)
        return n, c, h, w
    n, c, inner, h, w = (shape[i] for i in axes)
    if inner != block:
        raise ValueError(f"{fmt.name} needs a last dimension of {block}, not shape {tuple(shape)}")
    return n, c * block, h, w


def layout_shape(fmt: Format, n: int, c: int, h: int, w: int) -> tuple[int, ...]:
    """Shape of an activation in ``fmt``; channels are rounded up to whole blocks.

    >>> layout_shape(Format.NHWCD4, 1, 6, 10, 12)
    (1, 10, 2, 12, 4)
    """
    block = _BLOCK[fmt]
    logical = (n, c, h, w) if block == 1 else (n, -(-c // block), block, h, w)
    stored = [0] * len(logical)
    for position, size in zip(stored_axes(fmt), logical, strict=True):
        stored[position] = size
    return tuple(stored)


def to_nchw(fmt: Format, array: np.ndarray) -> np.ndarray:
    """An activation as ``(n, c, h, w)``: a view where strides allow it."""
    moved = array.transpose(stored_axes(fmt))
    return moved.reshape(nchw_shape(fmt, array.shape))


def from_nchw(fmt: Format, array: np.ndarray, fill: float = 0) -> np.ndarray:
    """An ``(n, c, h, w)`` array as a contiguous activation of ``fmt``; channels that complete a block are ``fill``."""
    block = _BLOCK[fmt]
    if block > 1:
        n, c, h, w = array.shape
        missing = -c % block
        if missing:
            array = np.pad(array, ((0, 0), (0, missing), (0, 0), (0, 0)), constant_values=fill)
        array = array.reshape(n, (c + missing) // block, block, h, w)
    return np.ascontiguousarray(array.transpose(np.argsort(stored_axes(fmt))))


def input_format(fmt: Format, ndim: int) -> Format:
    """Layout of a convolution's input: first layers read plain NCHW and write blocks."""
    return _F.NCHW if fmt in _HYBRID_FORMATS and ndim == 4 else fmt


def filter_axes(fmt: Format, group: bool, ndim: int, plain_input: bool = False) -> str:
    """The axes of a filter, which follow from its number of dimensions; ``ValueError`` if there is no such filter.

    Parameters
    ----------
    fmt
        Layout of the convolution's input.
    group
        The parameter ``sparse`` is GROUP.
    ndim
        Dimensions of the filter.
    plain_input
        The input is a plain NCHW tensor although ``fmt`` is blocked (first layer).
    """
    for axes in _FILTERS[fmt][group]:
        if len(axes) == ndim and (fmt not in _HYBRID_FORMATS or plain_input == (axes == "OhwIo")):
            return axes
    kind = "group" if group else "dense"
    raise ValueError(f"a {kind} convolution in {fmt.name} has no filter of {ndim} dimensions")


def plain_filter_shape(fmt: Format, axes: str, shape: Sequence[int]) -> tuple[int, int, int, int, int]:
    """``(groups, ocpg, icpg, fh, fw)`` of a filter; ``ValueError`` if its blocks have a wrong size.

    >>> plain_filter_shape(Format.NCHW88, "OIhwio", (4, 2, 3, 3, 8, 8))
    (1, 32, 16, 3, 3)
    """
    sizes = dict(zip(axes, shape, strict=True))
    for letter in "gio":
        if sizes.get(letter, _BLOCK[fmt]) != _BLOCK[fmt]:
            raise ValueError(f"a filter in {fmt.name} has blocks of {_BLOCK[fmt]}, not shape {tuple(shape)}")
    g, o, i = (sizes.get(letter, 1) * sizes.get(letter.lower(), 1) for letter in "GOI")
    return g, o, i, sizes["h"], sizes["w"]


def filter_to_plain(axes: str, array: np.ndarray) -> np.ndarray:
    """A filter as ``(groups, ocpg, icpg, fh, fw)``."""
    order = [letter for letter in "GgOoIihw" if letter in axes]
    sizes = dict(zip(axes, array.shape, strict=True))
    shape = [sizes.get(letter, 1) * sizes.get(letter.lower(), 1) for letter in "GOI"]
    moved = array.transpose([axes.index(letter) for letter in order])
    return moved.reshape(*shape, sizes["h"], sizes["w"])


def layout_filter_shape(axes: str, block: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Shape of a filter of ``(groups, ocpg, icpg, fh, fw)`` stored with these axes; blocks must be whole.

    >>> layout_filter_shape("OIhwio", 8, (1, 32, 16, 3, 3))
    (4, 2, 3, 3, 8, 8)
    """
    plain = dict(zip("GOIhw", sizes, strict=True))
    shape = []
    for letter in axes:
        if letter in "goi":
            shape.append(block)
        else:
            blocked = letter in "GOI" and letter.lower() in axes
            shape.append(plain[letter] // block if blocked else plain[letter])
    return tuple(shape)


def filter_from_plain(axes: str, array: np.ndarray, block: int, fill: float = 0) -> np.ndarray:
    """The reverse of :func:`filter_to_plain`; blocked axes are completed with ``fill``."""
    missing = [-size % block if inner in axes else 0 for inner, size in zip("goi", array.shape, strict=False)]
    if any(missing):
        array = np.pad(array, [(0, m) for m in missing] + [(0, 0), (0, 0)], constant_values=fill)
    shape: list[int] = []
    order = ""
    for letter, size in zip("GOIhw", array.shape, strict=True):
        inner = letter.lower()
        if letter in axes:
            blocked = letter.isupper() and inner in axes
            shape += [size // block, block] if blocked else [size]
            order += letter + inner if blocked else letter
        elif size != 1:
            raise ValueError(f"a filter with axes {axes} has no room for {size} groups")
    return np.ascontiguousarray(array.reshape(shape).transpose([order.index(letter) for letter in axes]))
