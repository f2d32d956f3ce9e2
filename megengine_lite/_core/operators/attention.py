"""Multi-head attention with its projections, in double precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.params import AttnMaskType, TensorCombinationType
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float, check_ndim, check_same_shape
from megengine_lite._core.operators.facts import InOriginal
from megengine_lite._core.operators.softmax import softmax

Array = np.ndarray
_N_DATA = 4
# The original's inference leaves out the added keys, and its check at run time then finds scores of the wrong shape.
_NOT_THERE = "is not supported; the original's CPU cannot run it either"


def weight_shapes(node: AnyNode) -> dict[str, tuple[int, ...]]:
    """Shapes of the parts of the flat weights that are there, in their order.

    Names are q, k, v, o for the projections and bq, bk, bv, bo for their biases.
    """
    p = node.params
    merged = p.vproj_size or p.v_size * p.num_heads
    sizes = {
        "q": (p.embeding_size, p.qproj_size),
        "k": (p.k_size, p.kproj_size),
        "v": (p.v_size, p.vproj_size),
        "o": (merged, p.oproj_size),
    }
    shapes: dict[str, tuple[int, ...]] = {name: size for name, size in sizes.items() if size[1]}
    for name, flag in (("q", p.qbias), ("k", p.kbias), ("v", p.vbias), ("o", p.obias)):
        if flag and name in shapes:
            shapes["b" + name] = (sizes[name][1],)
    return shapes


@register
class MultiHeadAttn(Operator):
    """Attention of queries [B, Lq, E] over keys [B, Lk, K] and values [B, Lk, V]; then flat weights[, mask].

    Outputs: result [B, Lq, O], attention weights [B heads, Lq, Lk], and two empty tensors that only training needs.
    """

    name = "MultiHeadAttn"
    param = params.MultiHeadAttn
    in_original = InOriginal(type="MultiHeadAttnForward")
    n_outputs = 4
    element_types = "floats"

    def multiply_adds(self, node: Node) -> int:
        # Projections of query, key, value and result, as far as there are any, and the two products of each head.
        p = node.params
        (batch, n_queries, q_in), (_, n_keys, k_in), (_, _, v_in) = (v.shape for v in node.inputs[:3])
        q_width = p.qproj_size or q_in * p.num_heads
        v_width = p.vproj_size or v_in * p.num_heads
        projections = n_queries * (q_in * p.qproj_size + v_width * p.oproj_size)
        projections += n_keys * (k_in * p.kproj_size + v_in * p.vproj_size)
        result: int = batch * (projections + n_queries * n_keys * (q_width + v_width))
        return result

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p = node.params
        self._check_supported(node)
        has_mask = p.tensor_combination_type == TensorCombinationType.ONLY_MASK
        check_count(node, ins, _N_DATA + has_mask)
        dtype = check_float(node, ins)
        batch, n_queries, size_q = check_ndim(node, ins[0], 3, "the query")
        _, n_keys, size_k = check_ndim(node, ins[1], 3, "the key")
        if (size_q, size_k) != (p.embeding_size, p.k_size):
            raise fail(node, f"queries and keys have the sizes {size_q}, {size_k}, not {p.embeding_size}, {p.k_size}")
        check_same_shape(node, ins[1], (batch, n_keys, p.k_size), "the key")
        check_same_shape(node, ins[2], (batch, n_keys, p.v_size), "the value")
        shapes = weight_shapes(node)
        expected = sum(int(np.prod(s)) for s in shapes.values())
        if ins[3].size != expected:
            raise fail(node, f"needs {expected} weights, has {ins[3].size}")
        self._check_heads(node)
        heads = batch * p.num_heads
        if has_mask and ins[4].shape not in ((n_queries, n_keys), (heads, n_queries, n_keys)):
            raise fail(node, f"a mask of shape {ins[4].shape} does not fit {heads} x {n_queries} x {n_keys} scores")
        out = p.oproj_size or p.vproj_size or p.v_size * p.num_heads
        reserve = TensorSpec((0,), dtype)
        return [
            TensorSpec((batch, n_queries, out), dtype),
            TensorSpec((heads, n_queries, n_keys), dtype),
            reserve,
            reserve,
        ]

    @staticmethod
    def _check_supported(node: AnyNode) -> None:
        p = node.params
        if p.tensor_combination_type not in (TensorCombinationType.NONE, TensorCombinationType.ONLY_MASK):
            raise fail(node, f"an extra bias of keys and values {_NOT_THERE}")
        if p.add_zero_attn:
            raise fail(node, f"add_zero_attn {_NOT_THERE}")
        if p.attn_mask_type not in (
            AttnMaskType.NO_MASK,
            AttnMaskType.DEFAULT_MASK,
            AttnMaskType.USER_DEFINED_MASK,
        ):
            raise fail(node, f"mask type {p.attn_mask_type} is not supported")
        if p.training and (p.reslink or p.attn_prob or p.out_prob):
            raise fail(node, "training mode with residual link or dropout is not supported")

    @staticmethod
    def _check_heads(node: AnyNode) -> None:
        p = node.params
        if p.num_heads < 1 or any(n % p.num_heads for n in (p.qproj_size, p.kproj_size, p.vproj_size)):
            raise fail(node, f"projections of {p.qproj_size}, {p.kproj_size}, {p.vproj_size} into {p.num_heads} heads")
        size_q = p.qproj_size // p.num_heads or p.embeding_size
        size_k = p.kproj_size // p.num_heads or p.k_size
        if size_q != size_k:
            raise fail(node, f"heads of queries have size {size_q}, of keys {size_k}")

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p, dtype = node.params, out_specs[0].dtype
        query, key, value, flat, *mask = (to_float64(x, dtype) for x in ins)
        weights = self._split(node, flat.reshape(-1))

        def project(x: Array, name: str) -> Array:
            if name in weights:
                x = x @ weights[name]
            return x + weights["b" + name] if "b" + name in weights else x

        def heads_of(x: Array, name: str) -> Array:
            """[B, heads, L, size]; without a projection every head sees the whole."""
            projected = project(x, name)
            if name not in weights:
                return np.broadcast_to(projected[:, None], (len(x), p.num_heads, *x.shape[1:]))
            return projected.reshape(*x.shape[:2], p.num_heads, -1).swapaxes(1, 2)

        q, k, v = heads_of(query, "q"), heads_of(key, "k"), heads_of(value, "v")
        scores = q @ k.swapaxes(2, 3) * p.sm_scaler
        if mask and p.attn_mask_type != AttnMaskType.NO_MASK:
            scores = scores + (mask[0] if mask[0].ndim == 2 else mask[0].reshape(scores.shape))
        attention = softmax(scores, -1)
        merged = (attention @ v).swapaxes(1, 2).reshape(*query.shape[:2], -1)
        reserve = np.zeros(0, dtype.storage)
        result = from_float32(project(merged, "o").astype(np.float32), dtype)
        shares = from_float32(attention.reshape(out_specs[1].shape).astype(np.float32), dtype)
        return [result, shares, reserve, reserve]

    @staticmethod
    def _split(node: AnyNode, flat: Array) -> dict[str, Array]:
        parts, position = {}, 0
        for name, shape in weight_shapes(node).items():
            size = int(np.prod(shape))
            parts[name] = flat[position : position + size].reshape(shape)
            position += size
        return parts
