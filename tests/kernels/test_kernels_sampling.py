"""Sampling of images by maps and matrices on every instruction set, in all layouts and types, against definitions."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import (
    INSTRUCTION_SETS,
    attach_outputs,
    definition,
    run_blocked,
    run_graph,
    run_node,
    variable,
)

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.dtype import FLOAT32, UINT8, DType, DTypeCode
from megengine_lite._core.ir.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.image_layouts import Format, from_nchw
from megengine_lite._core.ir.params import BorderMode, InterpolationMode, Remap, WarpAffine, WarpPerspective
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.session_config import SessionConfig
from megengine_lite.errors import LiteError
from megengine_lite.kernels.common.shared_constants import Positions

Mode = InterpolationMode
BORDERS = list(BorderMode)[:5]
SPECIAL = np.float32([np.nan, np.inf, -np.inf, 3e38, -3e38, 2**31, -(2**31), 1e10, -1e10, -1e-30, 0, -0.0, 1e-30])
TYPES = {"f32": np.float32, "uint8": np.uint8, "int8": np.int8}


def name(mode):
    return mode.name


def pixels(kind, *shape):
    rng = np.random.default_rng(len(shape))
    if kind == "f32":
        return rng.standard_normal(shape).astype(np.float32)
    info = np.iinfo(TYPES[kind])
    return rng.integers(info.min, info.max + 1, shape).astype(TYPES[kind])


def positions(n, oh, ow, h, w):
    """Positions in and around an image of h x w; special numbers among them."""
    rng = np.random.default_rng(1)
    where = rng.uniform(-1.2, 2.2, (n, oh, ow, 2)) * (w - 1, h - 1)
    where[0, : oh // 2] = np.rint(2 * where[0, : oh // 2]) / 2  # pixels, and places halfway between them
    where = where.astype(np.float32)
    flat = where.reshape(-1)
    places = rng.permutation(flat.size)[: min(flat.size // 2, 3 * SPECIAL.size)]
    flat[places] = np.resize(SPECIAL, places.size)
    return where


def assert_same(actual, expected):
    """Bytes are equal; floats differ by a few roundings of the largest tap."""
    assert actual.dtype == expected.dtype
    if expected.dtype == np.float32:
        np.testing.assert_allclose(actual, expected, rtol=2e-6, atol=2e-6)
    else:
        np.testing.assert_array_equal(actual, expected)


# ---- Remap -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("mode", [Mode.NEAREST, Mode.LINEAR], ids=name)
@pytest.mark.parametrize("border", BORDERS, ids=name)
@pytest.mark.parametrize("fmt", [Format.NCHW, Format.NHWC, Format.NCHW44, Format.NHWCD4], ids=name)
def test_remap(fmt, border, mode, kind, isa):
    params = Remap(imode=mode, border_type=border, format=fmt, scalar=7.5)
    for channels, (h, w), (oh, ow) in ((3, (5, 7), (4, 13)), (4, (1, 2), (3, 9)), (8, (4, 4), (2, 140))):
        x = from_nchw(fmt, pixels(kind, 2, channels, h, w))
        inputs = [x, positions(2, oh, ow, h, w)]
        for threads in 1, 3:
            actual, kernels = run_node("Remap", params, inputs, (), isa, threads)
            assert "sample_f32" in kernels if kind == "f32" else kernels == ["sample_int8"]
            assert_same(actual, definition("Remap", params, inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("border", BORDERS, ids=name)
@pytest.mark.parametrize("channels", [1, 2, 5, 20, 35])
def test_remap_of_many_channels(channels, border, isa):
    for fmt in Format.NCHW, Format.NHWC:
        params = Remap(border_type=border, format=fmt, scalar=-3)
        for kind in TYPES:
            inputs = [from_nchw(fmt, pixels(kind, 1, channels, 6, 5)), positions(1, 3, 17, 6, 5)]
            actual, _ = run_node("Remap", params, inputs, (), isa)
            assert_same(actual, definition("Remap", params, inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("mode", [Mode.NEAREST, Mode.LINEAR], ids=name)
@pytest.mark.parametrize("border", BORDERS, ids=name)
def test_remap_of_blocked_images(border, mode, isa):
    inputs = [pixels("f32", 2, 35, 7, 6), positions(2, 5, 9, 7, 6)]
    params = Remap(imode=mode, border_type=border, format=Format.NCHW, scalar=2.5)
    actual, kernels = run_blocked("Remap", params, inputs, isa, threads=2, plain={1})
    assert "sample_f32" in kernels
    assert_same(actual, definition("Remap", params, inputs))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_padded_channels_of_blocked_images_become_zero(isa):
    """Whatever else would come out: the constant of the border, and NaN for a position that is none."""
    kernels = kernel_set(isa)
    width = kernels.width
    x, y = np.ones((1, 1, 1, width), np.float32), np.full((1, 1, 2, width), 5, np.float32)
    strides = {"lane": 1, "pixel": width, "row": 2 * width, "plane": 2 * width, "image": 2 * width}
    GuardedCall(
        kernels, "sample_f32", x=x, y=y, where=np.float32([-9, 0, np.nan, 0]), images=None, weights=None, fault=None,
        positions=Positions.MAP, border=BorderMode.CONSTANT, taps=2, is_finite=False, image_count=1, h=1, w=1, oh=1,
        ow=2, planes=1, lanes=width, channels=3, value=7, **{f"x_{k}": v for k, v in strides.items()},
        **{f"y_{k}": v for k, v in strides.items()}, work=1, scratch=kernels.module("sampling").scratch_bytes(),
    ).run()  # fmt: skip
    assert (y[0, 0, 0, :3] == 7).all()
    assert np.isnan(y[0, 0, 1, :3]).all()
    assert not y[..., 3:].any()


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_images_whose_pixels_cannot_be_counted_run_in_numpy(isa):
    """Numbers of rows are exact as floats, places in a plane are int32."""
    for shape, kernel in (
        ((1, 1, (1 << 24) - 1, 1), "sample_f32"), ((1, 1, 1 << 24, 1), "numpy"), ((1, 1, 1 << 16, 1 << 15), "numpy")
    ):  # fmt: skip
        inputs = [Var(0, "x", TensorSpec(shape, FLOAT32)), Var(1, "map", TensorSpec((1, 1, 1, 2), FLOAT32))]
        outputs = [Var(2, "y", TensorSpec((1, 1, 1, 1), FLOAT32))]
        node = Node("Remap", Remap(format=Format.NCHW), inputs, outputs)
        ctx = Lowering(Graph([node], inputs, outputs, ["y"]), kernel_set(isa), ConstantPool(), SessionConfig(), TABLE)
        for v in inputs:
            ctx.new_plain(v)
        is_native = ctx.lower(node)
        names = [step.kernel.name for step in ctx.steps] if is_native else ["numpy"]
        assert names == [kernel]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_positions_of_special_numbers(isa):
    where = np.stack(np.meshgrid(SPECIAL, SPECIAL), axis=-1)[None]
    for kind in TYPES:
        x = pixels(kind, 1, 3, 3, 4)
        for border in BORDERS:
            for mode in Mode.NEAREST, Mode.LINEAR:
                params = Remap(imode=mode, border_type=border, format=Format.NCHW, scalar=1)
                actual, _ = run_node("Remap", params, [x, where], (), isa)
                assert_same(actual, definition("Remap", params, [x, where]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_infinite_pixels(isa):
    """A pixel outside has no part in a result, whatever is stored in the image."""
    x = np.full((1, 1, 2, 2), np.inf, np.float32)
    where = np.float32([[-5, 0], [0, 0], [7, 9], [0.5, 0.5]]).reshape(1, 1, 4, 2)
    params = Remap(border_type=BorderMode.CONSTANT, format=Format.NCHW, scalar=2)
    for channels in 1, 20:
        actual, _ = run_node("Remap", params, [np.repeat(x, channels, 1), where], (), isa)
        assert actual[0, :, 0, 0].tolist() == [2] * channels
        assert actual[0, :, 0, 2].tolist() == [2] * channels
        assert np.isposinf(actual[0, :, 0, 3]).all()


# ---- warps -----------------------------------------------------------------------------------------------------------


def matrices(n, h, w, affine=False):
    """Turned, sheared and scaled images, and some matrices of special numbers."""
    rng = np.random.default_rng(2)
    m = rng.uniform(-1, 1, (n, 3, 3))
    m[:, 0] *= (1, 1, w)
    m[:, 1] *= (1, 1, h)
    m[:, 2] *= (0.02, 0.02, 0)
    m[:, 2, 2] = 1
    m[0] = [[1.25, 0, -0.75], [0, 0.5, 0.5], [0, 0, 1]]  # halves, where rounding shows
    m[-1] = [[1e6, -3e5, 1e30], [np.nan, 0, 1], [0.25, -0.5, 0]]
    m = m.astype(np.float32)
    return m[:, :2] if affine else m


def run_both(op, params, inputs, isa, threads=1):
    constants = {len(inputs) - 1}
    actual, kernels = run_node(op, params, inputs, constants, isa, threads)
    assert "sample_f32" in kernels or "sample_int8" in kernels
    with np.errstate(all="ignore"):
        expected = definition(op, params, inputs, constants)
    assert_same(actual, expected)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("border", BORDERS, ids=name)
@pytest.mark.parametrize("fmt", [Format.NCHW, Format.NHWC, Format.NCHW44, Format.NCHW4, Format.CHWN4], ids=name)
def test_warps(fmt, border, kind, isa):
    """Images of five channels in NHWC are not transformed in steps."""
    channels = 8 if fmt in (Format.NCHW44, Format.NCHW4, Format.CHWN4) else 5
    for (h, w), (oh, ow), threads in (((9, 11), (8, 10), 2), ((1, 1), (3, 2), 1), ((5, 4), (2, 150), 1)):
        x = from_nchw(fmt, pixels(kind, 4, channels, h, w))
        size = np.int32([oh, ow])
        perspective = WarpPerspective(format=fmt, bmode=border, border_val=3.75)
        run_both("WarpPerspective", perspective, [x, matrices(4, h, w), size], isa, threads)
        affine = WarpAffine(format=fmt, border_mode=border, border_val=3.75)
        run_both("WarpAffine", affine, [x, matrices(4, h, w, True), size], isa, threads)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["f32", "uint8"])
@pytest.mark.parametrize("mode", list(Mode), ids=name)
@pytest.mark.parametrize("border", BORDERS, ids=name)
def test_warps_in_steps(border, mode, kind, isa):
    for channels, (h, w), (oh, ow) in ((1, (9, 11), (8, 10)), (2, (3, 2), (5, 9)), (3, (12, 10), (4, 150))):
        x = pixels(kind, 4, h, w, channels)
        size = np.int32([oh, ow])
        for value in 9.0, 300.0:
            perspective = WarpPerspective(format=Format.NHWC, imode=mode, bmode=border, border_val=value)
            run_both("WarpPerspective", perspective, [x, matrices(4, h, w), size], isa, 2)
            affine = WarpAffine(format=Format.NHWC, imode=mode, border_mode=border, border_val=value)
            run_both("WarpAffine", affine, [x, matrices(4, h, w, True), size], isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_warp_of_blocked_images(isa):
    inputs = [pixels("f32", 2, 20, 7, 6), matrices(2, 7, 6), np.int32([9, 14])]
    params = WarpPerspective(bmode=BorderMode.CONSTANT, border_val=4)
    actual, kernels = run_blocked("WarpPerspective", params, inputs, isa, {2}, plain={1})
    assert "sample_f32" in kernels
    with np.errstate(all="ignore"):
        assert_same(actual, definition("WarpPerspective", params, inputs, {2}))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["f32", "uint8"])
def test_matrices_name_their_images(kind, isa):
    m = matrices(5, 6, 7)
    for fmt in Format.NCHW, Format.NHWC:
        x = from_nchw(fmt, pixels(kind, 3, 2, 6, 7))
        params = WarpPerspective(format=fmt)
        run_both("WarpPerspective", params, [x, m, np.int32([2, 0, 1, 1, 0]), np.int32([4, 5])], isa, 2)
        single = [*x[:, None]]
        run_both("WarpPerspective", params, [*single, m, np.int32([2, 0, 1, 1, 0]), np.int32([4, 5])], isa)
        run_both("WarpPerspective", params, [*single, m[:3], np.int32([4, 5])], isa)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", ["f32", "uint8"])
@pytest.mark.parametrize("index", [3, -1, 2**31 - 1])
def test_image_that_does_not_exist_is_reported(index, kind, isa):
    x, m = pixels(kind, 3, 2, 6, 7), matrices(2, 6, 7)
    with pytest.raises(LiteError, match="an image index is out of range, there are 3 images"):
        run_node("WarpPerspective", WarpPerspective(), [x, m, np.int32([0, index]), np.int32([4, 5])], {3}, isa)


def run_converted(fmt, source, target, x, m, isa):
    """A transform from one type to another: the result, that of the definition, and the kernels."""
    size = np.int32([4, 5])
    data = Var(0, "x", TensorSpec(x.shape, source))
    inputs = [data, variable(1, m), variable(2, size, True)]
    node = Node("WarpPerspective", WarpPerspective(format=fmt), inputs, [], "node", target)
    attach_outputs(node, 3)
    specs, outs = [v.spec for v in node.inputs], [v.spec for v in node.outputs]
    expected = REGISTRY["WarpPerspective"].compute(node, [x, m, size], specs, outs)[0]
    graph = Graph([node], node.inputs[:2], node.outputs, ["y"])
    (actual,), kernels = run_graph(graph, lambda var: (x, m)[var.id], isa)
    return actual, expected, kernels


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_other_formats_and_types(channels, isa):
    """First layers: bytes in NHWC become floats in NCHW, or signed bytes in NCHW4."""
    x = pixels("uint8", 2, 6, 7, channels)
    m = np.float32([[[0.9, 0.1, -1], [0.2, 1.1, 0.5], [0.01, 0, 1]]] * 2)
    asymm = DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 130)
    s8 = DType(DTypeCode.QUANTIZED_S8, 0.5)
    for fmt, source, target, image in (
        (Format.NHWC_NCHW, UINT8, FLOAT32, x),
        (Format.NHWC_NCHW, asymm, FLOAT32, x),
        (Format.NHWC_NCHW, FLOAT32, FLOAT32, x.astype(np.float32)),
        (Format.NHWC_NCHW4_IC_SMALL, UINT8, s8, x),
        (Format.NHWC_NCHW4_IC_SMALL, asymm, s8, x),
        (Format.NCHW_NCHW4_IC_SMALL, asymm, s8, x.transpose(0, 3, 1, 2).copy()),
    ):
        actual, expected, kernels = run_converted(fmt, source, target, image, m, isa)
        assert kernels[-1] in ("sample_f32", "sample_int8")
        assert_same(actual, expected)
