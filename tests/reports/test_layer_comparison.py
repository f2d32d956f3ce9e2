"""Which results of two runs are compared: those that belong together."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.ir import params
from megengine_lite._core.reports.model_report.layers import LayerResult, compare_layers, layer_results

M = params.ElemwiseMode


def two_branches(order, names, scale=1.0):
    """Results of ReLU(conv + conv) and another convolution behind it; ``order`` is that of both in the file.

    With ``scale`` the weights of the branch "short" are others.
    """
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 16, 1, 1), np.float32) for name in ("long", "short", "last")}
    weights["short"] *= np.float32(scale)
    builder = GraphBuilder()
    x = builder.input("data", (1, 16, 8, 8))

    def conv(y, name):
        return builder.node("Convolution", params.Convolution(), [y, builder.constant(weights[name])], name=names(name))

    made = {name: conv(x, name) for name in order}
    total = builder.node("Elemwise", params.Elemwise(mode=M.ADD), [made["long"], made["short"]], name=names("sum"))
    relu = builder.node("Elemwise", params.Elemwise(mode=M.RELU), [total], name=names("relu"))
    session = session_of(builder.finish(conv(relu, "last")), explain=True)
    run(session, data=rng.standard_normal((1, 16, 8, 8), np.float32))
    return layer_results(session)


def test_other_branch_of_a_sum_is_no_partner():
    """One run fuses the sum into the one branch, the other into the other: what is left is not the same."""
    ours = two_branches(["long", "short"], "ours_{}".format)
    theirs = two_branches(["short", "long"], "theirs_{}".format)
    assert [r.op for r in ours] == [r.op for r in theirs] == ["FusedConv"] * 3
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["matched_by"] for x in found["layers"]] == ["value", "value"]
    assert found["first"] is None and found["unmatched"] == [1, 1]


def test_branch_that_differs_is_the_first_difference():
    ours = two_branches(["long", "short"], "ours_{}".format)
    theirs = two_branches(["long", "short"], "theirs_{}".format, scale=1.5)
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["equal"] for x in found["layers"]][-2:] == [False, False] and found["unmatched"] == [0, 0]


@pytest.mark.parametrize(
    ("equal", "believed"),
    [
        ("TFT", "T.T"),  # what is made of it is the same
        ("TFF", "TFF"),
        ("FFT", "..T"),  # and what is made of that
        ("FFF", "FFF"),
    ],
)
def test_only_differences_with_consequences_are_believed_by_order(equal, believed):
    """A chain of results, of which the last alone has a name of its own; T is the same in both runs, F is not."""
    zero, one = np.zeros(3, np.float32), np.ones(3, np.float32)
    names = ["", "", "last"]
    ours = [LayerResult(k, "Op", names[k], None, zero + k, (k - 1,)) for k in range(3)]
    theirs = [
        LayerResult(k + 9, "Op", names[k], None, zero + k + (0 if e == "T" else 10 * one), (k + 8,))
        for k, e in enumerate(equal)
    ]
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["equal"] for x in found["layers"]] == [e == "T" for e in believed if e != "."]
    assert found["unmatched"] == [believed.count(".")] * 2
