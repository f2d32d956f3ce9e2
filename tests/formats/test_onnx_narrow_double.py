"""Doubles of ONNX models as float32: results, kernels, and what stays as it is."""

import pickle

import numpy as np
import onnx.parser
import pytest
from onnx import TensorProto, helper, numpy_helper
from support import onnx_cases
from support.graphs import run, session_of
from support.onnx_models import make

import megengine_lite
from megengine_lite import LiteNetwork, LiteWarning
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.dtype import FLOAT64
from megengine_lite.batch import Predictor
from megengine_lite.cli import main
from megengine_lite.errors import LiteError, LiteTypeError

D, INT64 = TensorProto.DOUBLE, TensorProto.INT64
MAX = np.finfo(np.float32).max


def parsed(text, **constants):
    """A model from its text; inside are the constants."""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 18]>\n{text}')
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return model.SerializeToString()


def narrow(content, **given):
    """The outputs with doubles as float32, once it is known that nothing is computed in double."""
    session = session_of(load_model(content, narrow_double=True).graph)
    found = run(session, **{k: v.astype(at_the_api(v)) for k, v in given.items()})
    check_steps(session)
    return found


def at_the_api(array):
    return {np.float64: np.float32, np.int64: np.int32}.get(array.dtype.type, array.dtype)


def check_steps(session):
    for plan in session.plans():
        for step in plan.steps:
            if isinstance(step, HostStep):
                assert FLOAT64 not in {v.dtype for v in (*step.node.inputs, *step.node.outputs)}, step.node


NETWORK = """network (double[n,c,h,w] x, int64[n] k) => (double[n,m] y, int64[n] s)
{
  p = ReduceMean<keepdims = 0>(x, axes)
  q = MatMul(p, w)
  kd = Cast<to = 11>(k)
  ku = Unsqueeze(kd, one)
  half = Constant<value = double {0.5}>()
  scaled = Mul(ku, half)
  added = Add(q, scaled)
  normal = LayerNormalization(added, gain)
  y = Softmax(normal)
  s = Add(k, big)
}"""


def network():
    rng = np.random.default_rng(0)
    axes, one, big = np.array([2, 3]), np.array([1]), np.array([2**40])
    return parsed(NETWORK, axes=axes, one=one, big=big - 2**40 + 7, w=rng.standard_normal((3, 5)), gain=np.ones(5))


IMAGES = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
NUMBERS = np.array([3, -4])


def test_results_are_those_in_double_to_seven_digits():
    content = network()
    y, s = narrow(content, x=IMAGES, k=NUMBERS)
    wide = session_of(load_model(content).graph)
    expected = run(wide, x=IMAGES.astype(np.float32), k=NUMBERS.astype(np.int32))
    np.testing.assert_allclose(y, expected[0], rtol=2e-6)
    np.testing.assert_array_equal(s, [10, 3])
    assert any(isinstance(step, HostStep) for plan in wide.plans() for step in plan.steps)


def test_all_steps_are_kernels_as_in_a_model_of_floats():
    session = session_of(load_model(network(), narrow_double=True).graph)
    run(session, x=IMAGES.astype(np.float32), k=NUMBERS.astype(np.int32))
    (plan,) = session.plans()
    assert [s.node.op for s in plan.steps if isinstance(s, HostStep)] == []


@pytest.mark.parametrize(("size", "factor"), [(100, 0.29), (50, 0.58), (1000, 0.001), (7, 1 / 7)])
def test_sizes_are_computed_in_double(size, factor):
    """In float32 some of these products are on the other side of a whole number."""
    text = """sizes (double[a] x) => (double[b] y)
    {
      n = Shape(x)
      d = Cast<to = 11>(n)
      product = Mul(d, factor)
      whole = Floor(product)
      end = Cast<to = 7>(whole)
      y = Slice(x, zero, end)
    }"""
    content = parsed(text, factor=np.array([factor]), zero=np.array([0]))
    (y,) = narrow(content, x=np.arange(float(size)))
    np.testing.assert_array_equal(y, np.arange(int(np.floor(size * factor))))


