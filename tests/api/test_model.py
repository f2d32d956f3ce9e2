"""Models as functions: arguments of calls, results, and the object itself."""

import pickle
import sys
import warnings
from collections.abc import Mapping

import numpy as np
import pytest
from PIL import Image
from support.api_samples import ADD, DIGITS, IMAGES, loaded, run
from support.loader_samples import doubled, input_operator, operator, to_bytes
from support.onnx_models import bytes_of_text

import megengine_lite
from megengine_lite import LiteError
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import INT32, UINT8
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite.errors import (
    DeviceError,
    LiteIndexError,
    LiteMemoryError,
    LiteTypeError,
    LiteValueError,
    LiteWarning,
    ShapeError,
)
from megengine_lite.model import Model, Outputs, TensorDescription

X = IMAGES[:3]


@pytest.fixture(scope="module")
def expected():
    """What a network computes for X."""
    return run(loaded(), X)


@pytest.fixture
def model():
    with megengine_lite.load(DIGITS, threads=1) as made:
        yield made


def of_text(graph: str) -> Model:
    """An ONNX model, from its text form."""
    return megengine_lite.load(bytes_of_text(graph))


# ---- arguments and results -------------------------------------------------------------------------------------------


class WithArray:
    def __array__(self, dtype=None, copy=None):
        return X


@pytest.mark.parametrize(
    "given",
    [
        X, X.astype("float64"), X.astype("uint8"), X.astype("int64"), X.tolist(), np.asfortranarray(X),
        np.repeat(X, 2, axis=3)[..., ::2], WithArray(), memoryview(X),
    ],
    ids=["float32", "float64", "uint8", "int64", "list", "fortran", "strided", "__array__", "buffer"],
)  # fmt: skip
def test_inputs_of_all_kinds_give_the_same(model, expected, given):
    (result,) = model(given)
    np.testing.assert_array_equal(result, expected)


def test_inputs_by_position_mapping_and_name_are_the_same(model, expected):
    for outputs in (model(X), model({"data": X}), model(data=X), model.run_async(X).result()):
        np.testing.assert_array_equal(outputs["prob"], expected)


def test_arrays_through_dlpack_are_inputs(model, expected):
    class Tensor:
        def __dlpack__(self, **arguments):
            return X.__dlpack__(**arguments)

        def __dlpack_device__(self):
            return X.__dlpack_device__()

    np.testing.assert_array_equal(model(Tensor())[0], expected)


def test_several_inputs_in_any_form():
    model = megengine_lite.load(ADD)
    a, b = np.full([2, 3], 1.5, "float32"), np.ones([2, 3])
    for outputs in (model(a, b), model(a, b=b), model(b=b, a=a), model({"a": a}, b=b), model({"b": b, "a": a})):
        assert outputs["sum"].tolist() == [[2.5] * 3] * 2


def test_outputs_unpack_and_have_names_and_positions():
    first, second = np.zeros(2), np.ones([1, 3], "int32")
    outputs = Outputs({"p": first, "q": second})
    p, q = outputs
    assert p is first and q is second and len(outputs) == 2
    assert outputs["q"] is outputs[1] is outputs[-1] is second
    assert dict(outputs) == {"p": first, "q": second} and "p" in outputs and "r" not in outputs
    assert outputs.get("q") is second and outputs.get("r") is None and outputs.get("r", first) is first
    assert list(outputs.keys()) == ["p", "q"] and [v is w for v, w in zip(outputs.values(), (p, q), strict=True)]
    assert repr(outputs) == "Outputs(p: float64[2], q: int32[1, 3])"
    with pytest.raises(LiteIndexError, match=r"no output 'r'; there are \['p', 'q'\]"):
        outputs["r"]
    with pytest.raises(LiteIndexError, match="there are 2 outputs, no number 2"):
        outputs[2]


