"""Elementwise operators: float32 chains on plain and blocked tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from megengine_lite._core.cpu.lower.copying import view_of
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.steps import Ref, Tensor
from megengine_lite._core.ir.fused import ElemwiseProgram
from megengine_lite._core.ir.graph import Constant, Node, Var
from megengine_lite._core.ir.image_layouts import dense_strides
from megengine_lite._core.ir.params import ElemwiseMode
from megengine_lite._core.operators.elemwise_functions import ORDERED
from megengine_lite.kernels.common.tiling import plan_chain

_M = ElemwiseMode
# Functions that make infinities or NaN of the zeros in padded channels. They run on plain memory if there are such
# channels. Results do not need that, as no reader uses padded channels; without it, plans and their speed would change.
_UNSAFE_AT_ZERO = {
    _M.LOG, _M.FLOOR_DIV, _M.TRUE_DIV, _M.MOD, _M.POW, _M.ERFCINV, _M.ACOSH, _M.ACOSH_GRAD, _M.ATANH_GRAD,
    _M.FAST_TANH_GRAD, _M.LOG_SUM_EXP,
}  # fmt: skip

Steps = Sequence[tuple[int, Sequence[int]]]


def lower_chain(ctx: Lowering, node: Node) -> bool | None:
    """A chain made by the planner."""
    program: ElemwiseProgram = node.params
    return _lower(ctx, node, _with_products_in_sums([(s.mode, s.args) for s in program.steps], len(node.inputs)))


def _with_products_in_sums(steps: Steps, inputs: int) -> Steps:
    """A product and the sum that alone reads it as one function, which rounds both: one pass less over a tile."""
    readers: dict[int, list[int]] = {}
    for k, (_, args) in enumerate(steps):
        for a in args:
            readers.setdefault(a, []).append(k)
    register = list(range(inputs))  # of what has another number now
    products: dict[int, Sequence[int]] = {}  # number -> factors
    result: list[tuple[int, Sequence[int]]] = []
    for k, (mode, args) in enumerate(steps):
        own, last = inputs + k, readers.get(inputs + k, [])
        if mode == _M.MUL and len(last) == 1 and steps[last[0]][0] == _M.ADD:
            other = next(a for a in steps[last[0]][1] if a != own)
            if other not in products:
                products[own] = [register[a] for a in args]
                register.append(-1)
                continue
        factors = next((a for a in args if a in products), None)
        if factors is None:
            result.append((mode, [register[a] for a in args]))
        else:
            other = next(a for a in args if a != factors)
            result.append((_M.FUSE_MUL_ADD3, (*products[factors], register[other])))
        register.append(inputs + len(result) - 1)
    return result


def with_both_limits(steps: Steps, inputs: int, limits: Mapping[tuple[int, int], int]) -> Steps:
    """A limit of the result of another one, which alone reads it, as one function: one pass less over a tile."""
    readers: dict[int, list[int]] = {}
    for k, (_, args) in enumerate(steps):
        for a in args:
            readers.setdefault(a, []).append(k)
    register = list(range(inputs))  # of what has another number now
    first: dict[int, tuple[int, Sequence[int]]] = {}  # number -> the limit that waits for its reader
    result: list[tuple[int, Sequence[int]]] = []
    for k, (mode, args) in enumerate(steps):
        own, last = inputs + k, readers.get(inputs + k, [])
        if args[-1] in first:
            before, (low, x) = first[args[-1]]
            result.append((limits[before, mode], (register[x], register[low], register[args[0]])))
        elif len(last) == 1 and (mode, steps[last[0]][0]) in limits and steps[last[0]][1][1] == own:
            first[own] = mode, args
            register.append(-1)
            continue
        else:
            result.append((mode, [register[a] for a in args]))
        register.append(inputs + len(result) - 1)
    return result


def lower_elemwise(ctx: Lowering, node: Node) -> bool | None:
    """A single function."""
    return _lower(ctx, node, [(int(node.params.mode), range(len(node.inputs)))])


def _lower(ctx: Lowering, node: Node, steps: Steps) -> bool | None:
    kernel = ctx.kernels.module("elemwise")
    registers = len(node.inputs) + len(steps)
    if len(node.inputs) > kernel.MAX_INPUTS or registers > kernel.MAX_REGISTERS or not has_modes(ctx, steps):
        return False
    sizes = {k: v.spec.size for k, v in enumerate(node.inputs)}  # results of steps have the full size
    whole = node.outputs[0].spec.size
    steps = [_in_order(node, mode, args, [sizes.get(a, whole) for a in args]) for mode, args in steps]
    steps = with_both_limits(steps, len(node.inputs), kernel.LIMITS)
    if _wants_blocked(ctx, node, steps):
        _emit_blocked(ctx, node, steps)
    else:
        _emit_plain(ctx, node, steps)
    return None


def has_modes(ctx: Lowering, steps: Steps) -> bool:
    """Whether the kernel has all functions of a chain."""
    modes = ctx.kernels.module("elemwise").MODES
    return all(modes.get(mode) == len(args) for mode, args in steps)


# These are one instruction more for each vector; where NaN can only be the second operand, those in their place do.
_KEEPING_NAN = {_M.NAN_MAX: _M.MAX, _M.NAN_MIN: _M.MIN}


def _in_order(node: Node, mode: int, args: Sequence[int], sizes: Sequence[int]) -> tuple[int, Sequence[int]]:
    """The mode and the operands, the smaller one second where their order matters (see the definition)."""
    if mode in ORDERED and sizes[0] < sizes[1]:
        return mode, tuple(reversed(args))
    if mode in _KEEPING_NAN:
        for order in (tuple(args), tuple(reversed(args))):
            if order[0] < len(node.inputs) and _is_number(node.inputs[order[0]]):
                return _KEEPING_NAN[ElemwiseMode(mode)], order
    return mode, args


def _is_number(var: Var) -> bool:
    """Whether the variable is a constant of one number that is not NaN."""
    return var.const is not None and var.spec.size == 1 and not np.isnan(var.const.array).any()


def _wants_blocked(ctx: Lowering, node: Node, steps: Steps) -> bool:
    """Whether to work on blocks: most operands of full size exist only in blocks, and all others can be blocked."""
    y = node.outputs[0]
    if len(y.shape) != 4 or any(len(v.shape) != 4 and v.const is None for v in node.inputs):
        return False
    if y.shape[1] % ctx.width and any(mode in _UNSAFE_AT_ZERO for mode, _ in steps):
        return False
    votes = 0
    blocked = False
    for v in node.inputs:
        if v.shape == y.shape:
            blocked |= ctx.is_blocked(v)
            votes += ctx.is_blocked(v) - ctx.is_plain(v)
    return blocked and votes >= 0


def _emit_plain(ctx: Lowering, node: Node, steps: Steps) -> None:
    y = node.outputs[0]
    inputs = [ctx.plain(v) for v in node.inputs]
    strides = [plain_strides(v.shape, len(y.shape)) for v in node.inputs]
    refs = [t.ref for t in inputs]
    out = ctx.new_plain(y)
    emit_chain(ctx, node, steps, y.shape, strides, refs, plain_strides(y.shape, len(y.shape)), out.ref)


def _emit_blocked(ctx: Lowering, node: Node, steps: Steps) -> None:
    """The iteration space is (image, channel block, row, pixel, lane)."""
    y = node.outputs[0]
    operands = [_blocked_operand(ctx, v) for v in node.inputs]
    out = ctx.new_blocked(y)
    shape = (out.n, out.blocks, out.h, out.w, ctx.width)
    strides = [s for _, s in operands]
    emit_chain(ctx, node, steps, shape, strides, [r for r, _ in operands], repeated_strides(out), out.ref)


def emit_chain(
    ctx: Lowering,
    node: Node,
    steps: Steps,
    shape: Sequence[int],
    strides: Sequence[Sequence[int]],
    refs: Sequence[Ref],
    y_strides: Sequence[int],
    y: Ref,
) -> None:
    """One step that evaluates a chain; strides in bytes over ``shape``."""
    plan = plan_chain(shape, strides, y_strides, steps)
    table = Constant(plan.table, ("elemwise table", id(node)))
    ctx.emit(
        "elemwise_chain_f32",
        node,
        table=ctx.constant(table),
        y=y,
        **{f"x{k}": refs[k] if k < len(refs) else None for k in range(ctx.kernels.module("elemwise").MAX_INPUTS)},
        ndim=plan.ndim,
        split=plan.split,
        count=plan.count,
        inner=plan.inner,
        inputs=len(refs),
        steps=len(steps),
        slot_floats=plan.slot_floats,
        stream=plan.stream,
        work=plan.work,
        scratch=plan.scratch,
    )


def plain_strides(shape: Sequence[int], ndim: int, item: int = 4) -> list[int]:
    """Strides in bytes of a dense tensor, right-aligned to ``ndim`` dimensions; 0 where it is repeated."""
    strides = [0 if d == 1 else s for d, s in zip(shape, dense_strides(shape, item), strict=True)]
    return [0] * (ndim - len(shape)) + strides


def repeated_strides(t: Tensor) -> list[int]:
    """Strides in bytes of a blocked tensor over (image, channel block, row, pixel, lane); 0 where it is repeated."""
    repeated = (t.n == 1, t.c == 1, t.h == 1, t.w == 1, t.c == 1)
    return [0 if r else s for s, r in zip(view_of(t).strides, repeated, strict=True)]


def _blocked_operand(ctx: Lowering, v: Var) -> tuple[Ref, list[int]]:
    """Address and strides over (image, channel block, row, pixel, lane) of an operand."""
    shape = (1,) * (4 - len(v.shape)) + v.shape
    if shape[1] > 1:
        if v.const is None:
            t = ctx.blocked(v)
            return t.ref, repeated_strides(t)
        width = ctx.width
        constant = ctx.pool.derive(("blocked operand", width), [v.const], lambda a: _block_constant(a, shape, width))
        strides = plain_strides(constant.array.shape, 5)
        return ctx.constant(constant), strides
    n, _, h, w = plain_strides(shape, 4)
    return ctx.plain(v).ref, [n, 0, h, w, 0]


def _block_constant(array: np.ndarray, shape: tuple[int, ...], width: int) -> np.ndarray:
    """An NCHW constant in blocked layout; ones in padded channels, as a divisor of zeros there."""
    n, c, h, w = shape
    blocks = -(-c // width)
    padded = np.ones((n, blocks * width, h, w), array.dtype)
    padded[:, :c] = array.reshape(shape)
    return np.ascontiguousarray(padded.reshape(n, blocks, width, h, w).transpose(0, 1, 3, 4, 2))
