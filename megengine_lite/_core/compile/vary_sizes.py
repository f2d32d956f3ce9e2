"""Finds out which sizes of a model may change, by inferring its shapes for several sizes of its inputs.

A dimension of an input may change if the shapes can be inferred with twice its size, too. What is the same for all
sizes that were tried is taken to be fixed: channels, and numbers that do not follow from the sizes of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set

import numpy as np

from megengine_lite._core.compile.expand import expanded
from megengine_lite._core.compile.infer import infer_node, missing_value
from megengine_lite._core.compile.unroll import unrolled
from megengine_lite._core.ir.expansion import Expansion, Subgraphs
from megengine_lite._core.ir.graph import (
    AnyNode,
    AnyVar,
    Constant,
    ConstantPool,
    DynamicVar,
    ModelGraph,
    TensorSpec,
    Var,
)
from megengine_lite._core.ir.known_shapes import KnownShapes, KnownVar, Names, Shape
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import DynamicOperator, quiet
from megengine_lite._records import record, replace
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

Sizes = dict[str, Shape]
Inferred = dict[AnyVar, Var]

# Names of the dimensions of images.
_IMAGE_AXES = {0: "batch", 2: "height", 3: "width"}
_Change = Callable[[int], int]


def _twice(size: int) -> int:
    return 2 * size


# Sizes to try. What is the same for all of them is taken to be fixed.
_CHANGES: tuple[_Change, ...] = (_twice, lambda n: 3 * n, lambda n: n + 1, lambda n: max(n // 2, 1))
# In place of a number that only running the model tells, in each trial: any small ones would do.
_COUNTS = (2, 3, 5, 7, 11, 13, 17)


@record(slots=True)
class _Trial:
    """What follows from one choice of sizes. ``only`` names the dimension that alone differs from the file's."""

    sizes: Sizes
    found: Inferred
    only: str = ""


def known_shapes(graph: ModelGraph, static: bool, fixed: Set[str] = frozenset()) -> KnownShapes:
    """What is known of the variables of a graph.

    Parameters
    ----------
    graph
        The graph of a model; it is not changed.
    static
        The inputs have the sizes that the file describes, and no others.
    fixed
        Names of dimensions that keep these sizes, though they might change.

    Raises
    ------
    LiteError
        The shapes cannot be inferred.
    """
    pool = ConstantPool()
    given: Sizes = {v.name: v.shape for v in graph.inputs}
    first = _infer(graph, given, pool, _COUNTS[0])
    trials = [_Trial(given, first)]
    free = {} if static else _free_axes(graph, given, pool, first)
    free = {place: name for place, name in free.items() if name not in fixed}
    for changes in _trials(list(dict.fromkeys(free.values()))):
        tried = _resized(given, free, changes)
        found = _try(graph, tried, pool, _COUNTS[len(trials) % len(_COUNTS)], first)
        if found is not None:
            trials.append(_Trial(tried, found, next(iter(changes)) if len(changes) == 1 else ""))
    folded = _folded(graph, first)
    if static:  # then shapes are constants, too
        folded |= {v: made.const for v, made in first.items() if made.const is not None}
    # Lengths that depend on data are not fixed, which one more trial shows.
    trials.append(_Trial(given, _infer(graph, given, pool, _COUNTS[-1])))
    variables = {v: _known(v, trials, folded) for v in first if all(v in t.found for t in trials)}
    return KnownShapes(variables, [t.sizes for t in trials[:-1]], free)


def _trials(names: Sequence[str]) -> Iterable[Mapping[str, _Change]]:
    """Sizes to try; the first one changes all of them."""
    if not names:
        return
    for change in _CHANGES:
        yield dict.fromkeys(names, change)
    for name in names if len(names) > 1 else ():
        for change in _CHANGES:
            yield {name: change}


def _resized(given: Sizes, free: Mapping[tuple[str, int], str], changes: Mapping[str, _Change]) -> Sizes:
    def size(name: str, axis: int, now: int) -> int:
        change = changes.get(free.get((name, axis), ""))
        return now if change is None else change(now)

    return {name: tuple(size(name, axis, d) for axis, d in enumerate(shape)) for name, shape in given.items()}


