"""Recurrent layers."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_builder import Value
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.formats.onnx.values import DTYPES
from megengine_lite._core.ir.general import Recurrent
from megengine_lite._core.operators.general_recurrent import ACTIVATIONS

_USUAL = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
# What activations have in place of an alpha or beta that is not given.
_ALPHAS = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "HardSigmoid": 0.2, "Elu": 1.0, "Affine": 1.0, "ScaledTanh": 1.0}
_BETAS = {"HardSigmoid": 0.5, "ScaledTanh": 1.0}


@converts("RNN", "GRU", "LSTM")
def _recurrent(call: Call) -> list[Value | None]:
    b, x = call.builder, call.input(0)
    direction = call.text("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional"):
        raise NotConverted(f"the direction {direction!r} is not known")
    optional = [call.optional(k) for k in range(3, 8 if call.op == "LSTM" else 6)]
    optional += [None] * (5 - len(optional))
    parameters = Recurrent(
        call.op,
        direction,
        _activations(call, 2 if direction == "bidirectional" else 1),
        call.real("clip", 0.0),
        tuple(v is not None for v in optional),
        bool(call.integer("linear_before_reset", 0)),
        bool(call.integer("input_forget", 0)),
        bool(call.integer("layout", 0)),
    )
    call.integer("hidden_size", 0)
    call.integer("output_sequence", 0)
    given = [call.input(k) for k in range(3)] + [v for v in optional if v is not None]
    made = b.nodes_of("Recurrent", parameters, [b.exact(v) for v in given], 3 if call.op == "LSTM" else 2)
    return [Value(var, x.kind, 4 if k == 0 else 3, DTYPES[x.kind]) for k, var in enumerate(made)]


def _activations(call: Call, directions: int) -> tuple[tuple[str, float, float], ...]:
    names = call.texts("activations") or list(_USUAL[call.op]) * directions
    known = {name.lower(): name for name in ACTIVATIONS}
    unknown = [name for name in names if name.lower() not in known]
    if unknown or len(names) != directions * len(_USUAL[call.op]):
        raise NotConverted(f"its activations are {names}; there are {', '.join(ACTIVATIONS)}")
    alphas, betas = call.reals("activation_alpha") or [], call.reals("activation_beta") or []
    found = []
    for name in (known[n.lower()] for n in names):
        # The lists have a number only for those activations that take one.
        alpha = alphas.pop(0) if name in _ALPHAS and alphas else _ALPHAS.get(name, 0.0)
        beta = betas.pop(0) if (name in _BETAS or name == "Affine") and betas else _BETAS.get(name, 0.0)
        found.append((name, alpha, beta))
    return tuple(found)
