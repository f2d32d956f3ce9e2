"""Sampling of images with the rules of ONNX; the package onnx says what comes out."""

import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite.errors import LiteError, UnsupportedOperatorError

F, F16, D, I64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.INT64
RNG = np.random.default_rng(7)


def check(op, given, kinds=None, constants=(), opset=22, tolerance=1e-5, **attributes):
    """Compares a node with the package onnx; inputs that are constants are not inputs of the model."""
    constants = dict(constants)
    kinds = kinds or {}
    names = [n for n in (*given, *constants) if n]
    node = helper.make_node(op, attributes.pop("order", names), ["y"], **attributes)
    inputs = [(k, kinds.get(k, F), [None] * v.ndim) for k, v in given.items()]
    model = make([node], inputs, [("y", F, None)], constants, opset)
    model.graph.output[0].ClearField("type")
    network = load(model)
    at_the_api = {
        k: v.astype({np.int64: np.int32, np.float64: np.float32}.get(v.dtype.type, v.dtype)) for k, v in given.items()
    }
    (ours,) = run(network, **at_the_api)
    typed = {k: v.astype(helper.tensor_dtype_to_np_dtype(kinds.get(k, F))) for k, v in given.items()}
    theirs = expected(model, **typed)[0]
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours.astype(float), theirs.astype(float), rtol=tolerance, atol=tolerance)
    return network


def points(*shape, inside=False):
    """Points inside, on the border and, unless they shall be inside, far outside."""
    grid = RNG.uniform(-3, 3, shape).astype(np.float32)
    special = np.float32([-1, 1, 0, -1.25, 1.25, 0.5, -30, 30])
    flat = grid.reshape(-1)
    flat[: len(special)] = special[: flat.size]
    return grid.clip(-1, 1) if inside else grid


def is_other_in_package(mode, padding):
    """Whether the package onnx moves points into the image, of which PyTorch and ONNX Runtime move the pixels."""
    return mode == "cubic" and padding == "border"


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("kind, tolerance", [(F, 1e-4), (D, 1e-4), (F16, 2e-2)])
def test_images_at_the_points_of_a_grid(mode, padding, align, kind, tolerance):
    """float32 runs by kernels except for cubic ones, the others by the definition."""
    dtype = np.float16 if kind == F16 else np.float32
    x = RNG.standard_normal((2, 3, 5, 4)).astype(dtype)
    how = {"mode": mode, "padding_mode": padding, "align_corners": align}
    inside = is_other_in_package(mode, padding)
    if kind == F16:  # the package onnx computes places in float16
        limit = 16 if inside else 40
        grid = (RNG.integers(-limit, limit, (2, 3, 6, 2)) / 16).astype(dtype)
        if mode == "nearest":
            grid = np.where(np.mod(grid * 2, 0.25) == 0, grid + dtype(0.0625), grid)
        network = load(_grid_model(x, grid, F16, how))
        (ours,) = run(network, x=x, grid=grid)
        (theirs,) = expected(_grid_model(x, grid, F, how), x=x.astype(np.float32), grid=grid.astype(np.float32))
        np.testing.assert_allclose(ours.astype(float), theirs, atol=tolerance)
        return
    grid = points(2, 3, 6, 2, inside=inside)
    check("GridSample", {"x": x, "grid": grid}, {"x": kind, "grid": kind}, tolerance=tolerance, **how)


def _grid_model(x, grid, kind, how):
    node = helper.make_node("GridSample", ["x", "grid"], ["y"], **how)
    return make([node], [("x", kind, list(x.shape)), ("grid", kind, list(grid.shape))], [("y", kind, None)], (), 22)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("space", [(5,), (2, 4, 3), (1, 1, 2)])
def test_rows_and_volumes(mode, padding, space):
    x = RNG.standard_normal((1, 2, *space)).astype(np.float32)
    grid = points(1, *[3] * len(space), len(space), inside=is_other_in_package(mode, padding))
    check("GridSample", {"x": x, "grid": grid}, mode=mode, padding_mode=padding, tolerance=1e-4)


def test_a_pixel_alone_is_reflected_in_itself():
    x, grid = np.float32([[[[3.0]]]]), points(1, 2, 2, 2)
    (ours,) = run(load(_grid_model(x, grid, F, {"padding_mode": "reflection", "align_corners": 1})), x=x, grid=grid)
    np.testing.assert_array_equal(ours, np.full((1, 1, 2, 2), 3))


