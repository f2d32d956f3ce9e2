"""What a plan leaves behind: nothing of the state that made it."""

import gc

import pytest
from generated.grammar import FAMILIES, make_case
from support.graphs import session_of

from megengine_lite._core.cpu.lowering import Lowering

SEEDS = range(7000, 7012)


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_keeps_the_state_of_lowering(family):
    sessions = []
    for seed in SEEDS:
        case = make_case(family, seed)
        session = session_of(case.graph)
        for name, value in case.runs[0].items():
            session.set_array(name, value)
        session.run()
        assert list(session.plans())
        sessions.append(session)
    gc.collect()
    assert [o for o in gc.get_objects() if isinstance(o, Lowering)] == []
