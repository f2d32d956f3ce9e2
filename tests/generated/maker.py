"""Builds a graph node by node; each value is computed when its node is added."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from support.graphs import GraphBuilder

from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Constant, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import AxisAddRemove, DTypeTable, OptionalAxisV1, Param
from megengine_lite._core.ir.params.tensor import AxisDesc
from megengine_lite._core.operators.reference import run_node
from megengine_lite._core.operators.shape import NO_AXIS
from megengine_lite.errors import LiteError

Values = dict[str, np.ndarray]

LARGEST_TENSOR = 60_000
LARGEST_NUMBER = 1e4


class Rejected(Exception):
    """A step does not fit what has been made so far, or leads to numbers that cannot be compared."""


@dataclass
class Case:
    """A generated graph, and the inputs of its runs by name."""

    label: str
    graph: Graph
    runs: list[Values]


def signed(scale: float) -> DType:
    """Signed bytes with a scale."""
    return DType(DTypeCode.QUANTIZED_S8, float(np.float32(scale)))


def unsigned(scale: float, zero_point: int) -> DType:
    """Unsigned bytes with a scale and a zero point."""
    return DType(DTypeCode.QUANTIZED8_ASYMM, float(np.float32(scale)), zero_point)


def sums(scale: float) -> DType:
    """Quantized integers of 32 bits."""
    return DType(DTypeCode.QUANTIZED_S32, float(np.float32(scale)))


class Maker(GraphBuilder):
    """A graph in the making.

    Attributes
    ----------
    rng
        Decides; its numbers do not depend on the version of Python.
    noise
        Fills tensors.
    pool
        Variables that later steps may read, oldest first.
    values
        Value of each variable in the first run.
    channels
        Numbers of channels that steps choose from.
    dynamic
        Shapes change between runs: axis 0 of inputs must not stand in constants.
    choices
        Inputs that hold one of these values in each run.
    """

    def __init__(self, seed: str, channels: Sequence[int] = (1, 3, 4, 7, 8, 16, 17, 32), dynamic: bool = False):
        super().__init__()
        self.rng = random.Random(seed)
        self.noise = np.random.Generator(np.random.PCG64(self.rng.getrandbits(64)))
        self.pool: list[Var] = []
        self.values: dict[Var, np.ndarray] = {}
        self.channels = channels
        self.dynamic = dynamic
        self.choices: dict[str, list[np.ndarray]] = {}

    # ---- variables --------------------------------------------------------------------------------------------------

    def random(self, shape: Sequence[int], dtype: DType = FLOAT32) -> np.ndarray:
        """Values for an input: floats around zero, bytes of the whole range, small integers."""
        if dtype.is_float:
            return (self.noise.random(tuple(shape)) * 4 - 2).astype(dtype.storage)
        if dtype.code == DTypeCode.BOOL:
            return self.noise.random(tuple(shape)) < 0.5
        low, high = {1: (-128, 127), 2: (-500, 500), 4: (-50, 50)}[dtype.itemsize]
        if dtype.storage.kind == "u":
            low, high = 0, 255
        return np.floor(low + self.noise.random(tuple(shape)) * (high - low + 1)).astype(dtype.storage)

    def data(self, shape: Sequence[int], dtype: DType = FLOAT32) -> Var:
        """An input with random values, at hand for later steps."""
        var = self.input(f"x{len(self.inputs)}", shape, dtype)
        self.values[var] = self.random(shape, dtype)
        self.pool.append(var)
        return var

    def given(self, values: list[np.ndarray]) -> Var:
        """An input that holds one of some values in each run."""
        var = self.input(f"x{len(self.inputs)}", values[0].shape, INT32)
        self.values[var] = values[0]
        self.choices[var.name] = values
        return var

    def typed(self, value: np.ndarray, dtype: DType) -> Var:
        """A constant of a type that numpy does not know."""
        var = self._var("", TensorSpec(value.shape, dtype))
        var.const = Constant(value, ("test", var.id))
        self.values[var] = value
        return var

    def constant(self, value: Any) -> Var:
        var = super().constant(value)
        self.values[var] = np.asarray(value)
        return var

    def weight(self, shape: Sequence[int], dtype: DType = FLOAT32, *, terms: int = 1, gain: float = 1.0) -> Var:
        """Constant floats around zero; sums of ``terms`` products with them are about as large as the other factors."""
        value = (self.noise.random(tuple(shape)) * 2 - 1) * (gain * np.sqrt(3 / terms))
        return self.typed(value.astype(dtype.storage), dtype)

    def number(self, value: float, like: Var) -> Var:
        """A constant of one element in the float type of another variable."""
        return self.typed(np.full((1,), value, like.dtype.storage), like.dtype)

    def integers(self, *numbers: int) -> Var:
        """Constant int32 numbers: lengths, positions, shapes."""
        return self.typed(np.array(numbers, np.int32), INT32)

    # ---- nodes ------------------------------------------------------------------------------------------------------

    def preview(
        self, op: str, params: Param | None, inputs: Sequence[Var], dtype: DType | None = None
    ) -> list[TensorSpec]:
        """Specs and values of what a node would give."""
        node = AnyNode(op, params, inputs, [AnyVar(-1)], "", dtype)
        specs = [TensorSpec(v.shape, v.dtype, self.values[v]) for v in inputs]
        return run_node(node, specs)

    def add(
        self, op: str, params: Param | None, *inputs: Var, outputs: int = 1, dtype: DType | None = None
    ) -> list[Var]:
        """A node; gives its outputs.

        Raises
        ------
        Rejected
            A result is not finite, or too large.
        LiteError
            The node does not fit its inputs.
        """
        unknown = [self._var(f"{op}{self.count}") for _ in range(outputs)]
        node = AnyNode(op, params, inputs, unknown, f"{op}{self.count}", dtype)
        results = run_node(node, [TensorSpec(v.shape, v.dtype, self.values[v]) for v in inputs])
        outs = [Var(v.id, v.name, TensorSpec(r.shape, r.dtype)) for v, r in zip(unknown, results, strict=True)]
        for var, result in zip(outs, results, strict=True):
            value = result.value
            assert value is not None
            if value.size > LARGEST_TENSOR:
                raise Rejected("too large")
            if result.dtype.is_float and value.size and not np.abs(value.astype(np.float64)).max() < LARGEST_NUMBER:
                raise Rejected("not finite")
            self.values[var] = value
        self.nodes.append(Node(op, params, inputs, outs, node.name, dtype))
        return outs

    def op(self, op: str, params: Param | None, *inputs: Var, dtype: DType | None = None) -> Var:
        """A node with one output."""
        return self.add(op, params, *inputs, dtype=dtype)[0]

    def cast(self, x: Var, dtype: DType) -> Var:
        """The same values in another type."""
        return x if x.dtype == dtype else self.op("TypeCvt", DTypeTable(dtype=dtype), x)

    def reshape(self, x: Var, *shape: int) -> Var:
        """The same elements in another shape; axis 0 of the result is found from the others where shapes change."""
        target = list(shape)
        if self.dynamic or self.rng.random() < 0.3:
            target[0] = self.rng.choice((1, -1, shape[0]))
            return self.op("Reshape", OptionalAxisV1(axis=0), x, self.integers(*target))
        return self.op("Reshape", OptionalAxisV1(axis=NO_AXIS), x, self.integers(*target))

    def add_axis(self, x: Var, *axes: int) -> Var:
        """New axes of length 1."""
        return self.op("AxisAddRemove", AxisAddRemove(desc=tuple(AxisDesc(0, a) for a in axes)), x)

    def drop_axis(self, x: Var, axis: int) -> Var:
        """Without an axis of length 1."""
        return self.op("AxisAddRemove", AxisAddRemove(desc=(AxisDesc(1, axis),)), x)

    # ---- choices ----------------------------------------------------------------------------------------------------

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def pick(self, wanted: Callable[[Var], bool]) -> Var:
        """One of the pool, more often a young one."""
        found = [v for v in self.pool if wanted(v)]
        if not found:
            raise Rejected("nothing fits")
        return found[max(self.rng.randrange(len(found)), self.rng.randrange(len(found)))]

    def pick_image(self, *, half: bool = True) -> Var:
        """A float image [N, C, H, W]."""
        return self.pick(lambda v: len(v.shape) == 4 and (v.dtype == FLOAT32 or (half and v.dtype == FLOAT16)))

    def pick_float(self, ndim: int | None = None) -> Var:
        return self.pick(lambda v: v.dtype in (FLOAT32, FLOAT16) and (ndim is None or len(v.shape) == ndim))

    def pick_bytes(self, ndim: int | None = None) -> Var:
        """A tensor of quantized bytes."""
        return self.pick(
            lambda v: v.dtype.is_quantized and v.dtype.itemsize == 1 and (ndim is None or len(v.shape) == ndim)
        )

    def pick_like(self, x: Var) -> Var:
        """A variable of the same shape and type, x itself if there is no other."""
        return self.pick(lambda v: v.shape == x.shape and v.dtype == x.dtype and (v is not x or self.chance(0.1)))

    def keep(self, *variables: Var) -> None:
        """Puts variables at hand for later steps."""
        self.pool.extend(variables)

    def attempt(self, step: Callable[[Maker], None]) -> bool:
        """Runs a step; leaves everything as it was if that is not possible."""
        nodes, pool, inputs = len(self.nodes), len(self.pool), len(self.inputs)
        try:
            step(self)
        except (Rejected, LiteError):
            del self.nodes[nodes:], self.pool[pool:], self.inputs[inputs:]
            return False
        return len(self.nodes) > nodes
