"""Dataclasses that are cheap to define: what most classes of this package with a few fields are.

``dataclasses.dataclass`` compiles six functions for a class when it is defined. That takes longer than anything else in
an import, and most classes are not used in a process that runs one model. Here ``__init__`` is compiled for the first
instance, and all other methods serve every class. Options, fields and behaviour are those of ``dataclasses``; so type
checkers read that module's names instead. Its functions do not know these classes: ``fields``, ``replace`` and
``asdict`` are here, too. docs/design/records.md gives the figures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["FrozenRecordError", "asdict", "field", "fields", "is_record", "record", "replace"]

MISSING: Any = object()
INTERPRETED = 24
"""Instances of a class that are made before its ``__init__`` is compiled, which takes as long as to make 30 so."""


class FrozenRecordError(AttributeError):
    """A field of a frozen record is set or deleted."""


class RecordField:
    """One field of a record. Defaults may be :data:`MISSING`."""

    __slots__ = ("compare", "default", "default_factory", "init", "metadata", "name", "repr")

    def __init__(
        self, default: Any = MISSING, default_factory: Any = MISSING, init: bool = True, repr: bool = True,
        compare: bool = True, metadata: Mapping[str, Any] | None = None,
    ):  # fmt: skip
        self.name = ""
        self.default = default
        self.default_factory = default_factory
        self.init = init
        self.repr = repr
        self.compare = compare
        self.metadata = metadata or {}


if TYPE_CHECKING:
    from dataclasses import asdict, field, fields, replace
    from dataclasses import dataclass as record
    from dataclasses import is_dataclass as is_record
else:

    def record(
        cls: type | None = None, /, *, frozen: bool = False, slots: bool = False, eq: bool = True, kw_only: bool = False
    ) -> Any:
        """Class decorator with the options of ``dataclasses.dataclass``."""

        def make(cls: type) -> type:
            return _made(cls, frozen, slots, eq, kw_only)

        return make if cls is None else make(cls)

    field = RecordField
    """What a class says of a field, in the place of its default."""

    def fields(about: Any) -> tuple[RecordField, ...]:
        """The fields of a record or of its class, in their order."""
        return tuple(about.__record_fields__.values())

    def is_record(about: Any) -> bool:
        """Whether this is a record or its class."""
        return hasattr(about, "__record_fields__")

    def replace(instance: Any, /, **changes: Any) -> Any:
        """A copy with other values of some fields. Fields that ``__init__`` does not take are made anew."""
        for f in instance.__record_fields__.values():
            if f.init and f.name not in changes:
                changes[f.name] = getattr(instance, f.name)
        return type(instance)(**changes)

    def asdict(instance: Any) -> Any:
        """Copies of all values by name; records inside become dictionaries, too."""
        if is_record(instance):
            return {name: asdict(getattr(instance, name)) for name in instance.__record_fields__}
        if isinstance(instance, list | tuple):
            return type(instance)(map(asdict, instance))
        if isinstance(instance, dict):
            return {asdict(key): asdict(value) for key, value in instance.items()}
        return deepcopy(instance)


def _made(cls: type, frozen: bool, slots: bool, eq: bool, kw_only: bool) -> type:
    inherited: dict[str, RecordField] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update(base.__dict__.get("__record_fields__", {}))
    own = {
        name: _field_of(cls, name)
        for name, annotation in cls.__annotations__.items()
        if not str(annotation).startswith(("ClassVar", "typing.ClassVar"))
    }
    for name, one in own.items():
        one.name = name
        if one.default is not MISSING and not slots:
            setattr(cls, name, one.default)
        elif name in cls.__dict__:
            delattr(cls, name)
    if slots:
        cls = _with_slots(cls, [name for name in own if name not in inherited])
    everything: Any = inherited | own
    cls.__record_fields__ = everything  # type: ignore[attr-defined]  # of this module alone
    compared = [f.name for f in everything.values() if f.compare]
    methods: dict[str, Any] = {"__init__": _late_init(cls, frozen, kw_only), "__repr__": _repr}
    if eq:
        key = _key(compared)
        methods["__eq__"] = _equality(key)
        methods["__hash__"] = (lambda self: hash(key(self))) if frozen else None
    if frozen:
        methods |= {"__setattr__": _refuse_to_set, "__delattr__": _refuse_to_delete}
        methods |= {"__getstate__": _state, "__setstate__": _restore} if slots else {}
    methods["__match_args__"] = tuple(f.name for f in everything.values() if f.init and not kw_only)
    for name, method in methods.items():
        if name not in cls.__dict__ or (name == "__hash__" and cls.__dict__[name] is None):
            setattr(cls, name, method)
    return cls


def _field_of(cls: type, name: str) -> RecordField:
    default = cls.__dict__.get(name, MISSING)
    return default if isinstance(default, RecordField) else RecordField(default)


def _with_slots(cls: type, names: list[str]) -> type:
    """The class once more, as slots can only be made together with it."""
    namespace = {k: v for k, v in cls.__dict__.items() if k not in ("__dict__", "__weakref__")}
    namespace["__slots__"] = tuple(names)
    qualname = cls.__qualname__
    cls = type(cls)(cls.__name__, cls.__bases__, namespace)
    cls.__qualname__ = qualname
    return cls


def _key(names: list[str]) -> Callable[[Any], Any]:
    """A function from a record to the tuple of some of its values."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda self: tuple([getattr(self, name) for name in names])


