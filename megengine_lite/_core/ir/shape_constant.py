"""Reshape nodes that passes make, whose target shapes are constants, and reshaped constants."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.ir.dtype import INT32
from megengine_lite._core.ir.graph import Constant, ConstantPool, Node, TensorSpec, Var
from megengine_lite._core.ir.params import OptionalAxisV1


def value_constant(value: np.ndarray) -> Constant:
    """A small constant that is known by its value."""
    value = np.asarray(value)
    return Constant(value, ("value", value.shape, value.dtype.str, value.tobytes()))


def reshape_node(source: Var, target: Var) -> Node:
    """``target`` as ``source`` in another shape; both have specs."""
    constant = value_constant(np.array(target.shape, np.int32))
    shape = Var(target.id, "", TensorSpec(constant.array.shape, INT32, constant.array), constant)
    return Node("Reshape", OptionalAxisV1(), [source, shape], [target])


def reshaped_constant(v: Var, shape: tuple[int, ...], pool: ConstantPool) -> Var:
    """A constant in another shape of as many elements."""
    constant = pool.derive(("reshape", shape), [v.constant], lambda a: a.reshape(shape))
    return Var(v.id, "", TensorSpec(shape, v.dtype), constant)
