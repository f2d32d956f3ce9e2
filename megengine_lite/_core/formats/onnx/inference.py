"""What is known of the values of a model while it is loaded: what follows from constants and declared shapes."""

from __future__ import annotations

from collections.abc import Sequence

from megengine_lite._core.formats.onnx.graph_values import MOST_FOLDED
from megengine_lite._core.ir.declared_shape import DeclaredShape
from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Spec, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.base import checked, naming
from megengine_lite._core.operators.reference import run_node
from megengine_lite._records import record
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

MOST_STEPS = 1 << 20
"""Elements that a node works on (see ``folding_steps``) which is computed while a model is loaded."""
ALL_STEPS = 1 << 21
"""The same for all nodes of a model together. What is beyond that stays in the graph."""
_STEPS_OF_NODE = 64  # what a node of a single element costs


@record(frozen=True, slots=True)
class Inferred:
    """What is known of a variable, and the inputs from whose declared shapes that follows."""

    spec: TensorSpec
    sources: frozenset[DeclaredShape] = frozenset()

    def trusted(self) -> TensorSpec:
        """The spec, for those who build on it: the inputs must have their declared sizes then."""
        for declared in self.sources:
            declared.trusted.update(range(len(declared.dims)))
        return self.spec


class Inference:
    """Infers shapes and small values, each when it is first asked for.

    Attributes
    ----------
    declared
        The shapes that the model gives its inputs.
    given
        Inputs whose shapes are known, because the graph is made for these.
    """

    def __init__(self) -> None:
        self.declared: dict[AnyVar, DeclaredShape] = {}
        self.given: dict[AnyVar, TensorSpec] = {}
        self._makers: dict[AnyVar, AnyNode] = {}
        self._found: dict[AnyVar, Inferred | None] = {}
        self._fixed: dict[AnyVar, bool] = {}
        self._steps = 0

    def add(self, node: AnyNode) -> None:
        """A node of the graph, from which its outputs can be inferred."""
        self._makers.update((v, node) for v in node.outputs)

    def find(self, var: AnyVar) -> Inferred | None:
        """What is known of a variable. Each is inferred once, and only those that somebody asks for."""
        known, waiting = self._found, [var]
        while waiting:
            v = waiting[-1]
            node = self._makers.get(v)
            missing = [] if node is None or v in known else [i for i in node.inputs if i not in known]
            if missing:
                waiting += missing
                continue
            waiting.pop()
            if v in known:
                continue
            if node is None:
                known[v] = self._start(v)
            else:
                known.update(zip(node.outputs, self._follow(node), strict=True))
        return known[var]

    def follows_from_shapes(self, var: AnyVar) -> bool:
        """Whether a variable has the same values in each run on inputs of the same shapes, if shapes do."""
        known, waiting = self._fixed, [var]
        while waiting:
            v = waiting[-1]
            node = self._makers.get(v)
            about_data = node is not None and node.op != "GetVarShape"
            missing = [i for i in node.inputs if i not in known] if node is not None and about_data else []
            if missing and v not in known:
                waiting += missing
                continue
            waiting.pop()
            if node is None or not about_data:
                known[v] = node is not None or v.const is not None
            else:
                operator = REGISTRY[node.op]
                known[v] = operator.folds and not operator.dynamic and all(known[i] for i in node.inputs)
        return known[var]

    def _start(self, var: AnyVar) -> Inferred | None:
        """What is known of a constant or an input."""
        if var in self.given:
            return Inferred(self.given[var])
        if not isinstance(var, Var):
            return None
        if var.const is not None:
            small = var.spec.size <= MOST_FOLDED
            return Inferred(TensorSpec(var.spec.shape, var.spec.dtype, var.const.array if small else None))
        declared = self.declared.get(var)
        fixed = declared is not None and declared.is_fixed
        return Inferred(var.spec, frozenset((declared,))) if declared is not None and fixed else None

    def _follow(self, node: AnyNode) -> list[Inferred | None]:
        """What is known of the outputs of a node."""
        nothing: list[Inferred | None] = [None] * len(node.outputs)
        found = [self._found[v] for v in node.inputs]
        ins = [f for f in found if f is not None]
        operator = REGISTRY[node.op]
        if len(ins) < len(found) or isinstance(node.params, Subgraphs):
            return nothing
        specs = [f.spec for f in ins]
        try:
            if any(specs[i].value is None for i in checked(node, operator.needed_values, node)):
                return nothing
            outs = checked(node, operator.infer, node, specs)
            if self._is_cheap(node, specs, outs) and all(s.value is not None for s in specs):
                outs = naming(node, run_node, node, specs, outs)
        except NOT_ABOUT_THE_MODEL:
            raise
        except LiteError:
            return nothing  # the run will tell
        sources = frozenset[DeclaredShape]().union(*(f.sources for f in ins))
        return [Inferred(s, sources) if isinstance(s, TensorSpec) else None for s in outs]

    def computed(self, node: AnyNode) -> Sequence[TensorSpec] | None:
        """The outputs of a node whose inputs are small constants, with their values; None for all others."""
        operator = REGISTRY[node.op]
        specs = []
        for var in node.inputs:
            if var.const is None or not isinstance(var, Var) or var.spec.size > MOST_FOLDED:
                return None
            specs.append(TensorSpec(var.spec.shape, var.spec.dtype, var.const.array))
        if not specs or not operator.folds or operator.dynamic:
            return None
        outs = checked(node, operator.infer, node, specs)
        if not self._is_cheap(node, specs, outs):
            return None
        return naming(node, run_node, node, specs, outs)

    def _is_cheap(self, node: AnyNode, ins: Sequence[TensorSpec], outs: Sequence[Spec]) -> bool:
        """Whether a node may be computed while the model is loaded; the steps are counted then."""
        operator = REGISTRY[node.op]
        known = [s for s in outs if isinstance(s, TensorSpec) and s.size <= MOST_FOLDED]
        if len(known) < len(outs) or not operator.folds or operator.dynamic:
            return False
        steps = _STEPS_OF_NODE + operator.folding_steps(node, ins, known)
        if steps > MOST_STEPS or self._steps + steps > ALL_STEPS:
            return False
        self._steps += steps
        return True
