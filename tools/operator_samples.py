"""For which element types operators are defined: tried out with their sample inputs and default parameters."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import BOOL, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.facts import MASK, VECTOR
from megengine_lite._core.operators.reference import run_node
from megengine_lite.errors import LiteError

_C = DTypeCode
_GROUPS = {
    "floats": (_C.FLOAT32, _C.FLOAT16, _C.BFLOAT16),
    "integers": (_C.INT32, _C.INT16, _C.INT8, _C.UINT8, _C.UINT16),
    "bool": (_C.BOOL,),
    "quantized": (
        _C.QUANTIZED_S8,
        _C.QUANTIZED8_ASYMM,
        _C.QUANTIZED_S32,
        _C.QUANTIZED_S16,
        _C.QUANTIZED_S4,
        _C.QUANTIZED4_ASYMM,
    ),
}


def _dtype(code: DTypeCode) -> DType:
    return DType(code, 0.5, 1 if "ASYMM" in code.name else 0) if code in _GROUPS["quantized"] else DType(code)


def _spec(item: Any, dtype: DType) -> TensorSpec:
    if item is MASK:
        return TensorSpec(VECTOR, BOOL, np.ones(VECTOR, bool))
    if isinstance(item, list):
        return TensorSpec((len(item),), INT32, np.array(item, np.int32))
    one = 0x3F80 if dtype.code is _C.BFLOAT16 else 1
    return TensorSpec(item, dtype, np.full(item, one, dtype.storage))


def _takes(op: str, dtypes: list[DType]) -> bool:
    operator = REGISTRY[op]
    specs = [_spec(item, dtype) for item, dtype in zip(operator.sample_inputs or (), dtypes, strict=True)]
    params = operator.param() if operator.param else None
    n_outputs = operator.count_outputs(params, len(specs))
    node = AnyNode(op, params, map(AnyVar, range(len(specs))), map(AnyVar, range(n_outputs)), "sample")
    try:
        run_node(node, specs)
    except LiteError:
        return False
    return True


def types_of(op: str) -> str:
    """Element types that an operator takes, in all of its inputs or in the first alone; whole groups by their names."""
    operator = REGISTRY[op]
    if operator.element_types:
        return operator.element_types
    n = len(operator.sample_inputs or ())
    float32 = DType(_C.FLOAT32)
    taken = set()
    for code in DTypeCode:
        if any(code in codes for codes in _GROUPS.values()):
            dtype = _dtype(code)
            if _takes(op, [dtype] * n) or _takes(op, [dtype, *[float32] * (n - 1)]):
                taken.add(code)
    return ", ".join(names_of(taken))


def names_of(codes: Collection[DTypeCode]) -> list[str]:
    """Names of element types, whole groups by their names; types that no group has are left out."""
    found: list[str] = []
    for group, members in _GROUPS.items():
        present = [code.name.lower() for code in members if code in codes]
        found += [group] if len(present) == len(members) else present
    return found