def test_outputs_are_a_mapping():
    first, second = np.zeros(2), np.ones([1, 3], "int32")
    outputs, twin = Outputs({"p": first, "q": second}), Outputs({"p": first, "q": second})
    assert isinstance(outputs, Mapping) and {**outputs} == dict(outputs) == dict(outputs.items())
    match outputs:
        case {"q": found, **others}:
            assert found is second and others == {"p": first}
    assert outputs.keys() == {"p", "q"} and outputs.get("r", 3) == 3 and not isinstance(outputs.get("p"), int)
    with pytest.raises(KeyError):
        outputs["r"]
    with pytest.raises(IndexError):
        outputs[2]
    same_numbers = Outputs({"p": first.copy(), "q": second})
    for equal in (outputs, twin, Outputs({"q": second, "p": first}), dict(outputs)):
        assert outputs == equal and equal == outputs
    for other in (
        same_numbers,
        {"p": first},
        {"p": second, "q": first},
        {**outputs, "r": first},
        dict(same_numbers),
        {},
    ):
        assert outputs != other and other != outputs
    for no_mapping in (None, "p", [first, second]):
        assert outputs != no_mapping
    assert len({outputs, twin, same_numbers}) == 2
    assert [a is b for a, b in zip(reversed(outputs), (second, first), strict=True)] == [True, True]
    assert "p" in outputs and 0 not in outputs and None not in outputs
    assert [] not in outputs
    with pytest.raises(LiteTypeError, match="in asks whether there is an output of a name, not for an array"):
        first in outputs  # noqa: B015
    add = megengine_lite.load(ADD)
    assert add(Outputs({"a": np.ones([2, 3]), "b": np.ones([2, 3])}))["sum"].tolist() == [[2.0] * 3] * 2


def test_results_are_the_callers(model, expected):
    first = model(X)[0]
    model(np.zeros_like(X))
    np.testing.assert_array_equal(first, expected)
    first[:] = 0
    np.testing.assert_array_equal(model(X)[0], expected)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda m: m(), LiteValueError, r"input 'data' is missing; the model has \['data'\]"),
        (lambda m: m(X, X), LiteValueError, "the model has 1 inputs, 2 were given"),
        (lambda m: m(X, data=X), LiteValueError, "input 'data' is given twice"),
        (lambda m: m(date=X), LiteValueError, r"the model has no input 'date'; it has \['data'\]"),
        (lambda m: m({1: X}), LiteValueError, "the model has no input 1"),
        (lambda m: m(None), LiteTypeError, "input 'data' is an array or a list of numbers, not None"),
        (lambda m: m("picture.jpg"), LiteTypeError, "an array or a list of numbers, not 'picture.jpg'"),
        (lambda m: m(["a"]), LiteTypeError, "an array or a list of numbers, not"),
        (lambda m: m([[1], [1, 2]]), LiteTypeError, "lists in it have different lengths"),
        (lambda m: m(X * 1j), LiteTypeError, r"has elements of float32, the array of complex64; convert it"),
        (lambda m: m(np.ma.masked_array(X, X > 3)), LiteError, "a masked array"),
        (lambda m: m([np.ma.masked_array(X[0], X[0] > 3)]), LiteError, "a masked array"),
        (lambda m: m([[*X[0]], (np.ma.masked_array(X[0, 0], X[0, 0] > 3),)]), LiteError, "a masked array"),
        (lambda m: m([[[[1, 2], [3, np.ma.masked]]]]), LiteError, "a masked array"),
        (lambda m: list(m.map([[np.ma.masked_array(X[0], True)]])), LiteError, "a masked array"),
        (lambda m: m(X[0]), ShapeError, r"has 4 dimensions, \[360, 1, 8, 8\]; the array has the shape \[1, 8, 8\]"),
        (lambda m: m(np.repeat(X, 2, axis=1)), ShapeError, "2"),
        (lambda m: list(m.map([X], batch_size=0)), LiteValueError, "1 or more"),
        (lambda m: list(m.map([X, "a"])), LiteTypeError, "not 'a'"),
    ],
)
def test_wrong_arguments_are_refused_and_the_next_call_is_right(model, expected, call, error, words):
    with pytest.raises(error, match=words):
        call(model)
    np.testing.assert_array_equal(model(X)[0], expected)


def test_integers_that_do_not_fit_are_refused():
    model = megengine_lite.load(doubled((2,), UINT8))
    assert model([3, 100])[0].tolist() == [6, 200]
    for wrong in ([3, 256], [-1, 0], [2**70, 0]):
        with pytest.raises((LiteValueError, LiteTypeError), match=r"cannot|not"):
            model(wrong)
    with pytest.raises(LiteTypeError, match="convert it, for example by"):
        model([0.5, 1])


