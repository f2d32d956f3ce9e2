"""How close results must be to those of the original, by the name of a case of the shared model collection."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from support.places import SHARED_MODELS as MODELS


class Tolerance(NamedTuple):
    """What may differ.

    Attributes
    ----------
    relative
        Largest difference, relative to the largest number of the output. 0: exact.
    steps
        The output has steps (it was quantized): a few elements may differ by this many of them.
    grey
        Largest difference of 8-bit integers.
    share
        Part of the elements that must be within ``relative``; the others within 0.1.
    """

    relative: float = 0.0
    steps: int = 0
    grey: int = 0
    share: float = 1.0


EXACT = Tolerance()
ARITHMETIC = Tolerance(1e-5)
FUNCTION = Tolerance(1e-4)
INVERSE = Tolerance(1e-3)
HALF = Tolerance(2e-2)
QUANTIZED = Tolerance(1e-5, steps=1)
GREY = Tolerance(1e-4, grey=1)
NETWORK = Tolerance(1e-3)
NETWORK_INT8 = Tolerance(2e-2, share=0.99)
# A quantized activation between convolutions: a step there is a little more than a step of the result.
QUANTIZED_CHAIN = Tolerance(2e-2, share=0.99)

# The first pattern that matches the whole name of a case in ops/ counts.
_RULES: tuple[tuple[str, Tolerance], ...] = (
    (r"matinv.*|svd_values", INVERSE),
    (r".*(f16|ioc16|io16xc32|float16).*", HALF),
    (r"cvt_color_.*_u8|.*_nhwc_u8.*|warp_perspective_u8", GREY),
    (r"qat_.*|dump_int8.*", QUANTIZED_CHAIN),
    (r"q_(concat|max_pool|pad|reduce_max|reshape|slice|split|transpose)", EXACT),
    (r"q(?!at_).*", QUANTIZED),
    (r"embedding_sum|topk_accuracy", ARITHMETIC),
    (
        r"(slice|index|set|gather|one_hot|embedding(_1d)?|cond_take|reshape|flatten|transpose|swapaxes|squeeze|expand|concat"
        r"|stack|split|tile|repeat|roll|pad|flip|full|zeros_like|ones_like|eye|diag|identity|input_is_output"
        r"|const_output|sort|argsort|topk|argmax|argmin|bool|compare|cast|meshgrid|space_to_depth|pixel_shuffle"
        r"|channel_shuffle|window_partition|masked_fill|func_where|shape_as_value|reduce_max"
        r"|reduce_min|max_pool|adaptive_max|global_max|nms|func_max|func_min|sliding_window_k|scatter"
        r"|raw_(Set|Batched(Set)?Mesh|Mesh|IndexingSet|IndexingMulti))([-_A-Z].*)?",
        EXACT,
    ),
    (
        r"elem_(abs|abs_grad|add|ceil|clip|cond_leq_mov|cond_lt_mov|eq|floor|floor_div|fuse_add_relu|fuse_mul_add[34]"
        r"|leq|lt|max|min|mod|mul|negate|prelu|prelu_grad|relu|relu6|relu6_grad|round|sign|sqrt|square|sub|switch_gt0"
        r"|true_div)_.*",
        ARITHMETIC,
    ),
    (
        r"(bcast|reduce|cumsum|avg_pool|adaptive_avg|global_avg|arange|linspace|raw|fake_quant|tqt|lsq)(_.*)?",
        ARITHMETIC,
    ),
    (r".*", FUNCTION),
)

DEVIATIONS = {
    "conv_bias_z": "the original ignores the input z",
    "qconv_bias_z": "the original ignores the input z",
    "dump_int8_z": "the original ignores the input z",
}
"""Cases where the recorded result is not what the file means."""

# MAX of a number and NaN is either of both in the original, which differs between its loops.
_NAN_IS_EITHER = {"func_nan_inf": {1}}


def find_tolerance(group: str, case: str) -> Tolerance:
    """The tolerance of ``ops/case`` or ``nets/case``."""
    if group == "nets":
        if "int8" in case:
            return NETWORK_INT8
        return HALF if re.search("ioc16|io16xc32", case) else NETWORK
    return next(tolerance for pattern, tolerance in _RULES if re.fullmatch(pattern, case))


def find_cases(group: str) -> list[str]:
    """Names of all model files of ``ops`` or ``nets``, without ``.mge``; empty if the collection is absent."""
    return sorted(p.name.removesuffix(".mge") for p in (MODELS / group).glob("*.mge"))


def load_case(group: str, name: str) -> tuple[Path, dict[str, np.ndarray], list[np.ndarray]]:
    """Model file, inputs by name, and recorded outputs of a case."""
    folder = MODELS / group
    stem = name.removesuffix(".v1")
    own = folder / f"{name}.npz"
    with np.load(own if own.exists() else folder / f"{stem}.npz") as data:
        inputs = {key.removeprefix("in_"): data[key] for key in data if key.startswith("in_")}
        expected = [data[f"out_{i}"] for i in range(sum(key.startswith("out_") for key in data))]
    return folder / f"{name}.mge", inputs, expected


def check_outputs(group: str, name: str, outputs: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> None:
    """Raises AssertionError, with numbers, if an output is not close enough to the recorded one."""
    case = name.removesuffix(".v1")
    tolerance = find_tolerance(group, case)
    assert len(outputs) == len(expected), f"{name}: {len(outputs)} outputs, recorded are {len(expected)}"
    for i, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        label = f"{name}: output {i}"
        assert got.shape == want.shape, f"{label} has shape {got.shape}, recorded is {want.shape}"
        assert got.dtype == want.dtype, f"{label} is {got.dtype}, recorded is {want.dtype}"
        if i in _NAN_IS_EITHER.get(case, ()):
            known = ~(np.isnan(got) | np.isnan(want))
            got, want = got[known], want[known]
        _check_output(label, got, want, tolerance)


def _check_output(label: str, got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> None:
    same = (got == want) | ((got != got) & (want != want))
    if same.all():
        return
    difference = np.abs(got.astype(np.float64)[~same] - want.astype(np.float64)[~same])
    difference[np.isnan(difference)] = np.inf
    worst = f"{label}: {difference.size} of {want.size} elements differ, by {difference.max():.3g} at most"
    if want.dtype.kind != "f":
        assert difference.max() <= tolerance.grey, worst
        return
    scale = max(float(np.abs(want[np.isfinite(want)]).max(initial=0)), 1e-30)
    beyond = difference > tolerance.relative * scale
    if not beyond.any():
        return
    if tolerance.steps:
        step = float(np.diff(np.unique(want)).min())
        assert difference.max() <= tolerance.steps * step * 1.01, f"{worst}, a step is {step:.3g}"
        # Halves are rounded this way or that, and small tensors of round numbers have many.
        assert beyond.sum() <= max(8, 0.005 * want.size), worst
    else:
        allowed = (1 - tolerance.share) * want.size
        assert beyond.sum() <= allowed, f"{worst}; the largest number is {scale:.3g}"
        assert difference.max() <= 0.1 * scale, f"{worst}; the largest number is {scale:.3g}"
