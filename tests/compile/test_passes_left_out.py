"""A pass is left out only where it would change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from generated.grammar import FAMILIES, make_case
from support.api_samples import DIGITS
from support.graphs import run, session_of
from support.places import TESTS

from megengine_lite import LiteNetwork
from megengine_lite._core.compile import passes
from megengine_lite._core.ir.describe import describe_graph
from megengine_lite._core.ir.graph import ConstantPool, Graph
from megengine_lite._core.system.late_import import LateFunction

SEEDS = range(2000, 2008)
MODELS = [DIGITS, *(TESTS / "models" / p for p in ("digits/digits_int8.mge", "api/cond_take.mge", "api/multi_io.mge"))]


@pytest.fixture
def left_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The names of passes that are left out. These are run all the same, and must not change the graph."""
    called: list[str] = []
    names: set[str] = set()

    class Noted(LateFunction):
        def __call__(self, *arguments: Any) -> Any:
            called.append(self.module)
            return super().__call__(*arguments)

    def checked(name: str, conditional: Any, graph: Graph, pool: ConstantPool) -> None:
        called.clear()
        conditional(graph, pool)
        if called:
            return
        names.add(name)
        graph.remove_dead()
        before = describe_graph(graph)
        takes_pool = conditional.args[-1]
        passes._run(name, set(), set(), takes_pool, graph, pool)
        assert describe_graph(graph) == before, name

    monkeypatch.setattr(passes, "LateFunction", Noted)
    for name, conditional in list(passes._ALL.items()):
        monkeypatch.setitem(passes._ALL, name, partial(checked, name, conditional))
    yield names


@pytest.mark.parametrize("family", FAMILIES)
def test_in_generated_graphs(left_out: set[str], family: str) -> None:
    for seed in SEEDS:
        case = make_case(family, seed)
        run(session_of(case.graph), **case.runs[0])
    assert left_out


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.stem)
def test_in_models(left_out: set[str], model: Path) -> None:
    network = LiteNetwork()
    network.load(str(model))
    network.forward()
    network.wait()
    assert left_out