def _free_axes(graph: ModelGraph, given: Sizes, pool: ConstantPool, first: Inferred) -> dict[tuple[str, int], str]:
    """The axes of inputs that may have another size, with a name for each.

    Axes of several inputs with the same place and size are taken to be one dimension, if they may change together.
    """
    groups: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name, shape in given.items():
        for axis, size in enumerate(shape):
            groups.setdefault((axis, size), []).append((name, axis))
    free: dict[tuple[str, int], str] = {}
    for (axis, _), places in groups.items():
        options = [places] if len(places) == 1 else [places, *([p] for p in places)]
        for option in options:
            if any(p in free for p in option):
                continue
            label = _label(given, axis, option, set(free.values()))
            trial = dict.fromkeys(option, label)
            if _try(graph, _resized(given, trial, {label: _twice}), pool, _COUNTS[0], first) is not None:
                free |= trial
    names = list(dict.fromkeys(free.values()))
    while names and _try(graph, _resized(given, free, dict.fromkeys(names, _twice)), pool, _COUNTS[0], first) is None:
        last = names.pop()  # alone it may change, with the others it may not
        free = {place: name for place, name in free.items() if name != last}
    return free


def _label(given: Sizes, axis: int, places: Sequence[tuple[str, int]], taken: set[str]) -> str:
    name = places[0][0]
    label = _IMAGE_AXES.get(axis, "") if axis == 0 or len(given[name]) == 4 else ""
    return label if label and label not in taken else f"{name}_{axis}"


def _try(graph: ModelGraph, sizes: Sizes, pool: ConstantPool, count: int, first: Inferred) -> Inferred | None:
    """The shapes for some sizes; None if they do not fit, or less follows from them than from the file's,
    or another number of dimensions.
    """
    try:
        found = _infer(graph, sizes, pool, count)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError:
        return None
    same = first.keys() <= found.keys() and all(len(v.shape) == len(found[k].shape) for k, v in first.items())
    return found if same else None


@quiet
def _infer(graph: ModelGraph, sizes: Sizes, pool: ConstantPool, count: int) -> Inferred:
    """Variables with shapes, and constants where values are known, for the graph's variables that have such.

    Where the length of an output depends on data it is taken to be ``count``; what this does not fit is left out, too.
    Graphs and rounds of loops that follow from shapes are in the place of the nodes that stand for them; what others
    compute is left out.
    """
    found: Inferred = {}
    for given in graph.inputs:
        found[given] = Var(given.id, given.name, TensorSpec(sizes[given.name], given.dtype))
    _add_nodes(found, set(), graph.nodes, pool, count)
    _add_constants(found, graph.outputs)
    return found


def _add_nodes(found: Inferred, guessed: set[AnyVar], nodes: Iterable[AnyNode], pool: ConstantPool, count: int) -> None:
    """Adds the outputs of nodes. ``guessed`` has the variables that follow from a length that is taken to be so."""
    for node in nodes:
        _add_constants(found, node.inputs)
        ins = [found[v] for v in node.inputs if v in found]
        if len(ins) != len(node.inputs):
            continue
        if isinstance(node.params, Subgraphs):
            _add_nodes(found, guessed, _nodes_of_graph(node, ins), pool, count)
            continue
        outs, is_guessed = _outputs(node, ins, pool, count, not guessed.isdisjoint(node.inputs))
        if is_guessed:
            guessed.update(node.outputs)
        for var, out in zip(node.outputs, outs, strict=False):
            found[var] = _counted(node, ins, out, count) if isinstance(out, DynamicVar) else out


def _nodes_of_graph(node: AnyNode, ins: Sequence[Var]) -> Sequence[AnyNode]:
    """What takes the place of a node that stands for a graph; nothing if that depends on data."""
    specs = [v.spec if v.const is None else TensorSpec(v.shape, v.dtype, v.const.array) for v in ins]
    if not isinstance(node.params, Expansion):
        return unrolled(node, specs) or ()
    if any(specs[k].value is None for k in node.params.values):
        return ()
    return expanded(ModelGraph([node], [], list(node.outputs), [v.name for v in node.outputs]), 0, specs).nodes


def _add_constants(found: Inferred, variables: Iterable[AnyVar]) -> None:
    for var in variables:
        if isinstance(var, Var) and var.const is not None and var not in found:
            # The value is read when it is asked for: weights stay in the file.
            found[var] = Var(var.id, var.name, TensorSpec(var.shape, var.dtype), var.const)


