"""Operators alone, with small inputs of any type, and each choice that their parameters leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.graph import ModelGraph
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.facts import MASK, VECTOR
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import LiteError
from support.graphs import GraphBuilder
from support.onnx_exports import rng

_C = DTypeCode
TYPES = [
    *map(DType, (_C.FLOAT32, _C.FLOAT16, _C.INT32, _C.INT16, _C.INT8, _C.UINT8, _C.UINT16, _C.BOOL)),
    *(DType(code, 0.5) for code in (_C.QUANTIZED_S8, _C.QUANTIZED_S4, _C.QUANTIZED_S16, _C.QUANTIZED_S32)),
    *(DType(code, 0.5, 1) for code in (_C.QUANTIZED8_ASYMM, _C.QUANTIZED4_ASYMM)),
]
FIRST_RESULT_ONLY = {"ROIAlign"}
"""The second one says where the largest number is, and which of two equal ones is one's own choice."""


def operators(in_files: bool) -> list[str]:
    """Names of operators that have sample inputs and give the same in each run."""
    return sorted(n for n, o in REGISTRY.items() if o.sample_inputs and o.folds and (o.in_files or not in_files))


def choices(op: str) -> Iterator[Any]:
    """The default parameters of an operator, those with one other choice, and those with a frame around the input."""
    param = REGISTRY[op].param
    if param is None:
        yield None
        return
    default = param()
    yield default
    for name in default.__annotations__:
        value = getattr(default, name)
        others = type(value) if isinstance(value, CodeEnum) else [not value] if isinstance(value, bool) else []
        for other in others:
            if other != value:
                yield param(**{name: other})
    frame = {name: 1 for name in default.__annotations__ if name.startswith(("pad_", "front_offset", "back_offset"))}
    if frame:
        yield param(**frame)


Sample = tuple[ModelGraph, dict[str, np.ndarray], list[np.ndarray], DType]


def samples(op: str, param: Any) -> Iterator[Sample]:
    """Graphs of the operator with inputs of one type, and with a first input of it, all given, and with constants
    behind the first; values of the inputs, the outputs by definition, and the type.

    Types that the operator does not take are left out.
    """
    behind = len(REGISTRY[op].sample_inputs or ()) - 1
    for dtype in TYPES:
        for dtypes in [[dtype] * (behind + 1), [dtype] + [FLOAT32] * behind][
            : 1 if dtype == FLOAT32 or not behind else 2
        ]:
            for is_constant in [False, True][: 1 + bool(behind)]:
                try:
                    graph, given = _graph_of(op, param, dtypes, is_constant)
                    if given:
                        yield graph, given, run_reference(graph, given), dtype
                except LiteError:
                    break


def _graph_of(op: str, param: Any, dtypes: list[DType], is_constant: bool) -> tuple[ModelGraph, dict[str, np.ndarray]]:
    operator = REGISTRY[op]
    builder, variables, given = GraphBuilder(), [], {}
    for k, (item, dtype) in enumerate(zip(operator.sample_inputs or (), dtypes, strict=True)):
        if item is MASK or isinstance(item, list):
            variables.append(builder.constant(np.ones(VECTOR, bool) if item is MASK else np.int32(item)))
        elif k and is_constant:
            variables.append(builder.constant(_values(item, dtype), dtype))
        else:
            variables.append(builder.input(f"x{k}", item, dtype))
            given[f"x{k}"] = _values(item, dtype)
    count = operator.count_outputs(param, len(variables))
    made = builder.node(op, param, variables, count)
    results = made if count > 1 else [made]
    return builder.finish(*results[: 1 if op in FIRST_RESULT_ONLY else count]), given


def _values(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    """Small numbers, which are the same in all types; floats of both signs."""
    storage = dtype.storage
    if storage.kind == "f":
        return rng().uniform(-0.9, 0.9, shape).astype(storage)
    return rng().integers(0, 2 if storage.kind == "b" else 8, shape).astype(storage)
