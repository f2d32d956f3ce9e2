"""Converts the operators of ONNX that have graphs."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from megengine_lite._core.formats.onnx.branches import Branch, LaterBranch, OutputForm
from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import (
    Length,
    NeedsShapes,
    NotConverted,
    TensorList,
    Value,
    check_same_kind,
    tensors_of,
)
from megengine_lite._core.formats.onnx.growing import with_body, with_stacks
from megengine_lite._core.formats.onnx.messages import ElementType, GraphProto, ValueInfoProto
from megengine_lite._core.formats.onnx.narrowing import Narrowing
from megengine_lite._core.formats.onnx.operators.indexing import taken
from megengine_lite._core.formats.onnx.operators.sequences import MOST_PARTS
from megengine_lite._core.formats.onnx.operators.table import Call
from megengine_lite._core.formats.onnx.ordering import names_read
from megengine_lite._core.formats.onnx.scope import NO_VALUES, Scope
from megengine_lite._core.formats.onnx.tensors import DTYPES
from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.expansion import Repetition, Sliced, Stacked
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec, Var
from megengine_lite._records import replace
from megengine_lite.errors import ModelFormatError, brief

MOST_WRITTEN = 1 << 14
"""Nodes of all rounds of a loop whose states are sequences."""
_MOST_GUESSES = 3
"""How often a body is converted to see which lengths it keeps."""
MOST_SAMPLES = 256
"""Of a batch that is scanned sample by sample."""


class ControlFlow(ABC):
    """The part of a converter of graphs that converts such operators.

    Attributes
    ----------
    builder
        Makes the nodes.
    narrowing
        Chooses their element types.
    _missing
        The nodes that cannot be converted.
    _n_waiting
        How many of them can be once shapes are known.
    _guesses
        The body of a loop is converted to see which lengths it keeps; loops in it are not looked at so.
    _made_graphs
        Graphs that the model does not have, which are kept since graphs are known by their identities.
    """

    builder: GraphBuilder
    narrowing: Narrowing
    _missing: list[tuple[str, str, str]]
    _n_waiting: int
    _made_graphs: list[GraphProto]
    _guesses: bool = False

    @abstractmethod
    def fault(self, message: str) -> ModelFormatError:
        """An error about the model."""

    @abstractmethod
    def _lookup(self, name: str, scope: Scope | None, reader: tuple[str, str] | None = None) -> Value | None:
        """What a name means; None if it could not be made."""

    @abstractmethod
    def _inner(self, graph: GraphProto, scope: Scope, given: Mapping[str, Value] = NO_VALUES) -> list[Value | None]:
        """The outputs of a graph inside of another one, whose values it can read; ``given`` are those of its inputs."""

    @abstractmethod
    def anew(self) -> ControlFlow:
        """A converter for another graph of the same model."""

    @abstractmethod
    def refuse(self) -> None:
        """Raises if nodes could not be converted."""

    def _of_graphs(self, call: Call, scope: Scope) -> list[Value | None]:
        """The outputs of one of these operators; all are None if its graphs cannot be converted, which is listed."""
        return OPERATORS[call.op](self, call, scope)

    @staticmethod
    def _graph_of(call: Call, name: str) -> GraphProto:
        """The graph that is an attribute."""
        call.know(name)
        attribute = call.attributes.get(name)
        if attribute is None or attribute.g is None:
            raise ModelFormatError(f"it has no {name}")
        return attribute.g

    def _if(self, call: Call, scope: Scope) -> list[Value | None]:
        """The outputs of a branch, or of both."""
        condition = call.input(0)
        graphs = [self._graph_of(call, name) for name in ("then_branch", "else_branch")]
        decided = self.builder.known_value(condition)
        if decided is not None:
            return self._inner(graphs[0 if decided.reshape(-1).any() else 1], scope)
        return self._both_branches(condition, graphs, scope)

    def _both_branches(self, condition: Value, graphs: Sequence[GraphProto], scope: Scope) -> list[Value | None]:
        """The outputs of an If that is decided when the model runs."""
        label = self.builder.label
        branches = [self._branch_of(graph, scope) for graph in graphs]
        if None in branches:
            return [None] * len(graphs[0].output)  # listed already
        first, second = (b.of_tensors() for b in branches if b is not None)
        lists = [b.lists() for b in branches if b is not None]
        if len({tuple((k, len(v.parts)) for k, v in some.items()) for some in lists}) > 1:
            raise NeedsShapes("its branches give sequences of different numbers of tensors")
        if len(first.values) != len(second.values):
            raise self.fault(
                f"the branches of If {brief(label)} have {len(first.values)} and {len(second.values)} outputs"
            )
        results = [*zip(first.values, second.values, strict=True)]
        if any(a is None and b is None for a, b in results):
            raise NeedsShapes("its branches depend on shapes that are known only when the model runs")
        for a, b in results:
            if a is not None and b is not None and a.kind != b.kind:
                raise self.fault(f"the branches of If {brief(label)} give {a.kind.name} and {b.kind.name}")
            if a is not None and b is not None and a.rank != b.rank:
                raise NeedsShapes(f"its branches give results of {a.rank} and of {b.rank} dimensions")
        forms = [OutputForm.of(a, b) for a, b in results]
        graphs_of = [branch.graph(self.builder, forms) for branch in (first, second)]
        inputs = dict.fromkeys(v for branch in (first, second) for v in branch.inputs)
        outs = self.builder.nodes_of("OnnxIf", onnx_params.OnnxIf(*graphs_of), [condition.var, *inputs], len(forms))
        made: list[Value | None] = [Value(var, f.kind, f.rank, f.dtype) for var, f in zip(outs, forms, strict=True)]
        for k, sequence in lists[0].items():
            end = k + len(sequence.parts)
            made[k:end] = [TensorList([v for v in made[k:end] if v is not None], sequence.kind)]
        return made

    def _branch_of(
        self, graph: GraphProto, scope: Scope, given: Mapping[str, Value] = NO_VALUES
    ) -> Branch | LaterBranch | None:
        """A graph, converted now or, where only shapes are missing, later; None if it cannot be.

        ``given`` has the values of its inputs.
        """
        n_missing, n_waiting = len(self._missing), self._n_waiting
        with self.builder.aside() as nodes:
            results = self._inner(graph, scope, given)
        values = [v for v in results if v is not None]
        if len(values) == len(results):
            return Branch(values, nodes)
        added = len(self._missing) - n_missing
        if not added or self._n_waiting - n_waiting < added:
            return None
        del self._missing[n_missing:]
        self._n_waiting = n_waiting
        captured = {}
        for name in names_read(graph):
            with contextlib.suppress(ModelFormatError):  # a name of the graph's own
                captured[name] = self._lookup(name, scope)

        def convert(specs: Mapping[AnyVar, TensorSpec]) -> tuple[Sequence[Value], GraphBuilder]:
            again = self.anew()
            inner = Scope(scope.versions, None, scope.attributes, scope.calls, {**captured}, depth=scope.depth)
            inner.omitted.update(name for name, value in captured.items() if value is None)
            for value in tensors_of((*captured.values(), *given.values())):
                if value.var in specs:
                    again.builder.know(value, specs[value.var])
            found = again._inner(graph, inner, given)
            again.refuse()
            return [v for v in found if v is not None], again.builder

        inputs = [v.var for v in tensors_of(captured.values()) if v.var.const is None]
        return LaterBranch([None] * len(graph.output), inputs, convert)

    # ---- loops ------------------------------------------------------------------------------------------------------

    def _loop(self, call: Call, scope: Scope) -> list[Value | None]:
        count, condition = call.optional(0), call.optional(1)
        if any(isinstance(v, TensorList) for v in call.inputs[2:]):
            n_missing, n_waiting = len(self._missing), self._n_waiting
            try:
                with self.builder.aside() as nodes:
                    results = self._one_after_another(call, scope, count, condition)
            except NeedsShapes:
                del self._missing[n_missing:]
                self._n_waiting = n_waiting
                stacked = self._appending(call, scope)
                if stacked is None:
                    raise
                return stacked
            self.builder.nodes += nodes
            return results
        states = [call.input(k) for k in range(2, len(call.inputs))]
        own = [self._bound(ElementType.INT64, 0), self._bound(ElementType.BOOL, 0)]
        given = [v.var for v in (count, condition) if v is not None]
        parameters = partial(Repetition, has_count=count is not None, has_condition=condition is not None, asks=True)
        return self._rounds(call, scope, own, given, states, [], parameters, [])

    def _one_after_another(
        self, call: Call, scope: Scope, count: Value | None, condition: Value | None
    ) -> list[Value | None]:
        """The outputs of a Loop some of whose states are sequences: its rounds, one after another."""
        b, graph = self.builder, self._graph_of(call, "body")
        states = [v for v in map(call.anything, range(2, len(call.inputs))) if v is not None]
        names, n_fixed = [info.name for info in graph.input], 1 + len(states)
        if len(states) != len(call.inputs) - 2 or len(names) != 2 + len(states) or len(graph.output) < n_fixed:
            raise ModelFormatError(
                f"its body has {len(names)} inputs and {len(graph.output)} outputs, and needs {2 + len(states)} inputs "
                f"and {n_fixed} outputs or more"
            )
        stacks: list[list[Value]] = [[] for _ in graph.output[n_fixed:]]
        goes_on = True if condition is None else self._decided(condition)
        rounds = 0
        while goes_on and (count is None or rounds < self._known_count(count)):
            if rounds == MOST_PARTS or rounds * len(graph.node) > MOST_WRITTEN:
                raise NotConverted(f"a state is a sequence, and {rounds} rounds are not all that there are")
            own = b.constant(np.int64(rounds)), b.constant(np.array(True))
            results = self._inner(graph, scope, dict(zip(names, [*own, *states], strict=True)))
            found = [v for v in results if v is not None]
            if len(found) < len(results):
                return [None] * call.n_outputs
            goes_on, states = self._decided(found[0]), found[1:n_fixed]
            for stack, part in zip(stacks, found[n_fixed:], strict=True):
                stack.append(part)
            rounds += 1
        if stacks and not rounds:
            raise NotConverted("it has no rounds, so the shapes of its stacked outputs are not known")
        return [*states, *(b.joined([b.with_axes(v, [0]) for v in stack], 0) for stack in stacks)]

    def _appending(self, call: Call, scope: Scope) -> list[Value | None] | None:
        """The outputs of a Loop that appends a tensor to each of its sequences in every round, or None.

        The tensors become stacked outputs, so they must have one shape.
        """
        b, body = self.builder, self._graph_of(call, "body")
        lists = {k: v for k, v in enumerate(call.inputs[2:]) if isinstance(v, TensorList)}
        states = [v for v in call.inputs[2:] if not isinstance(v, TensorList)]
        graph = with_stacks(body, [*lists], len(lists) + len(states))
        if graph is None:
            return None
        self._made_graphs.append(graph)
        inputs, attributes = [*call.inputs[:2], *states], with_body(call.attributes, graph)
        results = self._loop(replace(call, inputs=inputs, attributes=attributes), scope)
        others, stacks = iter(results[: len(results) - len(lists)]), results[len(results) - len(lists) :]
        ends: dict[int, Value | None] = {}
        for (k, sequence), stack in zip(lists.items(), stacks, strict=True):
            ends[k] = None
            if stack is not None:
                check_same_kind([sequence, stack])
                first = [b.with_axes(v, [0]) for v in sequence.parts] if sequence.stack is None else [sequence.stack]
                ends[k] = TensorList(b.joined([*first, stack], 0), sequence.kind)
        made = [ends[k] if k in ends else next(others) for k in range(len(call.inputs) - 2)]
        return [*made, *others]

    def _decided(self, condition: Value) -> bool:
        known = self.builder.known_value(condition)
        if known is None:
            raise NeedsShapes("a state is a sequence, so whether there is another round must be known here")
        return bool(known.any())

    def _known_count(self, count: Value) -> int:
        known = self.builder.known_value(count)
        if known is None or known.size != 1:
            raise NeedsShapes("a state is a sequence, so the number of rounds must be known here")
        return int(known.reshape(-1)[0])

    def _sequence_map(self, call: Call, scope: Scope) -> list[Value | None]:
        """The graph for each tensor of a sequence, with the tensors at the same place of other sequences."""
        first, graph = call.sequence(0), self._graph_of(call, "body")
        values = [call.anything(k) for k in range(len(call.inputs))]
        names, count = [info.name for info in graph.input], len(first.parts)
        if None in values or len(names) != len(values) or len(graph.output) < call.n_outputs:
            raise ModelFormatError(f"its body has {len(names)} inputs and {len(graph.output)} outputs")
        if any(isinstance(v, TensorList) and len(v.parts) != count for v in values):
            raise ModelFormatError("its sequences have different numbers of tensors")
        rows = []
        for k in range(count):
            given = [v.parts[k] if isinstance(v, TensorList) else v for v in values if v is not None]
            results = self._inner(graph, scope, dict(zip(names, given, strict=True)))
            rows.append([v for v in results if v is not None])
            if len(rows[-1]) < len(results):
                return [None] * call.n_outputs
        if not rows:
            return [TensorList([], self._declared_form(info).kind) for info in graph.output]
        return [TensorList(column, column[0].kind) for column in zip(*rows, strict=True)]

    def _scan(self, call: Call, scope: Scope) -> list[Value | None]:
        if call.version < 9:
            return self._scan_batch(call, scope)
        n_sliced = call.positive("num_scan_inputs")
        values = [call.input(k) for k in range(max(len(call.inputs), n_sliced))]
        states, cut = values[: len(values) - n_sliced], values[len(values) - n_sliced :]
        axes = call.integers("scan_input_axes") or [0] * n_sliced
        backwards = call.integers("scan_input_directions") or [0] * n_sliced
        if not len(axes) == len(backwards) == n_sliced:
            raise ModelFormatError(f"it has {n_sliced} inputs to scan, {len(axes)} axes, {len(backwards)} directions")
        if any(v.rank == 0 for v in cut):
            raise ModelFormatError("a scalar cannot be scanned")
        how = tuple(
            Sliced(call.normalized(axis, v.rank), bool(direction))
            for v, axis, direction in zip(cut, axes, backwards, strict=True)
        )
        return self._rounds(call, scope, [], [], states, cut, partial(Repetition, sliced=how), how)

    def _scan_batch(self, call: Call, scope: Scope) -> list[Value | None]:
        """Version 8: each sample of a batch by itself, along the axis behind that of the batch."""
        b, n_sliced = self.builder, call.positive("num_scan_inputs")
        if call.optional(0) is not None:
            raise NotConverted("samples of different lengths are not read")
        values = [call.input(k) for k in range(1, max(len(call.inputs), n_sliced + 1))]
        n_states = len(values) - n_sliced
        backwards = call.integers("directions") or [0] * n_sliced
        if len(backwards) != n_sliced or any(v.rank < 1 + (k >= n_states) for k, v in enumerate(values)):
            raise ModelFormatError(f"its directions or inputs do not fit {n_sliced} inputs to scan")
        shape = b.known_shape(values[0])
        if shape is None:
            raise NeedsShapes("the size of its batch is not known")
        if not 1 <= shape[0] <= MOST_SAMPLES:
            raise NotConverted(f"its batch has {shape[0]} samples; from 1 to {MOST_SAMPLES} are read")
        how = tuple(Sliced(0, bool(direction)) for direction in backwards)
        results = []
        for k in range(shape[0]):
            sample = [taken(b, v, b.constant(k, ElementType.INT64), 0) for v in values]
            states, cut = sample[:n_states], sample[n_states:]
            results.append(self._rounds(call, scope, [], [], states, cut, partial(Repetition, sliced=how), how))
        return [
            None if None in of_all else b.joined([b.with_axes(v, [0]) for v in of_all if v is not None], 0)
            for of_all in zip(*results, strict=True)
        ]

    def _bound(self, kind: ElementType, rank: int, extent: Length | None = None) -> Value:
        """A value that each round gets."""
        spec = TensorSpec((1,) * max(rank, 1), DTYPES[kind])
        return Value(Var(self.builder.new_id(), self.builder.label, spec), kind, rank, spec.dtype, extent)

    def _kept_lengths(
        self, graph: GraphProto, scope: Scope, own: Sequence[Value], states: Sequence[Value], cut: Sequence[Value]
    ) -> list[Length | None]:
        """The lengths of states that are vectors, where a round leaves them as they are.

        They are taken to be those of the first round. If the body gives the same ones, this is true for all rounds.
        """
        nothing: list[Length | None] = [None] * len(states)
        lengths = nothing if self._guesses else [v.extent if v.rank == 1 else None for v in states]
        names, first = [info.name for info in graph.input], 1 if own else 0
        for _ in range(_MOST_GUESSES):
            if lengths == nothing:
                break
            bound = [*own, *(self._bound(v.kind, v.rank, n) for v, n in zip(states, lengths, strict=True))]
            bound += [self._bound(v.kind, v.rank - 1) for v in cut]
            n_missing, n_waiting = len(self._missing), self._n_waiting
            branch = None
            self._guesses = True
            with contextlib.suppress(NotConverted, ModelFormatError):  # of these lengths, or told again without them
                branch = self._branch_of(graph, scope, dict(zip(names, bound, strict=False)))
            self._guesses = False
            del self._missing[n_missing:]
            self._n_waiting = n_waiting
            made: list[Value | None] = [None] * len(states)
            if isinstance(branch, Branch) and len(branch.values) >= first + len(states):
                made[:] = branch.values[first : first + len(states)]
            kept = [
                n if n is not None and v is not None and v.extent is not None and v.extent.number == n.number else None
                for n, v in zip(lengths, made, strict=True)
            ]
            if kept == lengths:
                return lengths
            lengths = kept
        return nothing

    def _rounds(
        self,
        call: Call,
        scope: Scope,
        own: Sequence[Value],
        given: Sequence[AnyVar],
        states: Sequence[Value],
        cut: Sequence[Value],
        parameters: Callable[..., Repetition],
        sliced: Sequence[Sliced],
    ) -> list[Value | None]:
        """The outputs of a loop: the last states, and what is stacked.

        Parameters
        ----------
        own
            What only the body gets in each round.
        given
            The node's first inputs.
        states
            Values that go from round to round.
        cut, sliced
            Values of which each round gets a part, and how they are cut.
        parameters
            Makes the parameters of the node.
        """
        b, graph = self.builder, self._graph_of(call, "body")
        lengths = self._kept_lengths(graph, scope, own, states, cut)
        bound = [*own, *(self._bound(v.kind, v.rank, n) for v, n in zip(states, lengths, strict=True))]
        bound += [self._bound(v.kind, v.rank - 1) for v in cut]
        names = [info.name for info in graph.input]
        n_fixed = (1 if own else 0) + len(states)  # outputs of the body that are not stacked
        if len(names) != len(bound) or len({*names}) < len(names) or len(graph.output) < n_fixed:
            raise ModelFormatError(
                f"its body has {len(names)} inputs and {len(graph.output)} outputs, and needs {len(bound)} inputs with "
                f"different names and {n_fixed} outputs or more"
            )
        n_stacked = len(graph.output) - n_fixed
        axes = call.integers("scan_output_axes") or [0] * n_stacked
        backwards = call.integers("scan_output_directions") or [0] * n_stacked
        if not len(axes) == len(backwards) == n_stacked:
            raise ModelFormatError(
                f"it has {n_stacked} outputs to stack, {len(axes)} axes, {len(backwards)} directions"
            )
        fixed = (*own[1:], *bound[len(own) : len(own) + len(states)])
        expected = [OutputForm(v.kind, v.rank, DTYPES[v.kind]) for v in fixed]
        made = self._body_of(graph, scope, dict(zip(names, bound, strict=True)), expected, len(own) // 2)
        if made is None:
            return [None] * call.n_outputs
        body, outside, forms = made
        parts = forms[n_fixed:]
        stacked = tuple(
            Stacked(call.normalized(axis, form.rank + 1), bool(direction), form.dtype, _shape_of(info, form.rank))
            for axis, direction, form, info in zip(axes, backwards, parts, graph.output[n_fixed:], strict=True)
        )
        inputs = [*given, *(b.exact(v) for v in (*states, *cut)), *outside]
        node = parameters(body=body, outside=tuple(outside), n_states=len(states), stacked=stacked)
        outs = b.nodes_of("OnnxLoop", node, inputs, len(states) + len(parts))
        results = [(v.kind, v.rank) for v in states] + [(f.kind, f.rank + 1) for f in parts]
        made_values = [b.carried(var, kind, rank) for var, (kind, rank) in zip(outs, results, strict=True)]
        for value, length in zip(made_values, lengths, strict=False):
            value.extent = value.extent if length is None else length
        return [*made_values]

    def _body_of(
        self,
        graph: GraphProto,
        scope: Scope,
        given: Mapping[str, Value],
        expected: Sequence[OutputForm],
        n_conditions: int,
    ) -> tuple[ModelGraph, list[AnyVar], list[OutputForm]] | None:
        """The graph of a loop, whose inputs are the given values; what it reads outside; the forms of its outputs.

        None if it cannot be converted. Its first outputs must have the expected forms; those of conditions may have
        any number of dimensions.
        """
        branch = self._branch_of(graph, scope, given)
        if branch is None:
            return None
        bound = [v.var for v in given.values() if isinstance(v.var, Var)]
        forms = [OutputForm(v.kind, v.rank, DTYPES[v.kind]) for v in branch.values if v is not None]
        if isinstance(branch, LaterBranch):
            forms = [*expected, *(self._declared_form(info) for info in graph.output[len(expected) :])]
        for k, (form, wanted) in enumerate(zip(forms, expected, strict=False)):
            if form.kind != wanted.kind or (form.rank != wanted.rank and k >= n_conditions):
                raise NotConverted(
                    f"a state is {wanted.kind.name} of {wanted.rank} dimensions before a round and {form.kind.name} of "
                    f"{form.rank} after it"
                )
        make = branch.graph(self.builder, forms)
        outside = list(dict.fromkeys(v for v in branch.inputs if v not in bound))
        if isinstance(make, ModelGraph):
            return ModelGraph(make.nodes, bound, make.outputs, make.output_names), outside, forms
        inputs = [*bound, *outside]
        outputs = [AnyVar(self.builder.new_id(), info.name) for info in graph.output]
        parameters = onnx_params.OnnxGraph(lambda variables, specs: make(dict(zip(variables, specs, strict=True))))
        node = AnyNode("OnnxGraph", parameters, inputs, outputs, self.builder.label)
        return ModelGraph([node], bound, outputs, [""] * len(outputs)), outside, forms

    def _declared_form(self, info: ValueInfoProto) -> OutputForm:
        """The form of a result by what the model says of it."""
        tensor = None if info.type is None else info.type.tensor
        if tensor is None or tensor.shape is None or tensor.elem_type not in DTYPES:
            raise NeedsShapes(f"its result {brief(info.name)} depends on shapes, and has no type with dimensions")
        kind = self.narrowing.kind(ElementType(tensor.elem_type))
        return OutputForm(kind, len(tensor.shape.dim), DTYPES[kind])


OPERATORS: dict[str, Callable[[ControlFlow, Call, Scope], list[Value | None]]] = {
    "If": ControlFlow._if,
    "Loop": ControlFlow._loop,
    "Scan": ControlFlow._scan,
    "SequenceMap": ControlFlow._sequence_map,
}


def _shape_of(info: ValueInfoProto, rank: int) -> tuple[int, ...]:
    """The shape of a result as far as the model says it, 0 for what it does not say."""
    tensor = None if info.type is None else info.type.tensor
    dims = [] if tensor is None or tensor.shape is None else [max(d.value or 0, 0) for d in tensor.shape.dim]
    return tuple(dims) if len(dims) == rank else (0,) * rank
