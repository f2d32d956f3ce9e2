"""The operator that an error of a run is about: its message names it by ``label`` of ``operators/base``."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from megengine_lite._core.compile.expand import all_nodes
from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.ir.graph import AnyNode, ModelGraph
from megengine_lite._core.operators.base import label

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel

# A word and a name in quotes. Of tensors, messages speak as of "input 'x'".
_LABEL = re.compile(r"""(?<![\w.'"])([\w.:-]+) ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")""")
_TENSORS = {"input", "output", "tensor", "named"}


def failing_nodes(model: LoadedModel, graph: ModelGraph, problem: str | None) -> list[AnyNode]:
    """The nodes of a graph that is drawn of a model, the model's own or that of its file, which a problem is about.

    One inside of a loop or a branch stands for the node around it. Empty if the problem is about no operator.
    """
    if not problem:
        return []
    found = _named(problem, model.graph.nodes)
    if graph is model.graph:
        return found
    names = {node.name for node in found if node.name}
    return [node for node in graph.nodes if node.name in names] or _named(problem, graph.nodes)


def _named(problem: str, nodes: Sequence[AnyNode]) -> list[AnyNode]:
    by_label: dict[str, dict[AnyNode, None]] = {}
    by_name: dict[str, dict[AnyNode, None]] = {}
    for node, inner in _with_inner(nodes):
        by_label.setdefault(label(inner), {})[node] = None
        if inner.name:
            by_name.setdefault(inner.name, {})[node] = None
    named = [(word, quoted) for word, quoted in _LABEL.findall(problem) if word not in _TENSORS]
    for word, quoted in named:
        if (found := by_label.get(f"{word} {quoted}")) is not None:
            return [*found]
    for _, quoted in named:  # one that plans have made of it has another type
        if (found := by_name.get(literal_eval(quoted))) is not None:
            return [*found]
    nameless = by_label.get(problem.partition(":")[0], {})
    return [*nameless] if len(nameless) == 1 else []


def _with_inner(nodes: Sequence[AnyNode]) -> Iterator[tuple[AnyNode, AnyNode]]:
    """Each node with itself and with all nodes of its graphs."""
    for node in nodes:
        yield node, node
        if isinstance(node.params, Subgraphs):
            for graph in node.params.known_graphs():
                yield from ((node, inner) for inner in all_nodes(graph))
