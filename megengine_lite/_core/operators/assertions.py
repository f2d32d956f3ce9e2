"""Checks in a graph that serve debugging."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import check_count, check_float
from megengine_lite._core.operators.facts import IMAGE
from megengine_lite.errors import LiteValueError


@register
class AssertEqual(Operator):
    """Fails if two tensors differ too much; inputs expected, got and, if the graph computes it, the error.

    The error of an element is ``|expected - got| / max(min(|expected|, |got|), 1)``. The output is what was expected.
    """

    name = "AssertEqual"
    param = params.AssertEqual
    sample_inputs = (IMAGE, IMAGE)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 2, 3)
        if len(ins) == 3:
            if ins[2].size != 1:
                raise fail(node, f"the error must be one number, its shape is {ins[2].shape}")
            check_float(node, ins[2:])
        else:
            if ins[0].shape != ins[1].shape:
                raise fail(node, f"compares tensors of shapes {ins[0].shape} and {ins[1].shape}")
            check_float(node, ins)
        expected, *found = (s.value for s in ins)
        if expected is not None and all(v is not None for v in found):  # they follow from the shapes of the inputs
            error = self._error([expected, *(v for v in found if v is not None)], ins)
            if not 0 <= error <= node.params.maxerr:
                came = "" if found[0] is None else f"; expected is {_text(expected)}, and {_text(found[0])} came"
                raise fail(node, f"the error is {error:g}, allowed are {node.params.maxerr:g}{came}")
        return [TensorSpec(ins[0].shape, ins[0].dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        value = self._error(ins, in_specs)
        if not 0 <= value <= node.params.maxerr:
            raise LiteValueError(str(fail(node, f"the error is {value:g}, allowed are {node.params.maxerr:g}")))
        return [ins[0]]

    @staticmethod
    def _error(ins: Sequence[np.ndarray], specs: Sequence[TensorSpec]) -> float:
        if len(ins) == 3:
            return float(to_float32(ins[2], specs[2].dtype).item())
        expected, got = (to_float32(x, spec.dtype) for x, spec in zip(ins, specs, strict=True))
        with np.errstate(all="ignore"):
            scale = np.maximum(np.minimum(np.abs(expected), np.abs(got)), 1)
            return float((np.abs(expected - got) / scale).max(initial=0))


def _text(array: np.ndarray) -> str:
    return ", ".join(f"{x:g}" for x in array.reshape(-1)[:8])


@register
class CheckNonFinite(Operator):
    """The inputs times a scale, and at last int32 [1]: 1 if any input has an infinity or NaN, else 0."""

    name = "CheckNonFinite"
    param = params.CheckNonFinite
    sample_inputs = (IMAGE,)

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return n_inputs + 1

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if not ins:
            raise fail(node, "has no inputs")
        for spec in ins:
            check_float(node, [spec])
        return [*(TensorSpec(s.shape, s.dtype) for s in ins), TensorSpec((1,), INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        real = [to_float32(x, s.dtype) for x, s in zip(ins, in_specs, strict=True)]
        found = not all(np.isfinite(x).all() for x in real)
        scale = np.float32(node.params.scale)
        scaled = [from_float32(x * scale, s.dtype) for x, s in zip(real, in_specs, strict=True)]
        return [*scaled, np.array([found], np.int32)]


@register
class CheckHasInf(Operator):
    """int32 [1]: 1 if any input has an infinity or NaN, else 0 (releases 1.5 and 1.6)."""

    name = "CheckHasInf"
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        if not ins:
            raise fail(node, "has no inputs")
        for spec in ins:
            check_float(node, [spec])
        return [TensorSpec((1,), INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        found = not all(np.isfinite(to_float32(x, s.dtype)).all() for x, s in zip(ins, in_specs, strict=True))
        return [np.array([found], np.int32)]
