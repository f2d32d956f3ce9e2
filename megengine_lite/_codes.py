"""Enumerations of whole numbers that are cheap to define: what most lists of modes, formats and codes here are.

``enum.IntEnum`` takes a tenth of a millisecond and more to define a class, and a process that runs one model needs
forty. ``CodeEnum`` behaves like it, without what nothing here uses: functional definitions, ``auto``, and members that
cannot be set. Type checkers read ``IntEnum`` instead. What users see, in ``megengine_lite.struct``, is ``IntEnum``.
docs/design/records.md gives the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

__all__ = ["CodeEnum"]

if TYPE_CHECKING:
    from enum import IntEnum as CodeEnum
else:

    class _CodeType(type):
        """Makes members of the numbers in the body of a class. A second name of a number is the same member."""

        def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any]) -> _CodeType:
            numbers = {key: value for key, value in namespace.items() if type(value) is int and key[0] != "_"}
            cls = super().__new__(mcls, name, bases, {k: v for k, v in namespace.items() if k not in numbers})
            cls._value2member_map_ = members = {}
            cls.__members__ = {}
            for key, number in numbers.items():
                member = members.get(number)
                if member is None:
                    member = members[number] = int.__new__(cls, number)
                    member.name, member.value = key, number
                cls.__members__[key] = member
                setattr(cls, key, member)
            return cls

        def __call__(cls, value: int) -> Any:
            member = cls._value2member_map_.get(value)
            if member is None:
                raise ValueError(f"{value!r} is not a valid {cls.__name__}")
            return member

        def __getitem__(cls, name: str) -> Any:
            return cls.__members__[name]

        def __iter__(cls) -> Iterator[Any]:
            return iter(cls._value2member_map_.values())

        def __len__(cls) -> int:
            return len(cls._value2member_map_)

        def __contains__(cls, value: object) -> bool:
            return value in cls._value2member_map_

    class CodeEnum(int, metaclass=_CodeType):
        """Base of enumerations: ``class Mode(CodeEnum)`` with ``NAME = number`` in its body."""

        def __repr__(self) -> str:
            return f"<{type(self).__name__}.{self.name}: {self.value}>"

        __str__ = int.__repr__

        def __reduce__(self) -> tuple[Callable[[int], CodeEnum], tuple[int]]:
            return type(self), (self.value,)
