"""Operators that a library of the user runs, through the C interface (see ``c_library``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import FLOAT16, FLOAT32, INT16, INT32, UINT8, DType
from megengine_lite._core.ir.graph import AnyNode, Spec, TensorSpec
from megengine_lite._core.operators.base import DynamicOperator, register
from megengine_lite._core.operators.c_library import TYPE_NAMES, Descriptor
from megengine_lite._core.operators.custom import BoundPayload, UserOperator, find_user_operator
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import LiteError, LiteTypeError, ModelFormatError

_TYPES = (FLOAT32, INT32, UINT8, FLOAT16, INT16)
_NUMBERS = {dtype: number for number, dtype in enumerate(_TYPES)}


class ExternPayload(tuple[bytes, ...]):
    """The stored name and data of an operator, and the descriptor that its loader made of them.

    Copies of a node hand it on, so the descriptor lives as long as any graph or plan that may still run it.
    """

    descriptor: Descriptor

    @classmethod
    def make(cls, payload: tuple[bytes, ...], n_inputs: int) -> ExternPayload:
        """Asks the loader; see :class:`Descriptor` for the errors."""
        if len(payload) != 2:
            raise ModelFormatError(f"ExternCOprRunner has {len(payload)} pieces of data, expected a name and data")
        made = cls(payload)
        made.descriptor = Descriptor(*payload, n_inputs)
        return made


@register
class ExternCOprRunner(DynamicOperator):
    """An operator known to a library only. It is opaque: always run, never folded, merged or given other layouts."""

    name = "ExternCOprRunner"
    foreign = True
    folds = False
    element_types = "float32, float16, int32, int16, uint8"

    def count_outputs(self, params: Any, n_inputs: int, payload: tuple[bytes, ...] = ()) -> int:
        user = _user_operator(payload)
        if user is not None:
            return user.count_outputs(params, n_inputs, payload)
        try:
            return int(ExternPayload.make(payload, n_inputs).descriptor.n_outputs)
        except LiteError:
            return 1  # loading the model to run it raises the error; looking at it needs no library

    def load_payload(self, payload: tuple[bytes, ...], n_inputs: int, n_outputs: int) -> tuple[bytes, ...]:
        user = _user_operator(payload)
        if user is not None:
            return BoundPayload.bind(payload, user)
        made = ExternPayload.make(payload, n_inputs)
        if made.descriptor.n_outputs != n_outputs:
            name = payload[0].decode(errors="replace")
            raise ModelFormatError(
                f"ExternCOprRunner {name!r}: the model has {n_outputs} outputs of it, its library "
                f"{made.descriptor.n_outputs}"
            )
        return made

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        if isinstance(node.payload, BoundPayload):
            return node.payload.operator.infer(node, ins)
        types = [_number(node, spec.dtype, f"input {i}") for i, spec in enumerate(ins)]
        results = _descriptor(node).infer([spec.shape for spec in ins], types)
        return [TensorSpec(shape, _TYPES[number]) for shape, number in results]

    def compute(
        self, node: AnyNode, ins: Sequence[np.ndarray], in_specs: Sequence[TensorSpec], out_specs: Sequence[Spec]
    ) -> list[np.ndarray]:
        if isinstance(node.payload, BoundPayload):
            return node.payload.operator.compute(node, ins, in_specs, out_specs)
        ins = [np.require(array, requirements=["C", "A"]) for array in ins]
        known = [spec for spec in out_specs if isinstance(spec, TensorSpec)]  # all, by inference
        outs = [_aligned_zeros(spec) for spec in known]
        _descriptor(node).execute(_described(node, ins, in_specs), _described(node, outs, known))
        return outs


def _user_operator(payload: tuple[bytes, ...]) -> UserOperator | None:
    """What the user registered in Python under the name of the loader, which comes before a library's."""
    if len(payload) != 2:
        return None
    name = bytes(payload[0])
    return find_user_operator(name if name.startswith(b":") else name.split(b":")[0])


def _described(
    node: AnyNode, arrays: Sequence[np.ndarray], specs: Sequence[TensorSpec]
) -> list[tuple[tuple[int, ...], int, int]]:
    """Shape, type number and address of arrays."""
    pairs = zip(arrays, specs, strict=True)
    return [(a.shape, _number(node, spec.dtype, "a tensor"), a.ctypes.data) for a, spec in pairs]


def _descriptor(node: AnyNode) -> Descriptor:
    payload = node.payload
    if not isinstance(payload, ExternPayload):  # of a model that was loaded only to be looked at
        payload = node.payload = ExternPayload.make(payload, len(node.inputs))
    return payload.descriptor


def _number(node: AnyNode, dtype: DType, what: str) -> int:
    try:
        return _NUMBERS[dtype]
    except KeyError:
        known = ", ".join(TYPE_NAMES)
        raise LiteTypeError(
            f"{node.op} {node.name!r}: {what} is {dtype}; libraries of operators take {known}"
        ) from None


def _aligned_zeros(spec: TensorSpec) -> np.ndarray:
    return np.frombuffer(memoryview(Storage(max(spec.nbytes, 1))), spec.dtype.storage, spec.size).reshape(spec.shape)