def test_names_of_modes_of_version_16():
    x, grid = RNG.standard_normal((1, 1, 4, 4)).astype(np.float32), points(1, 3, 3, 2)
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")):
        pair = []
        for mode, opset in ((old, 16), (new, 20)):
            model = _grid_model(x, grid, F, {"mode": mode})
            model.opset_import[0].version = opset
            pair.append(run(load(model), x=x, grid=grid)[0])
        np.testing.assert_array_equal(*pair)
    with pytest.raises(UnsupportedOperatorError, match="mode is 'area'; there are"):
        load(_grid_model(x, grid, F, {"mode": "area"}))
    with pytest.raises(LiteError, match=r"9 elements of shape \(1, 3, 3, 1\) do not fit"):
        run(load(_grid_model(x, grid, F, {})), x=x, grid=grid[..., :1])


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [(2, 3, 4, 5), (1, 1, 2, 3, 4)])
def test_grids_of_moved_points(align, size):
    rows = len(size) - 2
    theta = RNG.standard_normal((size[0], rows, rows + 1)).astype(np.float32)
    given = {"theta": theta}
    check("AffineGrid", given, constants={"size": np.array(size)}, align_corners=align)
    given["size"] = np.array(size)
    node = helper.make_node("AffineGrid", ["theta", "size"], ["y"], align_corners=align)
    model = make([node], [("theta", F, list(theta.shape)), ("size", I64, [len(size)])], [("y", F, None)], (), 20)
    (ours,) = run(load(model), theta=theta, size=np.int32(size))
    np.testing.assert_allclose(ours, expected(model, **given)[0], atol=1e-5)


REGIONS = np.float32([[0, 0, 6, 5], [1.5, 2.25, 4, 4], [-3, -2, 12, 20], [5, 5, 5, 5], [2, 1, 2.5, 7]])


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("how", ["half_pixel", "output_half_pixel"])
def test_regions(mode, ratio, how):
    x = RNG.uniform(1, 2, (2, 3, 7, 8)).astype(np.float32)
    given = {"x": x, "rois": REGIONS, "images": np.array([0, 1, 1, 0, 1])}
    attributes = {"output_height": 2, "output_width": 3, "sampling_ratio": ratio, "spatial_scale": 0.9}
    check(
        "RoiAlign", given, {"images": I64}, mode=mode, coordinate_transformation_mode=how, tolerance=1e-4, **attributes
    )


def test_regions_that_are_refused():
    def made(**attributes):
        node = helper.make_node("RoiAlign", ["x", "r", "i"], ["y"], **attributes)
        return make([node], [("x", F, [1, 1, 4, 4]), ("r", F, [1, 4]), ("i", I64, [1])], [("y", F, None)], (), 16)

    x = np.ones((1, 1, 4, 4), np.float32)
    for region, image, message in (
        ([0, 0, 2, 2], 1, "an image that does not exist, there are 1"),
        ([0, 0, np.inf, 2], 0, "not finite"),
        ([0, 0, 1e6, 2], 0, "samples along one side of a bin"),
    ):
        with pytest.raises(LiteError, match=message):
            run(load(made()), x=x, r=np.float32([region]), i=np.int32([image]))
    with pytest.raises(UnsupportedOperatorError, match="sampling_ratio is -1"):
        load(made(sampling_ratio=-1))


@pytest.mark.parametrize("groups, offset_groups", [(1, 1), (2, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("masked, biased", [(False, False), (True, True)])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 2, 1, 2], [0, 1, 2, 1]])
def test_deformed_convolutions(groups, offset_groups, masked, biased, pads):
    x = RNG.standard_normal((2, 4, 6, 7)).astype(np.float32)
    w = RNG.standard_normal((6, 4 // groups, 2, 3)).astype(np.float32)
    how = {"pads": pads, "strides": [2, 1], "dilations": [1, 2], "group": groups, "offset_group": offset_groups}
    oh, ow = (6 + pads[0] + pads[2] - 2) // 2 + 1, 7 + pads[1] + pads[3] - 5 + 1
    given = {"x": x, "w": w, "offset": RNG.uniform(-3, 3, (2, offset_groups * 12, oh, ow)).astype(np.float32)}
    order = ["x", "w", "offset"]
    if biased:
        given["b"] = RNG.standard_normal(6).astype(np.float32)
    if masked:
        given["mask"] = RNG.random((2, offset_groups * 6, oh, ow)).astype(np.float32)
        order = ["x", "w", "offset", "b", "mask"]
    check("DeformConv", given, order=order, kernel_shape=[2, 3], tolerance=1e-4, **how)


@pytest.mark.parametrize("sizes", itertools.product([3, 4, 7], [2, 5, 6]))
def test_center_crops(sizes):
    x = RNG.standard_normal((4, 3, 5)).astype(np.float32)
    check("CenterCropPad", {"x": x}, constants={"size": np.array(sizes)}, axes=[0, -1])
    check("CenterCropPad", {"x": x}, constants={"size": np.array([*sizes, 1])})


def test_a_size_of_a_center_crop_that_is_computed():
    node = helper.make_node("CenterCropPad", ["x", "n"], ["y"], axes=[1])
    network = load(make([node], [("x", F, [1, 4]), ("n", I64, [1])], [("y", F, None)], (), 18))
    x = np.float32([[1, 2, 3, 4]])
    for n, wanted in ((2, [2, 3]), (3, [1, 2, 3]), (7, [0, 1, 2, 3, 4, 0, 0]), (0, [])):
        np.testing.assert_array_equal(run(network, x=x, n=np.int32([n]))[0], [wanted])
    two = make([node], [("x", F, [1, 4]), ("n", I64, [2])], [("y", F, None)], (), 18)
    with pytest.raises(LiteError, match="2 sizes do not fit 1 axes"):
        run(load(two), x=x, n=np.int32([2, 2]))


@pytest.mark.parametrize("kind", [F, F16, D])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_maxima_of_regions_are_those_of_onnx_runtime(scale, kind):
    """The package onnx does not compute them, and ONNX Runtime only in float32."""
    onnxruntime = pytest.importorskip("onnxruntime")
    x = RNG.standard_normal((2, 3, 9, 7)).astype(np.float16).astype(np.float32)
    regions = np.float32([[0, 0, 0, 6, 8], [1, 1, 2, 3, 3], [1, -3, -2, 30, 5], [0, 20, 20, 30, 30]])
    node = helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2, 3], spatial_scale=scale)

    def model(kind):
        return make([node], [("x", kind, ["n", 3, "h", "w"]), ("r", kind, ["m", 5])], [("y", kind, None)])

    session = onnxruntime.InferenceSession(model(F).SerializeToString(), providers=["CPUExecutionProvider"])
    (theirs,) = session.run(None, {"x": x, "r": regions})
    at_the_api = np.float16 if kind == F16 else np.float32
    (ours,) = run(load(model(kind)), x=x.astype(at_the_api), r=regions.astype(at_the_api))
    np.testing.assert_array_equal(ours.astype(np.float32), theirs)


