"""All operators by name. The module of a family is imported when one of its operators is first asked for.

``import_index`` says which module that is. It is made from the classes by ``tools/import_index.py``, and a test tells
when it is not current; an operator that it does not have yet is found nevertheless, after all families have been
imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING

from megengine_lite._core.operators.import_index import INDEX
from megengine_lite._core.system.late_import import late_import

if TYPE_CHECKING:
    from megengine_lite._core.operators.base import Operator

_PACKAGE = __name__.rpartition(".")[0]
# Modules that must not be imported as families. What families import themselves, like ``checks``, need not be here.
_NO_FAMILIES = {"base", "c_library", "facts", "import_index", "names", "reference", "registry", "sources"}


class Registry(MutableMapping[str, "Operator"]):
    """Canonical name -> operator: those of this package, and those that users add."""

    def __init__(self) -> None:
        self._known: dict[str, Operator] = {}

    def __getitem__(self, name: str) -> Operator:
        found = self._known.get(name)
        if found is None:
            if name in INDEX:
                _import(INDEX[name][0])
            else:
                import_all()
            found = self._known[name]
        return found

    def __setitem__(self, name: str, operator: Operator) -> None:
        self._known[name] = operator

    def __delitem__(self, name: str) -> None:
        del self._known[name]

    def __contains__(self, name: object) -> bool:
        return name in self._known or name in INDEX

    def get(self, name: str, default: Operator | None = None) -> Operator | None:  # type: ignore[override]  # one default is enough
        if name not in self:
            return default
        return self[name]

    def __iter__(self) -> Iterator[str]:
        yield from INDEX
        yield from self.of_users()

    def __len__(self) -> int:
        return len(INDEX) + len(self.of_users())

    def of_users(self) -> list[str]:
        """The names that are not of this package."""
        return [name for name in self._known if name not in INDEX]

    def imported(self) -> list[str]:
        """The names of the operators whose classes have been defined in this process, or added."""
        return list(self._known)


class BuiltIn(Mapping[str, "Operator"]):
    """The operators of a registry that this package has."""

    def __init__(self, registry: Registry):
        self._registry = registry

    def __getitem__(self, name: str) -> Operator:
        if name not in INDEX:
            raise KeyError(name)
        return self._registry[name]

    def __iter__(self) -> Iterator[str]:
        return iter(INDEX)

    def __len__(self) -> int:
        return len(INDEX)


def _import(family: str) -> None:
    with late_import():
        importlib.import_module(f"{_PACKAGE}.{family}")


def import_all() -> None:
    """Imports all families. That finds operators of the same name, and those that the index does not have."""
    import pkgutil

    package = importlib.import_module(_PACKAGE)
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in _NO_FAMILIES:
            _import(module.name)


REGISTRY = Registry()
BUILT_IN = BuiltIn(REGISTRY)
