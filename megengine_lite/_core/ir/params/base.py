"""How a parameter table is declared, with what a reader of files needs to know about it.

A table is a frozen dataclass; change one with :func:`dataclasses.replace`. Comparison and ``repr`` come from
:class:`Param`, because methods made for each of 75 classes would double the time of the import. The helpers of this
module give each field its number in the file, its stored type and its default. A number that an enumeration does not
have stays a plain ``int``; the operator decides whether it can use it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np

from megengine_lite._core.ir.dtype import DTypeCode

INT_MAX = 2**31 - 1
INT_MIN = -(2**31)


class Field(NamedTuple):
    """One field of a table as it is stored in a file.

    ``kind`` is a scalar type (``"int8"`` ... ``"float64"``, ``"bool"``) or the name of a vector of numbers or
    structures; ``enum`` is the enumeration that a number is turned into.
    """

    name: str
    id: int
    kind: str
    enum: type[IntEnum] | None
    default: Any


class Param:
    """Base of all parameter tables.

    Attributes
    ----------
    code
        Type code in the union of parameters.
    layout
        Fields in file order.
    """

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]  # all tables are dataclasses
    code: ClassVar[int]
    layout: ClassVar[tuple[Field, ...]]

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, f.name) for f in dataclasses.fields(self))

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash((self.code, *self._values()))

    def __repr__(self) -> str:
        """Only what differs from the defaults."""
        shown = [
            f"{f.name}={value.name}" if isinstance(value, IntEnum) else f"{f.name}={value!r}"
            for f, value in zip(dataclasses.fields(self), self._values(), strict=True)
            if value != f.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


P = TypeVar("P", bound=type[Param])

BY_CODE: dict[int, type[Param]] = {}
"""Type code in the union -> table."""


def serialized(code: int) -> Callable[[P], P]:
    """Class decorator: the table with this code in the union of parameters."""

    def declare(cls: P) -> P:
        cls.code = code
        cls.layout = tuple(
            Field(f.name, f.metadata["id"], f.metadata["kind"], f.metadata["enum"], f.default)
            for f in dataclasses.fields(cls)
            if f.metadata
        )
        BY_CODE[code] = cls
        return cls

    return declare


def _stored(id: int, kind: str, default: Any, enum: type[IntEnum] | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"id": id, "kind": kind, "enum": enum})


def int32(id: int, default: int = 0) -> Any:
    return _stored(id, "int32", default)


def uint32(id: int, default: int = 0) -> Any:
    return _stored(id, "uint32", default)


def uint64(id: int, default: int = 0) -> Any:
    return _stored(id, "uint64", default)


def float32(id: int, default: float = 0.0) -> Any:
    return _stored(id, "float32", float(np.float32(default)))


def float64(id: int, default: float = 0.0) -> Any:
    return _stored(id, "float64", default)


def boolean(id: int, default: bool = False) -> Any:
    return _stored(id, "bool", default)


def enum(id: int, default: IntEnum) -> Any:
    return _stored(id, "uint32", default, type(default))


def dtype_code(id: int, default: DTypeCode) -> Any:
    return _stored(id, "int8", default, DTypeCode)


def int32_vector(id: int) -> Any:
    return _stored(id, "int32[]", ())


def axis_desc_vector(id: int) -> Any:
    return _stored(id, "AxisDesc[]", ())


def index_item_vector(id: int) -> Any:
    return _stored(id, "IndexDescMaskItem[]", ())
