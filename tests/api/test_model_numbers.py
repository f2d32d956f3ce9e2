"""Numbers of other types than a model's input: what is converted, rounded or refused."""

from contextlib import nullcontext

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES

import megengine_lite
from megengine_lite.batch import Predictor
from megengine_lite.errors import LiteTypeError, LiteValueError

KINDS = {
    "float": np.float32, "float16": np.float16, "double": np.float32, "int32": np.int32, "int64": np.int32,
    "uint8": np.uint8, "int8": np.int8, "int16": np.int16, "uint16": np.uint16, "uint32": np.int32, "uint64": np.int32,
}  # fmt: skip


GIVEN = ("float64", "float32", "float16", "int64", "uint64", "int32", "uint32", "int8", "uint8")


def same(kind, shape="n") -> megengine_lite.Model:
    """An ONNX model that gives its input."""
    parser = pytest.importorskip("onnx.parser")
    graph = f"g ({kind}[{shape}] x) => ({kind}[{shape}] y) {{ y = Identity(x) }}"
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}')
    return megengine_lite.load(model.SerializeToString())


def limits(dtype):
    """The least and the largest number of a type, as numbers of Python."""
    info = (np.iinfo if np.dtype(dtype).kind in "iu" else np.finfo)(dtype)
    return info.min.item() if hasattr(info.min, "item") else info.min, getattr(info.max, "item", lambda: info.max)()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", GIVEN)
def test_no_number_is_changed_but_by_rounding(kind, given):
    """All pairs of types: the ends of the range of each come out as they went in, or are an error."""
    model, own = same(kind), np.dtype(KINDS[kind])
    unsigned = kind == "uint32"
    (least, most), (low, high) = limits(given), (0, 2**32 - 1) if unsigned else limits(own)
    low = 0 if kind == "uint64" else low
    for value in {least, most, 0, 1, *(v for v in (*limits(own), 2**32 - 1) if least <= v <= most)}:
        x = np.array([value], given)
        if x.dtype.kind == "f" and own.kind != "f":
            with pytest.raises(LiteTypeError, match="has elements of"):
                model(x)
            continue
        if low <= value <= high or (unsigned and -(2**31) <= value < 0):
            y = model(x)["y"]
            expected = x.astype(np.uint32 if unsigned and value >= 0 else own)
            assert y.dtype == own and y.tobytes() == expected.tobytes()
        else:
            with pytest.raises(LiteValueError, match="which cannot hold"):
                model(x)


def test_infinities_and_nan_pass():
    x = np.array([np.inf, -np.inf, np.nan, 1e-300])
    np.testing.assert_array_equal(same("float")(x)["y"], np.array([np.inf, -np.inf, np.nan, 0], "float32"))


def test_every_way_into_a_model_refuses_what_is_too_large():
    images = IMAGES[:2].astype("float64")
    images[1, 0, 3, 4] = 1e39
    model = megengine_lite.load(DIGITS)
    calls = (
        lambda: model(images),
        lambda: model({"data": images.tolist()}),
        lambda: model(data=images[:, ::-1]),
        lambda: model.run_async(images),
        lambda: list(model.map([images])),
        lambda: model.warmup(images),
        lambda: model.report(images),
        lambda: Predictor(DIGITS)({"data": images}),
    )
    for call in calls:
        with pytest.raises(LiteValueError, match=r"elements of float32, which cannot hold 1e\+39"):
            call()


def test_unsigned_lists_are_taken():
    assert same("uint32")([0, 2**31, 2**32 - 1])["y"].view("uint32").tolist() == [0, 2**31, 2**32 - 1]
    with pytest.raises(LiteValueError, match="elements of uint32, which cannot hold 4294967296"):
        same("uint32")([2**32])


@pytest.mark.parametrize("kind", KINDS)
def test_integers_that_numpy_has_no_type_for_are_read_as_numbers(kind):
    """Some fit a float; others are told, and are not taken for texts or the like."""
    model, dtype = same(kind), np.dtype(KINDS[kind])
    for number in (2**64, -(2**70), 2**200, 2**2000):
        for given in ([number, 1], [number, 1.5]):
            if dtype.kind == "f" and abs(number) <= float(np.finfo(dtype).max):
                assert model(given)[0][0] == dtype.type(number)
                continue
            with pytest.raises(LiteValueError, match="which cannot hold"):
                model(given)
    with pytest.raises(LiteTypeError, match="an array or a list of numbers"):
        model([2**70, "a"])


@pytest.mark.parametrize("kind", [*KINDS, "bool"])
def test_an_empty_list_has_the_type_of_the_input(kind):
    """Numpy takes it for one of real numbers, which do not become integers otherwise."""
    for given, shape in (([], (0,)), ([[]], (1, 0)), (((), ()), (2, 0))):
        y = same(kind, ", ".join("nm"[: len(shape)]))(given)[0]
        assert y.shape == shape and y.dtype == KINDS.get(kind, np.bool_)
    with pytest.raises(LiteTypeError, match="has elements of") if kind in ("int32", "bool") else nullcontext():
        same(kind)(np.zeros(0, np.float64 if kind in ("int32", "bool") else np.bool_))


@pytest.mark.parametrize("kind", [*KINDS, "bfloat16"])
@pytest.mark.parametrize("given", ["bfloat16", "float8_e4m3fn", "float8_e5m2", "int4", "uint4"])
def test_types_that_another_package_adds_to_numpy_are_read(kind, given):
    """Those of ml_dtypes, which the package onnx uses, as arrays, parts of them and in lists."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    model, own = same(kind), np.dtype(KINDS.get(kind, np.float32))
    x = np.array([0, 1, 6], getattr(ml_dtypes, given))
    for one in (x, [*x], np.stack([x, x])[1], x[::-1][::-1]):
        if "float" in given and own.kind != "f":
            with pytest.raises(LiteTypeError, match="has elements of"):
                model(one)
        else:
            y = model(one)[0]
            assert y.dtype == own and y.tolist() == [0, 1, 6]
    if given == "int4" and own.kind == "u":
        with pytest.raises(LiteValueError, match="which cannot hold -1"):
            model(-x)
    for other in (np.zeros(3, "V2"), np.zeros(3, [("a", "f4")]), np.zeros(3, "S2")):
        with pytest.raises(LiteTypeError, match="has elements of"):
            model(other)
