"""Compares the values of a model with what the model says of them."""

from __future__ import annotations

from megengine_lite._core.formats.onnx.graph_values import Nothing, TensorList, Value
from megengine_lite._core.formats.onnx.messages import ValueInfoProto, type_name
from megengine_lite._core.formats.onnx.narrowing import Narrowing
from megengine_lite._core.ir.graph import Var
from megengine_lite.errors import ModelFormatError, brief, listed
from megengine_lite.log import warn


class Declarations:
    """What a model says of its values and what is not so: types, which are errors, and shapes.

    Shapes of values inside of a model are hints of the program that wrote it, and often stale. Those that are wrong are
    a warning.
    """

    def __init__(self, what: str, narrowing: Narrowing):
        self._what = what
        self._narrowing = narrowing
        self._types: dict[str, None] = {}  # each text once
        self._shapes: dict[str, None] = {}

    def compare(self, info: ValueInfoProto, value: Value) -> None:
        """Notes what is said of a value that is not so."""
        said = info.type
        if said is None:
            return
        name = brief(info.name)
        if isinstance(value, TensorList | Nothing):
            if said.tensor is not None:
                what = "a sequence" if isinstance(value, TensorList) else "an optional value"
                self._types[f"{name} is declared as a tensor, and is {what}"] = None
            return
        if said.tensor is None:
            if said.sequence or said.map or said.sparse_tensor:
                self._types[f"{name} is declared as no tensor, and is one"] = None
            return
        kind, shape = said.tensor.elem_type, said.tensor.shape
        if kind and self._narrowing.kind(kind) != self._narrowing.kind(value.kind):
            self._types[f"{name} is declared as {type_name(kind)}, and is {value.kind.name}"] = None
        if shape is None:
            return
        dims = [None if d.value == -1 else d.value for d in shape.dim]
        found = value.var.spec.shape if isinstance(value.var, Var) and value.var.const is not None else None
        if len(dims) != value.rank:
            self._shapes[f"{name} is declared with {len(dims)} dimensions, and has {value.rank}"] = None
        elif value.rank and found is not None and any(d not in (None, n) for d, n in zip(dims, found, strict=True)):
            self._shapes[f"{name} is declared with the shape {dims}, and has {list(found)}"] = None

    def check(self) -> None:
        """Raises, or warns, if something is not as the model says.

        Raises
        ------
        ModelFormatError
            Values have other types.
        """
        if self._types:
            raise ModelFormatError(
                f"{self._what}: these values are not what the model says of them: {listed(self._types)}"
            )
        if self._shapes:
            warn(f"{self._what}: these values have not the shapes that the model says: {listed(self._shapes)}")
