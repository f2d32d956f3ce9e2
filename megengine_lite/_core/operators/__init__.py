"""Operators: one module per family. Importing this package registers them all."""

import importlib
import pkgutil

from megengine_lite._core.oprs.base import REGISTRY, Operator, register

__all__ = ["REGISTRY", "Operator", "register"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
