"""Attention that programs write in pieces becomes one node, in all the ways that exporters write it."""

import numpy as np
import pytest
from support.onnx_pieces import Pieces, check, normal

pytestmark = pytest.mark.filterwarnings("ignore")
BATCH, HEADS, LENGTH, WIDTH = 2, 4, 6, 8
ROWS = HEADS * WIDTH
INFINITY = np.float32(-np.inf)


def projected(p, *order):
    """A head for each row, with axes in some order."""
    y = p("Add", p("MatMul", "x", normal(ROWS, ROWS) / 6), normal(ROWS))
    return p("Transpose", p("Reshape", y, np.array([0, 0, HEADS, WIDTH])), perm=order)


def attention(p, q=None, k=None, scores=None, shares=None):
    """Functions change queries, transposed keys, scores and shares."""
    queries, keys = projected(p, 0, 2, 1, 3), p("Transpose", projected(p, 0, 2, 1, 3), perm=[0, 1, 3, 2])
    product = p("MatMul", q(queries) if q else queries, k(keys) if k else keys)
    found = p("Softmax", scores(product) if scores else product, axis=3)
    result = p("MatMul", shares(found) if shares else found, projected(p, 0, 2, 1, 3))
    return p("Reshape", p("Transpose", result, perm=[0, 2, 1, 3]), np.array([0, 0, ROWS]))


def steps_of(p, **more):
    """Other steps than the products of projections."""
    return [op for op in check(p, normal(BATCH, LENGTH, ROWS), 1e-4, **more) if op != "FusedMatMul"]


def mask(*shape):
    """Truth values, some of them in each row."""
    chosen = np.random.default_rng(1).random(shape) < 0.5
    chosen[..., 0] = True
    return chosen


ROOT = WIDTH**0.5
SCALES = {
    "behind, division": lambda p: attention(p, scores=lambda s: p("Div", s, ROOT)),
    "behind": lambda p: attention(p, scores=lambda s: p("Mul", 1 / ROOT, s)),
    "queries, division": lambda p: attention(p, q=lambda q: p("Div", q, ROOT)),
    "queries": lambda p: attention(p, q=lambda q: p("Mul", q, 1 / ROOT)),
    "keys": lambda p: attention(p, k=lambda k: p("Mul", k, 1 / ROOT)),
    "both, as torch": lambda p: attention(p, q=lambda q: p("Mul", q, ROOT**-0.5), k=lambda k: p("Mul", k, ROOT**-0.5)),
    "none": attention,
}


@pytest.mark.parametrize("where", SCALES)
def test_scale_in_any_place(where):
    p = Pieces()
    SCALES[where](p)
    found = steps_of(p)
    assert "FusedAttention" in found and {*found} <= {"FusedAttention", "FusedElemwise"}
    factors = {"queries": 1, "keys": 1, "both": 2}.get(where.partition(",")[0], 0)
    assert found.count("FusedElemwise") == factors


MASKS = {
    "added": (lambda p, s: p("Add", s, "m"), np.where(mask(BATCH, 1, 1, LENGTH), 0, -1e4).astype(np.float32)),
    "added for rows": (lambda p, s: p("Add", "m", s), normal(BATCH, 1, LENGTH, LENGTH)),
    "triangle": (lambda p, s: p("Add", s, np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1)), None),
    "bias of heads": (lambda p, s: p("Add", s, normal(1, HEADS, LENGTH, LENGTH)), None),
    "chosen": (lambda p, s: p("Where", "m", s, -1e9), mask(BATCH, 1, 1, LENGTH)),
    "chosen, other way": (lambda p, s: p("Where", "m", -1e9, s), ~mask(BATCH, 1, 1, LENGTH)),
    "infinite": (lambda p, s: p("Where", "m", s, INFINITY), mask(BATCH, 1, LENGTH, LENGTH)),
    "chosen, then added": (
        lambda p, s: p("Add", s, p("Where", "m", 0.0, INFINITY)), mask(BATCH, 1, LENGTH, LENGTH),
    ),
    "capped": (lambda p, s: p("Mul", p("Tanh", p("Div", s, 30.0)), 30.0), None),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_masks(name):
    p = Pieces()
    apply, values = MASKS[name]
    attention(p, scores=lambda s: apply(p, p("Mul", s, 1 / ROOT)))
    found = steps_of(p, **({} if values is None else {"m": values}))
    assert found[-1] == "FusedAttention" and {*found} <= {"FusedAttention", "TypeCvt", "Where"}


def test_rows_that_are_masked_as_a_whole():
    p = Pieces()
    allowed = mask(BATCH, 1, LENGTH, LENGTH)
    allowed[:, :, 2] = False
    attention(
        p, scores=lambda s: p("Where", "m", s, INFINITY), shares=lambda s: p("Where", p("IsNaN", s), 0.0, s)
    )  # fmt: skip
    found = steps_of(p, m=allowed)
    assert found[-1] == "FusedAttention" and {*found} == {"FusedAttention", "TypeCvt"}


def test_keys_that_are_transposed_once():
    p = Pieces()
    product = p("MatMul", projected(p, 0, 2, 1, 3), projected(p, 0, 2, 3, 1))
    p("MatMul", p("Softmax", product, axis=-1), projected(p, 0, 2, 1, 3))
    assert {*steps_of(p)} == {"FusedAttention"}


def test_batches_without_heads():
    p = Pieces()
    k, v = (p("MatMul", "x", normal(ROWS, 8)) for _ in range(2))
    scores = p("Div", p("MatMul", p("MatMul", "x", normal(ROWS, 8)), p("Transpose", k, perm=[0, 2, 1])), ROOT)
    p("MatMul", p("Softmax", scores, axis=2), v)
    assert "FusedAttention" in steps_of(p) and "Softmax" not in steps_of(p)


@pytest.mark.parametrize("other", ["axis", "read"])
def test_what_is_nearly_attention_stays(other):
    p = Pieces()
    scores = p("MatMul", projected(p, 0, 2, 1, 3), projected(p, 0, 2, 3, 1))
    shares = p("Softmax", scores, axis=2 if other == "axis" else 3)
    result = p("MatMul", shares, projected(p, 0, 2, 1, 3))
    if other == "read":
        p("Add", result, p("ReduceMax", scores, np.array([-1])))
    found = steps_of(p)
    assert "FusedAttention" not in found and "Softmax" in found
