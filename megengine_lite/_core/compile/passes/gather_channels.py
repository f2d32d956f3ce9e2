"""Recognizes chains of reshapes, transpositions, slices and concatenations that only move whole channels.

Files contain a channel shuffle as Reshape, Dimshuffle, Reshape and Subtensor. This pass runs such a chain on the
positions of the elements. If whole channels stay together, the chain is a permutation or selection of channels, which
blocked kernels do in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from megengine_lite._core.compile.substitution import Substitution
from megengine_lite._core.ir.fused import ChannelGather
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY

MAX_ELEMENTS = 1 << 22
MAX_LENGTH = 6
# Elements that are followed through the chains of one graph: following more would take longer than it saves.
MAX_FOLLOWED = 1 << 26
# Each channel of a gather costs some planning.
MAX_FOLLOWED_CHANNELS = 1 << 14

_INDEX = np.dtype(np.int32)


def run(graph: Graph) -> None:
    """Replaces such chains, also through a preceding concatenation, by ``ChannelGather`` nodes."""
    gathering = _Gathering()
    nodes = Substitution(graph)
    for node in nodes:
        for made in gathering.rewrite(node):
            twin = gathering.add(made)
            if twin is None:
                nodes.add(made)
            else:
                nodes.replace(made.outputs[0], twin)
    nodes.finish()


class _Gathering:
    """The nodes so far, as chains are followed back through them."""

    def __init__(self) -> None:
        self._makers: dict[Var, Node] = {}
        self._gathers: dict[tuple[ChannelGather | Var, ...], Var] = {}
        self._followed = 0

    def add(self, node: Node) -> Var | None:
        """Adds a node. If the same gather exists already (a split that is read twice), its result is used instead."""
        if node.op == "ChannelGather":
            first = self._gathers.setdefault((node.params, *node.inputs), node.outputs[0])
            if first is not node.outputs[0]:
                return first
        self._makers.update(dict.fromkeys(node.outputs, node))
        return None

    def rewrite(self, node: Node) -> list[Node]:
        """The node itself, or gathers that compute its outputs."""
        if node.op == "Concat":
            return [_concat_as_gather(node) or node]
        if not _moves(node):
            return [node]
        found = [self._as_gather(node, k) for k in range(len(node.outputs))]
        gathers = [g for g in found if g is not None]
        return gathers if len(gathers) == len(found) else [node]

    def _as_gather(self, last: Node, which: int) -> Node | None:
        var = last.outputs[which]
        if len(var.shape) != 4 or var.shape[2] * var.shape[3] == 1 or var.shape[1] > MAX_FOLLOWED_CHANNELS:
            return None
        chain: list[tuple[Node, int]] = [(last, which)]  # from var back to the source: node, which output
        source = last.inputs[0]
        while (maker := self._makers.get(source)) is not None and _moves(maker) and len(chain) < MAX_LENGTH:
            chain.append((maker, maker.outputs.index(source)))
            source = maker.inputs[0]
        if len(source.shape) != 4 or source.const is not None:
            return None
        same_images = source.shape[0] == var.shape[0] and source.shape[2:] == var.shape[2:]
        if not same_images or not 0 < source.spec.size <= MAX_ELEMENTS or var.spec.size == 0:
            return None
        self._followed += source.spec.size * len(chain)
        if self._followed > MAX_FOLLOWED:
            return None
        picked = _picked_channels(chain, source)
        if picked is None or picked == list(range(source.shape[1])):
            return None
        inputs, sources = self._through_gather(source, picked)
        return Node("ChannelGather", ChannelGather.of(sources), inputs, [var], last.name)

    def _through_gather(self, source: Var, picked: list[int]) -> tuple[list[Var], list[tuple[int, int]]]:
        """The channels of ``source`` as channels of what it was gathered from."""
        before = self._makers.get(source)
        if before is None or before.op != "ChannelGather":
            return [source], [(0, c) for c in picked]
        sources = before.params.picked(picked)
        used = sorted({k for k, _ in sources})
        renumber = {k: i for i, k in enumerate(used)}
        return [before.inputs[k] for k in used], [(renumber[k], c) for k, c in sources]


def _moves(node: Node) -> bool:
    return REGISTRY[node.op].moves_elements


def _concat_as_gather(node: Node) -> Node | None:
    y = node.outputs[0]
    if len(y.shape) != 4 or node.params.axis not in (1, -3) or y.shape[2] * y.shape[3] == 1 or y.spec.size == 0:
        return None
    inputs = [v for v in node.inputs if v.shape[1]]
    params = ChannelGather.concatenation(v.shape[1] for v in inputs)
    return Node("ChannelGather", params, inputs, [y], node.name)


def _picked_channels(chain: list[tuple[Node, int]], source: Var) -> list[int] | None:
    """Which source channel each channel of the last variable is, or None if the chain does more than move channels."""
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
    result: list[int] = channels.tolist()
    return result
