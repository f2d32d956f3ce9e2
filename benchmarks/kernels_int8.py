"""Speed of convolutions and matrix products of bytes, and how much faster than float32 they are.

    python benchmarks/kernels_int8.py [--isa avx512] [--threads 1] [--only 3x3]

Each line is one layer of ``benchmarks/kernels.py``: the best of several runs in milliseconds, 10^9 multiply-adds per
second by definition of the operator, and the time of the float32 layer (by the algorithm that the heuristic chooses)
divided by that of the quantized one. "signed" inputs may be negative, "rectified" ones follow a ReLU.
"""

from __future__ import annotations

import numpy as np
from kernels import CONVOLUTIONS, PRODUCTS, REPEATS, read_arguments, variable

from megengine_lite._core.cpu.algorithms.fast_run import measure
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.dtype import FLOAT32, DType, DTypeCode
from megengine_lite._core.ir.fused import FusedConv, FusedMatMul
from megengine_lite._core.ir.fused_quantized import QuantizedConv, QuantizedMatMul
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import ConvBias, ConvBiasNonlineMode, ConvolutionSparse, MatrixMul
from megengine_lite._core.session_config import SessionConfig

Q8 = DType(DTypeCode.QUANTIZED_S8, 0.02)
Q32 = DType(DTypeCode.QUANTIZED_S32, float(np.float32(0.02) * np.float32(0.02)))


def quantized(number: int, shape: tuple[int, ...], weight: bool = False) -> Var:
    value = np.ones(shape, np.int8) if weight else None
    const = Constant(value, ("int8", number, shape)) if value is not None else None
    return Var(number, "", TensorSpec(shape, Q8, value), const)


def seconds_of(node: Node, kernels: KernelSet, config: SessionConfig, blocked: bool, rectified: bool = False) -> float:
    x = node.inputs[0]
    ctx = Lowering(Graph([node], [x], list(node.outputs), ["y"]), kernels, ConstantPool(), config, TABLE)
    if blocked:
        ctx.new_blocked(x)
    else:
        ctx.new_plain(x)
    if rectified:
        ctx.mark_non_negative([x])

    def emit(target: Lowering, algorithm: None) -> None:
        target.lower(node)

    # There is no algorithm to choose, so ``emit`` gets None.
    return min(measure(ctx, node, None, emit) for _ in range(REPEATS))  # type: ignore[arg-type]


def report(name: str, kind: str, products: int, seconds: float, float_seconds: float) -> None:
    rate = products / seconds * 1e-9
    print(f"{name:24s} {kind:10s} {seconds * 1e3:9.3f} ms {rate:8.1f} GMAC/s {float_seconds / seconds:6.2f} x float32")


def bench_convolution(name: str, kernels: KernelSet, config: SessionConfig) -> None:
    ic, oc, size, k, stride, groups = CONVOLUTIONS[name]
    pad = 0 if stride == k else k // 2
    out = (size + 2 * pad - k) // stride + 1
    w_shape = (oc, ic, k, k) if groups == 1 else (groups, oc // groups, ic // groups, k, k)
    x_shape, y_shape = (1, ic, size, size), (1, oc, out, out)
    products = oc * ic // groups * k * k * out * out
    image = ic <= 4
    params = FusedConv(pad, pad, stride, stride, 1, 1, groups)
    node = Node("FusedConv", params, [variable(0, x_shape), variable(1, w_shape, True)], [variable(2, y_shape)])
    float_seconds = seconds_of(node, kernels, config, not image)
    sparse = ConvolutionSparse.DENSE if groups == 1 else ConvolutionSparse.GROUP
    conv = ConvBias(
        nonlineMode=ConvBiasNonlineMode.RELU, sparse=sparse, pad_h=pad, pad_w=pad, stride_h=stride, stride_w=stride
    )
    for kind in ("signed",) if image else ("signed", "rectified"):
        x = quantized(0, x_shape)
        params = QuantizedConv(conv=conv, input_dtype=Q8, conv_dtype=Q8)
        node = Node("QuantizedConv", params, [x, quantized(1, w_shape, True)], [quantized(2, y_shape)])
        seconds = seconds_of(node, kernels, config, not image, kind == "rectified")
        report(name, kind, products, seconds, float_seconds)


def bench_product(name: str, kernels: KernelSet, config: SessionConfig) -> None:
    m, n, k = PRODUCTS[name]
    node = Node(
        "FusedMatMul", FusedMatMul(False, True), [variable(0, (m, k)), variable(1, (n, k), True)], [variable(2, (m, n))]
    )
    float_seconds = seconds_of(node, kernels, config, False)
    y = Var(2, "", TensorSpec((m, n), FLOAT32))
    params = QuantizedMatMul(matmul=MatrixMul(transposeB=True), product_dtype=Q32)
    node = Node("QuantizedMatMul", params, [quantized(0, (m, k)), quantized(1, (n, k), True)], [y])
    report(name, "signed", m * n * k, seconds_of(node, kernels, config, False), float_seconds)


def main() -> None:
    only, kernels, config = read_arguments(__doc__, "layers")
    print(f"{kernels.name}, {config.threads} thread(s)")
    for name in CONVOLUTIONS:
        if only in name:
            bench_convolution(name, kernels, config)
    for name in PRODUCTS:
        if only in name:
            bench_product(name, kernels, config)


if __name__ == "__main__":
    main()
