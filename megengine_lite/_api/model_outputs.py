"""What a model's runs give. Public as a part of ``Model``."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from megengine_lite._core.system.integers import to_integer
from megengine_lite.errors import LiteIndexError, LiteTypeError, printable

_D = TypeVar("_D")


if TYPE_CHECKING:  # what unpacks a mapping gets names, as type checkers know
    from builtins import object as Base
else:
    Base = Mapping


class Outputs(Base):
    """The results of one run: arrays by name or position. The arrays are the caller's.

    This is a mapping from names to arrays with one difference: iterating gives the arrays, in the order of
    :attr:`Model.outputs`, so that they can be unpacked. :meth:`keys` has the names, also for ``dict(outputs)`` and
    ``**outputs``, and ``in`` asks for a name. Type checkers, which know no such difference, see the methods of a
    mapping but not the class: give ``dict(outputs)`` to what asks for one. It is equal to a mapping that has the very
    same arrays by the same names; numbers are not compared.

    Examples
    --------
    >>> import numpy as np
    >>> outputs = Outputs({"boxes": np.zeros([5, 4]), "scores": np.ones(5)})
    >>> boxes, scores = outputs
    >>> outputs["scores"] is scores and outputs[1] is scores
    True
    >>> list(outputs.keys())
    ['boxes', 'scores']
    """

    __slots__ = ("_arrays",)

    def __init__(self, arrays: dict[str, np.ndarray]):
        self._arrays = arrays

    def keys(self) -> KeysView[str]:
        """The names of the outputs."""
        return self._arrays.keys()

    def values(self) -> ValuesView[np.ndarray]:
        """The arrays."""
        return self._arrays.values()

    def items(self) -> ItemsView[str, np.ndarray]:
        """Names and arrays."""
        return self._arrays.items()

    @overload
    def get(self, name: str, /) -> np.ndarray | None: ...
    @overload
    def get(self, name: str, /, default: np.ndarray | _D) -> np.ndarray | _D: ...
    def get(self, name: str, /, default: object = None) -> object:
        """The array of a name, or ``default`` if there is no such output."""
        return self._arrays.get(name, default)

    def __getitem__(self, which: str | int) -> np.ndarray:
        if isinstance(which, str):
            found = self._arrays.get(which)
            if found is None:
                raise LiteIndexError(f"there is no output {which!r}; there are {list(self._arrays)}")
            return found
        arrays = list(self._arrays.values())
        number = to_integer(which, "the number of an output")
        if not -len(arrays) <= number < len(arrays):
            raise LiteIndexError(f"there are {len(arrays)} outputs, no number {number}")
        return arrays[number]

    def __contains__(self, name: object) -> bool:
        if isinstance(name, np.ndarray):
            raise LiteTypeError(
                "in asks whether there is an output of a name, not for an array; any(a is array for a in outputs) does"
            )
        return isinstance(name, str) and name in self._arrays

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._arrays.values())

    def __reversed__(self) -> Iterator[np.ndarray]:
        return reversed(self._arrays.values())

    # Arrays have no one answer to the question whether they are equal, so they are asked whether they are the same.
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        if self._arrays.keys() != other.keys():
            return False
        return all(other[name] is array for name, array in self._arrays.items())

    def __hash__(self) -> int:
        return hash(frozenset((name, id(array)) for name, array in self._arrays.items()))

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shown = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in self._arrays.items())
        return printable(f"Outputs({shown})")

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import first_values, form_text, table

        rows = ((n, form_text(a.dtype, a.shape), first_values(a)) for n, a in self._arrays.items())
        return table(("output", "form", "first values"), rows)
