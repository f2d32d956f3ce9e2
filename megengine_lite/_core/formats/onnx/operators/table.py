"""Which function makes the nodes of an operator of ONNX, by domain, name and version of the operator set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import NeedsShapes as NeedsShapes
from megengine_lite._core.formats.onnx.graph_values import NotConverted as NotConverted
from megengine_lite._core.formats.onnx.graph_values import Nothing, TensorList, Value
from megengine_lite._core.formats.onnx.messages import AttributeProto, AttributeType, StoredTensorProto
from megengine_lite._records import field, record
from megengine_lite.errors import ModelFormatError

STANDARD = ""
"""Name of the domain of the standard's operators; ``ai.onnx`` means the same."""
MICROSOFT = "com.microsoft"
"""Name of the domain of ONNX Runtime's own operators."""
OLDEST, NEWEST = 6, 28
"""Versions of the standard's operator set that are read."""


_ALWAYS = range(NEWEST + 1)
_SINCE_19, _SINCE_24 = range(19, NEWEST + 1), range(24, NEWEST + 1)
# Attributes from which nothing follows that the inputs do not say, or which count in training only: in which versions
# of which operators. ONNX Runtime writes LayerNormalization into models of all versions.
_WITHOUT_MEANING = {
    "momentum": {"BatchNormalization": _ALWAYS},
    "ratio": {"Dropout": range(12)},
    "seed": {"Dropout": range(12, NEWEST + 1)},
    "stash_type": {
        "LayerNormalization": _ALWAYS,
        "SimplifiedLayerNormalization": _ALWAYS,
        "GroupNormalization": range(21, NEWEST + 1),
        "RMSNormalization": _ALWAYS,
        "Range": range(27, NEWEST + 1),
    },
    "sorted": {"TopK": range(11, NEWEST + 1)},
    "saturate": {"Cast": _SINCE_19, "CastLike": _SINCE_19, "QuantizeLinear": _SINCE_19},
    "round_mode": {"Cast": _SINCE_24, "CastLike": _SINCE_24},  # only for a type of 8 bits that is not read
}


def is_without_meaning(attribute: str, op: str, version: int) -> bool:
    """Whether an attribute that an operator may have needs not be read."""
    return version in _WITHOUT_MEANING.get(attribute, {}).get(op, ())


