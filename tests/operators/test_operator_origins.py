"""From which sizes and numbers of its inputs an operator says that its results follow, against what inference gives."""

import pytest
from support.onnx_cases import _array, cases, load, out_of_scope
from support.recorded import find_cases, read_case

from megengine_lite._core.compile.infer import infer_stage
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import ConstantPool, Node, TensorSpec, Var
from megengine_lite._core.operators.base import Operator, operator_of
from megengine_lite._core.operators.origins import Number, Size
from megengine_lite.errors import LiteError

pytestmark = pytest.mark.filterwarnings("ignore")
CHANGES = (lambda n: n + 1, lambda n: n + 2, lambda n: n + 3, lambda n: 2 * n, lambda n: max(n // 2, 1))


def nodes_of(model, shapes):
    """The nodes of the first stage, with known shapes."""
    known = {v: TensorSpec(shapes.get(v.name, v.shape), v.dtype) for v in model.graph.inputs}
    try:
        stage = infer_stage(model.graph, 0, known, ConstantPool())
    except Exception:  # it begins with something else than a stage
        return []
    return [node for node in stage.graph.nodes if isinstance(node, Node)]


def spec_of(var: Var) -> TensorSpec:
    return TensorSpec(var.shape, var.dtype, None if var.const is None else var.const.array)


def changed(specs):
    """Specs of which one size differs, or one known number; and the origin that differs."""
    for k, spec in enumerate(specs):
        for axis, size in enumerate(spec.shape):
            for change in CHANGES:
                if spec.value is None and (other := change(size)) != size:
                    shape = (*spec.shape[:axis], other, *spec.shape[axis + 1 :])
                    yield Size(k, axis), [*specs[:k], TensorSpec(shape, spec.dtype), *specs[k + 1 :]]
        if spec.value is not None and spec.size <= 16 and spec.value.dtype.kind in "iuf":
            for place in range(spec.size):
                for change in (lambda n: n + 1, lambda n: n - 1, lambda n: 2 * n):
                    value = spec.value.copy()
                    value.reshape(-1)[place] = change(value.reshape(-1)[place])
                    yield Number(k, place), [*specs[:k], TensorSpec(spec.shape, spec.dtype, value), *specs[k + 1 :]]


def wrong_origins(node) -> list[str]:
    """What changes though it does not follow, by what the operator says."""
    operator = operator_of(node.op)
    specs = [spec_of(v) for v in node.inputs]
    origins = operator.shape_origins(node, [s.shape for s in specs])
    if origins is None:
        return []
    first, found = operator.infer(node, specs), []
    assert len(origins) == len(first), node
    for origin, other in changed(specs):
        try:
            second = operator.infer(node, other)
        except LiteError:
            continue
        for said, one, two in zip(origins, first, second, strict=True):
            if said is None:
                continue
            pairs = zip(said, one.shape, two.shape, strict=True)
            found += [
                f"{node}: axis {axis} from {origin}"
                for axis, (o, a, b) in enumerate(pairs)
                if a != b and origin not in o
            ]
    return found


def says(operator: Operator) -> bool:
    return operator.has_shape_of is not None or type(operator).shape_origins is not Operator.shape_origins


def test_sizes_of_recorded_operators_follow_from_what_they_say():
    found, seen = [], set()
    for family, case in find_cases():
        model, inputs, _ = read_case(family, case)
        for node in nodes_of(load_model(model), {k: v.shape for k, v in inputs.items()}):
            if says(operator_of(node.op)):
                seen.add(node.op)
                found += wrong_origins(node)
    assert found == []
    assert {"ConvBiasForward", "ConvolutionBackwardData", "Pooling", "TypeCvt"} <= seen


PARTS = 8


@pytest.mark.parametrize("part", range(PARTS))
def test_sizes_of_onnx_operators_follow_from_what_they_say(part):
    left_out, found, seen = out_of_scope(), [], set()
    names = [name for name in cases() if name not in left_out and cases()[name].model is not None]
    for name in names[part::PARTS]:
        model = load(cases()[name])
        inputs = zip(model.graph.inputs, cases()[name].data_sets[0][0], strict=True)
        for node in nodes_of(model, {v.name: _array(x).shape or (1,) for v, x in inputs}):
            if says(operator_of(node.op)):
                seen.add(node.op)
                found += wrong_origins(node)
    assert found == []
    assert len(seen) > 8