def test_large_numbers_stay_finite_and_infinity_stays():
    stored = np.array([1e300, -1e300, 1.0, np.inf, -np.inf, np.nan, 1e-300])
    for shape in (7, (1, 7)):
        content = parsed("numbers (double[a] x) => (double[b,c] y) { y = Mul(x, c) }".replace(
            "b,c", "b" if shape == 7 else "b,c"), c=stored.reshape(shape))  # fmt: skip
        (y,) = narrow(content, x=np.ones(1))
        np.testing.assert_array_equal(y.reshape(-1), np.array([MAX, -MAX, 1, np.inf, -np.inf, np.nan, 0], np.float32))


def test_integers_are_exact():
    """Sums of int64 beyond 2^53, whose last digit would be lost in double and in float32."""
    text = "whole (int64[n] k, double[n] x) => (int64[n] s, double[n] y) { t = Add(k, big) s = Mod(t, ten) y = Neg(x) }"
    content = parsed(text, big=np.array([2**60 + 1]), ten=np.array([10]))
    s, _ = narrow(content, k=np.array([0, 1, 2]), x=np.zeros(3))
    np.testing.assert_array_equal(s, [(2**60 + 1 + k) % 10 for k in range(3)])


def in_graphs():
    """A loop with a state, captured numbers and a stacked output, behind an If, all in double."""
    info, boolean = helper.make_tensor_value_info, TensorProto.BOOL
    own = [info("i", INT64, []), info("go", boolean, []), info("state", D, [2])]
    outs = [info("on", boolean, []), info("next", D, [2]), info("each", D, [2])]
    body = [
        helper.make_node("Cast", ["i"], ["id"], to=D),
        helper.make_node("Mul", ["state", "number"], ["m"]),
        helper.make_node("Add", ["m", "id"], ["next"]),
        helper.make_node("Add", ["next", "x"], ["each"]),
        helper.make_node("Identity", ["go"], ["on"]),
    ]
    loop = helper.make_graph(body, "body", own, outs)
    yes = helper.make_graph([helper.make_node("Identity", ["number"], ["a"])], "yes", [], [info("a", D, [])])
    no = helper.make_graph([helper.make_node("ReduceSum", ["x"], ["b"], keepdims=0)], "no", [], [info("b", D, [])])
    nodes = [
        helper.make_node("Loop", ["count", "", "zeros"], ["last", "all"], body=loop),
        helper.make_node("If", ["flag"], ["chosen"], then_branch=yes, else_branch=no),
        helper.make_node("Add", ["last", "chosen"], ["y"]),
    ]
    inputs = [("x", D, [2]), ("count", INT64, []), ("flag", TensorProto.BOOL, [])]
    return make(nodes, inputs, [("y", D, [2]), ("all", D, None)], {"zeros": np.zeros(2), "number": np.array(0.5)})


@pytest.mark.parametrize("flag", [True, False])
def test_loops_and_branches(flag):
    x = np.array([0.25, 2.0])
    y, every = narrow(in_graphs().SerializeToString(), x=x, count=np.array([3]), flag=np.array([flag]))
    states = [0.0, 1.0, 2.5]
    np.testing.assert_array_equal(every, [[s + 0.25, s + 2] for s in states])
    np.testing.assert_array_equal(y, [states[-1] + (0.5 if flag else x.sum())] * 2)


def test_sequences():
    text = """sequences (double[n] x) => (double[m] y)
    {
      e = SequenceEmpty<dtype = 11>()
      c = Constant<value = double[2] {1.5, 2.5}>()
      one = SequenceInsert(e, c)
      two = SequenceInsert(one, x)
      y = ConcatFromSequence<axis = 0>(two)
    }"""
    (y,) = narrow(parsed(text), x=np.array([3.0]))
    np.testing.assert_array_equal(y, [1.5, 2.5, 3])


def has_doubles(case):
    return any(info.type.tensor_type.elem_type == D for info in (*case.model.graph.input, *case.model.graph.output))


