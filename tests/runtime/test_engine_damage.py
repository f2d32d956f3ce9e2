"""Damaged graphs, damaged files and hostile inputs end in an error of this package or in the right result.

The cases are those of ``tests/fuzz``, which runs more of them, on more models.
"""

import pytest
from fuzz.children import run_cases
from fuzz.damage_case import QUIET, corpus


@pytest.mark.parametrize("first", range(0, 1600, 400))
def test_damage_is_refused_or_harmless(first):
    kinds = []
    for found in run_cases(range(first, first + 400), corpus(shared=False)):
        assert found["kind"] in QUIET, f"{found['kind']} {found['number']}: {found['text']} {found['log']}"
        kinds.append(found["kind"])
    assert len(kinds) == 400
    assert min(kinds.count(kind) for kind in QUIET) > 40
