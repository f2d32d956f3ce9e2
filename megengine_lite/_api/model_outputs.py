"""What a model's runs give. Public as a part of ``Model``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from megengine_lite._core.system.integers import to_integer
from megengine_lite.errors import LiteIndexError, printable


class Outputs:
    """The results of one run: arrays by name or position.

    Iterating gives the arrays in the order of :attr:`Model.outputs`, so they can be unpacked; ``dict(outputs)`` and
    :meth:`keys` have the names. The arrays are the caller's.

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

    def keys(self) -> Iterable[str]:
        """The names of the outputs."""
        return self._arrays.keys()

    def values(self) -> Iterable[np.ndarray]:
        """The arrays."""
        return self._arrays.values()

    def items(self) -> Iterable[tuple[str, np.ndarray]]:
        """Names and arrays."""
        return self._arrays.items()

    def get(self, name: str, default: np.ndarray | None = None) -> np.ndarray | None:
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
        return name in self._arrays

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self._arrays.values())

    def __len__(self) -> int:
        return len(self._arrays)

    def __repr__(self) -> str:
        shown = ", ".join(f"{n}: {a.dtype}{list(a.shape)}" for n, a in self._arrays.items())
        return printable(f"Outputs({shown})")

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import first_values, form_text, table

        rows = ((n, form_text(a.dtype, a.shape), first_values(a)) for n, a in self._arrays.items())
        return table(("output", "form", "first values"), rows)
