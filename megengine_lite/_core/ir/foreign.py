"""Nodes of another format's model that could not be converted: a graph of them can be looked at, and not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from megengine_lite._records import record


@record(frozen=True, slots=True)
class ForeignNode:
    """Parameters of such a node.

    Attributes
    ----------
    is_known
        It could run if the others could.
    parameters
        What the file says of it, by name.
    inside
        Operator and name of the nodes in its branches or its function that are to blame, if it is not known.
    """

    is_known: bool
    parameters: Mapping[str, Any]
    inside: Sequence[tuple[str, str]] = ()

    def values(self) -> Mapping[str, Any]:
        """As parameter tables have it."""
        return self.parameters
