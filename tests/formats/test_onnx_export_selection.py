"""Sorting, suppression and indexing that are written as ONNX give what ours give."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import GraphBuilder
from support.onnx_exports import ARITHMETIC, check_export, exported, floats, one_node, rng, run_onnx

from megengine_lite._core.ir import params
from megengine_lite._core.ir.params import ArgsortOrder, IndexDescMaskItem, ReduceMode, TopKMode

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


TIES = np.array([[2, 1, 2, 3, 1, 3, 2], [0, 0, 0, 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize("k", [3, -3, -7])
@pytest.mark.parametrize("mode", list(TopKMode))
def test_of_equal_elements_the_last_one_comes_first_in_descending_order(k, mode):
    outputs = 1 if mode == TopKMode.KTH_ONLY else 2
    one_node("TopK", params.TopK(mode=mode), TIES, np.array([k], np.int32), constants=[1], outputs=outputs)


@pytest.mark.parametrize("order", list(ArgsortOrder))
def test_sorting_keeps_or_reverses_the_order_of_equal_elements(order):
    one_node("Argsort", params.Argsort(order=order), TIES, outputs=2)


@pytest.mark.parametrize("limit", [2, 4, 9])
def test_suppression_repeats_the_last_kept_box(limit):
    corners = rng(3).uniform(0, 10, (2, 8, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng(4).uniform(3, 6, (2, 8, 2)).astype(np.float32)], 2)
    p = params.NMSKeep(iou_thresh=0.3, max_output=limit)
    one_node("NMSKeepMGB", p, boxes, outputs=2)


def items(*axes, **flags):
    given = {"begin": False, "end": False, "step": False, "idx": False} | flags
    return params.IndexDescMaskDump(items=tuple(IndexDescMaskItem(axis=a, **given) for a in axes))


INDEXES = np.array([3, 0, -1, 3], np.int32), np.array([1, 1, 2, 1], np.int32)


def test_slices_may_run_backwards_and_begin_at_the_end():
    x = floats(6, 7)
    p = items(1, begin=True, end=True, step=True)
    for begin, end, step in ((5, 1, -2), (-2, -7, -1), (1, 99, 3)):
        numbers = [np.array([n], np.int32) for n in (begin, end, step)]
        one_node("Subtensor", p, x, *numbers, constants=[1, 2, 3])
    one_node("Subtensor", items(0, 1, step=True), x, *[np.array([-1], np.int32)] * 2, constants=[1, 2])


def test_single_elements_remove_axes_but_the_last():
    one, two = np.array([-2], np.int32), np.array([1], np.int32)
    one_node("Subtensor", items(1, idx=True), floats(3, 4), one, constants=[1])
    one_node("Subtensor", items(0, 1, idx=True), floats(3, 4), one, two, constants=[1, 2])


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 2)])
def test_index_tensors_take_the_place_of_their_axes(axes):
    x = floats(5, 4, 6)
    one_node("IndexingMultiAxisVec", items(*axes, idx=True), x, *INDEXES, again=False)
    one_node("MeshIndexing", items(*axes, idx=True), x, *INDEXES)


@pytest.mark.parametrize("op", ["IndexingSetMultiAxisVec", "IndexingIncrMultiAxisVec", "SetMeshIndexing"])
def test_selected_elements_are_set_and_increased(op):
    x, first, second = floats(5, 4, 6), *INDEXES
    value = np.array([2.5], np.float32) if "Set" in op else floats(4, 6)
    one_node(op, items(0, 1, idx=True), x, value, first, second, tolerance=ARITHMETIC, again=False)


def test_slices_are_set_and_increased():
    numbers = [np.array([n], np.int32) for n in (1, 6, 2)]
    for op in ("SetSubtensor", "IncrSubtensor"):
        p = items(1, begin=True, end=True, step=True)
        one_node(op, p, floats(3, 7), floats(3, 3, seed=1), *numbers, constants=[2, 3, 4], static=True)


def test_length_of_a_selection_may_depend_on_data():
    builder = GraphBuilder()
    x = builder.input("x", (3, 4))
    taken, places = builder.node("CondTake", params.CondTake(mode=params.CondTakeMode.GT), [x, x], 2)
    total = builder.node("Reduce", params.Reduce(mode=ReduceMode.SUM, axis=0), [taken])
    graph = builder.finish(taken, places, total)
    check_export(graph, {"x": floats(3, 4)}, ARITHMETIC, again=False)
    content, _ = exported(graph)
    values = run_onnx(content, {"x": np.full((3, 4), -1, np.float32)})
    assert [v.shape for v in values] == [(0,), (0,), (1,)]
