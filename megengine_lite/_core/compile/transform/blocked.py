"""Rewrites convolutions and the operators between them for blocks of channels: NCHW44, NCHW44_DOT (int8 only), NCHW88.

A variable that is computed or needed in blocks has a *twin* of five dimensions beside its plain form, with conversions
where the two meet. All blocks are whole: a convolution whose channels do not fill them stays plain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ConstantPool, ModelGraph, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import Format, block_size, filter_from_plain, from_nchw, layout_shape
from megengine_lite._core.ir.params import ConvolutionSparse, RelayoutFormat
from megengine_lite._core.ir.params import RelayoutFormatMode as Relayout

# Input channels up to which a first layer reads a plain image.
_IMAGE_CHANNELS = 3

_CONVERSIONS = {
    4: (Relayout.NCHW_NCHW4, Relayout.NCHW4_NCHW),
    8: (Relayout.NCHW_NCHW88, Relayout.NCHW88_NCHW),
}


def run(graph: ModelGraph, pool: ConstantPool, layout: Format) -> None:
    """Rewrites the graph; with plain NCHW there is nothing to do."""
    if layout != Format.NCHW:
        _Blocking(graph, pool, layout).rewrite()


class _Blocking:
    def __init__(self, graph: ModelGraph, pool: ConstantPool, layout: Format):
        self.graph = graph
        self.pool = pool
        self.layout = layout
        self.block = block_size(layout)
        self.nodes: list[AnyNode] = []
        self.twins: dict[AnyVar, Var] = {}
        self.unwritten: set[AnyVar] = set()  # variables of which only the twin has been computed

    def rewrite(self) -> None:
        rules: dict[str, Callable[[Node], bool]] = {
            "Convolution": self._convolution,
            "ConvBiasForward": self._convolution,
            "Pooling": self._pooling,
            "Elemwise": self._elemwise,
            "ElemwiseMultiType": self._elemwise,
            "TypeCvt": self._elemwise,
            "Concat": self._concat,
        }
        for node in self.graph.nodes:
            rule = rules.get(node.op)
            if rule is None or not isinstance(node, Node) or not rule(node):
                for v in node.inputs:
                    self._write(v)
                self.nodes.append(node)
        for v in self.graph.outputs:
            self._write(v)
        self.graph.nodes = self.nodes
        self.graph.remove_dead()

    # ---- twins --------------------------------------------------------------------------------------------------

    def _twin(self, var: Var) -> Var:
        spec = TensorSpec(layout_shape(self.layout, *self._as_image(var)), var.dtype)
        return Var(var.id, f"{var.name}:{self.layout.name}" if var.name else "", spec)

    def _as_image(self, var: Var) -> tuple[int, int, int, int]:
        n, c, h, w = (1,) * (4 - len(var.shape)) + var.shape
        return n, c, h, w

    def _blocked(self, var: Var) -> Var:
        """A variable in blocks; it has four dimensions and whole blocks of channels."""
        found = self.twins.get(var)
        if found is None:
            found = self.twins[var] = self._twin(var)
            if var.const is not None:
                shape = self._as_image(var)
                found.const = self.pool.derive(
                    ("blocked", self.block), [var.const], lambda a: from_nchw(self.layout, a.reshape(shape))
                )
            else:
                self._convert(var, found, 0)
        return found

    def _write(self, var: AnyVar) -> None:
        """Adds a conversion if the plain form of a variable is not computed yet."""
        if var in self.unwritten and isinstance(var, Var):
            self.unwritten.remove(var)
            self._convert(self.twins[var], var, 1)

    def _convert(self, source: Var, target: Var, direction: int) -> None:
        params = RelayoutFormat(mode=_CONVERSIONS[self.block][direction])
        self.nodes.append(Node("RelayoutFormat", params, [source], [target], target.name))

    def _compute(self, node: Node, inputs: list[Var], **changes: object) -> bool:
        """Lets a node compute the twin of its output."""
        y = node.outputs[0]
        twin = self.twins[y] = self._twin(y)
        self.unwritten.add(y)
        params = node.params.replace(**changes) if changes else node.params
        self.nodes.append(Node(node.op, params, inputs, [twin], node.name, node.output_dtype, node.payload))
        return True

    def _has_blocks(self, var: Var) -> bool:
        return len(var.shape) == 4 and var.shape[1] % self.block == 0

    # ---- operators ----------------------------------------------------------------------------------------------

    def _convolution(self, node: Node) -> bool:
        x, w = node.inputs[:2]
        y = node.outputs[0]
        if node.params.format != Format.NCHW or w.const is None or not self._has_blocks(y):
            return False
        axes = self._filter_axes(node)
        if axes is None:
            return False
        added = self._operands(node.inputs[2:], y)
        if added is None:
            return False
        dot = self._takes_dot(node) and axes != "GOIhwg"
        block = self.block

        def pack(array: np.ndarray) -> np.ndarray:
            return filter_from_plain(axes, array if array.ndim == 5 else array[None], block)

        packed = self.pool.derive(("blocked_filter", axes, block), [w.const], pack)
        weight = Var(w.id, w.name, TensorSpec(packed.array.shape, w.dtype), packed)
        source = x if axes == "OhwIo" else self._blocked(x)
        if source is x:
            self._write(x)
        return self._compute(node, [source, weight, *added], format=self._format(dot))

    def _takes_dot(self, node: Node) -> bool:
        return self.layout == Format.NCHW44_DOT and node.outputs[0].dtype.is_quantized

    def _format(self, dot: bool = False) -> Format:
        """The layout by the name that an operator has for it."""
        if dot or self.block == 8:
            return self.layout
        return Format.NCHW44

    def _filter_axes(self, node: Node) -> str | None:
        """How the filter of a convolution is stored in blocks, or None if there is no such form."""
        w = node.inputs[1]
        block = self.block
        quantized = node.outputs[0].dtype.is_quantized
        kinds = (DTypeCode.QUANTIZED_S8, DTypeCode.QUANTIZED_S32) if quantized else (DTypeCode.FLOAT32,)
        p = node.params
        if (p.dilate_h, p.dilate_w) != (1, 1) or any(v.dtype.code not in kinds for v in (*node.inputs, *node.outputs)):
            return None  # the original has blocked kernels for dense windows of these types only
        both = "oi" if self._takes_dot(node) else "io"
        if p.sparse == ConvolutionSparse.DENSE:
            oc, ic = w.shape[:2]
            if oc % block:
                return None
            if ic % block == 0:
                return f"OIhw{both}"
            # Nor has it a kernel that makes blocks of 8 int8 channels from an image.
            return "OhwIo" if ic <= _IMAGE_CHANNELS and not (quantized and block == 8) else None
        groups, ocpg, icpg = w.shape[:3]
        if ocpg == icpg == 1:
            return "GOIhwg" if groups % block == 0 else None
        return f"GOIhw{both}" if ocpg % block == 0 and icpg % block == 0 else None

    def _operands(self, variables: Sequence[Var], y: Var) -> list[Var] | None:
        """What an operator on twins reads in place of variables; None if one of them has no such form."""
        found = [self._operand(v, y) for v in variables]
        known = [v for v in found if v is not None]
        return known if len(known) == len(found) else None

    def _operand(self, var: Var, y: Var) -> Var | None:
        """What an operator on twins reads in place of a variable; None if the variable has no such form."""
        if var.const is not None:
            if var.spec.size == 1:
                return var
            per_channel = len(var.shape) <= 4 and self._as_image(var) == (1, y.shape[1], 1, 1)
            return self._blocked(var) if per_channel else None
        if var in self.twins and var.shape[1] == y.shape[1]:
            return self.twins[var]
        return None

    def _pooling(self, node: Node) -> bool:
        x = node.inputs[0]
        if node.params.format != Format.NCHW or x not in self.twins:
            return False
        return self._compute(node, [self.twins[x]], format=self._format())

    def _elemwise(self, node: Node) -> bool:
        y = node.outputs[0]
        if not self._has_blocks(y) or not any(v in self.twins and v.shape == y.shape for v in node.inputs):
            return False
        operands = self._operands(node.inputs, y)
        return operands is not None and self._compute(node, operands)

    def _concat(self, node: Node) -> bool:
        y = node.outputs[0]
        if len(y.shape) != 4 or node.params.axis % 4 != 1 or any(v not in self.twins for v in node.inputs):
            return False
        return self._compute(node, [self.twins[v] for v in node.inputs], axis=1)
