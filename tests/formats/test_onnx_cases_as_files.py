"""Files of MegEngine's that are made of the package onnx's cases give their results, or say why there are none.

Inputs of which shapes depend are constants then.
"""

import json

import pytest
from support.onnx_cases import _array, cases, compare, load, out_of_scope, what_the_original_lacks
from support.places import TESTS

from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.to_record import new_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2
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


def test_few_cases_have_no_file():
    """Most of these are double or unsigned integers of 32 and 64 bits, which files do not have."""
    assert len(json.loads(LIST.read_text())) < 0.2 * len(names())
