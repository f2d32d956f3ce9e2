"""The operators that ``operators.py`` measures, with shapes of real networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Input:
    """An input of a node: normally distributed, or ``values(rng)``; a constant of the model, or given to each run."""

    shape: tuple[int, ...] = ()
    dtype: str = "float32"
    values: Callable[[np.random.Generator], Any] | None = None
    constant: bool = False

    def array(self, rng: np.random.Generator) -> np.ndarray:
        if self.values is not None:
            return np.asarray(self.values(rng), self.dtype)
        kind = np.dtype(self.dtype).kind
        if kind == "f":
            return rng.standard_normal(self.shape, np.float32).astype(self.dtype)
        low, high = {"b": (0, 2), "u": (0, 200)}.get(kind, (-100, 100))
        return rng.integers(low, high, self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Case:
    """A node: its name in the table, and what it is made of. ``tolerance`` is in parts of the largest output."""

    name: str
    op: str
    inputs: Sequence[Input | None]
    outputs: int = 1
    opset: int = 21
    tolerance: float = 2e-3
    attributes: dict[str, Any] = field(default_factory=dict)


CASES: list[Case] = []


def case(
    name: str, *inputs: Input | None, outputs: int = 1, opset: int = 21, tolerance: float = 2e-3, **attributes: Any
) -> None:
    """Enters a case; its operator is the first word of the name."""
    CASES.append(Case(name, name.split()[0], inputs, outputs, opset, tolerance, attributes))


def data(*shape: int, dtype: str = "float32") -> Input:
    return Input(shape, dtype)


def between(low: float, high: float, *shape: int, dtype: str = "float32") -> Input:
    return Input(shape, dtype, lambda rng: rng.uniform(low, high, shape))


def places(extent: int, *shape: int) -> Input:
    """Random indexes."""
    return Input(shape, "int64", lambda rng: rng.integers(0, extent, shape))


def rows_of(extent: int, rows: int) -> Input:
    """Different indexes of the first axis, each a row of one number."""
    return Input((rows, 1), "int64", lambda rng: rng.permutation(extent)[:rows, None])


def known(values: Any, dtype: str = "int64") -> Input:
    """A constant."""
    return Input((), dtype, lambda rng: values, constant=True)


def given(values: Any, dtype: str = "int64") -> Input:
    """The same as an input of the model, whose value is known only when it runs."""
    return Input((), dtype, lambda rng: values)


def weights(*shape: int) -> Input:
    return Input(shape, constant=True)


IMAGE, TOKENS = (1, 64, 56, 56), (8, 197, 768)

# ---- elementwise -----------------------------------------------------------------------------------------------------

for op in (
    "Abs Ceil Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu Mish Neg Reciprocal Relu Round Selu Sigmoid "
    "Sign Sin Softplus Softsign Tanh"
).split():
    case(op, data(*IMAGE))
for op in "Log Sqrt".split():
    case(op, between(0.01, 3, *IMAGE))
case("Gelu tanh", data(*IMAGE), approximate="tanh")
for op in "Add Sub Mul Div Max Min Pow".split():
    second = between(0.5, 2, *IMAGE) if op == "Pow" else data(*IMAGE)
    first = between(0.1, 3, *IMAGE) if op == "Pow" else data(*IMAGE)
    case(f"{op} same shape", first, second)
    case(f"{op} scalar", first, known(2.5, "float32"))
for op in "Add Mul".split():
    case(f"{op} by channel", data(*IMAGE), data(1, 64, 1, 1))
    case(f"{op} by column", data(*TOKENS), data(768))
    case(f"{op} outer", data(512, 1), data(1, 512))
    for dtype in "int32 int64".split():
        case(f"{op} {dtype}", data(*IMAGE, dtype=dtype), data(*IMAGE, dtype=dtype))
for op in "Greater Equal".split():
    case(op, data(*IMAGE), data(*IMAGE))
    case(f"{op} int64", data(*IMAGE, dtype="int64"), data(*IMAGE, dtype="int64"))
case("And", data(*IMAGE, dtype="bool"), data(*IMAGE, dtype="bool"))
case("Not", data(*IMAGE, dtype="bool"))
case("Where", data(*IMAGE, dtype="bool"), data(*IMAGE), data(*IMAGE))
case("Where of a mask", data(1, 1, 128, 128, dtype="bool"), data(1, 12, 128, 128), known(-1e9, "float32"))
case("Clip", data(*IMAGE), known(0, "float32"), known(6, "float32"))
case("PRelu", data(*IMAGE), weights(64, 1, 1))
case("Mod of float32", data(*IMAGE), between(0.5, 3, *IMAGE), fmod=1)
case("BitShift", data(*IMAGE, dtype="uint8"), known(3, "uint8"), direction="LEFT")
KINDS = {"float32": 1, "uint8": 2, "int32": 6, "int64": 7, "bool": 9, "float16": 10}
for pair in "float32 int32,float32 int64,int64 float32,uint8 float32,float32 float16,bool float32".split(","):
    source, target = pair.split()
    case(f"Cast {source} to {target}", data(*IMAGE, dtype=source), to=KINDS[target])

# ---- reductions, normalizations --------------------------------------------------------------------------------------

for op in "ReduceMax ReduceMean ReduceSum ReduceProd ReduceL2 ReduceLogSumExp".split():
    for axes in ([1], [2, 3], [3]):
        case(f"{op} over {axes}", data(4, 64, 56, 56), known(axes), keepdims=0)
case("ReduceMean of tokens", data(*TOKENS), known([-1]))
for op in "ArgMax ArgMin".split():
    for axis in 1, 3:
        case(f"{op} along {axis}", data(4, 64, 56, 56), axis=axis)
case("ArgMax of classes", data(1, 21, 256, 256), axis=1)
case("Softmax of scores", data(8, 12, 197, 197), axis=-1)
case("Softmax of logits", data(1, 1000), axis=-1)
case("Softmax of channels", data(1, 21, 128, 128), axis=1)
case("LogSoftmax of words", data(16, 32000), axis=-1)
for axis in 1, 3:
    case(f"CumSum along {axis}", data(4, 64, 56, 56), known(axis))
case("LayerNormalization", data(*TOKENS), weights(768), weights(768), axis=-1)
case("LayerNormalization of 96", data(1, 3136, 96), weights(96), weights(96), axis=-1)
case("InstanceNormalization", data(*IMAGE), weights(64), weights(64))
case("GroupNormalization", data(*IMAGE), weights(64), weights(64), num_groups=8)
case("LRN", data(*IMAGE), size=5)
case("LpNormalization", data(*TOKENS), axis=-1)

# ---- convolutions with moved taps ------------------------------------------------------------------------------------

for channels, extent, groups in (64, 56, 1), (256, 28, 1), (256, 14, 4):
    case(
        f"DeformConv {channels} channels, {groups} offsets",
        data(1, channels, extent, extent),
        weights(channels, channels, 3, 3),
        between(-2, 2, 1, 18 * groups, extent, extent),
        None,
        between(0, 1, 1, 9 * groups, extent, extent),
        opset=22,
        pads=[1] * 4,
        offset_group=groups,
    )

# ---- transposed convolutions -----------------------------------------------------------------------------------------


def transposed(name: str, x: Input, filters: Input, stride: int, pad: int = 0) -> None:
    case(f"ConvTranspose {name}", x, filters, strides=[stride] * 2, pads=[pad] * 4)


transposed("64 to 1", data(1, 64, 64, 64), weights(64, 1, 2, 2), 2)
transposed("64 to 2 of 4 x 4", data(1, 64, 64, 64), weights(64, 2, 4, 4), 2, 1)
transposed("32 to 3", data(1, 32, 112, 112), weights(32, 3, 3, 3), 1, 1)
transposed("21 to 21 of 16 x 16", data(1, 21, 32, 32), weights(21, 21, 16, 16), 8, 4)
transposed("of one pixel", data(1, 100, 1, 1), weights(100, 512, 4, 4), 1)
transposed("128 to 64", data(1, 128, 28, 28), weights(128, 64, 2, 2), 2)

# ---- pooling ---------------------------------------------------------------------------------------------------------

for op in "MaxPool AveragePool".split():
    case(f"{op} 2 x 2", data(1, 64, 112, 112), kernel_shape=[2, 2], strides=[2, 2])
    case(f"{op} 3 x 3", data(1, 64, 112, 112), kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    case(f"{op} 5 x 5", data(1, 512, 20, 20), kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4)
    case(f"{op} of a few channels", data(4, 3, 225, 225), kernel_shape=[3, 3], strides=[2, 2])
    case(f"{op} of rows", data(1, 64, 8000), kernel_shape=[4], strides=[4])
    case(f"{op} of volumes", data(1, 32, 16, 56, 56), kernel_shape=[2, 2, 2], strides=[2, 2, 2])
    case(f"{op} dilated", data(1, 64, 56, 56), kernel_shape=[3, 3], dilations=[2, 2], pads=[2] * 4)
    case(f"{op} ceil", data(1, 64, 111, 111), kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)
case("MaxPool uint8", data(1, 64, 112, 112, dtype="uint8"), kernel_shape=[2, 2], strides=[2, 2])
case("MaxPool with places", data(1, 64, 112, 112), outputs=2, kernel_shape=[2, 2], strides=[2, 2])
case("LpPool", data(*IMAGE), kernel_shape=[3, 3], strides=[2, 2])
case("GlobalAveragePool", data(4, 512, 14, 14))
case("GlobalMaxPool", data(4, 512, 14, 14))
maxima = np.arange(16)[:, None, None] * 3136 + np.arange(28)[:, None] * 112 + np.arange(28) * 2
case("MaxUnpool", data(1, 16, 28, 28), given(maxima[None]), kernel_shape=[2, 2], strides=[2, 2])

# ---- resizing, sampling, boxes ---------------------------------------------------------------------------------------

NEAREST: dict[str, Any] = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def resize(name: str, x: Input, *factors: float, **attributes: Any) -> None:
    scales = known([1.0] * (len(x.shape) - len(factors)) + list(factors), "float32")
    case(f"Resize {name}", x, None, scales, **attributes)


resize("nearest by 2", data(*IMAGE), 2, 2, **NEAREST)
resize("nearest by 1.5", data(1, 21, 65, 65), 1.5, 1.5, **NEAREST)
resize("nearest of volumes", data(1, 32, 8, 28, 28), 2, 2, 2, **NEAREST)
resize("nearest int32", data(1, 1, 256, 256, dtype="int32"), 2, 2, **NEAREST)
for how in "half_pixel pytorch_half_pixel align_corners asymmetric".split():
    resize(f"linear by 2 {how}", data(*IMAGE), 2, 2, mode="linear", coordinate_transformation_mode=how)
resize("linear by 8", data(1, 21, 32, 32), 8, 8, mode="linear")
resize("linear by 0.35", data(1, 3, 640, 640), 0.35, 0.35, mode="linear")
resize("linear antialiased", data(1, 3, 480, 640), 0.35, 0.35, mode="linear", antialias=1)
resize("linear of volumes", data(1, 32, 8, 28, 28), 2, 2, 2, mode="linear")
# Integers are rounded here; ONNX Runtime cuts them off.
resize("linear uint8", data(1, 3, 480, 640, dtype="uint8"), 0.5, 0.5, mode="linear", tolerance=6e-3)
resize("cubic", data(1, 3, 224, 224), 2, 2, mode="cubic")
case("Resize linear to 224", data(1, 3, 480, 640), None, None, known([1, 3, 224, 224]), mode="linear")
case("Resize linear to a given size", data(1, 3, 480, 640), None, None, given([1, 3, 224, 224]), mode="linear")
for mode in "linear nearest cubic".split():
    case(f"GridSample {mode}", data(1, 32, 64, 64), between(-1, 1, 1, 64, 64, 2), mode=mode)
case("AffineGrid", data(4, 2, 3), known([4, 3, 112, 112]))


def boxes(rng: np.random.Generator, count: int, extent: float, largest: float) -> np.ndarray:
    corner = rng.uniform(0, extent, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(10, largest, (count, 2))], 1)


REGIONS = Input((100, 4), values=lambda rng: boxes(rng, 100, 100, 100))
for ratio in 2, 0:
    case(
        f"RoiAlign {ratio} samples", data(1, 256, 56, 56), REGIONS, places(1, 100), output_height=7, output_width=7,
        sampling_ratio=ratio, spatial_scale=0.25,
    )  # fmt: skip
for classes, count in (1, 2000), (80, 1000):
    case(
        f"NonMaxSuppression {classes} of {count}",
        Input((1, count, 4), values=lambda rng, n=count: boxes(rng, n, 600, 80)[None]),
        between(0, 1, 1, classes, count),
        known([100]),
        known([0.5], "float32"),
        known([0.3], "float32"),
    )

# ---- order -----------------------------------------------------------------------------------------------------------

for k in 1, 5, 100, 1000:
    case(f"TopK {k} of 8400", data(16, 8400), known([k]), outputs=2)
case("TopK of a given number", data(16, 8400), given([5]), outputs=2)
case("TopK along 1", data(1, 80, 128, 128), known([1]), outputs=2, axis=1)
case("TopK all of 512", data(64, 512), known([512]), outputs=2)
case("TopK int64", data(16, 8400, dtype="int64"), known([5]), outputs=2)
case("Unique", data(4096, dtype="int64"), outputs=4)
case("NonZero", data(*IMAGE, dtype="bool"))

# ---- moving elements -------------------------------------------------------------------------------------------------

case("Transpose to channels last", data(*IMAGE), perm=[0, 2, 3, 1])
case("Transpose to channels first", data(1, 56, 56, 64), perm=[0, 3, 1, 2])
case("Transpose of heads", data(8, 197, 12, 64), perm=[0, 2, 1, 3])
case("Transpose of keys", data(8, 197, 12, 64), perm=[0, 2, 3, 1])
case("Transpose of a matrix", data(1024, 1024), perm=[1, 0])
case("Transpose of windows", data(1, 8, 7, 8, 7, 96), perm=[0, 1, 3, 2, 4, 5])
case("Transpose uint8", data(1, 480, 640, 3, dtype="uint8"), perm=[0, 3, 1, 2])
for axis in 1, 3:
    case(f"Concat along {axis}", data(*IMAGE), data(*IMAGE), axis=axis)
case("Concat of boxes", data(8400, 4), data(8400, 80), axis=1)
case("Split along 1", data(*IMAGE), outputs=2, axis=1, num_outputs=2)
case("Split of queries", data(8, 197, 2304), outputs=3, axis=2, num_outputs=3)
case("Slice", data(*IMAGE), known([1, 1]), known([55, 55]), known([2, 3]))
case("Slice of every second", data(1, 3, 640, 640), known([0, 0]), known([640, 640]), known([2, 3]), known([2, 2]))
case("Slice of given places", data(*IMAGE), given([1, 1]), given([55, 55]), known([2, 3]))
for mode in "constant reflect edge".split():
    case(f"Pad {mode}", data(*IMAGE), known([0, 0, 3, 3, 0, 0, 3, 3]), mode=mode)
case("Tile", data(*IMAGE), known([1, 1, 2, 2]))
case("Tile of a row", data(1, 1, 768), known([1, 1024, 1]))
case("Expand", data(1, 64, 1, 1), known(IMAGE))
case("Expand of heads", data(1, 8, 1, 256, 64), known([1, 8, 4, 256, 64]))
case("DepthToSpace", data(*IMAGE), blocksize=2)
case("DepthToSpace CRD", data(*IMAGE), blocksize=2, mode="CRD")
case("SpaceToDepth", data(*IMAGE), blocksize=2)
case("Gather of words", weights(30000, 768), places(30000, 8, 128))
case("Gather along 1", data(*IMAGE), known(np.arange(64)[::-1]), axis=1)
case("Gather of columns", data(8400, 85), known([0, 2, 4]), axis=1)
case("Gather of given places", data(1000, 256), places(1000, 300))
case("GatherElements along 0", data(64, 1000), places(64, 64, 1000), axis=0)
case("GatherElements along 1", data(64, 1000), places(1000, 64, 100), axis=1)
case("GatherND", data(64, 56, 56), places(56, 4096, 2))
case("ScatterND", data(4096, 64), rows_of(4096, 512), data(512, 64))
ORDER = Input((64, 1000), "int64", lambda rng: np.argsort(rng.random((64, 1000)), 0))
case("ScatterElements", data(64, 1000), ORDER, data(64, 1000), axis=0)
case("OneHot", places(21, 1, 128, 128), known(21), known([0, 1], "float32"), axis=1)
case("Trilu", data(12, 256, 256), upper=0)
case("EyeLike", data(512, 512))
case("Compress", data(1000, 64), data(1000, dtype="bool"), axis=0)
case("ReverseSequence", data(50, 8, 64), given([30] * 8), time_axis=0, batch_axis=1)
case("Col2Im", data(1, 576, 2916), known([56, 56]), known([3, 3]))
case("Det", data(64, 8, 8))

# ---- quantization ----------------------------------------------------------------------------------------------------

case("QuantizeLinear", data(*IMAGE), known(0.02, "float32"), known(128, "uint8"))
case("DequantizeLinear", data(*IMAGE, dtype="uint8"), known(0.02, "float32"), known(128, "uint8"))
case("DynamicQuantizeLinear", data(*IMAGE), outputs=3)
