"""Every activation behind every algorithm of float32 convolution, of numbers, of infinities and of NaN."""

import numpy as np
import pytest
from support.instruction_sets import INSTRUCTION_SETS
from support.one_node import run_node

from megengine_lite._core.cpu.algorithms.convolution import CONV_F32
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import ELEMWISE_OF, Activation, ActivationCode, FusedConv
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS

A = ActivationCode
LOW, HIGH = -0.5, 1.0
SPECIAL = np.float32([np.nan, -np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38])
# Channels of input and output, groups, side of the filter, padding, dilation. Rows of 15 have blocks of several sizes.
SHAPES = {
    "conv_direct_f32": (24, 40, 1, 3, 1, 1),
    "conv_taps_f32": (32, 40, 1, 3, 8, 8),
    "conv_first_f32": (3, 40, 1, 3, 1, 1),
    "conv_depthwise_f32": (40, 40, 40, 3, 1, 1),
    "conv_group_f32": (8, 8, 4, 3, 1, 1),
    "conv_halves_f32": (0, 0, 2, 3, 1, 1),  # channels are those of the instruction set
    "conv_winograd2_f32": (24, 40, 1, 3, 1, 1),
    "conv_winograd4_f32": (24, 40, 1, 3, 1, 1),
    "conv_dilated_winograd2_f32": (24, 40, 1, 3, 2, 2),
    "conv_dilated_winograd4_f32": (24, 40, 1, 3, 2, 2),
    "conv_plain_f32": (24, 40, 1, 3, 1, 1),
}


def applied(code, x):
    if code == A.NONE:
        return x
    if code in (A.CLIP, A.CLIP_HIGH, A.CLIP_NAN):
        of_nan = {A.CLIP: LOW, A.CLIP_HIGH: HIGH, A.CLIP_NAN: np.nan}[code]
        return np.where(np.isnan(x), of_nan, np.clip(x, LOW, HIGH))
    if code == A.LEAKY_RELU:
        return np.where(x > 0, x, np.float32(LOW) * x)
    return FUNCTIONS[ELEMWISE_OF[code]].call(x)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("code", list(ActivationCode), ids=lambda code: code.name)
@pytest.mark.parametrize("name", [a.name for a in CONV_F32])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_activation_behind_a_convolution(name, code, isa):
    """A residual brings the special numbers: sums of Winograd's method would spread them."""
    c, oc, groups, k, pad, dilate = SHAPES[name]
    if name == "conv_halves_f32":
        c = oc = groups * 3 * kernel_set(isa).width // 2
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, c, 15, 15), dtype=np.float32)
    w = rng.standard_normal((oc, c, k, k) if groups == 1 else (groups, oc // groups, c // groups, k, k), np.float32)
    bias = rng.standard_normal((1, oc, 1, 1), dtype=np.float32)
    z = rng.standard_normal((1, oc, 15, 15), dtype=np.float32)
    z.reshape(-1)[:: 3 * 7] = np.resize(SPECIAL, z.reshape(-1)[:: 3 * 7].size)

    def conv(activation):
        params = FusedConv(pad, pad, 1, 1, dilate, dilate, groups, False, True, True, activation)
        return run_node("FusedConv", params, [x, w, bias, z], {1, 2}, isa, 2, forced={"conv_f32": name})[0]

    found, expected = conv(Activation(code, LOW, HIGH)), applied(code, conv(Activation(A.NONE, 0, 0)))
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