def test_pillow_images_become_batches_of_one():
    pixels = np.arange(2 * 4 * 3, dtype="uint8").reshape(2, 4, 3)
    image = Image.fromarray(pixels)
    first = megengine_lite.load(doubled((1, 3, 2, 4), INT32))
    np.testing.assert_array_equal(first(image)[0], 2 * pixels.transpose(2, 0, 1)[None].astype("int32"))
    last = megengine_lite.load(doubled((1, 2, 4, 3), INT32))
    np.testing.assert_array_equal(last(image)[0], 2 * pixels[None].astype("int32"))
    grey = megengine_lite.load(doubled((1, 1, 2, 4), INT32))
    np.testing.assert_array_equal(grey(image)[0], 2 * np.asarray(image.convert("L"), "int32")[None, None])
    with pytest.raises(ShapeError, match=r"has the shape \[2\], which is not that of images"):
        megengine_lite.load(doubled((2,), INT32))(image)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_of_pillow_images_is_a_batch(kind):
    pixels = np.arange(3 * 2 * 4 * 3, dtype="uint8").reshape(3, 2, 4, 3)
    images = kind(map(Image.fromarray, pixels))
    first = megengine_lite.load(doubled((1, 3, 2, 4), INT32))
    last = megengine_lite.load(doubled((1, 2, 4, 3), INT32))
    grey = megengine_lite.load(doubled((1, 1, 2, 4), INT32))
    for count in (1, 3):
        some, wanted = images[:count], 2 * pixels[:count].astype("int32")
        np.testing.assert_array_equal(first([*some])[0], wanted.transpose(0, 3, 1, 2))
        np.testing.assert_array_equal(last(kind(some))[0], wanted)
        assert grey({"x": some})[0].shape == (count, 1, 2, 4)
    with pytest.raises(ShapeError, match=r"have one size; these become \[3, 2, 4\] and \[3, 4, 2\]"):
        first([images[0], images[1].rotate(90, expand=True)])
    with pytest.raises(LiteTypeError, match="input 'x'"):
        first([images[0], None])


@pytest.mark.parametrize("shape", [(1, 4, 5, 3), (1, 3, 4, 5), (1, 4, 4, 3), (1, 3, 3, 3)])
def test_pillow_images_with_few_rows_go_where_they_fit(shape):
    """Where the second and the last size could both be channels, those of the image tell."""
    height, width = shape[1:3] if shape[3] == 3 and shape != (1, 3, 3, 3) else shape[2:]
    pixels = np.arange(height * width * 3, dtype="uint8").reshape(height, width, 3)
    found = megengine_lite.load(doubled(shape, INT32))(Image.fromarray(pixels))[0]
    expected = pixels if shape[1:] == pixels.shape and shape != (1, 3, 3, 3) else pixels.transpose(2, 0, 1)
    np.testing.assert_array_equal(found, 2 * expected[None].astype("int32"))


@pytest.mark.parametrize("dtype", ["uint16", "int32", "float32"])
def test_pillow_images_of_larger_numbers_are_refused(dtype):
    image = Image.fromarray(np.full((2, 4), 3, dtype))
    with pytest.raises(LiteTypeError, match="has numbers beyond 0 to 255; scale it to mode 'L'"):
        megengine_lite.load(doubled((1, 1, 2, 4), INT32))(image)


def test_scalars_of_onnx_have_no_dimensions():
    model = of_text("(float x, float[2] y) => (float z) { s = ReduceSum<keepdims=0>(y) z = Add(x, s) }")
    assert [i.shape for i in model.inputs] == [(), (2,)] and [o.shape for o in model.outputs] == [()]
    for x in (1.5, np.float32(1.5), np.array(1.5), [1.5]):
        z = model(x, [1, 2])["z"]
        assert z.shape == () and z == 4.5


def test_arrays_at_odd_addresses_are_read():
    memory = np.zeros(4 * X.size + 1, np.uint8)
    odd = memory[1:].view(np.float32).reshape(X.shape)
    odd[...] = X
    assert not odd.flags.aligned
    model = megengine_lite.load(DIGITS, threads=1)
    np.testing.assert_array_equal(model(odd)[0], model(X)[0])


def test_a_run_without_memory_says_so(monkeypatch):
    model = megengine_lite.load(DIGITS, threads=1)
    engine = model._workers[0].network._loaded("test")
    expected = model(X)[0]

    def fail():
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(engine.session, "run", fail)
        with pytest.raises(LiteMemoryError, match="there is not enough memory"):
            model(X)
    np.testing.assert_array_equal(model(X)[0], expected)


