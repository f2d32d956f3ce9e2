"""Repairs a fault of dumped files that makes them impossible to run.

Dumping with a packed layout (``enable_nchw88`` and the like) pads the channels of a convolution to whole blocks. Where
such a result is added to another one, MegEngine 1.13 appends the padding a second time: it unpacks the tensor, which
has its padding already, concatenates the zeros that the *unpadded* tensor would need, and packs again, into fewer
blocks than there are elements. What is meant is clear: the concatenation is removed.
"""

from __future__ import annotations

from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph
from megengine_lite._core.ir.params import Axis, Dimshuffle

_CHANNELS = Axis(axis=1)
_UNPACK = (0, 1, 4, 2, 3)
_PACK = (0, 1, 3, 4, 2)


def drop_double_padding(graph: ModelGraph) -> None:
    """Removes concatenations of zeros between unpacking and packing that leave an incomplete block."""
    suspects = [n for n in graph.nodes if n.op == "Concat" and n.params == _CHANNELS and len(n.inputs) == 2]
    if not suspects:
        return
    consumers, producers = graph.consumers(), graph.producers()
    replaced: dict[AnyVar, AnyVar] = {}
    for node in suspects:
        x, zeros = node.inputs
        if not node.outputs or zeros.const is None or len(zeros.const.array.shape) != 4:
            continue
        if not _is_unpacked(x, producers):
            continue
        block = _block_packed_into(node.outputs[0], consumers, producers)
        if block and zeros.const.array.shape[1] % block and not zeros.const.array.any():
            replaced[node.outputs[0]] = x
    graph.replace_uses(replaced)


def _is_unpacked(var: AnyVar, producers: dict[AnyVar, AnyNode]) -> bool:
    reshape = producers.get(var)
    if reshape is None or reshape.op != "Reshape" or not reshape.inputs:
        return False
    shuffle = producers.get(reshape.inputs[0])
    return shuffle is not None and _is_shuffle(shuffle, _UNPACK)


def _is_shuffle(node: AnyNode, pattern: tuple[int, ...]) -> bool:
    return node.op == "Dimshuffle" and isinstance(node.params, Dimshuffle) and node.params.pattern == pattern


def _block_packed_into(var: AnyVar, consumers: dict[AnyVar, list[AnyNode]], producers: dict[AnyVar, AnyNode]) -> int:
    """The block size if the variable is reshaped to (n, c / block, block, h, w) and packed, else 0."""
    for reshape in consumers.get(var, []):
        # Nodes are not checked yet: they may have any number of inputs and outputs.
        if reshape.op != "Reshape" or len(reshape.inputs) != 2 or reshape.inputs[0] is not var or not reshape.outputs:
            continue
        packs = any(_is_shuffle(n, _PACK) for n in consumers.get(reshape.outputs[0], []))
        target = producers.get(reshape.inputs[1])
        if packs and target is not None and target.op == "Concat" and len(target.inputs) == 5:
            block = target.inputs[2].const
            if block is not None and block.array.size == 1:
                return int(block.array.reshape(-1)[0])
    return 0
