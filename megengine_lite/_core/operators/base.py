"""What is known of an operator: its names, its shapes, its meaning, and what others may do with it.

Each operator is a subclass of :class:`Operator` in the module of its family, registered by :func:`register`. A fact
about an operator stands on its class and nowhere else; code that needs it asks ``REGISTRY[node.op]``.
``compute`` is the definition of the operator in numpy: it folds constants, evaluates shape arithmetic while
planning, runs operators that have no native kernel, and is what every kernel is compared with.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, ParamSpec, TypeVar

import numpy as np

from megengine_lite._core.ir.graph import AnyNode, AnyVar, Node, Spec, TensorSpec, Var
from megengine_lite._core.operators.facts import InFiles, InOriginal, Use, in_small_letters
from megengine_lite._core.operators.origins import (
    KnownOrigins,
    NumberOrigins,
    Shape,
    ShapeOrigins,
    aligned_numbers,
    aligned_sizes,
)
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._core.operators.samples import elementwise, never
from megengine_lite._core.system.own_faults import own_fault
from megengine_lite._core.system.processor import flush_denormals, restore_denormals
from megengine_lite.errors import InternalError, LiteError, LiteIndexError, LiteMemoryError, ShapeError


class Operator:
    """Base of all operators; instances are stateless. Everything but ``name`` and the two functions has a default.

    Attributes
    ----------
    name
        Canonical name: the registered name without revision suffix.
    types
        Further serialized names, of operators that users register.
    param
        Dataclass of the main parameter in :mod:`megengine_lite._core.ir.params`, or None.
    in_files
        How files store it; None for operators that only passes or readers of
        other formats make.
    in_original
        How the original names and runs it.
    n_outputs
        Number of outputs that are numbered in a file; see :meth:`count_outputs`.
    value_inputs
        Positions of inputs whose *values* decide the output shape (negative counts from the end), for example
        the target shape of Reshape. Inference gets ``spec.value`` for these, never None.
    dynamic
        True if an output's shape depends on the data of other inputs; see :class:`DynamicOperator`.
    foreign
        True if ``compute`` runs code of the user's, which finds the processor as it always is.
    folds
        Constant inputs have constant results. False for what must run each time: random numbers, code of the user's.
    runs_in_float32
        It means the same in float16 and float32, so float16 may be computed in float32.
    moves_elements
        Its outputs are elements of the first input in another order or shape, nothing else.
    elements_of
        The inputs whose elements its outputs consist of, but for positions; None if it computes.
    gives_positions
        The numbers of its results that are positions in the first input.
    of_shapes
        Its results follow from the shapes of its inputs and from numbers that are known before the data.
    keeps_order
        Of those that move elements: the elements keep their order; only the shape changes.
    reads_part
        It reads only those elements of the first input that its first output has.
    repeats_elements
        Its output is the first input repeated, so a large one is not worth being kept.
    has_shape_of
        The inputs to whose common shape, by broadcasting, its one output has; None if it has another shape.
    becomes
        What takes its place before kernels are chosen, in words, if other operators always do.
    sample_inputs
        Inputs that it takes with default parameters, to try out element types (see :mod:`.facts`).
    element_types
        Element types that it takes, in words, where they cannot be found by trying.
    shape_inputs
        Inputs that say nothing but the shape of the result.
    sample_outputs
        Of those whose samples stay apart: the outputs that have samples.
    keeps_samples
        The rule by which the samples of a batch stay apart, for large batches (see :mod:`.samples`).
    """

    name: str
    types: tuple[str, ...] = ()
    param: ClassVar[type | None] = None
    in_files: ClassVar[InFiles | None] = InFiles()
    in_original: ClassVar[InOriginal] = InOriginal()
    n_outputs: ClassVar[int] = 1
    value_inputs: ClassVar[tuple[int, ...]] = ()
    dynamic: ClassVar[bool] = False
    foreign: ClassVar[bool] = False
    folds: ClassVar[bool] = True
    runs_in_float32: ClassVar[bool] = False
    moves_elements: ClassVar[bool] = False
    elements_of: ClassVar[slice | None] = None
    gives_positions: ClassVar[tuple[int, ...]] = ()
    of_shapes: ClassVar[bool] = False
    keeps_order: ClassVar[bool] = False
    reads_part: ClassVar[bool] = False
    repeats_elements: ClassVar[bool] = False
    has_shape_of: ClassVar[slice | None] = None
    becomes: ClassVar[str] = ""
    sample_inputs: ClassVar[tuple[Any, ...] | None] = None
    element_types: ClassVar[str] = ""
    shape_inputs: ClassVar[tuple[int, ...]] = ()
    sample_outputs: ClassVar[slice] = slice(None)
    keeps_samples = never

    # ---- in files ---------------------------------------------------------------------------------------------------

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        """Number of outputs that are numbered in a file (workspaces are not).

        Parameters may be missing or of another operator: the loader asks before it checks them.
        """
        return self.n_outputs

    def load_payload(self, payload: tuple[bytes, ...], n_inputs: int, n_outputs: int) -> tuple[bytes, ...]:
        """The payload that a node has when its model is loaded to be run; called once for each node of a load."""
        return payload

    # ---- meaning ----------------------------------------------------------------------------------------------------

    def needed_values(self, node: AnyNode) -> tuple[int, ...]:
        """Positions of the inputs whose values ``infer`` needs for this node."""
        n = len(node.inputs)
        return tuple(i % n for i in self.value_inputs) if n else ()

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        """Checks parameters and input shapes; returns shape and dtype of every output.

        Raises
        ------
        ShapeError
            The inputs do not fit; the message names the node. Every other exception is taken for a fault of the class.
        """
        raise NotImplementedError

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[TensorSpec]
    ) -> list[np.ndarray]:
        """The operator in numpy. Arrays have the storage type of their spec; inputs must not be changed.

        Denormal numbers are zeros here, as in kernels.
        """
        raise NotImplementedError

    def shape_origins(self, node: AnyNode, shapes: Sequence[Shape]) -> ShapeOrigins:
        """From which sizes and numbers of the inputs each size of each output follows, whatever these are.

        ``shapes`` are those of the inputs, for which ``infer`` has given a result; other sizes leave each the number of
        its dimensions. None if each size may follow from everything.
        """
        if self.has_shape_of is None:
            return None
        return [aligned_sizes(shapes, range(len(shapes))[self.has_shape_of])]

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        """From which sizes and numbers of the inputs each element of the first output follows, in flat order.

        Asked for small outputs whose elements are known before the data. None if all may follow from everything.
        """
        return None

    # ---- what passes and planning ask -------------------------------------------------------------------------------

    def multiply_adds(self, node: Node) -> int:
        """Multiply-adds of a node whose variables have known shapes.

        Convolutions, matrix products, recurrent layers and attention count. Everything else is bound by memory, not by
        arithmetic, and counts as zero, as is usual when networks are compared.
        """
        return 0

    def folding_steps(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[TensorSpec]) -> int:
        """About how many elements ``compute`` works on, for loaders that fold constants and must not hang."""
        return sum(spec.size for spec in (*ins, *outs))

    def is_identity(self, node: Node) -> bool:
        """Whether the first output is the first input, given that their shapes and element types are the same."""
        return False

    def makes_non_negative(self, node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
        """Whether symmetric quantized results can never be negative.

        ``is_non_negative`` says it of the variables that the node reads.
        """
        return False

    def chooses_elements(self, node: Node) -> bool:
        """Whether each element of the result is one of the input, chosen by their order.

        In quantized numbers, the choice can be made among their integers.
        """
        return False

    def index_inputs(self, node: AnyNode) -> tuple[int, ...]:
        """Positions of the inputs that are nothing but indexes of the first one; it refuses those out of range."""
        return ()

    def divisor(self, node: AnyNode) -> AnyVar | None:
        """The input by which it divides: of integers by 0 there is no result that all programs agree on."""
        return None

    def float32_params(self, params: Any) -> Any:
        """The parameters for the same operator on float32 in place of float16."""
        return params

    # ---- in the original --------------------------------------------------------------------------------------------

    def original_label(self, node: AnyNode) -> str:
        """What the name of a node begins with that has none in the file."""
        return self.in_original.label or in_small_letters(self.name)

    def hidden_outputs(self, node: AnyNode) -> tuple[int, int]:
        """How many outputs the original has before and behind those that are numbered in files."""
        return 0, int(self.in_original.has_workspace)

    def original_uses(self, node: AnyNode) -> list[Use]:
        """What the original needs of each input."""
        n, first = len(node.inputs), self.in_original.numbers_from
        if first is not None:
            return [Use.CONTENT if k < first else Use.NUMBERS for k in range(n)]
        numbers = () if self.in_original.reads_when_run else self.needed_values(node)
        return [Use.NUMBERS if k in numbers else Use.CONTENT for k in range(n)]


class ElementwiseOperator(Operator):
    """An operator each element of whose one output follows from one element of each input."""

    has_shape_of = slice(None)
    keeps_samples = elementwise

    def number_origins(self, node: AnyNode, specs: Sequence[TensorSpec], known: KnownOrigins) -> NumberOrigins:
        return aligned_numbers([s.shape for s in specs], range(len(specs)))


class ProductOperator(Operator):
    """An operator that meets each element of an input with many of another."""

    def folding_steps(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[TensorSpec]) -> int:
        largest = sorted((spec.size for spec in (*ins, *outs)), reverse=True)
        return math.prod(largest[:2])


class DynamicOperator(Operator):
    """An operator whose output shapes may depend on data: ``infer`` may give a :class:`DynamicSpec`."""

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        raise NotImplementedError

    def counted_shape(self, ins: Sequence[TensorSpec], count: int) -> tuple[int, ...]:
        """The shape of an output that depends on data, if the data lead to ``count`` elements."""
        return (count,)


def operator_of(op: str) -> Operator:
    """The operator of that name. For a name that nobody registered, one with all defaults."""
    found = REGISTRY.get(op)
    if found is None:
        found = Operator()
        found.name = op
    return found


def compute_node(
    node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
) -> list[np.ndarray]:
    """The operator of a node in numpy; see :meth:`Operator.compute`."""
    operator = REGISTRY[node.op]
    if isinstance(operator, DynamicOperator):
        return operator.compute(node, ins, in_specs, out_specs)
    known = [spec for spec in out_specs if isinstance(spec, TensorSpec)]
    if len(known) != len(out_specs):
        raise InternalError(
            f"{label(node)}: an output has no shape, but the shapes of this operator do not depend on data"
        )
    return operator.compute(node, ins, in_specs, known)


def first_input_is_non_negative(node: Node, is_non_negative: Callable[[Var], bool]) -> bool:
    """For operators that keep signs: whether the first input, and so the result, can never be negative."""
    return not node.inputs[0].dtype.zero_point and is_non_negative(node.inputs[0])


P = ParamSpec("P")
T = TypeVar("T")


def quiet(function: Callable[P, T]) -> Callable[P, T]:
    """Function decorator: numpy gives no warnings about infinity and NaN inside of the function.

    Everything that computes with numbers of a model or its inputs is decorated: there they are results like any other.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with np.errstate(all="ignore"):  # as a decorator it is not safe between threads in all releases of numpy
            return function(*args, **kwargs)

    return call


