"""Operators of the domain ``megengine``, as convert --custom-domain writes them, are read again."""

import re

import numpy as np
import pytest
from support.graphs import session_of
from support.onnx_models import make
from support.recorded import find_cases, read_case

from megengine_lite._api.onnx_export import record_of
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx.export import exporter
from megengine_lite._core.formats.onnx.export.exporter import ExportOptions
from megengine_lite._core.formats.onnx.writer import write_model
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
F = 1


def in_own_domain(graph):
    record, _ = record_of(graph, True, ExportOptions(custom_domain=True), "model")
    return b"".join(bytes(c) for c in write_model(record))


def outputs(graph, inputs):
    session = session_of(graph)
    for name, value in inputs.items():
        session.set_array(name, value)
    session.run()
    return [session.output(name).array() for name in graph.output_names]


@pytest.mark.parametrize(("family", "case"), find_cases())
def test_a_model_without_an_operator_of_the_standard_gives_the_same(family, case, monkeypatch):
    """Parameters of every kind, quantized types and types of outputs among them."""
    monkeypatch.setattr(exporter, "CONVERTERS", {})
    recorded = read_case(family, case)
    graph = load_model(recorded.model).graph
    again = load_model(in_own_domain(graph)).graph
    for ours, theirs in zip(outputs(again, recorded.inputs), outputs(graph, recorded.inputs), strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=1e-6, atol=1e-6)


def own(op, inputs=("x",), **attributes):
    from onnx import helper

    node = helper.make_node(op, inputs, ["y"], "one", domain="megengine", **attributes)
    given = [(name, F, [2, 3, 3]) for name in inputs]
    return make([node], given, [("y", F, None)], opsets=[helper.make_opsetid("megengine", 1)]).SerializeToString()


@pytest.mark.parametrize(
    ("op", "attributes", "error"),
    [
        ("Reduce", {"axis": 2**40}, "the attribute 'axis' is 1099511627776, and must be a number of int32"),
        ("Reduce", {"axis": "first"}, "the attribute 'axis' must be a number"),
        ("Reduce", {"mode": -1}, "must be a number of uint32"),
        ("Dimshuffle", {"pattern": "[1, 0"}, "is no JSON"),
        ("Dimshuffle", {"pattern": "[[" * 9999}, "is no JSON"),
        ("Dimshuffle", {"pattern": '["a"]'}, "does not have the elements"),
        ("Subtensor", {"items": "[[0, 1]]"}, "does not have the elements"),
        ("TypeCvt", {"dtype": "[999, 0, 0, false]"}, "names no element type"),
        ("Reduce", {"output_types": "[null, null]"}, "must have an element for each of 1"),
        ("Reduce", {"input_types": '[[1, "x", 0, 0]]'}, "names no element type"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(op, attributes, error):
    with pytest.raises(ModelFormatError, match=re.escape(error)):
        load_model(own(op, **attributes))


def test_operators_that_there_are_not_are_listed():
    with pytest.raises(UnsupportedOperatorError, match=r"megengine\.Nonsense 'one' .MegEngine has no such operator"):
        load_model(own("Nonsense"))
    with pytest.raises(UnsupportedOperatorError, match=r"megengine\.OnnxReduce 'one'"):
        load_model(own("OnnxReduce"))
