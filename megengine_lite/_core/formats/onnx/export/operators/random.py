"""Random numbers. Other programs draw other numbers than we do, of the same distributions."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import STORED
from megengine_lite._core.formats.onnx.export.graph_writer import OnnxValue
from megengine_lite._core.formats.onnx.export.table import NodeCall, exports
from megengine_lite._core.formats.onnx.messages import ElementType

_E = ElementType
_SEEDS = 1 << 24  # whole numbers that float32 tells apart


def _seed(call: NodeCall) -> float | None:
    """The seed of a node; 0 is that of a node that does not care."""
    seed = int(call.params.seed) % _SEEDS
    return float(seed) if seed else None


def _uniform(call: NodeCall, shape: OnnxValue) -> OnnxValue:
    """Numbers in (0, 1]; those of ONNX are in [0, 1)."""
    w = call.writer
    like = w.filled(shape, np.float32(0))
    return 1.0 - w.op("RandomUniformLike", like, low=0.0, high=1.0, seed=_seed(call))


@exports("UniformRNG")
def _uniform_numbers(call: NodeCall) -> None:
    call.give_real(_uniform(call, call.index(0)))


@exports("GaussianRNG")
def _normal_numbers(call: NodeCall) -> None:
    w, p = call.writer, call.params
    like = w.filled(call.index(0), np.float32(0))
    call.give_real(w.op("RandomNormalLike", like, mean=float(p.mean), scale=float(p.std), seed=_seed(call)))


@exports("ExponentialRNG")
def _exponential(call: NodeCall) -> None:
    w = call.writer
    call.give_real(-w.op("Log", _uniform(call, w.shape(call.real(0)))) / call.real(0))


def _permutation(call: NodeCall, count: OnnxValue) -> OnnxValue:
    """The numbers below a count, int64 [1], in random order: what sorts random numbers."""
    kinds = [_E.FLOAT, _E.INT64]
    return call.writer.nodes_of("TopK", [_uniform(call, count), count], kinds, axis=0)[1]


@exports("PermutationRNG")
def _numbers_in_random_order(call: NodeCall) -> None:
    w = call.writer
    order = _permutation(call, w.reshape(call.index(0), 1))
    call.give(w.as_kind(order, STORED[call.output().dtype.code]))


@exports("ShuffleRNG")
def _shuffled(call: NodeCall) -> None:
    w = call.writer
    order = _permutation(call, w.size(call.stored(0), 0))
    call.give(w.op("Gather", call.stored(0), order, axis=0))
    call.give_index(order, 1)


@exports("MultinomialRNG")
def _chosen(call: NodeCall) -> None:
    w, count = call.writer, int(call.params.num_samples)
    weights = w.op("Log", call.real(0))
    if call.params.replacement:
        found = w.op("Multinomial", weights, kind=_E.INT32, dtype=int(_E.INT32), sample_size=count, seed=_seed(call))
        call.give(found)
        return
    # The largest of weights with noise of Gumbel's distribution are a choice without replacement.
    noise = -w.op("Log", -w.op("Log", _uniform(call, w.shape(weights))))
    found = w.nodes_of("TopK", [weights + noise, w.integers(count)], [_E.FLOAT, _E.INT64], axis=1)[1]
    call.give_index(found)


@exports("Dropout")
def _dropout(call: NodeCall) -> None:
    w, probability = call.writer, float(call.params.drop_prob)
    x = call.real(0)
    kept = _uniform(call, w.shape(x)) > probability
    call.give_real(w.where(kept, x * float(np.float32(1 / (1 - probability))), 0.0))
    call.give(w.as_kind(w.reshape(kept, -1), _E.UINT8), 1)
