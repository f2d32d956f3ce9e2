"""Random numbers.

The generators are not those of the original: numbers have the same distribution but other values. Each run begins anew
with the seed, so that a model gives the same output for the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import BYTE, INT32, DType
from megengine_lite._core.ir.graph import AnyNode, TensorSpec
from megengine_lite._core.ir.quantize import from_float32, to_float32, to_float64
from megengine_lite._core.operators.base import Operator, fail, register
from megengine_lite._core.operators.checks import (
    check_count,
    check_float,
    check_ndim,
    check_same_shape,
    to_integer,
    to_shape,
)
from megengine_lite._core.operators.creation import plain_dtype
from megengine_lite._core.operators.facts import IMAGE, MATRIX, InFiles
from megengine_lite.errors import LiteValueError


def _generator(node: AnyNode) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(node.params.seed))


class _ByShape(Operator):
    """Numbers of a distribution with fixed parameters, in the shape that the input lists."""

    value_inputs = (0,)
    folds = False

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        dtype = plain_dtype(node, node.params.dtype)
        if not dtype.is_float:
            raise fail(node, f"makes floats, not {dtype}")
        return [TensorSpec(to_shape(node, ins[0].value), dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        spec = out_specs[0]
        return [from_float32(self.draw(node, _generator(node), spec.shape).astype(np.float32), spec.dtype)]

    def draw(self, node: AnyNode, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Random numbers in this shape."""
        raise NotImplementedError


