"""Steps by which a random graph of ONNX grows: layers of networks, and pieces that exporters write."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from support.onnx_graphs import FLOATS, I8, I32, I64, NUMBERS, U8, B, F, Graph, Step, Value, step

# ---- along axes ------------------------------------------------------------------------------------------------------

REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd".split()
REDUCTIONS_OF_FLOATS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split()


@step(3)
def reduction(g: Graph):
    if v := g.pick(NUMBERS, range(1, 6)):
        op = g.choice(*REDUCTIONS, *(REDUCTIONS_OF_FLOATS if v.kind == F else []))
        axes = g.rng.sample(range(-v.rank, 0), g.rng.randint(1, v.rank))
        reduced(g, op, v, axes, g.choice(0, 1))


def reduced(g: Graph, op: str, v: Value, axes: list[int], keep: int = 1) -> list[Value]:
    if g.opset >= 18 or (op == "ReduceSum" and g.opset >= 13):
        return g.add(op, [v, g.whole(*axes)], keepdims=keep)
    return g.add(op, [v], axes=axes, keepdims=keep)


@step()
def place_of_the_largest(g: Graph):
    if v := g.pick((F, F, I32), range(1, 5)):
        g.add(g.choice("ArgMax", "ArgMin"), [v], axis=g.axis(v), keepdims=g.choice(0, 1))


@step()
def softmax(g: Graph):
    if v := g.pick(FLOATS, range(1, 5)):
        g.add(g.choice("Softmax", "Softmax", "LogSoftmax"), [v], axis=g.axis(v))


@step()
def running_sum(g: Graph):
    if v := g.pick(NUMBERS, range(1, 5)):
        g.add(
            "CumSum", [v, g.constant(g.axis(v), g.choice(I64, I32))], exclusive=g.choice(0, 1), reverse=g.choice(0, 1)
        )


@step(3)
def normalization(g: Graph):
    v = g.pick(FLOATS, range(2, 6))
    if not v:
        return
    channels, last = v.size(1), v.size(-1)
    options: list[Step] = [
        lambda g: g.add("LpNormalization", [v], axis=g.axis(v), p=g.choice(1, 2)),
        lambda g: v.rank == 4 and g.add("MeanVarianceNormalization", [v]),
    ]
    if last and g.opset >= 17:
        options.append(lambda g: g.add("LayerNormalization", [v, *(g.constant(g.random(F, [last])) for _ in "sb")]))
    if channels:
        two = [g.constant(g.random(F, [channels])) for _ in "sb"]
        options += [
            lambda g: g.add("LRN", [v], size=g.choice(1, 3, 4), alpha=0.1),
            lambda g: v.rank > 2 and g.add("InstanceNormalization", [v, *two]),
            lambda g: g.opset >= 21 and g.add("GroupNormalization", [v, *two], num_groups=channels),
        ]
    g.choice(*options)(g)


# ---- products --------------------------------------------------------------------------------------------------------


@step(4)
def product(g: Graph):
    v = g.pick(FLOATS, range(1, 5))
    if not v:
        return
    last, other = v.size(-1), g.pick(FLOATS, range(1, 5))
    if g.chance(0.3) and other:
        g.add("MatMul", [v, other])
    elif last:
        g.add("MatMul", [v, g.constant(g.random(F, [last, g.choice(1, 3, 8, 16)]))])


@step()
def product_and_sum(g: Graph):
    if (v := g.pick(FLOATS, [2])) and (depth := v.size(1)):
        n, turned = g.choice(1, 4, 8, 10), g.choice(0, 1)
        weights = g.constant(g.random(F, [n, depth] if turned else [depth, n]))
        bias = g.constant(g.random(F, g.choice([n], [1, n], [1], [])))
        g.add("Gemm", [v, weights, bias], transB=turned, alpha=g.choice(1.0, 0.5), beta=g.choice(1.0, 2.0))


@step()
def einsum(g: Graph):
    equations = {2: ("ij,kj->ik", "ij,ij->i", "ij,ik->jk"), 3: ("bij,bkj->bik", "bij,cij->bc"), 4: ("bhid,bhjd->bhij",)}
    # ONNX Runtime divides by the sizes, and ends the process.
    if v := g.pick(FLOATS, equations, where=lambda v: all(a.size for a in v.arrays)):
        g.add("Einsum", [v, v], equation=g.choice(*equations[v.rank]))


@step()
def attention_in_pieces(g: Graph):
    v = g.pick(FLOATS, (3, 4))
    if not v or not (depth := v.size(-1)):
        return
    keys = g.add("MatMul", [v, g.constant(g.random(F, [depth, depth]) / 2)])
    turned = keys and g.add("Transpose", keys, perm=[*range(v.rank - 2), v.rank - 1, v.rank - 2])
    scores = turned and g.add("MatMul", [v, turned[0]])
    scaled = scores and g.add("Mul", [scores[0], g.constant(depth**-0.5, F)])
    weights = scaled and g.add("Softmax", scaled, axis=-1)
    if weights:
        g.add("MatMul", [weights[0], v])


@step(4)
def convolution(g: Graph):
    v = g.pick(FLOATS, (3, 4, 4, 4, 5), where=lambda v: v.size(1))
    if not v:
        return
    channels = v.size(1) or 1
    groups = g.choice(1, 1, 1, channels, *[n for n in range(1, channels + 1) if channels % n == 0])
    out = groups * g.choice(1, 2, 3) if groups > 1 else g.choice(1, 2, 4, 8, 16)
    window = [g.choice(1, 1, 2, 3, 3, 5) for _ in range(v.rank - 2)]
    attributes = {
        "strides": [g.choice(1, 1, 2) for _ in window],
        "dilations": [g.choice(1, 1, 1, 2) for _ in window],
        "group": groups,
        "pads": [g.choice(0, 1, n // 2) for n in window * 2],
    }
    if g.chance(0.2) and v.rank < 5:
        weights = g.random(F, [channels, max(out // groups, 1), *window]) / 2
        g.add("ConvTranspose", [v, g.constant(weights)], **attributes)
        return
    if g.chance(0.25):
        del attributes["pads"]
        attributes["auto_pad"] = g.choice("SAME_UPPER", "SAME_LOWER", "VALID")
    bias = [g.constant(g.random(F, [out]))] if g.chance(0.6) else []
    made = g.add("Conv", [v, g.constant(g.random(F, [out, channels // groups, *window]) / 2), *bias], **attributes)
    if made and g.chance(0.5):
        behind_a_convolution(g, made[0], out)


def behind_a_convolution(g: Graph, v: Value, channels: int) -> None:
    what = g.choice("norm", "Relu", "swish", "bias")
    if what == "norm":
        numbers = [g.numbers.uniform(0.5, 1.5, channels).astype(np.float32) for _ in "sbmv"]
        g.add("BatchNormalization", [v, *map(g.constant, numbers)])
    elif what == "Relu":
        g.add("Relu", [v])
    elif what == "bias":
        g.add("Add", [v, g.constant(g.random(F, [channels] + [1] * (v.rank - 2)))])
    elif gate := g.add("Sigmoid", [v]):
        g.add("Mul", [v, gate[0]])


@step(3)
def pooling(g: Graph):
    v = g.pick(FLOATS, (3, 4, 4, 5))
    if not v:
        return
    op = g.choice("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
    if op.startswith("Global"):
        g.add(op, [v])
        return
    window = [g.choice(1, 2, 3) for _ in range(v.rank - 2)]
    # ONNX Runtime cuts off quotients below 0: windows are no larger than the data.
    if any(n > v.shortest(k + 2) for k, n in enumerate(window)):
        return
    counts = {"count_include_pad": g.choice(0, 1)} if op == "AveragePool" else {}
    pads = [g.choice(0, n // 2) for n in window * 2]
    strides = [g.choice(1, 2, 3) for _ in window]
    g.add(op, [v], kernel_shape=window, strides=strides, pads=pads, ceil_mode=g.choice(0, 0, 1), **counts)


@step(2)
def resize(g: Graph):
    v = g.pick(FLOATS, (3, 4, 4))
    if not v:
        return
    mode = g.choice("nearest", "linear", "linear", "cubic" if v.rank == 4 else "linear")
    scales = [1, 1, *(g.choice(0.5, 1, 1.5, 2, 2, 3) for _ in range(v.rank - 2))]
    whole = all(s in (1, 2, 3) for s in scales)  # else ONNX Runtime takes other sizes for align_corners
    how = g.choice("half_pixel", "asymmetric", "align_corners") if whole else "half_pixel"
    nearest = g.choice("floor", "round_prefer_floor") if mode == "nearest" else None
    inputs = [v, None, g.constant(scales, F)]
    g.add("Resize", inputs, mode=mode, coordinate_transformation_mode=how, nearest_mode=nearest)


@step(2)
def sample(g: Graph):
    if (v := g.pick(FLOATS, [4], where=lambda v: v.size(0))) and g.opset >= 16:
        grid = g.numbers.uniform(-1.3, 1.3, [v.size(0) or 1, 3, 4, 2]).astype(np.float32)
        linear = "linear" if g.opset >= 20 else "bilinear"
        g.add("GridSample", [v, g.constant(grid)], mode=g.choice(linear, "nearest"), align_corners=g.choice(0, 1))


@step()
def blocks_of_pixels(g: Graph):
    if v := g.pick(FLOATS, [4]):
        g.add(g.choice("DepthToSpace", "SpaceToDepth"), [v], blocksize=2)


@step(2)
def recurrent(g: Graph):
    v = g.pick(FLOATS, [3], where=lambda v: v.size(2) and v.shortest(0) and v.shortest(1))
    if not v:
        return
    op, hidden, direction = (
        g.choice("LSTM", "GRU", "RNN"),
        g.choice(2, 4, 8),
        g.choice("forward", "reverse", "bidirectional"),
    )
    rows, ways = {"LSTM": 4, "GRU": 3, "RNN": 1}[op] * hidden, 1 + (direction == "bidirectional")
    weights = [g.constant(g.random(F, [ways, rows, n]) * np.float32(0.3)) for n in (v.size(2) or 1, hidden)]
    g.add(op, [v, *weights], 3 if op == "LSTM" else 2, hidden_size=hidden, direction=direction)


# ---- quantized -------------------------------------------------------------------------------------------------------


@step(2)
def there_and_back(g: Graph):
    if v := g.pick(FLOATS, range(1, 5)):
        axis = min(1, v.rank - 1)
        channels = v.size(axis) if g.opset >= 13 and g.chance(0.4) else None
        shape = [] if channels is None else [channels]
        scale = g.constant(g.numbers.uniform(0.021, 0.1, shape).astype(np.float32))
        zero = g.constant(g.numbers.integers(0, 5, shape), g.choice(U8, I8) if channels is None else I8)
        stored = g.add("QuantizeLinear", [v, scale, zero], axis=axis if shape else None)
        if stored and g.chance(0.8):
            g.add("DequantizeLinear", [stored[0], scale, zero], axis=axis if shape else None)


@step(2)
def quantized_layer(g: Graph):
    """A product of numbers with steps, a function, and steps again, some of which may be missing."""
    v = g.pick(FLOATS, (2, 3, 4), where=lambda v: v.size(1) and v.size(-1))
    real = v and rounded(g, v)
    if not v or not real:
        return
    is_image, ways = v.rank > 2 and g.chance(0.7), g.choice(4, 8)
    shape = [ways, v.size(1) or 1, *(1 for _ in range(v.rank - 2))] if is_image else [v.size(-1) or 1, ways]
    scale = g.constant(g.numbers.uniform(0.004, 0.01, [ways] if g.opset >= 13 else []).astype(np.float32))
    weight = g.add(
        "DequantizeLinear", [g.constant(g.random(I8, shape)), scale], axis=None if g.opset < 13 else 1 - is_image
    )
    made = weight and g.add("Conv" if is_image else "MatMul", [real, weight[0]])
    steps = made and rounded(g, made[0]) if g.chance(0.7) else made and made[0]
    function = steps and g.add(g.choice("Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Neg", "Identity"), [steps])
    if function and g.chance(0.7):
        rounded(g, g.choice(function[0], steps))


def rounded(g: Graph, v: Value) -> Value | None:
    """A tensor with steps of one size, cut off at both ends."""
    numbers = [g.constant(g.numbers.uniform(0.02, 0.1), F), g.constant(g.choice(0, 5, 100), g.choice(U8, I8))]
    stored = g.add("QuantizeLinear", [v, *numbers])
    real = stored and g.add("DequantizeLinear", [stored[0], *numbers])
    return real[0] if real else None


@step()
def dynamic(g: Graph):
    v = g.pick(FLOATS, range(1, 5))
    # Zeros have the scale 1 in ONNX Runtime, and 1 / 255 in the standard's definition.
    if v and all(a.any() for a in v.arrays) and (made := g.add("DynamicQuantizeLinear", [v], 3)):
        g.add("DequantizeLinear", made)


# ---- what exporters write --------------------------------------------------------------------------------------------


@step()
def norm_in_pieces(g: Graph):
    v = g.pick(FLOATS, (2, 3, 4))
    if not v:
        return
    mean = reduced(g, "ReduceMean", v, [-1])
    centred = mean and g.add("Sub", [v, mean[0]])
    squares = centred and g.add("Pow", [centred[0], g.constant(2, F)])
    variance = squares and reduced(g, "ReduceMean", squares[0], [-1])
    total = variance and g.add("Add", [variance[0], g.constant(1e-5, F)])
    root = total and g.add("Sqrt", total)
    result = root and g.add("Div", [centred[0], root[0]])
    if result and (last := v.size(-1)):
        g.add("Mul", [result[0], g.constant(g.random(F, [last]))])


@step()
def gelu_in_pieces(g: Graph):
    if v := g.pick(FLOATS):
        scaled = g.add("Div", [v, g.constant(2**0.5, F)])
        error = scaled and g.add("Erf", scaled)
        gate = error and g.add("Add", [error[0], g.constant(1, F)])
        twice = gate and g.add("Mul", [v, gate[0]])
        if twice:
            g.add("Mul", [twice[0], g.constant(0.5, F)])


@step()
def heads(g: Graph):
    v = g.pick(FLOATS, [3], where=lambda v: v.size(2) and v.size(2) % 2 == 0)
    if v and (depth := v.size(2)):
        split = g.add("Reshape", [v, g.whole(0, -1, 2, depth // 2)])
        turned = split and g.add("Transpose", split, perm=[0, 2, 1, 3])
        back = turned and g.chance(0.6) and g.add("Transpose", turned, perm=[0, 2, 1, 3])
        if back:
            g.add("Reshape", [back[0], g.whole(0, 0, depth)])


@step()
def gate_of_halves(g: Graph):
    v = g.pick(FLOATS, (2, 3, 4), where=lambda v: v.size(-1) and v.size(-1) % 2 == 0)
    if v and (half := (v.size(-1) or 0) // 2):
        new = g.opset >= 13
        inputs = [v, g.whole(half, half)] if new else [v]
        halves = g.add("Split", inputs, 2, axis=-1, split=None if new else [half, half])
        gate = halves and g.add("Sigmoid", [halves[1]])
        if gate:
            g.add("Mul", [halves[0], gate[0]])


@step()
def weights_of_channels(g: Graph):
    v = g.pick(FLOATS, [4], where=lambda v: v.size(1))
    if v and (channels := v.size(1)):
        mean = g.add("GlobalAveragePool", [v])
        made = mean and g.add("Conv", [mean[0], g.constant(g.random(F, [channels, channels, 1, 1]))])
        gate = made and g.add(g.choice("Sigmoid", "HardSigmoid"), made)
        if gate:
            g.add("Mul", [v, gate[0]])


@step()
def loop(g: Graph):
    if v := g.pick(FLOATS, (1, 2, 3)):
        infos = [
            helper.make_tensor_value_info(n, kind, dims)
            for n, kind, dims in (("i", I64, []), ("c", B, []), ("a", F, None))
        ]
        nodes = [helper.make_node("Tanh", ["a"], ["b"])] + [
            helper.make_node("Identity", [a], [b]) for a, b in (("c", "d"), ("b", "o"))
        ]
        results = [helper.make_tensor_value_info(n, TensorProto.BOOL if n == "d" else F, None) for n in "dbo"]
        body = helper.make_graph(nodes, "body", infos, results)
        g.add("Loop", [g.constant(g.choice(1, 3), I64), g.constant(True, B), v], 2, body=body)


@step()
def microsoft(g: Graph):
    if v := g.pick(FLOATS, (2, 3)):
        op = g.choice("Gelu", "FastGelu", "QuickGelu", "FusedMatMul")
        g.add(
            op,
            [v, v] if op == "FusedMatMul" else [v],
            domain="com.microsoft",
            transB=1 if op == "FusedMatMul" else None,
        )
