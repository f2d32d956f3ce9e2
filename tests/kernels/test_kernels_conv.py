"""Every algorithm of float32 convolution, on every instruction set, against sums in double precision."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from support.channel_blocks import block_channels, unblock_channels
from support.graphs import GraphBuilder, check_graph
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, relative_error, run_node

from megengine_lite._core.cpu.algorithms.convolution import (
    CONV_F32,
)
from megengine_lite._core.cpu.kernel_set import KernelSet, kernel_set
from megengine_lite._core.cpu.packing.float32 import (
    pack_direct,
    pack_winograd,
    winograd_filter_matrix,
)
from megengine_lite._core.ir.fused import Activation, ActivationCode, FusedConv
from megengine_lite._core.ir.params import Convolution, Convolution3D, ConvolutionSparse
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite.errors import LiteValueError
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS

A = ActivationCode
ALGORITHMS = {a.name: a for a in CONV_F32}


def case(n, c, h, w, oc, k, *, s=1, p=0, d=1, g=1, act=A.NONE, a=0.0, b=0.0, bias=True, z=False, mirrored=False):
    k, s, p, d = ((v, v) if isinstance(v, int) else v for v in (k, s, p, d))
    params = FusedConv(*p, *s, *d, g, mirrored, bias, z, Activation(act, a, b))
    return SimpleNamespace(n=n, c=c, h=h, w=w, oc=oc, k=k, params=params)


DENSE = {
    "3x3": case(1, 16, 9, 11, 32, 3, p=1),
    "odd channels": case(2, 21, 7, 6, 37, 3, p=1, act=A.RELU),
    "residual": case(1, 40, 14, 14, 24, 3, p=1, z=True, act=A.RELU),
    "no bias": case(1, 8, 5, 29, 70, 3, bias=False),
    "pad 2": case(1, 8, 6, 5, 16, 3, p=2, act=A.SILU),
    "mirrored": case(1, 6, 8, 8, 10, 3, p=1, mirrored=True),
    "one pixel": case(1, 20, 3, 3, 20, 3),
    "two images": case(2, 20, 9, 12, 24, 3, p=1),
}
OTHER = {
    "1x1": case(2, 24, 7, 7, 40, 1, z=True, act=A.CLIP, a=-1.0, b=2.0),
    "1x1 padded": case(1, 5, 6, 9, 13, 1, p=1),
    "1x1 stride 2": case(1, 24, 9, 9, 16, 1, s=2),
    "5x3 stride 2x1": case(1, 16, 11, 30, 16, (5, 3), s=(2, 1), p=(2, 0), act=A.H_SWISH),
    "dilated": case(1, 16, 12, 13, 24, 3, p=(2, 3), d=(2, 3), act=A.GELU),
    "stride 3": case(1, 9, 17, 22, 8, 4, s=3, p=1, act=A.SIGMOID),
    "4 groups": case(1, 64, 8, 9, 32, 3, p=1, g=4, act=A.TANH),
    "odd groups": case(2, 15, 8, 9, 20, 3, p=1, g=5, act=A.LEAKY_RELU, a=0.1),
    "multiplier": case(1, 16, 8, 9, 32, 3, p=1, g=16),
    "groups that leave one": case(2, 7 * 24, 8, 9, 7 * 24, 3, p=1, g=7, act=A.RELU, z=True),
    "groups that leave one, 1x1": case(1, 5 * 8, 12, 12, 5 * 24, 1, g=5, act=A.SILU, z=True),
    "groups that leave three": case(1, 11 * 4, 9, 7, 11 * 12, 3, s=2, p=1, g=11),
    "groups that leave five, one row": case(2, 21 * 2, 1, 40, 21 * 2, (1, 5), p=(0, 2), g=21, bias=False, z=True),
    "groups that share blocks": case(1, 5 * 24, 9, 15, 5 * 24, 3, p=1, g=5, act=A.RELU, z=True),
    "groups of 10": case(2, 120, 7, 9, 120, 3, s=2, p=1, g=12, bias=False),
    "groups that widen": case(1, 8 * 3, 6, 9, 8 * 40, 1, g=8, act=A.SILU, z=True),
    "groups that narrow": case(1, 3 * 40, 6, 9, 3 * 12, 3, p=1, g=3),
    "long row": case(1, 4, 1, 700, 8, (1, 9), p=(0, 4), act=A.H_SIGMOID),
}
COLUMN = {
    "column": case(1, 24, 70, 1, 40, (5, 1), p=(2, 0), act=A.RELU, z=True),
    "column stride 3 dilated": case(2, 16, 61, 1, 8, (3, 1), s=(3, 2), d=(4, 5), p=(1, 0)),
    "column in groups": case(1, 32, 33, 1, 64, (3, 1), g=4, bias=False),
    "column of 1x1": case(1, 20, 90, 1, 33, 1),
    "column padded at its sides": case(1, 16, 20, 1, 16, (3, 1), p=(1, 1)),
    "column under a wide filter": case(1, 16, 20, 1, 16, 3, p=1),
}
IMAGE = {
    "7x7 stride 2": case(1, 3, 30, 31, 20, 7, s=2, p=3, act=A.RELU),
    "grey": case(2, 1, 9, 50, 33, 5, p=2, d=1),
    "patches": case(1, 3, 32, 48, 40, 16, s=16),
    "dilated": case(1, 4, 12, 12, 16, 3, p=2, d=2, z=True),
    "stride 1x3": case(1, 2, 12, 40, 8, 3, s=(1, 3), p=1, act=A.GELU),
    "two images": case(2, 4, 9, 12, 24, 3, p=1),
}
DEPTHWISE = {
    "3x3": case(1, 40, 9, 30, 40, 3, p=1, g=40, act=A.CLIP, a=0.0, b=6.0),
    "stride 2": case(2, 16, 9, 15, 16, 3, s=2, p=1, g=16, z=True),
    "5x5": case(1, 10, 12, 7, 10, 5, p=2, g=10, act=A.H_SWISH),
    "dilated stride 3": case(1, 20, 22, 23, 20, 3, s=3, p=2, d=2, g=20, bias=False),
    "larger than the image": case(1, 20, 6, 9, 20, (13, 11), p=(6, 5), g=20, act=A.RELU, z=True),
    "larger than the image, stride 3": case(2, 16, 7, 8, 16, 15, s=3, p=8, g=16),
    "places that meet nothing": case(1, 16, 4, 4, 16, 3, s=(2, 3), p=9, d=7, g=16),
    "7x1": case(1, 33, 9, 5, 33, (7, 1), p=(3, 0), g=33, act=A.SILU),
    "column": case(2, 33, 70, 1, 33, (7, 1), p=(3, 0), g=33, act=A.SILU, z=True),
    "column stride 2": case(1, 16, 50, 1, 16, (5, 1), s=2, p=(1, 0), d=(2, 1), g=16),
    "stride 2x1 dilated 1x2": case(2, 20, 9, 12, 20, 3, s=(2, 1), p=1, d=(1, 2), g=20),
}
SMALL_GROUPS = {
    "pairs": case(2, 22, 9, 30, 22, 3, p=1, g=11, act=A.RELU, z=True),
    "fours": case(1, 44, 12, 13, 44, 3, s=2, p=1, g=11, act=A.H_SWISH),
    "eights": case(1, 40, 7, 29, 40, 3, p=1, g=5, bias=False, z=True, act=A.CLIP, a=-1.0, b=1.0),
    "dilated 5x3": case(1, 32, 16, 9, 32, (5, 3), s=(1, 2), p=(4, 3), d=(2, 3), g=8, mirrored=True),
    "column": case(1, 24, 50, 1, 24, (5, 1), p=(2, 0), g=6, act=A.SILU),
    "1x1": case(1, 16, 5, 5, 16, 1, g=8),
}
# Groups of one and a half channel blocks: how many, and the rest of a case.
HALVES = {
    "two": (2, (2, 9, 14, 3), {"p": 1, "act": A.RELU, "z": True}),
    "one left over": (3, (1, 7, 30, 3), {"p": 1, "act": A.H_SWISH, "z": True}),
    "stride 2": (5, (1, 11, 29, 3), {"s": 2, "p": 1, "bias": False}),
    "stride 3 dilated": (4, (1, 16, 30, (5, 3)), {"s": (2, 3), "p": (4, 3), "d": (2, 3), "mirrored": True}),
    "column": (2, (1, 50, 1, (5, 1)), {"p": (2, 0), "act": A.SILU}),
    "1x1": (4, (1, 5, 5, 1), {}),
    **{f"rows of {w}": (2, (1, 2, w, 3), {"p": 1, "act": A.CLIP, "a": -1.0, "b": 1.0}) for w in range(1, 18)},
}
MOSTLY_PADDING = {
    "corners": case(1, 40, 10, 11, 24, 3, p=7, d=7, act=A.RELU),
    "residual": case(2, 33, 9, 9, 40, 3, p=6, d=6, z=True, act=A.SILU),
    "middle only": case(1, 32, 8, 8, 16, 3, p=9, d=9, act=A.CLIP, a=-1.0, b=1.0),
    "stride 2": case(1, 48, 12, 13, 20, 3, s=2, p=8, d=8, bias=False),
    "a row": case(1, 32, 1, 12, 16, (3, 3), p=(4, 8), d=(4, 8), mirrored=True),
    "two that meet everything": case(1, 32, 6, 7, 24, (2, 3), p=(0, 5), d=(1, 5), z=True),
}
DILATED = {
    "even phases": case(1, 24, 12, 16, 40, 3, p=2, d=2, act=A.RELU),
    "uneven phases": case(2, 40, 11, 13, 33, 3, p=2, d=2, z=True, act=A.SILU),
    "other rows than columns": case(1, 16, 14, 9, 16, 3, p=(3, 4), d=(3, 4), mirrored=True),
    "rows only": case(1, 17, 13, 12, 20, 3, p=(2, 1), d=(2, 1), bias=False),
    "not padded": case(1, 16, 17, 14, 24, 3, d=(3, 2), act=A.CLIP, a=-1.0, b=1.0),
    "padded twice": case(1, 16, 7, 9, 16, 3, p=(4, 2), d=(2, 2), z=True),
    "phases without pixels": case(1, 16, 3, 40, 16, 3, p=(5, 6), d=(5, 6)),
    "all phases": case(1, 8, 19, 20, 8, 3, p=6, d=6),
}
CASES = [
    *[("conv_direct_f32", k, v) for k, v in {**DENSE, **OTHER, **COLUMN, **IMAGE}.items()],
    *[("conv_direct_f32", k, v) for k, v in MOSTLY_PADDING.items()],
    *[("conv_taps_f32", k, v) for k, v in MOSTLY_PADDING.items()],
    *[("conv_plain_f32", k, v) for k, v in {**DENSE, **OTHER, **COLUMN, **IMAGE, **DEPTHWISE}.items()],
    *[(f"conv_winograd{m}_f32", k, v) for m in (2, 4) for k, v in DENSE.items()],
    *[(f"conv_dilated_winograd{m}_f32", k, v) for m in (2, 4) for k, v in DILATED.items()],
    *[("conv_first_f32", k, v) for k, v in IMAGE.items()],
    *[("conv_depthwise_f32", k, v) for k, v in DEPTHWISE.items()],
]
FUNCTIONS = {
    A.NONE: lambda y, a, b: y,
    A.RELU: lambda y, a, b: np.maximum(y, 0),
    A.CLIP: np.clip,
    A.SIGMOID: lambda y, a, b: 1 / (1 + np.exp(-y)),
    A.H_SWISH: lambda y, a, b: y * np.clip(y + 3, 0, 6) / 6,
    A.SILU: lambda y, a, b: y / (1 + np.exp(-y)),
    A.H_SIGMOID: lambda y, a, b: np.clip(y + 3, 0, 6) / 6,
    A.TANH: lambda y, a, b: np.tanh(y),
    A.GELU: lambda y, a, b: y * (1 + np.vectorize(math.erf)(y / math.sqrt(2))) / 2,
    A.LEAKY_RELU: lambda y, a, b: np.where(y > 0, y, a * y),
}


def convolve(x, w, stride, pad, dilate):
    """Cross-correlation in float64; x (n, c, *space), w (groups, oc, ic, *kernel), any number of dimensions."""
    groups, oc, ic, *kernel = w.shape
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), *((p, p) for p in pad)])
    space = x.shape[2:]
    out = [(i - d * (k - 1) - 1) // s + 1 for i, k, s, d in zip(space, kernel, stride, dilate, strict=True)]
    x = x.reshape(x.shape[0], groups, ic, *space)
    y = np.zeros((x.shape[0], groups, oc, *out))
    for tap in np.ndindex(*kernel):
        cut = tuple(
            slice(t * d, t * d + (o - 1) * s + 1, s) for t, d, o, s in zip(tap, dilate, out, stride, strict=True)
        )
        y += np.einsum("ngi...,goi->ngo...", x[(..., *cut)], w[(..., *tap)].astype(np.float64))
    return y.reshape(x.shape[0], groups * oc, *out)


def arrays(c, seed=0):
    """Inputs of a case: of unit size, with filters scaled so that results are too."""
    rng = np.random.default_rng(seed)
    p = c.params
    ic = c.c // p.groups
    shape = (c.oc, ic, *c.k) if p.groups == 1 else (p.groups, c.oc // p.groups, ic, *c.k)
    x = rng.standard_normal((c.n, c.c, c.h, c.w)).astype(np.float32)
    w = (rng.standard_normal(shape) / math.sqrt(ic * math.prod(c.k))).astype(np.float32)
    inputs = [x, w]
    if p.has_bias:
        inputs.append(rng.standard_normal((1, c.oc, 1, 1)).astype(np.float32))
    plain = w.reshape(p.groups, -1, ic, *c.k)
    plain = plain[..., ::-1, ::-1] if p.mirrored else plain
    geometry = (p.stride_h, p.stride_w), (p.pad_h, p.pad_w), (p.dilate_h, p.dilate_w)
    expected = convolve(x, plain, *geometry)
    if p.has_bias:
        expected += inputs[2]
    if p.has_z:
        inputs.append(rng.standard_normal(expected.shape).astype(np.float32))
        expected += inputs[-1]
    return inputs, FUNCTIONS[p.activation.code](expected, p.activation.a, p.activation.b)


def run(c, inputs, isa, threads, algorithm=None):
    constants = {1, 2} if c.params.has_bias else {1}
    forced = {"conv_f32": algorithm} if algorithm else {}
    return run_node("FusedConv", c.params, inputs, constants, isa, threads, forced=forced)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("name", "label", "c"), CASES, ids=[f"{n}-{k}" for n, k, _ in CASES])
def test_algorithm_agrees_with_definition(name, label, c, isa):
    check_algorithm(c, name, isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("label", SMALL_GROUPS)
def test_small_groups_share_channel_blocks(label, isa):
    c = SMALL_GROUPS[label]
    if c.c // c.params.groups < kernel_set(isa).width:
        check_algorithm(c, "conv_group_f32", isa)
    else:
        with pytest.raises(LiteValueError, match="fewer than a channel block"):
            run(c, arrays(c)[0], isa, 1, "conv_group_f32")


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("label", HALVES)
def test_two_groups_share_a_channel_block(label, isa):
    groups, (n, h, w, k), others = HALVES[label]
    channels = groups * 3 * kernel_set(isa).width // 2
    check_algorithm(case(n, channels, h, w, channels, k, g=groups, **others), "conv_halves_f32", isa)


def check_algorithm(c, name, isa):
    inputs, expected = arrays(c)
    results = []
    for threads in (1, 3):
        actual, kernels = run(c, inputs, isa, threads, name)
        assert (ALGORITHMS[name].kernel or name) in kernels
        assert relative_error(actual, expected) <= ALGORITHMS[name].error
        results.append(actual)
    np.testing.assert_array_equal(*results)  # reproducible: the number of threads does not change a bit


@pytest.mark.parametrize(("label", "calls"), [("corners", 10), ("middle only", 1), ("two that meet everything", 6)])
def test_taps_in_padding_are_not_computed(label, calls):
    """One call for each tap that meets the image, and two for the only one that meets all of it."""
    c = MOSTLY_PADDING[label]
    _, kernels = run(c, arrays(c)[0], "base", 1, "conv_taps_f32")
    assert kernels.count("conv_direct_f32") == calls


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ["conv_direct_f32", "conv_taps_f32"])
def test_taps_are_added_up_between_halos(name, isa):
    """Input and output have the halos that the neighbours want, with memory full of NaN before."""
    b, rng = GraphBuilder(), np.random.default_rng(3)

    def conv(x, ic, oc, **window):
        weight = b.constant((rng.standard_normal((oc, ic, 3, 3)) / math.sqrt(9 * ic)).astype(np.float32))
        return b.node("Convolution", Convolution(**window), [x, weight])

    x = b.input("x", (2, 8, 9, 10))
    first = conv(x, 8, 40, pad_h=1, pad_w=1)
    middle = conv(first, 40, 48, pad_h=6, pad_w=6, dilate_h=6, dilate_w=6)
    graph = b.finish(conv(middle, 48, 16, pad_h=1, pad_w=1), conv(first, 40, 8, pad_h=1, pad_w=1))
    forced = AlgoPolicy(forced={"conv_f32": "conv_direct_f32"}) if name == "conv_direct_f32" else AlgoPolicy()
    check_graph(graph, {"x": rng.standard_normal((2, 8, 9, 10), dtype=np.float32)}, isa=isa, threads=2, algo=forced)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", ["conv_direct_f32", "conv_winograd4_f32", "conv_winograd2_f32"])
def test_result_of_an_image_does_not_depend_on_its_batch(name, isa):
    c = case(3, 24, 13, 13, 40, 3, p=1)
    inputs, _ = arrays(c)
    together, _ = run(c, inputs, isa, 2, name)
    c.n = 1
    for k in range(3):
        alone, _ = run(c, [inputs[0][k : k + 1].copy(), *inputs[1:]], isa, 1, name)
        np.testing.assert_array_equal(together[k : k + 1], alone)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_deep_winograd_stays_within_its_error_bound(isa):
    c = case(1, 512, 14, 14, 32, 3, p=1)
    inputs, expected = arrays(c)
    actual, _ = run(c, inputs, isa, 1, "conv_winograd4_f32")
    assert relative_error(actual, expected) <= ALGORITHMS["conv_winograd4_f32"].error


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_nan_reaches_the_outputs_that_read_it_and_no_others(isa):
    c = case(1, 16, 12, 12, 16, 5, p=2)
    inputs, _ = arrays(c)
    inputs[0][0, 3, 6, 7] = np.nan
    actual, _ = run(c, inputs, isa, 1)
    expected = np.zeros((1, 16, 12, 12), bool)
    expected[:, :, 4:9, 5:10] = True
    np.testing.assert_array_equal(np.isnan(actual), expected)


# ---- three-dimensional, filters that are not constant ---------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution_of_volumes_agrees_with_definition(groups, isa):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 4, 5, 7, 53)).astype(np.float32)
    w = rng.standard_normal((groups, 6 // groups, 4 // groups, 2, 3, 3)).astype(np.float32)
    stride, pad, dilate = (2, 1, 2), (1, 0, 2), (1, 2, 1)
    params = Convolution3D(
        stride_d=2, stride_h=1, stride_w=2, pad_d=1, pad_h=0, pad_w=2, dilate_h=2, sparse=ConvolutionSparse(groups > 1)
    )
    actual, kernels = run_node("Convolution3D", params, [x, w if groups > 1 else w[0]], set(), isa, 2)
    assert kernels == ["conv_plain_f32"]
    assert relative_error(actual, convolve(x, w, stride, pad, dilate)) < 1e-5


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_filter_may_be_computed(isa):
    rng = np.random.default_rng(3)
    x, w = rng.standard_normal((1, 6, 9, 20)).astype(np.float32), rng.standard_normal((8, 6, 3, 3)).astype(np.float32)
    actual, kernels = run_node("Convolution", Convolution(pad_h=1, pad_w=1), [x, w], set(), isa, 2)
    assert kernels == ["conv_plain_f32"]
    assert relative_error(actual, convolve(x, w[None], (1, 1), (1, 1), (1, 1))) < 1e-5


# ---- choice and packing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_choice_asks_the_kernels_of_the_session(monkeypatch, isa):
    asked = set()
    module = KernelSet.module
    monkeypatch.setattr(KernelSet, "module", lambda self, name: asked.add((self.name, name)) or module(self, name))
    for name, c in [("conv_winograd4_f32", DENSE["3x3"]), ("conv_plain_f32", DENSE["3x3"]),
                    ("conv_first_f32", IMAGE["grey"]), ("conv_depthwise_f32", DEPTHWISE["3x3"])]:  # fmt: skip
        run(c, arrays(c)[0], isa, 1, name)
    modules = ("conv_first", "conv_plain", "conv_winograd", "pack_tiles", "pack_winograd")
    assert asked == {(isa, name) for name in (*modules, "probe")}  # which says what activations there are


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("m", [2, 4])
def test_winograd_filter_matrix_evaluates_polynomials(m, isa):
    # Rows are the filter's polynomial at the points, scaled; the last is its leading coefficient (the point infinity).
    g = winograd_filter_matrix(kernel_set(isa).module("conv_winograd").POINT_SQUARES[m])
    assert g.shape == (m + 2, 3)
    np.testing.assert_array_equal(g[-1], [0, 0, 1])
    for row in g[1:-1]:
        point = row[1] / row[0]
        np.testing.assert_allclose(row / row[0], [1, point, point**2])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("m", [2, 4])
@pytest.mark.parametrize(("oc", "ic"), [(1, 1), (13, 37), (40, 16), (64, 33)])
def test_winograd_filters_are_transformed(isa, m, oc, ic):
    kernels = kernel_set(isa)
    width, side, squares = kernels.width, m + 2, kernels.module("conv_winograd").POINT_SQUARES[m]
    matrix = winograd_filter_matrix(squares)
    w = np.random.default_rng(oc).standard_normal((1, oc, ic, 3, 3)).astype(np.float32)
    expected = np.zeros((-(-oc // width) * width, ic, side, side))
    expected[:oc] = matrix @ w[0].astype(np.float64) @ matrix.T
    packed = np.full(expected.size, np.nan, np.float32)
    GuardedCall(
        kernels, "pack_winograd_f32", work=kernels.module("pack_winograd").work_items(oc, ic), weight=w,
        matrix=matrix, y=packed, oc=oc, ic=ic, side=side, weights=0,
    ).run()  # fmt: skip
    tile = TILE_BLOCKS * width
    for first in range(0, len(expected), tile):
        channels = expected[first : first + tile]
        rows = packed[first * side**2 * ic :][: channels.size].reshape(side, side, ic, len(channels))
        np.testing.assert_allclose(rows, channels.transpose(2, 3, 1, 0), rtol=1e-6, atol=1e-7)
    for threads in (1, 3):
        np.testing.assert_array_equal(pack_winograd(w, m, kernels, threads), packed)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("h", "w", "joined", "chunks"),
    [(7, 7, 7, 1), (6, 1, 3, 1), (8, 2, 8, 3), (4, 5, 2, 1), (14, 14, 7, 2), (3, 50, 3, 1)],
)
def test_joined_rows_go_to_rows_with_a_halo(h, w, joined, chunks, isa):
    """Blocks of pixels that end in another row than they begin in; nothing is written beside the image."""
    kernels = kernel_set(isa)
    width, ic, oc = kernels.width, 5, 3 * kernels.width - 1
    rng = np.random.default_rng(h)
    x, z = (rng.standard_normal((1, c, h, w)).astype(np.float32) for c in (ic, oc))
    weight = rng.standard_normal((1, oc, ic, 1, 1)).astype(np.float32)
    blocks, row = -(-oc // width), (w + 4) * width
    y = np.full((1, blocks, h + 2, w + 4, width), 77, np.float32)
    GuardedCall(
        kernels, "conv_direct_f32", work=2 * h // joined * chunks, x=block_channels(x, width), bias=None, run=w,
        w=pack_direct(weight, kernels, 1), weights=0, z=block_channels(z, width), y=(y, row + 2 * width),
        x_row=joined * w * width, x_plane=h * w * width, x_image=0, z_row=joined * w * width, z_plane=h * w * width,
        z_image=0, y_pixel=width, y_row=row, y_plane=(h + 2) * row, y_image=0, groups=1, x_group=0, y_group=0, ic=ic,
        oc=oc, oh=h // joined, ow=joined * w, band=h // joined, chunks=chunks, kh=1, kw=1, stride_h=1, stride_w=1,
        dilate_h=1, dilate_w=1, pad_h=0, pad_w=0, activation=int(A.RELU), act_a=0.0, act_b=0.0,
    ).run()  # fmt: skip
    expected = np.maximum(np.einsum("oi,nihw->nohw", weight[0, :, :, 0, 0], x) + z, 0)
    np.testing.assert_allclose(unblock_channels(y, oc, 1, 2), expected, rtol=1e-5, atol=1e-5)
    y[:, :, 1:-1, 2:-2] = 77
    assert (y == 77).all()


def test_blocked_layout_round_trip():
    x = np.random.default_rng(4).standard_normal((2, 5, 3, 4)).astype(np.float32)
    blocked = block_channels(x, 4, 1, 2)
    assert blocked.shape == (2, 2, 5, 8, 4)
    assert not blocked[:, 1, :, :, 1:].any() and not blocked[:, :, 0].any() and not blocked[..., :2, :].any()
    np.testing.assert_array_equal(unblock_channels(blocked, 5, 1, 2), x)


# ---- the convolution of arrays -------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_convolution_of_arrays(isa):
    width = kernel_set(isa).width
    conv_direct = kernel_set(isa).module("conv_direct").conv_direct
    rng = np.random.default_rng(5)
    x = rng.standard_normal((2, 20, 9, 12)).astype(np.float32)
    w = rng.standard_normal((1, 24, 20, 3, 3)).astype(np.float32)
    blocked, packed = block_channels(x, width, 1, 1), pack_direct(w, kernel_set(isa))
    for stride, dilate in [((1, 1), (1, 1)), ((2, 1), (1, 2))]:
        y = conv_direct(blocked, packed, w.shape, stride, dilate)
        assert relative_error(unblock_channels(y, 24), convolve(x, w, stride, (1, 1), dilate)) < 1e-5


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_convolution_of_images_in_nchw44_and_nchw88(isa):
    """The layout that relayout gives is the one that the convolution takes, where blocks are as wide as vectors."""
    width = kernel_set(isa).width
    relayout, conv_direct = kernel_set(isa).module("relayout"), kernel_set(isa).module("conv_direct").conv_direct
    rng = np.random.default_rng(6)
    x = rng.standard_normal((2, 20, 9, 12)).astype(np.float32)
    w = rng.standard_normal((1, 24, 20, 3, 3)).astype(np.float32)
    blocked = np.full((2, -(-20 // width), 9, 12, width), np.nan, np.float32)
    relayout.nchw_to_packed(x, blocked)
    result = conv_direct(blocked, pack_direct(w, kernel_set(isa)), w.shape, (1, 1), (1, 1))
    y = np.full((2, 24, 7, 10), np.nan, np.float32)
    relayout.packed_to_nchw(result, y)
    assert relative_error(y, convolve(x, w, (1, 1), (0, 0), (1, 1))) < 1e-5


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_arrays_that_do_not_fit_are_refused(isa):
    width = kernel_set(isa).width
    x = np.zeros((1, 1, 6, 6, width), np.float32)
    packed = np.zeros(width * width * 9, np.float32)
    direct = kernel_set(isa).module("conv_direct").conv_direct
    with pytest.raises(ValueError, match="blocks"):
        direct(x, packed, (1, width, 2 * width, 3, 3), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="size"):
        direct(x, packed[1:], (1, width, width, 3, 3), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="fit"):
        direct(x, packed, (1, width, width, 3, 3), (1, 1), (4, 4))
    with pytest.raises(ValueError, match="1 or more"):
        direct(x, packed, (1, width, width, 3, 3), (0, 1), (1, 1))
    with pytest.raises(ValueError, match="multiples"):
        direct(np.zeros((1, 2, 6, 6, width), np.float32), packed, (2, width, width - 1, 3, 3), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="contiguous"):
        direct(np.repeat(x, 2, axis=3)[:, :, :, ::2], packed, (1, width, width, 3, 3), (1, 1), (1, 1))
    with pytest.raises(ValueError, match="dtype"):
        direct(x.astype(np.float64), packed, (1, width, width, 3, 3), (1, 1), (1, 1))
