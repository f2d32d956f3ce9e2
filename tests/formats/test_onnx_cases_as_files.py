"""Files of MegEngine's that are made of the package onnx's cases give their results, or say why there are none.

Inputs of which shapes depend are constants then.
"""

import json

import numpy as np
import pytest
from onnx import parser
from support.onnx_cases import _array, cases, compare, load, out_of_scope, what_the_original_lacks
from support.places import TESTS

from megengine_lite._api.comparison import run_here
from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.to_record import new_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.runtime.session import Session
from megengine_lite.errors import UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
LIST = TESTS / "formats" / "onnx_cases_without_counterpart.json"
PARTS = 16


def names():
    left_out = out_of_scope()
    return [name for name in cases() if name not in left_out and cases()[name].model is not None]


def as_file(model, inputs):
    """The model of a file for inputs of these shapes, and the reason if there is none."""
    shapes = {v.name: x.shape or (1,) for v, x in zip(model.graph.inputs, inputs, strict=True)}
    try:
        graph = for_original(model.graph, "model", shapes)
    except UnsupportedOperatorError as error:
        return None, str(error)
    assert what_the_original_lacks(graph) == []
    made = load_model(b"".join(bytes(c) for c in write_v2(new_record(graph))))
    made.scalars = model.scalars
    return made, ""


def with_constants(case, data_sets):
    """The case with all inputs but the first as constants."""
    from onnx import ModelProto, numpy_helper

    model = ModelProto.FromString(case.model.SerializeToString())
    inputs, outputs = data_sets[0]
    for info, value in zip(list(model.graph.input)[1:], inputs[1:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(_array(value), info.name))
    return load_model(model.SerializeToString()), [(inputs[:1], outputs)]


def outcome(name):
    """Runs a case by a file; gives the reason why there is none, and what is wrong with its results."""
    case = cases()[name]
    model, data_sets = load(case), case.data_sets[:1]
    made, reason = as_file(model, list(map(_array, data_sets[0][0])))
    if made is None and len(data_sets[0][0]) > 1:
        model, data_sets = with_constants(case, data_sets)
        made, reason = as_file(model, list(map(_array, data_sets[0][0])))
    if made is None:
        return reason.partition("nodes: ")[2], ""
    try:
        compare(made, data_sets, case.rtol, case.atol)
    except Exception as error:
        return "", f"{type(error).__name__}: {str(error)[:300]}"
    return "", ""


@pytest.mark.parametrize("part", range(PARTS))
def test_files_give_the_results_of_cases(part):
    listed = json.loads(LIST.read_text())
    found = {name: outcome(name) for name in names()[part::PARTS]}
    assert {name: wrong for name, (_, wrong) in found.items() if wrong} == {}
    refused = {name: reason for name, (reason, _) in found.items() if reason}
    assert refused == {name: listed[name] for name in found if name in listed}
    assert len(found) > 50


PARTS_OF_TENSORS = {
    "slice": "p = Slice(x, four, far, one)",
    "reshaped slice": "s = Slice(x, four, far, one) p = Reshape(s, whole)",
    "split": "q, p = Split<axis = 1>(x)",
    "repeated twice": "s = Slice(x, four, far, zero) t = Slice(s, seven, far, one) u = Expand(t, tall) "
    "p = Expand(u, size)",
    "repeated": "s = Slice(x, four, far, zero) t = Slice(s, four, far, one) p = Expand(t, size)",
}
NUMBERS = {"zero": 0, "one": 1, "four": 4, "far": 2**40, "whole": [2, 3, 4], "size": [6, 4], "tall": [6, 1], "seven": 7}


@pytest.mark.parametrize("op", ["Add", "Mul", "Max", "Or"])
@pytest.mark.parametrize("kind", PARTS_OF_TENSORS)
@pytest.mark.parametrize("turned", [False, True])
def test_the_original_computes_functions_of_a_part_and_a_row(kind, op, turned):
    """It reads such parts, whose rows have gaps between them, as if there were none."""
    numbers = ", ".join(
        f"int64[{len(n)}] {k} = {{{', '.join(map(str, n))}}}"
        for k, n in ((k, n if isinstance(n, list) else [n]) for k, n in NUMBERS.items())
    )
    operands = ("w, a" if turned else "a, w") if op != "Or" else ("v, b" if turned else "b, v")
    rows = 5 if "repeated" in kind else 6
    text = (
        f"g (float[{rows}, 8] x, float[4] w) => (float[m, n] y) <{numbers}> {{ {PARTS_OF_TENSORS[kind]} "
        f"a = Identity(p) b = Cast<to = 9>(p) v = Cast<to = 9>(w) f = {op}({operands}) y = Cast<to = 1>(f) }}"
    )
    model = load_model(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 13]> {text}').SerializeToString())
    x, w = (np.random.default_rng(5).standard_normal(shape).round().astype(np.float32) for shape in ((rows, 8), (4,)))
    made, reason = as_file(model, [x, w])
    assert reason == ""
    sessions = [Session(m) for m in (made, model)]
    for session in sessions:
        run_here(session, {"x": x, "w": w})
    found, expected = (session.output("y").array() for session in sessions)
    np.testing.assert_array_equal(found, expected)


def test_few_cases_have_no_file():
    """Most of these are double or unsigned integers of 32 and 64 bits, which files do not have."""
    assert len(json.loads(LIST.read_text())) < 0.2 * len(names())
