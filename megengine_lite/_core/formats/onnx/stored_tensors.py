"""The tensors that a file stores, and the nodes of the file that read them.

The graph has others: an importer cuts, joins and computes what it needs.
"""

from __future__ import annotations

from collections.abc import Iterable

from megengine_lite._core.formats.loaded_model import StoredTensor
from megengine_lite._core.formats.onnx.graph_values import Value, tensors_of
from megengine_lite._core.ir.graph import AnyVar, Var


class StoredTensors:
    """Collects initializers and results of ``Constant`` as they are read.

    Attributes
    ----------
    found
        By the identity of the record: a node of a function is read in each call, and stored once.
    """

    def __init__(self) -> None:
        self.found: dict[int, StoredTensor] = {}
        self._of_variable: dict[AnyVar, StoredTensor] = {}

    def add(self, value: Value | None, name: str, record: object) -> None:
        """Notes that a value is stored in the file."""
        if value is not None and isinstance(var := value.var, Var):
            made = StoredTensor(name, var.spec.dtype, var.spec.shape, var.spec.size, var.spec.nbytes)
            self._of_variable[var] = self.found.setdefault(id(record), made)

    def note_reader(self, inputs: Iterable[Value | None], reader: str) -> None:
        """Notes that a node of the file reads these values."""
        for value in tensors_of(inputs):
            if (stored := self._of_variable.get(value.var)) is not None:
                stored.readers[reader] = None