def _equality(key: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    def equal(self: Any, other: Any) -> Any:
        if other.__class__ is not self.__class__:
            return NotImplemented
        return key(self) == key(other)

    return equal


def _late_init(cls: type, frozen: bool, kw_only: bool) -> Callable[..., None]:
    made = 0

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        values = _arguments(cls, kw_only, args, kwargs) if made <= INTERPRETED else None
        if values is None:  # also for wrong arguments, about which the compiled one says what is usual
            compiled = _compiled_init(cls, frozen, kw_only)
            cls.__init__ = compiled  # type: ignore[misc]  # from now on; a second thread makes the same
            compiled(self, *args, **kwargs)
            return
        assign = object.__setattr__ if frozen else setattr
        for name, value in values.items():
            assign(self, name, value)
        if hasattr(cls, "__post_init__"):
            self.__post_init__()

    return __init__


def _arguments(cls: Any, kw_only: bool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any] | None:
    """The values of the fields that ``__init__`` takes; None if the arguments do not fit."""
    taken = [f for f in cls.__record_fields__.values() if f.init]
    if len(args) > (0 if kw_only else len(taken)):
        return None
    values, left = {}, len(kwargs)
    for k, f in enumerate(taken):
        if k < len(args):
            values[f.name] = args[k]
        elif f.name in kwargs:
            values[f.name] = kwargs[f.name]
            left -= 1
        elif f.default is not MISSING:
            values[f.name] = f.default
        elif f.default_factory is not MISSING:
            values[f.name] = f.default_factory()
        else:
            return None
    return None if left else values


def _compiled_init(cls: Any, frozen: bool, kw_only: bool) -> Callable[..., None]:
    names: dict[str, Any] = {"_set": object.__setattr__, "_missing": MISSING}
    parameters, body = ["self"] + ["*"] * kw_only, []
    for f in cls.__record_fields__.values():
        value = f.name
        if f.default is not MISSING:
            names[f"_default_{f.name}"] = f.default
            parameters.append(f"{f.name}=_default_{f.name}")
        elif f.default_factory is not MISSING:
            names[f"_make_{f.name}"] = f.default_factory
            parameters.append(f"{f.name}=_missing")
            value = f"_make_{f.name}() if {f.name} is _missing else {f.name}"
        else:
            parameters.append(f.name)
        if not f.init:
            parameters.pop()
            continue  # __post_init__ sets it
        body.append(f"_set(self, {f.name!r}, {value})" if frozen else f"self.{f.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    text = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"])
    exec(text, names)  # names of fields are identifiers of this package's own classes
    made: Callable[..., None] = names["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _repr(self: Any) -> str:
    shown = ", ".join(f"{f.name}={getattr(self, f.name)!r}" for f in self.__record_fields__.values() if f.repr)
    return f"{type(self).__qualname__}({shown})"


def _refuse_to_set(self: Any, name: str, value: Any) -> None:
    raise FrozenRecordError(f"cannot assign to field {name!r}")


def _refuse_to_delete(self: Any, name: str) -> None:
    raise FrozenRecordError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, name) for name in self.__record_fields__]


def _restore(self: Any, state: list[Any]) -> None:
    for name, value in zip(self.__record_fields__, state, strict=True):
        object.__setattr__(self, name, value)
