"""Recognizes chains of reshapes, transpositions, slices and concatenations that only move whole channels.

A channel shuffle is written in files as Reshape, Dimshuffle, Reshape and Subtensor. Followed element by element, such a
chain turns out to be a permutation or selection of channels, which blocked kernels do in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.fused import ChannelGather
from megengine_lite._core.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.oprs import REGISTRY

_MOVES = {"Reshape", "Dimshuffle", "Subtensor", "AxisAddRemove", "Split"}
MAX_ELEMENTS = 1 << 22
MAX_LENGTH = 6

_INDEX = np.dtype(np.int32)


def run(graph: Graph) -> None:
    """Replaces such chains, also through a preceding concatenation, by ``ChannelGather`` nodes."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "Concat":
            nodes.append(_concat_as_gather(node) or node)
            continue
        gathers = [_as_gather(v) for v in node.outputs] if node.op in _MOVES else [None]
        found = [g for g in gathers if g is not None]
        nodes.extend(found if len(found) == len(gathers) else [node])
    graph.nodes = nodes
    _drop_duplicates(graph)
    graph.remove_dead()


def _as_gather(var: Var) -> Node | None:
    if len(var.shape) != 4 or var.shape[2] * var.shape[3] == 1:
        return None
    chain: list[tuple[Node, int]] = []  # from var back to the source: node, which output
    source = var
    while True:
        node = source.producer
        if node is None or node.op not in _MOVES or len(chain) == MAX_LENGTH:
            break
        chain.append((node, node.outputs.index(source)))
        source = node.inputs[0]
        if len(source.shape) == 4 and source.producer is not None and source.producer.op not in _MOVES:
            break
    if not chain or len(source.shape) != 4 or source.const is not None:
        return None
    same_images = source.shape[0] == var.shape[0] and source.shape[2:] == var.shape[2:]
    if not same_images or not 0 < source.spec.size <= MAX_ELEMENTS or var.spec.size == 0:
        return None
    picked = _picked_channels(chain, source, var)
    if picked is None or picked == list(range(source.shape[1])):
        return None
    inputs, sources = _through_concat(source, picked)
    return Node("ChannelGather", ChannelGather(tuple(sources)), inputs, [var], chain[0][0].name)


def _concat_as_gather(node: Node) -> Node | None:
    y = node.outputs[0]
    if len(y.shape) != 4 or node.params.axis not in (1, -3) or y.shape[2] * y.shape[3] == 1 or y.spec.size == 0:
        return None
    inputs = [v for v in node.inputs if v.shape[1]]
    sources = tuple((k, c) for k, v in enumerate(inputs) for c in range(v.shape[1]))
    return Node("ChannelGather", ChannelGather(sources), inputs, [y], node.name)


def _picked_channels(chain: list[tuple[Node, int]], source: Var, var: Var) -> list[int] | None:
    """Which source channel each channel of ``var`` is, or None if the chain does more than move channels."""
    n, c, h, w = source.shape
    index = np.arange(n * c * h * w, dtype=_INDEX).reshape(source.shape)
    for node, which in reversed(chain):
        if any(v.const is None for v in node.inputs[1:]):
            return None
        ins = [index, *(v.constant.array for v in node.inputs[1:])]
        specs = [TensorSpec(index.shape, node.inputs[0].dtype), *(v.spec for v in node.inputs[1:])]
        index = REGISTRY[node.op].compute(node, ins, specs, [v.spec for v in node.outputs])[which]
    channels = index[0, :, 0, 0] // (h * w)
    image = np.arange(n, dtype=_INDEX).reshape(n, 1, 1, 1) * (c * h * w)
    pixel = np.arange(h * w, dtype=_INDEX).reshape(1, 1, h, w)
    if not np.array_equal(index, image + channels.reshape(1, -1, 1, 1) * (h * w) + pixel):
        return None
    return channels.tolist()


def _through_concat(source: Var, picked: list[int]) -> tuple[list[Var], list[tuple[int, int]]]:
    """The channels of ``source`` as channels of what it was gathered from."""
    before = source.producer
    if before is None or before.op != "ChannelGather":
        return [source], [(0, c) for c in picked]
    sources = [before.params.sources[c] for c in picked]
    used = sorted({k for k, _ in sources})
    renumber = {k: i for i, k in enumerate(used)}
    return [before.inputs[k] for k in used], [(renumber[k], c) for k, c in sources]


def _drop_duplicates(graph: Graph) -> None:
    """One node for equal gathers (a split read twice)."""
    seen: dict[tuple, Var] = {}
    for node in list(graph.nodes):
        if node.op != "ChannelGather":
            continue
        key = (node.params, tuple(id(v) for v in node.inputs))
        first = seen.setdefault(key, node.outputs[0])
        if first is not node.outputs[0]:
            graph.replace_uses(node.outputs[0], first)
