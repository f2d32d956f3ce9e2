"""Writes public network architectures as ONNX files with random weights, for ``compare.py`` and ``cold_start.py``.

    python benchmarks/networks.py FOLDER                 # all of them
    python benchmarks/networks.py FOLDER resnet50 swin_tiny --batch 4
    python benchmarks/compare.py FOLDER --threads 1

For each network it writes NAME.onnx and NAME.npz: the inputs, and the outputs of ONNX Runtime, against which every
engine is checked. A network's function below is its list of layers: convolutions stand without batch normalization,
as exporters fold it, and activations are written with the operators that exporters write. Weights are scaled so that
values keep their size from layer to layer.

Needs the packages onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import math
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 20  # the first with Gelu


class Network:
    """A graph that grows layer by layer. Values are named by strings; shapes of images are NCHW."""

    def __init__(self, name: str, batch: int) -> None:
        self.name, self.batch = name, batch
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.feeds: dict[str, np.ndarray] = {}
        self.outputs: list[str] = []
        self.random = np.random.default_rng(zlib.crc32(name.encode()))

    def input(self, name: str, *shape: int) -> str:
        self.feeds[name] = self.random.standard_normal((self.batch, *shape), "float32")
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: object) -> str:
        """A node; with several outputs their names end in .0, .1, …"""
        name = f"{kind}{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}.{k}" for k in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        return name

    def weight(self, *shape: int, inputs: int) -> str:
        return self.constant(self.random.standard_normal(shape, "float32") * np.float32(math.sqrt(1.5 / inputs)))

    def bias(self, size: int) -> str:
        return self.constant(self.random.standard_normal(size, "float32") * np.float32(0.1))

    def conv(
        self, x: str, inputs: int, outputs: int, size: int = 1, stride: int = 1, groups: int = 1, dilation: int = 1,
        act: str | None = None,
    ) -> str:  # fmt: skip
        """A convolution that keeps the size of the image but for its stride, with its bias and activation."""
        weight = self.weight(outputs, inputs // groups, size, size, inputs=inputs // groups * size * size)
        pad = (size - 1) * dilation // 2
        x = self.op(
            "Conv", x, weight, self.bias(outputs), kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4,
            group=groups, dilations=[dilation] * 2,
        )  # fmt: skip
        return self.activation(x, act)

    def activation(self, x: str, act: str | None) -> str:
        if act is None:
            return x
        if act == "silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if act == "relu6":
            return self.op("Clip", x, self.constant(np.float32(0)), self.constant(np.float32(6)))
        return self.op({"relu": "Relu", "hardswish": "HardSwish", "gelu": "Gelu", "hardsigmoid": "HardSigmoid"}[act], x)

    def linear(self, x: str, inputs: int, outputs: int, act: str | None = None) -> str:
        """A matrix product over the last dimension, with its bias."""
        x = self.op("MatMul", x, self.weight(inputs, outputs, inputs=inputs))
        return self.activation(self.op("Add", x, self.bias(outputs)), act)

    def layer_norm(self, x: str, size: int) -> str:
        scale = self.constant(1 + 0.1 * self.random.standard_normal(size, "float32"))
        return self.op("LayerNormalization", x, scale, self.bias(size), axis=-1, epsilon=1e-6)

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.integers(*shape))

    def max_pool(self, x: str, size: int, stride: int, pad: int = 0) -> str:
        return self.op("MaxPool", x, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)

    def squeeze_excite(self, x: str, channels: int, squeezed: int, gate: str | None = None) -> str:
        s = self.conv(self.op("GlobalAveragePool", x), channels, squeezed, act="relu")
        s = self.conv(s, squeezed, channels)
        return self.op("Mul", x, self.activation(s, gate) if gate else self.op("Sigmoid", s))

    def classifier(self, x: str, channels: int, classes: int = 1000) -> None:
        x = self.op("Flatten", self.op("GlobalAveragePool", x))
        self.outputs = [self.op("Softmax", self.linear(x, channels, classes))]

    def model(self) -> onnx.ModelProto:
        kind, value = helper.np_dtype_to_tensor_dtype, helper.make_tensor_value_info
        inputs = [value(name, kind(array.dtype), array.shape) for name, array in self.feeds.items()]
        outputs = [value(name, TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self.nodes, self.name, inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return onnx.shape_inference.infer_shapes(model)  # for the shapes of the outputs


# ---- convolutional networks ----


def vgg16(net: Network) -> None:
    x, inputs = net.input("image", 3, 224, 224), 3
    for outputs, repeats in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(repeats):
            x, inputs = net.conv(x, inputs, outputs, 3, act="relu"), outputs
        x = net.max_pool(x, 2, 2)
    x = net.linear(net.op("Flatten", x), 512 * 49, 4096, act="relu")
    x = net.linear(x, 4096, 4096, act="relu")
    net.outputs = [net.op("Softmax", net.linear(x, 4096, 1000))]


def _residual(net: Network, x: str, shortcut: str, inputs: int, outputs: int, stride: int) -> str:
    if stride != 1 or inputs != outputs:
        shortcut = net.conv(shortcut, inputs, outputs, 1, stride)
    return net.op("Relu", net.op("Add", x, shortcut))


def resnet18(net: Network) -> None:
    x = net.conv(net.input("image", 3, 224, 224), 3, 64, 7, 2, act="relu")
    x, inputs = net.max_pool(x, 3, 2, 1), 64
    for outputs in (64, 128, 256, 512):
        for k in range(2):
            stride = 2 if k == 0 and outputs > 64 else 1
            y = net.conv(net.conv(x, inputs, outputs, 3, stride, act="relu"), outputs, outputs, 3)
            x, inputs = _residual(net, y, x, inputs, outputs, stride), outputs
    net.classifier(x, 512)


def _resnet50_features(net: Network, x: str, dilate_from: int = 9) -> str:
    """The stages of ResNet-50; from stage ``dilate_from`` on they dilate and do not stride."""
    x, inputs, dilation = net.max_pool(net.conv(x, 3, 64, 7, 2, act="relu"), 3, 2, 1), 64, 1
    for stage, (width, repeats) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
        for k in range(repeats):
            stride = 2 if k == 0 and 0 < stage < dilate_from else 1
            y = net.conv(x, inputs, width, act="relu")
            y = net.conv(y, width, width, 3, stride, dilation=dilation, act="relu")
            x, inputs = _residual(net, net.conv(y, width, 4 * width), x, inputs, 4 * width, stride), 4 * width
            if k == 0 and stage >= dilate_from:
                dilation *= 2
    return x


def resnet50(net: Network) -> None:
    net.classifier(_resnet50_features(net, net.input("image", 3, 224, 224)), 2048)


def deeplabv3_resnet50(net: Network) -> None:
    """Atrous spatial pyramid pooling over features of an eighth of the image's size."""
    x = _resnet50_features(net, net.input("image", 3, 256, 256), dilate_from=2)
    branches = [net.conv(x, 2048, 256, act="relu")]
    branches += [net.conv(x, 2048, 256, 3, dilation=d, act="relu") for d in (12, 24, 36)]
    pooled = net.conv(net.op("GlobalAveragePool", x), 2048, 256, act="relu")
    branches.append(net.op("Expand", pooled, net.integers(net.batch, 256, 32, 32)))
    x = net.conv(net.op("Concat", *branches, axis=1), 1280, 256, act="relu")
    x = net.conv(net.conv(x, 256, 256, 3, act="relu"), 256, 21)
    net.outputs = [net.op("Resize", x, "", net.constant(np.float32([1, 1, 8, 8])), mode="linear")]


