"""Converters of our operators to ONNX, one module for each family.

::

    NodeCall (a node, the forms of its variables) ─► converter ─► nodes of a GraphWriter

Start with ``table`` of the package above. A converter reads inputs as they are stored, as real numbers or as indexes,
writes nodes, and gives the outputs; the definition in numpy of the operator decides what must come out. A call that it
cannot write is a ``NotExported`` with the reason.
"""

import importlib
import pkgutil

for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")