@record(slots=True)
class Call:
    """One call of an operator: what its converter sees.

    Attributes
    ----------
    inputs
        None for an optional input that is not given.
    attributes
        By name; those that refer to attributes of a function's caller are already replaced.
    n_outputs
        How many outputs are listed; ``wanted`` says of each whether it has a name.
    constant
        Makes a value of a tensor attribute.
    narrows
        Whether it makes float32 where the model says double.
    read
        The attributes that the converter knows: it has asked for them, or said so.
    """

    op: str
    version: int
    inputs: Sequence[Value | None]
    attributes: dict[str, AttributeProto]
    wanted: Sequence[bool]
    builder: GraphBuilder
    constant: Callable[[StoredTensorProto], Value]
    narrows: bool = False
    read: set[str] = field(default_factory=set)
    asked: int = -1  # the last input that the converter has asked for

    @property
    def n_outputs(self) -> int:
        return len(self.wanted)

    def optional(self, place: int) -> Value | None:
        """An input that may be missing."""
        value = self.anything(place)
        if isinstance(value, TensorList):
            raise NotConverted(f"its input {place} is a sequence")
        if isinstance(value, Nothing):
            raise NotConverted(f"its input {place} is an optional value that is not there")
        return value

    def anything(self, place: int) -> Value | None:
        """An input that may be missing, a tensor or not."""
        self.asked = max(self.asked, place)
        return self.inputs[place] if place < len(self.inputs) else None

    def sequence(self, place: int) -> TensorList:
        """An input that must be a sequence."""
        value = self.anything(place)
        if not isinstance(value, TensorList):
            raise ModelFormatError(f"input {place} is no sequence")
        return value

    def input(self, place: int) -> Value:
        """An input that must be there."""
        value = self.optional(place)
        if value is None:
            raise ModelFormatError(f"input {place} is missing")
        return value

    def known(self, place: int, what: str) -> np.ndarray | None:
        """The value of an optional input that must be a constant; None if it is not given."""
        value = self.optional(place)
        if value is None:
            return None
        found = self.builder.known_value(value)
        if found is None:
            raise NeedsShapes(f"{what} is computed when the model runs, and must be a constant here")
        return found

    def known_integers(self, place: int, what: str) -> list[int] | None:
        """The integers of an optional input that must be a constant."""
        found = self.known(place, what)
        return None if found is None else [int(n) for n in found.reshape(-1)]

    def know(self, *names: str) -> None:
        """Says that attributes are known, also where nothing follows from them in this call."""
        self.read.update(names)

    def unread_inputs(self) -> list[int]:
        """Places of inputs that the converter does not know."""
        return [k for k, value in enumerate(self.inputs) if value is not None and k > self.asked]

    def unread(self) -> list[str]:
        """Attributes that the converter does not know."""
        unread = self.attributes.keys() - self.read
        return sorted(name for name in unread if not is_without_meaning(name, self.op, self.version))

    def _find(self, name: str, kind: AttributeType, field: str) -> Any:
        self.read.add(name)
        attribute = self.attributes.get(name)
        if attribute is None:
            return None
        value = getattr(attribute, field)
        if attribute.type not in (None, kind) or value is None:
            raise ModelFormatError(f"the attribute {name!r} must be of the kind {kind.name}")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        found = self._find(name, AttributeType.INT, "i")
        result: int | None = default if found is None else found
        if result is None:
            raise ModelFormatError(f"the attribute {name!r} is missing")
        return result

    def positive(self, name: str, default: int | None = None) -> int:
        found = self.integer(name, default)
        if found < 1:
            raise NotConverted(f"{name} is {found}, and must be 1 or more")
        return found

    def real(self, name: str, default: float | None = None) -> float:
        found = self._find(name, AttributeType.FLOAT, "f")
        result: float | None = default if found is None else found
        if result is None:
            raise ModelFormatError(f"the attribute {name!r} is missing")
        return result

    def text(self, name: str, default: str) -> str:
        found = self._find(name, AttributeType.STRING, "s")
        return default if found is None else bytes(found).decode("utf-8", "backslashreplace")

    def texts(self, name: str) -> list[str] | None:
        found = self._find(name, AttributeType.STRINGS, "strings")
        return None if found is None else [bytes(s).decode("utf-8", "backslashreplace") for s in found]

    def byte_texts(self, name: str) -> tuple[bytes, ...]:
        found = self._find(name, AttributeType.STRINGS, "strings")
        return () if found is None else tuple(map(bytes, found))

    def integers(self, name: str) -> list[int] | None:
        found = self._find(name, AttributeType.INTS, "ints")
        return None if found is None else list(found)

    def reals(self, name: str) -> list[float] | None:
        found = self._find(name, AttributeType.FLOATS, "floats")
        return None if found is None else list(found)

    def tensor(self, name: str) -> Value | None:
        found = self._find(name, AttributeType.TENSOR, "t")
        return None if found is None else self.constant(found)

    def sparse_tensor(self, name: str) -> Value | None:
        found = self._find(name, AttributeType.SPARSE_TENSOR, "sparse_tensor")
        return None if found is None else self.constant(found)

    def axis(self, name: str, default: int, rank: int) -> int:
        """An axis of a value with so many dimensions, counted from the front."""
        return self.normalized(self.integer(name, default), rank)

    @staticmethod
    def normalized(axis: int, rank: int) -> int:
        if not -rank <= axis < max(rank, 1):
            raise ModelFormatError(f"there is no axis {axis} in {rank} dimensions")
        return axis % rank if rank else 0

    def axes(self, numbers: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front, sorted; each may be named once."""
        return sorted(self.axes_in_order(numbers, rank))

    def axes_in_order(self, numbers: Sequence[int], rank: int) -> list[int]:
        """Axes counted from the front; each may be named once."""
        found = [self.normalized(n, rank) for n in numbers]
        if len(set(found)) != len(found):
            raise ModelFormatError(f"the axes {list(numbers)[:20]} name one axis twice")
        return found


Converter = Callable[[Call], Value | Sequence[Value | None]]
C = TypeVar("C", bound=Converter)


@record(frozen=True, slots=True)
class ConverterEntry:
    """A converter, and the versions of the operator set whose calls it takes."""

    convert: Converter
    since: int
    until: int


CONVERTERS: dict[tuple[str, str], list[ConverterEntry]] = {}
"""Domain and name of an operator -> its converters."""


def converts(*names: str, domain: str = STANDARD, since: int = OLDEST, until: int = NEWEST) -> Callable[[C], C]:
    """Decorator of a converter: for these operators, in these versions of the operator set."""

    def enter(function: C) -> C:
        for name in names:
            entries = CONVERTERS.setdefault((domain, name), [])
            assert all(e.until < since or until < e.since for e in entries), f"two converters for {name}"
            entries.append(ConverterEntry(function, since, until))
        return function

    return enter


def first_version(domain: str, name: str) -> int | None:
    """The first version of the operator set in which an operator is read; None if there is none."""
    return min((entry.since for entry in CONVERTERS.get((domain, name), ())), default=None)


def find_converter(domain: str, name: str, version: int) -> Converter | None:
    """The converter of an operator; None if there is none."""
    for entry in CONVERTERS.get((domain, name), ()):
        if domain != STANDARD or entry.since <= version <= entry.until:
            return entry.convert
    return None
