"""Steps of sequences: recurrent cells as nodes, as layers, and written by hand from products and gates."""

from __future__ import annotations

from generated.elemwise import M, binary, unary
from generated.maker import Maker, Rejected
from generated.moves import concat, cut, split, take
from generated.tokens import linear, pick_tokens, product
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.graph import Var
from megengine_lite._core.ir.params import LSTM, RNN, BNFwdMode, Elemwise, Empty, RNNCell, RNNCellNonlineMode

_HIDDEN = (3, 4, 8, 16, 17, 32)


def pick_vectors(m: Maker) -> Var:
    return m.pick(lambda v: v.dtype == FLOAT32 and len(v.shape) == 2)


def hidden_state(m: Maker, x: Var, size: int) -> Var:
    """A state to begin with: a vector that is there, or a projection of the input."""
    found = [v for v in m.pool if v.dtype == FLOAT32 and v.shape == (x.shape[0], size)]
    return m.rng.choice(found) if found and m.chance(0.6) else unary(m, M.TANH, linear(m, x, size))


def gate_sum(m: Maker, x: Var, h: Var, size: int) -> Var:
    """What a gate sees: a product of the input and one of the state, with a bias at either or both."""
    kind = m.rng.randrange(5)
    if kind == 0:
        return linear(m, concat(m, [x, h], 1), size)
    a, b = product(m, x, size), product(m, h, size)
    if kind in (1, 3):
        a = binary(m, M.ADD, a, m.weight((size,)))
    if kind in (2, 3):
        b = binary(m, M.ADD, b, m.weight((1, size)))
    total = binary(m, M.ADD, *((a, b) if m.chance(0.5) else (b, a)))
    return binary(m, M.ADD, total, m.weight((1, size))) if kind == 4 else total


def lstm_cell(m: Maker, x: Var, h: Var, c: Var) -> tuple[Var, Var]:
    size = h.shape[1]
    if m.chance(0.5):
        gates = gate_sum(m, x, h, 4 * size)
        if m.chance(0.5):
            i, f, g, o = split(m, gates, [size] * 4, 1)
        else:
            i, f, g, o = (cut(m, gates, 1, k * size, (k + 1) * size) for k in range(4))
    else:
        i, f, g, o = (gate_sum(m, x, h, size) for _ in range(4))
    i, f, o = (unary(m, M.SIGMOID, v) for v in (i, f, o))
    g = unary(m, M.TANH, g)
    if m.chance(0.3):
        c = m.op("Elemwise", Elemwise(mode=M.FUSE_MUL_ADD4), f, c, i, g)
    else:
        c = binary(m, M.ADD, binary(m, M.MUL, f, c), binary(m, M.MUL, i, g))
    return binary(m, M.MUL, o, unary(m, M.TANH, c)), c


def gru_cell(m: Maker, x: Var, h: Var) -> Var:
    size = h.shape[1]
    r, z = (unary(m, M.SIGMOID, gate_sum(m, x, h, size)) for _ in range(2))
    if m.chance(0.5):
        n = binary(m, M.ADD, linear(m, x, size), binary(m, M.MUL, r, linear(m, h, size)))
    else:
        n = binary(m, M.ADD, linear(m, x, size), linear(m, binary(m, M.MUL, r, h), size))
    n = unary(m, M.TANH, n)
    if m.chance(0.5):
        return binary(m, M.ADD, n, binary(m, M.MUL, z, binary(m, M.SUB, h, n)))
    rest = binary(m, M.SUB, m.number(1.0, z), z)
    return binary(m, M.ADD, binary(m, M.MUL, rest, n), binary(m, M.MUL, z, h))


def plain_cell(m: Maker, x: Var, h: Var) -> Var:
    size = h.shape[1]
    if m.chance(0.3):
        return binary(m, M.FUSE_ADD_TANH, linear(m, x, size), linear(m, h, size))
    return unary(m, m.rng.choice((M.TANH, M.RELU)), gate_sum(m, x, h, size))