def register(cls: type[Operator]) -> type[Operator]:
    """Class decorator: registers an operator under its name."""
    assert cls.name not in REGISTRY.imported(), f"operator {cls.name} is registered twice"
    compute = quiet(cls.compute)
    cls.compute = compute if cls.foreign else _flushing(compute)  # type: ignore[method-assign]  # what the decorator is for
    REGISTRY[cls.name] = cls()
    return cls


def _flushing(compute: Callable[..., list[np.ndarray]]) -> Callable[..., list[np.ndarray]]:
    """The function with denormal numbers taken as zeros."""

    @functools.wraps(compute)
    def flushing(*arguments: Any) -> list[np.ndarray]:
        mode = flush_denormals()
        try:
            return compute(*arguments)
        finally:
            restore_denormals(mode)

    return flushing


def fail(node: AnyNode, message: str) -> ShapeError:
    """A :class:`ShapeError` about a node, to be raised by the caller."""
    return ShapeError(f"{label(node)}: {message}")


def naming(node: AnyNode, function: Callable[..., T], *arguments: Any) -> T:
    """Calls ``function(*arguments)``, which computes with values of a model that may not fit together.

    Raises
    ------
    LiteError
        Any error; the message names the node. What numpy says of values and indexes is about the model. Any other
        exception is a fault of this package, an :class:`InternalError`: users' functions turn theirs into a
        :class:`LiteError` before.
    """
    try:
        return function(*arguments)
    except LiteError:
        raise
    except IndexError as error:
        raise LiteIndexError(f"{label(node)}: {_told(node, error)}") from error
    except Exception as error:
        if is_about_values(error):
            raise fail(node, _told(node, error)) from error
        raise _fault(node, error) from error


