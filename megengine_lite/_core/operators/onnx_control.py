"""Control flow with the rules of ONNX."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.ir import onnx_params
from megengine_lite._core.ir.expansion import Repetition
from megengine_lite._core.ir.graph import AnyNode, Spec, TensorSpec
from megengine_lite._core.operators.base import DynamicOperator, register
from megengine_lite.errors import InternalError


@register
class OnnxIf(DynamicOperator):
    """One of two graphs, by the truth of the first input; it takes the place of the node before that is inferred."""

    name = "OnnxIf"
    param = onnx_params.OnnxIf
    in_files = None
    value_inputs = (0,)
    folds = False

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        raise InternalError(f"{node.name!r} has not been replaced by a branch")


@register
class OnnxGraph(DynamicOperator):
    """A graph that depends on the shapes of the inputs; it takes the place of the node before that is inferred."""

    name = "OnnxGraph"
    param = onnx_params.OnnxGraph
    in_files = None
    folds = False

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        raise InternalError(f"{node.name!r} has not been replaced by its graph")


@register
class OnnxLoop(DynamicOperator):
    """A graph that runs again and again; the session runs it, as a stage of its own."""

    name = "OnnxLoop"
    param = Repetition
    in_files = None
    folds = False

    def infer(self, node: AnyNode, ins: Sequence[TensorSpec]) -> Sequence[Spec]:
        raise InternalError(f"{node.name!r} is no part of a stage")
