"""How operators treat the samples of a batch: rules for :attr:`Operator.keeps_samples`.

A rule is told for each operand how many of its rows, along the first axis, belong to a sample, or that it is COMMON:
the same for all samples. It says whether the rows of each sample in the results follow from the rows of that sample and
from what is common alone, whatever the number of samples. Shapes need no look but where they decide that.
"""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import ConvolutionFormat

COMMON = 0

_BATCH_FIRST = (ConvolutionFormat.NCHW, ConvolutionFormat.NHWC)


def never(operator: object, node: Node, rows: Sequence[int]) -> bool:
    """They depend on each other, or nobody has looked."""
    return False


def elementwise(operator: object, node: Node, rows: Sequence[int]) -> bool:
    """Operands broadcast: what is common may not have an extent along the first axis."""
    out = node.outputs[0].shape
    for v, m in zip(node.inputs, rows, strict=True):
        aligned = len(v.shape) == len(out)
        if m == COMMON and aligned and v.shape[0] != 1:
            return False
        if m != COMMON and (not aligned or v.shape[0] != out[0]):
            return False
    return any(m != COMMON for m in rows)


def first_only(operator: object, node: Node, rows: Sequence[int]) -> bool:
    """The first operand has samples, and no other one."""
    return rows[0] != COMMON and all(m == COMMON for m in rows[1:])


def with_format(operator: object, node: Node, rows: Sequence[int]) -> bool:
    """The first operand is images in a format whose first axis is that of images."""
    return first_only(operator, node, rows) and node.params.format in _BATCH_FIRST


def along_axis(operator: object, node: Node, rows: Sequence[int]) -> bool:
    """It works along an axis, which must be another one."""
    return first_only(operator, node, rows) and is_another_axis(node.params.axis, node)


def is_another_axis(axis: int, node: Node) -> bool:
    """Whether an axis of the first operand is not that of samples."""
    rank = len(node.inputs[0].shape)
    return 0 < (axis + rank if axis < 0 else axis) < rank
