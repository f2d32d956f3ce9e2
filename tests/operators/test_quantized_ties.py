"""Where a sum lies half-way between two quantized results, the result is the original's (see models/ties/README.md)."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import run
from support.instruction_sets import INSTRUCTION_SETS
from support.places import TESTS

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

with np.load(TESTS / "models" / "ties" / "conv.npz") as data:
    ARRAYS = dict(data)
CASES = sorted({key.split("/")[0] for key in ARRAYS})


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("fuse", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_kernels_round_as_the_original(case, fuse, isa):
    session = Session(load_model(ARRAYS[f"{case}/model"].tobytes()), SessionConfig(isa=isa, fuse=fuse))
    (got,) = run(session, x0=ARRAYS[f"{case}/in"])
    np.testing.assert_array_equal(got, ARRAYS[f"{case}/out"])


@pytest.mark.parametrize("case", [case for case in CASES if case.startswith("bias_scale")])
def test_an_integer_bias_gives_the_scale_of_the_sums(case):
    (got,) = run_reference(load_model(ARRAYS[f"{case}/model"].tobytes()).graph, {"x0": ARRAYS[f"{case}/in"]})
    np.testing.assert_allclose(got, ARRAYS[f"{case}/out"], atol=1e-6)
