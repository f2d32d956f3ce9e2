"""The operators: one class for each, in the module of its family, with all that is true of it on every device.

A class says an operator's names in files, its parameters, the shapes and types of its results (``infer``), what it
computes, in numpy (``compute``), its cost, and what passes may do with it. The definition in numpy folds constants,
computes shapes while planning, runs operators without a kernel, and is what every kernel is compared with::

    node, specs of inputs ─► infer ─► specs of outputs
    node, arrays          ─► compute ─► arrays

Start with :mod:`~megengine_lite._core.operators.base`. ``registry`` finds operators by name, and imports the module of
a family when one of its operators is first asked for. ``facts`` has groups of facts that classes state, ``names`` maps
the names in files, ``sources`` lists what inputs and constants are stored as, ``reference`` runs whole graphs by
definition, ``c_library`` calls operators in C libraries.
"""

from megengine_lite._core.operators.base import Operator, register
from megengine_lite._core.operators.registry import BUILT_IN, REGISTRY

__all__ = ["BUILT_IN", "REGISTRY", "Operator", "register"]