def cell_step(m: Maker) -> None:
    """One step of a cell written by hand."""
    x = pick_vectors(m)
    h = hidden_state(m, x, m.rng.choice(_HIDDEN))
    kind = m.rng.randrange(3)
    if kind == 0:
        c = hidden_state(m, x, h.shape[1])
        m.keep(*lstm_cell(m, x, h, c))
    else:
        m.keep(gru_cell(m, x, h) if kind == 1 else plain_cell(m, x, h))


def own_sequence_step(m: Maker) -> None:
    """A cell written by hand, over the tokens of each sample."""
    x = pick_tokens(m)
    t = x.shape[1]
    steps = min(t, m.rng.randrange(2, 5))
    size = m.rng.choice(_HIDDEN)
    kind = m.rng.randrange(3)
    by_index = m.chance(0.5)
    h = c = None
    states = []
    for k in range(steps):
        now = take(m, x, 1, k) if by_index else m.drop_axis(cut(m, x, 1, k, k + 1), 1)
        if h is None:
            h = unary(m, M.TANH, linear(m, now, size))
            c = h
        elif kind == 0:
            h, c = lstm_cell(m, now, h, c)
        else:
            h = gru_cell(m, now, h) if kind == 1 else plain_cell(m, now, h)
        states.append(h)
    if len(states) == 1:
        pass
    elif m.chance(0.5):
        m.keep(concat(m, [m.add_axis(s, 1) for s in states], 1))
    elif m.chance(0.5):
        m.keep(concat(m, states, 1))
    m.keep(h)


def cell_node_step(m: Maker) -> None:
    """A cell as one node."""
    x = pick_vectors(m)
    i, size = x.shape[1], m.rng.choice(_HIDDEN)
    h = hidden_state(m, x, size)
    rows = 4 * size if m.chance(0.5) else size
    weights = [m.weight((rows, i), terms=i), m.weight((rows,)), m.weight((rows, size), terms=size), m.weight((rows,))]
    operands = [x, *weights[:2], h, *weights[2:]]
    if rows == size:
        mode = m.rng.choice((RNNCellNonlineMode.TANH, RNNCellNonlineMode.RELU))
        m.keep(m.op("RNNCellForward", RNNCell(nonlineMode=mode), *operands))
    else:
        m.keep(*m.add("LSTMCellForward", Empty(), *operands, hidden_state(m, x, size), outputs=3)[:2])


def layers_step(m: Maker) -> None:
    """Recurrent layers as one node, over tokens that are taken as [T, N, C]."""
    x = pick_tokens(m)
    if m.dynamic:
        raise Rejected("the state would hold the batch")
    layers, both, bias, size = m.rng.choice((1, 1, 2)), m.chance(0.3), m.chance(0.7), m.rng.choice(_HIDDEN)
    directions = 2 if both else 1
    lstm = m.chance(0.6)
    rows = size * (4 if lstm else 1)
    extra = size + (2 if bias else 0)
    total = directions * rows * (x.shape[2] + extra + (layers - 1) * (size * directions + extra))
    state = (layers * directions, x.shape[1], size)
    states = [m.weight(state) for _ in range(2 if lstm else 1)]
    fields = {"num_layers": layers, "bidirectional": both, "bias": bias, "hidden_size": size}
    weights = m.weight((total,), terms=size + 4)
    if lstm:
        params = LSTM(fwd_mode=BNFwdMode.INFERENCE, **fields)
        y, *_ = m.add("LSTMForward", params, x, *states, weights, outputs=4)
    else:
        rnn = RNN(nonlineMode=RNNCellNonlineMode.TANH, fwd_mode=BNFwdMode.INFERENCE, **fields)
        y, *_ = m.add("RNNForward", rnn, x, *states, weights, outputs=3)
    m.keep(y)
