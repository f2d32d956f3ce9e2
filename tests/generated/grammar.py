"""Families of graphs: their inputs, the steps that they are made of, their outputs and the order of their nodes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from generated import elemwise, images, moves, necks, quantized, recurrent, selections, tokens
from generated.maker import Case, Maker, Values
from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32
from megengine_lite._core.ir.graph import ModelGraph, Node
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import LiteError

Step = Callable[[Maker], None]

# No block, or a block exactly, at each width (4, 8, 16); with halves and quarters that fill blocks, or do not.
ANY_CHANNELS = (1, 2, 3, 4, 4, 5, 7, 8, 8, 12, 16, 16, 17, 24, 31, 32, 33, 64)
NECK_CHANNELS = (4, 8, 8, 12, 16, 16, 24, 32, 32, 48, 64, 64, 6, 20)
TOKEN_CHANNELS = (4, 8, 12, 16, 24, 32, 48, 64, 96, 10, 33)
SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13)

_ELEMWISE = {
    elemwise.unary_step: 2,
    elemwise.activation_step: 2,
    elemwise.binary_step: 3,
    elemwise.add_step: 4,
    elemwise.ternary_step: 2,
    elemwise.power_step: 0.5,
    elemwise.select_step: 1,
    elemwise.integer_step: 0.7,
}
_MOVES = {
    moves.concat_step: 3,
    moves.split_step: 2,
    moves.slice_step: 3,
    moves.swap_step: 2,
    moves.cross_step: 2,
    moves.rejoin_step: 2,
    moves.reshape_step: 2,
    moves.transpose_step: 1,
    moves.axis_step: 1,
    moves.channel_shuffle_step: 1,
    moves.space_to_depth_step: 1,
    moves.pad_step: 1,
    moves.broadcast_step: 0.5,
    moves.reduce_step: 1,
    moves.cumsum_step: 0.3,
    moves.index_step: 0.7,
    moves.set_step: 0.7,
    moves.shape_step: 0.5,
    moves.identity_step: 0.3,
}
_SELECTIONS = {
    selections.argmax_step: 0.7,
    selections.top_step: 0.5,
    selections.sort_step: 0.3,
    selections.cond_take_step: 0.4,
    selections.resize_by_value_step: 0.7,
    selections.fake_quant_step: 0.7,
    selections.volume_step: 0.5,
    selections.regions_step: 0.4,
    selections.windows_step: 0.4,
}
_IMAGES = {
    images.conv_step: 6,
    images.conv_pair_step: 2,
    images.deconv_step: 1.5,
    images.pool_step: 2,
    images.adaptive_pool_step: 1,
    images.gate_step: 1.5,
    images.spatial_gate_step: 0.7,
    images.resize_step: 1.5,
    images.norm_step: 2,
    images.warp_step: 0.4,
    images.half_step: 0.7,
}
_BYTES = {
    quantized.quantize_step: 3,
    quantized.dequantize_step: 2,
    quantized.conv_step: 6,
    quantized.image_conv_step: 1,
    quantized.deconv_step: 0.7,
    quantized.binary_step: 3,
    quantized.unary_step: 1,
    quantized.pool_step: 1.5,
    quantized.resize_step: 1,
    quantized.matmul_step: 1,
    quantized.same_scale_concat_step: 2,
    quantized.csp_step: 2,
}
_TOKENS = {
    tokens.linear_step: 4,
    tokens.two_products_step: 2,
    tokens.residual_step: 1.5,
    tokens.gated_step: 2,
    tokens.norm_step: 2,
    tokens.rms_norm_step: 0.7,
    tokens.softmax_step: 1,
    tokens.attention_step: 1.5,
    tokens.attention_node_step: 0.7,
    tokens.bilinear_step: 0.7,
    tokens.to_tokens_step: 2,
    tokens.to_image_step: 1,
    tokens.to_vector_step: 2,
    tokens.condition_step: 1,
    tokens.class_token_step: 1,
    tokens.token_halves_step: 1,
}
_NECKS = {
    necks.csp_step: 4,
    necks.branches_step: 4,
    necks.spp_step: 1,
    necks.down_step: 2,
    necks.pyramid_step: 4,
    necks.head_step: 0.7,
}
_SEQUENCE = {
    recurrent.cell_step: 4,
    recurrent.own_sequence_step: 3,
    recurrent.cell_node_step: 1.5,
    recurrent.layers_step: 1.5,
}


def _only(steps: Mapping[Step, float], factor: float, *names: str) -> dict[Step, float]:
    """Those steps whose names begin so (all without names), with other weights."""
    return {s: w * factor for s, w in steps.items() if not names or s.__name__.startswith(names)}


@dataclass(frozen=True)
class Family:
    """A kind of graphs.

    Attributes
    ----------
    inputs
        Shapes of possible inputs: ``image``, ``tokens``, ``vector``, ``list`` (of any rank).
    steps
        The steps with their weights.
    channels
        Numbers of channels.
    length
        Least and largest number of steps.
    dynamic
        Shapes change between runs.
    """

    inputs: tuple[str, ...]
    steps: Mapping[Step, float]
    channels: Sequence[int] = ANY_CHANNELS
    length: tuple[int, int] = (3, 10)
    dynamic: bool = False


FAMILIES: dict[str, Family] = {
    "mixed": Family(
        ("image", "image", "tokens", "vector", "any"),
        {
            **_ELEMWISE,
            **_MOVES,
            **_IMAGES,
            **_only(_BYTES, 0.4),
            **_only(_TOKENS, 0.5),
            **_only(_SEQUENCE, 0.3),
            **_NECKS,
        },
    ),
    "necks": Family(
        ("image",),
        {
            **_only(_NECKS, 2),
            **_only(_IMAGES, 0.6, "conv", "gate", "spatial", "pool", "resize", "deconv", "norm"),
            **_only(_MOVES, 1, "swap", "cross", "rejoin", "concat", "split", "channel", "slice", "space"),
            **_only(_ELEMWISE, 0.6, "add", "activation"),
        },
        NECK_CHANNELS,
        (4, 12),
    ),
    "necks_int8": Family(
        ("image",),
        {
            **_only(_BYTES, 2),
            **_only(_NECKS, 0.7),
            **_only(_IMAGES, 0.3, "conv", "gate", "pool"),
            **_only(_MOVES, 1, "swap", "cross", "concat", "split", "channel", "slice", "space"),
            **_only(_ELEMWISE, 0.3, "add", "activation"),
        },
        NECK_CHANNELS,
        (5, 14),
    ),
    "tokens": Family(
        ("image", "tokens", "vector"),
        {
            **_only(_TOKENS, 2),
            **_only(_IMAGES, 0.5, "conv", "gate", "norm", "pool"),
            **_only(
                _MOVES, 0.6, "swap", "cross", "rejoin", "concat", "split", "slice", "reduce", "transpose", "reshape"
            ),
            **_only(_ELEMWISE, 0.5),
            **_only(_BYTES, 0.2, "quantize", "dequantize", "matmul"),
            **_only(_SELECTIONS, 0.4, "argmax", "top", "fake", "windows"),
        },
        TOKEN_CHANNELS,
        (4, 11),
    ),
    "sequence": Family(
        ("tokens", "tokens", "vector"),
        {
            **_only(_SEQUENCE, 2),
            **_only(_TOKENS, 0.8, "linear", "two", "residual", "gated", "norm", "softmax", "attention", "to_vector"),
            **_only(_MOVES, 0.5, "cross", "concat", "split", "slice", "reduce"),
            **_only(_ELEMWISE, 0.4, "add", "activation", "unary"),
        },
        TOKEN_CHANNELS,
        (2, 7),
    ),
    "dynamic": Family(
        ("image", "tokens", "vector"),
        {
            **_ELEMWISE,
            **_MOVES,
            **_IMAGES,
            **_only(_NECKS, 0.7),
            **_only(_SELECTIONS, 1.5),
            **_only(_BYTES, 0.4),
            **_TOKENS,
            **_only(_SEQUENCE, 0.5),
        },
        ANY_CHANNELS,
        (3, 9),
        True,
    ),
}


def _shape(m: Maker, kind: str, batch: int) -> tuple[int, ...]:
    side, channels = (lambda: m.rng.choice(SIDES)), (lambda: m.rng.choice(m.channels))
    if kind == "image":
        return batch, m.rng.choice((3, channels(), channels())), side(), side()
    if kind == "tokens":
        return batch, m.rng.choice((1, 2, 3, 4, 5, 7, 9)), channels()
    if kind == "vector":
        return batch, channels()
    return (batch, *(m.rng.choice((1, 2, 3, 5, 8, 17)) for _ in range(m.rng.randrange(4))))


def make_case(family: str, seed: int) -> Case:
    """The graph of a family with a seed. Nodes that no output needs are a part of it."""
    kind = FAMILIES[family]
    m = Maker(f"{family} {seed}", kind.channels, kind.dynamic)
    batch = m.rng.choice((1, 1, 2, 3))
    for _ in range(m.rng.choice((1, 1, 2, 3))):
        shape = _shape(m, m.rng.choice(kind.inputs), batch)
        m.data(shape, FLOAT16 if m.chance(0.08) else FLOAT32)
    steps, weights = list(kind.steps), list(kind.steps.values())
    wanted, made = m.rng.randint(*kind.length), 0
    for _ in range(wanted * 6):
        made += m.attempt(m.rng.choices(steps, weights)[0])
        if made >= wanted:
            break
    graph = _finish(m)
    return Case(f"{family} {seed}", graph, _runs(m, graph))


def _finish(m: Maker) -> ModelGraph:
    """Chooses outputs, mostly the last results; sometimes one that is read, an input, or one of them twice."""
    read = {v for node in m.nodes for v in node.inputs}
    made = {v for node in m.nodes for v in node.outputs}
    computed = [v for v in m.pool if v in made]
    ends = [v for v in computed if v not in read] or computed or list(m.inputs)
    outputs = ends[-m.rng.choice((1, 2, 3, 4)) :]
    inner = [v for v in computed if v in read]
    if inner and m.chance(0.35):
        outputs.append(m.rng.choice(inner))
    if m.chance(0.06):
        outputs.append(m.rng.choice(m.inputs))
    if m.chance(0.06):
        outputs.append(m.rng.choice(outputs))
    m.rng.shuffle(outputs)
    names: list[str] = []
    for k, v in enumerate(outputs):
        plain = v.name and v.name not in names and v not in m.inputs and m.chance(0.7)
        names.append(v.name if plain else f"out{k}")
    nodes = reorder(m.nodes, m.rng) if m.chance(0.7) else list(m.nodes)
    return ModelGraph(nodes, list(m.inputs), outputs, names)


def reorder(nodes: Sequence[Node], rng: random.Random) -> list[Node]:
    """The nodes in another order in which each stands behind those that it reads."""
    made = {v: node for node in nodes for v in node.outputs}
    waiting = {id(node): len({id(made[v]) for v in node.inputs if v in made}) for node in nodes}
    readers: dict[int, list[Node]] = {}
    for node in nodes:
        for parent in {id(made[v]): made[v] for v in node.inputs if v in made}:
            readers.setdefault(parent, []).append(node)
    ready = [node for node in nodes if not waiting[id(node)]]
    ordered = []
    while ready:
        node = ready.pop(rng.randrange(len(ready)))
        ordered.append(node)
        for reader in readers.get(id(node), []):
            waiting[id(reader)] -= 1
            if not waiting[id(reader)]:
                ready.append(reader)
    return ordered


def _runs(m: Maker, graph: ModelGraph) -> list[Values]:
    """Inputs of the first run; where shapes change, of two more: with other batches, perhaps with larger images.

    Where the graph does not allow that, images keep their size, or there are fewer runs.
    """
    runs = [{v.name: m.values[v] for v in graph.inputs}]
    if not m.dynamic:
        return runs
    for k, batch in enumerate(m.rng.sample((1, 2, 3, 4, 5), 2)):
        for longer in (m.rng.choice((0, 1, 2, 3)), 0):
            made = _other_shapes(m, graph, k + 1, batch, longer)
            try:
                run_reference(graph, made)
            except LiteError:
                continue
            runs.append(made)
            break
    return runs


def _other_shapes(m: Maker, graph: ModelGraph, k: int, batch: int, longer: int) -> Values:
    made = {}
    for v in graph.inputs:
        if v.name in m.choices:
            made[v.name] = m.choices[v.name][k % len(m.choices[v.name])]
            continue
        rest = [d + longer if len(v.shape) == 4 and axis > 1 else d for axis, d in enumerate(v.shape)]
        made[v.name] = m.random((batch, *rest[1:]), v.dtype)
    return made


def used_graph(graph: ModelGraph, order: random.Random | None = None) -> ModelGraph:
    """A copy without the nodes that no output needs, in another order where ``order`` is given."""
    nodes = reorder(graph.nodes, order) if order else list(graph.nodes)
    copy = ModelGraph(nodes, list(graph.inputs), list(graph.outputs), list(graph.output_names))
    copy.remove_dead()
    return copy
