"""Dispatch: rows that say which lowering function and which kernels compute which nodes.

The rows stand in :mod:`megengine_lite._core.cpu.lower.table`. A node belongs to at most one row, so the order of rows
and of imports decides nothing; a table with two rows for one node cannot be made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import WIDE, DType, DTypeCode
from megengine_lite._records import record
from megengine_lite.errors import InternalError

if TYPE_CHECKING:
    from megengine_lite._core.cpu.lowering import Lowering
    from megengine_lite._core.ir.graph import Node

Codes = frozenset[DTypeCode]
ANY: Codes = frozenset(DTypeCode) - WIDE
"""The element types that most kernels may take."""
EVERY: Codes = frozenset(DTypeCode)
"""All element types, for what moves elements or takes them where they are."""


class InputLayout(CodeEnum):
    """How the first input of a node lies in memory before the node is lowered."""

    PLAIN = 0
    """Dense and row-major; it may exist in channel blocks, too."""
    BLOCKED = 1
    """In channel blocks only."""


LowerFunction = Callable[["Lowering", "Node"], Any]
"""Emits the steps of a node; returns False, before it has emitted any, if no kernel takes a node of such a shape."""
HaloWish = Callable[["Node", int], tuple[int, int]]
"""``f(node, input_index) -> (halo_h, halo_w)``: what a node wants around a blocked input."""


class Typed(Protocol):
    """A variable or its spec: something with an element type."""

    @property
    def dtype(self) -> DType: ...


class Described(Protocol):
    """A node, or the origin of a step: what rows look at."""

    @property
    def op(self) -> str: ...
    @property
    def params(self) -> Any: ...
    @property
    def inputs(self) -> Sequence[Typed]: ...
    @property
    def outputs(self) -> Sequence[Typed]: ...


@record(frozen=True, slots=True, kw_only=True)
class Row:
    """The nodes of one operator that one lowering function takes.

    Attributes
    ----------
    op
        Name of the operator.
    inputs, outputs
        Element types of the first, second, ... input or output. The last set stands for all that follow.
    modes, formats
        What ``params.mode`` and ``params.format`` may be; None for anything, or where there is no such parameter.
    layout
        The layout of the first input; None for both.
    lower
        Emits the steps.
    kernels
        All kernels that ``lower`` may call, except those of :data:`SHARED`. None: the output is the input's memory.
    halo
        What the nodes want around their blocked inputs; None for nothing.
    """

    op: str
    lower: LowerFunction
    kernels: tuple[str, ...]
    inputs: tuple[Codes, ...] = (ANY,)
    outputs: tuple[Codes, ...] = (ANY,)
    modes: frozenset[int] | frozenset[str] | None = None
    formats: frozenset[int] | None = None
    layout: InputLayout | None = None
    halo: HaloWish | None = None

    def takes(self, node: Described) -> bool:
        """Whether a node belongs to this row, whatever its layout."""
        if not _all_in(node.inputs, self.inputs) or not _all_in(node.outputs, self.outputs):
            return False
        if self.modes is not None and node.params.mode not in self.modes:
            return False
        return self.formats is None or node.params.format in self.formats

    def overlaps(self, other: Row) -> bool:
        """Whether a node may belong to both rows.

        Rows are kept apart by the first input, the first output, the mode, the format or the layout: every node has
        these, while later inputs may be missing.
        """
        sets = (
            (self.inputs[0], other.inputs[0]),
            (self.outputs[0], other.outputs[0]),
            (self.modes, other.modes),
            (self.formats, other.formats),
        )
        if any(a is not None and b is not None and a.isdisjoint(b) for a, b in sets):
            return False
        return self.op == other.op and (None in (self.layout, other.layout) or self.layout == other.layout)


SHARED = frozenset(
    (
        "copy_blocked", "copy_bytes", "fill_halo_blocked", "relayout_to_blocked_8", "relayout_to_blocked_16",
        "relayout_to_blocked_32", "relayout_to_plain_8", "relayout_to_plain_16", "relayout_to_plain_32",
    )
)  # fmt: skip
"""Kernels that change the layout of tensors: every lowering function calls them through its context."""


class DispatchTable:
    """Rows, found by node.

    Raises
    ------
    InternalError
        Two rows overlap.
    """

    def __init__(self, rows: Iterable[Row]):
        self.rows = tuple(rows)
        self._by_op: dict[str, list[Row]] = {}
        for row in self.rows:
            others = self._by_op.setdefault(row.op, [])
            for other in others:
                if row.overlaps(other):
                    raise InternalError(
                        f"dispatch of {row.op}: a node may belong to {other.lower.__name__} and to "
                        f"{row.lower.__name__}; make their types, modes, formats or layouts disjoint"
                    )
            others.append(row)

    def of(self, op: str) -> Sequence[Row]:
        """The rows of an operator; empty if it always runs in numpy."""
        return self._by_op.get(op, ())

    def find(self, node: Described, layout: InputLayout) -> Row | None:
        """The row of a node; None if it runs in numpy."""
        for row in self.of(node.op):
            if row.layout in (None, layout) and row.takes(node):
                return row
        return None

    def halo(self, node: Node, index: int) -> tuple[int, int]:
        """The halo that a node wants around a blocked input."""
        for row in self.of(node.op):
            if row.halo is not None and row.takes(node):
                return row.halo(node, index)
        return 0, 0


def _all_in(items: Sequence[Typed], sets: tuple[Codes, ...]) -> bool:
    last = len(sets) - 1
    return all(v.dtype.code in sets[min(k, last)] for k, v in enumerate(items))
