"""Recurrent cells and layers, attention."""

import math

import numpy as np
import pytest
from support.definitions import make_node, run_opr

from megengine_lite._core.ir.params import (
    LSTM,
    RNN,
    AttnMaskType,
    Empty,
    MultiHeadAttn,
    RNNCell,
    RNNCellNonlineMode,
    TensorCombinationType,
)
from megengine_lite._core.operators.attention import weight_shapes
from megengine_lite.errors import ShapeError

RNG = np.random.default_rng(0)
NONLINEAR = {
    RNNCellNonlineMode.IDENTITY: lambda v: v,
    RNNCellNonlineMode.RELU: lambda v: max(v, 0),
    RNNCellNonlineMode.TANH: math.tanh,
}


def random(*shape):
    return RNG.uniform(-1, 1, shape).astype(np.float32)


def sigmoid(v):
    return 1 / (1 + math.exp(-v))


def gates_of(x, w_ih, b_ih, h, w_hh, b_hh):
    """One sum per gate and unit, number by number."""
    rows = len(w_ih)
    return [
        sum(float(w_ih[r, i] * v) for i, v in enumerate(x))
        + sum(float(w_hh[r, i] * v) for i, v in enumerate(h))
        + float(b_ih[r] + b_hh[r])
        for r in range(rows)
    ]


def lstm_step(x, h, c, *weights):
    w_ih, w_hh, b_ih, b_hh = weights
    gates = gates_of(x, w_ih, b_ih, h, w_hh, b_hh)
    n = len(h)
    new_c = [sigmoid(gates[n + k]) * float(c[k]) + sigmoid(gates[k]) * math.tanh(gates[2 * n + k]) for k in range(n)]
    return [sigmoid(gates[3 * n + k]) * math.tanh(new_c[k]) for k in range(n)], new_c


@pytest.mark.parametrize("mode", NONLINEAR)
def test_rnn_cell(mode):
    x, w_ih, b_ih, h, w_hh, b_hh = random(2, 3), random(4, 3), random(4), random(2, 4), random(4, 4), random(4)
    (y,) = run_opr("RNNCellForward", RNNCell(nonlineMode=mode), x, w_ih, b_ih, h, w_hh, b_hh)
    for b in range(2):
        expected = [NONLINEAR[mode](v) for v in gates_of(x[b], w_ih, b_ih, h[b], w_hh, b_hh)]
        np.testing.assert_allclose(y[b], expected, rtol=1e-5, atol=1e-6)


