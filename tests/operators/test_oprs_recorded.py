"""Operators of many families against what the original computed (see models/oprs/README.md)."""

from __future__ import annotations

import numpy as np
import pytest
from support.recorded import find_cases, read_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference

# Images in uint8: the original computes in fixed point. Largest difference, and largest share of other pixels.
GREY = {"resize": (1, 0.15), "warp": (1, 0.02), "colour": (1, 0)}
RELATIVE = 3e-6


@pytest.mark.parametrize(("family", "case"), find_cases())
def test_operator_gives_the_originals_result(family, case):
    model, inputs, expected = read_case(family, case)
    outputs = run_reference(load_model(model).graph, inputs)
    for got, want in zip(outputs, expected, strict=False):
        assert got.shape == want.shape
        assert got.dtype == want.dtype
        if want.dtype.kind == "f":
            assert np.abs(got - want).max() <= RELATIVE * np.abs(want).max()
            continue
        grey, share = GREY.get(family, (0, 0))
        difference = np.abs(got.astype(np.int64) - want)
        assert difference.max() <= grey
        assert np.count_nonzero(difference) <= share * want.size


def test_cases_are_there():
    families = [family for family, _ in find_cases()]
    assert {f: families.count(f) for f in families}.keys() == {
        "colour",
        "conv",
        "conv_other",
        "pooling",
        "recurrent",
        "regions",
        "relayout",
        "resize",
        "warp",
    }
    assert len(families) > 350
