"""Whole models at every instruction set and thread count against what the original computed."""

from __future__ import annotations

import numpy as np
import pytest
from support.instruction_sets import INSTRUCTION_SETS
from tolerance import DEVIATIONS, MODELS, check_outputs, find_cases, load_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not MODELS.is_dir(), reason="the shared model collection is absent"),
]

NETWORK_TOLERANCE = 2e-4  # of the largest number of an output, for whole float32 networks


CASES = [(group, name) for group in ("ops", "nets") for name in find_cases(group)]
FLOAT_NETS = [n for n in find_cases("nets") if not any(mark in n for mark in ("int8", "ioc16", "io16xc32"))]


def run_session(model, inputs, config):
    session = Session(model, config)
    arrays = {name: np.ascontiguousarray(inputs[name]) for name in session.input_names}
    for name, array in arrays.items():
        session.set_array(name, array)
    for _ in range(2):  # the second run takes the plan of the first
        session.run()
    outputs = []
    for name in session.output_names:
        outputs.append(session.output(name).array().copy())
    return outputs


@pytest.mark.parametrize(("group", "name"), CASES, ids=[f"{group}/{name}" for group, name in CASES])
def test_session_gives_recorded_outputs(group, name):
    path, inputs, expected = load_case(group, name)
    model = load_model(path)
    if name.removesuffix(".v1") in DEVIATIONS:
        expected = run_reference(model.graph, inputs)
    for isa in INSTRUCTION_SETS:
        one = run_session(model, inputs, SessionConfig(isa=isa))
        check_outputs(group, name, one, expected)
        two = run_session(model, inputs, SessionConfig(isa=isa, threads=2))
        for a, b in zip(one, two, strict=True):
            np.testing.assert_array_equal(a, b, err_msg=f"{isa}: two threads give another result than one")


@pytest.mark.parametrize("fuse", [True, False], ids=["fused", "plain"])
@pytest.mark.parametrize("name", FLOAT_NETS)
def test_float_network_is_close_to_the_original(name, fuse):
    path, inputs, expected = load_case("nets", name)
    model = load_model(path)
    for isa in INSTRUCTION_SETS:
        outputs = run_session(model, inputs, SessionConfig(isa=isa, fuse=fuse))
        for got, want in zip(outputs, expected, strict=True):
            limit = NETWORK_TOLERANCE * max(float(np.abs(want).max(initial=0)), 1e-30)
            np.testing.assert_allclose(got, want, rtol=0, atol=limit, err_msg=isa)