def is_about_values(error: Exception) -> bool:
    """Whether an error says that values or shapes do not fit together, as numpy says it, not that code is wrong.

    Where numpy refuses types it has classes of its own: no loop for them, no common type.
    """
    if isinstance(error, TypeError):
        return type(error).__module__.partition(".")[0] == "numpy"
    return isinstance(error, ValueError | ArithmeticError)


def _told(node: AnyNode, error: BaseException) -> str:
    """What an error says; those of numpy speak of arrays that the user does not know."""
    return str(error) if operator_of(node.op).foreign else "its inputs and parameters do not fit together"


def checked(node: AnyNode, function: Callable[..., T], *arguments: Any) -> T:
    """Calls ``function(*arguments)`` about a node; it checks the model itself, so any other error is our own fault."""
    try:
        return function(*arguments)
    except LiteError:
        raise
    except Exception as error:
        raise _fault(node, error) from error


def _fault(node: AnyNode, error: Exception) -> LiteError:
    if isinstance(error, MemoryError):
        return LiteMemoryError(f"{label(node)}: there is not enough memory")
    return _internal(node, f"{type(error).__name__}: {error}")


def _internal(node: AnyNode, message: str) -> InternalError:
    return own_fault(f"{label(node)}: {message}")


def label(node: AnyNode) -> str:
    """The operator and the name of a node, for messages."""
    return f"{node.op} {node.name!r}" if node.name else node.op