def test_maxima_of_regions_need_two_numbers_of_bins():
    node = helper.make_node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2])
    with pytest.raises(LiteError, match=r"MaxRoiPool .*bins"):
        load(make([node], [("x", F, [1, 3, 9, 9]), ("r", F, [2, 5])], [("y", F, None)]))


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
def test_cubic_points_near_an_edge_take_each_pixel_by_the_rule(padding, align):
    """As PyTorch and ONNX Runtime do: at a border the pixels are moved into the image, and the point stays."""
    image = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6) ** 1.5
    grid = np.random.default_rng(0).uniform(-1.4, 1.4, (1, 4, 5, 2)).astype(np.float32)
    attributes = {"mode": "cubic", "padding_mode": padding, "align_corners": align}
    nodes = [helper.make_node("GridSample", ["x", "g"], ["y"], **attributes)]
    infos = [("x", TensorProto.FLOAT, image.shape), ("g", TensorProto.FLOAT, grid.shape)]
    model = make(nodes, infos, [("y", TensorProto.FLOAT, None)], opset=20)
    (y,) = run(load(model), x=image, g=grid)

    def weights(t, a=-0.75):
        near = lambda d: ((a + 2) * d - (a + 3)) * d * d + 1  # noqa: E731
        far = lambda d: ((a * d - 5 * a) * d + 8 * a) * d - 4 * a  # noqa: E731
        return [far(1 + t), near(t), near(1 - t), far(2 - t)]

    def place(k, length):
        if padding == "border":
            return min(max(k, 0), length - 1)
        if padding == "zeros":
            return k if 0 <= k < length else None
        low, high = (0, length - 1) if align else (-0.5, length - 0.5)
        turned = (k - low) % (2 * (high - low))
        return int(min(max(low + min(turned, 2 * (high - low) - turned), 0), length - 1))

    for row in range(4):
        for column in range(5):
            at = [
                (g + 1) / 2 * (n - 1) if align else ((g + 1) * n - 1) / 2
                for g, n in zip(grid[0, row, column].astype(float), (6, 5), strict=True)
            ]
            if padding == "reflection":  # the point itself, and then the pixels around it
                ends = [(0, n - 1) if align else (-0.5, n - 0.5) for n in (6, 5)]
                for k, (v, (low, high)) in enumerate(zip(at, ends, strict=True)):
                    if not low <= v <= high:
                        turned = (v - low) % (2 * (high - low))
                        at[k] = low + min(turned, 2 * (high - low) - turned)
            whole = [int(np.floor(v)) for v in at]
            total = 0.0
            for j, wy in enumerate(weights(at[1] - whole[1])):
                for i, wx in enumerate(weights(at[0] - whole[0])):
                    y0, x0 = place(whole[1] + j - 1, 5), place(whole[0] + i - 1, 6)
                    total += 0.0 if y0 is None or x0 is None else wy * wx * image[0, 0, y0, x0]
            np.testing.assert_allclose(y[0, 0, row, column], total, rtol=2e-4, atol=2e-3)
