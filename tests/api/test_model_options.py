"""Keyword options of load, Model and Predictor: each has a type, and an argument of another one is an error at once."""

import inspect
import pathlib

import numpy as np
import pytest
from support.api_samples import DIGITS

import megengine_lite
from megengine_lite.batch import Predictor
from megengine_lite.errors import DeviceError, LiteTypeError, LiteValueError
from megengine_lite.model import Model

NUMBERS = (0, 1, 2, -1, 1.5)
WRONG = {
    "threads": ("2", 1.5, True, [], {}, b"", object(), 0, -1),
    "workers": ("2", 1.5, True, None, [], object(), 0, -1, 257),
    "precision": (None, 3, b"float32", ["float32"], np.float32, "float64", ""),
    "narrow_double": ("", "False", "a", None, 2, -1, 1.0, [], object()),
    "device": (None, 0, [], "cuda", "", b"gpu"),
    "decryption": (None, 0, [], object(), pathlib.Path("x")),
    "prepared": (3, b"x", [], object(), True),
    "share_weights": ("", "a", "False", None, 2, 1.0, [], object()),
    "progress": ("", "a", None, 2, [], object()),
    "batch_size": ("2", 1.5, True, [], 0, -1),
    "inputs": (3, "data", ["data"], {3: "a"}, {"data": 0.5}, {"data": [True]}, {"data": None}),
    "outputs": (3, "prob", [3], {3: "a"}, {"prob": 3}, [None]),
    "keep": (3, "id", [0.5], [True], None, [b"id"]),
}
RIGHT = {
    "narrow_double": (True, False, np.True_, 0, 1),
    "share_weights": (True, False, np.False_, 0, 1),
    "threads": (None, 1, np.int64(2)),
    "workers": (1, np.uint8(2)),
    "inputs": ({"data": 3}, {"data": [3]}),
    "keep": ([3], [np.int64(3)]),
}


def options_of(function):
    return [p.name for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY]


@pytest.mark.parametrize("make", [megengine_lite.load, Model, Predictor])
def test_wrong_arguments_are_errors_that_name_the_option(make):
    options = options_of(make)
    assert len(options) >= 8
    for option in options:
        for value in WRONG[option]:
            with pytest.raises((LiteTypeError, LiteValueError, DeviceError)) as raised:
                make(DIGITS, **{option: value})
            assert option in str(raised.value), (option, value)


@pytest.mark.parametrize("make", [megengine_lite.load, Model, Predictor])
def test_right_arguments_of_other_types_are_taken(make):
    for option in options_of(make):
        for value in RIGHT.get(option, ()):
            make(DIGITS, **{option: value})


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda model: model.map([], batch_size="2"), "batch_size"),
        (lambda model: model.map([], batch_size=0), "batch_size"),
        (lambda model: model.map([], prefetch=1.5), "prefetch"),
        (lambda model: model.map([], progress="yes"), "progress"),
        (lambda model: model.map(3), "iterable of inputs, not 3"),
        (lambda model: model.report(runs="2"), "runs"),
        (lambda model: model.report(warmup=-1), "warmup|others"),
        (lambda model: model.prepare(3), "path"),
    ],
)
def test_wrong_arguments_of_methods(call, option):
    with megengine_lite.load(DIGITS) as model, pytest.raises((LiteTypeError, LiteValueError), match=option):
        call(model)
