"""How a parameter table is declared, with what a reader of files needs to know about it.

A table is a class with annotated fields, which behaves like a frozen record with keyword arguments; ``replace``
makes a changed copy. The helpers of this module give each field its number in the file, its stored type and its
default. A number that an enumeration does not have stays a plain ``int``; the operator decides whether it can use it.

A record compiles an ``__init__`` for each class that is used. Here one serves all 85 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import DType, DTypeCode
from megengine_lite._records import FrozenRecordError

if TYPE_CHECKING:
    from typing_extensions import Self, dataclass_transform
else:  # what type checkers read; Python has it from 3.11 on

    def dataclass_transform(**_: bool) -> Callable[[type], type]:
        return lambda cls: cls


INT_MAX = 2**31 - 1
INT_MIN = -(2**31)


class Field(NamedTuple):
    """One field of a table.

    ``kind`` is how a file stores it: a scalar type (``"int8"`` ... ``"float64"``, ``"bool"``) or the name of a vector
    of numbers or structures; it is empty if a function of its own reads the field. ``enum`` is the enumeration that a
    number is turned into.
    """

    name: str
    id: int
    kind: str
    enum: type[CodeEnum] | None
    default: Any


BY_CODE: dict[int, type[Param]] = {}
"""Type code in the union -> table."""


@dataclass_transform(kw_only_default=True, frozen_default=True, eq_default=False)
class _Table(type):
    """Makes slots of the fields in the body of a class, and keeps what was said of them."""

    defaults: dict[str, Any]
    layout: tuple[Field, ...]

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> _Table:
        fields = [value._replace(name=key) for key, value in namespace.items() if isinstance(value, Field)]
        for field in fields:
            del namespace[field.name]
        slots = {"__slots__": tuple(f.name for f in fields)}
        cls = super().__new__(mcls, name, bases, slots | namespace, **options)
        cls.defaults = {f.name: f.default for f in fields}
        cls.layout = tuple(f for f in fields if f.kind)
        return cls


class Param(metaclass=_Table):
    """Base of all parameter tables. ``class Axis(Param, code=2)`` has the code 2 in the union of parameters.

    Attributes
    ----------
    code
        Type code in the union of parameters.
    defaults
        The fields' defaults, by name.
    layout
        The fields that files store, in their order.
    """

    code: ClassVar[int]
    defaults: ClassVar[dict[str, Any]]
    layout: ClassVar[tuple[Field, ...]]

    def __init_subclass__(cls, code: int | None = None):
        if code is not None:
            cls.code = code
            BY_CODE[code] = cls

    def __init__(self, **values: Any) -> None:
        for name, default in self.defaults.items():
            object.__setattr__(self, name, values.pop(name, default))
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}; it has {', '.join(self.defaults)}")

    def __setattr__(self, name: str, value: Any) -> None:
        raise FrozenRecordError(f"{type(self).__name__}.{name} cannot be changed; make a copy with replace")

    def __delattr__(self, name: str) -> None:
        raise FrozenRecordError(f"{type(self).__name__}.{name} cannot be deleted")

    def __reduce__(self) -> tuple[Callable[[type[Param], dict[str, Any]], Param], tuple[type[Param], dict[str, Any]]]:
        return _restored, (type(self), self.values())

    def replace(self, **changes: Any) -> Self:
        """A copy with other values of some fields."""
        return type(self)(**self.values() | changes)

    def values(self) -> dict[str, Any]:
        """The values of all fields, by name."""
        return {name: getattr(self, name) for name in self.defaults}

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self.values() == other.values()

    def __hash__(self) -> int:
        return hash((self.code, *self.values().values()))

    def __repr__(self) -> str:
        """Only what differs from the defaults."""
        shown = [
            f"{name}={value.name}" if isinstance(value, CodeEnum) else f"{name}={value!r}"
            for name, value in self.values().items()
            if value != self.defaults[name]
        ]
        return f"{type(self).__name__}({', '.join(shown)})"


def _restored(table: type[Param], values: dict[str, Any]) -> Param:
    return table(**values)


def _stored(id: int, kind: str, default: Any, enum: type[CodeEnum] | None = None) -> Any:
    return Field("", id, kind, enum, default)


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


def enum(id: int, default: CodeEnum) -> Any:
    return _stored(id, "uint32", default, type(default))


def dtype_code(id: int, default: DTypeCode) -> Any:
    return _stored(id, "int8", default, DTypeCode)


def int32_vector(id: int) -> Any:
    return _stored(id, "int32[]", ())


def axis_desc_vector(id: int) -> Any:
    return _stored(id, "AxisDesc[]", ())


def index_item_vector(id: int) -> Any:
    return _stored(id, "IndexDescMaskItem[]", ())


def element_type(default: DType) -> Any:
    """A complete element type, which is a table of its own in files."""
    return Field("", 0, "", None, default)
