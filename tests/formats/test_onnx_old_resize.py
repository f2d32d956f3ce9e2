"""Resize of version 10 and Upsample, whose nearest element depends on the scale, beside ONNX Runtime."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite.errors import UnsupportedOperatorError

KINDS = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32}
CASES = [
    ([1, 1, 2, 4], [1, 1, 0.6, 0.6]),  # resize_downsample_scales_nearest of version 10 of the standard
    ([1, 1, 5, 7], [1, 1, 0.5, 0.6]),
    ([1, 1, 5, 7], [1, 1, 1.7, 0.3]),
    ([1, 1, 5, 7], [1, 1, 0.3, 1.7]),
    ([2, 3, 9, 9], [1, 1, 1 / 3, 1 / 3]),
    ([1, 4, 5, 7], [1, 0.5, 0.7, 1.5]),
    ([5, 7], [1.7, 0.3]),
    ([7], [0.3]),
    ([1, 2, 3, 3], [1, 1, 2, 2]),
    ([1, 2, 5, 4], [1, 1, 1.3, 2]),
]


def model_of(op, version, mode, shape, scales, dtype="float32"):
    scales, constants = np.array(scales, np.float32), {}
    if version < 9:
        node = helper.make_node(op, ["x"], ["y"], "old", mode=mode, scales=scales.tolist())
    else:
        node, constants = helper.make_node(op, ["x", "s"], ["y"], "old", mode=mode), {"s": scales}
    kind = KINDS[dtype]
    return make([node], [("x", kind, shape)], [("y", kind, None)], constants, version)


def compare(model, x):
    """With what ONNX Runtime gives: here, and as a file of MegEngine's."""
    runtime = pytest.importorskip("onnxruntime")
    content = model.SerializeToString()
    (wanted,) = runtime.InferenceSession(content).run(None, {"x": x})
    file = b"".join(map(bytes, converted(content, LiteConfig()).chunks))
    for network in (load(model), load(file)):
        (found,) = run(network, x=x)
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape, scales", CASES, ids=str)
@pytest.mark.parametrize("dtype", KINDS)
def test_the_nearest_element_of_version_10(shape, scales, dtype):
    x = np.arange(1, 1 + np.prod(shape)).reshape(shape).astype(dtype)
    compare(model_of("Resize", 10, "nearest", shape, scales, dtype), x)


@pytest.mark.parametrize("shape, scales", [c for c in CASES if len(c[0]) == 4 and c[1][1] == 1], ids=str)
def test_linear_interpolation_of_version_10(shape, scales):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    compare(model_of("Resize", 10, "linear", shape, scales), x)


def test_the_case_of_the_standard():
    x = np.arange(1, 9, dtype=np.float32).reshape(1, 1, 2, 4)
    (found,) = run(load(model_of("Resize", 10, "nearest", x.shape, [1, 1, 0.6, 0.6])), x=x)
    np.testing.assert_array_equal(found, [[[[1, 3]]]])


@pytest.mark.parametrize("version", [7, 8, 9])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample_enlarges_only(version, mode):
    x = np.arange(1, 36, dtype=np.float32).reshape(1, 1, 5, 7)
    compare(model_of("Upsample", version, mode, x.shape, [1, 1, 1.7, 2.3]), x)
    smaller = model_of("Upsample", version, mode, x.shape, [1, 1, 0.5, 2])
    with pytest.raises(UnsupportedOperatorError, match=r"'old' \(its scales are .* Upsample has none below 1"):
        load(smaller)
    runtime = pytest.importorskip("onnxruntime")
    with pytest.raises(runtime.capi.onnxruntime_pybind11_state.Fail, match="greater than or equal to 1"):
        runtime.InferenceSession(smaller.SerializeToString())