def _outputs(
    node: AnyNode, ins: list[Var], pool: ConstantPool, count: int, is_guessed: bool
) -> tuple[Sequence[Var | DynamicVar], bool]:
    """The outputs of a node, and whether they are guessed, as its inputs may be; none if they cannot be guessed."""
    while (missing := missing_value(node, ins)) is not None:
        place = node.inputs.index(missing)
        spec = ins[place].spec
        # A copy: only this node is told that the number is known.
        value = np.full(spec.shape, count, spec.dtype.storage)
        ins = [Var(v.id, v.name, replace(spec, value=value)) if k == place else v for k, v in enumerate(ins)]
        is_guessed = True
    try:
        outs = infer_node(node, ins, pool)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError:
        if is_guessed:
            return (), True
        raise
    return outs, is_guessed or any(isinstance(out, DynamicVar) for out in outs)


def _counted(node: AnyNode, ins: Sequence[Var], out: DynamicVar, count: int) -> Var:
    """An output whose length depends on data, with a length."""
    operator = REGISTRY[node.op]
    assert isinstance(operator, DynamicOperator)
    return Var(out.id, out.name, TensorSpec(operator.counted_shape([v.spec for v in ins], count), out.spec.dtype))


def _folded(graph: ModelGraph, inferred: Inferred) -> dict[AnyVar, Constant]:
    """The constants of a graph, and what nodes compute from these alone."""
    folded = {v: v.const for node in graph.nodes for v in node.inputs if v.const is not None}
    folded |= {v: v.const for v in graph.outputs if v.const is not None}
    for node in graph.nodes:
        if node.inputs and all(v in folded for v in node.inputs):
            for var in node.outputs:
                made = inferred.get(var)
                if made is not None and made.const is not None:
                    folded[var] = made.const
    return folded


def _known(var: AnyVar, trials: Sequence[_Trial], folded: Mapping[AnyVar, Constant]) -> KnownVar:
    shapes = [t.found[var].shape for t in trials]
    first = shapes[0]
    dims = tuple(d if all(s[k] == d for s in shapes) else None for k, d in enumerate(first))
    constant = folded.get(var)
    if constant is not None:
        return KnownVar(trials[0].found[var].dtype, constant.array.shape, dims, None, constant, tuple(shapes[:-1]))
    values = [_value(t.found[var]) for t in trials]
    same = [_same(v, values[0]) for v in values]
    dtype, value = trials[0].found[var].dtype, values[0] if all(same) else None
    follow = tuple(_names(trials, [s[k] == d for s in shapes]) for k, d in enumerate(first))
    return KnownVar(dtype, first, dims, value, None, tuple(shapes[:-1]), follow, _names(trials, same))


def _names(trials: Sequence[_Trial], same: Sequence[bool]) -> Names:
    """The dimensions that alone made a difference."""
    return frozenset(t.only for t, s in zip(trials, same, strict=True) if t.only and not s)


def _value(var: Var) -> np.ndarray | None:
    return None if var.const is None else var.const.array


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is None and b is None if a is None or b is None else np.array_equal(a, b)


def outputs_without_rows(graph: ModelGraph, shapes: Mapping[str, Shape]) -> list[str]:
    """The names of outputs that do not have a row for each row of the inputs, or have so many only by chance.

    Rows are along the first dimension. ``shapes`` has the inputs with rows; others are as the model says.
    """
    (rows, *_) = {shape[0] for shape in shapes.values()}
    found: list[str] = []
    for more in (0, 1):
        sizes = {v.name: v.shape for v in graph.inputs}
        sizes |= {name: (shape[0] + more, *shape[1:]) for name, shape in shapes.items()}
        try:
            inferred = _infer(graph, sizes, ConstantPool(), rows + more + _COUNTS[-1])
        except NOT_ABOUT_THE_MODEL:
            raise
        except LiteError:
            break  # it takes no other number of rows, or what it takes depends on data
        outputs = [
            (name, inferred[v]) for name, v in zip(graph.output_names, graph.outputs, strict=True) if v in inferred
        ]
        found += [name for name, v in outputs if v.shape[:1] != (rows + more,) and name not in found]
    return found
