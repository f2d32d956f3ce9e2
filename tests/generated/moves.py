"""Steps that move data: joining, cutting, reshaping, indexing; on tensors of any type."""

from __future__ import annotations

from generated.elemwise import activate
from generated.maker import Maker, Rejected
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import (
    Axis,
    Cumsum,
    Dimshuffle,
    Empty,
    IndexDescMaskDump,
    OptionalAxisV1,
    Padding,
    PaddingMode,
    Reduce,
    ReduceMode,
)
from megengine_lite._core.ir.params.tensor import IndexDescMaskItem
from megengine_lite._core.operators.shape import NO_AXIS


def concat(m: Maker, parts: list[Var], axis: int) -> Var:
    return m.op("Concat", Axis(axis=axis), *parts)


def split(m: Maker, x: Var, lengths: list[int], axis: int) -> list[Var]:
    return m.add("Split", Axis(axis=axis), x, *(m.integers(n) for n in lengths), outputs=len(lengths))


def cut(m: Maker, x: Var, axis: int, begin: int, end: int, step: int = 1) -> Var:
    """Elements of one axis, as a slice with a step."""
    item = IndexDescMaskItem(axis, True, True, step != 1, False)
    numbers = [begin, end] + ([step] if step != 1 else [])
    return m.op("Subtensor", IndexDescMaskDump(items=(item,)), x, *(m.integers(n) for n in numbers))


def take(m: Maker, x: Var, axis: int, index: int) -> Var:
    """One element of an axis, which goes away."""
    item = IndexDescMaskItem(axis, False, False, False, True)
    return m.op("Subtensor", IndexDescMaskDump(items=(item,)), x, m.integers(index))


def shuffle(m: Maker, x: Var, *pattern: int) -> Var:
    return m.op("Dimshuffle", Dimshuffle(pattern=pattern, ndim=len(x.shape)), x)


def halves(m: Maker, x: Var, axis: int = 1, *, middle: bool = False) -> tuple[Var, Var]:
    """An axis cut in two, by a split or by two slices; mostly, or always, in the middle."""
    n = x.shape[axis]
    if n < 2:
        raise Rejected("cannot be cut")
    at = n // 2 if middle or m.chance(0.75) else m.rng.randrange(1, n)
    if m.chance(0.5):
        first, second = split(m, x, [at, n - at], axis)
    else:
        first, second = cut(m, x, axis, 0, at), cut(m, x, axis, at, n)
    return first, second


def _axis(m: Maker, x: Var) -> int:
    """Some axis; not the first where its length changes between runs."""
    axes = range(1 if m.dynamic else 0, len(x.shape))
    if not axes:
        raise Rejected("has no axis that stays")
    return 1 if len(x.shape) == 4 and m.chance(0.6) else m.rng.choice(axes)


def concat_step(m: Maker) -> None:
    x = m.pick(lambda v: True)
    axis = _axis(m, x)
    parts = [x]
    for _ in range(m.rng.randrange(1, 4)):

        def fits(v: Var) -> bool:
            rest = [d for k, d in enumerate(v.shape) if k != axis]
            return (
                len(v.shape) == len(x.shape)
                and v.dtype == x.dtype
                and rest == [d for k, d in enumerate(x.shape) if k != axis]
            )

        parts.append(m.pick(fits))
    if all(p is x for p in parts) and m.chance(0.7):
        raise Rejected("only repeats")
    m.rng.shuffle(parts)
    m.keep(concat(m, parts, axis))


