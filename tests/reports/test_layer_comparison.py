"""Which results of two runs are compared: those that belong together."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import GraphBuilder, QuantizedBuilder, run, session_of
from support.onnx_exports import exported
from support.quantized import q8, u8

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.reports.differences import compare_closely
from megengine_lite._core.reports.model_report.layers import (
    LayerResult,
    compare_layers,
    layer_results,
    note_on_doubts,
    stored_results,
)
from megengine_lite._core.reports.model_report.markdown import to_markdown
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig
from megengine_lite.errors import LiteValueError

M = params.ElemwiseMode


def two_branches(order, names, scale=1.0, unlike=1.0):
    """Results of ReLU(conv + conv) and another convolution behind it; ``order`` is that of both in the file.

    With ``scale`` the weights of the branch "short" are others; they differ from those of "long" by a part ``unlike``.
    """
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((16, 16, 1, 1), np.float32) for name in ("long", "short", "last")}
    weights["short"] = np.float32(scale) * (unlike * weights["short"] + (1 - unlike) * weights["long"])
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


@pytest.mark.parametrize("unlike", [1, 0.1, 0.03])
def test_other_branch_of_a_sum_is_no_partner(unlike):
    """One run fuses the sum into the one branch, the other into the other: what is left is not the same."""
    ours = two_branches(["long", "short"], "ours_{}".format, unlike=unlike)
    theirs = two_branches(["short", "long"], "theirs_{}".format, unlike=unlike)
    assert [r.op for r in ours] == [r.op for r in theirs] == ["FusedConv"] * 3
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["matched_by"] for x in found["layers"]] == ["value", "value"]
    assert found["first"] is None and found["unmatched"] == [1, 1]


def test_step_of_an_exported_operator_is_its_partner_if_both_do_the_same():
    def result(number, op, name, value):
        return LayerResult(number, op, name, None, np.full(3, value, np.float32), (), (name,))

    ours = [result(0, "Conv", "x", 0), result(1, "Conv", "y", 1)]
    theirs = [
        result(0, "Abs", "x/Abs", 7),
        result(1, "Conv", "x/Conv", 8),
        result(2, "Conv", "y/Conv", 9),
        result(3, "Abs", "y/Abs", 6),
    ]
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [(x["name"], x["matched_by"], x["difference"]) for x in found["layers"]] == [("x", "stem", 8)]
    turned = compare_layers(theirs, ours, same_file=False, tolerance=1e-3, names="ab")
    assert [(x["name"], x["matched_by"]) for x in turned["layers"]] == [("x/Conv", "stem")]


def test_branch_that_differs_is_the_first_difference():
    ours = two_branches(["long", "short"], "ours_{}".format)
    theirs = two_branches(["long", "short"], "theirs_{}".format, scale=1.5)
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["equal"] for x in found["layers"]][-2:] == [False, False] and found["unmatched"] == [0, 0]


def alike(n, noise, order):
    """Results of n branches of a sum, all alike, in an order of their own and with some noise."""
    rng = np.random.default_rng(1)
    values = [rng.standard_normal((4, 9)).astype(np.float32) for _ in range(n)]
    other = np.random.default_rng(2)
    made = [
        LayerResult(k, "Conv", f"branch {k}", None, v + noise * other.standard_normal(v.shape), (99,))
        for k, v in enumerate(values)
    ]
    total = LayerResult(n, "Add", "sum", None, sum(r.array for r in made), tuple(range(n)), ("sum",))
    return [*(made[k] for k in order), total]


@pytest.mark.parametrize("noise", [0, 1e-4, 0.01, 0.1])
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 2, 1), (2, 1, 0), (3, 2, 1, 0), (1, 0, 3, 2), (0, 3, 2, 1)])
def test_alike_branches_in_another_order_find_each_other(order, noise):
    """All of them, whatever the runs differ by: none is compared with another branch."""
    ours, theirs = alike(len(order), 0, sorted(order)), alike(len(order), noise, order)
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert len(found["layers"]) == len(order) + 1 and found["unmatched"] == [0, 0]
    assert all(layer["sure"] for layer in found["layers"])
    for layer in found["layers"]:
        assert layer["relative"] <= 3 * noise + 1e-6, layer


def test_another_branch_is_marked_where_what_follows_differs():
    """One run has a result of the one branch only, the other of the other; and there is a real fault behind."""
    zero = np.zeros(9, np.float32)
    ours = [
        LayerResult(0, "Conv", "long", None, zero + np.arange(9)),
        LayerResult(1, "Add", "sum", None, zero + 5, (0,), ("sum",)),
    ]
    theirs = [
        LayerResult(7, "Conv", "short", None, zero + np.arange(9)[::-1]),
        LayerResult(8, "Add", "total", None, zero + 5.5, (7,), ("sum",)),
    ]
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [(x["name"], x["equal"], x["sure"]) for x in found["layers"]] == [
        ("long", False, False),
        ("sum", False, True),
    ]
    assert found["first"] == 0 and "it may be the result of another branch" in found["note"]
    assert found["note"].endswith("The first that differs beyond doubt: 1, Add 'sum'.")
    said = to_markdown({"reports": [], "layers": found})
    assert " different? |" in said and "| Conv | long (there short) |" in said
    assert "With a question mark: found by their place alone" in said
    near = [LayerResult(7, "Conv", "short", None, 1.01 * ours[0].array), theirs[1]]
    found = compare_layers(ours, near, same_file=False, tolerance=1e-3, names="ab")
    assert [x["sure"] for x in found["layers"]] == [True, True] and "branch" not in found["note"]


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
    ours = [LayerResult(k, "Op", names[k], None, zero + k, (k - 1,), (names[k],)) for k in range(3)]
    theirs = [
        LayerResult(k + 9, "Op", names[k], None, zero + k + (0 if e == "T" else 10 * one), (k + 8,), (names[k],))
        for k, e in enumerate(equal)
    ]
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [x["equal"] for x in found["layers"]] == [e == "T" for e in believed if e != "."]
    assert found["unmatched"] == [believed.count(".")] * 2


# ---- quantized results ----------------------------------------------------------------------------------------------


def tied_network():
    """A convolution whose sums are eighths of a step, so that many results lie in the middle between two steps."""
    builder = QuantizedBuilder()
    x_type, w_type = q8(0.5), q8(0.25)
    stored = builder.node("TypeCvt", params.DTypeTable(dtype=x_type), [builder.data((1, 4, 12, 12))])
    weights = [builder.weight((8, 4, 3, 3), w_type, low=-9, high=9), builder.weight((8, 8, 1, 1), w_type)]
    made = builder.typed_node("ConvBiasForward", params.ConvBias(pad_h=1), [stored, weights[0]], q8(1.0))
    made = builder.typed_node("ConvBiasForward", params.ConvBias(), [made, weights[1]], q8(32.0))
    return builder.finish(builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [made])), builder.values


def test_note_tells_how_rounding_parts_a_quantized_network_from_onnx():
    pytest.importorskip("onnx")
    graph, values = tied_network()
    sessions = session_of(graph, explain=True), Session(load_model(exported(graph)[0]), SessionConfig(explain=True))
    results = []
    for session in sessions:
        run(session, **values)
        results.append(layer_results(session))
    found = compare_layers(*results, same_file=False, tolerance=1e-3, names="ab")
    first = found["layers"][found["first"]]
    assert (first["op"], first["steps"], first["same_rounding"]) == ("QuantizedConv", 1, False)
    assert [layer["matched_by"] for layer in found["layers"]] == ["stem"] * 2
    told = f"{first['unequal']:,} of 960 numbers differ, by 1 step of their quantized type at most. What lies in the"
    assert found["note"].startswith(told) and "to the even" in found["note"]
    assert f" {found['note']}" in to_markdown({"reports": [], "layers": found})
    mine, theirs = (next(r for r in rs if r.op == "QuantizedConv") for rs in results)
    unequal = mine.array != theirs.array
    assert unequal.sum() == first["unequal"] > 20
    # Ours is the one away from zero, theirs the even one: nothing but halves differs.
    assert (np.abs(mine.array[unequal]) == np.abs(theirs.array[unequal]) + 1).all()
    assert (theirs.array[unequal] % 2 == 0).all()


def of_type(values, dtype, number=0):
    return LayerResult(number, "Op", "y", dtype, np.asarray(values, dtype.storage), (), ("y",))


@pytest.mark.parametrize(
    ("ours", "theirs", "note"),
    [
        (of_type([1, 2, 3], q8(0.5)), of_type([1, 2, 9], q8(0.5)), "1 of 3 numbers differ, by 6 steps"),
        (of_type([1, 2, 3], q8(0.5)), of_type([129, 130, 132], u8(0.5, 128)), "1 of 3 numbers differ, by 1 step of"),
        (of_type([1, 2, 3], q8(0.5)), of_type([1, 2, 3], q8(0.25)), "3 of 3 numbers differ."),
        (of_type([1, 2], FLOAT32), of_type([1, 3], FLOAT32), "1 of 2 numbers differ."),
        (of_type([1, 2], q8(0.5)), of_type([1, 2, 3], q8(0.5)), ""),
        (of_type([1, 2], q8(0.5)), of_type([1, 2], q8(0.5)), ""),
    ],
)
def test_note_counts_numbers_and_steps(ours, theirs, note):
    found = compare_layers([ours], [theirs], same_file=False, tolerance=1e-3, names="ab")
    assert found["note"].startswith(note) and bool(found["note"]) == bool(note)
    assert "middle" not in found["note"]


def test_stored_values_of_which_no_name_is_known_are_refused():
    ours, theirs = of_type([1, 2], FLOAT32), stored_results({"z": np.ones(2)})
    with pytest.raises(
        LiteValueError,
        match=r"none of the 1 stored values has the name of a result of this model, that of .*: the first are 'y'",
    ):
        compare_layers([ours], theirs, same_file=False, tolerance=1e-3, names="ab")


def test_complex_numbers_are_not_compared():
    found = compare_closely(np.array([1.0]), np.array([1 + 100j]), 1e-3)
    assert found == {"equal": False, "reason": "complex numbers are not compared"}


# ---- names that say nothing ------------------------------------------------------------------------------------------


def chain(numbers, scales=(1.0,) * 8, ops=("Product", "Softmax"), shapes=((4, 8),)):
    """A chain of results named by numbers, as exporters name tensors; ``scales`` are faults."""
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(shapes[k % len(shapes)]).astype(np.float32) for k in range(len(scales))]
    return [
        LayerResult(k, ops[k % len(ops)], str(n), None, np.float32(scale) * v, (k - 1,), (str(n),))
        for k, (n, scale, v) in enumerate(zip(numbers, scales, values, strict=True))
    ]


SHIFTED = [[3, 4, 5, 6, 7, 8, 9, 10], [1, 2, 3, 5, 6, 7, 8, 9], [8, 7, 6, 5, 4, 3, 2, 1], [2, 1, 4, 3, 6, 5, 8, 7]]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("fault", [None, 0, 3, 7])
@pytest.mark.parametrize("numbers", [range(1, 9), *SHIFTED])
def test_names_that_numbers_contradict_are_not_believed(numbers, fault, turned):
    """The result at the same place is the partner of each, whatever both are called."""
    scales = [1.5 if k == fault else 1.0 for k in range(8)]
    ours, theirs = chain(range(1, 9)), chain(numbers, scales)
    if turned:
        ours, theirs = theirs, ours
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    pairs = [(x["name"], x["other_name"]) for x in found["layers"]]
    expected = [(x.name, y.name) for x, y in zip(ours, theirs, strict=True)]
    if fault is not None and found["unmatched"] == [1, 1]:
        expected.pop(fault)  # what is behind is the same: the pair says nothing
        assert found["first"] is None
    else:
        assert found["first"] == fault
    assert pairs == expected
    called = {r.name for r in theirs}
    for layer in found["layers"]:
        other = layer["name"] != layer["other_name"]
        assert layer["misnamed"] == (other and layer["name"] in called)
        assert not other or layer["matched_by"] in ("value", "order")


def test_names_that_operators_or_shapes_contradict_come_last():
    for more in ({"ops": ("Sum", "Softmax")}, {"shapes": ((4, 8), (8, 4))}):
        theirs = [r for r in chain(range(1, 9), [1.5] * 8, **more) if r.name in "357"]
        ours = chain(range(1, 9))
        found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
        assert [x["other_name"] for x in found["layers"]] == ["3", "5", "7"]
    # one run has kept a result that the other has not, so that the rest is shifted
    theirs = chain([1, 3, 4, 5, 6, 7, 8, 9])
    theirs.insert(1, LayerResult(99, "Identity", "2", None, -theirs[0].array, (0,), ("2",)))
    found = compare_layers(chain(range(1, 9)), theirs, same_file=False, tolerance=1e-3, names="ab")
    assert found["first"] is None and len(found["layers"]) == 8 and found["unmatched"] == [0, 1]


def test_name_with_nothing_in_common_is_marked_where_what_follows_is_the_same():
    ours, theirs = chain(range(1, 5), [1] * 4), chain(range(1, 5), [1, 1, -1, 1])
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert [(x["equal"], x["sure"]) for x in found["layers"]] == [(True, True)] * 2 + [(False, False), (True, True)]
    assert found["first"] == 2 and "found by its name alone" in found["note"]
    assert note_on_doubts(found["layers"]).startswith("With a question mark: found by their name alone")
    stored = stored_results({r.name: r.array for r in theirs})
    found = compare_layers(ours, stored, same_file=False, tolerance=1e-3, names="ab")
    assert [x["sure"] for x in found["layers"]] == [True, True, False, True]
    ours, theirs = chain(range(1, 5), [1] * 4), chain(range(1, 5), [1, 1, -1, 1.5])
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    assert all(x["sure"] for x in found["layers"]) and found["first"] == 2
    found = compare_layers(ours, chain(range(1, 5), [1, 1, -1, 1]), same_file=True, tolerance=1e-3, names="ab")
    assert all(x["sure"] for x in found["layers"])


def test_equal_numbers_without_information_do_not_contradict_a_name():
    """All zero behind a ReLU: so may any other result be."""

    def zeros(*values):
        return [
            LayerResult(k, "Relu", f"r{k}", None, np.full(9, v, np.float32) if v == 0 else np.arange(9.0) * v, (k - 1,),
                        (f"r{k}",))
            for k, v in enumerate(values)
        ]  # fmt: skip

    found = compare_layers(zeros(1, 0, 2, 5), zeros(1, 3, 0, 6), same_file=False, tolerance=1e-3, names="ab")
    assert [(x["name"], x["other_name"]) for x in found["layers"]] == [(f"r{k}",) * 2 for k in range(4)]
    assert found["first"] == 1


def test_ratio_of_nearly_zero_has_no_sign():
    from megengine_lite._core.reports.model_report import html, markdown

    assert [markdown._short(x) for x in (-0.0, -0.5, 12.34)] == ["0", "-0.5", "12.3"]
    assert "snr_db.toFixed" not in (html.PAGE / "layers.js").read_text()
