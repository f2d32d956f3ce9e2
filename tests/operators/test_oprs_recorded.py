"""Operators of many families against what the original computed (see models/oprs/README.md)."""

from __future__ import annotations

import numpy as np
import pytest
from support.places import TESTS

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference

FOLDER = TESTS / "models" / "oprs"
# Images in uint8: the original computes in fixed point. Largest difference, and largest share of other pixels.
GREY = {"resize": (1, 0.15), "warp": (1, 0.02), "colour": (1, 0)}
RELATIVE = 3e-6


def find_cases() -> list[tuple[str, str]]:
    cases = []
    for path in sorted(FOLDER.glob("*.npz")):
        with np.load(path) as data:
            cases += [(path.stem, key.removesuffix("/model")) for key in data if key.endswith("/model")]
    return cases


@pytest.fixture(scope="module")
def arrays():
    return {path.stem: dict(np.load(path)) for path in FOLDER.glob("*.npz")}


@pytest.mark.parametrize(("family", "case"), find_cases())
def test_operator_gives_the_originals_result(family, case, arrays):
    mine = {key.removeprefix(f"{case}/"): a for key, a in arrays[family].items() if key.startswith(f"{case}/")}
    inputs = {key.removeprefix("in_"): a for key, a in mine.items() if key.startswith("in_")}
    expected = [mine[f"out_{i}"] for i in range(sum(key.startswith("out_") for key in mine))]
    outputs = run_reference(load_model(mine["model"].tobytes()).graph, inputs)
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
