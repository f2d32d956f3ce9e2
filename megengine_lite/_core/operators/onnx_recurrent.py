"""Recurrent layers with the rules of ONNX: lengths of sequences, directions, peepholes, chosen activations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite._core.ir.graph import AnyNode, Node, TensorSpec
from megengine_lite._core.ir.onnx_params import Recurrent as Parameters
from megengine_lite._core.ir.quantize import from_float32, to_float64
from megengine_lite._core.operators.base import ProductOperator, fail, register
from megengine_lite._core.operators.checks import check_ndim

Array = np.ndarray

ACTIVATIONS: dict[str, Callable[[Array, float, float], Array]] = {
    "Relu": lambda x, a, b: np.maximum(x, 0),
    "Tanh": lambda x, a, b: np.tanh(x),
    "Sigmoid": lambda x, a, b: 1 / (1 + np.exp(-x)),
    "Affine": lambda x, a, b: a * x + b,
    "LeakyRelu": lambda x, a, b: np.where(x < 0, a * x, x),
    "ThresholdedRelu": lambda x, a, b: np.where(x > a, x, 0),
    "ScaledTanh": lambda x, a, b: a * np.tanh(b * x),
    "HardSigmoid": lambda x, a, b: np.clip(a * x + b, 0, 1),
    "Elu": lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x),
    "Softsign": lambda x, a, b: x / (1 + np.abs(x)),
    "Softplus": lambda x, a, b: np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0),
}
USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
"""The activations of each cell, if no others are chosen."""
_OPTIONAL = ("bias", "lengths", "state", "cell", "peepholes")
"""The optional inputs, in their order."""
_GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def is_plain(p: Parameters) -> bool:
    """Whether a layer has the usual activations, and neither clips nor couples gates."""
    usual = tuple((name, 0.0, 0.0) for name in USUAL[p.cell]) * p.directions
    return not p.clip and not p.couples and p.activations == usual


def optional_names(p: Parameters) -> list[str]:
    """Those of the optional inputs that are given."""
    return [name for name, flag in zip(_OPTIONAL, p.flags, strict=True) if flag]


@register
class Recurrent(ProductOperator):
    """A layer; inputs data, weights, recurrent weights, then those optional ones that are given.

    Outputs: all states [length, directions, batch, hidden], the last ones [directions, batch, hidden], and for LSTM the
    last cells. Weights are [directions, gates * hidden, size].
    """

    name = "Recurrent"
    in_files = None
    element_types = "floats"

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return 3 if type(params) is Parameters and params.cell == "LSTM" else 2

    def multiply_adds(self, node: Node) -> int:
        steps, batch = node.inputs[0].shape[:2]  # sequences count as if they had this length
        return steps * batch * (node.inputs[1].spec.size + node.inputs[2].spec.size)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        p: Parameters = node.params
        shape = check_ndim(node, ins[0], 3, "the data")
        length, batch = shape[:2]
        directions, rows, size = check_ndim(node, ins[1], 3, "the weights")
        hidden = check_ndim(node, ins[2], 3, "the recurrent weights")[2]
        gates = _GATES[p.cell]
        if directions != p.directions or size != shape[2] or rows != gates * hidden:
            raise fail(node, f"weights of shape {ins[1].shape} do not fit data of shape {shape} and {hidden} states")
        state = (directions, batch, hidden)
        expected = {
            "bias": (directions, 2 * gates * hidden),
            "lengths": (batch,),
            "state": state,
            "cell": state,
            "peepholes": (directions, 3 * hidden),
        }
        wanted = [(directions, rows, hidden), *(expected[name] for name in optional_names(p))]
        for spec, target in zip(ins[2:], wanted, strict=True):
            if spec.shape != target:
                raise fail(node, f"an input has the shape {spec.shape}, and needs {target}")
        dtype = ins[0].dtype
        if not dtype.is_float and dtype != FLOAT64:
            raise fail(node, f"works on floats, not on {dtype}")
        whole = (length, directions, batch, hidden)
        count = 3 if p.cell == "LSTM" else 2
        return [TensorSpec(whole, dtype), *[TensorSpec(state, dtype)] * (count - 1)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        p: Parameters = node.params
        # What is not converted is a float64 already, or the lengths.
        real = [to_float64(x, s.dtype) if s.dtype.is_float else x for x, s in zip(ins, in_specs, strict=True)]
        x, w, r, *rest = real
        given: dict[str, Array] = dict(zip(optional_names(p), rest, strict=True))
        length, batch = x.shape[:2]
        lengths = given.get("lengths", np.full(batch, length)).clip(0, length)
        directions, hidden = w.shape[0], r.shape[2]
        states, last = np.zeros((length, directions, batch, hidden)), np.zeros((2, directions, batch, hidden))
        for k in range(directions):
            backward = p.direction == "reverse" or k == 1
            layer = _Layer(p, k, w[k], r[k], {n: v[k] for n, v in given.items() if n != "lengths"}, batch)
            for h, c, t, alive in layer.run(x, lengths, backward):
                states[t, k][alive] = h[alive]
                last[0, k], last[1, k] = h, c
        results = [states, last[0], last[1]][: len(out_specs)]
        return [
            v if s.dtype == FLOAT64 else from_float32(v.astype(np.float32), s.dtype)
            for v, s in zip(results, out_specs, strict=True)
        ]


class _Layer:
    """One direction of a layer."""

    def __init__(self, p: Parameters, k: int, w: Array, r: Array, given: dict[str, Array], batch: int):
        self.p, self.w, self.r = p, w, r
        hidden = r.shape[1]
        per = len(p.activations) // p.directions
        self.functions = p.activations[k * per : (k + 1) * per]
        bias = given.get("bias", np.zeros(2 * len(w)))
        self.wb, self.rb = bias[: len(w)], bias[len(w) :]
        self.peepholes = given.get("peepholes", np.zeros(3 * hidden)).reshape(3, hidden)
        self.state = given.get("state", np.zeros((batch, hidden)))
        self.cell = given.get("cell", np.zeros((batch, hidden)))

    def apply(self, n: int, x: Array) -> Array:
        name, a, b = self.functions[n]
        if self.p.clip:
            x = np.clip(x, -self.p.clip, self.p.clip)
        return ACTIVATIONS[name](x, a, b)

    def run(self, x: Array, lengths: Array, backward: bool) -> Iterator[tuple[Array, Array, int, Array]]:
        """State and cell after each step, its place, and which sequences have it."""
        h, c = self.state, self.cell
        inputs = x @ self.w.T + self.wb
        step = {"RNN": self._rnn, "GRU": self._gru, "LSTM": self._lstm}[self.p.cell]
        for t in range(len(x))[:: -1 if backward else 1]:
            alive = t < lengths
            new_h, new_c = step(inputs[t], h, c)
            h, c = np.where(alive[:, None], new_h, h), np.where(alive[:, None], new_c, c)
            yield h, c, t, alive

    def _rnn(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        return self.apply(0, x + h @ self.r.T + self.rb), c

    def _gru(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        n = h.shape[1]
        gates = h @ self.r[: 2 * n].T + self.rb[: 2 * n] + x[:, : 2 * n]
        update, reset = self.apply(0, gates[:, :n]), self.apply(0, gates[:, n:])
        if self.p.linear_before_reset:
            inner = reset * (h @ self.r[2 * n :].T + self.rb[2 * n :])
        else:
            inner = (reset * h) @ self.r[2 * n :].T + self.rb[2 * n :]
        return (1 - update) * self.apply(1, x[:, 2 * n :] + inner) + update * h, c

    def _lstm(self, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
        i, o, f, g = np.split(x + h @ self.r.T + self.rb, 4, 1)
        pi, po, pf = self.peepholes
        enter = self.apply(0, i + pi * c)
        forget = 1 - enter if self.p.couples else self.apply(0, f + pf * c)
        new_c = forget * c + enter * self.apply(1, g)
        leave = self.apply(0, o + po * new_c)
        name, a, b = self.functions[2]
        return leave * ACTIVATIONS[name](new_c, a, b), new_c
