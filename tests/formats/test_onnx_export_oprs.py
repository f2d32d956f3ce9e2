"""Models and recorded cases of tests/models, written as ONNX: layouts, modes and types that few networks have."""

from __future__ import annotations

import re

import numpy as np
import pytest
from support.onnx_exports import exported, run_onnx, tiled
from support.places import TESTS
from support.recorded import find_cases, read_case

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.operators.reference import run_reference
from megengine_lite.errors import LiteError, UnsupportedOperatorError

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

# Filters that are computed in blocked layouts or by position, and what ONNX's operators do not tell.
REFUSED = (
    r"conv_other/(bcb_NCHW4|dcn|local|lshare|rrc)_.*|regions/roipool_.*"
    r"|relayout/rl_(0[789]|1[0123479]|18|2[36]|24_g2|25_oc_g2).*"
    r"|warp/w.cv_(LANCZOS4|CUBIC_3)_.*"
)
FLOATS = 1e-4
# Halves of a quantization step; positions of the largest of equal samples.
SHARE = 0.1


@pytest.mark.parametrize(("family", "case"), find_cases())
def test_exported_operator_gives_what_its_definition_says(family, case):
    model, inputs, _ = read_case(family, case)
    graph = load_model(model).graph
    if re.fullmatch(REFUSED, f"{family}/{case}"):
        with pytest.raises(UnsupportedOperatorError):
            exported(graph)
        return
    content, _ = exported(graph)
    for got, want in zip(run_onnx(content, inputs), run_reference(graph, inputs), strict=True):
        assert (got.shape, got.dtype) == (want.shape, want.dtype)
        difference = np.abs(got.astype(np.float64) - want)
        differ = difference > (FLOATS * np.abs(want).max(initial=0) if want.dtype.kind == "f" else 0)
        assert differ.sum() <= SHARE * want.size + 1
        if differ.any() and family != "regions":
            values = np.unique(want.astype(np.float64))
            assert difference.max() <= 1.01 * np.diff(values).min()


FILES = [p for p in sorted((TESTS / "models").glob("*/*.mge")) if p.parent.name != "extern"]
INT8 = 0.1


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_exported_file_gives_what_its_definitions_say_at_two_sizes(path):
    graph = load_model(path).graph
    rng = np.random.default_rng(0)
    inputs = {v.name: rng.uniform(0, 2, v.shape).astype(v.dtype.storage) for v in graph.inputs}
    if "nms" in path.stem:  # boxes that end before they begin count in another way in ONNX
        inputs = {name: np.sort(value, axis=-1) for name, value in inputs.items()}
    content, known = exported(graph)
    for k, sizes in enumerate(known.sizes[:2]):
        given = tiled(inputs, sizes)
        try:
            expected = run_reference(graph, given)
        except (LiteError, IndexError):  # numbers in the model that fit one size only
            assert k == 1 and "nms" in path.stem
            continue
        for got, want in zip(run_onnx(content, given), expected, strict=True):
            assert (got.shape, got.dtype) == (want.shape, want.dtype)
            scale = np.abs(want.astype(np.float64)).max(initial=0)
            limit = INT8 if "int8" in path.stem else FLOATS
            np.testing.assert_allclose(got, want, rtol=0, atol=limit * scale if want.dtype.kind == "f" else 0)
