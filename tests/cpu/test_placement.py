"""Concatenations along channels: operands are computed in their place or copied there, in every order of the nodes."""

import itertools

import numpy as np
import pytest
from support.graphs import GraphBuilder, check_graph
from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.params import Axis, Convolution, Elemwise, ElemwiseMode, Pooling
from megengine_lite._core.ir.params import IndexDescMaskDump as Index
from megengine_lite._core.ir.params import IndexDescMaskItem as Item

RNG = np.random.default_rng(11)
SIZE = 5


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


class Images(GraphBuilder):
    """Graphs of images of (2, channels, 5, 5)."""

    def __init__(self):
        super().__init__()
        self.counts = {}

    def image(self, name, channels):
        var = self.input(name, (2, channels, SIZE, SIZE))
        self.counts[var] = channels
        return var

    def conv(self, x, channels, k=3):
        weight = self.constant(normal(channels, self.counts[x], k, k) * 0.2)
        return self._made("Convolution", Convolution(pad_h=k // 2, pad_w=k // 2), [x, weight], channels)

    def relu(self, x):
        return self._made("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [x], self.counts[x])

    def add(self, x, y):
        return self._made("Elemwise", Elemwise(mode=ElemwiseMode.ADD), [x, y], self.counts[x])

    def pool(self, x):
        window = dict.fromkeys(("window_h", "window_w"), 3)
        params = Pooling(**window, stride_h=1, stride_w=1, pad_h=1, pad_w=1)
        return self._made("Pooling", params, [x], self.counts[x])

    def concat(self, *parts):
        return self._made("Concat", Axis(axis=1), list(parts), sum(self.counts[p] for p in parts))

    def channels(self, x, begin, end):
        bounds = [self.constant(np.int32([k])) for k in (begin, end)]
        item = Item(axis=1, begin=True, end=True, step=False, idx=False)
        return self._made("Subtensor", Index(items=(item,)), [x, *bounds], end - begin)

    def halves(self, x):
        middle = self.counts[x] // 2
        return self.channels(x, 0, middle), self.channels(x, middle, self.counts[x])

    def _made(self, op, params, inputs, channels):
        var = self.node(op, params, inputs)
        self.counts[var] = channels
        return var


def check(builder, *outputs, **config):
    graph = builder.finish(*outputs)
    check_graph(graph, {v.name: normal(*v.shape) for v in graph.inputs}, **config)


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request):
    return request.param


@pytest.fixture(params=[0.5, 1, 1.5, 2])
def channels(request, isa):
    """Channels that fill no block, one, one and a half, and two."""
    return int(kernel_set(isa).width * request.param)


def test_halves_are_swapped(isa, channels):
    b = Images()
    a, c = b.halves(b.conv(b.image("x", 6), 2 * channels))
    check(b, b.concat(c, a), isa=isa)


def test_halves_of_two_tensors_are_joined_and_convolved(isa, channels):
    b = Images()
    x = b.image("x", 6)
    a, c = b.halves(b.conv(x, 2 * channels))
    d, e = b.halves(b.conv(x, 2 * channels, k=1))
    check(b, b.conv(b.concat(a, e), 7), b.relu(b.concat(d, c)), isa=isa)


def test_a_half_goes_through_a_branch_and_is_joined_with_the_other(isa, channels):
    b = Images()
    a, c = b.halves(b.conv(b.image("x", 6), 2 * channels))
    branch = b.relu(b.conv(c, channels))
    check(b, b.conv(b.concat(a, branch, c), 9), isa=isa)


def test_a_slice_is_joined_with_an_input(isa, channels):
    b = Images()
    y = b.conv(b.image("x", 6), 2 * channels)
    check(b, b.concat(b.image("z", channels), b.channels(y, 0, channels)), y, isa=isa)


def test_slices_of_a_concatenation_are_joined_again(isa, channels):
    b = Images()
    x = b.image("x", 6)
    whole = b.concat(b.conv(x, channels), b.conv(x, 2 * channels))
    a, c = b.channels(whole, 0, 2 * channels), b.channels(whole, 2 * channels, 3 * channels)
    check(b, b.concat(c, a), b.pool(whole), isa=isa)


def test_concatenations_within_concatenations(isa, channels):
    b = Images()
    x = b.image("x", 6)
    inner = b.concat(b.conv(x, channels), b.conv(x, channels))
    middle = b.concat(inner, b.conv(inner, channels, k=5))
    check(b, b.conv(b.concat(middle, b.pool(x)), 5), middle, isa=isa)


def test_an_operand_stands_twice(isa, channels):
    b = Images()
    y = b.conv(b.image("x", 6), channels)
    check(b, b.concat(y, y), b.concat(y, b.relu(y)), isa=isa)


def test_an_operand_belongs_to_two_concatenations(isa, channels):
    b = Images()
    x = b.image("x", 6)
    y, z = b.conv(x, channels), b.conv(x, channels)
    check(b, b.concat(y, z), b.conv(b.concat(z, y), 3), isa=isa)


def test_every_order_of_independent_nodes(isa):
    width = kernel_set(isa).width
    for order in itertools.permutations(range(4)):
        b = Images()
        x = b.image("x", width)
        y, z = b.relu(x), b.conv(x, width)
        made = {}
        steps = {
            0: lambda: b.concat(y, z),  # noqa: B023
            1: lambda: b.conv(y, width),  # noqa: B023
            2: lambda: b.conv(z, width, k=5),  # noqa: B023
            3: lambda: b.concat(z, b.add(y, z)),  # noqa: B023
        }
        for k in order:
            made[k] = steps[k]()
        check(b, *(made[k] for k in range(4)), isa=isa)


@pytest.mark.parametrize("threads", [1, 2])
def test_placed_operands_are_measured_by_themselves(isa, threads):
    from megengine_lite._core.session_config import AlgoPolicy

    b = Images()
    x = b.image("x", 6)
    width = kernel_set(isa).width
    parts = [b.conv(x, width), b.conv(x, 2 * width, k=1), b.conv(x, width)]
    policy = AlgoPolicy(heuristic=False, profile=True)
    check(b, b.conv(b.concat(*parts), width), isa=isa, threads=threads, algo=policy)
