"""Matrix products in float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, choose
from megengine_lite._core.cpu.algorithms.fast_run import select
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32, MatMulProblem
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.packing import float32 as packing
from megengine_lite._core.cpu.steps import Ref, epilogue_arguments
from megengine_lite._core.ir.fused import NO_ACTIVATION, Activation, FusedMatMul
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.image_layouts import round_up
from megengine_lite._records import record
from megengine_lite.kernels.common.shared_constants import SLACK, Weights

# A product of few panels is cut into about as many parts as this, so that threads can share it.
LEAST_PARTS = 8
# Rows of products of bfloat16.
LEAST_ROWS_IN_PAIRS = 4
# Kernels that read B in packed panels.
PANEL_KERNELS = ("gemm_f32", "gemm_row_f32")


@record(frozen=True, slots=True)
class Operand:
    """A matrix in memory, or one for each product of a batch.

    Element (i, j) of product q lies at ``i * row + j * column + q // inner * outer_step + q % inner * inner_step``
    elements from ``ref``, with the ``inner`` of the batch.
    """

    ref: Ref
    row: int
    column: int = 1
    outer_step: int = 0
    inner_step: int = 0

    @property
    def transposed(self) -> Operand:
        return Operand(self.ref, self.column, self.row, self.outer_step, self.inner_step)


@record(frozen=True, slots=True)
class Batch:
    """Number of products, and how their numbers split into the two steps of operands."""

    count: int = 1
    inner: int = 1


SINGLE = Batch()


def emit_matmul(
    ctx: Lowering,
    node: Node,
    m: int,
    n: int,
    k: int,
    a: Operand,
    b: Operand,
    c: Operand,
    *,
    weight: Constant | None = None,
    batch: Batch = SINGLE,
    bias: Constant | None = None,
    z: Operand | None = None,
    activation: Activation = NO_ACTIVATION,
    rows_are_samples: bool = True,
    backwards: bool = False,
    rounds: bool = False,
    source: Var | None = None,
    algorithm: Algorithm[MatMulProblem] | None = None,
) -> None:
    """Emits ``c = activation(a @ b + bias + z)`` with a of m x k and b of k x n.

    If b is a constant without a batch, it is given as ``weight``, and may be packed beforehand. ``bias`` has a number
    for each column. c must have contiguous rows. ``rows_are_samples``: m depends on the batch. ``backwards`` begins
    with the last columns, which the cache may still have from a product before. ``rounds`` allows a product of two
    computed matrices to round them to bfloat16 where the precision says so. ``source`` is the variable that a is the
    whole of, if it is one. Without an ``algorithm`` the heuristic
    chooses one.
    """
    if algorithm is None:
        problem = _problem(ctx, m, n, k, batch.count, a, b, weight, rows_are_samples)
        policy = ctx.config.algo
        algorithm = choose(MATMUL_F32, policy.seen_by_choice(problem), policy, ctx.config.threads, node)
    common: dict[str, Any] = {
        "a": a.ref,
        "bias": _padded_bias(ctx, bias),
        "z": z.ref if z else None,
        "c": c.ref,
        "m": m,
        "n": n,
        "k": k,
        "inner": batch.inner,
        **_strides("a", a),
        **_strides("c", c),
        **_strides("z", z),
        **epilogue_arguments(activation),
        "flops": 2 * batch.count * m * n * k,
    }
    strides = {"b_n": b.column, "b_outer": b.outer_step, "b_inner": b.inner_step}
    if algorithm.name == "gemm_dot_f32":
        items = -(-n // ctx.kernels.module("gemm_dot").DOT_COLUMNS)
        ctx.emit("gemm_dot_f32", node, b=b.ref, work=batch.count * items, **strides, **common)
        return
    strides |= {"a_k": a.column, "b_k": b.row}
    if algorithm.name == "gemm_naive_f32":
        ctx.emit("gemm_naive_f32", node, b=b.ref, work=batch.count * m, **strides, **common)
        return
    assert algorithm.name in PANEL_KERNELS
    kernel = ctx.kernels.module("gemm")
    panel = kernel.PANEL
    panels = -(-n // panel)
    chunk = m
    packed = None
    weights = ctx.weights if weight is not None else Weights.FLOAT32
    if weight is not None:
        if _is_in_pairs(ctx, m, k, a, batch):
            weights = Weights.BFLOAT16_PAIRS
            pairs = ctx.narrowed(node, a.ref, m * k) if source is None else ctx.plain_pairs(node, source)
            common |= {"a": pairs, "a_row": k // 2, "k": k // 2}
        packed = _packed_weight(ctx, weight, k, n, b, weights)
        chunk = _rows_at_once(m, k, panel, panels * batch.count, ctx.kernels.isa.near_bytes)
        strides |= {"b_outer": 0, "b_inner": 0}
    elif rounds and _multiplies_pairs(ctx, m) and a.column == 1:
        weights = Weights.BFLOAT16_PAIRS
        narrow = _narrowed_rows(ctx, node, m, k, a, batch)
        common |= {"a": narrow.ref, "k": -(-k // 2), **_strides("a", narrow)}
    ctx.emit(
        algorithm.name, node, b=packed or b.ref, chunk=chunk, backwards=backwards, b_packed=packed is not None,
        b_rows=k, weights=weights, work=batch.count * panels * -(-m // chunk),
        scratch=0 if packed else kernel.scratch_bytes(k), **strides, **common,
    )  # fmt: skip


def _narrowed_rows(ctx: Lowering, node: Node, m: int, k: int, a: Operand, batch: Batch) -> Operand:
    """The matrices as bfloat16, of which two count as an element."""
    y_row = round_up(k, ctx.kernels.width)
    y = ctx.temp(2 * batch.count * m * y_row + SLACK)
    ctx.emit(
        "narrow_rows_bf16", node, x=a.ref, y=y, m=m, n=k, inner=batch.inner, x_outer=a.outer_step,
        x_inner=a.inner_step, x_row=a.row, y_row=y_row, work=batch.count * m,
    )  # fmt: skip
    row = y_row // 2
    return Operand(y, row, 1, batch.inner * m * row, m * row)


def _strides(prefix: str, operand: Operand | None) -> dict[str, int]:
    """The steps of an operand from row to row and from product to product, as arguments of a kernel; 0 without one."""
    return {
        f"{prefix}_row": operand.row if operand else 0,
        f"{prefix}_outer": operand.outer_step if operand else 0,
        f"{prefix}_inner": operand.inner_step if operand else 0,
    }


def _rows_at_once(m: int, k: int, panel: int, panels: int, near_bytes: int) -> int:
    """Rows of A that stay in a cache while packed panels of B pass by; ``panels`` are those of all products."""
    rows = max(panel, near_bytes // (4 * k))
    if panels < LEAST_PARTS:
        rows = min(rows, max(panel, -(-m // LEAST_PARTS)))
    return -(-m // -(-m // rows))


def _problem(
    ctx: Lowering, m: int, n: int, k: int, count: int, a: Operand, b: Operand, weight: Constant | None, samples: bool
) -> MatMulProblem:
    dot = a.column == 1 and b.row == 1
    precision = "float32" if weight is None else ctx.config.precision
    return MatMulProblem(m, n, k, count, weight is not None, dot, ctx.kernels, samples, precision)


def _padded_bias(ctx: Lowering, bias: Constant | None) -> Ref | None:
    if bias is None:
        return None
    panel = ctx.kernels.module("gemm").PANEL
    recipe = ("pad_channels", 1, panel)
    return ctx.constant(ctx.pool.derive(recipe, [bias], lambda b: packing.pad_channels(b, 1, panel)))


def _is_in_pairs(ctx: Lowering, m: int, k: int, a: Operand, batch: Batch) -> bool:
    """Whether a product with a weight is one of pairs of bfloat16. The time of few rows is that of reading B."""
    is_dense = batch.count == 1 and (a.row, a.column) == (k, 1)
    return _multiplies_pairs(ctx, m) and k % 2 == 0 and is_dense


def _multiplies_pairs(ctx: Lowering, m: int) -> bool:
    return ctx.config.precision == "bfloat16" and m >= LEAST_ROWS_IN_PAIRS and ctx.kernels.multiplies_bfloat16


def _packed_weight(ctx: Lowering, weight: Constant, k: int, n: int, b: Operand, weights: Weights) -> Ref:
    kernels, threads, row, column = ctx.kernels, ctx.config.threads, b.row, b.column

    def pack(array: np.ndarray) -> np.ndarray:
        flat = np.ascontiguousarray(array).reshape(-1)
        item = flat.itemsize
        matrix = as_strided(flat, (k, n), (row * item, column * item), writeable=False)
        return packing.pack_panels(matrix, kernels, threads, weights)

    return ctx.constant(ctx.pool.derive(("pack_panels", kernels.width, weights, k, n, row, column), [weight], pack))


def _stored(ctx: Lowering, var: Var, transpose: bool) -> Operand:
    """A matrix or a batch of them, as a factor."""
    rows, columns = var.shape[-2:]
    operand = Operand(ctx.plain(var).ref, columns, 1, rows * columns)
    return operand.transposed if transpose else operand


def lower_matmul(ctx: Lowering, node: Node) -> bool:
    if isinstance(node.params, FusedMatMul) and not ctx.has_activation(node.params.activation.code):
        return False
    product = _Product(ctx, node)

    def emit(target: Lowering, algorithm: Algorithm[MatMulProblem]) -> None:
        _Product(target, node).emit(algorithm)

    product.emit(select(ctx, MATMUL_F32, product.problem, node, emit))
    return True


class _Product:
    """A node with its operands in the memory of a context."""

    def __init__(self, ctx: Lowering, node: Node):
        p = node.params
        a, b, *rest = node.inputs
        out = node.outputs[0]
        self.ctx, self.node = ctx, node
        self.m, self.n = out.shape[-2:]
        self.k = a.shape[-2] if p.transposeA else a.shape[-1]
        self.count = out.shape[0] if len(out.shape) == 3 else 1
        self.a, self.b = _stored(ctx, a, p.transposeA), _stored(ctx, b, p.transposeB)
        self.weight = b.const if self.count == 1 else None
        self.fused = p if isinstance(p, FusedMatMul) else None
        self.bias = rest.pop(0).const if self.fused and self.fused.has_bias else None
        self.z = Operand(ctx.plain(rest[0]).ref, self.n) if self.fused and self.fused.has_z else None

    @property
    def problem(self) -> MatMulProblem:
        samples = len(self.node.outputs[0].shape) == 2
        return _problem(self.ctx, self.m, self.n, self.k, self.count, self.a, self.b, self.weight, samples)

    def emit(self, algorithm: Algorithm[MatMulProblem]) -> None:
        c = Operand(self.ctx.new_plain(self.node.outputs[0]).ref, self.n, 1, self.m * self.n)
        emit_matmul(
            self.ctx, self.node, self.m, self.n, self.k, self.a, self.b, c, weight=self.weight,
            batch=Batch(self.count), bias=self.bias, z=self.z,
            activation=self.fused.activation if self.fused else NO_ACTIVATION, source=self.node.inputs[0],
            algorithm=algorithm,
        )  # fmt: skip
