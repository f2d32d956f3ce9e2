"""Recurrent cells and layers in float32: matrix products and the pointwise part of the cell, step by step.

The products with the inputs of all time steps are one matrix product ahead of the steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.cpu.lower.copying import View, emit_copy
from megengine_lite._core.cpu.lower.matmul import Operand, emit_matmul
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation, ActivationCode
from megengine_lite._core.ir.graph import Constant, Node
from megengine_lite._core.ir.params import RNNCellNonlineMode
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
    """What is applied to the products of a cell. Those of an LSTM have a kernel, which reads them as they are."""
    return NO_ACTIVATION if node.op.startswith("LSTM") else _ACTIVATIONS[node.params.nonlineMode]


@record(frozen=True, slots=True)
class StridedRows:
    """A matrix in memory, rows ``step`` floats apart."""

    ref: Ref
    step: int

    def operand(self) -> Operand:
        return Operand(self.ref, self.step)


@record(frozen=True, slots=True)
class DirectionWeights:
    """Constants of one direction of one layer; ``bias`` is the sum of both biases, or None."""

    w_ih: Constant
    w_hh: Constant
    bias: Constant | None


@record(frozen=True, slots=True)
class LayerRules:
    """What layers of ONNX may have besides.

    Attributes
    ----------
    activation
        Is applied to the products of a cell that has no kernel.
    lengths
        How long each sequence is, or None.
    peepholes
        DirectionWeights of the cell for the gates i, o, f of an LSTM, or None.
    clip
        The largest size of what goes into activations.
    couples
        LSTM: the forget gate is one less the input gate.
    """

    activation: Activation = NO_ACTIVATION
    lengths: Ref | None = None
    peepholes: Ref | None = None
    clip: float = math.inf
    couples: bool = False

    @property
    def has_plain_cell(self) -> bool:
        return self.peepholes is None and self.clip == math.inf and not self.couples


def product(
    ctx: Lowering,
    node: Node,
    rows: int,
    x: StridedRows,
    w: Constant,
    y: StridedRows,
    bias: Constant | None = None,
    z: StridedRows | None = None,
    activation: Activation = NO_ACTIVATION,
    backwards: bool = False,
) -> None:
    """``y = activation(x w^T + bias + z)`` for a weight [n, k]. ``backwards``: see :func:`emit_matmul`."""
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
        backwards=backwards,
    )


def _emit_cell(
    ctx: Lowering,
    node: Node,
    batch: int,
    hidden: int,
    gates: Ref,
    c: Ref,
    c_out: Ref,
    h: StridedRows,
    rules: LayerRules | None = None,
) -> None:
    shared = {"gates": gates, "c": c, "c_out": c_out, "h": h.ref, "hidden": hidden, "h_row": h.step, "work": batch,
              "flops": 100 * batch * hidden}  # fmt: skip
    if rules is None or rules.has_plain_cell:
        ctx.emit("lstm_cell_f32", node, **shared)
    else:
        more = {"peepholes": rules.peepholes, "clip": rules.clip, "couples": int(rules.couples)}
        ctx.emit("lstm_rules_f32", node, **shared, **more)


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
    sums = StridedRows(ctx.temp(batch * rows * ITEM), rows)
    product(ctx, node, batch, StridedRows(ctx.plain(x).ref, x.shape[1]), w_ih, sums, bias)
    y = StridedRows(ctx.new_plain(node.outputs[2 if lstm else 0]).ref, rows)
    product(ctx, node, batch, StridedRows(ctx.plain(h).ref, hidden), w_hh, y, z=sums, activation=activation)
    if lstm:
        c = ctx.plain(node.inputs[6]).ref
        h_out = StridedRows(ctx.new_plain(node.outputs[0]).ref, hidden)
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
    source = StridedRows(ctx.plain(x).ref, size)
    width, rules = hidden * directions, LayerRules(_activation_of(node))
    for first in range(0, len(weights), directions):
        last_layer = first + directions == len(weights)
        out = ctx.new_plain(node.outputs[0]).ref if last_layer else ctx.temp(length * batch * width * ITEM)
        for direction in range(directions):
            number = first + direction
            state = number * batch * hidden * ITEM
            y = StridedRows(out + direction * hidden * ITEM, width)
            order = range(length - 1, -1, -1) if direction else range(length)
            states = [r + state for r in initial], [r + state for r in final]
            emit_direction(ctx, node, source, y, batch * width, weights[number], states, batch, order, rules)
        source = StridedRows(out, width)
    return None


def _weights(ctx: Lowering, node: Node, flat: Constant, gates: int, size: int) -> list[DirectionWeights]:
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
        DirectionWeights(constant("w_ih", k), constant("w_hh", k), constant("bias", k) if p.bias else None)
        for k in range(layers)
    ]


def emit_direction(
    ctx: Lowering,
    node: Node,
    x: StridedRows,
    y: StridedRows,
    stride: int,
    weights: DirectionWeights,
    states: tuple[list[Ref], list[Ref]],
    batch: int,
    order: Sequence[int],
    rules: LayerRules,
) -> None:
    """One direction of one layer of RNN or LSTM.

    Parameters
    ----------
    stride
        Floats from one step to the next in the output.
    states
        The initial and the final h (and c).
    order
        The steps in the order in which they are taken.
    """
    rows, hidden = weights.w_hh.array.shape
    lstm = len(states[0]) == 2
    sums = StridedRows(ctx.temp(len(order) * batch * rows * ITEM), rows)
    product(ctx, node, len(order) * batch, x, weights.w_ih, sums, weights.bias)
    gates = ctx.temp(batch * rows * ITEM) if lstm else None
    steps = StateSteps(ctx, node, batch, hidden, rules.lengths, states)
    for number, t in enumerate(order):
        back = number % 2 == 1  # the weights that the step before read last are still in the cache
        here = StridedRows(sums.ref + t * batch * rows * ITEM, rows)
        target = StridedRows(y.ref + t * stride * ITEM, y.step)
        if gates is None:
            product(
                ctx, node, batch, steps.h, weights.w_hh, target, z=here, activation=rules.activation, backwards=back
            )
        else:
            product(ctx, node, batch, steps.h, weights.w_hh, StridedRows(gates, rows), z=here, backwards=back)
            _emit_cell(ctx, node, batch, hidden, gates, steps.c, steps.c_out, target, rules)
        steps.take_over(t, target)
    steps.finish()


class StateSteps:
    """The states of one direction while its steps are emitted.

    Without lengths a step reads the state where the step before it wrote the output. With lengths the states are kept
    beside the output, since sequences that have ended keep theirs.

    Attributes
    ----------
    h, c
        Where the next step reads the state, and the cell of an LSTM.
    c_out
        Where it writes the cell.
    """

    def __init__(
        self,
        ctx: Lowering,
        node: Node,
        batch: int,
        hidden: int,
        lengths: Ref | None,
        states: tuple[list[Ref], list[Ref]],
    ):
        self._ctx, self._node, self._batch, self._hidden, self._lengths = ctx, node, batch, hidden, lengths
        initial, self._final = states
        self._has_cell = len(initial) == 2
        if lengths is not None:
            for source, target in zip(initial, self._final, strict=True):
                self._copy(StridedRows(source, hidden), target)
            initial = self._final
        self.h = StridedRows(initial[0], hidden)
        self.c = initial[-1]
        apart = lengths is not None and self._has_cell
        self.c_out = ctx.temp(batch * hidden * ITEM) if apart else self._final[-1]

    def take_over(self, t: int, output: StridedRows) -> None:
        """The state behind step ``t``, whose output is that of all sequences."""
        if self._lengths is None:
            self.h, self.c = output, self.c_out
            return
        cells = {"c_new": self.c_out, "c": self.c} if self._has_cell else {"c_new": None, "c": None}
        self._ctx.emit(
            "sequence_ends_f32", self._node, lengths=self._lengths, y=output.ref, h=self.h.ref, **cells, t=t,
            hidden=self._hidden, y_row=output.step, work=self._batch,
        )  # fmt: skip

    def finish(self) -> None:
        """The state behind the last step becomes the final one."""
        if self._lengths is None:
            self._copy(self.h, self._final[0])

    def _copy(self, rows: StridedRows, target: Ref) -> None:
        shape, hidden = (self._batch, self._hidden), self._hidden
        source = View(rows.ref, shape, (rows.step * ITEM, ITEM), ITEM)
        emit_copy(self._ctx, self._node, source, View(target, shape, (hidden * ITEM, ITEM), ITEM))
