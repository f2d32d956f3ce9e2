"""Runs one operator by its definition, for tests."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import DType, from_numpy
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Node, TensorSpec
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.reference import run_node


def make_specs(arrays: Sequence[np.ndarray], dtypes: Sequence[DType | None] = ()) -> list[TensorSpec]:
    """Specs with values; types that are not given (or None) are the plain ones of the arrays."""
    given = [*dtypes, *[None] * (len(arrays) - len(dtypes))]
    return [TensorSpec(a.shape, d or from_numpy(a.dtype), a) for a, d in zip(arrays, given, strict=True)]


def make_node(op: str, params: Any, n_inputs: int, n_outputs: int = 1, output_dtype: DType | None = None) -> Node:
    inputs = [AnyVar(i) for i in range(n_inputs)]
    return AnyNode(op, params, inputs, [AnyVar(100 + i) for i in range(n_outputs)], "node", output_dtype)


def run_opr(
    op: str,
    params: Any,
    *arrays: np.ndarray,
    dtypes: Sequence[DType | None] = (),
    n_outputs: int = 1,
    output_dtype: DType | None = None,
) -> list[np.ndarray]:
    """The outputs of an operator; its inference is checked against them, and that special numbers give no warning."""
    node = make_node(op, params, len(arrays), n_outputs, output_dtype)
    outputs = [spec.value for spec in run_node(node, make_specs(arrays, dtypes))]
    check_quiet(node, arrays, dtypes)
    return outputs


def special(array: np.ndarray, first: int = 0) -> np.ndarray:
    """An array of the same shape full of zeros, infinities, NaN, and the smallest and largest numbers."""
    info = np.finfo(array.dtype)
    values = [0.0, np.inf, -np.inf, np.nan, -0.0, info.max, info.min, info.tiny, -info.smallest_subnormal, 1, -1, 0.5]
    return np.resize(np.roll(np.array(values, array.dtype), -first), array.shape)


def check_quiet(node: Node, arrays: Sequence[np.ndarray], dtypes: Sequence[DType | None] = ()) -> None:
    """Raises if an operator warns of special numbers in its inputs; errors are the tests' of what raises them."""
    for first in range(0, 12, 5):
        specials = [special(a, first + k) if a.dtype.kind == "f" else a for k, a in enumerate(arrays)]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                run_node(node, make_specs(specials, dtypes))
            except Warning:
                raise
            except Exception:
                continue


def infer_opr(
    op: str,
    params: Any,
    *specs: TensorSpec,
    n_outputs: int = 1,
    output_dtype: DType | None = None,
) -> list[TensorSpec]:
    """What the operator infers for specs whose values may be unknown."""
    return REGISTRY[op].infer(make_node(op, params, len(specs), n_outputs, output_dtype), specs)


def int32(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int32)


def float32(*numbers: Any) -> np.ndarray:
    return np.array(numbers, np.float32)
