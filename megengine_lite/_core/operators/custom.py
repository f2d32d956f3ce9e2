"""Operators that users define in Python (public in :mod:`megengine_lite.custom_operator`).

A table has the users' operators by name. Three kinds of operators in files are looked up there: types that this package
does not know (they are also added to the registry of operators), ``CustomOpNode`` (by the name that it stores) and
``ExternCOprRunner`` (by the name of its loader). A loaded node of the latter two refers to its operator, so removing a
name from the table does not affect models that are loaded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT64, INT64, UINT32, UINT64, DType, DTypeCode, from_numpy
from megengine_lite._core.ir.graph import AnyNode, DynamicSpec, Spec, TensorSpec
from megengine_lite._core.ir.onnx_params import OnnxAttributes
from megengine_lite._core.ir.params import Param
from megengine_lite._core.ir.quantize import from_float32, to_float32
from megengine_lite._core.operators.base import DynamicOperator, fail, label, register
from megengine_lite._core.operators.facts import InFiles
from megengine_lite._core.operators.names import canonical_name
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite._records import record
from megengine_lite.errors import (
    LiteError,
    LiteTypeError,
    LiteValueError,
    ModelFormatError,
    UnsupportedOperatorError,
    brief,
)

T = TypeVar("T")

_C = DTypeCode
# Storage type and whether there is a zero point -> quantized type.
_QUANTIZED = {
    (np.dtype(np.int8), False): _C.QUANTIZED_S8,
    (np.dtype(np.int16), False): _C.QUANTIZED_S16,
    (np.dtype(np.int32), False): _C.QUANTIZED_S32,
    (np.dtype(np.uint8), True): _C.QUANTIZED8_ASYMM,
}
_ONLY_IN_ONNX = {dtype.storage: dtype for dtype in (INT64, UINT32, UINT64, FLOAT64)}
_BFLOAT16 = DType(_C.BFLOAT16)
_OF_ML_DTYPES = "bfloat16"
"""What the package ml_dtypes calls its type of bfloat16."""
_PAYLOAD_OF_CUSTOM_NODE = 3
MOST_OUTPUTS = 4096


@record(frozen=True, slots=True)
class TensorInfo:
    """Shape and type of an input or output of a user's operator.

    Attributes
    ----------
    shape
        Sizes; None for an output whose shape is known only after it is computed. Scalars of ONNX models have none, and
        are arrays without dimensions for the kernel.
    dtype
        Type of one element in memory.
    scale
        Of quantized tensors: the real value is ``(q - zero_point) * scale``. None for all others.
    zero_point
        Of quantized tensors in uint8; None for all others.
    bfloat16
        The tensor is bfloat16 in the model, which numpy does not have: kernels get and give its numbers as float32,
        and ``dtype`` is that. Results are rounded.
    """

    shape: tuple[int, ...] | None
    dtype: np.dtype
    scale: float | None = None
    zero_point: int | None = None
    bfloat16: bool = False


@record(frozen=True, slots=True)
class OperatorInfo:
    """The description of one operator in a model file.

    Attributes
    ----------
    type_name
        The name under which the user's operator was found.
    name
        The operator's own name in the graph, may be empty.
    data
        The bytes that were stored with the operator: its parameters, in the form that their writer chose.
    params
        Fields of the stored parameter table, if the operator has one that is known; in ONNX models the attributes:
        numbers, texts, arrays, and lists of numbers or texts.
    n_inputs
        Number of inputs; in ONNX models with those that are left out.
    """

    type_name: str
    name: str
    data: bytes
    params: dict[str, Any]
    n_inputs: int


# Elements of the lists are None for inputs that an ONNX model leaves out. Their type is Any, since most have no such.
InferFunction = Callable[[OperatorInfo, list[Any]], "TensorInfo | Sequence[TensorInfo]"]
ComputeFunction = Callable[[OperatorInfo, list[Any]], "np.ndarray | Sequence[np.ndarray]"]


@record(frozen=True, slots=True)
class UserOperator:
    """Name and functions of a user's operator; works like an :class:`Operator` on nodes that it is bound to."""

    type_name: str
    infer_function: InferFunction
    compute_function: ComputeFunction
    outputs: int | Callable[[OperatorInfo], int]

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...]) -> int:
        if not callable(self.outputs):
            return self.outputs
        info = OperatorInfo(self.type_name, "", _data(payload), _fields(params), n_inputs)
        made = self._call(self.outputs, "outputs", info)
        count = to_integer(made, f"what outputs of the custom operator {self.type_name!r} returns")
        if not 1 <= count <= MOST_OUTPUTS:
            raise LiteValueError(
                f"outputs of the custom operator {self.type_name!r} returned {count}; an operator has 1 to "
                f"{MOST_OUTPUTS} outputs"
            )
        return count

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[Spec]:
        promised = self.promised(node, ins)
        params = node.params
        if isinstance(params, OnnxAttributes):
            for (_, is_scalar), before in zip(promised, params.scalar_outputs, strict=True):
                if is_scalar != before:
                    now, then = ("a scalar", "none") if is_scalar else ("no scalar", "one")
                    raise fail(node, f"infer of {self.type_name!r} gave {now}, and {then} when the model was loaded")
        return [spec for spec, _ in promised]

    def promised(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[tuple[Spec, bool]]:
        """What ``infer`` gives of the outputs, and whether they are scalars."""
        given = [_tensor_info(spec, is_scalar) for spec, is_scalar in zip(ins, _scalar_inputs(node), strict=True)]
        made = self._call(self.infer_function, "infer", self._info(node), _all_inputs(node, given))
        infos = self._several(node, "infer", made, TensorInfo, "a TensorInfo or a sequence of them")
        if len(infos) != len(node.outputs):
            raise fail(node, f"infer of {self.type_name!r} gave {len(infos)} outputs, the file has {len(node.outputs)}")
        return [self._spec(node, info) for info in infos]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        inputs = []
        for array, given, is_scalar in zip(ins, in_specs, _scalar_inputs(node), strict=True):
            view = to_float32(array, given.dtype) if given.dtype == _BFLOAT16 else array.view()
            view = view.reshape(()) if is_scalar else view
            view.flags.writeable = False
            inputs.append(view)
        made = self._call(self.compute_function, "the kernel", self._info(node), _all_inputs(node, inputs))
        several = self._several(node, "the kernel", made, np.ndarray | np.generic, "an array or a sequence of arrays")
        arrays = [self._call(np.asarray, "the kernel", a) for a in several]
        if len(arrays) != len(out_specs):
            raise fail(node, f"the kernel of {self.type_name!r} gave {len(arrays)} outputs, expected {len(out_specs)}")
        for k, (array, spec) in enumerate(zip(arrays, out_specs, strict=True)):
            shape = spec.shape if isinstance(spec, TensorSpec) else None
            if isinstance(node.params, OnnxAttributes) and node.params.scalar_outputs[k]:
                shape = ()
            dtype = np.dtype(np.float32) if spec.dtype == _BFLOAT16 else spec.dtype.storage
            if spec.dtype == _BFLOAT16 and array.dtype.name == _OF_ML_DTYPES:
                array = array.astype(dtype)
            if array.dtype != dtype or shape not in (None, array.shape):
                raise fail(
                    node,
                    f"the kernel of {self.type_name!r} gave {array.dtype} {array.shape}, "
                    f"its infer promised {dtype} {shape}",
                )
            array = array.reshape(1) if shape == () else array  # as the graph has it
            arrays[k] = from_float32(array, _BFLOAT16) if spec.dtype == _BFLOAT16 else array
        return arrays

    def _several(self, node: AnyNode, what: str, made: Any, one: Any, expected: str) -> list[Any]:
        """What a function of the user returned, as a list."""
        if isinstance(made, one):
            return [made]
        if isinstance(made, Iterable) and not isinstance(made, str | bytes | Mapping | Set):
            return list(self._call(lambda: [*made], what))  # a generator is the user's function, too
        forgotten = "; is there no return?" if made is None else ""
        raise LiteTypeError(
            f"{label(node)}: {what} of {self.type_name!r} returned {brief(made)}, expected {expected}{forgotten}"
        )

    def _spec(self, node: AnyNode, info: Any) -> tuple[Spec, bool]:
        """The spec that ``infer`` has promised, and whether that is a scalar."""
        if not isinstance(info, TensorInfo):
            raise LiteTypeError(
                f"{label(node)}: infer of {self.type_name!r} must give TensorInfo objects, gave {brief(info)}"
            )
        shape = None if info.shape is None else _to_shape(node, info.shape)
        is_scalar = shape == ()
        try:
            spec = _tensor_spec(info, (1,) if is_scalar else shape, isinstance(node.params, OnnxAttributes))
        except (KeyError, TypeError, ValueError, OverflowError):
            raise LiteTypeError(
                f"{label(node)}: infer of {self.type_name!r} gave {brief(info)}; there are no tensors like that"
            ) from None
        return spec, is_scalar

    def _info(self, node: AnyNode) -> OperatorInfo:
        n_inputs = len(_all_inputs(node, node.inputs))
        return OperatorInfo(self.type_name, node.name, _data(node.payload), _fields(node.params), n_inputs)

    def _call(self, function: Callable[..., Any], what: str, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except LiteError:
            raise
        except Exception as error:
            raise LiteError(
                f"{what} of the custom operator {self.type_name!r} raised {type(error).__name__}: {error}"
            ) from error


def _data(payload: tuple[bytes, ...]) -> bytes:
    return bytes(payload[-1]) if payload else b""


def _all_inputs(node: AnyNode, inputs: Iterable[T]) -> list[T | None]:
    """Inputs of a node in their places; None for those that an ONNX model leaves out."""
    if not isinstance(node.params, OnnxAttributes):
        return list(inputs)
    there = iter(inputs)
    return [next(there) if given else None for given in node.params.given]


def _scalar_inputs(node: AnyNode) -> Sequence[bool]:
    """Of each input of a node whether the model has a scalar there."""
    return node.params.scalar_inputs if isinstance(node.params, OnnxAttributes) else [False] * len(node.inputs)


def _fields(params: Any) -> dict[str, Any]:
    return params.values() if isinstance(params, Param | OnnxAttributes) else {}


def _tensor_info(spec: TensorSpec, is_scalar: bool) -> TensorInfo:
    dtype, shape = spec.dtype, () if is_scalar else spec.shape
    if dtype == _BFLOAT16:
        return TensorInfo(shape, np.dtype(np.float32), bfloat16=True)
    if not dtype.is_quantized:
        return TensorInfo(shape, dtype.storage)
    return TensorInfo(shape, dtype.storage, dtype.scale, dtype.zero_point if "ASYMM" in dtype.code.name else None)


def _to_shape(node: AnyNode, shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, Iterable):
        raise LiteTypeError(f"{label(node)}: infer gave the shape {brief(shape)}, which is no sequence of integers")
    sizes = [to_integer(d, f"{label(node)}: a size that infer gave") for d in shape]
    least = 0 if isinstance(node.params, OnnxAttributes) else 1
    if not least <= len(sizes) <= MAX_NDIM or min(sizes, default=0) < 0:
        raise fail(node, f"infer gave the shape {tuple(sizes)}, which no tensor can have")
    return tuple(sizes)


def _tensor_spec(info: TensorInfo, shape: tuple[int, ...] | None, of_onnx: bool) -> Spec:
    storage = np.dtype(info.dtype)
    if storage.name == _OF_ML_DTYPES or info.bfloat16:
        if info.scale is not None or (storage.name != _OF_ML_DTYPES and storage != np.float32):
            raise ValueError("the numbers of bfloat16 are float32")
        dtype = _BFLOAT16
    elif info.scale is None:
        dtype = _ONLY_IN_ONNX[storage] if of_onnx and storage in _ONLY_IN_ONNX else from_numpy(storage)
    else:
        scale = float(np.float32(info.scale))
        if not 0 < scale < math.inf:
            raise ValueError(f"{scale} is no scale")
        dtype = DType(_QUANTIZED[storage, info.zero_point is not None], scale, info.zero_point or 0)
    return DynamicSpec(dtype) if shape is None else TensorSpec(shape, dtype)


class BoundPayload(tuple[bytes, ...]):
    """The stored data of a node, and the user's operator that runs it."""

    operator: UserOperator

    @classmethod
    def bind(cls, payload: tuple[bytes, ...], operator: UserOperator) -> BoundPayload:
        bound = cls(payload)
        bound.operator = operator
        return bound


_USER_OPERATORS: dict[str, UserOperator] = {}


def find_user_operator(name: bytes | str) -> UserOperator | None:
    """The operator that a user registered under a name, if any."""
    text = name.decode("utf-8", "replace") if isinstance(name, (bytes, bytearray, memoryview)) else name
    return _USER_OPERATORS.get(text)


class _UnknownType(DynamicOperator):
    """A serialized type that only the user knows, in the registry."""

    def __init__(self, operator: UserOperator):
        self.operator = operator
        self.name = canonical_name(operator.type_name)
        self.types = (operator.type_name,)

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        return self.operator.count_outputs(params, n_inputs, payload)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[Spec]:
        return self.operator.infer(node, ins)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        return self.operator.compute(node, ins, in_specs, out_specs)


def add_user_operator(operator: UserOperator) -> None:
    """Makes a user's operator known to all models that are loaded from now on."""
    name = operator.type_name
    if not name:
        raise LiteValueError("an operator needs a name")
    if name in _USER_OPERATORS:
        raise LiteValueError(f"the operator {name!r} is registered already; unregister it before")
    if canonical_name(name) in REGISTRY:
        raise LiteValueError(f"the operator {name!r} is part of this package and cannot be replaced")
    _USER_OPERATORS[name] = operator
    REGISTRY[canonical_name(name)] = _UnknownType(operator)


def remove_user_operator(name: str) -> None:
    """The reverse of :func:`add_user_operator`."""
    if name not in _USER_OPERATORS:
        raise LiteValueError(f"no operator {name!r} was registered")
    del _USER_OPERATORS[name]
    del REGISTRY[canonical_name(name)]


@register
class CustomOpNode(DynamicOperator):
    """An operator of a user, written by MegEngine's own interface for custom operators.

    It stores the name of the operator, a number and the bytes of its parameters.
    """

    name = "CustomOpNode"
    foreign = True
    in_files = InFiles(record_version=2)
    folds = False
    element_types = "by its function"

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        operator = find_user_operator(payload[0]) if payload else None
        return 1 if operator is None else operator.count_outputs(params, n_inputs, payload)

    def load_payload(self, payload: tuple[bytes, ...], n_inputs: int, n_outputs: int) -> BoundPayload:
        if len(payload) != _PAYLOAD_OF_CUSTOM_NODE:
            raise ModelFormatError(f"CustomOpNode has {len(payload)} pieces of data, expected name, number, parameters")
        operator = find_user_operator(payload[0])
        if operator is None:
            name = bytes(payload[0]).decode("utf-8", "replace")
            raise UnsupportedOperatorError(
                f"the model uses the custom operator {name!r}; define it with megengine_lite.register_operator"
            )
        return BoundPayload.bind(payload, operator)

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> list[Spec]:
        return self._operator(node).infer(node, ins)

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        return self._operator(node).compute(node, ins, in_specs, out_specs)

    def _operator(self, node: AnyNode) -> UserOperator:
        payload = node.payload
        if not isinstance(payload, BoundPayload):  # of a model that was loaded only to be looked at
            payload = node.payload = self.load_payload(payload, len(node.inputs), len(node.outputs))
        return payload.operator