def split_step(m: Maker) -> None:
    x = m.pick(lambda v: True)
    axis = _axis(m, x)
    n = x.shape[axis]
    count = m.rng.choice((2, 2, 3, 4))
    if n < count:
        raise Rejected("too short")
    lengths = [n // count] * count if n % count == 0 and m.chance(0.7) else None
    if lengths is None:
        ends = sorted(m.rng.sample(range(1, n), count - 1))
        lengths = [b - a for a, b in zip([0, *ends], [*ends, n], strict=True)]
    m.keep(*split(m, x, lengths, axis))


def slice_step(m: Maker) -> None:
    x = m.pick(lambda v: True)
    axis = _axis(m, x)
    n = x.shape[axis]
    begin = m.rng.choice((0, 0, n // 2, n // 4, m.rng.randrange(n)))
    end = m.rng.choice((n, n, n // 2, begin + (n + 1) // 2, m.rng.randrange(n + 1)))
    step = m.rng.choice((1, 1, 1, 2, 3))
    if min(end, n) <= begin:
        raise Rejected("nothing remains")
    if m.chance(0.08):
        begin, end, step = n - 1, -n - 1, -1
    m.keep(cut(m, x, axis, begin, end, step))


def swap_step(m: Maker) -> None:
    """The halves of a tensor joined the other way round."""
    x = m.pick(lambda v: len(v.shape) > 1)
    axis = _axis(m, x)
    first, second = halves(m, x, axis)
    m.keep(concat(m, [second, first], axis))
    if m.chance(0.3):
        m.keep(first)


def cross_step(m: Maker) -> None:
    """The first half of one tensor joined with the second half of another."""
    x = m.pick(lambda v: len(v.shape) > 1)
    y = m.pick_like(x)
    axis = _axis(m, x)
    a, b = halves(m, x, axis)
    c, d = halves(m, y, axis)
    m.keep(concat(m, m.rng.choice(([a, d], [c, b], [d, a], [a, c], [b, d, a])), axis))


def rejoin_step(m: Maker) -> None:
    """Parts changed one by one and joined in their old places."""
    x = m.pick_float()
    axis = _axis(m, x)
    parts = list(halves(m, x, axis))
    for k in range(2):
        if m.chance(0.6):
            parts[k] = activate(m, parts[k], 1.0)
    if m.chance(0.2):
        parts.append(x)
    m.keep(concat(m, parts, axis))


def reshape_step(m: Maker) -> None:
    """Axes merged, split, flattened."""
    x = m.pick(lambda v: True)
    shape = list(x.shape)
    kind = m.rng.randrange(4)
    if kind == 0 and len(shape) > 2:
        k = m.rng.randrange(1, len(shape) - 1)
        shape[k : k + 2] = [shape[k] * shape[k + 1]]
    elif kind == 1 and m.dynamic < len(shape) < 5:
        k = m.rng.randrange(m.dynamic, len(shape))
        factors = [f for f in (2, 3, 4, 5) if shape[k] % f == 0]
        if not factors:
            raise Rejected("does not divide")
        f = m.rng.choice(factors)
        shape[k : k + 1] = m.rng.choice(([f, shape[k] // f], [shape[k] // f, f]))
    elif kind == 2:
        rest = 1
        for d in shape[1:]:
            rest *= d
        shape = [shape[0], rest]
    else:
        k = m.rng.randrange(1, len(shape) + 1)
        shape.insert(k, 1)
    if len(shape) > 6 or shape == list(x.shape):
        raise Rejected("nothing to do")
    m.keep(m.reshape(x, *shape))


def transpose_step(m: Maker) -> None:
    x = m.pick(lambda v: len(v.shape) > 1)
    pattern = list(range(len(x.shape)))
    m.rng.shuffle(pattern)
    if m.dynamic:
        pattern.remove(0)
        pattern.insert(0, 0)
    m.keep(shuffle(m, x, *pattern))


def axis_step(m: Maker) -> None:
    x = m.pick(lambda v: len(v.shape) < 5)
    ones = [k for k, d in enumerate(x.shape) if d == 1 and k > 0]
    if ones and m.chance(0.5):
        m.keep(m.drop_axis(x, m.rng.choice(ones)))
    else:
        m.keep(m.add_axis(x, m.rng.randrange(1, len(x.shape) + 1)))


def channel_shuffle_step(m: Maker) -> None:
    x = m.pick(lambda v: len(v.shape) == 4)
    n, c, h, w = x.shape
    groups = [g for g in (2, 3, 4, 8) if c % g == 0 and c > g]
    if not groups:
        raise Rejected("does not divide")
    g = m.rng.choice(groups)
    y = m.reshape(x, n, g, c // g, h, w)
    m.keep(m.reshape(shuffle(m, y, 0, 2, 1, 3, 4), n, c, h, w))


def space_to_depth_step(m: Maker) -> None:
    x = m.pick(lambda v: len(v.shape) == 4)
    n, c, h, w = x.shape
    if m.chance(0.5):
        if h % 2 or w % 2:
            raise Rejected("odd")
        y = shuffle(m, m.reshape(x, n, c, h // 2, 2, w // 2, 2), 0, 1, 3, 5, 2, 4)
        m.keep(m.reshape(y, n, 4 * c, h // 2, w // 2))
    else:
        if c % 4:
            raise Rejected("too few channels")
        y = shuffle(m, m.reshape(x, n, c // 4, 2, 2, h, w), 0, 1, 4, 2, 5, 3)
        m.keep(m.reshape(y, n, c // 4, 2 * h, 2 * w))


def pad_step(m: Maker) -> None:
    x = m.pick(lambda v: v.dtype.code in (FLOAT32.code, INT32.code) or v.dtype.is_quantized)
    mode = m.rng.choice((PaddingMode.CONSTANT, PaddingMode.CONSTANT, PaddingMode.REPLICATE, PaddingMode.REFLECT))
    fields = {}
    for axis in range(1, len(x.shape)):
        if m.chance(0.5):
            fields[f"front_offset_dim{axis}"] = m.rng.randrange(3)
            fields[f"back_offset_dim{axis}"] = m.rng.randrange(3)
    value = 0.0 if x.dtype.is_quantized else m.rng.choice((0.0, 1.5))
    m.keep(m.op("Padding", Padding(padding_mode=mode, padding_val=value, **fields), x))


def broadcast_step(m: Maker) -> None:
    x = m.pick(lambda v: 1 in v.shape[1:])
    if m.dynamic:
        raise Rejected("the target would hold the batch")
    target = [m.rng.choice((2, 3, 5)) if d == 1 and m.chance(0.7) else d for d in x.shape]
    m.keep(m.op("Broadcast", Empty(), x, m.integers(*target)))


def reduce_step(m: Maker) -> None:
    x = m.pick(lambda v: v.dtype == FLOAT32)
    axis = _axis(m, x)
    mode = m.rng.choice((ReduceMode.SUM, ReduceMode.MEAN, ReduceMode.MAX, ReduceMode.MIN, ReduceMode.SUM_SQR))
    y = m.op("Reduce", Reduce(mode=mode, axis=axis), x)
    if m.chance(0.3) and len(x.shape) > 2:
        y = m.op("Reduce", Reduce(mode=mode, axis=_axis(m, x)), y)
    if m.chance(0.3) and len(x.shape) > 1 and y.shape[axis] == 1:
        y = m.drop_axis(y, axis)
    m.keep(y)


def cumsum_step(m: Maker) -> None:
    x = m.pick(lambda v: v.dtype == FLOAT32)
    params = Cumsum(axis=_axis(m, x), exclusive=m.chance(0.5), reverse=m.chance(0.5))
    m.keep(m.op("Cumsum", params, x))


def index_step(m: Maker) -> None:
    """Rows picked by constant indexes."""
    x = m.pick(lambda v: True)
    axis = _axis(m, x)
    n = x.shape[axis]
    rows = [m.rng.randrange(-n, n) for _ in range(m.rng.randrange(1, 6))]
    item = IndexDescMaskItem(axis, False, False, False, True)
    op = m.rng.choice(("IndexingMultiAxisVec", "MeshIndexing"))
    m.keep(m.op(op, IndexDescMaskDump(items=(item,)), x, m.integers(*rows)))


def set_step(m: Maker) -> None:
    """A part of a tensor replaced by a part of another."""
    x = m.pick(lambda v: v.dtype == FLOAT32)
    y = m.pick_like(x)
    axis = _axis(m, x)
    n = x.shape[axis]
    if n < 2:
        raise Rejected("too short")
    part = cut(m, y, axis, 0, n // 2)
    item = IndexDescMaskItem(axis, True, True, False, False)
    numbers = (m.integers(n - n // 2), m.integers(n))
    m.keep(m.op("SetSubtensor", IndexDescMaskDump(items=(item,)), x, part, *numbers))


def shape_step(m: Maker) -> None:
    """A reshape to a shape that other nodes compute."""
    x = m.pick(lambda v: len(v.shape) > 2)
    first = m.op("GetVarShape", OptionalAxisV1(axis=0), x)
    rest = 1
    for d in x.shape[1:]:
        rest *= d
    target = concat(m, [first, m.integers(rest)], 0)
    m.keep(m.op("Reshape", OptionalAxisV1(axis=NO_AXIS), x, target))


def identity_step(m: Maker) -> None:
    m.keep(m.op("Identity", Empty(), m.pick(lambda v: True)))
