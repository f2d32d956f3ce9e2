"""Operators alone, for every type and each choice of their parameters: what runs gives what is defined."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import run, session_of
from support.onnx_exports import FUNCTION, close
from support.operator_samples import choices, operators, samples

from megengine_lite._core.ir.dtype import DTypeCode

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("op", operators(in_files=False))
def test_what_runs_is_what_is_defined(op):
    count = 0
    for param in choices(op):
        for graph, given, expected, dtype in samples(op, param):
            found = run(session_of(graph), **given)
            close(list(map(np.asarray, found)), expected, 2e-3 if dtype.code == DTypeCode.FLOAT16 else FUNCTION)
            count += 1
    assert count, "no type is taken, so nothing was compared"
