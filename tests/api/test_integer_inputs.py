"""Which integers inputs get that nobody gives: valid indexes, and many numbers where the model computes with them."""

import numpy as np
import pytest
from support.onnx_models import bytes_of_text

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite._api.integer_inputs import NARROW, integer_ranges
from megengine_lite._api.random_values import random_values
from megengine_lite._core.formats.load import load_model

pytestmark = pytest.mark.filterwarnings("ignore")
WIDE = (-100, 101)
# The text of a model, and the numbers of its input k.
USES = {
    "sum": ("(int64[n] k) => (int64[n] y) <int64 one = {1}> { y = Add(k, one) }", WIDE),
    "maximum": ("(int32[n] k) => (int32[n] y) <int32 one = {1}> { y = Max(k, one) }", WIDE),
    "moved": ("(int32[3, n] k) => (int32[n, 3] y) { y = Transpose(k) }", WIDE),
    "not negative": ("(uint16[n] k) => (uint16[n] y) { y = Identity(k) }", (0, 101)),
    "real numbers": ("(int64[2, 3] k) => (float[2, 3] y) { f = Cast<to = 1>(k) y = Softmax(f) }", WIDE),
    "a mask": ("(int64[n] k) => (bool[n] y) <int64 one = {1}> { y = Equal(k, one) }", WIDE),
    "indexes of a table": (
        "(int64[n] k) => (float[n, 2] y) <float[7, 9] t = {"
        + ", ".join(["0"] * 63)
        + "}> { i = Unsqueeze(k, z) s = Squeeze(i, z) y = Gather(t, s) }",
        (0, 7),
    ),
    "indexes of an input": ("(float[5, 3] x, int64[n] k) => (float[n, 3] y) { y = Gather(x, k) }", (0, 3)),
    "indexes that are computed": (
        "(float[5, 3] x, int64[n] k) => (float[n, 3] y) <int64 one = {1}> { j = Add(k, one) y = Gather(x, j) }",
        NARROW,
    ),
    "a shape": ("(float[n] x, int64[2] k) => (float[a, b] y) { y = Reshape(x, k) }", NARROW),
    "a power": ("(int32[n] k) => (int32[n] y) { y = Pow(k, k) }", NARROW),
    "classes": (
        "(int64[n] k) => (float[n, 3] y) <int64 d = {3}, float[2] v = {0, 1}> { y = OneHot(k, d, v) }",
        None,
    ),
    "a number of rounds": (
        """(int64 k, float[n] x) => (float[n] y)
        { y = Loop<body = b (int64 i, bool c, float[n] p) => (bool d, float[n] q)
          { d = Identity(c) q = Add(p, p) }>(k, , x) }""",
        NARROW,
    ),
}


def model_of(name):
    text, expected = USES[name]
    if "Unsqueeze(k, z)" in text:
        text = text.replace("<float[7", "<int64[1] z = {0}, float[7")
    return bytes_of_text(text), expected


@pytest.mark.parametrize("name", USES)
def test_integers_suit_what_a_model_uses_them_for(name):
    content, expected = model_of(name)
    model = load_model(content)
    found = integer_ranges(model.graph)["k"]
    if expected is None:  # it may not be less than what always suits
        assert found[0] <= 0 and found[1] >= 1
    else:
        assert found == expected
    values = random_values((50,), np.dtype(np.int32), 0, found)
    assert values.min() >= found[0] and values.max() < found[1]


@pytest.mark.parametrize("name", sorted(USES.keys() - {"a shape", "a number of rounds", "a power", "sum"}))
def test_files_are_compared_for_such_integers(name):
    content, _ = model_of(name)
    result = converted(content, LiteConfig())
    assert [n for n in result.notes if "not compared" in n] == [] and result.compared
