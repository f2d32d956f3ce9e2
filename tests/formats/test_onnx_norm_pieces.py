"""Normalizations that programs write in pieces become one step, in all the ways that exporters write them."""

import numpy as np
import pytest
from support.onnx_pieces import Pieces, check, normal

pytestmark = pytest.mark.filterwarnings("ignore")
LAST = np.array([-1])
W, B = normal(32), normal(32)


def mean(p, x, axes=LAST):
    return p("ReduceMean", x, axes)


def root(p, x, axes=LAST, square="Pow", power=None):
    """Of the mean square."""
    total = p("Add", mean(p, p("Pow", x, 2.0) if square == "Pow" else p("Mul", x, x), axes), 1e-5)
    return p("Sqrt", total) if power is None else p("Pow", total, power)


def centred(p, x, axes=LAST):
    return p("Sub", x, mean(p, x, axes))


def with_root(p, x, apply):
    """Weight and bias behind what a function makes of the centred numbers and their root."""
    c = centred(p, x)
    return p("Add", p("Mul", apply(c, root(p, c)), W), B)


def of_tensorflow(p, x, rest, swapped=False):
    """As one factor for x, and a sum of what is left."""
    m = mean(p, x)
    distance = p("Sub", m, x) if swapped else p("Sub", x, m)
    factor = p("Mul", p("Reciprocal", root(p, distance, square="Mul")), W)
    return p("Add", p("Mul", x, factor), rest(m, factor))


def subtracted_twice(p, x):
    m = mean(p, x)
    return p("Add", p("Mul", p("Div", p("Sub", x, m), root(p, p("Sub", x, m))), W), B)


def by_power(p, x):
    c = centred(p, x)
    return p("Add", p("Mul", p("Mul", c, root(p, c, power=-0.5)), W), B)


def weight_and_root(p, x):
    c = centred(p, x)
    return p("Add", p("Mul", c, p("Mul", p("Reciprocal", root(p, c)), W)), B)


def weight_first(p, x):
    c = centred(p, x)
    return p("Add", p("Div", p("Mul", c, W), root(p, c)), B)


def only_weight(p, x):
    c = centred(p, x)
    return p("Mul", p("Div", c, root(p, c)), W)


def alone(p, x):
    c = centred(p, x)
    return p("Div", c, root(p, c))


LAYER_NORMS = {
    "torch": lambda p, x: with_root(p, x, lambda c, r: p("Div", c, r)),
    "torch, older": subtracted_twice,
    "by reciprocal": lambda p, x: with_root(p, x, lambda c, r: p("Mul", c, p("Reciprocal", r))),
    "by quotient": lambda p, x: with_root(p, x, lambda c, r: p("Mul", c, p("Div", 1.0, r))),
    "by power": by_power,
    "weight with root": weight_and_root,
    "weight first": weight_first,
    "without bias": only_weight,
    "without weights": alone,
    "tensorflow": lambda p, x: of_tensorflow(p, x, lambda m, f: p("Sub", B, p("Mul", m, f))),
    "tensorflow, negated": lambda p, x: of_tensorflow(p, x, lambda m, f: p("Add", B, p("Mul", p("Neg", m), f))),
    "tensorflow, swapped": lambda p, x: of_tensorflow(p, x, lambda m, f: p("Sub", B, p("Mul", m, f)), True),
}


@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_normalization_becomes_one_step(name):
    p = Pieces()
    LAYER_NORMS[name](p, "x")
    assert check(p, 3 + normal(2, 5, 32)) == ["GeneralNorm"]


@pytest.mark.parametrize("axes", [[2, 1], [1], [1, 2]])
def test_normalization_of_other_axes(axes):
    p = Pieces()
    shape = [d if k in axes else 1 for k, d in enumerate((2, 5, 32))]
    c = centred(p, "x", np.array(axes))
    p("Add", p("Mul", p("Div", c, root(p, c, np.array(axes))), normal(*shape)), normal(*shape))
    assert check(p, 3 + normal(2, 5, 32)) == ["GeneralNorm"]


def test_normalization_of_images_becomes_that_of_instances():
    p = Pieces()
    c = centred(p, "x", np.array([2, 3]))
    p("Add", p("Mul", p("Div", c, root(p, c, np.array([2, 3]))), normal(6, 1, 1)), normal(6, 1, 1))
    assert check(p, 3 + normal(2, 6, 7, 5)) == ["InstanceNorm"]


RMS_NORMS = {
    "llama": lambda p, x: p("Mul", W, p("Mul", x, p("Div", 1.0, root(p, x)))),
    "torch": lambda p, x: p("Mul", p("Mul", x, p("Reciprocal", root(p, x))), W),
    "division": lambda p, x: p("Mul", p("Div", x, root(p, x, square="Mul")), W),
    "by power": lambda p, x: p("Mul", p("Mul", x, root(p, x, power=-0.5)), W),
    "gemma": lambda p, x: p("Mul", p("Mul", x, p("Reciprocal", root(p, x))), p("Add", W, 1.0)),
    "weight with root": lambda p, x: p("Mul", x, p("Mul", p("Reciprocal", root(p, x)), W)),
    "without weight": lambda p, x: p("Div", x, root(p, x)),
}


@pytest.mark.parametrize("name", RMS_NORMS)
def test_normalization_by_the_mean_square_becomes_one_step(name):
    p = Pieces()
    RMS_NORMS[name](p, "x")
    assert check(p, 3 + normal(2, 5, 32)) == ["RmsNorm"]


def test_what_is_nearly_a_normalization_stays():
    def other_weights(p):
        m = mean(p, "x")
        c = p("Sub", "x", m)
        inverse = p("Reciprocal", root(p, c))
        p("Sub", p("Mul", "x", p("Mul", inverse, W)), p("Mul", m, p("Mul", inverse, B)))

    def other_mean(p):
        c = centred(p, "x")
        p("Div", p("Sub", "x", mean(p, "x", np.array([1]))), root(p, c))

    def read_elsewhere(p):
        c = centred(p, "x")
        p("Add", p("ReduceMax", c, LAST), p("Mul", p("Div", c, root(p, c)), W))

    def weight_of_rows(p):
        c = centred(p, "x")
        p("Mul", p("Div", c, root(p, c)), normal(5, 32))

    for pieces, steps in [
        (other_weights, set()),
        (other_mean, set()),
        (read_elsewhere, {"RmsNorm"}),  # of what is centred already
        (weight_of_rows, {"GeneralNorm"}),
    ]:
        p = Pieces()
        pieces(p)
        found = check(p, normal(2, 5, 32))
        assert {"GeneralNorm", "RmsNorm"} & {*found} == steps and len(found) > 1, pieces.__name__


@pytest.mark.parametrize("shift", [None, 0.1, normal(32) / 10])
def test_powers_of_a_normalization_are_no_long_sums(shift):
    """Each of the squares has the square of the number of terms, if they are taken apart."""
    p = Pieces()
    c = centred(p, "x")
    y = p("Mul", p("Div", c, root(p, c)), 0.2)
    for _ in range(12):
        y = p("Mul", y, y) if shift is None else p("Mul", p("Add", y, shift), y)
    p("Add", y, W)
    found = check(p, normal(2, 5, 32))
    assert found.count("GeneralNorm") <= 1 < len(found)
