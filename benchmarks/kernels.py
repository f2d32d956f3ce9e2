"""Speed of the float32 convolution and matrix kernels, as a share of what the core can do.

    python benchmarks/kernels.py [--isa avx512] [--threads 1] [--only 3x3]

Each line is one layer by one algorithm: the best of several runs in milliseconds, GFLOP/s by definition of the operator
(so that Winograd can exceed 100 %), and the share of the multiply-add peak that was measured just before on the same
core, times the number of threads.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np

from megengine_lite._core.cpu.algorithms.algorithm import Algorithm
from megengine_lite._core.cpu.algorithms.convolution import CONV_F32
from megengine_lite._core.cpu.algorithms.fast_run import measure
from megengine_lite._core.cpu.kernel_set import KernelSet, kernel_set
from megengine_lite._core.cpu.lower.conv import conv_problem, emit_conv
from megengine_lite._core.cpu.lower.matmul import lower_matmul
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import FusedConv, FusedMatMul
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.session_config import SessionConfig

# name: input channels, output channels, input size, kernel, stride, groups
CONVOLUTIONS = {
    "7x7s2 3-64 224": (3, 64, 224, 7, 2, 1),
    "3x3s2 3-32 224": (3, 32, 224, 3, 2, 1),
    "16x16s16 3-192 224": (3, 192, 224, 16, 16, 1),
    "3x3 64 56": (64, 64, 56, 3, 1, 1),
    "3x3 128 28": (128, 128, 28, 3, 1, 1),
    "3x3 256 14": (256, 256, 14, 3, 1, 1),
    "3x3 512 7": (512, 512, 7, 3, 1, 1),
    "3x3 32 256": (32, 32, 256, 3, 1, 1),
    "3x3s2 128-256 28": (128, 256, 28, 3, 2, 1),
    "1x1 64-256 56": (64, 256, 56, 1, 1, 1),
    "1x1 256-64 56": (256, 64, 56, 1, 1, 1),
    "1x1 512-128 28": (512, 128, 28, 1, 1, 1),
    "1x1 256-1024 14": (256, 1024, 14, 1, 1, 1),
    "1x1 2048-512 7": (2048, 512, 7, 1, 1, 1),
    "1x1 24-144 56": (24, 144, 56, 1, 1, 1),
    "1x1 960-320 7": (960, 320, 7, 1, 1, 1),
    "3x3 128 56 32 groups": (128, 128, 56, 3, 1, 32),
    "depthwise 3x3 144 56": (144, 144, 56, 3, 1, 144),
    "depthwise 3x3s2 96 112": (96, 96, 112, 3, 2, 96),
    "depthwise 3x3 960 7": (960, 960, 7, 3, 1, 960),
    "depthwise 5x5 120 28": (120, 120, 28, 5, 1, 120),
}
# name: m, n, k; B is a transposed weight
PRODUCTS = {
    "gemm 197x576x192": (197, 576, 192),
    "gemm 197x192x768": (197, 192, 768),
    "gemm 1024x1024x1024": (1024, 1024, 1024),
    "gemm 8x1000x2048": (8, 1000, 2048),
    "gemm 1x1000x2048": (1, 1000, 2048),
    "gemm 1x4096x9216": (1, 4096, 9216),
}
REPEATS = 5
# An algorithm that is hopeless for a layer is not measured.
HOPELESS = 6


def peak(kernels: KernelSet) -> float:
    """Floating point operations per second of multiply-adds from registers on this core, now."""
    run = kernels.module("probe").run_multiply_adds
    best = 0.0
    for _ in range(REPEATS):
        start = time.perf_counter()
        operations = run(200_000)
        best = max(best, operations / (time.perf_counter() - start))
    return best


def variable(number: int, shape: tuple[int, ...], weight: bool = False) -> Var:
    value = np.zeros(shape, np.float32) if weight else None
    const = Constant(value, (number, shape)) if value is not None else None
    return Var(number, "", TensorSpec(shape, FLOAT32, value), const)


def report(name: str, algorithm: str, flops: int, seconds: float, kernels: KernelSet, threads: int) -> None:
    rate = flops / seconds
    share = rate / (peak(kernels) * threads)
    print(f"{name:24s} {algorithm:20s} {seconds * 1e3:9.3f} ms {rate * 1e-9:8.1f} GFLOP/s {share:6.1%}")


def bench_convolution(name: str, kernels: KernelSet, config: SessionConfig) -> None:
    ic, oc, size, k, stride, groups = CONVOLUTIONS[name]
    pad = 0 if stride == k else k // 2
    out = (size + 2 * pad - k) // stride + 1
    shape = (oc, ic, k, k) if groups == 1 else (groups, oc // groups, ic // groups, k, k)
    x, w, y = variable(0, (1, ic, size, size)), variable(1, shape, weight=True), variable(2, (1, oc, out, out))
    node = Node("FusedConv", FusedConv(pad, pad, stride, stride, 1, 1, groups), [x, w], [y])
    ctx = Lowering(Graph([node], [x], [y], ["y"]), kernels, ConstantPool(), config, TABLE)
    if ic > 4:
        ctx.new_blocked(x)
    else:
        ctx.new_plain(x)
    problem = conv_problem(ctx, node)
    found = [a for a in CONV_F32 if a.applies(problem)]
    cheapest = min(a.cost(problem) for a in found)

    def emit(target: Lowering, algorithm: Algorithm) -> None:
        emit_conv(target, node, problem, algorithm)

    for algorithm in found:
        if algorithm.cost(problem) <= HOPELESS * cheapest:
            seconds = min(measure(ctx, node, algorithm, emit) for _ in range(REPEATS))
            report(name, algorithm.name, 2 * problem.products, seconds, kernels, config.threads)


def bench_product(name: str, kernels: KernelSet, config: SessionConfig) -> None:
    m, n, k = PRODUCTS[name]
    a, b, c = variable(0, (m, k)), variable(1, (n, k), weight=True), variable(2, (m, n))
    node = Node("FusedMatMul", FusedMatMul(False, True), [a, b], [c])
    ctx = Lowering(Graph([node], [a], [c], ["c"]), kernels, ConstantPool(), config, TABLE)
    ctx.new_plain(a)
    names: list[str] = []

    def emit(target: Lowering, algorithm: None) -> None:
        lower_matmul(target, node)
        names.append(target.steps[-1].kernel.name)

    seconds = min(measure(ctx, node, None, emit) for _ in range(REPEATS))
    report(name, names[0], 2 * m * n * k, seconds, kernels, config.threads)


def read_arguments(description: str | None, what: str) -> tuple[str, KernelSet, SessionConfig]:
    """What names of layers or operators (``what``) contain that are measured, the kernels, and the settings."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--isa", help="instruction set, by default the best of this machine")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help=f"{what} whose name contains this")
    options = parser.parse_args()
    kernels = kernel_set(options.isa)
    return options.only, kernels, SessionConfig(threads=options.threads, isa=kernels.name)


def main() -> None:
    only, kernels, config = read_arguments(__doc__, "layers")
    print(f"{kernels.name}, {config.threads} thread(s), peak of one core {peak(kernels) * 1e-9:.1f} GFLOP/s")
    table: dict[str, Callable[[str, KernelSet, SessionConfig], None]] = {
        **dict.fromkeys(CONVOLUTIONS, bench_convolution),
        **dict.fromkeys(PRODUCTS, bench_product),
    }
    for name, bench in table.items():
        if only in name:
            bench(name, kernels, config)


if __name__ == "__main__":
    main()
