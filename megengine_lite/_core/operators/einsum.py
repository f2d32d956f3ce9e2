"""Einstein's sums of products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_shape, common_dtype


@register
class Einsum(Operator):
    """Sums of products by an equation in numpy's notation."""

    name = "Einsum"
    in_files = None
    element_types = "floats, integers"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        dtype = common_dtype(node, ins)
        sizes, shared = _sizes(node, ins)
        result = node.params.equation.partition("->")[2]
        head, dots, tail = result.partition("...")
        if any(c not in sizes for c in head + tail):
            raise fail(node, f"the result {result!r} has letters that no input has")
        shape = (*(sizes[c] for c in head), *(shared if dots else ()), *(sizes[c] for c in tail))
        return [TensorSpec(check_shape(node, shape or (1,)), dtype)]

    def multiply_adds(self, node: Node) -> int:
        """Of the products of several tensors; for more than two in one pass, which is the most that they can take."""
        if len(node.inputs) < 2:
            return 0
        sizes, shared = _sizes(node, [v.spec for v in node.inputs])
        return math.prod(sizes.values()) * math.prod(shared)

    def folding_steps(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[TensorSpec]) -> int:
        return math.prod(spec.size for spec in ins)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = in_specs[0].dtype
        operands = [to_float64(x, dtype) for x in ins] if dtype.is_float else list(ins)
        terms = node.params.equation.partition("->")[0].split(",")
        operands = [x if term else x.reshape(()) for x, term in zip(operands, terms, strict=True)]
        result = np.asarray(np.einsum(node.params.equation, *operands, optimize=len(operands) > 2))
        result = result.reshape(out_specs[0].shape)
        return [from_float32(result.astype(np.float32), dtype) if dtype.is_float else result.astype(dtype.storage)]


def _sizes(node: AnyNode, ins: Sequence[TensorSpec]) -> tuple[dict[str, int], tuple[int, ...]]:
    """The size of each letter, and the sizes that the dots stand for."""
    left = node.params.equation.partition("->")[0]
    sizes: dict[str, int] = {}
    shared: tuple[int, ...] = ()
    for term, spec in zip(left.split(","), ins, strict=True):
        head, dots, tail = term.partition("...")
        if not term:  # a scalar, which has one dimension here
            continue
        lead, rest = len(head), len(spec.shape) - len(tail)
        if rest < lead or (not dots and rest != lead):
            raise fail(node, f"the term {term!r} does not fit the shape {spec.shape}")
        shared = tuple(np.broadcast_shapes(shared, spec.shape[lead:rest] if dots else ()))
        for letter, d in zip(head + tail, (*spec.shape[:lead], *spec.shape[rest:]), strict=True):
            if sizes.setdefault(letter, d) not in (d, 1) and d != 1:
                raise fail(node, f"{letter!r} is {sizes[letter]} and {d}")
            sizes[letter] = max(sizes[letter], d)
    return sizes, shared
