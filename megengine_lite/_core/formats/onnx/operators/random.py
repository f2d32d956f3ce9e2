"""Random numbers. The generators are ours, so they are other numbers than elsewhere, of the same distributions."""

from __future__ import annotations

import struct

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_kind
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.formats.onnx.operators.constants import target_kind
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir import params
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode

_M = ElemwiseMode


def _seed(call: Call) -> int:
    """A seed for each call; the attribute is a float, whose bits are as good as any others."""
    if "seed" in call.attributes:
        found: int = struct.unpack("<I", struct.pack("<f", call.real("seed")))[0]
        return found
    return call.builder.new_id()


def _uniform(b: GraphBuilder, shape: Value, rank: int, seed: int) -> Value:
    """Numbers above 0, up to 1."""
    return b.node("UniformRNG", params.UniformRNG(seed=seed), [shape.var], ElementType.FLOAT, rank)


def _shape_of(call: Call) -> tuple[Value, int, ElementType]:
    """Shape, rank and element type of the result: by attributes, or those of an input."""
    b = call.builder
    if call.op.endswith("Like"):
        x = call.input(0)
        kind = target_kind(call, "dtype", x.kind)
        return (b.shape(x) if x.rank else b.constant(np.array([1]))), x.rank, kind
    kind, numbers = target_kind(call, "dtype", ElementType.FLOAT), call.integers("shape")
    if numbers is None:
        raise NotConverted("it has no shape")
    return b.constant(np.array(numbers or [1])), len(numbers), kind


@converts("RandomUniform", "RandomUniformLike")
def _random_uniform(call: Call) -> Value:
    b, (shape, rank, kind) = call.builder, _shape_of(call)
    check_kind(kind, "f")
    low, high = call.real("low", 0.0), call.real("high", 1.0)
    # The standard leaves out the upper end, the generator the lower one.
    inside = b.elemwise(_M.SUB, b.constant(np.float32(1)), _uniform(b, shape, rank, _seed(call)))
    scaled = b.elemwise(_M.MUL, inside, b.constant(np.float32(high - low)))
    return b.retyped(b.elemwise(_M.ADD, scaled, b.constant(np.float32(low))), kind)


@converts("RandomNormal", "RandomNormalLike")
def _random_normal(call: Call) -> Value:
    b, (shape, rank, kind) = call.builder, _shape_of(call)
    check_kind(kind, "f")
    parameters = params.GaussianRNG(seed=_seed(call), mean=call.real("mean", 0.0), std=call.real("scale", 1.0))
    return b.retyped(b.node("GaussianRNG", parameters, [shape.var], ElementType.FLOAT, rank), kind)


@converts("Bernoulli", since=15)
def _bernoulli(call: Call) -> Value:
    b, x = call.builder, call.input(0)
    check_kind(x.kind, "f")
    kind = target_kind(call, "dtype", x.kind)
    drawn = _uniform(b, b.shape(x) if x.rank else b.constant(np.array([1])), x.rank, _seed(call))
    return b.retyped(b.compare(ElemwiseMultiTypeMode.LEQ, drawn, b.retyped(x, ElementType.FLOAT)), kind)