def test_lstm_cell():
    x, h, c = random(2, 3), random(2, 4), random(2, 4)
    w_ih, b_ih, w_hh, b_hh = random(16, 3), random(16), random(16, 4), random(16)
    outputs = run_opr("LSTMCellForward", Empty(), x, w_ih, b_ih, h, w_hh, b_hh, c, n_outputs=3)
    for b in range(2):
        new_h, new_c = lstm_step(x[b], h[b], c[b], w_ih, w_hh, b_ih, b_hh)
        gates = gates_of(x[b], w_ih, b_ih, h[b], w_hh, b_hh)
        found = outputs[0][b], outputs[1][b], outputs[2].reshape(4, 2, 4)[:, b].ravel()
        for got, expected in zip(found, (new_h, new_c, gates), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_cells_refused():
    good = random(2, 3), random(4, 3), random(4), random(2, 4), random(4, 4), random(4)
    for position, bad, message in (
        (1, random(4, 2), "the weight of x must have shape"),
        (4, random(3, 4), "the weight of h must have shape"),
        (2, random(3), "a bias must have 4 elements"),
        (3, random(1, 4), "h must have shape"),
    ):
        arrays = [bad if i == position else a for i, a in enumerate(good)]
        with pytest.raises(ShapeError, match=message):
            run_opr("RNNCellForward", RNNCell(), *arrays)


def layer_weights(layers, directions, gates, size, hidden, bias):
    """Weights of each layer and direction, with biases of 0 where there are none, and all of them flat."""
    weights, flat = [], []
    for layer in range(layers):
        for _ in range(directions):
            own = [random(gates * hidden, size if layer == 0 else hidden * directions), random(gates * hidden, hidden)]
            biases = [random(gates * hidden), random(gates * hidden)]
            flat += [*own, *biases] if bias else own
            weights.append([*own, *(biases if bias else [np.zeros(gates * hidden)] * 2)])
    return weights, np.concatenate([f.ravel() for f in flat])


@pytest.mark.parametrize(("layers", "bidirectional", "bias"), [(1, False, True), (2, True, True), (3, False, False)])
@pytest.mark.parametrize("kind", ["LSTM", "RNN"])
def test_layers(kind, layers, bidirectional, bias):
    length, batch, size, hidden = 4, 2, 3, 5
    directions = 2 if bidirectional else 1
    x = random(length, batch, size)
    weights, flat = layer_weights(layers, directions, 4 if kind == "LSTM" else 1, size, hidden, bias)
    h0, c0 = random(layers * directions, batch, hidden), random(layers * directions, batch, hidden)
    fields = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "hidden_size": hidden}
    if kind == "LSTM":
        y, hy, cy, reserve = run_opr("LSTMForward", LSTM(**fields), x, h0, c0, flat, n_outputs=4)
    else:
        params = RNN(nonlineMode=RNNCellNonlineMode.TANH, **fields)
        y, hy, reserve = run_opr("RNNForward", params, x, h0, flat, n_outputs=3)
    assert reserve.size == 0
    for b in range(batch):
        sequence = [list(map(float, x[t, b])) for t in range(length)]
        for layer in range(layers):
            outputs = [[0.0] * (hidden * directions) for _ in range(length)]
            for direction in range(directions):
                number = layer * directions + direction
                h, c = list(h0[number, b]), list(c0[number, b])
                for t in reversed(range(length)) if direction else range(length):
                    w_ih, w_hh, b_ih, b_hh = weights[number]
                    if kind == "LSTM":
                        h, c = lstm_step(sequence[t], h, c, w_ih, w_hh, b_ih, b_hh)
                    else:
                        h = [math.tanh(v) for v in gates_of(sequence[t], w_ih, b_ih, h, w_hh, b_hh)]
                    outputs[t][direction * hidden : (direction + 1) * hidden] = h
                np.testing.assert_allclose(hy[number, b], h, rtol=1e-4, atol=1e-5)
                if kind == "LSTM":
                    np.testing.assert_allclose(cy[number, b], c, rtol=1e-4, atol=1e-5)
            sequence = outputs
        np.testing.assert_allclose(y[:, b], sequence, rtol=1e-4, atol=1e-5)


def test_layers_leave_their_inputs_alone():
    _, flat = layer_weights(1, 1, 1, 3, 4, True)
    h0 = random(1, 2, 4)
    before = h0.copy()
    run_opr("RNNForward", RNN(hidden_size=4), random(5, 2, 3), h0, flat, n_outputs=3)
    np.testing.assert_array_equal(h0, before)


def test_layers_refused():
    x, h0 = random(4, 2, 3), random(1, 2, 5)
    _, flat = layer_weights(1, 1, 4, 3, 5, True)
    for params, arrays, message in (
        (LSTM(hidden_size=5), (x, h0, h0, flat[1:]), "needs 200 weights, has 199"),
        (LSTM(hidden_size=5, proj_size=2), (x, h0[:, :, :2], h0, flat), "an initial state must have shape"),
        (LSTM(hidden_size=5, num_layers=2), (x, h0, h0, flat), "an initial state must have shape"),
        (LSTM(hidden_size=0), (x, h0, h0, flat), "layers of size 0"),
    ):
        with pytest.raises(ShapeError, match=message):
            run_opr("LSTMForward", params, *arrays, n_outputs=4)


def attention(query, key, value, wq, wk, wv, wo, biases, heads, scale, mask=None):
    """Attention of one sample, head by head."""
    q, k, v = (x @ w + b for x, w, b in zip((query, key, value), (wq, wk, wv), biases, strict=False))
    merged, shares = [], []
    for head in range(heads):
        qh, kh, vh = (np.split(part, heads, axis=1)[head] for part in (q, k, v))
        scores = qh @ kh.T * scale
        if mask is not None:
            scores = scores + (mask if mask.ndim == 2 else mask[head])
        share = np.array([[math.exp(s) for s in row] for row in scores])
        share /= share.sum(1, keepdims=True)
        shares.append(share)
        merged.append(share @ vh)
    return np.concatenate(merged, axis=1) @ wo + biases[3], shares


