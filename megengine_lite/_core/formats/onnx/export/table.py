"""Which function writes the nodes of an operator, and what that function sees of a node."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.formats.onnx.export.forms import Forms, Layout
from megengine_lite._core.formats.onnx.export.graph_writer import GraphWriter, OnnxValue
from megengine_lite._core.formats.onnx.messages import ElementType
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.ir.known_shapes import KnownVar, Names
from megengine_lite._records import record


class NotExported(Exception):
    """Raised by converters for a node that they cannot write; the text is the reason.

    ``follows`` names dimensions of inputs; if these are fixed, the node can perhaps be written.
    """

    def __init__(self, reason: str, follows: Names = frozenset()):
        super().__init__(reason)
        self.follows = follows


@record(slots=True)
class NodeCall:
    """One node that is written.

    Attributes
    ----------
    node
        The node of the model.
    writer
        Takes what is written.
    forms
        What the variables are in the ONNX graph, those of the node's outputs included.
    wanted
        Of each output whether a node reads it, or the caller.
    """

    node: AnyNode
    writer: GraphWriter
    forms: Mapping[AnyVar, Forms]
    wanted: list[bool]

    @property
    def params(self) -> Any:
        return self.node.params

    @property
    def count(self) -> int:
        return len(self.node.inputs)

    # ---- inputs -----------------------------------------------------------------------------------------------------

    def form(self, place: int) -> Forms:
        return self.forms[self.node.inputs[place]]

    def known(self, place: int) -> KnownVar:
        return self.form(place).known

    def dtype(self, place: int) -> DType:
        return self.known(place).dtype

    def ndim(self, place: int) -> int:
        return len(self.known(place).shape)

    def spec(self, place: int) -> TensorSpec:
        """The spec for the sizes in the file."""
        known = self.known(place)
        return TensorSpec(known.shape, known.dtype)

    def specs(self) -> list[TensorSpec]:
        return [self.spec(k) for k in range(self.count)]

    def dim(self, place: int, axis: int, what: str) -> int:
        """A dimension of an input that must not change."""
        found = self.known(place).dims[axis]
        if found is None:
            raise NotExported(f"{what} depends on data", self.known(place).dims_follow[axis])
        return found

    def array(self, place: int) -> np.ndarray | None:
        """The value of an input, if it is the same in every run."""
        known = self.known(place)
        return known.value if known.constant is None else known.constant.array

    def numbers(self, place: int, what: str) -> list[int]:
        """The integers of an input that must be the same in every run."""
        array = self.array(place)
        if array is None:
            raise NotExported(f"{what} depends on data", self.known(place).value_follows)
        return [int(n) for n in array.reshape(-1)]

    def constant(self, place: int, what: str) -> np.ndarray:
        """The elements of an input that must be a weight."""
        found = self.known(place).constant
        if found is None:
            raise NotExported(f"{what} must be constant")
        return found.array

    def stored(self, place: int, layout: Layout = None) -> OnnxValue:
        return self.form(place).get_stored(layout)

    def real(self, place: int, layout: Layout = None) -> OnnxValue:
        return self.form(place).get_real(layout)

    def numbers_as_float32(self, place: int, layout: Layout = None) -> OnnxValue:
        """The real numbers of floats, else the numbers that are stored."""
        if self.dtype(place).is_float:
            return self.real(place, layout)
        return self.writer.as_kind(self.stored(place, layout), ElementType.FLOAT)

    def index(self, place: int) -> OnnxValue:
        return self.form(place).get_index()

    # ---- outputs ----------------------------------------------------------------------------------------------------

    def output(self, place: int = 0) -> KnownVar:
        return self.forms[self.node.outputs[place]].known

    def give(self, value: OnnxValue, place: int = 0, layout: Layout = None) -> None:
        """Defines an output by its elements."""
        layout = None if layout == Format.NCHW else layout
        self.forms[self.node.outputs[place]].stored[layout] = value

    def give_real(self, value: OnnxValue, place: int = 0, layout: Layout = None) -> None:
        """Defines an output by real numbers."""
        self.forms[self.node.outputs[place]].put_real(value, layout)

    def give_index(self, value: OnnxValue, place: int = 0) -> None:
        """Defines an int32 output by int64 numbers."""
        assert value.kind == ElementType.INT64
        self.forms[self.node.outputs[place]].index = value

    # ---- values that are only moved ---------------------------------------------------------------------------------

    def moved(self, *places: int) -> list[OnnxValue]:
        """Inputs whose elements are only moved: as int64 where they are there as that, else as they are stored."""
        chosen = places or range(self.count)
        as_index = any(self.form(k).is_index for k in chosen)
        return [self.index(k) if as_index else self.stored(k) for k in chosen]

    def give_moved(self, value: OnnxValue, place: int = 0) -> None:
        """Defines an output by elements of what :meth:`moved` gave."""
        is_wide = value.kind == ElementType.INT64 and self.output(place).dtype.itemsize < 8
        (self.give_index if is_wide else self.give)(value, place)


Converter = Callable[[NodeCall], None]
F = TypeVar("F", bound=Converter)

CONVERTERS: dict[str, Converter] = {}
"""Name of an operator -> its converter."""


def exports(*names: str) -> Callable[[F], F]:
    """Decorator of a converter: for these operators."""

    def enter(function: F) -> F:
        for name in names:
            assert name not in CONVERTERS, f"two converters for {name}"
            CONVERTERS[name] = function
        return function

    return enter
