"""Convolutions of float32: which algorithm the estimates choose, and how algorithms divide their work."""

import math

import numpy as np
import pytest
from support.one_node import INSTRUCTION_SETS

from megengine_lite._core.cpu.algorithms.algorithm import candidates, choose
from megengine_lite._core.cpu.algorithms.convolution import (
    CONV_F32,
    ConvProblem,
    GroupRun,
    WinogradPlan,
    group_parts,
    group_runs,
)
from megengine_lite._core.cpu.algorithms.phases import PhasePlan
from megengine_lite._core.cpu.kernel_call import KernelCall
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower.conv_direct import read_bytes, rows_in_band
from megengine_lite._core.cpu.packing.float32 import merge_groups
from megengine_lite._core.ir.fused import FusedConv
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite._records import replace
from megengine_lite.errors import LiteValueError

ALGORITHMS = {a.name: a for a in CONV_F32}
COMMON = ConvProblem(
    n=1, groups=1, ic=64, oc=64, ih=56, iw=56, oh=56, ow=56, kh=3, kw=3, stride_h=1, stride_w=1, dilate_h=1, dilate_w=1,
    pad_h=1, pad_w=1, kernels=kernel_set(INSTRUCTION_SETS[0]), plain_input=False,
)  # fmt: skip
NODE = Node("FusedConv", FusedConv(0, 0, 1, 1, 1, 1, 1), (), (), "layer")