def check_results(node: AnyNode, arrays: Sequence[np.ndarray], specs: Sequence[Spec]) -> None:
    """Raises if the results of ``compute`` do not have the shapes and types that ``infer`` gave: our own fault."""
    if len(arrays) != len(specs):
        raise _internal(node, f"{len(specs)} outputs inferred, {len(arrays)} computed")
    for array, spec in zip(arrays, specs, strict=True):
        expected = spec.shape if isinstance(spec, TensorSpec) else array.shape
        if array.shape != expected or array.dtype != spec.dtype.storage:
            raise _internal(node, f"computed {array.dtype} {array.shape}, inferred {spec.dtype} {expected}")


def broadcast_shapes(node: AnyNode, shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The common shape of operands by numpy's rule."""
    if shapes.count(shapes[0]) == len(shapes):  # by far the most frequent case, and numpy's function is slow
        return shapes[0]
    try:
        return tuple(np.broadcast_shapes(*shapes))
    except ValueError:
        raise fail(node, f"operands of shapes {', '.join(map(str, shapes))} do not broadcast together") from None


def normalize_axis(node: AnyNode, axis: int, ndim: int) -> int:
    """A non-negative axis below ``ndim``."""
    if not -ndim <= axis < ndim:
        raise fail(node, f"axis {axis} is out of range for {ndim} dimensions")
    return axis % ndim
