"""The operators: one class for each, in the module of its family, with all that is true of it on every device.

A class says an operator's names in files, its parameters, the shapes and types of its results (``infer``), what it
computes, in numpy (``compute``), its cost, and what passes may do with it. The definition in numpy folds constants,
computes shapes while planning, runs operators without a kernel, and is what every kernel is compared with::

    node, specs of inputs ─► infer ─► specs of outputs
    node, arrays          ─► compute ─► arrays

Start with :mod:`~megengine_lite._core.operators.base`. A class is known once its module is imported, which this
package does for all of its modules. ``facts`` has groups of facts that classes state, ``names`` maps the names in
files, ``sources`` lists what inputs and constants are stored as, ``reference`` runs whole graphs by definition,
``c_library`` calls operators in C libraries.
"""

import importlib
import pkgutil

from megengine_lite._core.operators.base import REGISTRY, Operator, register

__all__ = ["BUILT_IN", "REGISTRY", "Operator", "register"]

_NO_FAMILIES = {"c_library", "facts", "names", "reference", "sources"}
for _module in pkgutil.iter_modules(__path__):
    if _module.name not in _NO_FAMILIES:
        importlib.import_module(f"{__name__}.{_module.name}")

BUILT_IN = dict(REGISTRY)
"""The operators of this package, without those that users register."""
