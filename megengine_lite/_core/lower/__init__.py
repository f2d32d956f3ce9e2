"""Lowering: one module per operator family turns nodes into kernel calls. Importing this package registers all."""

import importlib
import pkgutil

from megengine_lite._core.lower.context import LOWERINGS, Lowering, Ref, Tensor, lowers, wants_halo

__all__ = ["LOWERINGS", "Lowering", "Ref", "Tensor", "lowers", "wants_halo"]

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
