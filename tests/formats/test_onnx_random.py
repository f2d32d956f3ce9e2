"""Random numbers of ONNX: their distributions, shapes and seeds."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite.errors import UnsupportedOperatorError

F, F16, I32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32


def drawn(op, x=None, **attributes):
    node = helper.make_node(op, [] if x is None else ["x"], ["y"], **attributes)
    inputs = [("one", F, [1])] if x is None else [("x", F, [None] * x.ndim)]
    nodes = [node] if x is not None else [node, helper.make_node("Identity", ["one"], ["z"])]
    outputs = [("y", attributes.get("dtype", F), None), *([("z", F, None)] if x is None else [])]
    network = load(make(nodes, inputs, outputs, (), 15))
    given = {"one": np.ones(1, np.float32)} if x is None else {"x": x}
    first, again = (run(network, **given)[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    return first


def test_uniform_numbers():
    x = drawn("RandomUniform", shape=[100, 40], low=-2.0, high=6.0)
    assert x.shape == (100, 40) and x.dtype == np.float32
    assert -2 <= x.min() < -1.9 and 5.9 < x.max() <= 6
    assert abs(x.mean() - 2) < 0.2 and abs(x.std() - 8 / np.sqrt(12)) < 0.1
    like = drawn("RandomUniformLike", np.zeros((30, 50), np.float32))
    assert like.shape == (30, 50) and like.min() >= 0 and like.max() < 1 and abs(like.mean() - 0.5) < 0.05


def test_normal_numbers():
    x = drawn("RandomNormal", shape=[4000], mean=3.0, scale=2.0, seed=5.0)
    assert abs(x.mean() - 3) < 0.15 and abs(x.std() - 2) < 0.1
    np.testing.assert_array_equal(x, drawn("RandomNormal", shape=[4000], mean=3.0, scale=2.0, seed=5.0))
    assert (x != drawn("RandomNormal", shape=[4000], mean=3.0, scale=2.0, seed=6.0)).any()
    half = drawn("RandomNormalLike", np.zeros((20, 30), np.float32), dtype=F16)
    assert half.shape == (20, 30) and half.dtype == np.float16 and abs(half.astype(float).mean()) < 0.2


def test_zeros_and_ones_by_probabilities():
    probabilities = np.repeat(np.float32([0, 0.2, 0.7, 1]), 2000)
    for kind, dtype in ((F, np.float32), (I32, np.int32)):
        x = drawn("Bernoulli", probabilities, dtype=kind)
        assert x.dtype == dtype and set(x.tolist()) == {0, 1}
        np.testing.assert_allclose(x.reshape(4, -1).mean(1), [0, 0.2, 0.7, 1], atol=0.04)
        assert x[:2000].max() == 0 and x[-2000:].min() == 1


def test_random_integers_are_refused():
    with pytest.raises(UnsupportedOperatorError, match="not computed in INT32"):
        drawn("RandomUniform", shape=[3], dtype=I32)
