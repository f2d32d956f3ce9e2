"""Integers in files that are made of ONNX models are exact in the original, which computes much of them as float32.

The rules of the original that are played here are those of its releases for x86-64: products of int32, their sums, and
sums in which a term comes twice are computed as float32; so are the comparisons of ``Argmax`` and ``Argmin``, and the
sums inside of ``MOD`` may leave the type.
"""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_cases import what_the_original_lacks
from support.onnx_models import load, make, run

from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import TensorSpec
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.operators.reference import run_node, run_reference

I32, I64 = TensorProto.INT32, TensorProto.INT64
RNG = np.random.default_rng(5)
M = ElemwiseMode


def as_int32(x: np.ndarray) -> np.ndarray:
    """Conversion of float32 by x86: what does not fit becomes the smallest number."""
    return np.where(np.abs(x.astype(np.float64)) < 2**31, x, -(2.0**31)).astype(np.int64).astype(np.int32)


class Played:
    """A graph, run by the rules of the original."""

    def __init__(self, graph, **given):
        self.makers = {v: n for n in graph.nodes for v in n.outputs}
        self.values = {v: given[v.name] for v in graph.inputs}
        for node in graph.nodes:
            ins = [self.value(v) for v in node.inputs]
            self.values.update(zip(node.outputs, self.results(node, ins), strict=True))
        self.outputs = [self.value(v) for v in graph.outputs]

    def value(self, var):
        return var.const.array if var.const is not None else self.values[var]

    def mode(self, var):
        node = self.makers.get(var)
        return M(node.params.mode) if node is not None and node.op == "Elemwise" else None

    def joins(self, node) -> bool:
        """Whether the original computes a sum together with its terms."""
        x, y = node.inputs
        if x is y or M.MUL in map(self.mode, node.inputs):
            return True
        sums = [(a, b) for a, b in ((x, y), (y, x)) if self.mode(a) in (M.ADD, M.SUB)]
        return any(b in self.makers[a].inputs for a, b in sums)

    def results(self, node, ins):
        integers = all(x.dtype == np.int32 for x in ins)
        if node.op in ("Argmax", "Argmin"):
            ins = [x.astype(np.float32) for x in ins]
        elif node.op == "Elemwise" and integers:
            mode, real = M(node.params.mode), [x.astype(np.float32) for x in ins]
            if mode == M.MUL:
                return [as_int32(real[0] * real[1])]
            if mode in (M.ADD, M.SUB) and self.joins(node):
                return [as_int32(real[0] + real[1] if mode == M.ADD else real[0] - real[1])]
            if mode == M.MOD:
                return [np.fmod(np.fmod(*ins) + ins[1], ins[1])]
        specs = [TensorSpec(x.shape, INT32 if x.dtype == np.int32 else v.spec.dtype if v.spec else None, x)
                 for x, v in zip(ins, node.inputs, strict=True)]  # fmt: skip
        return [s.value for s in run_node(node, specs)]


def wide(*shape):
    """Integers of all sizes."""
    numbers = RNG.integers(-(2**31), 2**31, shape) >> RNG.integers(0, 31, shape)
    return numbers.astype(np.int32)


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], **attributes)


MODELS = {
    "products": [node("Mul", "x z", "y")],
    "products of one": [node("Mul", "x x", "y")],
    "products by a constant": [node("Mul", "x three", "y")],
    "sums of products": [node("Mul", "x three", "a"), node("Add", "a z", "y")],
    "sums of small products": [node("Mod", "z seven", "a"), node("Mul", "a three", "b"), node("Add", "b x", "y")],
    "sums": [node("Add", "x z", "y")],
    "a term twice": [node("Add", "x z", "a"), node("Add", "a x", "y")],
    "doubled": [node("Add", "x x", "a"), node("Sub", "a z", "y")],
    "quotients": [node("Div", "x z", "y")],
    "rests": [node("Mod", "x z", "y")],
    "rests with the sign of the dividend": [node("Mod", "x z", "y", fmod=1)],
    "bits of both": [node("BitwiseAnd", "x z", "y")],
    "bits of one": [node("BitwiseXor", "x z", "y")],
    "powers": [node("Pow", "x three", "y")],
    "the place of the largest": [node("ArgMax", "x", "a", axis=1), node("Cast", "a", "y", to=I32)],
    "the place of the smallest": [node("ArgMin", "x", "a", axis=0), node("Cast", "a", "y", to=I32)],
    "products of the largest": [helper.make_node("TopK", ["x", "two"], ["a", "p"]), node("Mul", "a three", "y")],
    "the last place": [node("ArgMax", "x", "a", axis=1, select_last_index=1), node("Cast", "a", "y", to=I32)],
}


