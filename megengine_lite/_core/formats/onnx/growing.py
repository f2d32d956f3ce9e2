"""Loops that make a sequence longer by one tensor in each round, as programs do that append to a list."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.formats.onnx.messages import AttributeProto, GraphProto, NodeProto, ValueInfoProto
from megengine_lite._core.formats.onnx.ordering import names_read
from megengine_lite._records import replace


def with_stacks(body: GraphProto, places: Sequence[int], n_states: int) -> GraphProto | None:
    """The body of such a loop with the tensors that it appends as stacked outputs, which come last.

    Parameters
    ----------
    body
        The graph of the loop, as the model has it.
    places
        Which of its states are sequences.
    n_states
        How many states it has.

    Returns
    -------
    GraphProto or None
        None if the body does anything else with one of these sequences.
    """
    if len(body.input) != 2 + n_states or len(body.output) < 1 + n_states:
        return None
    before = [body.input[2 + k] for k in places]
    after = [body.output[1 + k] for k in places]
    appending = [_appending(body, old.name, new.name) for old, new in zip(before, after, strict=True)]
    found = [node for node in appending if node is not None]
    if len(found) < len(places):
        return None
    nodes = [node for node in body.node if not any(node is n for n in found)]
    outputs = [info for info in body.output if not any(info is i for i in after)]
    stacks = [ValueInfoProto(name=node.input[1]) for node in found]
    inputs = [info for info in body.input if not any(info is i for i in before)]
    made = replace(body, node=nodes, input=inputs, output=[*outputs, *stacks])
    names = {info.name for info in (*before, *after)}
    return made if names.isdisjoint(names_read(made)) else None


def _appending(body: GraphProto, before: str, after: str) -> NodeProto | None:
    """The node that puts a tensor at the end of a sequence, where one does."""
    for node in body.node:
        appends = node.op_type == "SequenceInsert" and node.domain in ("", "ai.onnx") and not any(node.input[2:])
        if appends and any(node.input[1:]) and [*node.input[:1], *node.output] == [before, after]:
            return node
    return None


def with_body(attributes: dict[str, AttributeProto], body: GraphProto) -> dict[str, AttributeProto]:
    """The attributes of a loop with another body."""
    return {**attributes, "body": replace(attributes["body"], g=body)}
