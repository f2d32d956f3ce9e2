"""Elements of every type that an operator takes: its export gives the same, or is refused."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from support.graphs import GraphBuilder
from support.onnx_exports import FUNCTION, check_export, rng

from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.facts import MASK, VECTOR
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import LiteError, UnsupportedOperatorError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")

_C = DTypeCode
TYPES = [
    *map(DType, (_C.FLOAT16, _C.INT32, _C.INT16, _C.INT8, _C.UINT8, _C.UINT16, _C.BOOL)),
    *(DType(code, 0.5) for code in (_C.QUANTIZED_S8, _C.QUANTIZED_S4, _C.QUANTIZED_S16, _C.QUANTIZED_S32)),
    *(DType(code, 0.5, 1) for code in (_C.QUANTIZED8_ASYMM, _C.QUANTIZED4_ASYMM)),
]
FIRST_RESULT_ONLY = {"ROIAlign"}
"""The second one says where the largest number is, and which of two equal ones is one's own choice."""


def values(shape, dtype):
    """Small numbers, which are the same in all types."""
    storage = dtype.storage
    if storage.kind == "f":
        return rng().uniform(0.1, 0.9, shape).astype(storage)
    return rng().integers(0, 2 if storage.kind == "b" else 8, shape).astype(storage)


def graph_of(op, dtypes):
    """The operator alone, with its default parameters, and values of its inputs; None if it does not take them."""
    operator = REGISTRY[op]
    builder, variables, given = GraphBuilder(), [], {}
    for k, (item, dtype) in enumerate(zip(operator.sample_inputs, dtypes, strict=True)):
        if item is MASK or isinstance(item, list):
            variables.append(builder.constant(np.ones(VECTOR, bool) if item is MASK else np.int32(item)))
        else:
            variables.append(builder.input(f"x{k}", item, dtype))
            given[f"x{k}"] = values(item, dtype)
    param = operator.param() if operator.param else None
    count = operator.count_outputs(param, len(variables))
    made = builder.node(op, param, variables, count)
    results = made if count > 1 else [made]
    graph = builder.finish(*results[: 1 if op in FIRST_RESULT_ONLY else count])
    run_reference(graph, given)
    return graph, given


@pytest.mark.parametrize(
    "op", sorted(name for name, o in REGISTRY.items() if o.in_files and o.sample_inputs and o.folds)
)
def test_exports_take_the_types_that_the_operator_takes(op):
    count = len(REGISTRY[op].sample_inputs)
    for dtype in TYPES:
        for dtypes in ([dtype] * count, [dtype] + [FLOAT32] * (count - 1)):
            try:
                graph, given = graph_of(op, dtypes)
            except LiteError:
                continue  # it does not take them
            if not given:
                continue
            tolerance = 1e-3 if dtype.code == _C.FLOAT16 else FUNCTION
            with contextlib.suppress(UnsupportedOperatorError):
                check_export(graph, given, tolerance)
