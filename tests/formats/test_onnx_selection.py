"""Selections of ONNX whose sizes depend on data, and parts that change places, against loops over elements."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite.errors import LiteError, UnsupportedOperatorError

F, F16, I32, I64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL
RNG = np.random.default_rng(11)


def network(op, inputs, outputs="y", constants=(), opset=28, **attributes):
    """A model of one node; inputs are (name, type, rank), those of constants have the rank None."""
    names = outputs.split(" ")
    node = helper.make_node(op, [i[0] for i in inputs], names, "the_node", **attributes)
    given = [(n, kind, [None] * rank) for n, kind, rank in inputs if rank is not None]
    model = make([node], given, [(n, F, None) for n in names if n], constants, opset)
    for output in model.graph.output:
        output.ClearField("type")
    return load(model)


# ---- boxes -----------------------------------------------------------------------------------------------------------


def suppressed(boxes, scores, most, overlap, least, by_center):
    """By the text of the standard."""

    def corners(b):
        if by_center:
            return b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2
        return min(b[1], b[3]), min(b[0], b[2]), max(b[1], b[3]), max(b[0], b[2])

    def shares(a, b):
        (ax, ay, bx, by), (cx, cy, dx, dy) = corners(a), corners(b)
        w, h = min(bx, dx) - max(ax, cx), min(by, dy) - max(ay, cy)
        if w <= 0 or h <= 0:
            return False
        return w * h / ((bx - ax) * (by - ay) + (dx - cx) * (dy - cy) - w * h) > overlap

    rows = []
    for n, c in itertools.product(range(scores.shape[0]), range(scores.shape[1])):
        kept = []
        for k in sorted(range(scores.shape[2]), key=lambda k: -scores[n, c, k]):
            if len(kept) == most or (least is not None and scores[n, c, k] <= least):
                continue
            if not any(shares(boxes[n, k], boxes[n, other]) for other in kept):
                kept.append(k)
        rows += [[n, c, k] for k in kept]
    return np.array(rows).reshape(-1, 3)


@pytest.mark.parametrize("by_center", [0, 1])
@pytest.mark.parametrize("least", [None, 0.5])
@pytest.mark.parametrize("most", [0, 2, 100])
def test_boxes_that_are_kept(by_center, least, most):
    names = [("b", F, 3), ("s", F, 3), ("m", I64, 1), ("o", F, 1)] + ([("t", F, 1)] if least else [])
    made = network("NonMaxSuppression", names, center_point_box=by_center)
    for n, classes, count in ((1, 1, 6), (2, 3, 20), (1, 2, 0)):
        boxes = RNG.uniform(0, 4, (n, count, 4)).astype(np.float32)
        scores = RNG.random((n, classes, count)).astype(np.float32)
        if count:
            scores[..., 1] = scores[..., 0]  # the first of equal ones comes first
        for overlap in (0.1, 0.5):
            given = {"b": boxes, "s": scores, "m": np.int32([most]), "o": np.float32([overlap])}
            given |= {"t": np.float32([least])} if least else {}
            wanted = suppressed(boxes, scores, most, np.float32(overlap), least, by_center)
            np.testing.assert_array_equal(run(made, **given)[0], wanted)


def test_boxes_without_limits_are_none():
    made = network("NonMaxSuppression", [("b", F, 3), ("s", F, 3)], opset=10)
    assert run(made, b=np.ones((1, 4, 4), np.float32), s=np.ones((1, 1, 4), np.float32))[0].shape == (0, 3)
    with pytest.raises(LiteError, match="do not fit boxes"):
        run(made, b=np.ones((1, 4, 4), np.float32), s=np.ones((1, 1, 3), np.float32))


def test_later_nodes_read_the_boxes_that_are_kept():
    limits = {"m": np.array([9]), "o": np.float32([0.3]), "two": np.array(2)}
    nodes = [
        helper.make_node("NonMaxSuppression", ["b", "s", "m", "o"], ["rows"]),
        helper.make_node("Gather", ["rows", "two"], ["places"], axis=1),
        helper.make_node("Gather", ["b", "places"], ["y"], axis=1),
    ]
    model = make(nodes, [("b", F, [1, "n", 4]), ("s", F, [1, 1, "n"])], [("y", F, None)], limits)
    made = load(model)
    for count in (5, 9, 1):
        boxes, scores = (
            RNG.uniform(0, 3, (1, count, 4)).astype(np.float32),
            RNG.random((1, 1, count)).astype(np.float32),
        )
        wanted = suppressed(boxes, scores, 9, 0.3, None, 0)[:, 2]
        np.testing.assert_array_equal(run(made, b=boxes, s=scores)[0], boxes[:, wanted])


def test_numbers_of_kept_boxes_are_places_of_elements():
    """As TensorFlow writes its combined suppression: each row has three numbers, however many rows there are."""
    limits = {
        "m": np.array([9]),
        "o": np.float32([0.3]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
    }
    nodes = [
        helper.make_node("NonMaxSuppression", ["b", "s", "m", "o"], ["rows"]),
        helper.make_node("GatherND", ["s", "rows"], ["chosen"]),
        helper.make_node("Slice", ["rows", "zero", "two", "one"], ["pairs"]),
        helper.make_node("GatherND", ["s", "pairs"], ["rows_of_scores"]),
    ]
    outputs = [("chosen", F, None), ("rows_of_scores", F, None)]
    made = load(make(nodes, [("b", F, [1, "n", 4]), ("s", F, [1, 1, "n"])], outputs, limits))
    for count in (5, 9, 1):
        boxes = RNG.uniform(0, 3, (1, count, 4)).astype(np.float32)
        scores = RNG.random((1, 1, count)).astype(np.float32)
        wanted = suppressed(boxes, scores, 9, 0.3, None, 0)
        chosen, rows = run(made, b=boxes, s=scores)
        np.testing.assert_array_equal(chosen, scores[0, 0, wanted[:, 2]])
        np.testing.assert_array_equal(rows, np.repeat(scores[0], len(wanted), 0))


# ---- different elements ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, dtype", [(F, np.float32), (I32, np.int32), (F16, np.float16), (BOOL, np.uint8)])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("is_sorted", [0, 1])
def test_different_parts(kind, dtype, axis, is_sorted):
    how = {"sorted": is_sorted} | ({} if axis is None else {"axis": axis})
    made = network("Unique", [("x", kind, 3)], "y first which count", **how)
    for shape in ((2, 3, 4), (5, 2, 1), (1, 1, 1), (2, 0, 3)):
        x = RNG.integers(0, 2 if kind == BOOL or axis is not None else 9, shape).astype(dtype)
        if 0 in shape and axis is not None:
            continue
        y, first, which, count = run(made, x=x)
        parts = x.reshape(-1) if axis is None else np.moveaxis(x, axis, 0)
        rows = [p.reshape(-1).tolist() for p in parts]
        different = []
        for row in rows:
            if row not in different:
                different.append(row)
        different = sorted(different) if is_sorted else different
        assert first.tolist() == [rows.index(d) for d in different]
        assert which.tolist() == [different.index(row) for row in rows]
        assert count.tolist() == [rows.count(d) for d in different]
        np.testing.assert_array_equal(y, np.take(x.reshape(-1) if axis is None else x, first, axis or 0))


def test_only_the_outputs_that_are_named_and_no_numbers_that_are_equal():
    made = network("Unique", [("x", F, 1)], "y  which")
    y, which = run(made, x=np.float32([np.nan, 2, np.nan, 1, 2]))
    np.testing.assert_array_equal(y, [1, 2, np.nan])
    assert which.tolist() == [2, 1, 2, 0, 1]


# ---- sequences and caches --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [0, 1])
def test_sequences_turned_around(batch):
    made = network("ReverseSequence", [("x", F, 3), ("n", I64, 1)], batch_axis=batch, time_axis=1 - batch)
    for count in (4, 1):
        x = RNG.standard_normal((count, 3, 2)).astype(np.float32)
        lengths = RNG.integers(0, x.shape[1 - batch] + 1, x.shape[batch])
        wanted = x.copy() if batch == 0 else x.swapaxes(0, 1).copy()
        for row, n in zip(wanted, lengths, strict=True):
            row[:n] = row[:n][::-1].copy()
        (ours,) = run(made, x=x, n=lengths.astype(np.int32))
        np.testing.assert_array_equal(ours, wanted if batch == 0 else wanted.swapaxes(0, 1))
    with pytest.raises(LiteError, match="a length does not fit 2 elements"):
        run(made, x=np.ones((2, 2, 2), np.float32), n=np.int32([0, 9]))
    with pytest.raises(UnsupportedOperatorError, match="batch_axis is 1 and time_axis 1"):
        network("ReverseSequence", [("x", F, 3), ("n", I64, 1)], batch_axis=1, time_axis=1)


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize("axis", [1, -2, -1])
def test_updates_of_caches(mode, axis):
    made = network("TensorScatter", [("c", F, 4), ("u", F, 4), ("i", I64, 1)], mode=mode, axis=axis)
    shape = [3, 5, 6, 4]
    cache = RNG.standard_normal(shape).astype(np.float32)
    shape[axis] = 2
    update = RNG.standard_normal(shape).astype(np.float32)
    begins = np.int32([0, 1, cache.shape[axis] - (1 if mode == "circular" else 2)])
    wanted = cache.copy()
    for sample, k in itertools.product(range(3), range(2)):
        place = (begins[sample] + k) % cache.shape[axis]
        np.moveaxis(wanted[sample], axis % 4 - 1, 0)[place] = np.moveaxis(update[sample], axis % 4 - 1, 0)[k]
    np.testing.assert_array_equal(run(made, c=cache, u=update, i=begins)[0], wanted)
    if mode == "linear":
        with pytest.raises(LiteError, match="2 elements from 9 on do not fit"):
            run(made, c=cache, u=update, i=np.int32([0, 0, 9]))
    with pytest.raises(LiteError, match="does not fit a cache"):
        run(made, c=cache, u=np.concatenate([update] * 2, axis - 1), i=begins)


# ---- windows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size, strides, pads", [([2, 2], [2, 2], [0] * 4), ([3, 2], [2, 2], [1, 0, 0, 0]), ([2], [2], [0, 0])]
)
def test_maxima_at_their_places(size, strides, pads):
    x = RNG.permutation(2 * 3 * 6 * (6 if len(size) == 2 else 1)).astype(np.float32).reshape(2, 3, *[6] * len(size)) + 1
    window = {"kernel_shape": size, "strides": strides, "pads": pads}
    pool = helper.make_node("MaxPool", ["x"], ["p", "i"], **window)
    undo = helper.make_node("MaxUnpool", ["p", "i", "shape"], ["y"], **window)
    model = make([pool, undo], [("x", F, list(x.shape)), ("shape", I64, [x.ndim])], [("p", F, None), ("y", F, None)])
    pooled, y = run(load(model), x=x, shape=np.int32(x.shape))
    assert y.shape == x.shape
    kept = np.isin(x, pooled)
    smallest = load(
        make(
            [pool, helper.make_node("MaxUnpool", ["p", "i"], ["y"], **window)],
            [("x", F, list(x.shape))],
            [("y", F, None)],
        )
    )
    (small,) = run(smallest, x=x)
    sizes = [
        (p - 1) * s + k - a - b
        for p, s, k, a, b in zip(pooled.shape[2:], strides, size, pads[: len(size)], pads[len(size) :], strict=True)
    ]
    assert small.shape == (2, 3, *sizes)
    if small.shape == x.shape:
        np.testing.assert_array_equal(y, np.where(kept, x, 0))
        np.testing.assert_array_equal(small, y)
    assert sorted(set(small[small > 0])) == sorted(set(x[kept]))


def test_places_outside_of_the_result_are_refused():
    made = network("MaxUnpool", [("x", F, 3), ("i", I64, 3)], kernel_shape=[2], strides=[2], opset=11)
    x = np.float32([[[1, 2]]])
    np.testing.assert_array_equal(run(made, x=x, i=np.int32([[[0, 3]]]))[0], [[[1, 0, 0, 2]]])
    with pytest.raises(LiteError, match="an index is out of range for data"):
        run(made, x=x, i=np.int32([[[0, 4]]]))


@pytest.mark.parametrize(
    "image, block, how",
    [
        ([5, 4], [2, 2], {}),
        ([5, 6], [3, 2], {"strides": [2, 1], "pads": [1, 0, 1, 2]}),
        ([6, 5], [2, 2], {"dilations": [2, 3]}),
        ([3, 4, 3], [2, 2, 1], {"strides": [1, 2, 1]}),
    ],
)
def test_sums_of_blocks(image, block, how):
    axes = len(image)
    s, d, p = how.get("strides", [1] * axes), how.get("dilations", [1] * axes), how.get("pads", [0] * 2 * axes)
    counts = [(image[k] + p[k] + p[axes + k] - d[k] * (block[k] - 1) - 1) // s[k] + 1 for k in range(axes)]
    x = RNG.standard_normal((2, 3 * np.prod(block), np.prod(counts))).astype(np.float32)
    inputs = [("x", F, 3), ("image", I64, None), ("block", I64, None)]
    made = network("Col2Im", inputs, constants={"image": np.array(image), "block": np.array(block)}, **how)
    wanted = np.zeros((2, 3, *image))
    blocks = x.reshape(2, 3, *block, *counts)
    for tap in itertools.product(*map(range, block)):
        for place in itertools.product(*map(range, counts)):
            at = [place[k] * s[k] + tap[k] * d[k] - p[k] for k in range(axes)]
            if all(0 <= at[k] < image[k] for k in range(axes)):
                wanted[(slice(None), slice(None), *at)] += blocks[(slice(None), slice(None), *tap, *place)]
    np.testing.assert_allclose(run(made, x=x)[0], wanted, atol=1e-5)
    with pytest.raises(LiteError, match="do not fit"):
        run(made, x=x[:, :, 1:])


# ---- matrices and bits -----------------------------------------------------------------------------------------------


def test_determinants():
    for shape in ((3, 3), (2, 4, 5, 5), (1, 1), (4, 2, 2)):
        x = RNG.standard_normal(shape).astype(np.float32)
        made = network("Det", [("x", F, len(shape))], opset=11)
        (ours,) = run(made, x=x)
        wanted = np.linalg.det(x.astype(float))
        np.testing.assert_allclose(ours, np.reshape(wanted, shape[:-2] or (1,)), rtol=1e-5, atol=1e-6)
        with pytest.raises(LiteError, match="must be square"):
            run(made, x=np.concatenate([x, x], -1))


def test_bits_as_another_type():
    x = np.float32([1, -2.5, np.inf])
    made = network("BitCast", [("x", F, 1)], to=I32, opset=26)
    np.testing.assert_array_equal(run(made, x=x)[0], x.view(np.int32))
    for kind, message in ((F16, "FLOAT and FLOAT16 have not the same size"), (I64, "have not the same size")):
        with pytest.raises(UnsupportedOperatorError, match=message):
            network("BitCast", [("x", F, 1)], to=kind, opset=26)


def test_against_the_package():
    """A case of each, by other code than that above."""
    x = RNG.integers(0, 4, (3, 4)).astype(np.float32)
    node = helper.make_node("Unique", ["x"], ["y", "a", "b", "c"], axis=1)
    model = make([node], [("x", F, [3, 4])], [("y", F, None), *((n, I64, None) for n in "abc")], (), 11)
    for ours, theirs in zip(run(load(model), x=x), expected(model, x=x), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_mask_chooses_elements_by_their_places():
    """As PyTorch writes ``x[x > 0]``: how many there are is known only when the model runs, their rank is."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["places"]),
        helper.make_node("Transpose", ["places"], ["rows"]),
        helper.make_node("GatherND", ["x", "rows"], ["y"]),
    ]
    infos = [("x", TensorProto.FLOAT, ["n", 5])], [("y", TensorProto.FLOAT, None)]
    network = load(make(nodes, *infos, {"zero": np.float32(0)}))
    for seed, rows in enumerate((4, 2, 6)):
        x = np.random.default_rng(seed).standard_normal((rows, 5)).astype(np.float32)
        (y,) = run(network, x=x)
        np.testing.assert_array_equal(y, x[x > 0])
