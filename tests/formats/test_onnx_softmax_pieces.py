"""Softmax, and its logarithm, that programs write in pieces become one step."""

import numpy as np
import pytest
from support.onnx_pieces import Pieces, check, normal

LAST = np.array([-1])


def exponentials(p, axis=LAST, minus=None):
    largest = p("ReduceMax", "x", axis)
    shifted = p("Sub", "x", largest if minus is None else minus)
    return largest, shifted, p("Exp", shifted)


def shares(p, axis=LAST):
    _, _, e = exponentials(p, axis)
    p("Div", e, p("ReduceSum", e, axis))


def logarithm(p, axis=LAST):
    _, shifted, e = exponentials(p, axis)
    p("Sub", shifted, p("Log", p("ReduceSum", e, axis)))


def logarithm_of_megengine(p, axis=LAST):
    largest, _, e = exponentials(p, axis)
    p("Sub", "x", p("Add", largest, p("Log", p("ReduceSum", e, axis))))


@pytest.mark.parametrize(
    ("pieces", "steps"),
    [(shares, ["Softmax"]), (logarithm, ["LogSoftmax"]), (logarithm_of_megengine, ["LogSoftmax"])],
    ids=lambda v: getattr(v, "__name__", None),
)
@pytest.mark.parametrize("length", [1, 7, 8, 56, 197, 1000])
def test_pieces_become_one_step(pieces, steps, length):
    p = Pieces()
    pieces(p)
    assert check(p, 5 * normal(2, 3, length)) == steps


def test_any_axis_of_softmax():
    p = Pieces()
    shares(p, np.array([1]))
    assert check(p, 5 * normal(2, 21, 5, 7)) == ["Softmax"]


def test_logarithm_along_another_axis_stays():
    p = Pieces()
    logarithm(p, np.array([1]))
    found = check(p, 5 * normal(2, 21, 5, 7))
    assert "LogSoftmax" not in found
    assert len(found) > 1


def test_masked_and_unknown_numbers():
    x = normal(5, 40)
    x[0, 7:] = -np.inf
    x[1, 3] = np.nan
    x[2] += 1e30
    x[3, 0] = np.inf
    for pieces in (shares, logarithm):
        p = Pieces()
        pieces(p)
        assert len(check(p, x)) == 1


def test_what_is_nearly_a_softmax_stays():
    def other_number(p):
        _, _, e = exponentials(p, minus=1.0)
        p("Div", e, p("ReduceSum", e, LAST))

    def other_axis(p):
        _, _, e = exponentials(p)
        p("Div", e, p("ReduceSum", e, np.array([1])))

    def two_axes(p):
        _, _, e = exponentials(p, np.array([1, 2]))
        p("Div", e, p("ReduceSum", e, np.array([1, 2])))

    def other_numerator(p):
        _, shifted, e = exponentials(p)
        p("Div", shifted, p("ReduceSum", e, LAST))

    def read_elsewhere(p):
        _, _, e = exponentials(p)
        total = p("ReduceSum", e, LAST)
        p("Add", total, p("Div", e, total))

    for pieces in other_number, other_axis, two_axes, other_numerator, read_elsewhere:
        p = Pieces()
        pieces(p)
        found = check(p, normal(2, 5, 32))
        assert not {"Softmax", "LogSoftmax"} & {*found}, pieces.__name__
