"""Parameters of the operators that only ONNX models have; most of these run in numpy."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.expansion import Expansion
from megengine_lite._core.ir.graph import AnyNode, AnyVar, ModelGraph, TensorSpec
from megengine_lite._core.ir.onnx_reduction import OnnxReduction
from megengine_lite._records import record
from megengine_lite.errors import ShapeError


class OnnxMode(CodeEnum):
    """Functions of :class:`OnnxElemwise`, for types and rules that ``Elemwise`` does not have."""

    NARROW = 0  # int64 or uint64 as int32, double as float32; an error where a number does not fit
    DIVIDE = 1  # integers: towards zero
    REMAINDER = 2  # integers: with the sign of the dividend
    POWER = 3  # the second operand may be of another type
    BIT_AND = 5
    BIT_OR = 6
    BIT_XOR = 7
    BIT_NOT = 8
    SHIFT_LEFT = 9
    SHIFT_RIGHT = 10
    IS_POSITIVE_INFINITY = 11
    IS_NEGATIVE_INFINITY = 12
    MAX = 13  # NaN stays
    MIN = 14
    MODULO = 15  # with the sign of the divisor


@record(frozen=True, slots=True)
class OnnxElemwise:
    """A function of one or two tensors that broadcast together.

    ``of_sizes`` says of NARROW that the numbers are sizes or places of a tensor, not values at the API.
    """

    mode: OnnxMode
    of_sizes: bool = False


@record(frozen=True, slots=True)
class OnnxBytes:
    """The same integers as elements of the type ``dtype``, one of the two being quantized, the other plain.

    Quantized types with a zero point are unsigned here. For signed plain numbers, 128 is added to these and to the zero
    point: the sign bit changes.
    """

    dtype: DType


@record(frozen=True, slots=True)
class OnnxReduce:
    """A reduction along axes, which stay with length 1; elements of any type, also none at all.

    If ``axes`` is None, a second input lists the axes. An empty list means all axes, or no axis with ``none_is_none``.
    ``is_finite`` says that a maximum of nothing but minus infinity may be the lowest finite number, as the kernels have
    it.
    """

    mode: OnnxReduction
    axes: tuple[int, ...] | None
    none_is_none: bool = False
    is_finite: bool = False


@record(frozen=True, slots=True)
class TargetShape:
    """How a shape follows from data and a vector of numbers.

    Attributes
    ----------
    how
        ``reshape``: -1 stands for the number that is left, and 0, unless ``keeps_zeros``, for the dimension that the
        data have there. ``expand``: both broadcast together. ``drop``, ``insert``: the numbers are axes of length 1.
    """

    how: str = "reshape"
    keeps_zeros: bool = False


@record(frozen=True, slots=True)
class OnnxPad:
    """Padding by numbers that are an input; ``mode`` is numpy's name of how."""

    mode: str


@record(frozen=True, slots=True)
class AlongAxis:
    """One axis."""

    axis: int


@record(frozen=True, slots=True)
class Scatter:
    """What becomes of elements that are written: ``none`` replaces, ``add``, ``mul``, ``max`` and ``min`` combine."""

    reduction: str
    axis: int = 0


@record(frozen=True, slots=True)
class Cumulative:
    """Sums or products of all elements up to one, with it or without, from the front or from the back."""

    exclusive: bool
    reverse: bool
    product: bool


@record(frozen=True, slots=True)
class GatherND:
    """Leading dimensions that data and indexes share."""

    batch_dims: int


@record(frozen=True, slots=True)
class Triangle:
    """The upper or lower triangle of matrices; the diagonal is a second input, or 0."""

    upper: bool


@record(frozen=True, slots=True)
class SortedTopK:
    """The k largest or smallest elements along an axis, equal ones in their order."""

    axis: int
    largest: bool


@record(frozen=True, slots=True)
class EinsumParam:
    """An equation in numpy's notation, with all letters of the result named."""

    equation: str


@record(frozen=True, slots=True)
class Recurrent:
    """A recurrent layer with the rules of ONNX.

    Attributes
    ----------
    cell
        ``RNN``, ``GRU`` or ``LSTM``.
    direction
        ``forward``, ``reverse`` or ``bidirectional``.
    activations
        Names of the functions, those of the first direction first, each with its alpha and beta.
    clip
        The largest size of what goes into activations; 0 for any.
    flags
        For each optional input (bias, lengths, initial state, initial cell, peepholes) whether it is given.
    linear_before_reset
        GRU: the product with the state is made before the reset gate is applied.
    couples
        LSTM: the forget gate is one less the input gate.
    """

    cell: str
    direction: str
    activations: tuple[tuple[str, float, float], ...]
    clip: float
    flags: tuple[bool, ...]
    linear_before_reset: bool = False
    couples: bool = False

    @property
    def directions(self) -> int:
        """How many directions the weights are for."""
        return 2 if self.direction == "bidirectional" else 1


