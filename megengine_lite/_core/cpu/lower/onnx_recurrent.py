"""Recurrent layers with the rules of ONNX in float32: lengths of sequences, peepholes, clipping, both kinds of GRU."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.recurrent import (
    MAX_STEPS,
    DirectionWeights,
    LayerRules,
    StateSteps,
    StridedRows,
    emit_direction,
    product,
)
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation, ActivationCode
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.onnx_params import Recurrent
from megengine_lite._core.operators.onnx_recurrent import USUAL, optional_names
from megengine_lite.kernels.common.tiling import ITEM

# StridedRows of the weights of each gate, in the order in which the kernels want them.
_ORDER = {"RNN": (0,), "GRU": (0, 1, 2), "LSTM": (0, 2, 3, 1)}


def _activation_of(p: Recurrent) -> Activation | None:
    """What is applied to the products of a cell; None if no kernel computes the layer's activations."""
    names = {name for name, _, _ in p.activations}
    clip = p.clip or math.inf
    if p.cell == "RNN":
        if names == {"Relu"}:
            return Activation(ActivationCode.CLIP_NAN, 0.0, clip)
        return Activation(ActivationCode.TANH) if names == {"Tanh"} and not p.clip else None
    found = [name for name, _, _ in p.activations]
    return NO_ACTIVATION if found == [*USUAL[p.cell]] * (len(found) // len(USUAL[p.cell])) else None


def lower_onnx_layer(ctx: Lowering, node: Node) -> bool | None:
    """All directions of a layer."""
    p: Recurrent = node.params
    x, w, r, *rest = node.inputs
    given = dict(zip(optional_names(p), rest, strict=True))
    length, batch, size = x.shape
    directions, _, hidden = r.shape
    activation = _activation_of(p)
    states = [given.get(name) for name in (("state", "cell") if p.cell == "LSTM" else ("state",))]
    known = [v for v in states if v is not None]
    if "lengths" in given and given["lengths"].dtype != INT32:
        return False
    if activation is None or len(known) < len(states) or not ctx.has_activation(activation.code):
        return False
    constants = [v.const for v in (w, r, *([given["bias"]] if "bias" in given else []))]
    found = [c for c in constants if c is not None]
    if len(found) < len(constants) or length * directions > MAX_STEPS:
        return False
    lengths, peepholes = (ctx.plain(given[name]).ref if name in given else None for name in ("lengths", "peepholes"))
    initial = [ctx.plain(v).ref for v in known]
    out, *final = (ctx.new_plain(v).ref for v in node.outputs)
    source = StridedRows(ctx.plain(x).ref, size)
    for k in range(directions):
        backward = p.direction == "reverse" or k == 1
        order = range(length - 1, -1, -1) if backward else range(length)
        state = k * batch * hidden * ITEM
        refs = [r + state for r in initial], [r + state for r in final]
        own = None if peepholes is None else peepholes + k * 3 * hidden * ITEM
        rules = LayerRules(activation, lengths, own, p.clip or math.inf, p.couples)
        if p.cell == "GRU":
            _emit_gru(ctx, node, source, out + state, found, k, refs, batch, order, rules)
        else:
            bias = _of_direction(ctx, p, found[2], k, "sum") if len(found) > 2 else None
            w_ih, w_hh = (_of_direction(ctx, p, c, k, "matrix") for c in found[:2])
            weights, y = DirectionWeights(w_ih, w_hh, bias), StridedRows(out + state, hidden)
            stride = directions * batch * hidden
            emit_direction(ctx, node, source, y, stride, weights, refs, batch, order, rules)
    return None


def _of_direction(ctx: Lowering, p: Recurrent, constant: Constant, k: int, which: str) -> Constant:
    """The weights of a direction: a ``matrix``, those rows that come ``first`` or ``last``, or of the biases those of
    the data (``first``), those of the state (``last``), or their ``sum``.
    """
    gates = _ORDER[p.cell]

    def ordered(part: np.ndarray) -> np.ndarray:
        rows = part.reshape(len(gates), -1, *part.shape[1:])[list(gates)]
        return np.ascontiguousarray(rows.reshape(part.shape))

    def part(array: np.ndarray) -> np.ndarray:
        own: np.ndarray = array[k]
        if own.ndim == 1:
            data, state = map(ordered, own.reshape(2, -1))
            return data if which == "first" else state if which == "last" else np.add(data, state)
        rows = ordered(own)
        limit = len(rows) // 3 * 2
        return rows if which == "matrix" else rows[:limit] if which == "first" else rows[limit:]

    return ctx.pool.derive(("layer of ONNX", p.cell, k, which), [constant], part)


def _emit_gru(
    ctx: Lowering,
    node: Node,
    x: StridedRows,
    y: Ref,
    constants: Sequence[Constant],
    k: int,
    states: tuple[list[Ref], list[Ref]],
    batch: int,
    order: Sequence[int],
    rules: LayerRules,
) -> None:
    """One direction of a GRU. The reset gate is applied to the products of the state, or to the state before them."""
    p: Recurrent = node.params
    directions, rows, hidden = constants[1].array.shape
    resets = p.linear_before_reset
    w = _of_direction(ctx, p, constants[0], k, "matrix")
    bias_x = bias_h = None
    if len(constants) > 2:
        bias_x, bias_h = (_of_direction(ctx, p, constants[2], k, which) for which in ("first", "last"))
    if resets:
        whole = _of_direction(ctx, p, constants[1], k, "matrix")
    else:
        first, last = (_of_direction(ctx, p, constants[1], k, which) for which in ("first", "last"))
        biases = [None, None] if bias_h is None else _halves(ctx, bias_h)
    sums = StridedRows(ctx.temp(len(order) * batch * rows * ITEM), rows)
    product(ctx, node, len(order) * batch, x, w, sums, bias_x)
    gates = StridedRows(ctx.temp(batch * rows * ITEM), rows)
    kept = StridedRows(ctx.temp(batch * hidden * ITEM), hidden)
    steps = StateSteps(ctx, node, batch, hidden, rules.lengths, states)
    for t in order:
        h = steps.h
        here = sums.ref + t * batch * rows * ITEM
        target = StridedRows(y + t * directions * batch * hidden * ITEM, hidden)
        if resets:
            product(ctx, node, batch, h, whole, gates, bias_h)
        else:
            product(ctx, node, batch, h, first, gates, biases[0])
            ctx.emit(
                "gru_reset_f32", node, x=here, s=gates.ref, h=h.ref, y=kept.ref, clip=rules.clip, hidden=hidden,
                h_row=h.step, work=batch, flops=30 * batch * hidden,
            )  # fmt: skip
            product(ctx, node, batch, kept, last, StridedRows(gates.ref + 2 * hidden * ITEM, rows), biases[1])
        ctx.emit(
            "gru_cell_f32", node, x=here, s=gates.ref, h=h.ref, y=target.ref, clip=rules.clip, hidden=hidden,
            h_row=h.step, y_row=target.step, resets=int(resets), work=batch, flops=80 * batch * hidden,
        )  # fmt: skip
        steps.take_over(t, target)
    steps.finish()


def _halves(ctx: Lowering, bias: Constant) -> list[Constant | None]:
    """The biases of update and reset, and those of the new state."""

    def part(which: int) -> Constant:
        def made(array: np.ndarray) -> np.ndarray:
            limit = len(array) // 3 * 2
            return array[limit:] if which else array[:limit]

        return ctx.pool.derive(("biases of a GRU", which), [bias], made)

    return [part(0), part(1)]
