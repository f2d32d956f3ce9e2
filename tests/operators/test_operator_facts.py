"""Facts about operators stand on their classes: no lists of names elsewhere, and a default for each fact."""

import ast

import numpy as np
import pytest
from support.places import IN_CHECKOUT, ROOT

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, Node, TensorSpec, Var
from megengine_lite._core.operators import BUILT_IN, REGISTRY, Operator
from megengine_lite._core.operators import names as operator_names
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.facts import InFiles, InOriginal, Use
from megengine_lite._core.operators.reference import run_node
from megengine_lite._core.reports.original_names import type_name

SOURCES = sorted(
    p.relative_to(ROOT).as_posix()
    for folder in ("megengine_lite", "tools") * IN_CHECKOUT
    for p in (ROOT / folder).rglob("*.py")
    if "operators" not in p.parts
    # That one is made from the classes of parameters, which have names of operators.
    if p.parts[-2:] != ("params", "import_index.py")
)


def listed_names(part: ast.AST) -> set[str]:
    """Operators that a literal lists by name. Tables of functions for some operators are no facts about them."""
    if isinstance(part, ast.Set | ast.List | ast.Tuple):
        items = part.elts
    elif isinstance(part, ast.Dict) and all(isinstance(v, ast.Constant) for v in part.values):
        items = part.keys
    else:
        return set()
    names = {item.value for item in items if isinstance(item, ast.Constant) and isinstance(item.value, str)}
    return names & BUILT_IN.keys()


def lists_of(source: str) -> list[set[str]]:
    statements = [s for s in ast.parse(source).body if not is_export(s)]
    parts = (part for statement in statements for part in ast.walk(statement))
    return [names for part in parts if len(names := listed_names(part)) >= 3]


def is_export(statement: ast.stmt) -> bool:
    """Classes of parameters have names of operators."""
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__"


def test_lists_are_seen_in_all_forms():
    assert lists_of('FACT = frozenset({"Concat", "Split", "Reshape", "other"})') == [{"Concat", "Split", "Reshape"}]
    assert lists_of('FACT = {"Concat": 1, "Split": 2, "Reshape": 3}') == [{"Concat", "Split", "Reshape"}]
    assert lists_of('if node.op in ("Concat", "Split", "Reshape"): pass') == [{"Concat", "Split", "Reshape"}]
    assert lists_of('rewrites = {"Concat": one, "Split": two, "Reshape": three}') == []


@pytest.mark.parametrize("source", SOURCES)
def test_no_other_module_lists_operators_by_name(source):
    assert lists_of((ROOT / source).read_text()) == []


@pytest.fixture
def twice():
    """A registered operator that states nothing but its name and meaning."""

    class Twice(Operator):
        name = "TwiceAsMuch"

        def infer(self, node, ins):
            return [TensorSpec(ins[0].shape, ins[0].dtype)]

        def compute(self, node, ins, in_specs, out_specs):
            return [ins[0] * 2]

    REGISTRY["TwiceAsMuch"] = Twice()
    yield REGISTRY["TwiceAsMuch"]
    del REGISTRY["TwiceAsMuch"]


def test_every_fact_has_a_default(twice):
    spec = TensorSpec((2, 3), FLOAT32)
    node = Node("TwiceAsMuch", None, [Var(0, "a", spec), Var(1, "b", spec)], [Var(2, "y", spec)])
    assert twice.count_outputs(None, 2) == 1
    assert twice.multiply_adds(node) == 0
    assert not twice.is_identity(node)
    assert not twice.makes_non_negative(node, lambda v: True)
    assert twice.original_label(node) == "twice_as_much"
    assert twice.hidden_outputs(node) == (0, 1)
    assert twice.original_uses(node) == [Use.CONTENT, Use.CONTENT]
    assert type_name("TwiceAsMuch") == "TwiceAsMuch"
    assert (twice.in_files, twice.in_original) == (InFiles(), InOriginal())


def test_files_name_an_operator_that_states_no_names(twice):
    table = operator_names.TypeTable()
    assert table.find(operator_names.full_id("TwiceAsMuch")) == "TwiceAsMuch"
    assert table.find(0, "TwiceAsMuch") == "TwiceAsMuch"
    assert operator_names.registered_name("TwiceAsMuch") == "TwiceAsMuch"
    assert operator_names.count_outputs("TwiceAsMuch", None, 2) == 1


def test_nobodys_operator_has_all_defaults():
    assert operator_of("Relayout").name == "Relayout"
    assert operator_of("Relayout").in_original == InOriginal()
    assert type_name("Relayout") == "Relayout"
    assert type_name("Convolution") == "ConvolutionForward"


def test_what_moves_elements_keeps_them():
    """The fact lets a pass follow each element through such operators."""
    x = np.arange(24, dtype=np.int32).reshape(1, 4, 1, 6)
    cases = {
        "AxisAddRemove": (params.AxisAddRemove(), []),
        "Dimshuffle": (params.Dimshuffle(pattern=[3, 1, 2, 0]), []),
        "Reshape": (params.OptionalAxisV1(), [np.int32([4, 6])]),
        "Split": (params.Axis(axis=1), [np.int32([4])]),
        "Subtensor": (params.IndexDescMaskDump(), []),
    }
    assert {name for name, operator in BUILT_IN.items() if operator.moves_elements} == cases.keys()
    for name, (param, numbers) in cases.items():
        specs = [TensorSpec(a.shape, INT32, a) for a in (x, *numbers)]
        node = AnyNode(name, param, [AnyVar(k) for k in range(len(specs))], [AnyVar(9)])
        (result,) = run_node(node, specs)
        assert sorted(result.value.ravel()) == list(range(24)), name