@record(frozen=True, slots=True, eq=False)
class OnnxIf(Expansion):
    """Two graphs, one of which takes the place of the node by the truth of its first input.

    The variables that they read are the node's further inputs. A function makes a graph that depends on their shapes.
    """

    then_branch: ModelGraph | Callable[[Mapping[AnyVar, TensorSpec]], ModelGraph]
    else_branch: ModelGraph | Callable[[Mapping[AnyVar, TensorSpec]], ModelGraph]

    values = (0,)

    def key(self, node: AnyNode, specs: Sequence[TensorSpec]) -> Hashable:
        value = specs[0].value
        if value is None or value.size != 1:
            raise ShapeError(f"If {node.name!r}: the condition has the shape {specs[0].shape}, it must be one number")
        decided = bool(value.reshape(-1)[0])
        return (decided, *(s.shape for s in specs)) if self.depends_on_shapes(specs) else decided

    def depends_on_shapes(self, specs: Sequence[TensorSpec]) -> bool:
        return callable(self._branch(specs))

    def _branch(self, specs: Sequence[TensorSpec]) -> ModelGraph | Callable[[Mapping[AnyVar, TensorSpec]], ModelGraph]:
        value = specs[0].value
        return self.then_branch if value is not None and value.any() else self.else_branch

    def graph(self, node: AnyNode, specs: Sequence[TensorSpec]) -> ModelGraph:
        branch = self._branch(specs)
        return branch(dict(zip(node.inputs, specs, strict=True))) if callable(branch) else branch

    def known_graphs(self) -> Sequence[ModelGraph]:
        return [b for b in (self.then_branch, self.else_branch) if not callable(b)]


@record(frozen=True, slots=True, eq=False)
class OnnxGraph(Expansion):
    """A graph that is made anew for each set of shapes of the inputs, because it is another one for other shapes.

    ``make(inputs, specs)`` gives it for the variables of the inputs.
    """

    make: Callable[[Sequence[AnyVar], Sequence[TensorSpec]], ModelGraph]

    def key(self, node: AnyNode, specs: Sequence[TensorSpec]) -> tuple[tuple[int, ...], ...]:
        return tuple(spec.shape for spec in specs)

    def graph(self, node: AnyNode, specs: Sequence[TensorSpec]) -> ModelGraph:
        return self.make(node.inputs, specs)


@record(frozen=True, slots=True, eq=False)
class OnnxAttributes:
    """The attributes of a user's operator in an ONNX model, as plain values by name.

    ``given`` tells of each input in the model whether it is there. The node has those that are. The last two tell of
    these, and of outputs, whether they are scalars, which have the shape ``(1,)`` in the graph; no outputs are known
    before the user's function has been asked.
    """

    fields: Mapping[str, Any]
    given: tuple[bool, ...]
    scalar_inputs: tuple[bool, ...]
    scalar_outputs: tuple[bool, ...] = ()

    def values(self) -> dict[str, Any]:
        return dict(self.fields)


@record(frozen=True, slots=True)
class SequenceAxes:
    """Which axis has the sequences, and along which they go."""

    batch: int
    time: int


@record(frozen=True, slots=True)
class CacheUpdate:
    """The axis of a cache along which an update is written, and whether it goes on at the front behind the end."""

    axis: int
    circular: bool


@record(frozen=True, slots=True)
class Distinct:
    """The axis along which parts are compared, None for all elements; whether they are sorted, else as they come."""

    axis: int | None
    is_sorted: bool


@record(frozen=True, slots=True)
class OtherType:
    """An element type."""

    dtype: DType


@record(frozen=True, slots=True)
class Fourier:
    """A discrete Fourier transform.

    Attributes
    ----------
    inverse
        From the spectrum to the signal.
    onesided
        A real signal and the half of its spectrum that says all.
    axis
        Along which it goes; None if the last input says it.
    has_length
        The second input is the length of the transform.
    """

    inverse: bool
    onesided: bool
    axis: int | None
    has_length: bool


@record(frozen=True, slots=True)
class ShortTime:
    """A transform of each frame of a signal; the flags say which optional inputs are given."""

    onesided: bool
    has_window: bool
    has_length: bool


@record(frozen=True, slots=True)
class CosineWindow:
    """A window that is a sum of cosines: the one with k periods has the factor at place k."""

    factors: tuple[float, ...]
    periodic: bool


@record(frozen=True, slots=True)
class Likelihood:
    """Parameters of ``LikelihoodLoss``.

    Attributes
    ----------
    reduction
        ``none`` gives the loss of each place, ``sum`` and ``mean`` one number. A mean is that of weighted losses.
    ignored
        A class that does not count; None if all do.
    """

    reduction: str
    ignored: int | None
