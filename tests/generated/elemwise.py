"""Steps of elementwise functions: all modes, each on the numbers that it is defined for."""

from __future__ import annotations

from generated.maker import Maker, Rejected
from megengine_lite._core.ir.dtype import BOOL, FLOAT32, INT32
from megengine_lite._core.ir.fused import ELEMWISE_OF
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import (
    Elemwise,
    ElemwiseMode,
    ElemwiseMultiType,
    ElemwiseMultiTypeMode,
    Empty,
    Fill,
    PowC,
)
from megengine_lite._core.ir.params.elemwise import OF_OTHER_FORMATS
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS

M = ElemwiseMode

ACTIVATIONS = (*(m for m in ELEMWISE_OF.values() if m not in OF_OTHER_FORMATS), M.RELU6)
GATES = (M.SIGMOID, M.HSIGMOID, M.TANH)
FUSED_ADDITIONS = (M.FUSE_ADD_RELU, M.FUSE_ADD_SIGMOID, M.FUSE_ADD_TANH, M.FUSE_ADD_H_SWISH)

_OF_FILES = {m: f for m, f in FUNCTIONS.items() if m not in OF_OTHER_FORMATS and "f" in f.kinds}
_UNARY = tuple(m for m, f in _OF_FILES.items() if f.arity == 1)
_BINARY = tuple(m for m, f in _OF_FILES.items() if f.arity == 2)
_TERNARY = tuple(m for m, f in _OF_FILES.items() if f.arity == 3)
# Functions that are defined in a part of the real numbers, or grow without bounds.
_BELOW_ONE = (M.ACOS, M.ASIN, M.ATANH, M.ERFINV, M.TAN)
_BOUNDED = (M.EXP, M.EXPM1, M.SINH, M.COSH, M.ERFC)
_POSITIVE = (M.LOG, M.LOG1P, M.SQRT)
_DIVISIONS = (M.TRUE_DIV, M.FLOOR_DIV, M.MOD, M.ATAN2)
_INVERSE_GRADS = (M.ACOSH_GRAD, M.ATANH_GRAD)
_INTEGERS = (M.ADD, M.SUB, M.MUL, M.MAX, M.MIN, M.RELU, M.NEGATE, M.ABS)
_COMPARISONS = ("LT", "LEQ", "EQ", "NEQ")


def unary(m: Maker, mode: int, x: Var) -> Var:
    return m.op("Elemwise", Elemwise(mode=mode), x)


def binary(m: Maker, mode: int, x: Var, y: Var) -> Var:
    return m.op("Elemwise", Elemwise(mode=mode), x, y)


def bounded(m: Maker, x: Var, size: float) -> Var:
    """Numbers between -size and size."""
    return binary(m, M.MUL, unary(m, M.TANH, x), m.number(size, x))


def positive(m: Maker, x: Var, least: float = 0.5) -> Var:
    """Numbers of at least ``least``."""
    return binary(m, M.ADD, unary(m, M.ABS, x), m.number(least, x))


def activate(m: Maker, x: Var, likely: float = 0.8) -> Var:
    """An activation, or none."""
    if not m.chance(likely):
        return x
    kind = m.rng.randrange(12)
    if kind == 0:
        return binary(m, M.PRELU, x, m.number(m.rng.choice((0.1, 0.25, -0.5)), x))
    if kind == 1:
        low, high = m.rng.choice(((-1.0, 1.0), (0.0, 2.0), (-0.5, 0.25)))
        return m.op("Elemwise", Elemwise(mode=M.CLIP), x, m.number(low, x), m.number(high, x))
    if kind == 2:
        operands = [x, m.number(m.rng.choice((0.0, 0.5, -0.3)), x)]
        m.rng.shuffle(operands)
        return binary(m, m.rng.choice((M.MAX, M.MIN)), *operands)
    return unary(m, m.rng.choice(ACTIVATIONS), x)


def other_operand(m: Maker, x: Var) -> Var:
    """Something that broadcasts with x: another variable, a constant of part of its shape, a number."""
    kind = m.rng.randrange(6)
    if kind < 2:
        return m.pick_like(x)
    shape = x.shape
    if kind == 2:
        return m.weight((1,), x.dtype)
    if kind == 3 and len(shape) > 1:
        return m.weight((1, shape[1], *(1,) * (len(shape) - 2)), x.dtype)
    if kind == 4:
        return m.weight((shape[-1],), x.dtype)
    first = 1 if m.dynamic else m.rng.choice((1, shape[0]))
    return m.weight((first, *(m.rng.choice((1, d)) for d in shape[1:])), x.dtype)


