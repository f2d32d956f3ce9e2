"""Every operator of ONNX does what the package onnx expects of it, or is listed as out of scope."""

import re

import pytest
from support.onnx_cases import (
    LEFT_OUT,
    RANDOM,
    SEQUENCES,
    cases,
    check,
    check_of_tensors,
    compare,
    light_models,
    load,
    out_of_scope,
    values_of_a_light_model,
    whole_models,
)
from support.places import ROOT

import megengine_lite
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx import control_flow
from megengine_lite._core.formats.onnx.graph_builder import MOST_MADE
from megengine_lite._core.formats.onnx.graph_converter import MAX_NODES
from megengine_lite._core.formats.onnx.operators import CONVERTERS
from megengine_lite._core.formats.onnx.operators.table import NEWEST, OLDEST
from megengine_lite._core.formats.onnx.reader import MAX_DEPTH, MAX_ITEMS
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite.errors import LiteTypeError, UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = 16
MOST_OUT_OF_SCOPE = 0.25


@pytest.mark.parametrize("part", range(PARTS))
def test_cases_in_scope_pass(part):
    listed = out_of_scope()
    faults = {}
    names = [name for name in cases() if name not in listed][part::PARTS]
    for name in names:
        try:
            check(cases()[name])
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert len(names) > 50


def test_cases_out_of_scope_are_refused_for_the_reason_that_is_listed():
    faults = {}
    for name, reason in out_of_scope().items():
        if reason == RANDOM:
            case = cases()[name]
            compare(load(case), case.data_sets, 0, 0, is_random=True)
            continue
        if reason == LEFT_OUT:
            with pytest.raises(LiteTypeError, match="is an array or a list of numbers, not None"):
                megengine_lite.load(cases()[name].model.SerializeToString())(*cases()[name].data_sets[0][0])
            continue
        try:
            load(cases()[name])
            faults[name] = "can be loaded: remove it from the list"
        except UnsupportedOperatorError as error:
            if reason not in str(error):
                faults[name] = f"listed for {reason!r}, the error says {str(error)[:300]}"
    assert not faults


# What these cannot be run for besides.
OF_SEQUENCES = {
    "test_loop13_seq": "is a sequence, and how many tensors it has is known only when the model runs",
    "test_loop16_seq_none": "a state is a sequence, so whether there is another round must be known here",
    "test_sequence_insert_at_front": "the position is computed when the model runs, and must be a constant here",
}


def test_what_the_error_says_of_sequences_as_inputs_works():
    """With an input for each tensor the model runs."""
    names = [name for name, reason in out_of_scope().items() if reason == SEQUENCES]
    for name in names:
        if name in OF_SEQUENCES:
            with pytest.raises(UnsupportedOperatorError, match=OF_SEQUENCES[name]):
                check_of_tensors(cases()[name])
        else:
            check_of_tensors(cases()[name])
    assert len(names) > 15


def test_the_list_is_short():
    assert out_of_scope().keys() <= cases().keys()
    assert len(out_of_scope()) <= MOST_OUT_OF_SCOPE * len(cases())


def test_the_page_lists_the_operators():
    page = (ROOT / "docs" / "onnx.md").read_text()
    listed = re.findall(r"`(\w+)`", page.split("## Operators")[1].split("\n\n")[1])
    assert listed == sorted({name for domain, name in CONVERTERS if not domain} | {*control_flow.OPERATORS})


def test_the_page_lists_the_operators_of_onnx_runtime():
    page = (ROOT / "docs" / "onnx.md").read_text()
    listed = re.findall(r"`(\w+)`", page.split("com.microsoft`: ")[1].split("\n\n")[0])
    assert listed == sorted(name for domain, name in CONVERTERS if domain == "com.microsoft")


def test_the_page_has_the_numbers_of_the_code():
    page = (ROOT / "docs" / "onnx.md").read_text()
    numbers = re.findall(r"\d[\d,]*", page.split("## What is read")[1].split("## What differs")[0].split("`onnx.v")[0])
    assert numbers == [str(OLDEST), str(NEWEST)]
    limits = page.split("**Limits.**")[1].split("- **")[0]
    assert re.findall(r"\d[\d,]*", limits) == [f"{n:,}" for n in (MAX_DEPTH, MAX_ITEMS, MAX_NODES, MAX_NDIM)]
    assert MOST_MADE == MAX_NODES


REFUSED = {"test_gradient": "Gradient", "test_strnorm": "STRING"}
# Their numbers are doubles that no float32 holds, which is what inputs of the API have in place of doubles.
DOUBLES = {
    "test_operator_add_broadcast",
    "test_operator_add_size1_right_broadcast",
    "test_operator_add_size1_singleton_broadcast",
    "test_operator_addconstant",
}


def test_whole_models_give_the_values_that_are_stored_with_them():
    faults, ran = {}, 0
    for name, (content, values, rtol, atol) in whole_models().items():
        reason = next((r for prefix, r in REFUSED.items() if name.startswith(prefix)), None)
        try:
            if reason is not None:
                with pytest.raises(UnsupportedOperatorError, match=reason):
                    load_model(content)
            elif name not in DOUBLES:
                compare(load_model(content), values, rtol, atol)
                ran += 1
        except BaseException as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert ran >= 120


@pytest.mark.parametrize("name", light_models())
def test_light_networks_give_the_values_that_are_stored_with_them(name):
    path = light_models()[name]
    given, wanted = values_of_a_light_model(path)
    compare(load_model(path.read_bytes()), [([given], [wanted])], 1e-3, 1e-7)


def test_there_are_light_networks():
    assert len(light_models()) >= 9
