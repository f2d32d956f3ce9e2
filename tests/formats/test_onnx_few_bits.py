"""Stored integers of less than 8 bits, as weights are stored that a program has quantized, against the package onnx."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.onnx_models import load, make, run

from megengine_lite.cli import main
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

F = TensorProto.FLOAT
TYPES = {"INT4": (-8, 8), "UINT4": (0, 16), "INT2": (-2, 2), "UINT2": (0, 4)}
RNG = np.random.default_rng(5)
X = RNG.normal(size=(2, 6)).astype(np.float32)
SHAPES = ((6, 4), (6, 3), (6, 1))
"""Of weights; with two or four numbers in a byte the last byte of some is not full."""


def stored(name, kind, shape, raw=False):
    """A tensor with all numbers of a type, as bytes or in the list of integers."""
    low, high = TYPES[kind]
    numbers = np.resize(np.arange(low, high), shape)
    tensor = helper.make_tensor(name, getattr(TensorProto, kind), shape, numbers.reshape(-1).tolist())
    if raw:
        tensor.raw_data = bytes(tensor.int32_data)
        del tensor.int32_data[:]
    np.testing.assert_array_equal(numpy_helper.to_array(tensor).astype(np.int32), numbers)
    return tensor


def model(nodes, tensors, opset=25, **constants):
    made = make(nodes, [("x", F, ["n", 6])], [("y", F, None)], constants, opset)
    made.graph.initializer.extend(tensors)
    made.ir_version = 13
    return made


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), **attributes)


PRODUCT = node("MatMul", "x r", "y")


def check(made):
    wanted = ReferenceEvaluator(made).run(None, {"x": X})[0]
    np.testing.assert_allclose(run(load(made), x=X)[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TYPES)
def test_stored_numbers_are_converted(kind, shape, raw):
    weights = stored("w", kind, shape, raw)
    check(model([node("Cast", "w", "r", to=F), PRODUCT], [weights]))
    scales = np.linspace(0.1, 0.4, shape[1], dtype=np.float32)
    zeros = stored("z", kind, shape[1:], raw)
    check(model([node("DequantizeLinear", "w s", "r", axis=1), PRODUCT], [weights], s=scales))
    check(model([node("DequantizeLinear", "w s z", "r", axis=1), PRODUCT], [weights, zeros], s=scales))
    in_blocks = np.linspace(0.1, 0.4, 2 * shape[1], dtype=np.float32).reshape(2, shape[1])
    zeros = stored("z", kind, in_blocks.shape, raw)
    one = node("DequantizeLinear", "w s z", "r", axis=0, block_size=3)
    check(model([one, PRODUCT], [weights, zeros], s=in_blocks))


@pytest.mark.parametrize("kind", TYPES)
def test_values_in_other_files_and_in_converted_ones(kind, tmp_path):
    path = tmp_path / "model.onnx"
    made = model([node("DequantizeLinear", "w s", "r", axis=1), PRODUCT], [stored("w", kind, (6, 3), raw=True)],
                 s=np.float32([0.5, 1, 2]))  # fmt: skip
    wanted = ReferenceEvaluator(made).run(None, {"x": X})[0]
    onnx.save(made, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    np.testing.assert_allclose(run(load(str(path)), x=X)[0], wanted, rtol=1e-5, atol=1e-5)
    for name in ("model.lite", "model.mge"):
        out = str(tmp_path / name)
        command = ["pack", str(path), out] if name == "model.lite" else ["convert", str(path), out, "--shape", "x=2x6"]
        assert main(command) == 0
        np.testing.assert_allclose(run(load(out), x=X)[0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", TYPES)
def test_what_would_see_a_wider_type_is_refused(kind):
    """Also next to a node that reads the same tensor."""
    weights = stored("w", kind, (6, 4))
    first = node("Cast", "w", "r", to=F)
    for more in (
        [node("QuantizeLinear", "x s z", "q"), node("Cast", "q", "t", to=F), node("ReduceSum", "t", "total")],
        [node("Cast", "z", "t", to=F), node("QuantizeLinear", "x s z", "q"), node("Cast", "q", "total", to=F)],
    ):
        made = model([first, PRODUCT, *more], [weights, stored("z", kind, ())], s=np.float32(1))
        made.graph.output.append(helper.make_tensor_value_info("total", F, None))
        with pytest.raises(
            UnsupportedOperatorError, match=rf"QuantizeLinear 'q' \(tensor 'z' .* type {kind}"
        ) as raised:
            load(made)
        assert "Cast" not in str(raised.value)
    moved = model([node("Transpose", "w", "v"), node("Cast", "v", "y", to=F)], [weights])
    with pytest.raises(UnsupportedOperatorError, match=rf"Transpose 'v' \(tensor 'w' has elements of type {kind}"):
        load(moved)


@pytest.mark.parametrize("kind", TYPES)
def test_their_size_is_checked(kind):
    made = model([node("Cast", "w", "r", to=F), PRODUCT], [stored("w", kind, (6, 3), raw=True)])
    weights = made.graph.initializer[0]
    size = len(weights.raw_data)
    for wrong in (weights.raw_data[:-1], weights.raw_data + b"\0"):
        weights.raw_data = wrong
        with pytest.raises(ModelFormatError, match=rf"18 elements of {kind} take {size}"):
            load(made)