def test_outputs_are_those_of_the_call_whatever_memory_they_lie_in():
    model = of_text(
        "(float[2] x, float[2] y) => (float[2] x, float[2] z, float[0] none) "
        "<int64[1] i = {0}> { z = Neg(y) none = Slice(y, i, i) }"
    )
    first = np.array([[1, 2], [3, 4]], np.float32)
    for k in range(4):
        given = first + k
        x, z, none = model(*given)
        assert x.tolist() == given[0].tolist() and z.tolist() == (-given[1]).tolist() and none.shape == (0,)


def test_a_call_costs_little_more_than_its_run(model):
    """Counted in calls of functions, each of which takes about a tenth of a microsecond."""
    model(X)
    model(X)
    calls = []

    def note(frame, event, argument):
        if event in ("call", "c_call"):
            calls.append(frame.f_code.co_name if event == "call" else argument.__name__)

    sys.setprofile(note)
    try:
        model(X)
    finally:
        sys.setprofile(None)
    assert len(calls) <= 45, calls


def test_texts_of_an_onnx_model_are_its_metadata():
    from onnx import helper, parser

    made = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]> graph (float x) => (float z) { z = Neg(x) }')
    helper.set_model_props(made, {"character": "a\nb\n", "shape": ""})
    model = megengine_lite.load(made.SerializeToString())
    assert model.metadata == {"character": "a\nb\n", "shape": ""}
    model.metadata.clear()
    assert len(model.metadata) == 2
    assert megengine_lite.load(DIGITS).metadata == {}


def test_truth_values_go_in_and_come_out():
    model = of_text(
        "(bool[3] a, bool b) => (bool[3] both, float[3] numbers) { both = And(a, b) numbers = Cast<to=1>(a) }"
    )
    a = np.array([True, False, True])
    for given in (a, a.tolist()):
        both, numbers = model(given, True)
        assert both.dtype == np.bool_ and both.tolist() == a.tolist() and numbers.tolist() == [1, 0, 1]
    model.warmup()
    with pytest.raises(LiteTypeError, match="has elements of bool, the array of float64"):
        model([0.5, 1, 0], True)


# ---- what a model says of itself -------------------------------------------------------------------------------------


def test_inputs_and_outputs_are_described(model):
    assert model.inputs == (TensorDescription("data", (360, 1, 8, 8), np.dtype("float32")),)
    assert model.outputs == (TensorDescription("prob", (360, 10), np.dtype("float32")),)
    model(X)
    assert model.outputs[0].shape == (3, 10)
    assert str(model.inputs[0]) == "data: float32[360, 1, 8, 8]"


POOLED = """
(float[batch, 3, height, ?] image, float[batch] weight) => ({out} pooled, int64 count) {{
    pooled = MaxPool<kernel_shape=[2, 3]>(image)
    count = Size(weight)
}}
"""


def test_sizes_that_a_model_leaves_open_have_their_names(tmp_path):
    model = of_text(POOLED.format(out="float[batch, 3, rows, ?]"))
    f32 = np.dtype("float32")
    inputs = (
        TensorDescription("image", ("batch", 3, "height", "?"), f32),
        TensorDescription("weight", ("batch",), f32),
    )
    count = TensorDescription("count", (), np.dtype("int32"))
    outputs = (TensorDescription("pooled", ("batch", 3, "rows", "?"), f32), count)
    image, weight = np.zeros((2, 3, 4, 5), "float32"), np.zeros(2, "float32")
    assert model.inputs == inputs and model.outputs == outputs
    text = repr(model)
    assert "image: float32[batch, 3, height, ?]" in text and "pooled: float32[batch, 3, rows, ?]" in text
    model.prepare(tmp_path / "prepared", image, weight)
    prepared = megengine_lite.load(model._source, prepared=tmp_path / "prepared")
    assert is_used(prepared) and prepared.inputs == inputs and prepared.outputs == outputs
    for one in (model, prepared, pickle.loads(pickle.dumps(model))):
        assert one(image, weight)["pooled"].shape == (2, 3, 3, 3)
        assert one.inputs == inputs
        assert one.outputs == (TensorDescription("pooled", (2, 3, 3, 3), f32), count)


def is_used(model):
    return model._workers[0].network._loaded("test").model.container == "prepared"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("float[batch, 3, height, 7]", ("batch", 3, "height", "?")),  # 7 cannot be, since it is 1 for an image of 1x3
        ("float[2, 3, height, w]", ("?", 3, "height", "w")),  # written for a batch of 2
        ("float[batch, 3]", None),
        ("float[]", None),
        ("float", None),
    ],
)
def test_what_a_file_says_of_an_output_is_not_believed_where_it_cannot_be(said, shown):
    """Exporters leave wrong shapes behind."""
    text = "(float[batch, 3, height, width] x) => ({said} y) {{ y = MaxPool<kernel_shape=[1, 1]>(x) }}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LiteWarning)
        model = of_text(text.format(said=said))
    assert model.outputs[0] == TensorDescription("y", shown, np.dtype("float32"))
    assert model(np.zeros((2, 3, 4, 7), "float32"))[0].shape == (2, 3, 4, 7)
    assert model.outputs[0].shape == (2, 3, 4, 7)


