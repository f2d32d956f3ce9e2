"""What a plan tells of its nodes, if it is asked for explanations: for reports, and to compare results of nodes."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from megengine_lite._core.device.plan import Origin
from megengine_lite._core.ir.graph import Spec
from megengine_lite._records import record


class Standing(IntEnum):
    """How a variable of a plan stands to that of the model with its number."""

    PIECE = 0
    """A pass has made it on the way to that one, or from it: its numbers may be others."""
    TWIN = 1
    """A pass has made it in the place of that one, in the same shape."""
    SAME = 2


@record(frozen=True, slots=True)
class PlannedVar:
    """A variable of a plan. ``memory`` says how it lies there; it is empty where the plan does not compute it."""

    id: int  # in the file; those that passes have made have the number of one that they stand for
    name: str
    spec: Spec
    memory: str = ""
    standing: Standing = Standing.SAME


@record(frozen=True, slots=True)
class PlannedNode:
    """A node as a plan runs it: by the steps ``first`` .. ``end - 1``, conversions of what it reads among them.

    ``reads`` and ``makes`` are positions in :attr:`PlannedGraph.variables`. Constants are not among them.
    """

    origin: Origin
    reads: tuple[int, ...]
    makes: tuple[int, ...]
    first: int
    end: int


@record(frozen=True, slots=True)
class PlannedGraph:
    """What a plan runs, after all passes. Steps behind those of the last node move results to the outputs.

    ``inputs`` and ``outputs`` are positions in ``variables``, and numbers of the variables in the model's graph.
    """

    variables: list[PlannedVar]
    nodes: list[PlannedNode]
    inputs: list[tuple[int, int]]
    outputs: list[tuple[int, int]]


@record(frozen=True, slots=True)
class NodeResult:
    """A result of a node in a run; ``array`` is valid until the next step.

    ``reads`` has the numbers (:attr:`PlannedVar.id`) of what the node has read.
    """

    op: str
    variable: PlannedVar
    array: np.ndarray
    reads: tuple[int, ...]
