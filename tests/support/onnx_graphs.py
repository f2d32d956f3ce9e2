"""Random graphs of ONNX operators with inputs of two sizes.

ONNX Runtime says of each node, as it is added, whether it is valid, and what it gives; so no rules of operators are
repeated here. ``onnx_graph_steps`` and ``onnx_graph_layers`` have the steps: one that does not apply, or that ONNX
Runtime refuses, adds nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

F, F16, D = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE
I64, I32, I8, U8, B = TensorProto.INT64, TensorProto.INT32, TensorProto.INT8, TensorProto.UINT8, TensorProto.BOOL
NUMPY = {F: "f4", F16: "f2", D: "f8", I64: "i8", I32: "i4", I8: "i1", U8: "u1", B: "?"}
KINDS = {np.dtype(name): kind for kind, name in NUMPY.items()}
FLOATS, WHOLE, NUMBERS, ANY = (F,), (I64, I32), (F, I64, I32), tuple(NUMPY)

MOST_ELEMENTS, LARGEST_FLOAT, LARGEST_INTEGER = 200_000, 1e3, 100_000


@dataclass(eq=False)
class Value:
    """A tensor of the graph: what it is for inputs of the first and of the second sizes."""

    name: str
    arrays: tuple[np.ndarray, np.ndarray]

    @property
    def kind(self) -> int:
        return KINDS[self.arrays[0].dtype]

    @property
    def rank(self) -> int:
        return self.arrays[0].ndim

    def size(self, axis: int) -> int | None:
        """The length of an axis if both have the same."""
        first, second = (a.shape[axis] for a in self.arrays)
        return first if first == second else None

    @property
    def sizes(self) -> list[int | None]:
        return [self.size(k) for k in range(self.rank)]

    def shortest(self, axis: int) -> int:
        return min(a.shape[axis] for a in self.arrays)

    def is_usable(self) -> bool:
        """Neither too large to be quick, nor with numbers that rounding decides."""
        for a in self.arrays:
            if a.dtype not in KINDS or a.size > MOST_ELEMENTS or a.ndim > 6:
                return False
            most = LARGEST_FLOAT if a.dtype.kind == "f" else LARGEST_INTEGER
            if a.size and a.dtype.kind != "b" and not np.abs(a.astype(np.float64)).max() < most:
                return False
        return True


Step = Callable[["Graph"], object]
STEPS: list[Step] = []
"""Each as often as it is to be taken."""


def step(times: int = 1) -> Callable[[Step], Step]:
    """Decorator of a step."""

    def enter(function: Step) -> Step:
        STEPS.extend([function] * times)
        return function

    return enter


class Graph:
    """A graph that grows by random steps until it has about so many nodes. A seed gives the same graph each time."""

    def __init__(self, seed: int, nodes: int):
        import onnxruntime

        self._ort = onnxruntime
        onnxruntime.set_default_logger_severity(4)
        self.rng, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.opset = self.choice(11, 13, 13, 17, 17, 18, 20, 21, 23)
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.inputs: list[tuple[Value, list[int | str]]] = []
        self.values: list[Value] = []
        self._count = 0
        self._open = {"N": self._two((1, 2, 3), (1, 2, 4)), "L": self._two((5, 6, 8), (3, 7, 8, 16))}
        for _ in range(self.choice(1, 1, 2, 2, 3)):
            self._add_input()
        for _ in range(nodes * 8):
            if len(self.nodes) < nodes:
                self.choice(*STEPS)(self)

    # ---- choices ------------------------------------------------------------------------------------------------

    def choice(self, *options: Any) -> Any:
        return self.rng.choice(options)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def _two(self, first: Sequence[int], second: Sequence[int]) -> tuple[int, int]:
        return self.rng.choice(first), self.rng.choice(second)

    def pick(
        self, kinds: Sequence[int] = ANY, ranks: Sequence[int] = range(7), where: Callable[[Value], Any] = bool
    ) -> Value | None:
        """A value, a late one more often."""
        fitting = [v for v in self.values if v.kind in kinds and v.rank in ranks and (where is bool or where(v))]
        return self.rng.choice(fitting[-6:] if self.chance(0.7) else fitting) if fitting else None

    def axis(self, v: Value) -> int:
        return self.rng.randrange(-v.rank, v.rank)

    def random(self, kind: int, shape: Sequence[int]) -> np.ndarray:
        if kind in (F, F16, D):
            return self.numbers.standard_normal(shape).astype(NUMPY[kind])
        low, high = {B: (0, 2), U8: (0, 255), I8: (-128, 127)}.get(kind, (-4, 9))
        return self.numbers.integers(low, high, shape).astype(NUMPY[kind])

    # ---- growth -------------------------------------------------------------------------------------------------

    def _name(self, letter: str) -> str:
        self._count += 1
        return f"{letter}{self._count}"

    def _add_input(self) -> None:
        rank = self.choice(0, 1, 2, 2, 3, 3, 4, 4, 4, 5)
        dims: list[int | str] = [self.choice("N", "L", 1, 2, 3, 4, 5, 8, 16) for _ in range(rank)]
        if rank >= 4:
            dims[:4] = [self.choice("N", 2), self.choice(2, 3, 4, 8, 16), self.choice("L", 6, 8), self.choice("L", 7)]
        kind = self.choice(F, F, F, F, F, I64, I32, B, U8)
        shapes = [[self._open[d][k] if isinstance(d, str) else d for d in dims] for k in (0, 1)]
        value = Value(self._name("x"), (self.random(kind, shapes[0]), self.random(kind, shapes[1])))
        self.inputs.append((value, dims))
        self.values.append(value)

    def constant(self, value: Any, kind: int | None = None) -> Value:
        array = np.asarray(value, None if kind is None else NUMPY[kind])
        name = self._name("c")
        self.constants[name] = numpy_helper.from_array(array, name)
        return Value(name, (array, array))

    def whole(self, *numbers: int) -> Value:
        return self.constant(np.array(numbers, np.int64))

    def add(
        self, op: str, inputs: Sequence[Value | None], outputs: int = 1, domain: str = "", **attributes: Any
    ) -> list[Value]:
        """The outputs of a new node; none if ONNX Runtime refuses it, or if they are not usable."""
        names = [self._name("v") for _ in range(outputs)]
        given = {k: v for k, v in attributes.items() if v is not None}
        read = [i.name if i else "" for i in inputs]
        node = helper.make_node(op, read, names, self._name("n"), domain=domain, **given)
        found = [self._results(node, [i for i in inputs if i], k) for k in (0, 1)]
        if found[0] is None or found[1] is None:
            return []
        values = [Value(n, (a, b)) for n, a, b in zip(names, *found, strict=True)]
        if not all(v.is_usable() for v in values):
            return []
        self.nodes.append(node)
        self.values += values
        return values

    def _results(self, node: NodeProto, inputs: Sequence[Value], which: int) -> list[np.ndarray] | None:
        given = {v.name: v for v in inputs if v.name not in self.constants}
        infos = [helper.make_tensor_value_info(n, v.kind, v.arrays[which].shape) for n, v in given.items()]
        constants = [self.constants[n] for n in {v.name for v in inputs if v.name in self.constants}]
        results = [helper.make_empty_tensor_value_info(n) for n in node.output]
        try:
            graph = helper.make_graph([node], "node", infos, results, constants)
            session = session_of(self._model(graph).SerializeToString(), self._ort)
            return [np.asarray(a) for a in session.run(None, {n: v.arrays[which] for n, v in given.items()})]
        except Exception:  # ONNX Runtime has many
            return None

    def _model(self, graph: Any) -> ModelProto:
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)

    # ---- what it is ---------------------------------------------------------------------------------------------

    @property
    def outputs(self) -> list[Value]:
        """The values that nobody reads."""
        read = {name for node in self.nodes for name in node.input}
        given = {v.name for v, _ in self.inputs}
        return [v for v in self.values if v.name not in read and v.name not in given]

    def model(self) -> ModelProto:
        inputs = [helper.make_tensor_value_info(v.name, v.kind, dims) for v, dims in self.inputs]
        outputs = []
        for v in self.outputs:
            dims = [f"{v.name}_{k}" if d is None else d for k, d in enumerate(v.sizes)]
            outputs.append(helper.make_tensor_value_info(v.name, v.kind, dims))
        read = {name for node in self.nodes for name in node.input}
        constants = [c for name, c in self.constants.items() if name in read]
        return self._model(helper.make_graph(self.nodes, "graph", inputs, outputs, constants))

    def feeds(self, which: int) -> dict[str, np.ndarray]:
        return {v.name: v.arrays[which] for v, _ in self.inputs}


def session_of(content: bytes, onnxruntime: Any) -> Any:
    """A session that computes what the graph says, node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def spread(g: Graph, v: Value) -> Value:
    """Another operand for a value: of the graph, or a constant that is broadcast to it."""
    other = g.pick([v.kind], where=lambda w: w is not v) if g.chance(0.4) else None
    shape = [1 if d is None or g.chance(0.4) else d for d in v.sizes]
    return other or g.constant(g.random(v.kind, shape[g.rng.randint(0, v.rank) :]))
