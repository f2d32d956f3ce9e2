"""Recurrent cells and layers in float32: matrix products and the pointwise part of the cell, step by step.

The products with the inputs of all time steps are one matrix product ahead of the steps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.copying import View, emit_copy
from megengine_lite._core.cpu.lower.matmul import Operand, emit_matmul
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation, ActivationCode
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.onnx_params import Recurrent
from megengine_lite._core.ir.params import RNNCellNonlineMode
from megengine_lite._core.operators.onnx_recurrent import is_plain, optional_names
from megengine_lite._core.operators.recurrent import LayerWeights, split_weights
from megengine_lite._records import record
from megengine_lite.errors import InternalError
from megengine_lite.kernels.common.tiling import ITEM

# More steps than this are a loop in Python: their records would take more memory than the sequence.
MAX_STEPS = 4096

_ACTIVATIONS = {
    RNNCellNonlineMode.IDENTITY: NO_ACTIVATION,
    RNNCellNonlineMode.RELU: Activation(ActivationCode.RELU),
    RNNCellNonlineMode.TANH: Activation(ActivationCode.TANH),
}


def _activation_of(node: Node) -> Activation:
    """What is applied to the products of a cell. LSTM and GRU have kernels for it, which read them as they are."""
    if isinstance(node.params, Recurrent):
        return Activation(ActivationCode.TANH) if node.params.cell == "RNN" else NO_ACTIVATION
    return NO_ACTIVATION if node.op.startswith("LSTM") else _ACTIVATIONS[node.params.nonlineMode]


@record(frozen=True, slots=True)
class _Rows:
    """A matrix in memory, rows ``step`` floats apart."""

    ref: Ref
    step: int

    def operand(self) -> Operand:
        return Operand(self.ref, self.step)


@record(frozen=True, slots=True)
class _Weights:
    """Constants of one direction of one layer; ``bias`` is the sum of both biases, or None."""

    w_ih: Constant
    w_hh: Constant
    bias: Constant | None


def _product(
    ctx: Lowering,
    node: Node,
    rows: int,
    x: _Rows,
    w: Constant,
    y: _Rows,
    bias: Constant | None = None,
    z: _Rows | None = None,
    activation: Activation = NO_ACTIVATION,
) -> None:
    """``y = activation(x w^T + bias + z)`` for a weight [n, k]."""
    n, k = w.array.shape
    emit_matmul(
        ctx,
        node,
        rows,
        n,
        k,
        x.operand(),
        Operand(ctx.constant(w), 1, k),
        y.operand(),
        weight=w,
        bias=bias,
        z=z.operand() if z else None,
        activation=activation,
    )


def _emit_cell(ctx: Lowering, node: Node, batch: int, hidden: int, gates: Ref, c: Ref, c_out: Ref, h: _Rows) -> None:
    ctx.emit(
        "lstm_cell_f32", node, gates=gates, c=c, c_out=c_out, h=h.ref, hidden=hidden, h_row=h.step, work=batch,
        flops=100 * batch * hidden,
    )  # fmt: skip


# ---- single cells ----------------------------------------------------------------------------------------------------


def lower_cell(ctx: Lowering, node: Node) -> bool | None:
    x, _, _, h, _, _ = node.inputs[:6]
    activation = _activation_of(node)
    if not ctx.has_activation(activation.code):
        return False
    constants = [node.inputs[k].const for k in (1, 2, 4, 5)]
    found = [c for c in constants if c is not None]
    if len(found) != len(constants):
        return False
    w_ih, b_ih, w_hh, b_hh = found
    batch, hidden = h.shape
    bias = ctx.pool.derive("sum of biases", [b_ih, b_hh], lambda p, q: (p + q).reshape(-1))
    rows = w_ih.array.shape[0]
    lstm = node.op == "LSTMCellForward"
    if lstm and batch > 1 and ctx.is_read(node.outputs[2]):
        return False  # only training reads the gates, and their order is another one then
    sums = _Rows(ctx.temp(batch * rows * ITEM), rows)
    _product(ctx, node, batch, _Rows(ctx.plain(x).ref, x.shape[1]), w_ih, sums, bias)
    y = _Rows(ctx.new_plain(node.outputs[2 if lstm else 0]).ref, rows)
    _product(ctx, node, batch, _Rows(ctx.plain(h).ref, hidden), w_hh, y, z=sums, activation=activation)
    if lstm:
        c = ctx.plain(node.inputs[6]).ref
        h_out = _Rows(ctx.new_plain(node.outputs[0]).ref, hidden)
        _emit_cell(ctx, node, batch, hidden, y.ref, c, ctx.new_plain(node.outputs[1]).ref, h_out)
    return None


# ---- layers ----------------------------------------------------------------------------------------------------------


def lower_layers(ctx: Lowering, node: Node) -> bool | None:
    """All layers and directions; the last step of each writes the final state."""
    x, flat = node.inputs[0], node.inputs[-1]
    if flat.const is None or not ctx.has_activation(_activation_of(node).code):
        return False
    length, batch, size = x.shape
    hidden = node.params.hidden_size
    weights = _weights(ctx, node, flat.const, 4 if node.op == "LSTMForward" else 1, size)
    if length * len(weights) > MAX_STEPS:
        return False
    directions = 2 if node.params.bidirectional else 1
    initial = [ctx.plain(v).ref for v in node.inputs[1:-1]]
    final = [ctx.new_plain(v).ref for v in node.outputs[1:-1]]
    ctx.new_plain(node.outputs[-1])
    source = _Rows(ctx.plain(x).ref, size)
    width = hidden * directions
    for first in range(0, len(weights), directions):
        last_layer = first + directions == len(weights)
        out = ctx.new_plain(node.outputs[0]).ref if last_layer else ctx.temp(length * batch * width * ITEM)
        for direction in range(directions):
            number = first + direction
            state = number * batch * hidden * ITEM
            y = _Rows(out + direction * hidden * ITEM, width)
            order = range(length - 1, -1, -1) if direction else range(length)
            states = [r + state for r in initial], [r + state for r in final]
            _emit_direction(ctx, node, source, y, weights[number], states, batch, order)
        source = _Rows(out, width)
    return None


def _weights(ctx: Lowering, node: Node, flat: Constant, gates: int, size: int) -> list[_Weights]:
    p = node.params
    key = (gates, size, p.hidden_size, p.num_layers, bool(p.bidirectional), bool(p.bias))
    bare = Node(node.op, p, (), ())  # constants keep it, and must not keep the graph

    def constant(which: str, number: int) -> Constant:
        def part(array: np.ndarray) -> np.ndarray:
            weights: LayerWeights = split_weights(bare, array.reshape(-1), gates, size)[number]
            if which != "bias":
                return np.ascontiguousarray(getattr(weights, which))
            if weights.b_ih is None or weights.b_hh is None:
                raise InternalError(f"{bare} has no bias")
            total: np.ndarray = weights.b_ih + weights.b_hh
            return total

        return ctx.pool.derive(("recurrent", which, number, *key), [flat], part)

    layers = p.num_layers * (2 if p.bidirectional else 1)
    return [
        _Weights(constant("w_ih", k), constant("w_hh", k), constant("bias", k) if p.bias else None)
        for k in range(layers)
    ]


def _emit_direction(
    ctx: Lowering,
    node: Node,
    x: _Rows,
    y: _Rows,
    weights: _Weights,
    states: tuple[list[Ref], list[Ref]],
    batch: int,
    order: Sequence[int],
) -> None:
    """One direction of one layer; ``states`` are the initial and the final h (and c)."""
    initial, final = states
    rows, hidden = weights.w_hh.array.shape
    lstm = len(initial) == 2
    sums = _Rows(ctx.temp(len(order) * batch * rows * ITEM), rows)
    _product(ctx, node, len(order) * batch, x, weights.w_ih, sums, weights.bias)
    gates = ctx.temp(batch * rows * ITEM) if lstm else None
    activation = _activation_of(node)
    h = _Rows(initial[0], hidden)
    c = initial[-1]
    for t in order:
        here = _Rows(sums.ref + t * batch * rows * ITEM, rows)
        target = _Rows(y.ref + t * batch * y.step * ITEM, y.step)
        if gates is None:
            _product(ctx, node, batch, h, weights.w_hh, target, z=here, activation=activation)
        else:
            _product(ctx, node, batch, h, weights.w_hh, _Rows(gates, rows), z=here)
            _emit_cell(ctx, node, batch, hidden, gates, c, final[1], target)
            c = final[1]
        h = target
    last = View(h.ref, (batch, hidden), (h.step * ITEM, ITEM), ITEM)
    emit_copy(ctx, node, last, View(final[0], (batch, hidden), (hidden * ITEM, ITEM), ITEM))


# ---- layers of ONNX --------------------------------------------------------------------------------------------------

# Rows of the weights of each gate, in the order in which the kernels want them.
_ORDER = {"RNN": (0,), "GRU": (0, 1, 2), "LSTM": (0, 2, 3, 1)}


def lower_onnx_layer(ctx: Lowering, node: Node) -> bool | None:
    """A layer with the usual activations; both directions of a GRU, one of the others."""
    p: Recurrent = node.params
    x, w, r, *rest = node.inputs
    given = dict(zip(optional_names(p), rest, strict=True))
    length, batch, size = x.shape
    directions, _, hidden = r.shape
    states = [given.get(name) for name in (("state", "cell") if p.cell == "LSTM" else ("state",))]
    known = [v for v in states if v is not None]
    if not is_plain(p) or {"lengths", "peepholes"} & given.keys() or len(known) < len(states):
        return False
    constants = [v.const for v in (w, r, *([given["bias"]] if "bias" in given else []))]
    found = [c for c in constants if c is not None]
    if len(found) < len(constants) or length * directions > MAX_STEPS or (directions > 1 and p.cell != "GRU"):
        return False
    if not ctx.has_activation(_activation_of(node).code):
        return False
    initial = [ctx.plain(v).ref for v in known]
    out, *final = (ctx.new_plain(v).ref for v in node.outputs)
    source = _Rows(ctx.plain(x).ref, size)
    for k in range(directions):
        backward = p.direction == "reverse" or k == 1
        order = range(length - 1, -1, -1) if backward else range(length)
        state = k * batch * hidden * ITEM
        refs = [r + state for r in initial], [r + state for r in final]
        if p.cell == "GRU":
            _emit_gru(ctx, node, source, out + state, found, k, refs, batch, order)
        else:
            bias = _of_direction(ctx, p, found[2], k, "sum") if len(found) > 2 else None
            w_ih, w_hh = (_of_direction(ctx, p, c, k, "matrix") for c in found[:2])
            weights = _Weights(w_ih, w_hh, bias)
            _emit_direction(ctx, node, source, _Rows(out, hidden), weights, refs, batch, order)
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
    x: _Rows,
    y: Ref,
    constants: Sequence[Constant],
    k: int,
    states: tuple[list[Ref], list[Ref]],
    batch: int,
    order: Sequence[int],
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
    sums = _Rows(ctx.temp(len(order) * batch * rows * ITEM), rows)
    _product(ctx, node, len(order) * batch, x, w, sums, bias_x)
    gates = _Rows(ctx.temp(batch * rows * ITEM), rows)
    kept = _Rows(ctx.temp(batch * hidden * ITEM), hidden)
    h = _Rows(states[0][0], hidden)
    for t in order:
        here = sums.ref + t * batch * rows * ITEM
        target = _Rows(y + t * directions * batch * hidden * ITEM, hidden)
        if resets:
            _product(ctx, node, batch, h, whole, gates, bias_h)
        else:
            _product(ctx, node, batch, h, first, gates, biases[0])
            ctx.emit(
                "gru_reset_f32", node, x=here, s=gates.ref, h=h.ref, y=kept.ref, hidden=hidden, h_row=h.step,
                work=batch, flops=30 * batch * hidden,
            )  # fmt: skip
            _product(ctx, node, batch, kept, last, _Rows(gates.ref + 2 * hidden * ITEM, rows), biases[1])
        ctx.emit(
            "gru_cell_f32", node, x=here, s=gates.ref, h=h.ref, y=target.ref, hidden=hidden, h_row=h.step,
            y_row=target.step, resets=int(resets), work=batch, flops=80 * batch * hidden,
        )  # fmt: skip
        h = target
    shape, strides = (batch, hidden), (hidden * ITEM, ITEM)
    emit_copy(ctx, node, View(h.ref, shape, strides, ITEM), View(states[1][0], shape, strides, ITEM))


def _halves(ctx: Lowering, bias: Constant) -> list[Constant | None]:
    """The biases of update and reset, and those of the new state."""

    def part(which: int) -> Constant:
        def made(array: np.ndarray) -> np.ndarray:
            limit = len(array) // 3 * 2
            return array[limit:] if which else array[:limit]

        return ctx.pool.derive(("biases of a GRU", which), [bias], made)

    return [part(0), part(1)]
