"""``If`` whose condition is computed: branches that are chosen when the model runs."""

import json

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite._core.runtime import plans_by_shape
from megengine_lite.cli import main
from megengine_lite.errors import LiteError, ModelFormatError, ShapeError, UnsupportedOperatorError

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X = np.arange(-6, 6, dtype=np.float32).reshape(3, 4) / 2


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


def branch(nodes, *outputs, **constants):
    """A branch; outputs are (name, type)."""
    infos = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    tensors = [helper.make_tensor(k, F, np.shape(v), np.ravel(v)) for k, v in constants.items()]
    return helper.make_graph(nodes, "branch", [], infos, tensors)


def decided(condition, then, otherwise, outputs, inputs=(("x", F, ["n", "m"]),), before=(), after=(), **constants):
    """A model whose If has the outputs y0, y1 …"""
    names = [f"y{k}" for k in range(len(then.output))]
    nodes = [*before, helper.make_node("If", [condition], names, "choice", then_branch=then, else_branch=otherwise)]
    return make([*nodes, *after], list(inputs), outputs, constants)


def check(network, model, **given):
    for ours, theirs in zip(run(network, **given), expected(model, **given), strict=True):
        assert ours.shape == (theirs.shape or (1,)) and ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


POSITIVE = [node("ReduceSum", "x", "s", keepdims=0), node("Greater", "s zero", "c")]
ZERO = {"zero": np.float32(0)}
ADD = branch([node("Add", "x w", "r")], ("r", F), w=[2.0])
CUT = branch([node("Relu", "x", "t"), node("Mul", "t t", "r")], ("r", F))


def test_a_computed_condition_chooses_anew_in_every_run():
    model = decided("c", ADD, CUT, [("z", F, ["n", "m"])], before=POSITIVE, after=[node("Neg", "y0", "z")], **ZERO)
    network = load(model)
    for x in (X, -X - 1, X + 3, X + 4, np.ones((2, 5), np.float32), -np.ones((2, 5), np.float32), X):
        check(network, model, x=x)


def test_a_branch_that_was_chosen_before_is_found_without_inference(monkeypatch):
    model = decided("c", ADD, CUT, [("z", F, ["n", "m"])], before=POSITIVE, after=[node("Neg", "y0", "z")], **ZERO)
    network = load(model)
    check(network, model, x=X + 3)
    check(network, model, x=-X - 9)
    inferred = []
    infer = plans_by_shape.infer_stage
    monkeypatch.setattr(plans_by_shape, "infer_stage", lambda *given: inferred.append(given) or infer(*given))
    for x in (X + 1, -X - 7, X + 2):
        check(network, model, x=x)
    assert not inferred
    check(network, model, x=X[:2])
    assert inferred


def test_an_input_can_be_the_condition():
    model = decided("c", ADD, CUT, [("y0", F, ["n", "m"])], [("x", F, ["n", "m"]), ("c", BOOL, [])])
    network = load(model)
    for k in range(6):
        given = {"x": X + k, "c": np.array(k % 3 == 0)}
        (ours,), (theirs,) = run(network, x=given["x"], c=np.uint8([k % 3 == 0])), expected(model, **given)
        np.testing.assert_array_equal(ours, theirs)


def test_branches_may_give_other_shapes_and_later_nodes_follow():
    long = branch([node("Concat", "x x", "r", axis=0)], ("r", F))
    short = branch([node("ReduceMax", "x", "r", keepdims=1, axes=[0])], ("r", F))
    after = [node("Softmax", "y0", "z"), node("Shape", "y0", "shape")]
    outputs = [("z", F, None), ("shape", I64, [2])]
    model = decided("c", long, short, outputs, before=POSITIVE, after=after, **ZERO)
    network = load(model)
    for x in (X, X + 3, X, -X - 2, X[:2] + 9):
        ours, shape = run(network, x=x)
        theirs = expected(model, x=x)
        np.testing.assert_allclose(ours, theirs[0], rtol=1e-6)
        assert shape.tolist() == theirs[1].tolist()


def test_branches_that_only_hand_on_what_is_there():
    first = branch([], ("x", F), ("w", F), w=[[1.0, 2.0]])
    second = branch([node("Identity", "other", "r")], ("r", F), ("x", F))
    before = [*POSITIVE, node("Abs", "x", "other")]
    outputs = [("y0", F, ["n", "m"]), ("y1", F, None)]
    model = decided("c", first, second, outputs, before=before, **ZERO)
    network = load(model)
    for x in (X, X + 3, -X - 1):
        check(network, model, x=x)


