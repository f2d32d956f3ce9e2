"""Values of images between their pixels and outside of them, by ``GridSample``."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.export.table import NotExported
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.params import BorderMode

_E = ElementType
_MODES = {"linear": "bilinear", "nearest": "nearest", "cubic": "bicubic"}
_NEW_NAMES = 20  # from this version on linear and cubic have these names


def sample(
    w: GraphWriter,
    image: OnnxValue,
    x: OnnxValue,
    y: OnnxValue,
    border: int,
    value: float,
    mode: str = "linear",
    is_rounded: bool = False,
) -> OnnxValue:
    """Pixels of ``image (n, c, h, w)`` at positions ``(n, oh, ow)``, in pixels.

    Whatever the border, each pixel that contributes is looked up by its rule, as in our definition. GridSample divides
    positions by the size of the image, which moves them a little: what is rounded afterwards would fall to either side
    where it lies in the middle, as it often does at halves and quarters. So its four pixels are weighed here.
    """
    if mode == "linear" and is_rounded:
        return _weighed(w, image, x, y, border, value)
    if w.opset < 16:
        raise NotExported("sampling needs operator set 16")
    align, padding = 0, "zeros"
    if border == BorderMode.REPLICATE:
        padding = "border"
    elif border == BorderMode.REFLECT:
        padding = "reflection"
    elif border == BorderMode.REFLECT_101:
        padding, align = "reflection", 1
    elif border == BorderMode.WRAP:
        if mode == "cubic":
            raise NotExported("cubic interpolation of an image that goes on with its other side")
        image, x, y = _wrapped(w, image, x, y)
        padding = "border"
    elif border == BorderMode.CONSTANT and value:
        image = image - value
    grid = w.op("Concat", *(w.unsqueeze(_normalized(w, p, image, k, align), [3]) for p, k in ((x, 3), (y, 2))), axis=3)
    name = mode if w.opset >= _NEW_NAMES else _MODES[mode]
    found = w.op("GridSample", image, grid, mode=name, padding_mode=padding, align_corners=align)
    return found + value if border == BorderMode.CONSTANT and value else found


def _weighed(w: GraphWriter, image: OnnxValue, x: OnnxValue, y: OnnxValue, border: int, value: float) -> OnnxValue:
    """The four pixels around each position, with our weights, in our order."""
    sides = []
    for position in (y, x):
        first = w.op("Floor", position)
        behind = w.unsqueeze(position - first, [1])
        sides.append(((first, 1.0 - behind), (first + 1.0, behind)))
    terms = [
        sample(w, image, column, row, border, value, "nearest") * across * down
        for row, down in sides[0]
        for column, across in sides[1]
    ]
    return terms[0] + terms[1] + terms[2] + terms[3]


def _normalized(w: GraphWriter, position: OnnxValue, image: OnnxValue, axis: int, align: int) -> OnnxValue:
    """Positions in pixels as GridSample counts them: -1 and 1 are the edges, or the centres of the edge's pixels."""
    length = w.as_kind(w.size(image, axis), _E.FLOAT)
    if align:
        return 2.0 * position / w.op("Max", length - 1.0, w.scalar(1.0, _E.FLOAT)) - 1.0
    return (2.0 * position + 1.0) / length - 1.0


def _wrapped(w: GraphWriter, image: OnnxValue, x: OnnxValue, y: OnnxValue) -> tuple[OnnxValue, OnnxValue, OnnxValue]:
    """An image with its first column and row repeated behind it, and positions that lie within."""
    for axis in (2, 3):
        image = w.op("Concat", image, w.slice(image, axis, 0, 1), axis=axis)

    def inside(position: OnnxValue, axis: int) -> OnnxValue:
        length = w.as_kind(w.size(image, axis), _E.FLOAT) - 1.0
        return position - w.op("Floor", position / length) * length

    return image, inside(x, 3), inside(y, 2)
