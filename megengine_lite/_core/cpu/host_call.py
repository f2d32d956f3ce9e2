"""Runs a Python step: the operator's definition, on views of the memory that a plan has bound."""

from __future__ import annotations

import numpy as np

from megengine_lite._core.cpu.program import Program, array_at
from megengine_lite._core.cpu.steps import HostStep, Tensor
from megengine_lite._core.operators.base import check_results, compute_node, naming


class _Place:
    """A plain tensor of a plan, as an array that is made anew only if its memory has moved."""

    __slots__ = ("_address", "_array", "_base", "_offset", "_tensor")

    def __init__(self, tensor: Tensor):
        self._tensor = tensor
        self._base, self._offset = tensor.ref.address()
        self._address = -1
        self._array: np.ndarray | None = None

    def array(self, program: Program) -> np.ndarray:
        """A view; valid while the bases are bound as they are."""
        base = self._base
        address = self._offset if base < 0 else program.base(base) + self._offset
        if self._array is None or address != self._address:
            self._array, self._address = array_of(self._tensor, address), address
        return self._array.view()  # an operator may be a user's, and change the shape of what it gets


def array_of(tensor: Tensor, address: int) -> np.ndarray:
    """A plain tensor at an address."""
    spec = tensor.spec
    if spec.size == 0:
        return np.empty(tensor.shape, spec.dtype.storage)
    return np.frombuffer(array_at(address, spec.nbytes), spec.dtype.storage).reshape(tensor.shape)


class HostCall:
    """A Python step of a plan whose memory has been assigned."""

    __slots__ = ("_inputs", "_outputs", "_specs", "step")

    def __init__(self, step: HostStep):
        node = step.node
        self.step = step
        self._specs = [v.spec for v in node.inputs], [v.spec for v in node.outputs]
        self._inputs = [_Place(t) for t in step.inputs]
        self._outputs = [None if t is None or not t.spec.size else _Place(t) for t in step.outputs]

    def run(self, program: Program) -> list[np.ndarray]:
        """Computes the outputs and writes those that have memory there; returns all of them."""
        node, (specs, out_specs) = self.step.node, self._specs
        inputs = [place.array(program) for place in self._inputs]
        results = naming(node, compute_node, node, inputs, specs, out_specs)
        check_results(node, results, out_specs)
        for place, value in zip(self._outputs, results, strict=True):
            if place is not None:
                np.copyto(place.array(program), value)
        return results
