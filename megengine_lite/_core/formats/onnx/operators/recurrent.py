"""Recurrent layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import params
from megengine_lite._core.ir.onnx_params import Recurrent
from megengine_lite._core.operators.onnx_recurrent import ACTIVATIONS, USUAL, is_plain
from megengine_lite._records import replace
from megengine_lite.errors import ModelFormatError

# What activations have in place of an alpha or beta that is not given.
_ALPHAS = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "HardSigmoid": 0.2, "Elu": 1.0, "Affine": 1.0, "ScaledTanh": 1.0}
_BETAS = {"HardSigmoid": 0.5, "ScaledTanh": 1.0}


@converts("RNN", "GRU", "LSTM")
def _recurrent(call: Call) -> list[Value | None]:
    b = call.builder
    direction = call.text("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise NotConverted(f"the direction {direction!r} is not known")
    optional = [call.optional(k) for k in range(3, 8 if call.op == "LSTM" else 6)]
    optional += [None] * (5 - len(optional))
    data = [call.input(k) for k in range(3)]
    if batch_first := bool(call.integer("layout", 0)):
        data[0] = _swapped(b, data[0])
        optional[2:4] = [v and _swapped(b, v) for v in optional[2:4]]
    parameters = Recurrent(
        call.op,
        direction,
        _activations(call, 2 if direction == "bidirectional" else 1),
        call.real("clip", 0.0),
        tuple(v is not None for v in optional),
        bool(call.integer("linear_before_reset", 0)),
        bool(call.integer("input_forget", 0)),
    )
    call.know("output_sequence")
    weights = b.known_shape(data[2])
    hidden = call.integer("hidden_size", 0 if weights is None else weights[-1])
    if weights is not None and hidden != weights[-1]:
        raise NotConverted(f"hidden_size is {hidden}, and its weights are for {weights[-1]}")
    made = _layer(b, parameters, data, optional)
    if batch_first:
        whole, *last = made
        made = [b.transposed(whole, (2, 0, 1, 3)), *(_swapped(b, v) for v in last)]
    return [*made]


def _swapped(b: GraphBuilder, value: Value) -> Value:
    """Data or states with the first two axes exchanged."""
    if value.rank != 3:
        raise ModelFormatError(f"data and states must have 3 dimensions, not {value.rank}")
    return b.transposed(value, (1, 0, 2))


def _layer(b: GraphBuilder, p: Recurrent, data: Sequence[Value], optional: Sequence[Value | None]) -> list[Value]:
    """The outputs of a layer whose batch is behind the lengths."""
    if (fast := _by_kernel(b, p, data, optional)) is not None:
        return fast
    optional = _with_states(b, p, data, optional)
    p = replace(p, flags=tuple(v is not None for v in optional))
    given, kind = [b.exact(v) for v in (*data, *optional) if v is not None], data[0].kind
    made = b.nodes_of("Recurrent", p, given, 3 if p.cell == "LSTM" else 2)
    return [Value(var, kind, 4 if k == 0 else 3, DTYPES[kind]) for k, var in enumerate(made)]


def _with_states(
    b: GraphBuilder, p: Recurrent, data: Sequence[Value], optional: Sequence[Value | None]
) -> list[Value | None]:
    """The optional inputs; states that are not given are zeros, if their size is known."""
    x, _, r = data
    found = b.known_shape(r) if r.rank == 3 else None
    if found is None or x.rank != 3:
        return list(optional)
    bias, lengths, state, cell, peepholes = optional
    shape = [b.constant(np.array([n])) for n in (found[0], found[2])]
    zeros = b.broadcast(b.number(0, x), b.joined([shape[0], b.dimension(x, 1), shape[1]], 0).var, 3)
    if p.cell == "LSTM" and cell is None:
        cell = zeros
    return [bias, lengths, zeros if state is None else state, cell, peepholes]


def _activations(call: Call, directions: int) -> tuple[tuple[str, float, float], ...]:
    count = directions * len(USUAL[call.op])
    names = (call.texts("activations") or list(USUAL[call.op]) * directions)[:count]  # RNN's default has always two
    known = {name.lower(): name for name in ACTIVATIONS}
    if any(name.lower() not in known for name in names):
        raise NotConverted(f"its activations are {names}; there are {', '.join(ACTIVATIONS)}")
    if len(names) < count:
        raise NotConverted(f"its activations are {names}, and it needs {count}")
    alphas, betas = call.reals("activation_alpha") or [], call.reals("activation_beta") or []
    found = []
    for name in (known[n.lower()] for n in names):
        # The lists have a number only for those activations that take one.
        alpha = alphas.pop(0) if name in _ALPHAS and alphas else _ALPHAS.get(name, 0.0)
        beta = betas.pop(0) if (name in _BETAS or name == "Affine") and betas else _BETAS.get(name, 0.0)
        found.append((name, alpha, beta))
    return tuple(found)


# Rows of the weights of each gate here, as places among those there: input, output, forget, cell.
_ORDER = {"RNN": (0,), "LSTM": (0, 2, 3, 1)}


def _by_kernel(
    b: GraphBuilder, p: Recurrent, data: Sequence[Value], optional: Sequence[Value | None]
) -> list[Value] | None:
    """The layer by MegEngine's operators, which files of its can say; None if these have not its rules."""
    x, w, r = data
    bias, lengths, state, cell, peepholes = optional
    if (
        p.cell not in _ORDER
        or not is_plain(p)
        or p.direction == "reverse"
        or lengths is not None
        or peepholes is not None
    ):
        return None
    found = b.known_shape(r) if r.rank == 3 else None
    if not all(v.is_float32 for v in (x, w, r)) or found is None:
        return None
    directions, _, hidden = found
    if directions != p.directions:
        return None  # an error of the operator that has all rules
    shape = b.joined([b.constant(np.array([directions])), b.dimension(x, 1), b.constant(np.array([hidden]))], 0)
    zeros = b.broadcast(b.number(0, x), shape.var, 3)
    states = [zeros if v is None else v for v in (state, cell)][: 2 if p.cell == "LSTM" else 1]
    weights = _flat_weights(b, p.cell, w, r, bias, directions, hidden)
    shared: dict[str, Any] = {"hidden_size": hidden, "bidirectional": directions == 2, "bias": bias is not None}
    inputs = [x.var, *(v.var for v in states), weights.var]
    if p.cell == "LSTM":
        made = b.nodes_of("LSTMForward", params.LSTM(fwd_mode=params.BNFwdMode.INFERENCE, **shared), inputs, 4)
    else:
        parameters = params.RNN(
            nonlineMode=params.RNNCellNonlineMode.TANH, fwd_mode=params.BNFwdMode.INFERENCE, **shared
        )
        made = b.nodes_of("RNNForward", parameters, inputs, 3)
    steps, *last = (Value(var, x.kind, 3, x.dtype) for var in made[:-1])
    if directions == 1:
        whole = b.with_axes(steps, [1])
    else:
        split = b.joined([b.shape(x), b.constant(np.array([hidden]))], 0)
        split = b.joined([b.part(split, 0, 0, 2), b.constant(np.array([directions, hidden]))], 0)
        whole = b.transposed(b.reshaped(steps, split.var, 4), (0, 2, 1, 3))
    return [whole, *last]


def _flat_weights(
    b: GraphBuilder, cell: str, w: Value, r: Value, bias: Value | None, directions: int, hidden: int
) -> Value:
    """All weights one after another: for each direction those of the input, of the state, and both biases."""
    pieces = []

    def add(x: Value, direction: int, first: int) -> None:
        for gate in _ORDER[cell]:
            begin = first + gate * hidden
            rows = b.part(b.part(x, 0, direction, direction + 1), 1, begin, begin + hidden)
            pieces.append(b.reshaped(rows, b.integers([1]), 1, 0))

    for direction in range(directions):
        add(w, direction, 0)
        add(r, direction, 0)
        if bias is not None:
            add(bias, direction, 0)
            add(bias, direction, len(_ORDER[cell]) * hidden)
    return b.joined(pieces, 0)
