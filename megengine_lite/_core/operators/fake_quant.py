"""Quantization simulated on floats, as training leaves it in a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, round_half_away, to_float32
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import broadcasts_to, check_count, check_float
from megengine_lite._core.operators.facts import IMAGE, InOriginal


class _FakeQuantBase(Operator):
    """Operators on x and parameters that broadcast to the shape of x."""

    n_inputs: int

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, self.n_inputs)
        dtype = check_float(node, ins)
        shape = ins[0].shape
        for spec in ins[1:]:
            if not broadcasts_to(spec.shape, shape):
                raise fail(node, f"a parameter of shape {spec.shape} does not broadcast to {shape}")
        if node.params.qmin > node.params.qmax:
            raise fail(node, f"qmin {node.params.qmin} is above qmax {node.params.qmax}")
        return [TensorSpec(shape, dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = out_specs[0].dtype
        low, high = np.float32(node.params.qmin), np.float32(node.params.qmax)
        result = self.formula(low, high, *(to_float32(x, dtype) for x in ins))
        return [from_float32(result, dtype)]

    def formula(self, low: np.float32, high: np.float32, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        """The simulated value, limited to low .. high in quantized steps."""
        raise NotImplementedError


@register
class FakeQuant(_FakeQuantBase):
    """Linear quantization; inputs x, scale, zero point."""

    name = "FakeQuant"
    param = params.FakeQuant
    n_inputs = 3
    in_original = InOriginal(type="FakeQuantForward", label="fakequant_fwd", mentioned_inputs=1)
    sample_inputs = (IMAGE, IMAGE, IMAGE)

    def formula(self, low: np.float32, high: np.float32, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        scale, zero_point = parameters
        result: np.ndarray = (np.clip(round_half_away(x / scale) + zero_point, low, high) - zero_point) * scale
        return result


@register
class TQT(_FakeQuantBase):
    """Quantization with a step of a power of two; inputs x and its exponent."""

    name = "TQT"
    param = params.TQT
    n_inputs = 2
    in_original = InOriginal(type="TQTForward", label="tqt_fwd", mentioned_inputs=1)
    sample_inputs = (IMAGE, IMAGE)

    def formula(self, low: np.float32, high: np.float32, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        step = np.exp2(parameters[0])
        result: np.ndarray = np.clip(round_half_away(x / step), low, high) * step
        return result


@register
class LSQ(_FakeQuantBase):
    """Quantization with a learned step; inputs x, scale, zero point, scale of the gradient (unused)."""

    name = "LSQ"
    param = params.LSQ
    n_inputs = 4
    in_original = InOriginal(type="LSQForward", label="lsq_fwd", mentioned_inputs=1)
    sample_inputs = (IMAGE, IMAGE, IMAGE, IMAGE)

    def formula(self, low: np.float32, high: np.float32, x: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
        scale, zero_point, _ = parameters
        result: np.ndarray = (round_half_away(np.clip(x / scale + zero_point, low, high)) - zero_point) * scale
        return result