def _inverted_residual(
    net: Network, x: str, inputs: int, width: int, outputs: int, size: int, stride: int, act: str, squeeze: int = 0
) -> str:
    y = net.conv(x, inputs, width, act=act) if width != inputs else x
    y = net.conv(y, width, width, size, stride, groups=width, act=act)
    if squeeze:
        y = net.squeeze_excite(y, width, squeeze, "hardsigmoid")
    y = net.conv(y, width, outputs)
    return net.op("Add", x, y) if stride == 1 and inputs == outputs else y


def mobilenet_v2(net: Network) -> None:
    x, inputs = net.conv(net.input("image", 3, 224, 224), 3, 32, 3, 2, act="relu6"), 32
    for expand, outputs, repeats, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for k in range(repeats):
            x = _inverted_residual(net, x, inputs, inputs * expand, outputs, 3, first if k == 0 else 1, "relu6")
            inputs = outputs
    net.classifier(net.conv(x, 320, 1280, act="relu6"), 1280)


def mobilenet_v3_large(net: Network) -> None:
    x, inputs = net.conv(net.input("image", 3, 224, 224), 3, 16, 3, 2, act="hardswish"), 16
    for size, width, outputs, squeeze, act, stride in (
        (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 24, "relu", 2),
        (5, 120, 40, 32, "relu", 1), (5, 120, 40, 32, "relu", 1), (3, 240, 80, 0, "hardswish", 2),
        (3, 200, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1), (3, 184, 80, 0, "hardswish", 1),
        (3, 480, 112, 120, "hardswish", 1), (3, 672, 112, 168, "hardswish", 1), (5, 672, 160, 168, "hardswish", 2),
        (5, 960, 160, 240, "hardswish", 1), (5, 960, 160, 240, "hardswish", 1),
    ):  # fmt: skip
        x, inputs = _inverted_residual(net, x, inputs, width, outputs, size, stride, act, squeeze), outputs
    x = net.op("GlobalAveragePool", net.conv(x, 160, 960, act="hardswish"))
    x = net.linear(net.op("Flatten", x), 960, 1280, act="hardswish")
    net.outputs = [net.op("Softmax", net.linear(x, 1280, 1000))]


