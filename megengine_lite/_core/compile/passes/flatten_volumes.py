"""Convolutions of volumes become convolutions of images, for which there are fast kernels.

A filter that is one pixel wide and high moves along the depth only: the volume is an image as high as it is deep. Other
filters look at images that lie behind each other. These become the channels of one image, and the depth of the result
becomes a part of the batch. Where they would take too much memory, and where each channel has a filter of its own, the
convolutions of single images are added up instead.

A transposed convolution makes of each image those that lie behind each other in the result, and adds them up there.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._core.compile.passes.functions_before_axes import functions_of
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import (
    Convolution,
    ConvolutionMode,
    Dimshuffle,
    Elemwise,
    ElemwiseMode,
    IndexDescMaskDump,
    IndexDescMaskItem,
    Padding,
)
from megengine_lite._core.ir.shape_constant import reshape_node, reshaped_constant, value_constant
from megengine_lite._core.system.late_import import late_import

if TYPE_CHECKING:
    from megengine_lite._core.operators.conv3d import Conv3DShape

CONVOLUTIONS = ("Convolution3D", "Convolution3DBackwardData")
# Elements of all images that become channels.
MOST_GATHERED = 1 << 25


def run(graph: Graph, pool: ConstantPool) -> None:
    """Replaces float32 convolutions of volumes whose filter is constant."""
    if not any(node.op in CONVOLUTIONS for node in graph.nodes):
        return
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op == "Convolution3D" and _is_plain(node, *node.inputs):
            images: _Images = _Convolved(node, pool)
        elif node.op == "Convolution3DBackwardData" and _is_plain(node, *node.inputs[1::-1]) and _is_usual(node):
            images = _Transposed(node, pool)
        else:
            continue
        y = node.outputs[0]
        x = images.computed()
        following = functions_of(y, x, rewriter, partial(_of_images, channels=y.shape[1], pool=pool))
        back = images.restored(following.result, following.last)
        rewriter.replace([node, *following.before], [*images.nodes, *following.now, *back])
    rewriter.finish()


def _is_plain(node: Node, x: Var, w: Var) -> bool:
    return (
        w.const is not None
        and x.dtype == w.dtype == node.outputs[0].dtype == FLOAT32
        and node.params.mode == ConvolutionMode.CROSS_CORRELATION
        and min(x.spec.size, node.outputs[0].spec.size) > 0
    )


def _is_usual(node: Node) -> bool:
    """Whether images of the result have the size that they have without being told."""
    w, x = (v.shape for v in node.inputs[:2])
    return _shape(node, x, w, transposed=True).space[1:] == node.outputs[0].shape[3:]


def _shape(node: Node, *arguments: Any, **options: Any) -> Conv3DShape:
    """``conv3d_shape``, which is imported for models that have such nodes."""
    with late_import():
        from megengine_lite._core.operators.conv3d import conv3d_shape

    return conv3d_shape(node, *arguments, **options)


def _of_images(v: Var, *, channels: int, pool: ConstantPool) -> Var | None:
    """A constant with a number for each channel of volumes, for images."""
    shape = (1,) * (5 - len(v.shape)) + v.shape
    return reshaped_constant(v, (1, channels, 1, 1), pool) if shape == (1, channels, 1, 1, 1) else None


class _Images:
    """A convolution of volumes as nodes on images."""

    def __init__(self, node: Node, pool: ConstantPool, x: Var, w: Var, shape: Conv3DShape):
        self.node, self.pool, self.x, self.w, self.shape = node, pool, x, w, shape
        self.nodes: list[Node] = []

    def computed(self) -> Var:
        """What :meth:`restored` makes the result of."""
        raise NotImplementedError

    def restored(self, images: Var, y: Var) -> list[Node]:
        """Nodes that make volumes of images again."""
        n, channels, *space = y.shape
        split = Var(y.id, y.name, TensorSpec((n, space[0], channels, *space[1:]), y.dtype))
        back = Node("Dimshuffle", _order((0, 2, 1, 3, 4)), [split], [y], self.node.name)
        return [reshape_node(images, split), back]

    def _filters(self, order: tuple[int, ...], last: tuple[int, ...], tap: int | None = None) -> Var:
        """The filter with its axes (group, output, input, depth, height, width) in an order, or the part of one place
        in the depth, in the shape (output, *last), with the groups in front if the convolution has any."""
        s, w = self.shape, self.w
        lead = (s.groups, s.ocpg) if self.node.params.sparse else (s.ocpg,)

        def formed(array: np.ndarray) -> np.ndarray:
            six = array.reshape(s.groups, s.ocpg, s.icpg, *s.window.size)
            if tap is not None:
                six = six[:, :, :, tap : tap + 1]
            return np.ascontiguousarray(six.transpose(order)).reshape(*lead, *last)

        constant = self.pool.derive(("filter of images", order, last, tap), [w.constant], formed)
        return Var(w.id, w.name, TensorSpec((*lead, *last), w.dtype), constant)

    # ---- nodes --------------------------------------------------------------------------------------------------

    def _add(self, op: str, parameters: object, inputs: list[Var], shape: tuple[int, ...]) -> Var:
        y = self.node.outputs[0]
        made = Var(y.id, y.name, TensorSpec(shape, y.dtype))
        self.nodes.append(Node(op, parameters, inputs, [made], self.node.name))
        return made

    def _convolved(
        self, x: Var, w: Var, shape: tuple[int, ...], vertical: tuple[int, ...], horizontal: tuple[int, ...]
    ) -> Var:
        """A convolution of images; stride, dilation and padding of each direction."""
        return self._add("Convolution", self._parameters(vertical, horizontal), [x, w], shape)

    def _parameters(self, vertical: tuple[int, ...], horizontal: tuple[int, ...]) -> Convolution:
        return Convolution(
            stride_h=vertical[0], dilate_h=vertical[1], pad_h=vertical[2], stride_w=horizontal[0],
            dilate_w=horizontal[1], pad_w=horizontal[2], sparse=self.node.params.sparse,
        )  # fmt: skip

    def _sum(self, x: Var, y: Var) -> Var:
        return self._add("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, y], x.shape)

    def _reshaped(self, x: Var, shape: tuple[int, ...]) -> Var:
        made = Var(x.id, x.name, TensorSpec(shape, x.dtype))
        self.nodes.append(reshape_node(x, made))
        return made

    def _transposed(self, x: Var, order: tuple[int, ...]) -> Var:
        return self._add("Dimshuffle", _order(order), [x], tuple(x.shape[a] for a in order))

    def _picked(self, x: Var, places: list[int]) -> Var:
        """Images of volumes (n, depth, ...) by their places in the depth."""
        if places == list(range(x.shape[1])):
            return x
        constant = value_constant(np.array(places, np.int32))
        index = Var(x.id, "", TensorSpec(constant.array.shape, INT32, constant.array), constant)
        parameters = IndexDescMaskDump(items=(IndexDescMaskItem(1, False, False, False, True),))
        return self._add("IndexingMultiAxisVec", parameters, [x, index], (x.shape[0], len(places), *x.shape[2:]))


class _Convolved(_Images):
    def __init__(self, node: Node, pool: ConstantPool):
        x, w = node.inputs
        super().__init__(node, pool, x, w, _shape(node, x.shape, w.shape))
        window = self.shape.window
        self.is_along_depth = window.size[1:] == window.stride[1:] == (1, 1) and window.pad[1:] == (0, 0)

    def computed(self) -> Var:
        return self._along_depth() if self.is_along_depth else self._behind_each_other()

    def restored(self, images: Var, y: Var) -> list[Node]:
        return [reshape_node(images, y)] if self.is_along_depth else super().restored(images, y)

    def _along_depth(self) -> Var:
        s, window = self.shape, self.shape.window
        x = self.x
        image = self._reshaped(x, (*x.shape[:2], x.shape[2], x.shape[3] * x.shape[4]))
        filters = self._filters((0, 1, 2, 3, 4, 5), (s.icpg, window.size[0], 1))
        out = (s.n, s.groups * s.ocpg, s.out[0], s.out[1] * s.out[2])
        depth = (window.stride[0], window.dilate[0], window.pad[0])
        return self._convolved(image, filters, out, depth, (1, 1, 0))

    def _behind_each_other(self) -> Var:
        s, depth = self.shape, self.shape.window.size[0]
        deep = self._depth_first()
        is_depthwise = s.icpg == s.ocpg == 1 < s.groups
        if not is_depthwise and s.n * s.out[0] * depth * prod(deep.shape[2:]) <= MOST_GATHERED:
            return self._of_channels(deep)
        sums = self._of_tap(deep, 0)
        for tap in range(1, depth):
            sums = self._sum(sums, self._of_tap(deep, tap))
        return sums

    def _depth_first(self) -> Var:
        """The volumes as (n, depth, channels, height, width), with the padding of the depth."""
        deep = self._transposed(self.x, (0, 2, 1, 3, 4))
        pad = self.shape.window.pad[0]
        if not pad:
            return deep
        shape = (deep.shape[0], deep.shape[1] + 2 * pad, *deep.shape[2:])
        return self._add("Padding", Padding(front_offset_dim1=pad, back_offset_dim1=pad), [deep], shape)

    def _of_channels(self, deep: Var) -> Var:
        s, depth = self.shape, self.shape.window.size[0]
        step, apart = s.window.stride[0], s.window.dilate[0]
        n, _, channels, height, width = deep.shape
        images = n * s.out[0]
        behind = deep
        if depth > 1 or step > 1:
            behind = self._picked(deep, [k * step + t * apart for k in range(s.out[0]) for t in range(depth)])
        if s.groups > 1 and depth > 1:
            behind = self._reshaped(behind, (images, depth, s.groups, s.icpg, height, width))
            behind = self._transposed(behind, (0, 2, 1, 3, 4, 5))
        behind = self._reshaped(behind, (images, depth * channels, height, width))
        filters = self._filters((0, 1, 3, 2, 4, 5), (depth * s.icpg, *s.window.size[1:]))
        return self._flat(behind, filters)

    def _of_tap(self, deep: Var, tap: int) -> Var:
        s = self.shape
        step, apart = s.window.stride[0], s.window.dilate[0]
        picked = self._picked(deep, [k * step + tap * apart for k in range(s.out[0])])
        images = self._reshaped(picked, (s.n * s.out[0], *deep.shape[2:]))
        return self._flat(images, self._filters((0, 1, 2, 3, 4, 5), (s.icpg, *s.window.size[1:]), tap))

    def _flat(self, images: Var, filters: Var) -> Var:
        s = self.shape
        vertical, horizontal = zip(s.window.stride[1:], s.window.dilate[1:], s.window.pad[1:], strict=True)
        out = (images.shape[0], s.groups * s.ocpg, *s.out[1:])
        return self._convolved(images, filters, out, vertical, horizontal)


class _Transposed(_Images):
    def __init__(self, node: Node, pool: ConstantPool):
        w, x = node.inputs[:2]
        shape = _shape(node, x.shape, w.shape, transposed=True, like=node.outputs[0].shape)
        super().__init__(node, pool, x, w, shape)

    def computed(self) -> Var:
        s, depth = self.shape, self.shape.window.size[0]
        deep = self._transposed(self.x, (0, 2, 1, 3, 4))
        count = s.n * s.out[0]
        flat = self._reshaped(deep, (count, *deep.shape[2:]))
        window, size = s.window, s.space[1:]
        filters = self._filters((0, 1, 3, 2, 4, 5), (depth * s.icpg, *window.size[1:]))
        parameters = self._parameters(*zip(window.stride[1:], window.dilate[1:], window.pad[1:], strict=True))
        made = (count, s.groups * depth * s.icpg, *size)
        images = self._add("ConvolutionBackwardData", parameters, [filters, flat], made)
        if s.groups > 1 and depth > 1:
            images = self._reshaped(images, (count, s.groups, depth, s.icpg, *size))
            images = self._transposed(images, (0, 2, 1, 3, 4, 5))
        behind = self._reshaped(images, (s.n, s.out[0] * depth, s.groups * s.icpg, *size))
        return self._reshaped(self._added_up(behind), (s.n * s.space[0], s.groups * s.icpg, *size))

    def _added_up(self, images: Var) -> Var:
        """The images of the result, of those that each image of the input makes: (n, depth, channels, ...)."""
        s, window = self.shape, self.shape.window
        (depth, *_), (step, *_), (pad, *_), (apart, *_) = window.size, window.stride, window.pad, window.dilate
        terms: list[list[int]] = [[] for _ in range(s.space[0])]
        for place in range(s.out[0]):
            for tap in range(depth):
                at = place * step + tap * apart - pad
                if 0 <= at < s.space[0]:
                    terms[at].append(place * depth + tap)
        most = max(1, *map(len, terms))  # a result that nothing is added to is an image of zeros
        none = images.shape[1]  # the place of an image of zeros
        if min(len(t) for t in terms) < most:
            shape = (images.shape[0], none + 1, *images.shape[2:])
            images = self._add("Padding", Padding(back_offset_dim1=1), [images], shape)
        sums = None
        for k in range(most):
            addend = self._picked(images, [t[k] if k < len(t) else none for t in terms])
            sums = addend if sums is None else self._sum(sums, addend)
        assert sums is not None
        return sums


def _order(axes: tuple[int, ...]) -> Dimshuffle:
    return Dimshuffle(pattern=axes, ndim=len(axes))