def unary_step(m: Maker) -> None:
    x, mode = m.pick_float(), m.rng.choice(_UNARY)
    if mode in _BELOW_ONE:
        x = bounded(m, x, 0.8)
    elif mode in _BOUNDED:
        x = bounded(m, x, 2.0)
    elif mode in _POSITIVE:
        x = positive(m, x)
    elif mode == M.ACOSH:
        x = positive(m, x, 1.5)
    elif mode == M.ERFCINV:
        x = binary(m, M.ADD, bounded(m, x, 0.8), m.number(1.0, x))
    m.keep(unary(m, mode, x))


def activation_step(m: Maker) -> None:
    m.keep(activate(m, m.pick_float(), 1.0))


def binary_step(m: Maker) -> None:
    x, mode = m.pick_float(), m.rng.choice(_BINARY)
    y = other_operand(m, x)
    if mode in _DIVISIONS:
        y = positive(m, y) if y.const is None else m.weight(y.shape, y.dtype, gain=0.2)
        y = binary(m, M.ADD, y, m.number(1.0, y))
    elif mode == M.POW:
        x, y = positive(m, x), m.number(m.rng.choice((2.0, -1.0, 0.5, 3.0, 1.5)), x)
    elif mode in _INVERSE_GRADS:
        x = positive(m, x, 1.5) if mode == M.ACOSH_GRAD else bounded(m, x, 0.8)
    elif m.chance(0.4):
        x, y = y, x
    m.keep(binary(m, mode, x, y))


def add_step(m: Maker) -> None:
    """Residual additions and products, the commonest functions of two operands."""
    x = m.pick_float()
    m.keep(binary(m, m.rng.choice((M.ADD, M.ADD, M.MUL, M.SUB, M.MAX, *FUSED_ADDITIONS)), x, other_operand(m, x)))


def ternary_step(m: Maker) -> None:
    x = m.pick_float()
    if m.chance(0.2):
        operands = [x, other_operand(m, x), m.pick_like(x), other_operand(m, x)]
        m.keep(m.op("Elemwise", Elemwise(mode=M.FUSE_MUL_ADD4), *operands))
        return
    mode = m.rng.choice((*_TERNARY, M.FUSE_MUL_ADD3, M.FUSE_MUL_ADD3))
    operands = [x, other_operand(m, x), other_operand(m, x)]
    if mode == M.CLIP:
        operands[1:] = [m.number(-0.7, x), m.number(0.9, x)]
    m.keep(m.op("Elemwise", Elemwise(mode=mode), *operands))


def power_step(m: Maker) -> None:
    x = positive(m, m.pick_float())
    m.keep(m.op("PowC", PowC(exp=m.rng.choice((2.0, 0.5, -0.5, 3.0, 1.0))), x))


def select_step(m: Maker) -> None:
    """Comparison, and a choice by its result."""
    x = m.pick(lambda v: v.dtype == FLOAT32)
    y = m.pick_like(x)
    mode = ElemwiseMultiTypeMode[m.rng.choice(_COMPARISONS)]
    mask = m.op("ElemwiseMultiType", ElemwiseMultiType(mode=mode), x, other_operand(m, x), dtype=BOOL)
    if mask.shape != x.shape:
        raise Rejected("the mask is smaller")
    if m.chance(0.3):
        mask = unary(m, M.NOT, mask)
    if m.chance(0.5):
        m.keep(m.op("Where", Empty(), mask, x, y))
    else:
        m.keep(m.op("MaskedFill", Fill(value=m.rng.choice((0.0, -1.5))), x, mask))
    if m.chance(0.2):
        m.keep(mask)


def integer_step(m: Maker) -> None:
    """Whole numbers, and back to floats."""
    if m.chance(0.5):
        x = m.cast(binary(m, M.MUL, m.pick(lambda v: v.dtype == FLOAT32), m.weight((1,), gain=6.0)), INT32)
    else:
        x = m.pick(lambda v: v.dtype in (INT32, BOOL))
        x = m.cast(x, INT32)
    mode = m.rng.choice(_INTEGERS)
    if FUNCTIONS[mode].arity == 1:
        y = unary(m, mode, x)
    else:
        y = binary(m, mode, x, m.integers(m.rng.randrange(-5, 6)))
    m.keep(y)
    if m.chance(0.5):
        m.keep(binary(m, M.MUL, m.cast(y, FLOAT32), m.typed(m.random((1,)) * 0.1, FLOAT32)))