def _channel_shuffle(net: Network, x: str, channels: int, size: int) -> str:
    x = net.reshape(x, net.batch, 2, channels // 2, size, size)
    return net.reshape(net.op("Transpose", x, perm=[0, 2, 1, 3, 4]), net.batch, channels, size, size)


def shufflenet_v2(net: Network) -> None:
    x = net.conv(net.input("image", 3, 224, 224), 3, 24, 3, 2, act="relu")
    x, inputs, size = net.max_pool(x, 3, 2, 1), 24, 56
    for outputs, repeats in ((116, 4), (232, 8), (464, 4)):
        half = outputs // 2
        for k in range(repeats):
            if k == 0:
                left = net.conv(net.conv(x, inputs, inputs, 3, 2, groups=inputs), inputs, half, act="relu")
                right, width, size = x, inputs, size // 2
            else:
                pair = net.op("Split", x, outputs=2, axis=1, num_outputs=2)
                left, right, width = f"{pair}.0", f"{pair}.1", half
            right = net.conv(right, width, half, act="relu")
            right = net.conv(right, half, half, 3, 2 if k == 0 else 1, groups=half)
            right = net.conv(right, half, half, act="relu")
            x, inputs = _channel_shuffle(net, net.op("Concat", left, right, axis=1), outputs, size), outputs
    net.classifier(net.conv(x, 464, 1024, act="relu"), 1024)


def _regnet(net: Network, depths: Sequence[int], widths: Sequence[int], group: int, squeeze: bool) -> None:
    x, inputs = net.conv(net.input("image", 3, 224, 224), 3, 32, 3, 2, act="relu"), 32
    for depth, width in zip(depths, widths, strict=True):
        for k in range(depth):
            stride = 2 if k == 0 else 1
            y = net.conv(x, inputs, width, act="relu")
            y = net.conv(y, width, width, 3, stride, groups=width // group, act="relu")
            if squeeze:
                y = net.squeeze_excite(y, width, round(inputs / 4))
            x, inputs = _residual(net, net.conv(y, width, width), x, inputs, width, stride), width
    net.classifier(x, inputs)


def regnetx_016(net: Network) -> None:
    _regnet(net, (2, 4, 10, 2), (72, 168, 408, 912), 24, squeeze=False)


def regnety_004(net: Network) -> None:
    _regnet(net, (1, 3, 6, 6), (48, 104, 208, 440), 8, squeeze=True)


def regnety_016(net: Network) -> None:
    _regnet(net, (2, 6, 17, 2), (48, 120, 336, 888), 24, squeeze=True)


def replknet31(net: Network) -> None:
    """RepLKNet-31B as it is deployed: depthwise convolutions of up to 31 x 31."""
    x = net.conv(net.input("image", 3, 224, 224), 3, 128, 3, 2, act="relu")
    x = net.conv(net.conv(x, 128, 128, 3, groups=128, act="relu"), 128, 128, act="relu")
    x = net.conv(x, 128, 128, 3, 2, groups=128, act="relu")
    for stage, (depth, width, size) in enumerate(((2, 128, 31), (2, 256, 29), (18, 512, 27), (2, 1024, 13))):
        if stage:
            x = net.conv(x, width // 2, width, act="relu")
            x = net.conv(x, width, width, 3, 2, groups=width, act="relu")
        for _ in range(depth):
            y = net.conv(x, width, width, act="relu")
            y = net.conv(net.conv(y, width, width, size, groups=width, act="relu"), width, width)
            x = net.op("Add", x, y)
            y = net.conv(net.conv(x, width, 4 * width, act="gelu"), 4 * width, width)
            x = net.op("Add", x, y)
    net.classifier(x, 1024)


def convnext_tiny(net: Network) -> None:
    x, inputs = net.input("image", 3, 224, 224), 3
    for depth, width in ((3, 96), (3, 192), (9, 384), (3, 768)):
        size = 4 if inputs == 3 else 2
        if inputs != 3:
            x = _norm_of_channels(net, x, inputs)
        patch = net.weight(width, inputs, size, size, inputs=inputs * size * size)
        x = net.op("Conv", x, patch, net.bias(width), kernel_shape=[size] * 2, strides=[size] * 2)
        if inputs == 3:
            x = _norm_of_channels(net, x, width)
        inputs = width
        for _ in range(depth):
            y = net.op("Transpose", net.conv(x, width, width, 7, groups=width), perm=[0, 2, 3, 1])
            y = net.linear(net.layer_norm(y, width), width, 4 * width, act="gelu")
            y = net.op("Mul", net.linear(y, 4 * width, width), net.bias(width))
            x = net.op("Add", x, net.op("Transpose", y, perm=[0, 3, 1, 2]))
    x = net.op("Flatten", net.op("GlobalAveragePool", x))
    net.outputs = [net.op("Softmax", net.linear(net.layer_norm(x, 768), 768, 1000))]


def _norm_of_channels(net: Network, x: str, channels: int) -> str:
    x = net.layer_norm(net.op("Transpose", x, perm=[0, 2, 3, 1]), channels)
    return net.op("Transpose", x, perm=[0, 3, 1, 2])


def unet(net: Network) -> None:
    x, inputs, kept = net.input("image", 3, 256, 256), 3, []
    for width in (32, 64, 128, 256):
        x = net.conv(net.conv(x, inputs, width, 3, act="relu"), width, width, 3, act="relu")
        kept.append((x, width))
        x, inputs = net.max_pool(x, 2, 2), width
    x = net.conv(net.conv(x, 256, 512, 3, act="relu"), 512, 512, 3, act="relu")
    inputs = 512
    for skip, width in reversed(kept):
        weight = net.weight(inputs, width, 2, 2, inputs=inputs)
        x = net.op("ConvTranspose", x, weight, net.bias(width), kernel_shape=[2, 2], strides=[2, 2])
        x = net.conv(net.op("Concat", skip, x, axis=1), 2 * width, width, 3, act="relu")
        x, inputs = net.conv(x, width, width, 3, act="relu"), width
    net.outputs = [net.op("Sigmoid", net.conv(x, 32, 1))]


def _cross_stage(net: Network, x: str, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> str:
    """The CSP block of YOLO: half of the channels go through bottlenecks, the other half around them."""
    half = outputs // 2
    a, b = net.conv(x, inputs, half, act="silu"), net.conv(x, inputs, half, act="silu")
    for _ in range(depth):
        y = net.conv(net.conv(a, half, half, act="silu"), half, half, 3, act="silu")
        a = net.op("Add", a, y) if shortcut else y
    return net.conv(net.op("Concat", a, b, axis=1), outputs, outputs, act="silu")


def yolox_s(net: Network) -> None:
    """YOLOX-s without its decoding: one output of box, objectness and classes for each of three scales."""
    image = net.input("image", 3, 640, 640)
    parts = []
    for top, left in ((0, 0), (1, 0), (0, 1), (1, 1)):
        begin, end, axes, step = ((top, left), (640, 640), (2, 3), (2, 2))
        parts.append(net.op("Slice", image, *(net.integers(*v) for v in (begin, end, axes, step))))
    x, inputs, kept = net.conv(net.op("Concat", *parts, axis=1), 12, 32, 3, act="silu"), 32, []
    for outputs, depth in ((64, 1), (128, 3), (256, 3), (512, 1)):
        x = net.conv(x, inputs, outputs, 3, 2, act="silu")
        if outputs == 512:
            y = net.conv(x, 512, 256, act="silu")
            pools = [net.max_pool(y, size, 1, size // 2) for size in (5, 9, 13)]
            x = net.conv(net.op("Concat", y, *pools, axis=1), 1024, 512, act="silu")
        x, inputs = _cross_stage(net, x, outputs, outputs, depth, shortcut=outputs < 512), outputs
        kept.append(x)
    double = net.constant(np.float32([1, 1, 2, 2]))

    def up(x: str) -> str:
        return net.op(
            "Resize", x, "", double, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    high = net.conv(kept[3], 512, 256, act="silu")
    middle = _cross_stage(net, net.op("Concat", up(high), kept[2], axis=1), 512, 256, 1, shortcut=False)
    low = net.conv(middle, 256, 128, act="silu")
    small = _cross_stage(net, net.op("Concat", up(low), kept[1], axis=1), 256, 128, 1, shortcut=False)
    x = net.op("Concat", net.conv(small, 128, 128, 3, 2, act="silu"), low, axis=1)
    medium = _cross_stage(net, x, 256, 256, 1, shortcut=False)
    x = net.op("Concat", net.conv(medium, 256, 256, 3, 2, act="silu"), high, axis=1)
    large = _cross_stage(net, x, 512, 512, 1, shortcut=False)
    for x, width in ((small, 128), (medium, 256), (large, 512)):
        x = net.conv(x, width, 128, act="silu")
        classes = net.conv(net.conv(x, 128, 128, 3, act="silu"), 128, 128, 3, act="silu")
        boxes = net.conv(net.conv(x, 128, 128, 3, act="silu"), 128, 128, 3, act="silu")
        scores = [net.op("Sigmoid", net.conv(v, 128, n)) for v, n in ((boxes, 1), (classes, 80))]
        net.outputs.append(net.op("Concat", net.conv(boxes, 128, 4), *scores, axis=1))


# ---- transformers and recurrent networks ----


def _attention(net: Network, x: str, tokens: int, width: int, heads: int, bias: str | None = None) -> str:
    """Attention of the tokens of each row among themselves; ``bias`` is added to the scores."""
    size = width // heads
    three = net.reshape(net.linear(x, width, 3 * width), -1, tokens, 3, heads, size)
    split = net.op("Split", net.op("Transpose", three, perm=[2, 0, 3, 1, 4]), outputs=3, axis=0, num_outputs=3)
    q, k, v = (net.op("Squeeze", f"{split}.{i}", net.integers(0)) for i in range(3))
    q = net.op("Mul", q, net.constant(np.float32(size**-0.5)))
    scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
    if bias is not None:
        scores = net.op("Add", scores, bias)
    x = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    return net.linear(net.reshape(net.op("Transpose", x, perm=[0, 2, 1, 3]), -1, tokens, width), width, width)


def _feed_forward(net: Network, x: str, width: int) -> str:
    return net.linear(net.linear(x, width, 4 * width, act="gelu"), 4 * width, width)


def vit_tiny(net: Network) -> None:
    patch = net.weight(192, 3, 16, 16, inputs=768)
    image = net.input("image", 3, 224, 224)
    x = net.op("Conv", image, patch, net.bias(192), kernel_shape=[16, 16], strides=[16, 16])
    x = net.op("Transpose", net.reshape(x, net.batch, 192, 196), perm=[0, 2, 1])
    first = net.constant(np.zeros((net.batch, 1, 192), np.float32))
    x = net.op("Add", net.op("Concat", first, x, axis=1), net.weight(1, 197, 192, inputs=10))
    for _ in range(12):
        x = net.op("Add", x, _attention(net, net.layer_norm(x, 192), 197, 192, 3))
        x = net.op("Add", x, _feed_forward(net, net.layer_norm(x, 192), 192))
    x = net.op("Gather", net.layer_norm(x, 192), net.constant(np.int64(0)), axis=1)
    net.outputs = [net.op("Softmax", net.linear(x, 192, 1000))]


def bert_base(net: Network) -> None:
    """Twelve layers over 128 tokens; its vocabulary is short, since looking words up costs no time."""
    tokens, width = 128, 768
    net.feeds["tokens"] = net.random.integers(0, 1000, (net.batch, tokens))
    x = net.op("Gather", net.weight(1000, width, inputs=2), "tokens")
    x = net.layer_norm(net.op("Add", x, net.weight(1, tokens, width, inputs=2)), width)
    for _ in range(12):
        x = net.layer_norm(net.op("Add", x, _attention(net, x, tokens, width, 12)), width)
        x = net.layer_norm(net.op("Add", x, _feed_forward(net, x, width)), width)
    net.outputs = [x]


def _roll(net: Network, x: str, by: int, size: int) -> str:
    for axis in (1, 2):
        ends = ((by % size, size), (0, by % size))
        parts = [net.op("Slice", x, net.integers(a), net.integers(b), net.integers(axis)) for a, b in ends]
        x = net.op("Concat", *parts, axis=axis)
    return x


def _window_mask(size: int, window: int) -> np.ndarray:
    """What keeps tokens apart that a roll brings into one window: [windows, 1, tokens, tokens]."""
    region = np.digitize(np.arange(size), [size - window, size - window // 2])
    regions = region[:, None] * 3 + region
    tiles = regions.reshape(size // window, window, size // window, window).swapaxes(1, 2).reshape(-1, window * window)
    return np.where(tiles[:, None, :, None] == tiles[:, None, None, :], 0, -100).astype(np.float32)


def swin_tiny(net: Network) -> None:
    window = 7
    tokens = window * window
    patch = net.weight(96, 3, 4, 4, inputs=48)
    image = net.input("image", 3, 224, 224)
    x = net.op("Conv", image, patch, net.bias(96), kernel_shape=[4, 4], strides=[4, 4])
    x, size = net.layer_norm(net.op("Transpose", x, perm=[0, 2, 3, 1]), 96), 56
    for stage, (depth, heads) in enumerate(((2, 3), (2, 6), (6, 12), (2, 24))):
        width = 96 << stage
        if stage:  # four neighbours become one
            x = net.reshape(x, net.batch, size // 2, 2, size // 2, 2, width // 2)
            x = net.reshape(net.op("Transpose", x, perm=[0, 1, 3, 4, 2, 5]), net.batch, size // 2, size // 2, 2 * width)
            x, size = (
                net.op("MatMul", net.layer_norm(x, 2 * width), net.weight(2 * width, width, inputs=width)),
                size // 2,
            )
        count = size // window
        for k in range(depth):
            shift = window // 2 if k % 2 and size > window else 0
            y = net.layer_norm(x, width)
            y = _roll(net, y, shift, size) if shift else y
            y = net.reshape(y, net.batch, count, window, count, window, width)
            y = net.reshape(net.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), -1, tokens, width)
            bias = net.random.standard_normal((1, heads, tokens, tokens), "float32")
            if shift:
                bias = np.tile(bias + _window_mask(size, window), (net.batch, 1, 1, 1))
            y = _attention(net, y, tokens, width, heads, net.constant(bias))
            y = net.reshape(y, net.batch, count, count, window, window, width)
            y = net.reshape(net.op("Transpose", y, perm=[0, 1, 3, 2, 4, 5]), net.batch, size, size, width)
            x = net.op("Add", x, _roll(net, y, -shift, size) if shift else y)
            x = net.op("Add", x, _feed_forward(net, net.layer_norm(x, width), width))
    x = net.op("ReduceMean", net.layer_norm(x, 768), net.integers(1, 2), keepdims=0)
    net.outputs = [net.op("Softmax", net.linear(x, 768, 1000))]


def lstm_2x256(net: Network) -> None:
    steps, inputs, size = 64, 80, 256
    x = net.op("Transpose", net.input("sequence", steps, inputs), perm=[1, 0, 2])
    for width in (inputs, size):
        w, r = net.weight(1, 4 * size, width, inputs=2 * width), net.weight(1, 4 * size, size, inputs=2 * size)
        b = net.constant(0.1 * net.random.standard_normal((1, 8 * size), "float32"))
        x = net.op("Squeeze", net.op("LSTM", x, w, r, b, hidden_size=size), net.integers(1))
    net.outputs = [net.linear(net.op("Transpose", x, perm=[1, 0, 2]), size, 40)]


NETWORKS: dict[str, Callable[[Network], None]] = {
    f.__name__: f
    for f in (
        bert_base, convnext_tiny, deeplabv3_resnet50, lstm_2x256, mobilenet_v2, mobilenet_v3_large, regnetx_016,
        regnety_004, regnety_016, replknet31, resnet18, resnet50, shufflenet_v2, swin_tiny, unet, vgg16, vit_tiny,
        yolox_s,
    )
}  # fmt: skip


def write(folder: Path, name: str, batch: int) -> None:
    """Writes NAME.onnx and NAME.npz; with a batch over one the name ends in it."""
    import onnxruntime

    net = Network(name, batch)
    NETWORKS[name](net)
    stem = folder / (name if batch == 1 else f"{name}_x{batch}")
    onnx.save(net.model(), f"{stem}.onnx")
    session = onnxruntime.InferenceSession(f"{stem}.onnx", providers=["CPUExecutionProvider"])
    results = session.run(None, net.feeds)
    feeds = {f"in_{n}": a for n, a in net.feeds.items()}
    np.savez(f"{stem}.npz", **feeds, **{f"out_{k}": a for k, a in enumerate(results)})
    print(f"{stem.name}: {sum(math.prod(c.dims) for c in net.constants) / 1e6:.1f} million weights", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)}; all, if none is given")
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    if unknown := set(args.names) - set(NETWORKS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    args.folder.mkdir(parents=True, exist_ok=True)
    for name in args.names or NETWORKS:
        write(args.folder, name, args.batch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