def test_an_output_that_only_the_file_calls_a_scalar_keeps_its_dimensions():
    """The graph is made for the shapes of a run, because of the Squeeze, so the file alone says what outputs are."""
    model = of_text("(float[n, m] x) => (float y, float z) { s = Squeeze(x) y = Neg(s) z = ReduceSum<keepdims=0>(s) }")
    assert [o.shape for o in model.outputs] == [(), ()]
    for shape in ((3, 1), (2, 3), (1, 1)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LiteWarning)
            y, z = model(np.ones(shape, "float32"))
        assert y.shape == tuple(n for n in shape if n > 1) and z.shape == () and z == np.prod(shape)


def test_errors_name_sizes_that_are_open():
    model = of_text(POOLED.format(out="float[batch, 3, rows, ?]"))
    with pytest.raises(ShapeError, match=r"with other sizes of image, which the model leaves open and which were 1"):
        model.warmup()
    with pytest.raises(ShapeError) as caught:
        model(np.zeros((1, 3, 2, 2), "float32"), np.zeros(1, "float32"))
    assert "input 'image' was given shape [1, 3, 2, 2], the model declares [batch, 3, height, ?]" in str(caught.value)
    assert "leaves open" not in str(caught.value)


def test_repr_shows_what_matters(model):
    text = repr(model)
    assert "inputs data: float32[360, 1, 8, 8]" in text and "cpu, 1 x 1 threads" in text and "last run" not in text
    model(X)
    assert "prob: float32[3, 10]" in repr(model) and "last run" in repr(model)
    page = model._repr_html_()
    assert page.startswith("<table>") and "<td>prob: float32[3, 10]</td>" in page


def test_names_are_text_in_html():
    name = "<script>alert('x')</script>"
    record = ModelRecord("v2", 101300, [input_operator(0, name, (2,))], [(1, "")], {1: "y"})
    record.operators.append(operator("Elemwise", (0, 0), (1,), Elemwise(mode=ElemwiseMode.ADD)))
    page = megengine_lite.load(to_bytes(record))._repr_html_()
    assert "<script" not in page and "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"workers": 0}, LiteValueError, "workers is a number from 1 to 256, not 0"),
        ({"workers": 1.5}, LiteTypeError, "workers is an int"),
        ({"threads": 0}, LiteValueError, "threads is 1 or more"),
        ({"threads": "2"}, LiteTypeError, "threads is an int"),
        ({"device": "cuda"}, DeviceError, "there is no device 'cuda'; there is 'cpu'"),
        ({"precision": "int3"}, LiteValueError, r"unknown precision 'int3' \(there are float32, bfloat16, float16"),
    ],
)
def test_wrong_options_are_refused(options, error, words):
    with pytest.raises(error, match=words):
        megengine_lite.load(DIGITS, **options)


def test_pickled_model_computes_the_same(model, expected):
    for source in (DIGITS, DIGITS.read_bytes(), str(DIGITS)):
        with megengine_lite.load(source, threads=2, workers=2) as made:
            again = pickle.loads(pickle.dumps(made))
        np.testing.assert_array_equal(again(X)[0], expected)
        assert "2 x 2 threads" in repr(again)


def test_a_model_is_pickled_with_the_place_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "m.mge").write_bytes(DIGITS.read_bytes())
    monkeypatch.chdir(tmp_path)
    model = megengine_lite.load("m.mge")
    network = megengine_lite.LiteNetwork()
    network.load("m.mge")
    monkeypatch.chdir("/")
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again(X)[0], model(X)[0])
    assert pickle.loads(pickle.dumps(network)).get_all_output_name() == network.get_all_output_name()


def test_an_input_may_be_called_self():
    model = of_text("(float[N] self) => (float[N] y) { y = Neg(self) }")
    assert model(self=np.ones(2))["y"].tolist() == [-1, -1]
    assert model.run_async(self=np.ones(2)).result()["y"].tolist() == [-1, -1]


def test_model_type():
    assert megengine_lite.Model is Model
