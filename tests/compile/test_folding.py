"""What follows from constants and shapes is computed once, while planning, as far as the budget goes."""

import numpy as np
import pytest
from support.graphs import GraphBuilder, run, session_of

from megengine_lite._core.compile import infer
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, Empty

ROWS = np.linspace(-1, 1, 300, dtype=np.float32).reshape(300, 1)
COLUMNS = np.linspace(0, 3, 200, dtype=np.float32)


def outer(builder, mode=ElemwiseMode.SUB):
    """A large tensor of two small constants."""
    return builder.node("Elemwise", Elemwise(mode=mode), [builder.constant(ROWS), builder.constant(COLUMNS)])


def steps_of(session):
    return [step.origin.op for step in session.run_profiled()]


def built(make):
    builder = GraphBuilder()
    x = builder.input("x", (300, 200), FLOAT32)
    inner = make(builder)
    return session_of(builder.finish(builder.node("Elemwise", Elemwise(mode=ElemwiseMode.MUL), [x, inner])))


def sines(builder):
    return builder.node("Elemwise", Elemwise(mode=ElemwiseMode.SIN), [outer(builder)])


def test_large_values_of_small_constants_are_folded():
    session = built(sines)
    x = np.random.default_rng(0).standard_normal((300, 200)).astype(np.float32)
    (y,) = run(session, x=x)
    np.testing.assert_allclose(y, x * np.sin(ROWS - COLUMNS), rtol=2e-6, atol=1e-6)
    assert steps_of(session) == ["FusedElemwise"]
    assert session.memory_usage()["weights"] > 4 * x.size


@pytest.mark.parametrize("name, number", [("FOLD_STEPS", 60_000), ("FOLD_LARGE", 59_999)])
def test_what_is_beyond_the_budget_runs(name, number, monkeypatch):
    monkeypatch.setattr(infer, name, number)
    session = built(sines)
    x = np.ones((300, 200), np.float32)
    (y,) = run(session, x=x)
    np.testing.assert_allclose(y, np.sin(ROWS - COLUMNS), rtol=2e-6, atol=1e-6)
    assert session.memory_usage()["weights"] < 10_000


def test_what_only_repeats_constants_runs():
    def repeated(builder):
        return builder.node("Broadcast", Empty(), [builder.constant(COLUMNS), builder.constant(np.int32([300, 200]))])

    session = built(repeated)
    (y,) = run(session, x=np.ones((300, 200), np.float32))
    np.testing.assert_array_equal(y, np.broadcast_to(COLUMNS, (300, 200)))
    assert session.memory_usage()["weights"] < 10_000
