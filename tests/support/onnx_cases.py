"""The cases of the package onnx for each operator, and the list of those that are out of scope."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np

from megengine_lite._core.formats.mge import load_model
from support.graphs import session_of

LIST = Path(__file__).parents[1] / "onnx_cases_out_of_scope.txt"
# Results in these types are rounded after each operator there, at the end here.
_STEPS = {"float16": 2e-3, "bfloat16": 2e-2}


@cache
def cases() -> dict[str, object]:
    """All cases by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


def out_of_scope() -> dict[str, str]:
    """Name of a case -> what the error says of it."""
    found, reason = {}, ""
    for line in LIST.read_text().splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            found[line] = reason
    return found


def load(case):
    return load_model(case.model.SerializeToString())


def check(case) -> None:
    """Runs a case; raises if a result is not the expected one."""
    model = load(case)
    for inputs, outputs in case.data_sets:
        session = session_of(model.graph)
        for var, given in zip(model.graph.inputs, map(_array, inputs), strict=True):
            session.set_array(
                var.name, np.ascontiguousarray(given.reshape(given.shape or (1,)).astype(var.dtype.storage))
            )
        session.run()
        for name, wanted in zip(model.output_names, map(_array, outputs), strict=True):
            result = session.output(name).array()
            result = result.reshape(()) if name in model.scalars else result
            assert result.shape == wanted.shape, name
            tolerance = max(case.rtol, _STEPS.get(wanted.dtype.name, 0))
            ours, theirs = result.astype(np.float64), wanted.astype(np.float64)
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=max(case.atol, tolerance / 100), err_msg=name)


def _array(value) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)
