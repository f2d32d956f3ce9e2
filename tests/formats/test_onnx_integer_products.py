"""ConvInteger and MatMulInteger give the very integers, for zero points of every kind."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import run, session_of
from support.instruction_sets import INSTRUCTION_SETS
from support.onnx_models import make

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model

KINDS = {"uint8": TensorProto.UINT8, "int8": TensorProto.INT8}
ZEROS = ("absent", "given", "known")
MATRIX_ZEROS = (*ZEROS, "known of each column")
FILTER_ZEROS = (*ZEROS, "known of each filter", "known of all filters")
PADDINGS = {
    "none": ({}, (0, 0, 0, 0)),
    "on both sides": ({"pads": [1, 2, 1, 2]}, (1, 2, 1, 2)),
    "on one side": ({"pads": [0, 1, 1, 0]}, (0, 1, 1, 0)),
    "same": ({"auto_pad": "SAME_LOWER"}, (1, 1, 1, 1)),
}


class Integers:
    """Data, and weights of the largest numbers, with zero points at an end of the range."""

    def __init__(self, x_dtype, w_dtype, seed=0):
        self.rng = np.random.default_rng(seed)
        self.types = {"x": np.dtype(x_dtype), "w": np.dtype(w_dtype)}
        self.given, self.constants, self.zeros = {}, {}, {}

    def numbers(self, name, *shape):
        info = np.iinfo(self.types[name])
        return self.rng.integers(info.min, info.max + 1, shape).astype(info.dtype)

    def large(self, *shape):
        info = np.iinfo(self.types["w"])
        return self.rng.choice(np.array([info.min, info.max, info.max], info.dtype), shape)

    def zero(self, of, kind, count):
        """The name of a zero point, which may have one number for each of ``count`` columns or filters."""
        info = np.iinfo(self.types[of])
        self.zeros[of] = np.int64(0)
        if kind == "absent":
            return ""
        numbers = np.array(info.min + 1, info.dtype)
        if kind != "given" and kind != "known":
            numbers = np.full(count, numbers) + (np.arange(count) % 3 * ("each" in kind)).astype(info.dtype)
        self.zeros[of] = numbers.astype(np.int64)
        name = of + "z"
        (self.given if kind == "given" else self.constants)[name] = numbers
        return name

    def model(self, op, x, w, x_zero, w_zero, count, **attributes):
        self.given["x"], self.constants["w"] = x, w
        names = ["x", "w", self.zero("x", x_zero, 1), self.zero("w", w_zero, count)]
        node = helper.make_node(op, names, ["y"], **attributes)
        inputs = [(name, KINDS[str(v.dtype)], list(v.shape)) for name, v in self.given.items()]
        return make([node], inputs, [("y", TensorProto.INT32, None)], self.constants).SerializeToString()

    def run(self, content, isa=None):
        """What a model gives, and the operators that numpy computed."""
        session = session_of(load_model(content).graph, isa=isa)
        (y,) = run(session, **{name: v.reshape(v.shape or (1,)) for name, v in self.given.items()})
        (plan,) = session.plans()
        return y, {s.node.op for s in plan.steps if isinstance(s, HostStep)}


def correlated(x, w, groups, pads, strides):
    """Sums of products in 64 bits."""
    top, left, bottom, right = pads
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))[:, :, :: strides[0], :: strides[1]]
    parts = zip(np.split(windows, groups, 1), np.split(w, groups), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", a, b) for a, b in parts], 1)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("types", [("uint8", "uint8"), ("uint8", "int8"), ("int8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("x_zero", ZEROS)
@pytest.mark.parametrize("w_zero", FILTER_ZEROS)
def test_convolutions(isa, types, x_zero, w_zero):
    """Their sums are no numbers of float32."""
    for groups, channels in ((1, 72), (2, 48)):
        for padding in sorted(PADDINGS):
            attributes, pads = PADDINGS[padding]
            g = Integers(*types)
            x, w = g.numbers("x", 1, channels * groups, 7, 5), g.large(4, channels, 3, 3)
            y, in_numpy = g.run(g.model("ConvInteger", x, w, x_zero, w_zero, 4, group=groups, **attributes), isa)
            filters = w - g.zeros["w"].reshape(-1, 1, 1, 1)
            np.testing.assert_array_equal(y, correlated(x - g.zeros["x"], filters, groups, pads, (1, 1)))
            assert not in_numpy


@pytest.mark.parametrize("x_zero", ZEROS)
@pytest.mark.parametrize("w_zero", FILTER_ZEROS)
def test_convolutions_of_rows_and_volumes(x_zero, w_zero):
    g = Integers("uint8", "int8")
    x, w = g.numbers("x", 2, 3, 9), g.large(4, 3, 3)
    y, _ = g.run(g.model("ConvInteger", x, w, x_zero, w_zero, 4, pads=[1, 0], strides=[2]))
    filters = w - g.zeros["w"].reshape(-1, 1, 1)
    rows = correlated((x - g.zeros["x"])[:, :, None], filters[:, :, None], 1, (0, 1, 0, 0), (1, 2))
    np.testing.assert_array_equal(y, rows[:, :, 0])
    g = Integers("uint8", "int8")
    x, w = g.numbers("x", 2, 3, 1, 5, 6), g.large(4, 3, 1, 3, 3)
    y, _ = g.run(g.model("ConvInteger", x, w, x_zero, w_zero, 4, pads=[0, 1, 1, 0, 0, 1]))
    filters = (w - g.zeros["w"].reshape(-1, 1, 1, 1, 1))[:, :, 0]
    images = correlated((x - g.zeros["x"])[:, :, 0], filters, 1, (1, 1, 0, 1), (1, 1))
    np.testing.assert_array_equal(y[:, :, 0], images)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("types", [("uint8", "uint8"), ("int8", "int8")])
@pytest.mark.parametrize("x_zero", ZEROS)
@pytest.mark.parametrize("w_zero", MATRIX_ZEROS)
def test_matrix_products(isa, types, x_zero, w_zero):
    g = Integers(*types)
    x, w = g.numbers("x", 2, 3, 700), g.large(700, 6)
    y, _ = g.run(g.model("MatMulInteger", x, w, x_zero, w_zero, 6), isa)
    np.testing.assert_array_equal(y, (x - g.zeros["x"]) @ (w - g.zeros["w"]))


@pytest.mark.parametrize("dtype", ["uint8", "int8"])
@pytest.mark.parametrize("x_zero", ZEROS)
@pytest.mark.parametrize("w_zero", FILTER_ZEROS)
def test_convolutions_in_converted_files(dtype, x_zero, w_zero):
    """Files compute them in float32, so many channels at a time that sums are exact."""
    for groups, channels in ((1, 72), (2, 48), (4, 2)):
        g = Integers("uint8", dtype)
        x, w = g.numbers("x", 1, channels * groups, 7, 5), g.large(4, channels, 3, 3)
        content = g.model("ConvInteger", x, w, x_zero, w_zero, 4, group=groups, pads=[1, 0, 0, 1])
        file = b"".join(map(bytes, converted(content, LiteConfig(), verify=False).chunks))
        y, _ = g.run(file)
        sums = correlated(x - g.zeros["x"], w - g.zeros["w"].reshape(-1, 1, 1, 1), groups, (1, 0, 0, 1), (1, 1))
        np.testing.assert_array_equal(y, sums)
