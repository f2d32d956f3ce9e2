"""Lowering functions: one module per operator family turns nodes into kernel calls.

The modules whose names begin with ``quantized`` are the quantized halves of the families. ``copying``, ``iteration``
and ``requantize`` are helpers that several families use. :mod:`megengine_lite._core.cpu.lowering` is the context that
lowering functions work in.
"""

import importlib
import pkgutil


def register_all() -> None:
    """Imports every module of this package, so that its lowering functions are known."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
