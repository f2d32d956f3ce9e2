"""A float network beside a quantized version of it: the results of their layers belong together."""

from __future__ import annotations

import numpy as np
import pytest
from support.graphs import QuantizedBuilder, run, session_of
from support.quantized import q8

from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.reports.model_report.layers import compare_layers, layer_results

LAYERS = 5


def layers(quantized: bool, broken: int | None = None):
    """The results of convolutions with ReLU. In the one ``broken`` the quantized weights are too small."""
    builder = QuantizedBuilder()
    made = builder.data((1, 8, 12, 12))
    if quantized:
        made = builder.node("TypeCvt", params.DTypeTable(dtype=q8(0.03)), [made])
    for k in range(LAYERS):
        weight = builder.rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8)
        if quantized:
            own = weight // 2 if k == broken else weight
            conv = params.ConvBias(pad_h=1, pad_w=1, nonlineMode=params.ConvBiasNonlineMode.RELU)
            typed = builder.typed(own, q8(0.0022))
            made = builder.typed_node("ConvBiasForward", conv, [made, typed], q8(0.03))
        else:
            conv = params.Convolution(pad_h=1, pad_w=1)
            made = builder.node("Convolution", conv, [made, builder.constant(weight * np.float32(0.0022))])
            made = builder.node("Elemwise", params.Elemwise(mode=params.ElemwiseMode.RELU), [made])
    if quantized:
        made = builder.node("TypeCvt", params.DTypeTable(dtype=FLOAT32), [made])
    session = session_of(builder.finish(made), explain=True)
    run(session, **builder.values)
    return layer_results(session)


@pytest.mark.parametrize("swapped", [False, True])
def test_every_layer_has_a_partner(swapped):
    ours, theirs = layers(swapped), layers(not swapped)
    found = compare_layers(ours, theirs, same_file=False, tolerance=1e-3, names="ab")
    convolutions = [x for x in found["layers"] if x["op"] == ("QuantizedConv" if swapped else "FusedConv")]
    assert len(convolutions) == LAYERS and found["first"] == 0
    assert all(x["matched_by"] == "order" and x["snr_db"] > 20 and x["sure"] for x in convolutions)


@pytest.mark.parametrize("broken", range(LAYERS))
def test_the_first_layer_that_is_quantized_wrong_is_seen(broken):
    found = compare_layers(layers(False), layers(True, broken), same_file=False, tolerance=0.2, names="ab")
    assert found["first"] == broken and [x["equal"] for x in found["layers"]][:broken] == [True] * broken


@pytest.mark.parametrize("name", sorted(n for n in REGISTRY if n.startswith("Quantized")))
def test_what_is_quantized_is_of_the_kind_of_something_that_is_not(name):
    kind = REGISTRY[name].in_original.type
    assert any(REGISTRY[n].in_original.type == kind or n == kind for n in REGISTRY if not n.startswith("Quantized"))
