"""The graph of a model: variables, operator nodes, constants.

A :class:`Graph` is built once from the records of a file (constants refer to the file's bytes) and never changed;
planning works on copies of it whose variables have a :class:`TensorSpec`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from megengine_lite._core.dtype import DType


class Constant:
    """An immutable array with an identity.

    ``key`` says where the value comes from: constants with equal keys of one model hold equal values.
    """

    __slots__ = ("__weakref__", "array", "key")

    def __init__(self, array: np.ndarray, key: Hashable):
        self.array = array
        self.key = key

    def release(self) -> None:
        """Gives memory back that can be had again when ``array`` is next asked for."""


class DerivedConstant(Constant):
    """A constant computed from others when its array is first asked for."""

    __slots__ = ("_array", "_make", "_parents")

    def __init__(self, key: Hashable, parents: Sequence[Constant], make: Callable[..., np.ndarray]):
        self.key = key
        self._parents = parents
        self._make = make
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:  # type: ignore[override]
        array = self._array
        if array is None:
            array = self._array = self._make(*(p.array for p in self._parents))
            for parent in self._parents:
                parent.release()
        return array  # another thread may release it meanwhile

    @property
    def held_bytes(self) -> int:
        """Bytes of the array, 0 if there is none now."""
        array = self._array
        return 0 if array is None else array.nbytes

    def release(self) -> None:
        self._array = None


class ConstantPool:
    """Constants derived from a model's weights (folded, packed), by recipe; shared by networks that share weights.

    They live as long as something uses them, and are made when something first does.
    """

    def __init__(self) -> None:
        self._derived: WeakValueDictionary[Hashable, DerivedConstant] = WeakValueDictionary()

    def derive(self, recipe: Hashable, parents: Sequence[Constant], make: Callable[..., np.ndarray]) -> Constant:
        """``make(*arrays of parents)``; equal recipes and parents give the same constant."""
        key = (recipe, *(p.key for p in parents))
        found = self._derived.get(key)
        if found is None:
            found = self._derived[key] = DerivedConstant(key, parents, make)
        return found

    @property
    def nbytes(self) -> int:
        """Bytes of the constants that have been made and are still there."""
        return sum(c.held_bytes for c in list(self._derived.values()))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What is known of a tensor while planning.

    ``shape`` is None when it depends on data. ``value`` is set for constants and for small tensors computed from
    shapes (targets of reshapes and the like).
    """

    shape: tuple[int, ...]  # typed as if it were never None: all but inference runs where it is known
    dtype: DType
    value: np.ndarray | None = field(default=None, compare=False)

    @property
    def size(self) -> int:
        assert self.shape is not None
        n = 1
        for d in self.shape:
            n *= d
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class Var:
    """A variable: one output of one node, a graph input, or a constant."""

    __slots__ = ("const", "id", "name", "producer", "spec")

    def __init__(self, id: int, name: str = "", spec: TensorSpec | None = None, const: Constant | None = None):
        self.id = id
        self.name = name
        self.spec: TensorSpec = spec  # type: ignore[assignment]  # None only before inference
        self.const = const
        self.producer: Node | None = None

    @property
    def constant(self) -> Constant:
        """``const`` of a variable that is known to have one."""
        assert self.const is not None
        return self.const

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.spec is not None and self.spec.shape is not None
        return self.spec.shape

    @property
    def dtype(self) -> DType:
        assert self.spec is not None
        return self.spec.dtype

    def __repr__(self) -> str:
        return f"Var({self.id}, {self.name!r}, {self.spec})"


class Node:
    """One operator of the graph. ``op`` is the operator's name without revision suffix (``"Convolution"``)."""

    __slots__ = ("inputs", "name", "op", "output_dtype", "outputs", "params", "payload")

    def __init__(
        self,
        op: str,
        params: Any,
        inputs: Iterable[Var],
        outputs: Iterable[Var],
        name: str = "",
        output_dtype: DType | None = None,
        payload: tuple[bytes, ...] = (),
    ):
        self.op = op
        self.params = params
        self.inputs = list(inputs)
        self.outputs = list(outputs)
        self.name = name
        self.output_dtype = output_dtype
        self.payload = payload
        for v in self.outputs:
            v.producer = self

    def __repr__(self) -> str:
        return f"Node({self.op}, {self.name!r}, {[v.id for v in self.inputs]} -> {[v.id for v in self.outputs]})"


class Graph:
    """Nodes in executable order, with the graph's inputs and outputs.

    ``inputs`` are variables without producer and constant, in file order; ``outputs`` may repeat a variable or
    name an input.
    """

    def __init__(self, nodes: list[Node], inputs: list[Var], outputs: list[Var], output_names: list[str]):
        self.nodes = nodes
        self.inputs = inputs
        self.outputs = outputs
        self.output_names = output_names

    def consumers(self) -> dict[Var, list[Node]]:
        """For each variable the nodes that read it, once per node."""
        table: dict[Var, list[Node]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(node.inputs):
                table.setdefault(v, []).append(node)
        return table

    def replace_uses(self, old: Var, new: Var) -> None:
        """All nodes and graph outputs that read ``old`` read ``new`` from now on."""
        for node in self.nodes:
            if old in node.inputs:
                node.inputs = [new if v is old else v for v in node.inputs]
        self.outputs = [new if v is old else v for v in self.outputs]

    def remove_dead(self) -> None:
        """Drops nodes of which no output is read by a living node or the caller."""
        alive: set[int] = {id(v) for v in self.outputs}
        kept = []
        for node in reversed(self.nodes):
            if any(id(v) in alive for v in node.outputs):
                kept.append(node)
                alive.update(id(v) for v in node.inputs)
        kept.reverse()
        self.nodes = kept
