"""Steps of detection networks: blocks of split channels, pyramids, poolings side by side, heads."""

from __future__ import annotations

from generated.elemwise import M, activate, binary
from generated.images import conv, resize
from generated.maker import Maker, Rejected
from generated.moves import concat, halves, shuffle
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import Pooling, PoolingMode


def csp_step(m: Maker) -> None:
    """The channels cut in two, one half through convolutions, all joined again."""
    x = m.pick_image()
    first, second = halves(m, x)
    parts = [first, second]
    for _ in range(m.rng.randrange(1, 4)):
        y = conv(m, parts[-1], parts[-1].shape[1], plain=True)
        if m.chance(0.4):
            y = binary(m, M.ADD, y, parts[-1])
        parts.append(y)
    kind = m.rng.randrange(4)
    if kind == 1:
        parts = parts[1:]
    elif kind == 2:
        parts = [parts[-1], parts[0]]
    elif kind == 3:
        m.rng.shuffle(parts)
    y = concat(m, parts, 1)
    m.keep(conv(m, y, m.rng.choice(m.channels), plain=True) if m.chance(0.6) else y)


def same_pooling(m: Maker, x: Var, size: int) -> Var:
    """The largest number around each place."""
    params = Pooling(
        mode=PoolingMode.MAX,
        window_h=size,
        window_w=size,
        stride_h=1,
        stride_w=1,
        pad_h=size // 2,
        pad_w=size // 2,
    )
    return m.op("Pooling", params, x)


def branches_step(m: Maker) -> None:
    """Two or three branches over one tensor, joined; a branch may be a convolution, a pooling, or nothing."""
    x = m.pick_image()
    parts = []
    for _ in range(m.rng.choice((2, 2, 3))):
        kind = m.rng.randrange(4)
        if kind == 0:
            parts.append(x if m.chance(0.4) else activate(m, x, 1.0))
        elif kind == 1:
            size = m.rng.choice((3, 5))
            parts.append(same_pooling(m, x, size))
        else:
            parts.append(conv(m, x, m.rng.choice(m.channels), plain=True))
    y = concat(m, parts, 1)
    m.keep(y)
    if m.chance(0.3):
        m.keep(parts[-1])
    if m.chance(0.4):
        m.keep(conv(m, y, m.rng.choice(m.channels), plain=True))


def spp_step(m: Maker) -> None:
    """Poolings one after the other, all joined."""
    x = m.pick_image()
    size = m.rng.choice((3, 5))
    parts = [x]
    for _ in range(m.rng.randrange(1, 4)):
        parts.append(same_pooling(m, parts[-1], size))
    m.keep(conv(m, concat(m, parts, 1), m.rng.choice(m.channels), plain=True))


def down_step(m: Maker) -> None:
    x = m.pick_image()
    fields = {"kh": 3, "kw": 3, "pad_h": 1, "pad_w": 1, "stride_h": 2, "stride_w": 2}
    m.keep(conv(m, x, m.rng.choice(m.channels), fields=fields))


def _another_size(m: Maker, x: Var) -> Var:
    return m.pick(lambda v: len(v.shape) == 4 and v.dtype == x.dtype and v.shape[0] == x.shape[0])


def pyramid_step(m: Maker) -> None:
    """A tensor brought to the size of another, and joined with it or added to it."""
    x = m.pick_image()
    y = _another_size(m, x)
    if y is x:
        raise Rejected("there is only one")
    if x.shape[2:] != y.shape[2:]:
        y = resize(m, y, *x.shape[2:])
    if m.chance(0.6):
        m.keep(concat(m, [x, y] if m.chance(0.5) else [y, x], 1))
    else:
        y = conv(m, y, x.shape[1], plain=True)
        m.keep(binary(m, M.ADD, x, y))


def head_step(m: Maker) -> None:
    """Places as rows [N, H W, C], of one or two levels joined."""
    x = m.pick_image()
    rows = []
    for level in (x, _another_size(m, x)) if m.chance(0.5) else (x,):
        n, _, h, w = level.shape
        out = 5 if not rows else rows[0].shape[2]
        y = conv(m, level, out, plain=True)
        rows.append(shuffle(m, m.reshape(y, n, out, h * w), 0, 2, 1))
    m.keep(concat(m, rows, 1) if len(rows) > 1 else rows[0])
