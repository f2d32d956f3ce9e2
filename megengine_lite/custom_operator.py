"""Operators of your own: run models that contain operators which this package does not know.

A model can contain three kinds of operators that are not part of this package: unknown types, MegEngine's custom
operators (``CustomOpNode``), and operators of C libraries (``ExternCOprRunner``, see
:meth:`~megengine_lite.global_setting.LiteGlobal.set_loader_lib_path`). The name of each is looked up among those that
:func:`register_operator` has registered. Register before loading the model.

Examples
--------
A model that has a custom operator ``Scale``, whose parameter is one float:

>>> import struct
>>> import numpy as np
>>> from megengine_lite.custom_operator import TensorInfo, register_operator, unregister_operator
>>> @register_operator("Scale", infer=lambda op, inputs: inputs[0])
... def scale(op, inputs):
...     (factor,) = struct.unpack("<f", op.data)
...     return inputs[0] * np.float32(factor)
>>> unregister_operator("Scale")

An operator with two outputs, one of them of another shape:

>>> def infer_peak(op, inputs):
...     rows = TensorInfo(inputs[0].shape[:1], inputs[0].dtype)
...     return [rows, TensorInfo(rows.shape, np.dtype(np.int32))]
>>> @register_operator("Peak", infer=infer_peak, outputs=2)
... def peak(op, inputs):
...     flat = inputs[0].reshape(len(inputs[0]), -1)
...     return flat.max(axis=1), flat.argmax(axis=1).astype(np.int32)
>>> unregister_operator("Peak")
"""

from __future__ import annotations

from collections.abc import Callable

from megengine_lite._core.operators.custom import (
    MOST_OUTPUTS,
    ComputeFunction,
    InferFunction,
    OperatorInfo,
    TensorInfo,
    UserOperator,
    add_user_operator,
    remove_user_operator,
)
from megengine_lite._core.operators.sources import CONSTANTS, INPUT
from megengine_lite.errors import LiteTypeError, LiteValueError, brief

__all__ = ["OperatorInfo", "TensorInfo", "register_operator", "unregister_operator"]

_STANDARD = "ai.onnx."


def register_operator(
    type_name: str, *, infer: InferFunction, outputs: int | Callable[[OperatorInfo], int] = 1
) -> Callable[[ComputeFunction], ComputeFunction]:
    """Decorator: the function below runs all operators of this type in models that are loaded from now on.

    Parameters
    ----------
    type_name : str
        The name in the model: of the operator's type, of the custom operator, or of the loader of a C library (the part
        before the first colon); in ONNX models the domain, a dot and the type. A name that is registered here takes
        precedence over a C library's, but not over operators that are read from ONNX models: a model that has one of
        this name is loaded with a :class:`LiteWarning <megengine_lite.errors.LiteWarning>`.
    infer : callable
        ``infer(op, inputs)`` gives a :class:`TensorInfo`, or a sequence of them, for the outputs. ``op`` is an
        :class:`OperatorInfo`, ``inputs`` a list of :class:`TensorInfo`, with None for inputs that an ONNX model leaves
        out. It is called when a network meets new input
        shapes, and raises an error if it cannot take the inputs.
    outputs : int or callable, default 1
        Number of outputs, or ``outputs(op)`` that gives it.

    Returns
    -------
    callable
        A decorator for the kernel, which it gives back unchanged. ``kernel(op, inputs)`` gets numpy arrays in the
        memory of the network: they are read-only and must not be kept after the call. It gives an array, or a sequence
        of arrays, with the shapes and types that ``infer`` has promised. It must depend on its arguments only: with
        constant inputs it is run once. The numbers of bfloat16 come as float32, and results that ``infer`` promises
        with ``TensorInfo(..., bfloat16=True)`` are given as float32, or as arrays of the package ml_dtypes.

    Raises
    ------
    LiteValueError
        The name belongs to an operator of this package, is registered already, or begins with ``"ai.onnx."``, the
        domain that needs no name.
    LiteTypeError
        An argument has a wrong type; ``infer`` is not a function, for example.

    Notes
    -----
    The kernel runs in the thread that runs the network, with Python's lock. An exception in it becomes a
    :class:`~megengine_lite.errors.LiteError` with the exception as its cause. It can run other models, but not the one
    that it is a part of.
    """
    if not isinstance(type_name, str):
        raise LiteTypeError(f"type_name must be a str, is {type(type_name).__name__}")
    if type_name == INPUT or type_name in CONSTANTS:
        raise LiteValueError(f"{type_name} holds the model's inputs or weights; the loader reads it itself")
    if type_name.startswith(_STANDARD) and "." not in type_name.removeprefix(_STANDARD):
        raise LiteValueError(f"the domain ai.onnx needs no name: register {type_name.removeprefix(_STANDARD)!r}")
    if not callable(infer):
        raise LiteTypeError(f"infer must be a function, is {type(infer).__name__}")
    if not callable(outputs):
        if not isinstance(outputs, int) or isinstance(outputs, bool):
            raise LiteTypeError(f"outputs must be a number or a function, is {type(outputs).__name__}")
        if not 1 <= outputs <= MOST_OUTPUTS:
            raise LiteValueError(f"an operator has 1 to {MOST_OUTPUTS} outputs, not {brief(outputs)}")

    def decorate(kernel: ComputeFunction) -> ComputeFunction:
        if not callable(kernel):
            raise LiteTypeError(f"the kernel must be a function, is {type(kernel).__name__}")
        add_user_operator(UserOperator(type_name, infer, kernel, outputs))
        return kernel

    return decorate


def unregister_operator(type_name: str) -> None:
    """Removes an operator. Networks that use it must not be run at new input shapes any more.

    Raises
    ------
    LiteValueError, LiteTypeError
        No operator of this name is registered, or the argument is not a name.
    """
    if not isinstance(type_name, str):
        raise LiteTypeError(f"type_name must be a str, is {type(type_name).__name__}")
    remove_user_operator(type_name)
