"""The values that nodes of one graph or function can read."""

from __future__ import annotations

from collections.abc import Mapping

from megengine_lite._core.formats.onnx.graph_values import Value
from megengine_lite._core.formats.onnx.messages import AttributeProto, StoredTensorProto, ValueInfoProto
from megengine_lite._records import field, record

NO_VALUES: Mapping[str, Value] = {}
FunctionKey = tuple[str, str, str]


@record(slots=True)
class Scope:
    """The values that nodes of one graph or function can read. None stands for one that could not be made.

    Attributes
    ----------
    values, initializers
        By name; an initializer becomes a value when it is first read.
    outer
        The scope around it; None for the model's graph and for functions.
    versions
        Version of each domain's operators.
    attributes
        Those of a function's caller.
    calls
        Functions that are being inlined.
    values
        By their names; None for what cannot be made, and for what ``omitted`` has.
    omitted
        Inputs of a function that its caller leaves out.
    declared
        What the graph says of its values.
    depth
        In how many graphs of nodes and calls of functions it lies.
    """

    versions: Mapping[str, int]
    outer: Scope | None = None
    attributes: Mapping[str, AttributeProto] = field(default_factory=dict)
    calls: tuple[FunctionKey, ...] = ()
    values: dict[str, Value | None] = field(default_factory=dict)
    initializers: dict[str, StoredTensorProto] = field(default_factory=dict)
    omitted: set[str] = field(default_factory=set)
    declared: dict[str, ValueInfoProto] = field(default_factory=dict)
    depth: int = 0

    def omits(self, name: str) -> bool:
        """Whether the name, which has no value, is an input that a caller leaves out."""
        place: Scope | None = self
        while place is not None and name not in place.values:
            place = place.outer
        return place is not None and name in place.omitted