@register
class UniformRNG(_ByShape):
    """Uniform numbers in (0, 1]."""

    name = "UniformRNG"
    param = params.UniformRNG
    in_files = InFiles(revision=1)
    element_types = "by a parameter"

    def draw(self, node: AnyNode, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return 1 - generator.random(shape, np.float32)


@register
class GaussianRNG(_ByShape):
    """Normal numbers."""

    name = "GaussianRNG"
    param = params.GaussianRNG
    in_files = InFiles(revision=1)
    element_types = "by a parameter"

    def draw(self, node: AnyNode, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        result: np.ndarray = node.params.mean + node.params.std * generator.standard_normal(shape)
        return result


class _ByTensors(Operator):
    """One number for each element of tensors of distribution parameters, which have one shape."""

    n_inputs: ClassVar[int]
    folds = False

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, self.n_inputs)
        dtype = check_float(node, ins)
        for spec in ins[1:]:
            check_same_shape(node, spec, ins[0].shape, "a parameter")
        return [TensorSpec(ins[0].shape, dtype)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        dtype = out_specs[0].dtype
        parameters = [to_float64(x, dtype) for x in ins]
        try:
            drawn = self.draw(_generator(node), *parameters)
        except ValueError as error:  # a parameter out of the distribution's range
            raise LiteValueError(str(fail(node, str(error)))) from None
        return [from_float32(np.asarray(drawn).astype(np.float32), dtype)]

    def draw(self, generator: np.random.Generator, *parameters: np.ndarray) -> np.ndarray:
        """One random number for each element of the parameters."""
        raise NotImplementedError


@register
class GammaRNG(_ByTensors):
    """Gamma distribution; inputs shape and scale."""

    name = "GammaRNG"
    param = params.GammaRNG
    n_inputs = 2
    sample_inputs = (IMAGE, IMAGE)

    def draw(self, generator: np.random.Generator, *parameters: np.ndarray) -> np.ndarray:
        return generator.gamma(*parameters)


@register
class BetaRNG(_ByTensors):
    """Beta distribution; inputs alpha and beta."""

    name = "BetaRNG"
    param = params.BetaRNG
    n_inputs = 2
    sample_inputs = (IMAGE, IMAGE)

    def draw(self, generator: np.random.Generator, *parameters: np.ndarray) -> np.ndarray:
        return generator.beta(*parameters)


@register
class PoissonRNG(_ByTensors):
    """Poisson distribution; input the expected numbers."""

    name = "PoissonRNG"
    param = params.PoissonRNG
    n_inputs = 1
    sample_inputs = (IMAGE,)

    def draw(self, generator: np.random.Generator, *parameters: np.ndarray) -> np.ndarray:
        return generator.poisson(*parameters)


@register
class ExponentialRNG(_ByTensors):
    """Exponential distribution; input the rates."""

    name = "ExponentialRNG"
    param = params.ExponentialRNG
    in_files = InFiles(released=False)
    n_inputs = 1
    sample_inputs = (IMAGE,)

    def draw(self, generator: np.random.Generator, *parameters: np.ndarray) -> np.ndarray:
        (rate,) = parameters
        if not (rate > 0).all():
            raise ValueError("rates must be positive")
        result: np.ndarray = generator.standard_exponential(rate.shape) / rate
        return result


@register
class PermutationRNG(Operator):
    """The numbers 0 to n - 1 in random order; input n."""

    name = "PermutationRNG"
    param = params.PermutationRNG
    value_inputs = (0,)
    folds = False
    element_types = "by a parameter"

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        n = to_integer(node, ins[0].value, "n")
        if n < 0:
            raise fail(node, f"cannot permute {n} numbers")
        return [TensorSpec((n,), plain_dtype(node, node.params.dtype))]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        order = _generator(node).permutation(out_specs[0].size)
        return [_from_integers(order, out_specs[0].dtype)]


def _from_integers(x: np.ndarray, dtype: DType) -> np.ndarray:
    return from_float32(x.astype(np.float32), dtype) if dtype.is_float else x.astype(dtype.storage)


@register
class ShuffleRNG(Operator):
    """The rows of the input in random order, and the row that each of them was."""

    name = "ShuffleRNG"
    param = params.ShuffleRNG
    n_outputs = 2
    folds = False
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        if not ins[0].shape:
            raise fail(node, "a scalar has no rows to shuffle")
        return [TensorSpec(ins[0].shape, ins[0].dtype), TensorSpec((ins[0].shape[0],), INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        order = _generator(node).permutation(len(ins[0]))
        return [ins[0][order], order.astype(np.int32)]


@register
class MultinomialRNG(Operator):
    """Columns chosen by weight for each row of the input [rows, n], with or without replacement; int32."""

    name = "MultinomialRNG"
    param = params.MultinomialRNG
    in_files = InFiles(released=False)
    folds = False
    sample_inputs = (MATRIX,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        rows, columns = check_ndim(node, ins[0], 2, "the weights")
        check_float(node, ins)
        wanted = node.params.num_samples
        if wanted and (columns == 0 or (wanted > columns and not node.params.replacement)):
            raise fail(node, f"cannot choose {wanted} of {columns} columns")
        return [TensorSpec((rows, wanted), INT32)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        weights = to_float64(ins[0], in_specs[0].dtype)
        out = np.empty(out_specs[0].shape, np.int32)
        generator = _generator(node)
        for row, chosen in zip(weights, out, strict=True):
            try:
                chosen[:] = generator.choice(len(row), len(chosen), bool(node.params.replacement), row / row.sum())
            except ValueError as error:
                raise LiteValueError(str(fail(node, str(error)))) from None
        return [out]


@register
class Dropout(Operator):
    """Elements set to 0 by chance, the others enlarged so that the mean stays; outputs result and mask.

    It stands only in graphs that were made in training mode.
    """

    name = "Dropout"
    param = params.Dropout
    n_outputs = 2
    sample_inputs = (IMAGE,)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[TensorSpec]:
        check_count(node, ins, 1)
        if not 0 <= node.params.drop_prob < 1:
            raise fail(node, f"the probability {node.params.drop_prob} is not in [0, 1)")
        return [TensorSpec(ins[0].shape, check_float(node, ins)), TensorSpec((ins[0].size,), BYTE)]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        x, dtype, probability = ins[0], in_specs[0].dtype, node.params.drop_prob
        kept = _generator(node).random(x.shape) >= probability
        y = np.where(kept, to_float32(x, dtype) * np.float32(1 / (1 - probability)), np.float32(0))
        return [from_float32(y, dtype), kept.reshape(-1).astype(np.uint8)]