def test_cases_of_the_standard_hold_without_double():
    listed, faults, ran = onnx_cases.out_of_scope(), {}, 0
    for name, case in onnx_cases.cases().items():
        if name in listed or not has_doubles(case):
            continue
        try:
            model = onnx_cases.load(case, narrow_double=True)
            sessions = onnx_cases.compare(model, case.data_sets, max(case.rtol, 1e-5), max(case.atol, 1e-6))
            for session in sessions:
                check_steps(session)
            ran += 1
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert ran > 50


# ---- where it is said ------------------------------------------------------------------------------------------------


def loaded(**options):
    return megengine_lite.load(network(), threads=1, **options)


def test_it_is_an_option_of_all_that_load_models(tmp_path):
    content = network()
    x, k = IMAGES.astype(np.float32), NUMBERS
    plain, model = loaded(), loaded(narrow_double=True, workers=2)
    expected = model(x, k)["y"]
    assert expected.tobytes() != plain(x, k)["y"].tobytes()  # another order of sums, at least
    assert "double float32" in repr(model) and "double" not in repr(plain)
    assert pickle.loads(pickle.dumps(model))(x, k)["y"].tobytes() == expected.tobytes()
    lite = LiteNetwork()
    lite.narrow_double = True
    lite.load(content)
    assert "'narrow_double': 'True'" in repr(lite)
    other = LiteNetwork()
    other.share_weights_with(lite)
    for net in (lite, other, pickle.loads(pickle.dumps(lite))):
        assert net.narrow_double
        for name, value in (("x", x), ("k", k.astype(np.int32))):
            net.get_io_tensor(name).set_data_by_copy(value)
        net.forward()
        net.wait()
        assert net.get_io_tensor("y").to_numpy().tobytes() == expected.tobytes()
    with pytest.raises(LiteError, match="narrow_double"):
        lite.narrow_double = False
    with pytest.raises(LiteTypeError):
        LiteNetwork().narrow_double = "yes"
    predict = Predictor(content, threads=1, narrow_double=True)
    assert predict({"x": x, "k": k})["y"].tobytes() == expected.tobytes()


def test_prepared_files_are_for_one_choice(tmp_path):
    path, prepared = tmp_path / "network.onnx", tmp_path / "network.prepared"
    path.write_bytes(network())
    x, k = IMAGES.astype(np.float32), NUMBERS
    megengine_lite.load(path, threads=1, narrow_double=True).prepare(prepared, x, k)
    model = megengine_lite.load(path, threads=1, narrow_double=True, prepared=prepared)
    again = model(x[:, :, :2], k)  # of another shape: the model is read again
    assert again["y"].tobytes() == loaded(narrow_double=True)(x[:, :, :2], k)["y"].tobytes()
    with pytest.warns(LiteWarning, match="was prepared for narrow_double True, and here it is False"):
        megengine_lite.load(path, threads=1, prepared=prepared)


def test_commands_take_it(capsys, tmp_path):
    path, out = tmp_path / "network.onnx", tmp_path / "network.mge"
    text = "two (double[2,3] x) => (double[2,4] y) { m = MatMul(x, w) y = Softmax(m) }"
    path.write_bytes(parsed(text, w=np.random.default_rng(0).standard_normal((3, 4))))
    data = ("--input-desc", "x:2,3")
    for command in ("run", "bench", "profile", "report"):
        assert main([command, str(path), *data, "--narrow-double", "--json"]) == 0, command
    capsys.readouterr()
    assert main(["verify", str(path), *data, "--other=--narrow-double", "--tolerance", "1e-5"]) == 0
    assert main(["info", str(path), "--narrow-double", "--layers", "--json"]) == 0
    assert "float64" not in capsys.readouterr().out
    assert main(["convert", str(path), str(out)]) == 1
    assert "float64" in capsys.readouterr().err
    assert main(["convert", str(path), str(out), "--narrow-double"]) == 0
    x = np.random.default_rng(1).standard_normal((2, 3), np.float32)
    np.testing.assert_allclose(
        megengine_lite.load(out)(x)["y"], megengine_lite.load(path, narrow_double=True)(x)["y"], rtol=1e-6
    )