def test_branches_inside_of_branches_and_one_after_the_other():
    inner = helper.make_node("If", ["d"], ["r"], "inner", then_branch=ADD, else_branch=CUT)
    deep = branch([node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m four", "d"), inner], ("r", F))
    flat = branch([node("Neg", "x", "r")], ("r", F))
    again = helper.make_node("If", ["c"], ["z"], "again", then_branch=flat, else_branch=deep)
    model = decided(
        "c", deep, flat, [("y0", F, None), ("z", F, None)], before=POSITIVE, after=[again], four=np.float32(4), **ZERO
    )
    network = load(model)
    for x in (X, X + 1, X + 3, -X - 1, 8 - X, X * 20, -20 - X):
        check(network, model, x=x)


def test_integers_carried_in_other_types_agree():
    """A shape is carried by int32, a product of int64 is not."""
    shape = branch([node("Shape", "x", "r")], ("r", I64))
    product = branch([node("Mul", "big big", "r")], ("r", I64))
    inputs = [("x", F, ["n", "m"]), ("big", I64, [2])]
    after = [node("Cast", "y0", "z", to=F)]
    model = decided("c", shape, product, [("z", F, [2])], inputs, POSITIVE, after, **ZERO)
    network = load(model)
    big = np.array([3, 2_000_000], "int64")
    for x in (X, X + 3):
        (ours,), (theirs,) = run(network, x=x, big=big.astype("int32")), expected(model, x=x, big=big)
        np.testing.assert_array_equal(ours, theirs)


def test_scalars_come_out_of_branches():
    total = branch([node("ReduceSum", "x", "r", keepdims=0)], ("r", F))
    constant = branch([], ("w", F), w=np.float32(7))
    model = decided("c", total, constant, [("y0", F, [])], before=POSITIVE, **ZERO)
    network = load(model)
    for x in (X, X + 3):
        check(network, model, x=x)


def test_missing_operators_of_both_branches_are_listed():
    first = branch([node("Nothing", "x", "r", "one")], ("r", F))
    second = branch([node("Never", "x", "r", "two")], ("r", F))
    with pytest.raises(UnsupportedOperatorError, match=r"Nothing 'one'.*"):
        load(decided("c", first, ADD, [("y0", F, None)], before=POSITIVE, **ZERO))
    with pytest.raises(UnsupportedOperatorError, match=r"Never 'two'.*"):
        load(decided("c", ADD, second, [("y0", F, None)], before=POSITIVE, **ZERO))


def test_branches_that_do_not_fit_together_are_refused():
    two = branch([node("Neg", "x", "r"), node("Abs", "x", "s")], ("r", F), ("s", F))
    numbers = branch([node("Shape", "x", "r")], ("r", I64))
    names = [("y0", F, None)]
    with pytest.raises(ModelFormatError, match="the branches of If 'choice' have 1 and 2 outputs"):
        load(decided("c", ADD, two, names, before=POSITIVE, **ZERO))
    with pytest.raises(ModelFormatError, match="the branches of If 'choice' give FLOAT and INT64"):
        load(decided("c", ADD, numbers, names, before=POSITIVE, **ZERO))
    broken = decided("c", ADD, CUT, names, before=POSITIVE, **ZERO)
    del broken.graph.node[-1].attribute[1]
    with pytest.raises(ModelFormatError, match="If 'choice': it has no then_branch"):
        load(broken)


def test_a_condition_of_several_numbers_is_an_error_and_the_next_run_is_right():
    model = decided("c", ADD, CUT, [("y0", F, None)], [("x", F, ["n", "m"]), ("c", BOOL, ["k"])])
    network = load(model)
    with pytest.raises(ShapeError, match=r"'choice': the condition has the shape \(2,\), it must be one number"):
        run(network, x=X, c=np.uint8([1, 0]))
    np.testing.assert_array_equal(run(network, x=X, c=np.uint8([1]))[0], X + 2)


def test_faults_inside_of_a_branch_name_their_node():
    wrong = branch([node("MatMul", "x x", "r", "product")], ("r", F))
    model = decided("c", ADD, wrong, [("y0", F, None)], before=POSITIVE, **ZERO)
    network = load(model)
    np.testing.assert_array_equal(run(network, x=X + 3)[0], X + 5)
    with pytest.raises(LiteError, match="product"):
        run(network, x=X)
    np.testing.assert_array_equal(run(network, x=X + 3)[0], X + 5)


def test_commands_and_reports_take_models_with_branches(tmp_path, capsys):
    model = decided("c", ADD, CUT, [("z", F, ["n", "m"])], before=POSITIVE, after=[node("Neg", "y0", "z")], **ZERO)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    np.save(tmp_path / "x.npy", X)
    given = ["--input", f"x={tmp_path / 'x.npy'}"]
    for command in (["run", *given], ["info"], ["bench", *given, "--iter", "2"], ["profile", *given]):
        assert main([command[0], str(path), *command[1:]]) == 0, command
    capsys.readouterr()
    assert main(["info", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 2  # zero and w
    network = load(path)
    network.enable_profile_performance(str(tmp_path / "profile.json"))
    network.io_txt_dump(str(tmp_path / "dump.txt"))
    for x in (X, X + 3):
        np.testing.assert_allclose(run(network, x=x)[0], expected(model, x=x)[0])
    assert "choice" in (tmp_path / "dump.txt").read_text() or (tmp_path / "dump.txt").stat().st_size


def test_many_shapes_and_both_branches_keep_no_more_than_a_few_plans():
    model = decided("c", ADD, CUT, [("y0", F, ["n", "m"])], before=POSITIVE, **ZERO)
    network = load(model)
    for n in range(1, 30):
        for sign in (1, -1):
            x = np.full((n, 3), sign, np.float32)
            np.testing.assert_array_equal(run(network, x=x)[0], expected(model, x=x)[0])
    assert len(list(network._loaded("test").session.plans())) <= 80
