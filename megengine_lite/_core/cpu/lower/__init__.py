"""Lowering: one module per operator family turns nodes into kernel calls."""

import importlib
import pkgutil


def register_all() -> None:
    """Imports every module of this package, so that its lowering functions are known."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
