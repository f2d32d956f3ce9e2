"""Elements of every type that an operator takes, for each choice of its parameters: its export gives the same, or is
refused."""

from __future__ import annotations

import contextlib

import pytest
from support.onnx_exports import FUNCTION, check_export
from support.operator_samples import choices, operators, samples

from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite.errors import UnsupportedOperatorError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("op", operators(in_files=True))
def test_exports_take_the_types_that_the_operator_takes(op):
    count = 0
    for param in choices(op):
        for graph, given, _, dtype in samples(op, param):
            with contextlib.suppress(UnsupportedOperatorError):
                check_export(graph, given, 1e-3 if dtype.code == DTypeCode.FLOAT16 else FUNCTION)
            count += 1
    assert count, "no type is taken, so nothing was exported"
