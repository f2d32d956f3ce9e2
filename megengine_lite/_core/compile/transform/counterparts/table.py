"""Which function writes the nodes of an operator, and what it may raise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces
from megengine_lite._core.ir.graph import Node, Var


class NotWritten(Exception):
    """Raised for a node that files cannot have; the text is the reason."""


Counterpart = Callable[[Pieces, Node], Sequence[Var] | Var]
C = TypeVar("C", bound=Counterpart)

_COUNTERPARTS: dict[str, Counterpart] = {}
_OF_ANY_SIZE: set[str] = set()
_READING_SIZES: set[str] = set()


def written(*names: str, any_size: bool = False, reads_sizes: bool = False) -> Callable[[C], C]:
    """Decorator of the function that writes nodes of these operators.

    It gets the node, whose variables have known shapes, and gives the variables of its results.

    Parameters
    ----------
    names
        The operators.
    any_size
        What it writes is right for all sizes that the variables may have when the file runs. Where that is not so it
        sets :attr:`.Pieces.takes_sizes` or adds to :attr:`.Pieces.takes_axes`. Of other functions everything is taken
        to follow from the sizes.
    reads_sizes
        It takes variables in place of numbers that are sizes of other variables; else they are constants.
    """

    def enter(function: C) -> C:
        for name in names:
            assert name not in _COUNTERPARTS, f"two functions for {name}"
            _COUNTERPARTS[name] = function
        _OF_ANY_SIZE.update(names if any_size else ())
        _READING_SIZES.update(names if reads_sizes else ())
        return function

    return enter


def find(op: str) -> Counterpart | None:
    """The function of an operator; None if its nodes are written as they are."""
    return _COUNTERPARTS.get(op)


def is_for_any_size(op: str) -> bool:
    """Whether a node of an operator is written so that its variables may have other sizes, unless it is said."""
    return op not in _COUNTERPARTS or op in _OF_ANY_SIZE


def reads_sizes(op: str) -> bool:
    """Whether numbers that are sizes may be computed in the file for a node of an operator."""
    return op not in _COUNTERPARTS or op in _READING_SIZES
