"""The nodes of a graph in an order in which they can be computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from megengine_lite._core.formats.onnx.messages import FunctionProto, GraphProto, NodeProto
from megengine_lite._core.formats.onnx.tensors import initializers_of, name_of
from megengine_lite.errors import ModelFormatError, brief

WITH_GRAPHS = ("If", "Loop", "Scan", "SequenceMap")


def in_order(owner: GraphProto | FunctionProto, wanted: Sequence[str], what: str) -> list[NodeProto]:
    """The nodes that the wanted values need. Their order in the file is kept if it is one that works.

    Raises
    ------
    ModelFormatError
        A node makes what is an input, an initializer or the result of another one, or nodes need each other.
    """
    nodes, given = owner.node, _given(owner)
    makers: dict[str, int] = {}
    for k, node in enumerate(nodes):
        for name in node.output:
            if not name:
                continue
            also = given.get(name, "the result of another node" if name in makers else "")
            if also:
                raise ModelFormatError(
                    f"{what}: the result {brief(name)} of {brief(node.op_type, 60)[1:-1]} {brief(label_of(node))} is "
                    f"{also}, too; give one of them another name"
                )
            makers[name] = k
    needs: dict[int, list[int]] = {}
    order: list[int] = []
    entered: set[int] = set()
    done: set[int] = set()
    for start in dict.fromkeys(makers[name] for name in wanted if name in makers):
        stack = [start]
        while stack:
            k = stack[-1]
            if k in done:
                stack.pop()
                continue
            if k in entered:
                stack.pop()
                done.add(k)
                order.append(k)
                continue
            entered.add(k)
            needs[k] = [makers[name] for name in dict.fromkeys(read_by(nodes[k])) if name in makers]
            for other in reversed(needs[k]):
                if other in done:
                    continue
                if other in entered:
                    one, two = (brief(label_of(nodes[i])) for i in (other, k))
                    if other == k:
                        raise ModelFormatError(f"{what}: the node {one} needs its own result")
                    raise ModelFormatError(f"{what}: the nodes {one} and {two} need each other's results")
                stack.append(other)
    if all(other < k for k, others in needs.items() for other in others):
        order.sort()
    return [nodes[k] for k in order]


def _given(owner: GraphProto | FunctionProto) -> dict[str, str]:
    """What a graph or function has before its nodes are run: names, and what they are."""
    if isinstance(owner, FunctionProto):
        return dict.fromkeys(owner.input, "an input of the function")
    inputs = dict.fromkeys((info.name for info in owner.input), "an input of the graph")
    return {**inputs, **dict.fromkeys(stored_names(owner), "an initializer")}


def label_of(node: NodeProto) -> str:
    """A node's name, or that of its first output."""
    return node.name or next(filter(None, node.output), "")


def read_by(node: NodeProto) -> Iterator[str]:
    """Names of the values that a node reads, also in its subgraphs, but not what those make themselves."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.g is not None else ()), *attribute.graphs):
            own = {name for inner in graph.node for name in inner.output}
            own.update(info.name for info in graph.input)
            own.update(stored_names(graph))
            wanted = [name for inner in graph.node for name in read_by(inner)]
            yield from (name for name in (*wanted, *(info.name for info in graph.output)) if name not in own)


def stored_names(graph: GraphProto) -> Iterator[str]:
    """The names of a graph's initializers."""
    yield from map(name_of, initializers_of(graph))


def names_read(graph: GraphProto) -> set[str]:
    """Names that the nodes of a graph and of all graphs inside of it read, and those of its outputs."""
    found: set[str] = set()
    graphs = [graph]
    while graphs:
        inner = graphs.pop()
        found.update(info.name for info in inner.output)
        for node in inner.node:
            found.update(filter(None, node.input))
            graphs += (a.g for a in node.attribute if a.g is not None)
    return found


def operator_of(node: NodeProto) -> str:
    """How the operator of a node is called: with its domain, unless that is the standard's."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def count_operators(graph: GraphProto) -> Counter[str]:
    """How often each operator is in a graph and in the graphs of its nodes. A call of a function counts as one."""
    found: Counter[str] = Counter()
    graphs = [graph]
    while graphs:
        inner = graphs.pop()
        found.update(map(operator_of, inner.node))
        for node in inner.node:
            if node.op_type in WITH_GRAPHS:
                for attribute in node.attribute:
                    graphs += [*attribute.graphs, *([attribute.g] if attribute.g is not None else [])]
    return found
