"""The original's names and numbers for the operators and variables of a model, so that dumps can be compared with its.

Operators and their variables share one count, in the order of the file. The original also counts what it adds itself:
workspaces, outputs that a mode of an operator does not use, and one hidden input, added with the first operator that
chooses among algorithms. Operators that the original rewrites at load have other numbers there; this is not imitated.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence

from megengine_lite._core.ir.graph import NOT_NUMBERED, AnyNode, AnyVar, Constant, DerivedConstant, ModelGraph, Var
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.sources import INPUT
from megengine_lite._records import record
from megengine_lite.errors import InternalError

DEVICE = 'CompNode("cpu0:0" from "cpu0:0")'
CONSTANT, HOLDER = "ImmutableTensor", "MultipleDeviceTensorHolder"


_LONGEST_NAME = 62


@record(slots=True)
class Listed:
    """An operator under the original's names: a node, an input, or constants (``node`` None).

    ``numbers`` and ``names`` belong to ``outputs``; ``first_slot`` is the position of the first of them among all
    outputs of the operator in the original.
    """

    node: AnyNode | None
    outputs: Sequence[AnyVar]
    number: int
    type: str
    name: str
    numbers: list[int]
    names: list[str]
    first_slot: int


def type_name(op: str) -> str:
    """The original's name of an operator's type."""
    return operator_of(op).in_original.type or op


def list_operators(graph: ModelGraph, named: bool = False) -> list[Listed]:
    """All operators that the graph uses, in the order of the file.

    Parameters
    ----------
    graph
        The graph of a loaded model.
    named
        The file has names of operators.
    """
    listed: list[Listed] = []
    names: dict[AnyVar, str] = {}
    count = 0
    has_chosen = False
    for node, outputs in _in_file_order(graph):
        number = count
        if node is None:
            op, before, after = _source_type(outputs[0]), 0, 0
        else:
            op = node.op
            before, after = operator_of(op).hidden_outputs(node)
        called = _invented_name(op, node, outputs[0], names)
        name = f"{called}[{number}]" if called else f"opr{number}"
        if named:
            name = (node.name if node is not None else outputs[0].name) or name
        numbers = [number + 1 + before + k for k in range(len(outputs))]
        single = len(outputs) == 1 and not before and op != HOLDER
        own = [v.name or (name if single else f"{name}:o{before + k}") for k, v in enumerate(outputs)]
        names.update(zip(outputs, own, strict=True))
        listed.append(Listed(node, outputs, number, type_name(op), name, numbers, own, before))
        count += 1 + before + len(outputs) + after
        if operator_of(op).in_original.chooses_algorithm and not has_chosen:
            has_chosen = True
            count += 2
    return listed


def _in_file_order(graph: ModelGraph) -> Iterator[tuple[AnyNode | None, Sequence[AnyVar]]]:
    """Operators and the variables that they define. Variables are numbered in file order."""
    sources = iter(_sources(graph))
    source = next(sources, None)
    for node in graph.nodes:
        first = next((v.id for v in node.outputs if v.id != NOT_NUMBERED), 0)
        while source is not None and source[0].id < first:
            yield None, source
            source = next(sources, None)
        yield node, node.outputs
    while source is not None:
        yield None, source
        source = next(sources, None)


def _sources(graph: ModelGraph) -> list[list[AnyVar]]:
    """Inputs and constants; constants of one operator together."""
    found: dict[Hashable, dict[AnyVar, None]] = {}
    inputs = set(graph.inputs)
    readers: Iterable[AnyVar] = (v for node in graph.nodes for v in node.inputs)
    for var in (*graph.inputs, *readers, *graph.outputs):
        if var.const is not None or var in inputs:
            found.setdefault(var.id if var.const is None else _key(var.const)[:-1], {})[var] = None
    return sorted((sorted(group, key=lambda v: v.id) for group in found.values()), key=lambda group: group[0].id)


def _source_type(var: AnyVar) -> str:
    return INPUT if var.const is None else str(_key(var.const)[2])


def _key(constant: Constant) -> tuple[Hashable, ...]:
    """The key of a constant in a file: load, position of the operator, its type, position of the tensor.

    What was computed while the file was loaded is a constant of its own.
    """
    if isinstance(constant, DerivedConstant):
        return constant.key, 0, CONSTANT, 0
    if not isinstance(constant.key, tuple):
        raise InternalError(f"{constant.key} is not the key of a constant in a file")
    return constant.key


def _invented_name(op: str, node: AnyNode | None, output: AnyVar, names: dict[AnyVar, str]) -> str:
    if node is None:
        if op in (INPUT, HOLDER):
            return "h2d" if op == INPUT else "multi_dv"
        return f"const{{{','.join(map(str, output.shape)) if isinstance(output, Var) else ''}}}"
    operator = operator_of(op)
    inputs = node.inputs[: operator.in_original.mentioned_inputs]
    label = operator.original_label(node)
    text = ""
    for k, var in enumerate(inputs):
        if k and len(label) + len(text) > _LONGEST_NAME:
            text += ",..."
            break
        text += ("," if k else "") + _abbreviated(names.get(var, var.name))
    return f"{label}({text})"


def _abbreviated(name: str) -> str:
    """A name without parentheses and their content: ``LT(a,b)[12]`` -> ``LT[12]``."""
    begin, end = name.find("("), name.rfind(")")
    return name[:begin] + name[end + 1 :] if 0 <= begin < end else name
