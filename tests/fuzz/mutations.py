"""Random changes of graphs, of the kinds that a damaged or hostile file can bring past the loader."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import numpy as np

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir import dtype as dtypes
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._core.ir.graph import Constant, ModelGraph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import AxisDesc, IndexDescMaskItem
from megengine_lite._core.ir.params.base import Field, Param
from megengine_lite._core.operators import REGISTRY
from megengine_lite._records import replace

SMALL = (0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33)
LARGE = (63, 64, 100, 127, 128, 255, 256, 1000, 4096, 65535, 65536, 1 << 20, (1 << 24) + 1, 1 << 30)
_RANGES = {
    "int8": (-(1 << 7), (1 << 7) - 1),
    "uint8": (0, (1 << 8) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
    "uint32": (0, (1 << 32) - 1),
    "uint64": (0, (1 << 64) - 1),
}
_REALS = (0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 1e-30, -1e-30, 1e-45, 1e30, -1e30, 3.4e38, math.inf, -math.inf, math.nan)
_PLAIN = (dtypes.FLOAT32, dtypes.FLOAT16, dtypes.INT32, dtypes.INT16, dtypes.INT8, dtypes.UINT8, dtypes.UINT16,
          dtypes.BOOL, dtypes.BYTE, DType(DTypeCode.BFLOAT16), DType(DTypeCode.COMPLEX64))  # fmt: skip
_QUANTIZED = tuple(code for code in DTypeCode if DType(code).is_quantized)
MOST_ELEMENTS = 1 << 16
"""Of made arrays."""


def copy_graph(graph: ModelGraph) -> ModelGraph:
    """A graph that can be changed; constants and parameters are shared."""
    copies: dict[Var, Var] = {}

    def copy(var: Var) -> Var:
        if var not in copies:
            copies[var] = Var(var.id, var.name, var.spec, var.const)
        return copies[var]

    inputs = [copy(v) for v in graph.inputs]
    nodes = [
        Node(
            n.op, n.params, [copy(v) for v in n.inputs], [copy(v) for v in n.outputs], n.name, n.output_dtype, n.payload
        )
        for n in graph.nodes
    ]
    return ModelGraph(nodes, inputs, [copy(v) for v in graph.outputs], list(graph.output_names))


def random_integer(rng: Random, old: int, low: int, high: int) -> int:
    """A number near the old one, or one at which checks break, within the range of its type."""
    chance = rng.random()
    if chance < 0.3:
        number = old + rng.choice((-2, -1, 1, 2))
    elif chance < 0.6:
        number = rng.choice(SMALL)
    elif chance < 0.75:
        number = -rng.choice(SMALL[1:])
    elif chance < 0.9:
        number = rng.choice(LARGE) * rng.choice((1, 1, 1, -1))
    else:
        number = rng.choice((low, high, (1 << 31) - 1, 1 << 31, (1 << 31) - 128))
    return min(max(number, low), high)


def random_real(rng: Random, old: float) -> float:
    return float(np.float32(rng.choice((*_REALS, old * 2, old / 2, -old, old + 1))))


def random_dtype(rng: Random) -> DType:
    if rng.random() < 0.6:
        return rng.choice(_PLAIN)
    scale = rng.choice((0.1, 1.0, 0.05, 0.0, -1.0, 1e-38, 1e38, math.inf, math.nan))
    code = rng.choice(_QUANTIZED)
    return DType(code, scale, rng.choice((0, 128, 8, 255)) if "ASYMM" in code.name else 0)


def random_shape(rng: Random, old: Sequence[int]) -> tuple[int, ...]:
    shape = list(old)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        chance = rng.random()
        if chance < 0.7 and shape:
            k = rng.randrange(len(shape))
            shape[k] = rng.choice(SMALL + LARGE[:6] if rng.random() < 0.9 else LARGE)
        elif chance < 0.8 and len(shape) > 1:
            del shape[rng.randrange(len(shape))]
        elif chance < 0.9 and len(shape) < 7:
            shape.insert(rng.randrange(len(shape) + 1), rng.choice((1, 2, 3)))
        else:
            rng.shuffle(shape)
    return tuple(shape)


def random_array(rng: Random, shape: Sequence[int], dtype: DType) -> np.ndarray:
    """Ordinary or hostile values; the shape must be small enough."""
    noise = np.random.default_rng(rng.getrandbits(32))
    storage = dtype.storage
    if storage.kind in "fc" or dtype.code == DTypeCode.BFLOAT16:
        out = noise.standard_normal(shape, np.float32)
        if rng.random() < 0.15 and out.size:
            out.reshape(-1)[noise.integers(0, out.size, 1 + out.size // 8)] = rng.choice(_REALS)
        if dtype.code == DTypeCode.BFLOAT16:
            return (out.view(np.uint32) >> 16).astype(storage)
        return out.astype(storage)
    if storage.kind == "b":
        return noise.integers(0, 2, shape).astype(storage)
    low, high = dtype.quantized_range if dtype.is_quantized else (np.iinfo(storage).min, np.iinfo(storage).max)
    if rng.random() < 0.8:
        return noise.integers(max(-3, low), min(4, high + 1), shape).astype(storage)
    return noise.choice(np.array([low, high, 0, 1, high // 2], storage), shape)


def _changed_field(rng: Random, field: Field, old: Any) -> Any:
    if field.kind == "bool":
        return not old
    if field.kind in ("float32", "float64"):
        return random_real(rng, old)
    if field.enum is not None:
        members: list[CodeEnum] = list(field.enum)
        if rng.random() < 0.8:
            return rng.choice(members)
        return rng.choice((max(members) + 1, 127, (1 << 31) - 1 if field.kind == "uint32" else -1))
    if field.kind in _RANGES:
        return random_integer(rng, old, *_RANGES[field.kind])
    items = list(old)
    chance = rng.random()
    place = rng.randrange(len(items) + 1)
    if chance < 0.2 and items:
        del items[place - 1]
    elif chance < 0.4:
        items.insert(place, _random_item(rng, field.kind, items[place - 1] if items else None))
    elif chance < 0.5:
        rng.shuffle(items)
    elif items:
        items[place - 1] = _random_item(rng, field.kind, items[place - 1])
    return tuple(items)


def _random_item(rng: Random, kind: str, old: Any) -> Any:
    if kind == "int32[]":
        return random_integer(rng, old or 0, *_RANGES["int32"])
    axis = rng.choice((0, 1, 2, 3, 6, 7, -1, -2, -8, 127, -128))
    if kind == "AxisDesc[]":
        return AxisDesc(rng.choice((0, 1, 2)), axis)
    if old is None or rng.random() < 0.3:
        return IndexDescMaskItem(axis, *(rng.random() < 0.5 for _ in range(4)))
    flag = rng.choice(("axis", "begin", "end", "step", "idx"))
    return replace(old, **{flag: axis if flag == "axis" else not getattr(old, flag)})


class Mutator:
    """Changes one graph; ``log`` says how.

    Parameters
    ----------
    graph
        A graph of its own (:func:`copy_graph`).
    rng
        Decides everything.
    donors
        Nodes of other models, which are inserted with their parameters and constants.
    """

    def __init__(self, graph: ModelGraph, rng: Random, donors: Sequence[Node] = ()):
        self.graph = graph
        self.rng = rng
        self.donors = donors
        self.log: list[str] = []
        self._next_id = 1 << 20

    def mutate(self) -> None:
        """One change; a kind that finds nothing to change is drawn again."""
        kinds, weights = zip(*self._KINDS, strict=True)
        while (text := self.rng.choices(kinds, weights)[0](self)) is None:
            pass
        self.log.append(text)

    def _node(self) -> tuple[int, Node]:
        k = self.rng.randrange(len(self.graph.nodes))
        return k, self.graph.nodes[k]

    def _number(self) -> int:
        self._next_id += 1
        return self._next_id

    def _variables(self, before: int) -> list[Var]:
        """What nodes from position ``before`` on may read."""
        found = dict.fromkeys(self.graph.inputs)
        for node in self.graph.nodes[:before]:
            found.update(dict.fromkeys((*node.inputs, *node.outputs)))
        for node in self.graph.nodes[before:]:
            found.update(dict.fromkeys(v for v in node.inputs if v.const is not None))
        return list(found)

    def _constant(self, array: np.ndarray, dtype: DType | None = None) -> Var:
        number = self._number()
        array.flags.writeable = False
        return Var(
            number, f"c{number}", TensorSpec(array.shape, dtype or dtypes.from_numpy(array.dtype)),
            Constant(array, ("fuzz", number)),
        )  # fmt: skip

    # ---- kinds of changes ---------------------------------------------------------------------------------------

    def change_parameter(self) -> str | None:
        _, node = self._node()
        if not isinstance(node.params, Param) or not node.params.layout:
            return None
        field = self.rng.choice(node.params.layout)
        old = getattr(node.params, field.name)
        new = _changed_field(self.rng, field, old)
        node.params = node.params.replace(**{field.name: new})
        return f"{node.op}.{field.name}: {old!r} -> {new!r}"

    def change_parameters(self) -> str | None:
        """Several of one operator: sizes are checked against each other."""
        _, node = self._node()
        if not isinstance(node.params, Param) or len(node.params.layout) < 2:
            return None
        fields = self.rng.sample(node.params.layout, min(len(node.params.layout), self.rng.choice((2, 3, 4))))
        new = {f.name: _changed_field(self.rng, f, getattr(node.params, f.name)) for f in fields}
        node.params = node.params.replace(**new)
        return f"{node.op}: {new}"

    def change_wiring(self) -> str | None:
        k, node = self._node()
        var = self.rng.choice(self._variables(k))
        chance = self.rng.random()
        place = self.rng.randrange(len(node.inputs) + 1)
        if chance < 0.6 and node.inputs:
            node.inputs[place - 1] = var
        elif chance < 0.75 and node.inputs:
            del node.inputs[place - 1]
        elif chance < 0.9:
            node.inputs.insert(place, var)
        else:
            self.rng.shuffle(node.inputs)
        return f"inputs of {node.op}: {[v.id for v in node.inputs]}"

    def change_constant(self) -> str | None:
        rng = self.rng
        constants = [(n, i) for n in self.graph.nodes for i, v in enumerate(n.inputs) if v.const is not None]
        if not constants:
            return None
        node, place = rng.choice(constants)
        old = node.inputs[place]
        array, dtype = old.const.array, old.spec.dtype
        what = rng.choice(("values", "values", "values", "shape", "dtype", "variable"))
        if what == "values":
            array = self._changed_values(array)
        elif what == "shape":
            shape = random_shape(rng, array.shape)
            if not shape or math.prod(shape) > MOST_ELEMENTS:
                return None
            array = random_array(rng, shape, dtype)
        elif what == "dtype":
            dtype = random_dtype(rng)
            array = random_array(rng, array.shape, dtype) if rng.random() < 0.5 else array.astype(dtype.storage)
        new = self._constant(array, dtype)
        if what == "variable":  # what was known while planning comes at run time
            new.const = None
            new.name = f"in{new.id}"
            new.spec = TensorSpec(array.shape, dtype, array)
            self.graph.inputs.append(new)
        node.inputs[place] = new
        shown = array.reshape(-1)[:8].tolist()
        return f"constant {place} of {node.op}, {what}: {array.dtype} {dtype} {array.shape} {shown}"

    def _changed_values(self, array: np.ndarray) -> np.ndarray:
        rng = self.rng
        out = array.copy()
        if not out.size:
            return out
        flat = out.reshape(-1)
        for _ in range(rng.choice((1, 1, 2, out.size))):
            k = rng.randrange(out.size)
            if out.dtype.kind in "fc":
                flat[k] = random_real(rng, float(flat[k].real))
            elif out.dtype.kind == "b":
                flat[k] = not flat[k]
            else:
                info = np.iinfo(out.dtype)
                flat[k] = random_integer(rng, int(flat[k]), info.min, info.max)
        return out

    def change_output_dtype(self) -> str | None:
        _, node = self._node()
        node.output_dtype = None if self.rng.random() < 0.2 else random_dtype(self.rng)
        return f"output type of {node.op}: {node.output_dtype}"

    def change_input(self) -> str | None:
        if not self.graph.inputs:
            return None
        var = self.rng.choice(self.graph.inputs)
        shape, dtype = var.spec.shape, var.spec.dtype
        if self.rng.random() < 0.3:
            dtype = random_dtype(self.rng)
        else:
            shape = random_shape(self.rng, shape)
        if not shape or math.prod(shape) > 16 * MOST_ELEMENTS:
            return None
        var.spec = TensorSpec(shape, dtype)
        return f"input {var.name}: {dtype} {shape}"

    def change_operator(self) -> str | None:
        _, node = self._node()
        old = node.op
        kind = type(node.params)
        like = [name for name, opr in REGISTRY.items() if opr.param is not None and issubclass(kind, opr.param)]
        if len(like) < 2:
            return None
        node.op = self.rng.choice(like)
        return f"{old} becomes {node.op}"

    def change_outputs(self) -> str | None:
        _, node = self._node()
        chance = self.rng.random()
        if chance < 0.6:
            var = self.rng.choice([v for n in self.graph.nodes for v in n.outputs] or [None])
            if var is None:
                return None
            if var not in self.graph.outputs:
                self.graph.outputs.append(var)
                self.graph.output_names.append(f"out{len(self.graph.outputs)}")
            return f"variable {var.id} is an output"
        if chance < 0.8:
            node.outputs.append(Var(self._number()))
        else:
            read = {v for n in self.graph.nodes for v in n.inputs} | set(self.graph.outputs)
            free = [v for v in node.outputs if v not in read]
            if not free or len(node.outputs) < 2:
                return None
            node.outputs.remove(free[-1])
        return f"{node.op} has {len(node.outputs)} outputs"

    def insert_node(self) -> str | None:
        """A node of another model, in front of a reader or as a new output."""
        if not self.donors:
            return None
        rng = self.rng
        donor = rng.choice(self.donors)
        k = rng.randrange(len(self.graph.nodes) + 1)
        variables = self._variables(k)
        inputs = []
        for i, v in enumerate(donor.inputs):
            own = v.const is not None and (i > 0 and rng.random() < 0.9)
            inputs.append(v if own else rng.choice(variables))
        outputs = [Var(self._number(), f"v{self._next_id}") for _ in donor.outputs]
        node = Node(donor.op, donor.params, inputs, outputs, donor.name, donor.output_dtype, donor.payload)
        self.graph.nodes.insert(k, node)
        later = [n for n in self.graph.nodes[k + 1 :] if n.inputs]
        if later and rng.random() < 0.5:
            reader = rng.choice(later)
            reader.inputs[rng.randrange(len(reader.inputs))] = outputs[0]
        else:
            self.graph.outputs.append(outputs[0])
            self.graph.output_names.append(f"out{len(self.graph.outputs)}")
        return f"{node.op} {node.params} inserted at {k}, reads {[v.id for v in inputs]}"

    _KINDS: tuple[tuple[Callable[[Mutator], str | None], float], ...] = (
        (change_parameter, 4),
        (change_parameters, 2),
        (change_constant, 3),
        (change_wiring, 2),
        (change_input, 3),
        (insert_node, 3),
        (change_output_dtype, 1),
        (change_operator, 0.5),
        (change_outputs, 1),
    )
