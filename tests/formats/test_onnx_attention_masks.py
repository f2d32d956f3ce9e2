"""Vectors that say which keys count in attention of ONNX Runtime's domain: their meaning follows from the batch."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite.errors import ShapeError

F, I32 = TensorProto.FLOAT, TensorProto.INT32
DOMAIN = "com.microsoft"
RNG = np.random.default_rng(3)
WEIGHTS = RNG.standard_normal((8, 24)).astype(np.float32)
# One model is run with all of these, so its plans follow the batch and the length of the mask.
MASKS = {
    "Attention": ([5], [3, 1], [3, 4], [2, 5, 1, 3], [4, 0, 4, 0, 4], [3, 5, 0, 3, 8, 0, 3, 8]),
    "MultiHeadAttention": ([5], [3, 4], [5, 0, 5, 0, 7], [3, 5, 0, 5, 10, 0, 3, 8]),
}
BATCHES = {"Attention": (1, 1, 2, 2, 1, 2), "MultiHeadAttention": (1, 2, 1, 2)}
WRONG = {
    "Attention": ((2, [3]), (2, [3, 5, 1]), (1, [3, 0, 1]), (2, [3, 5, 1, 2, 3, 4]), (1, [3, 0, 1, 2, 3, 4])),
    "MultiHeadAttention": ((2, [3]), (1, [3, 0]), (2, [3, 5, 1, 2]), (2, [3, 5, 1]), (1, [3, 0, 3, 0, 3, 4])),
}


def model_of(op):
    inputs = ["x", "w", "b", "m"] if op == "Attention" else ["x", "x", "x", "", "m"]
    node = helper.make_node(op, inputs, ["y"], domain=DOMAIN, num_heads=2)
    constants = {"w": WEIGHTS, "b": np.zeros(24, np.float32)} if op == "Attention" else {}
    declared = [("x", F, ["n", 5, 8]), ("m", I32, ["k"])]
    return make([node], declared, [("y", F, None)], constants, opsets=[helper.make_opsetid(DOMAIN, 1)])


@pytest.mark.parametrize("op", MASKS)
def test_what_a_vector_means_follows_from_the_batch(op):
    runtime = pytest.importorskip("onnxruntime")
    theirs, ours = runtime.InferenceSession(model_of(op).SerializeToString()), load(model_of(op))
    for batch, mask in zip(BATCHES[op], MASKS[op], strict=True):
        given = {"x": RNG.standard_normal((batch, 5, 8)).astype(np.float32), "m": np.array(mask, np.int32)}
        (wanted,) = theirs.run(None, given)
        (found,) = run(ours, **given)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("op", WRONG)
def test_vectors_of_other_lengths_are_refused(op):
    """ONNX Runtime refuses them, too."""
    runtime = pytest.importorskip("onnxruntime")
    theirs, ours = runtime.InferenceSession(model_of(op).SerializeToString()), load(model_of(op))
    for batch, mask in WRONG[op]:
        given = {"x": np.zeros((batch, 5, 8), np.float32), "m": np.array(mask, np.int32)}
        with pytest.raises(runtime.capi.onnxruntime_pybind11_state.InvalidArgument):
            theirs.run(None, given)
        with pytest.raises(ShapeError, match=f"'y': {len(mask)} elements"):
            run(ours, **given)