def problem(**changes):
    return replace(COMMON, **changes)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "conv_winograd4_f32"),
        ({"ic": 512, "oc": 512, "ih": 6, "iw": 6, "oh": 6, "ow": 6}, "conv_winograd2_f32"),
        ({"kh": 1, "kw": 1, "pad_h": 0, "pad_w": 0}, "conv_direct_f32"),
        ({"stride_h": 2, "stride_w": 2, "oh": 28, "ow": 28}, "conv_direct_f32"),
        ({"groups": 64, "ic": 1, "oc": 1}, "conv_depthwise_f32"),
        ({"ic": 3, "kh": 7, "kw": 7, "plain_input": True}, "conv_first_f32"),
        ({"groups": 97, "ic": 3, "oc": 5}, "conv_plain_f32"),
        ({"groups": 32, "ic": 2, "oc": 2}, "conv_group_f32"),
        (
            {"pad_h": 24, "pad_w": 24, "dilate_h": 24, "dilate_w": 24, "ih": 32, "iw": 32, "oh": 32, "ow": 32},
            "conv_taps_f32",
        ),
        ({"pad_h": 4, "pad_w": 4, "dilate_h": 4, "dilate_w": 4}, "conv_dilated_winograd4_f32"),
        ({"pad_h": 4, "pad_w": 4, "dilate_h": 4, "dilate_w": 4, "ic": 8, "oc": 8}, "conv_direct_f32"),
    ],
)
def test_heuristic_chooses(changes, name, isa):
    assert choose(CONV_F32, problem(kernels=kernel_set(isa), **changes), AlgoPolicy(), 1, NODE).name == name


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("groups", [2, 3, 38])
def test_heuristic_takes_two_groups_of_one_and_a_half_blocks_at_once(groups, isa):
    kernels = kernel_set(isa)
    p = problem(kernels=kernels, groups=groups, ic=3 * kernels.width // 2, oc=3 * kernels.width // 2)
    assert choose(CONV_F32, p, AlgoPolicy(), 1, NODE).name == "conv_halves_f32"


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_cost_and_scratch_are_those_of_the_instruction_set(isa):
    kernels = kernel_set(isa)
    p = problem(kernels=kernels)
    assert p.width == kernels.width
    tiles = WinogradPlan.make(p, 4).tiles
    assert ALGORITHMS["conv_winograd4_f32"].scratch(p) == kernels.module("conv_winograd").scratch_bytes(4, 64, tiles)
    plain = kernels.module("conv_plain")
    part = plain.row_part(56, 56, 3, 1, 1, 1)
    assert part >= 58  # the row with its padding
    assert ALGORITHMS["conv_plain_f32"].scratch(p) == plain.scratch_bytes(64 * 3, 3, 1, part) > 4 * 64 * 3 * part


def test_workspace_limit_excludes_algorithms():
    allowed = candidates(CONV_F32, problem(), AlgoPolicy(workspace_limit=0), 2)
    assert [a.name for a in allowed] == ["conv_direct_f32"]
    with pytest.raises(LiteValueError, match="workspace"):
        only = replace(CONV_F32, algorithms=(ALGORITHMS["conv_winograd4_f32"],))
        choose(only, problem(), AlgoPolicy(workspace_limit=1000), 1, NODE)


def test_winograd_plan_gives_every_thread_the_same_work():
    for threads in (1, 2, 3, 4):
        for size in (7, 14, 28, 56):
            p = problem(ic=256, oc=256, oh=size, ow=size)
            plan = WinogradPlan.make(p, 4, threads)
            assert plan.tile_blocks * plan.parts % threads == 0
            assert plan.tiles * plan.tile_blocks >= math.ceil(size / 4) ** 2


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_winograd_runs_are_longer_where_weights_are_many(isa):
    """With 512 channels 8 of 81 tiles fit the cache, but each run reads 38 MB of weights."""
    kernels = kernel_set(isa)
    sizes = {"kernels": kernels, "oh": 36, "ow": 36}
    few, many = (WinogradPlan.make(problem(ic=c, oc=c, **sizes), 4) for c in (64, 512))
    assert few.tile_blocks == 3
    assert many.tile_blocks == (3 if kernels.width > 4 else 11)  # narrow vectors read inputs more often than weights


def test_bands_of_rows_are_those_that_read_the_least():
    image, weights = 4 * 1024 * 14 * 14, 4 * 1024 * 2048
    pointwise = problem(kh=1, kw=1, stride_h=2, stride_w=2)
    assert read_bytes(pointwise, image) == image // 4
    assert read_bytes(problem(stride_h=2, stride_w=2), image) == read_bytes(problem(), image) == image
    assert rows_in_band(7, 64, read_bytes(pointwise, image), weights) == 7  # inputs fit the cache: weights once
    assert rows_in_band(7, 2, image, weights) == 7
    assert rows_in_band(56, 8, 8 << 20, 64 << 10) == 1  # weights fit the cache, inputs do not: inputs once
    assert 1 < rows_in_band(56, 8, 2 << 20, 64 << 10) < 56


def test_phases_of_a_dilated_convolution_lie_apart():
    p = problem(ih=33, iw=30, oh=33, ow=30, pad_h=2, pad_w=3, dilate_h=2, dilate_w=3)
    plan = PhasePlan.make(p)
    whole = plan.problem
    assert (whole.ih, whole.iw, whole.oh, whole.ow) == (35, 32, 35, 32)
    assert whole.dilate_h == whole.dilate_w == whole.pad_h == whole.pad_w == 1
    taken = np.zeros((whole.ih + 2, whole.iw + 2), int)
    seen = np.zeros((p.ih, p.iw), int)
    for phase in plan.phases(p.ih, p.iw):
        rows, columns = phase.rows, phase.columns
        seen[phase.row :: 2, phase.column :: 3] += 1
        assert seen[phase.row :: 2, phase.column :: 3].shape == (rows, columns)
        taken[phase.top : phase.top + rows + 2, phase.left : phase.left + columns + 2] += 1  # with what is around it
        taken[phase.top + 1 : phase.top + 1 + rows, phase.left + 1 : phase.left + 1 + columns] += 10
    assert (seen == 1).all()
    assert set(np.unique(taken[taken >= 10])) == {11}  # no pixel lies in what is around another phase


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_merged_groups_end_at_channel_blocks(isa):
    kernels = kernel_set(isa)
    width = kernels.width

    def runs(groups, ic, oc):
        return group_runs(problem(kernels=kernels, groups=groups, ic=ic, oc=oc))

    assert runs(4, width, 2 * width) == [GroupRun(0, 4, 1)]
    assert runs(32, width // 4, width // 4) == [GroupRun(0, 8, 4)]
    assert runs(5, width // 2, 3 * width // 2) == [GroupRun(0, 2, 2), GroupRun(4, 1, 1)]
    assert runs(4 * 9 + 3, width // 4, width) == [GroupRun(0, 9, 4), GroupRun(36, 1, 3)]
    assert runs(3, 3, 5) == [GroupRun(0, 1, 3)]
    w = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2, 1, 1) + 1
    merged = merge_groups(w, 2)[0, :, :, 0, 0]
    np.testing.assert_array_equal(merged[:3, :2], w[0, :, :, 0, 0])
    np.testing.assert_array_equal(merged[3:, 2:], w[1, :, :, 0, 0])
    assert not merged[:3, 2:].any() and not merged[3:, :2].any()
    np.testing.assert_array_equal(merge_groups(w, 2, range(2, 4), range(1, 4))[0, :, :, 0, 0], merged[2:4, 1:4])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_parts_of_merged_groups_read_the_blocks_that_they_need(isa):
    kernels = kernel_set(isa)
    width = kernels.width

    def parts(groups, ic, oc):
        p = problem(kernels=kernels, groups=groups, ic=ic, oc=oc)
        (run,) = group_runs(p)
        return [(q.outputs, q.inputs) for q in group_parts(p, run)]

    half = width // 2
    assert parts(3, width, 2 * width) == [(range(2 * width), range(width))]
    assert parts(2, 3 * half, 3 * half) == [
        (range(width), range(3 * half)),
        (range(width, 2 * width), range(3 * width)),
        (range(2 * width, 3 * width), range(width, 3 * width)),
    ]
    assert parts(2, 5 * half, 5 * half) == [
        (range(2 * width), range(5 * half)),
        (range(2 * width, 3 * width), range(5 * width)),
        (range(3 * width, 5 * width), range(2 * width, 5 * width)),
    ]
    assert parts(width, 1, 2) == [
        (range(width), range(half)),
        (range(width, 2 * width), range(half // width * width, width)),
    ]


def test_kernel_call_checks_argument_names():
    with pytest.raises(TypeError, match="stride_w"):
        KernelCall(kernel_set(), "conv_plain_f32", work=1, x=None)
    assert replace(problem(), n=3).products == 3 * problem().products
