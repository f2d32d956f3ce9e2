"""What is in a prepared file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from megengine_lite._core.ir.declared_shape import OpenShape
from megengine_lite._core.ir.dtype import DType
from megengine_lite._records import record

if TYPE_CHECKING:
    import numpy as np

    Integers = np.ndarray[Any, np.dtype[np.int64]]

MAGIC = b"\x89MLPREP\n"
FORMAT_VERSION = 2
HEADER_BYTES = 64
PAGE = 4096
"""Where weights begin, and what follows them: kernels load whole vectors."""
NO_BASE = -1
"""The base of what is no pointer, and of a null pointer."""


@record
class PreparedInput:
    """An input of the model.

    Attributes
    ----------
    name, dtype
        Its name and element type.
    declared
        The shape that it has in the model.
    default
        The value that it has in the model, if any: its shape, and its bytes.
    """

    name: str
    dtype: DType
    declared: tuple[int, ...]
    default: tuple[tuple[int, ...], bytes] | None = None


@record
class PreparedOutput:
    """An output of the model.

    Attributes
    ----------
    name
        Its name.
    variable
        The number of its variable: first come the inputs, then all others. Several outputs may be one variable.
    dtype, declared
        Element type and shape for inputs of the declared shapes; None if they are not known before a run.
    """

    name: str
    variable: int
    dtype: DType | None
    declared: tuple[int, ...] | None


@record
class PreparedSlot:
    """An input or output of the plan.

    Attributes
    ----------
    variable
        Which variable it is.
    dtype, shape
        Its element type and shape.
    base
        The plan's number for its memory.
    """

    variable: int
    dtype: DType
    shape: tuple[int, ...]
    base: int


@record
class PreparedKernel:
    """A kernel that the plan calls.

    Attributes
    ----------
    module, name
        Where it is, and its name.
    arguments
        Name and kind of each argument (``"x:p y:p n:i"``), to be compared with those of the kernel here.
    """

    module: str
    name: str
    arguments: str


@record
class PreparedPlan:
    """A plan for fixed input shapes whose steps are all kernels.

    Bases 0, 1, ... are the arena and the slots; the last two are the weights and the flags of faults.

    Attributes
    ----------
    inputs, outputs
        The slots.
    arena_bytes, scratch_bytes
        Memory for intermediate results, and working memory of each thread.
    kernels
        The kernels that the steps call.
    steps
        Three numbers for each step: kernel, work, and whether it is serial.
    values, bases
        As in ``RecordTable``.
    faults
        The class of the error and its message for each flag, an int32.
    weights
        Bytes of all constants.
    """

    inputs: list[PreparedSlot]
    outputs: list[PreparedSlot]
    arena_bytes: int
    scratch_bytes: int
    kernels: list[PreparedKernel]
    steps: Integers
    values: Integers
    bases: Integers
    faults: list[tuple[str, str]]
    weights: Any


@record
class PreparedRecord:
    """A prepared file.

    Attributes
    ----------
    facts
        What the plan depends on, by name: versions, processor, options, the model. Values are compared as text.
    inputs
        In the order of the model's graph.
    input_names
        In the order of the API.
    outputs
        In the model's order.
    scalars, properties, open_shapes
        See ``LoadedModel``.
    plan
        The plan.
    """

    facts: dict[str, str]
    inputs: list[PreparedInput]
    input_names: list[str]
    outputs: list[PreparedOutput]
    scalars: list[str]
    properties: dict[str, str]
    open_shapes: dict[str, OpenShape | None]
    plan: PreparedPlan
