"""Speed of kernels that move more than they compute, as a share of the copy bandwidth measured in the same run.

    python benchmarks/memory_kernels.py [--isa avx512] [--threads 1] [--only Softmax]

Each line is one operator on tensors of one size: the bytes that it must read and write, the best rate of several
runs, and its share of the rate at which ``copy_bytes`` (memcpy) copies a buffer of the same size on the same threads,
measured before and after. Sizes are for the second-level cache (512 KiB), the third-level cache (4 MiB) and main
memory (64 MiB, more than most caches).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from kernels import read_arguments

from megengine_lite._core.cpu.arena import assign_offsets
from megengine_lite._core.cpu.host_memory import aligned_bytes
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.program import Program
from megengine_lite._core.ir.dtype import from_numpy
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep, ReduceAxes
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import (
    Axis,
    Dimshuffle,
    Elemwise,
    ElemwiseMode,
    GroupNorm,
    LayerNorm,
    Pooling,
    ReduceMode,
    Resize,
    Softmax,
)
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.session_config import SessionConfig

SIZES = {"512 KiB": 512 << 10, "4 MiB": 4 << 20, "64 MiB": 64 << 20}
REPEATS = 9
M = ElemwiseMode
Shape = tuple[int, ...]


class Case(NamedTuple):
    """An operator on inputs whose first has about the wanted number of bytes."""

    op: str
    params: Any
    shapes: list[Shape]
    blocked: bool = False
    constants: Mapping[int, np.ndarray] = MappingProxyType({})


def chain(*steps: tuple[int, Sequence[int]]) -> ElemwiseProgram:
    return ElemwiseProgram(tuple(ElemwiseStep(int(mode), tuple(args)) for mode, args in steps))


def cases(nbytes: int) -> dict[str, Case]:
    """The operators, with inputs of this size."""
    n = nbytes // 4
    rows = n // 768
    side = math.isqrt(n) // 16 * 16
    pixels = math.isqrt(n // 64)
    image = (1, 64, pixels, pixels)
    channel = np.ones((1, 64, 1, 1), np.float32)
    half = np.array([pixels // 2, pixels // 2], np.int32)
    window = Pooling(window_h=3, window_w=3, stride_h=2, stride_w=2, pad_h=1, pad_w=1)
    scale_relu = chain((M.FUSE_MUL_ADD3, (0, 1, 2)), (M.RELU, (3,)))
    long = chain((M.MUL, (0, 1)), (M.ADD, (2, 0)), (M.RELU, (3,)), (M.MUL, (4, 4)), (M.SUB, (5, 1)))
    return {
        "add": Case("Elemwise", Elemwise(mode=M.ADD), [(n,), (n,)]),
        "relu": Case("Elemwise", Elemwise(mode=M.RELU), [(n,)]),
        "add, relu": Case("Elemwise", Elemwise(mode=M.FUSE_ADD_RELU), [(n,), (n,)]),
        "multiply by a number": Case("Elemwise", Elemwise(mode=M.MUL), [(n,), (1,)]),
        "add a row": Case("Elemwise", Elemwise(mode=M.ADD), [(rows, 768), (768,)]),
        "five functions": Case("FusedElemwise", long, [(n,), (n,)]),
        "gelu": Case("Elemwise", Elemwise(mode=M.GELU), [(n,)]),
        "sigmoid": Case("Elemwise", Elemwise(mode=M.SIGMOID), [(n,)]),
        "scale, relu, blocked": Case(
            "FusedElemwise", scale_relu, [image, *[channel.shape] * 2], True, {1: channel, 2: channel}
        ),
        "sum of rows": Case("ReduceAxes", ReduceAxes(int(ReduceMode.SUM), (1,)), [(rows, 768)]),
        "sum of columns": Case("ReduceAxes", ReduceAxes(int(ReduceMode.SUM), (0,)), [(rows, 768)]),
        "mean of pixels, blocked": Case("ReduceAxes", ReduceAxes(int(ReduceMode.MEAN), (2, 3)), [image], True),
        "softmax of rows": Case("Softmax", Softmax(axis=-1), [(rows, 768)]),
        "softmax of columns": Case("Softmax", Softmax(axis=0), [(21, n // 21)]),
        "layer norm": Case("LayerNorm", LayerNorm(affine=True), [(rows, 768), (768,), (768,)]),
        "group norm, blocked": Case("GroupNorm", GroupNorm(affine=False, group=16), [image], True),
        "transpose": Case("Dimshuffle", Dimshuffle(pattern=(1, 0), ndim=2), [(side, side)]),
        "heads forward": Case("Dimshuffle", Dimshuffle(pattern=(0, 2, 1, 3), ndim=4), [(1, rows, 12, 64)]),
        "NHWC to NCHW": Case("Dimshuffle", Dimshuffle(pattern=(0, 3, 1, 2), ndim=4), [(1, pixels, pixels, 64)]),
        "blocked to NHWC": Case("Dimshuffle", Dimshuffle(pattern=(0, 2, 3, 1), ndim=4), [image], True),
        "join two": Case("Concat", Axis(axis=1), [(rows, 384), (rows, 384)]),
        "max pool 3x3s2, blocked": Case("Pooling", window, [image], True),
        "max pool 3x3s2, plain": Case("Pooling", window, [image]),
        "halve linearly, blocked": Case("Resize", Resize(format=0), [image, (2,)], True, {1: half}),
        "halve linearly, plain": Case("Resize", Resize(format=0), [image, (2,)], False, {1: half}),
    }  # fmt: skip


def variable(number: int, shape: Shape, constant: np.ndarray | None = None) -> Var:
    dtype = from_numpy(np.float32 if constant is None else constant.dtype)
    const = None if constant is None else Constant(constant, ("constant", number, shape))
    return Var(number, "", TensorSpec(shape, dtype, constant), const)


def best_seconds(ctx: Lowering, begin: int) -> float:
    """Of the steps from ``begin`` on, run again and again."""
    memory = aligned_bytes(assign_offsets(ctx.pieces))
    memory[...] = 0  # pages that were never written would all be one page of zeros
    # All steps are of kernels: a HostStep would have neither scratch nor record.
    scratch = max(s.scratch for s in ctx.steps)  # type: ignore[union-attr]
    program = Program([s.record() for s in ctx.steps], 1, scratch, ctx.config.threads)  # type: ignore[union-attr]
    program.set_base(0, memory.ctypes.data)
    runs = [sum(program.run_timed(0, len(ctx.steps))[begin:]) for _ in range(REPEATS)]
    return min(runs) * 1e-9


def copy_rate(nbytes: int, kernels: KernelSet, config: SessionConfig) -> float:
    """Bytes read and written in a second by copying a buffer."""
    ctx = Lowering(Graph([], [], [], []), kernels, ConstantPool(), config, TABLE)
    x, y = ctx.temp(nbytes), ctx.temp(nbytes)
    ctx.copy_bytes(Node("Copy", None, [], []), x, y, nbytes)
    return 2 * nbytes / best_seconds(ctx, 0)


def relayout_seconds(nbytes: int, to_blocked: bool, kernels: KernelSet, config: SessionConfig) -> float:
    """Of a change between plain and blocked layout."""
    pixels = math.isqrt(nbytes // 4 // 64)
    x = variable(0, (1, 64, pixels, pixels))
    ctx = Lowering(Graph([], [x], [], []), kernels, ConstantPool(), config, TABLE)
    if to_blocked:
        ctx.new_plain(x)
        ctx.blocked(x)
    else:
        ctx.new_blocked(x)
        ctx.plain(x)
    return best_seconds(ctx, 0)


def operator_seconds(case: Case, kernels: KernelSet, config: SessionConfig) -> tuple[float, int]:
    """Seconds of an operator, and the bytes that it reads and writes."""
    inputs = [variable(k, s, case.constants.get(k)) for k, s in enumerate(case.shapes)]
    node = Node(case.op, case.params, inputs, [])
    specs = REGISTRY[case.op].infer(node, [v.spec for v in inputs])
    node.outputs = [Var(len(inputs) + k, "", s) for k, s in enumerate(specs)]
    free = [v for v in inputs if v.const is None]
    ctx = Lowering(Graph([node], free, node.outputs[:1], ["y"]), kernels, ConstantPool(), config, TABLE)
    for v in free:
        (ctx.new_blocked if case.blocked else ctx.new_plain)(v)
    if not ctx.lower(node):
        raise NotImplementedError(f"{case.op} is not native")
    nbytes = sum(v.spec.nbytes for v in free) + specs[0].nbytes
    return best_seconds(ctx, 0), nbytes


def report(name: str, size: str, nbytes: int, seconds: float, copy: float) -> None:
    rate = nbytes / seconds
    print(f"{name:26s} {size:8s} {seconds * 1e3:9.3f} ms {rate * 1e-9:7.1f} GB/s {rate / copy:6.0%}")


def main() -> None:
    only, kernels, config = read_arguments(__doc__, "operators")
    for size, nbytes in SIZES.items():
        print(f"{kernels.name}, {config.threads} thread(s), {size}")
        for name, case in cases(nbytes).items():
            if only in name:
                before = copy_rate(nbytes, kernels, config)
                seconds, moved = operator_seconds(case, kernels, config)
                report(name, size, moved, seconds, max(before, copy_rate(nbytes, kernels, config)))
        for name, to_blocked in (("plain to blocked", True), ("blocked to plain", False)):
            if only in name:
                before = copy_rate(nbytes, kernels, config)
                seconds = relayout_seconds(nbytes, to_blocked, kernels, config)
                report(name, size, 2 * nbytes, seconds, max(before, copy_rate(nbytes, kernels, config)))


if __name__ == "__main__":
    main()