@pytest.mark.parametrize("name", MODELS)
def test_integers_beyond_float32_are_exact_in_the_original(name):
    x, z = wide(30, 40), wide(30, 40)
    z[np.isin(z, (0, -1))] = 2**31 - 1  # quotients by these are not defined
    x[0], x[1:, 0] = 3, 3
    x[0, :3], x[3:5, 0] = [2**24, 2**24 + 1, 2**24 + 1], [-(2**24), -(2**24) - 1]
    constants = {"three": np.int32(3), "seven": np.int32(7), "two": np.array([2])}
    read = {i for n in MODELS[name] for i in n.input}
    inputs = [(k, I32, list(v.shape)) for k, v in (("x", x), ("z", z)) if k in read]
    model = make(MODELS[name], inputs, [("y", I32, None)], {k: v for k, v in constants.items() if k in read}, opset=18)
    given = {k: v for k, v in (("x", x), ("z", z)) if k in read}
    graph = for_original(load_model(model.SerializeToString()).graph, "model", {})
    (expected,) = run(load(model), **given)
    (found,) = Played(graph, **given).outputs
    np.testing.assert_array_equal(found, expected)


def test_products_that_float32_holds_are_written_as_they_are():
    nodes = [node("Mod", "x seven", "a"), node("Mul", "a three", "y")]
    model = make(nodes, [("x", I32, [5])], [("y", I32, None)], {"three": np.int32(3), "seven": np.int32(7)})
    graph = for_original(load_model(model.SerializeToString()).graph, "model", {})
    assert [M(n.params.mode) for n in graph.nodes] == [M.MOD, M.MUL]


OF_16_BITS = {
    "products": [node("Mul", "a b", "q")],
    "differences": [node("Sub", "a b", "q")],
    "quotients": [node("Div", "a b", "q")],
    "comparisons": [node("Greater", "a b", "c"), node("Where", "c a b", "q")],
    "equal ones": [node("Equal", "a b", "q")],
    "places": [node("ArgMax", "a", "q", axis=1)],
    "chosen ones": [node("Gather", "a places", "q")],
    "other bits": [node("BitwiseNot", "a", "q")],
    "limited ones": [node("Max", "a b", "q")],
    "sums": [node("ReduceMax", "a", "q")],
}


@pytest.mark.parametrize("name", OF_16_BITS)
def test_uint16_inside_of_a_model_is_computed_as_int32(name):
    """The original converts to uint16 and from it, and has nearly no operators for it."""
    nodes = [node("Cast", "x", "a", to=TensorProto.UINT16), node("Cast", "z", "b", to=TensorProto.UINT16)]
    nodes += [*OF_16_BITS[name], node("Cast", "q", "y", to=I32)]
    given = {k: RNG.integers(1, 65536, (5, 6)).astype(np.int32) for k in "xz"}
    constants = {"places": np.array([1, 0])} if name == "chosen ones" else {}
    model = make(nodes, [(k, I32, [5, 6]) for k in "xz"], [("y", I32, None)], constants, opset=18)
    graph = for_original(load_model(model.SerializeToString()).graph, "model", {})
    assert what_the_original_lacks(graph) == []
    (expected,) = run(load(model), **given)
    np.testing.assert_array_equal(run_reference(graph, {v.name: given[v.name] for v in graph.inputs})[0], expected)
