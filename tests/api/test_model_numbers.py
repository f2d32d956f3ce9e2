"""Numbers of other types than a model's input: what is converted, rounded or refused."""

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
