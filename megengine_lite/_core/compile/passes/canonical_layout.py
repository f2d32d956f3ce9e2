"""Images in the layout of another device (NHWC, NCHW44, NCHW88, NHWCD4 ...) become plain NCHW.

Files dumped with layout options hold packed convolutions with conversions around them. Each packed variable gets a
*twin* in NCHW; operators between packed variables are repeated on the twins, and what remains of the packed ones is
dropped. The planner then chooses the blocked layout that is fastest on this machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import (
    Format,
    block_size,
    filter_to_plain,
    nchw_shape,
    split_format,
    stored_axes,
    to_nchw,
)
from megengine_lite._core.ir.params import Axis, ConvolutionSparse, Dimshuffle
from megengine_lite._core.ir.params import RelayoutFormatMode as Relayout
from megengine_lite._core.ir.shape_constant import reshape_node
from megengine_lite._core.operators.conv_shape import conv_shape

_TO_FORMAT = {
    Relayout.NCHW_NCHW88: Format.NCHW88,
    Relayout.NCHW_NCHW4: Format.NCHW4,
    Relayout.NCHW_NCHW64: Format.NCHW64,
    Relayout.NCHW_NHWCD4: Format.NHWCD4,
    Relayout.NCHW_NHWC: Format.NHWC,
}
_FROM_FORMAT = {
    Relayout.NCHW88_NCHW: Format.NCHW88,
    Relayout.NCHW4_NCHW: Format.NCHW4,
    Relayout.NCHW64_NCHW: Format.NCHW64,
    Relayout.NHWCD4_NCHW: Format.NHWCD4,
    Relayout.NHWC_NCHW: Format.NHWC,
}


def run(graph: Graph, pool: ConstantPool) -> None:
    """Rewrites the graph; does nothing to one that is plain NCHW already."""
    _Canonical(graph, pool).rewrite()


class _ActivationLayout:
    """An activation layout; NCHW4, NCHW44 and NCHW44_DOT count as the same."""

    __slots__ = ("axes", "format", "key")

    def __init__(self, fmt: Format):
        self.format = fmt
        self.axes = stored_axes(fmt)
        self.key = (self.axes, block_size(fmt))


_PLAIN = _ActivationLayout(Format.NCHW)


class _Canonical:
    def __init__(self, graph: Graph, pool: ConstantPool):
        self.nodes = Substitution(graph)
        self.pool = pool
        self.twins: dict[Var, tuple[_ActivationLayout, Var]] = {}
        # Variables with the axes (n, block, position, h, w): half way between a packed tensor and its twin.
        self.unpacked: dict[Var, Var] = {}
        self.makers: dict[Var, Node] = {}

    def rewrite(self) -> None:
        rules: dict[str, Callable[[Node], bool]] = {
            "Convolution": self._convolution,
            "ConvBiasForward": self._convolution,
            "Pooling": self._pooling,
            "AdaptivePooling": self._pooling,
            "Elemwise": self._elemwise,
            "ElemwiseMultiType": self._elemwise,
            "TypeCvt": self._elemwise,
            "Concat": self._concat,
            "RelayoutFormat": self._relayout,
            "Dimshuffle": self._dimshuffle,
            "Reshape": self._reshape,
        }
        for node in self.nodes:
            rule = rules.get(node.op)
            if rule is None or not rule(node):
                self._append(node)
        self.nodes.finish()

    def _append(self, node: Node) -> None:
        self.nodes.add(node)
        self.makers.update(dict.fromkeys(node.outputs, node))

    # ---- twins --------------------------------------------------------------------------------------------------

    def _nchw(self, var: Var, layout: _ActivationLayout) -> Var:
        """The plain form of a variable stored in a layout."""
        if layout.key == _PLAIN.key:
            return var
        found = self.twins.get(var)
        if found is not None and found[0].key == layout.key:
            return found[1]
        shape = nchw_shape(layout.format, var.shape)
        if var.const is not None:
            constant = self.pool.derive(("nchw", layout.key), [var.const], lambda a: to_nchw(layout.format, a))
            twin = Var(var.id, var.name, TensorSpec(shape, var.dtype), constant)
        else:
            moved_shape = tuple(var.shape[a] for a in layout.axes)
            twin = Var(var.id, var.name, TensorSpec(shape, var.dtype))
            moved = twin if moved_shape == shape else Var(var.id, var.name, TensorSpec(moved_shape, var.dtype))
            self._append(Node("Dimshuffle", _shuffle(layout.axes), [var], [moved]))
            if moved is not twin:
                self._append(reshape_node(moved, twin))
        self.twins[var] = layout, twin
        return twin

    def _give(self, var: Var, layout: _ActivationLayout, twin: Var) -> None:
        """Defines a packed variable by its twin, for nodes that still read it."""
        if layout.key == _PLAIN.key:
            self.nodes.replace(var, twin)
            return
        self.twins[var] = layout, twin
        split = twin
        if block_size(layout.format) > 1:
            split = Var(var.id, var.name, TensorSpec(tuple(var.shape[a] for a in layout.axes), var.dtype))
            self._append(reshape_node(twin, split))
        back = tuple(int(a) for a in np.argsort(layout.axes))
        self._append(Node("Dimshuffle", _shuffle(back), [split], [var]))

    # ---- operators ----------------------------------------------------------------------------------------------

    def _convolution(self, node: Node) -> bool:
        if node.params.format == Format.NCHW or node.inputs[1].const is None:
            return False
        x, w = node.inputs[:2]
        shape = conv_shape(node, x.shape, w.shape)
        source, target = _ActivationLayout(shape.input_format), _ActivationLayout(shape.output_format)
        dense = node.params.sparse == ConvolutionSparse.DENSE

        def plain(array: np.ndarray) -> np.ndarray:
            filters = filter_to_plain(shape.filter_axes, array)
            return np.ascontiguousarray(filters[0] if dense else filters)

        constant = self.pool.derive(("plain_filter", shape.filter_axes, dense), [w.constant], plain)
        filter_shape = (shape.ocpg, shape.icpg, *shape.window.size)
        if not dense:
            filter_shape = (shape.groups, *filter_shape)
        inputs = [
            self._nchw(x, source),
            Var(w.id, w.name, TensorSpec(filter_shape, w.dtype), constant),
            *(self._nchw(v, target) for v in node.inputs[2:]),
        ]
        y = node.outputs[0]
        twin = Var(y.id, y.name, TensorSpec(shape.output_nchw, y.dtype))
        params = node.params.replace(format=Format.NCHW)
        self._append(Node(node.op, params, inputs, [twin], node.name, node.output_dtype))
        self._give(y, target, twin)
        return True

    def _pooling(self, node: Node) -> bool:
        fmt, out = split_format(node.params.format)
        if fmt == Format.NCHW or fmt is not out:
            return False
        layout = _ActivationLayout(fmt)
        y = node.outputs[0]
        x = self._nchw(node.inputs[0], layout)
        twin = Var(y.id, y.name, TensorSpec(nchw_shape(fmt, y.shape), y.dtype))
        inputs = [x, *node.inputs[1:]]
        self._append(Node(node.op, node.params.replace(format=Format.NCHW), inputs, [twin], node.name))
        self._give(y, layout, twin)
        return True

    def _elemwise(self, node: Node) -> bool:
        known = [self.twins[v][0] for v in node.inputs if v in self.twins]
        y = node.outputs[0]
        if not known or len(y.shape) != len(known[0].axes):
            return False
        layout = known[0]
        found = [self._operand(v, layout, y) for v in node.inputs]
        operands = [v for v in found if v is not None]
        if len(operands) != len(found):
            return False
        twin = Var(y.id, y.name, TensorSpec(nchw_shape(layout.format, y.shape), y.dtype))
        self._append(Node(node.op, node.params, operands, [twin], node.name, node.output_dtype))
        self._give(y, layout, twin)
        return True

    def _operand(self, var: Var, layout: _ActivationLayout, y: Var) -> Var | None:
        """An operand of an elementwise operator in the form that fits twins; None if it has no such form."""
        if var.spec.size == 1 and len(var.shape) <= len(_PLAIN.axes):
            return var
        if var in self.twins:
            return self.twins[var][1] if self.twins[var][0].key == layout.key else None
        if var.shape == y.shape:
            return self._nchw(var, layout)
        if var.const is None:
            return None
        shape = (1,) * (len(layout.axes) - len(var.shape)) + var.shape
        try:
            stored = nchw_shape(layout.format, shape)
        except ValueError:
            return None
        constant = self.pool.derive(
            ("nchw", layout.key), [var.const], lambda a: to_nchw(layout.format, a.reshape(shape))
        )
        return Var(var.id, var.name, TensorSpec(stored, var.dtype), constant)

    def _concat(self, node: Node) -> bool:
        layouts = [self.twins[v][0] for v in node.inputs if v in self.twins]
        if len(layouts) != len(node.inputs) or len({x.key for x in layouts}) != 1:
            return False
        layout = layouts[0]
        y = node.outputs[0]
        if node.params.axis % len(y.shape) != layout.axes[1]:
            return False
        twin = Var(y.id, y.name, TensorSpec(nchw_shape(layout.format, y.shape), y.dtype))
        self._append(Node("Concat", Axis(axis=1), [self.twins[v][1] for v in node.inputs], [twin], node.name))
        self._give(y, layout, twin)
        return True

    def _relayout(self, node: Node) -> bool:
        x, y = node.inputs[0], node.outputs[0]
        if x.dtype != y.dtype:
            return False
        mode = node.params.mode
        if mode in _TO_FORMAT and nchw_shape(_TO_FORMAT[mode], y.shape) == x.shape:
            self.twins[y] = _ActivationLayout(_TO_FORMAT[mode]), x
        elif mode in _FROM_FORMAT and nchw_shape(_FROM_FORMAT[mode], x.shape) == y.shape:
            self._give(y, _PLAIN, self._nchw(x, _ActivationLayout(_FROM_FORMAT[mode])))
            return True
        return False

    def _dimshuffle(self, node: Node) -> bool:
        """Explicit conversions from a packed tensor, or to one."""
        x, y = node.inputs[0], node.outputs[0]
        pattern = tuple(node.params.pattern)
        if x in self.twins and pattern == self.twins[x][0].axes:
            self.unpacked[y] = self.twins[x][1]
        elif pattern == (0, 1, 3, 4, 2) and (maker := self.makers.get(x)) is not None and maker.op == "Reshape":
            source = maker.inputs[0]
            n, blocks, block, h, w = x.shape
            if source.shape == (n, blocks * block, h, w) and block in (4, 8):
                self.twins[y] = _ActivationLayout(Format.NCHW88 if block == 8 else Format.NCHW44), source
        return False

    def _reshape(self, node: Node) -> bool:
        x, y = node.inputs[0], node.outputs[0]
        twin = self.unpacked.get(x)
        if twin is None or twin.shape != y.shape:
            return False
        self._give(y, _PLAIN, twin)
        return True


def _shuffle(pattern: tuple[int, ...]) -> Dimshuffle:
    return Dimshuffle(pattern=pattern, ndim=len(pattern))