@pytest.mark.parametrize("mask_ndim", [None, 2, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_multi_head_attention(mask_ndim, bias):
    batch, lq, lk, heads = 2, 3, 5, 2
    e, k, v, proj, vproj, out = 6, 4, 3, 8, 10, 7
    query, key, value = random(batch, lq, e), random(batch, lk, k), random(batch, lk, v)
    parts = [random(e, proj), random(k, proj), random(v, vproj), random(vproj, out)]
    biases = [random(proj), random(proj), random(vproj), random(out)]
    flat = np.concatenate([p.ravel() for p in parts + (biases if bias else [])])
    masks = {None: [], 2: [random(lq, lk)], 3: [random(batch * heads, lq, lk)]}[mask_ndim]
    params = MultiHeadAttn(
        num_heads=heads,
        embeding_size=e,
        k_size=k,
        v_size=v,
        qproj_size=proj,
        kproj_size=proj,
        vproj_size=vproj,
        oproj_size=out,
        **dict.fromkeys(("qbias", "kbias", "vbias", "obias"), bias),
        sm_scaler=0.5,
        attn_mask_type=AttnMaskType.USER_DEFINED_MASK if masks else AttnMaskType.NO_MASK,
        tensor_combination_type=TensorCombinationType.ONLY_MASK if masks else TensorCombinationType.NONE,
    )
    result, shares, *reserve = run_opr("MultiHeadAttn", params, query, key, value, flat, *masks, n_outputs=4)
    assert [r.size for r in reserve] == [0, 0]
    for b in range(batch):
        mask = None
        if masks:
            mask = masks[0] if mask_ndim == 2 else masks[0][b * heads : (b + 1) * heads]
        added = biases if bias else [0.0] * 4
        expected, own = attention(query[b], key[b], value[b], *parts, added, heads, 0.5, mask)
        np.testing.assert_allclose(result[b], expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(shares[b * heads : (b + 1) * heads], own, rtol=1e-4, atol=1e-6)


def test_attention_without_projections_shows_every_head_the_whole():
    query, key, value = random(1, 2, 4), random(1, 3, 4), random(1, 3, 5)
    params = MultiHeadAttn(num_heads=2, embeding_size=4, k_size=4, v_size=5)
    assert weight_shapes(make_node("MultiHeadAttn", params, 4)) == {}
    result, shares, *_ = run_opr("MultiHeadAttn", params, query, key, value, np.zeros(0, np.float32), n_outputs=4)
    scores = np.exp(query[0] @ key[0].T)
    share = scores / scores.sum(1, keepdims=True)
    np.testing.assert_allclose(shares, [share, share], rtol=1e-5)
    np.testing.assert_allclose(result[0], np.concatenate([share @ value[0]] * 2, axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"qproj_size": 5, "kproj_size": 4}, "into 2 heads"),
        ({"qproj_size": 2, "kproj_size": 4}, "heads of queries have size 1, of keys 2"),
        ({"embeding_size": 3}, "queries and keys have the sizes 4, 4, not 3, 4"),
        ({"add_zero_attn": True}, "add_zero_attn"),
        ({"tensor_combination_type": TensorCombinationType.ONLY_BIASKV}, "the original's CPU cannot run"),
        ({"reslink": True}, "training mode"),
        ({"tensor_combination_type": TensorCombinationType.ALL}, "an extra bias"),
        ({"attn_mask_type": AttnMaskType.CUDNN_STYLE_MASK}, "mask type 2"),
        ({"oproj_size": 3}, "needs 24 weights, has 0"),
    ],
)
def test_attention_refused(fields, message):
    params = MultiHeadAttn(**{"num_heads": 2, "embeding_size": 4, "k_size": 4, "v_size": 4} | fields)
    x = random(1, 3, 4)
    weights = np.zeros(0, np.float32)
    if params.qproj_size:
        weights = random(4 * params.qproj_size + 4 * params.kproj_size)
    with pytest.raises(ShapeError, match=message):
        run_opr("MultiHeadAttn", params, x, x, x, weights, n_outputs=4)
