"""Functions that programs write in pieces become the steps that one operator would become."""

import numpy as np
import pytest
from support.onnx_pieces import Pieces, check, normal

pytestmark = pytest.mark.filterwarnings("ignore")


def clip6(p, x):
    return p("Clip", p("Add", x, 3.0), 0.0, 6.0)


def by_tanh(p, x, inner):
    return p("Mul", p("Mul", x, 0.5), p("Add", p("Tanh", inner), 1.0))


def cube(p, x):
    return p("Mul", p("Mul", x, x), x)


ROOT = (2 / np.pi) ** 0.5
ACTIVATIONS = {
    "silu": lambda p, x: p("Mul", x, p("Sigmoid", x)),
    "silu, turned around": lambda p, x: p("Mul", p("Sigmoid", x), x),
    "silu by exp": lambda p, x: p("Div", x, p("Add", p("Exp", p("Neg", x)), 1.0)),
    "gelu of torch": lambda p, x: p("Mul", p("Mul", x, p("Add", p("Erf", p("Div", x, 2**0.5)), 1.0)), 0.5),
    "gelu of torch, newer": lambda p, x: p("Mul", x, p("Mul", 0.5, p("Add", p("Erf", p("Div", x, 2**0.5)), 1.0))),
    "gelu of tf": lambda p, x: p("Mul", p("Mul", x, 0.5), p("Add", 1.0, p("Erf", p("Mul", x, 0.5**0.5)))),
    "gelu by tanh, of huggingface": lambda p, x: by_tanh(
        p, x, p("Mul", p("Add", x, p("Mul", p("Pow", x, 3.0), 0.044715)), ROOT)
    ),
    "gelu by tanh, of torch": lambda p, x: by_tanh(p, x, p("Mul", p("Add", x, p("Mul", cube(p, x), 0.044715)), ROOT)),
    "gelu by tanh, factored": lambda p, x: by_tanh(
        p, x, p("Mul", p("Mul", x, ROOT), p("Add", p("Mul", p("Mul", x, 0.044715), x), 1.0))
    ),
    "hardswish": lambda p, x: p("Mul", x, p("HardSigmoid", x, alpha=1 / 6, beta=0.5)),
    "hardswish of torch": lambda p, x: p("Div", p("Mul", x, clip6(p, x)), 6.0),
    "hardswish of tf": lambda p, x: p("Mul", x, p("Mul", clip6(p, x), 1 / 6)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_become_part_of_products(name):
    p = Pieces()
    ACTIVATIONS[name](p, p("Add", p("MatMul", "x", normal(32, 48)), normal(48)))
    assert check(p, normal(2, 5, 32), 1e-4) == ["FusedMatMul"]
    p = Pieces()
    ACTIVATIONS[name](p, p("Conv", "x", normal(16, 8, 3, 3), normal(16)))
    assert check(p, normal(1, 8, 9, 9), 1e-4) == ["FusedConv"]


@pytest.mark.parametrize(
    "other",
    [
        lambda p, x: p("Mul", x, p("Tanh", x)),
        lambda p, x: p("Mul", x, p("Sigmoid", p("Mul", x, 1.702))),  # nearly a GELU
        lambda p, x: p(
            "Mul", p("Mul", x, p("Add", p("Erf", p("Div", x, 1.414)), 1.0)), 0.5
        ),  # a number that is cut off
        lambda p, x: p("Div", p("Mul", x, p("Clip", p("Add", x, 3.0), 0.0, 6.01)), 6.0),
        lambda p, x: by_tanh(p, x, p("Mul", p("Add", x, p("Mul", cube(p, x), 0.0447)), ROOT)),
    ],
)
def test_functions_that_are_nearly_activations_stay(other):
    p = Pieces()
    other(p, p("MatMul", "x", normal(32, 48)))
    assert check(p, 5 * normal(4, 32), 1e-4) == ["MatrixMul", "FusedElemwise"]


def test_pieces_that_are_read_elsewhere_stay():
    p = Pieces()
    x = p("Add", "x", normal(48))
    gate = p("Sigmoid", x)
    p("Add", p("Mul", x, gate), p("ReduceMax", gate, np.array([1])))
    assert "FusedElemwise" in check(p, normal(4, 48))


def test_functions_behind_convolutions_of_rows_become_part_of_them():
    p = Pieces()
    x = p("Conv", "x", normal(16, 8, 3), pads=[1, 1])
    x = p("BatchNormalization", x, *(np.abs(normal(16)) + 0.1 for _ in range(4)))
    x = p("Add", p("Relu", x), normal(16, 1))
    x = p("Conv", x, normal(4, 16, 1), normal(4))
    p("Mul", x, p("Sigmoid", x))
    assert check(p, normal(1, 8, 20), 1e-4) == ["FusedConv", "FusedElemwise", "FusedConv"]


@pytest.mark.parametrize(("axes", "steps"), [((1, 2, 0), 1), ((2, 0, 1), 0)])
def test_transpositions_after_each_other_are_one(axes, steps):
    p = Pieces()
    p("Neg", p("Transpose", p("Transpose", p("Neg", "x"), perm=(1, 2, 0)), perm=axes))
    assert check(p, normal(2, 5, 3)).count("Dimshuffle") == steps


def test_axes_of_length_1_between_transpositions():
    p = Pieces()
    x = p("Unsqueeze", p("Transpose", "x", perm=(2, 0, 1)), np.array([0, 3]))
    p("Neg", p("Squeeze", p("Transpose", x, perm=(3, 2, 0, 4, 1)), np.array([0, 2])))
    assert check(p, normal(2, 5, 3)).count("Dimshuffle") <= 2
