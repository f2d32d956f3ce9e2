"""What is known of the variables of a model before it runs, for any sizes that its inputs may have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.graph import AnyVar, Constant
from megengine_lite._records import field, record

Shape = tuple[int, ...]
Names = frozenset[str]
"""Names of dimensions of inputs that may change."""


@record(slots=True)
class KnownVar:
    """One variable.

    Attributes
    ----------
    dtype
        Its element type.
    shape
        Its shape for the inputs that the file describes.
    dims
        The same, but None for each dimension that changes with the sizes of the inputs.
    value
        Its value, if that is the same for all sizes of the inputs and follows from shapes or constants.
    constant
        Set for weights, and for what is computed from weights only.
    seen
        Its shapes for the sizes that were tried, the file's first.
    dims_follow, value_follows
        The dimensions of inputs with which each of its dimensions, and its value, change.
    """

    dtype: DType
    shape: Shape
    dims: tuple[int | None, ...]
    value: np.ndarray | None = None
    constant: Constant | None = None
    seen: tuple[Shape, ...] = ()
    dims_follow: tuple[Names, ...] = ()
    value_follows: Names = frozenset()


@record(slots=True)
class KnownShapes:
    """All variables of a graph of which something is known.

    Attributes
    ----------
    variables
        What is known of each; of a variable that is missing nothing is, until the model runs.
    sizes
        Shapes of the inputs, by name, that were tried; the file's first.
    free
        Dimensions that may change: name of an input and axis -> name of the dimension.
    """

    variables: Mapping[AnyVar, KnownVar]
    sizes: list[dict[str, Shape]]
    free: dict[tuple[str, int], str] = field(default_factory=dict)
