"""Calls of a model from inside of one of its runs: by its own operator, and by a signal handler."""

import os
import signal

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES

import megengine_lite
from megengine_lite import LiteError
from megengine_lite.custom_operator import register_operator, unregister_operator

X = np.ones((2, 3), "float32")
INSIDE = "a run of this model is under way on this thread"
CALLS = {
    "call": lambda model: model(X),
    "run_async": lambda model: model.run_async(X).result(),
    "map": lambda model: list(model.map([X])),
    "warmup": lambda model: model.warmup(),
    "close": lambda model: model.close(),
    "report": lambda model: model.report(runs=1, warmup=0),
    "prepare": lambda model: model.prepare(os.devnull, X),
}


@pytest.fixture
def own_model():
    """Makes a model whose operator makes a call, and gives what that gives."""
    from onnx import parser

    calls = []
    register_operator("my.Calls", infer=lambda op, inputs: inputs[0])(lambda op, inputs: calls[-1]())
    graph = "g (float[n, 3] x) => (float[n, 3] y) { y = my.Calls(x) }"
    content = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17, "my" : 1]> {graph}').SerializeToString()

    def made(call, **options) -> megengine_lite.Model:
        calls.append(call)
        return megengine_lite.load(content, **options)

    yield made
    unregister_operator("my.Calls")


@pytest.mark.parametrize("outer", ["call", "run_async", "map", "warmup", "report"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("name", CALLS)
def test_own_operator_cannot_call_the_model(own_model, name, workers, outer):
    calls = True

    def inner():
        if calls:
            CALLS[name](model)
        return X * 2

    model = own_model(inner, workers=workers)
    if outer == "report":  # one of a model that does not run says why
        assert INSIDE in model.report(X, runs=1, warmup=0).to_html()
    else:
        with pytest.raises(LiteError, match=INSIDE):
            CALLS[outer](model)
    calls = False
    assert (model(X)["y"] == 2).all()
    assert (model.run_async(X).result()["y"] == 2).all()
    model.close()


def test_operator_can_run_another_model(own_model):
    other = megengine_lite.load(DIGITS)
    model = own_model(lambda: X * other(IMAGES[:1])["prob"].sum())
    assert model(X)["y"] == pytest.approx(X)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs signals")
def test_signal_handler_inside_of_a_run_cannot_call_the_model(own_model):
    seen = []

    def handler(number, frame):
        try:
            model(X)
        except LiteError as error:
            seen.append(str(error))

    def raises():
        signal.raise_signal(signal.SIGUSR1)
        return X

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        model = own_model(raises)
        assert (model(X)["y"] == X).all()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(seen) == 1 and INSIDE in seen[0]
