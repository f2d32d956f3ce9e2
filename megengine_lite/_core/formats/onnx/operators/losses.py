"""Losses: what a training program compares outputs with."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.operators.activations import log_softmax
from megengine_lite._core.formats.onnx.operators.images import one_of
from megengine_lite._core.formats.onnx.operators.table import Call, converts
from megengine_lite._core.ir.onnx_params import Likelihood


@converts("NegativeLogLikelihoodLoss", since=12)
def _likelihood_loss(call: Call) -> Value:
    return _loss(call, call.input(0))


@converts("SoftmaxCrossEntropyLoss", since=12)
def _cross_entropy_loss(call: Call) -> list[Value | None]:
    logs = log_softmax(call.builder, call.input(0), 1)
    return [_loss(call, logs), logs]


def _loss(call: Call, logs: Value) -> Value:
    b, right, weights = call.builder, call.input(1), call.optional(2)
    check_kind(logs.kind, "f")
    reduction = one_of(call, "reduction", "mean", ("none", "sum", "mean"))
    ignored = call.integer("ignore_index", 0) if "ignore_index" in call.attributes else None
    inputs = [b.exact(logs), right.var, *([] if weights is None else [b.exact(weights)])]
    rank = right.rank if reduction == "none" else 0
    return b.node("LikelihoodLoss", Likelihood(reduction, ignored), inputs, logs.kind, rank)
