"""Recurrent cells and layers on every instruction set, against double precision."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, definition, run_blocked

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.onnx_params import Recurrent
from megengine_lite._core.ir.params import LSTM, RNN, Empty, RNNCell, RNNCellNonlineMode
from megengine_lite._core.operators.onnx_recurrent import USUAL
from megengine_lite._core.operators.recurrent import count_weights


def random(*shape, seed=0):
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * 0.5).astype(np.float32)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("hidden", [1, 7, 16, 50])
def test_lstm_cell(hidden, isa):
    gates, c = random(3, 4 * hidden) * 4, random(3, hidden)
    h, c_out = (np.full_like(c, np.nan) for _ in range(2))
    GuardedCall(
        kernel_set(isa), "lstm_cell_f32", gates=gates, c=c, c_out=c_out, h=h, hidden=hidden, h_row=hidden, work=3
    ).run()
    i, f, g, o = np.split(gates.astype(np.float64), 4, axis=1)
    exact = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
    np.testing.assert_allclose(c_out, exact, rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(h, np.tanh(exact) / (1 + np.exp(-o)), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("clip", [np.inf, 0.7])
@pytest.mark.parametrize("couples", [0, 1])
@pytest.mark.parametrize("peeps", [False, True])
@pytest.mark.parametrize("hidden", [1, 7, 16, 50])
def test_lstm_rules(hidden, peeps, couples, clip, isa):
    gates, c = random(3, 4 * hidden) * 4, random(3, hidden)
    peepholes = random(3 * hidden, seed=1) if peeps else None
    h, c_out = (np.full_like(c, np.nan) for _ in range(2))
    rules = {"peepholes": peepholes, "couples": couples, "clip": clip}
    shared = {"gates": gates, "c": c, "c_out": c_out, "h": h, "hidden": hidden, "h_row": hidden, "work": 3}
    GuardedCall(kernel_set(isa), "lstm_rules_f32", **shared, **rules).run()
    i, f, g, o = np.split(gates.astype(np.float64), 4, axis=1)
    at_i, at_o, at_f = np.zeros((3, hidden)) if peepholes is None else np.split(peepholes.astype(np.float64), 3)
    enter = sigmoid((i + at_i * c).clip(-clip, clip))
    forget = 1 - enter if couples else sigmoid((f + at_f * c).clip(-clip, clip))
    cell = forget * c + enter * np.tanh(g.clip(-clip, clip))
    np.testing.assert_allclose(c_out, cell, rtol=4e-6, atol=4e-7)
    np.testing.assert_allclose(h, np.tanh(cell) * sigmoid((o + at_o * cell).clip(-clip, clip)), rtol=4e-6, atol=4e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("clip", [np.inf, 0.5])
def test_nan_goes_through_cells(clip, isa):
    hidden = 18
    gates, c, h = random(2, 4 * hidden), random(2, hidden), random(2, hidden)
    gates[0, 3::hidden] = np.nan
    out, y = np.zeros_like(c), np.zeros_like(c)
    rules = {"peepholes": None, "couples": 0, "clip": clip, "hidden": hidden, "h_row": hidden, "work": 2}
    GuardedCall(kernel_set(isa), "lstm_rules_f32", gates=gates, c=c, c_out=out, h=y, **rules).run()
    np.testing.assert_array_equal(np.argwhere(np.isnan(out)), [[0, 3]])
    sums = np.ascontiguousarray(gates[:, : 3 * hidden])
    shared = {"x": sums, "s": sums, "h": h, "clip": clip, "hidden": hidden, "h_row": hidden, "work": 2}
    GuardedCall(kernel_set(isa), "gru_cell_f32", y=y, y_row=hidden, resets=1, **shared).run()
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[0, 3]])
    GuardedCall(kernel_set(isa), "gru_reset_f32", y=y, **shared).run()
    np.testing.assert_array_equal(np.argwhere(np.isnan(y)), [[0, 3]])


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("has_cell", [False, True])
def test_sequence_ends(has_cell, isa):
    lengths = np.array([-1, 0, 3, 4, 5, 9], np.int32)
    batch, hidden, row = len(lengths), 7, 10
    y, h = random(batch, row), random(batch, hidden, seed=1)
    c, c_new = (random(batch, hidden, seed=n) if has_cell else None for n in (2, 3))
    before = [None if v is None else v.copy() for v in (y, h, c)]
    arguments = {"lengths": lengths, "y": y, "h": h, "c": c, "c_new": c_new, "t": 3, "hidden": hidden, "y_row": row}
    GuardedCall(kernel_set(isa), "sequence_ends_f32", **arguments, work=batch).run()
    goes_on = (lengths > 3)[:, None]
    np.testing.assert_array_equal(y[:, :hidden], np.where(goes_on, before[0][:, :hidden], 0))
    np.testing.assert_array_equal(y[:, hidden:], before[0][:, hidden:])
    np.testing.assert_array_equal(h, np.where(goes_on, before[0][:, :hidden], before[1]))
    if has_cell:
        np.testing.assert_array_equal(c, np.where(goes_on, c_new, before[2]))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("op", ["RNNCellForward", "LSTMCellForward"])
def test_single_step(op, isa):
    gates, params = (4, Empty()) if op == "LSTMCellForward" else (1, RNNCell(nonlineMode=RNNCellNonlineMode.TANH))
    rows = gates * 20
    inputs = [random(3, 9), random(rows, 9), random(1, rows), random(3, 20), random(rows, 20), random(rows)]
    inputs += [random(3, 20, seed=1)] if gates == 4 else []
    constants = {1, 2, 4, 5}
    actual, kernels = run_blocked(op, params, inputs, isa, constants, plain={0, 3, 6})
    assert None not in kernels
    np.testing.assert_allclose(actual, definition(op, params, inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("batch", [1, 3])
def test_gates_of_a_cell_that_are_read(batch, isa):
    inputs = [random(batch, 9), random(80, 9), random(80), random(batch, 20), random(80, 20), random(80)]
    inputs.append(random(batch, 20, seed=1))
    actual, _ = run_blocked("LSTMCellForward", Empty(), inputs, isa, {1, 2, 4, 5}, plain={0, 3, 6}, output=2)
    gates = inputs[0] @ inputs[1].T + inputs[2] + inputs[3] @ inputs[4].T + inputs[5]
    expected = gates.reshape(batch, 4, 20).swapaxes(0, 1).reshape(batch, 80)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("op", ["RNNForward", "LSTMForward"])
def test_layers(op, layers, bidirectional, bias, threads, isa):
    length, batch, size, hidden = 5, 2, 6, 18
    common = {"num_layers": layers, "bidirectional": bidirectional, "bias": bias, "hidden_size": hidden}
    lstm = op == "LSTMForward"
    params = LSTM(**common) if lstm else RNN(**common, nonlineMode=RNNCellNonlineMode.RELU)
    state = (layers * (1 + bidirectional), batch, hidden)
    weights = count_weights(Node(op, params, (), ()), 4 if lstm else 1, size)
    inputs = [random(length, batch, size), random(*state, seed=1)]
    inputs += [random(*state, seed=2)] if lstm else []
    inputs.append(random(weights) * 0.5)
    last = len(inputs) - 1
    actual, kernels = run_blocked(op, params, inputs, isa, {last}, threads, plain=range(last))
    assert None not in kernels
    assert kernels.count("lstm_cell_f32") == (length * layers * (1 + bidirectional) if lstm else 0)
    np.testing.assert_allclose(actual, definition(op, params, inputs), rtol=1e-5, atol=1e-6)


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("clip", [np.inf, 0.7])
@pytest.mark.parametrize("resets", [0, 1])
@pytest.mark.parametrize("hidden", [1, 7, 16, 50])
def test_gru_cell(hidden, resets, clip, isa):
    x, s, h = random(3, 3 * hidden) * 4, random(3, 3 * hidden, seed=1) * 4, random(3, hidden)
    y = np.full_like(h, np.nan)
    shared = {"x": x, "s": s, "h": h, "y": y, "clip": clip, "hidden": hidden, "h_row": hidden, "work": 3}
    GuardedCall(kernel_set(isa), "gru_cell_f32", y_row=hidden, resets=resets, **shared).run()
    (xz, xr, xn), (sz, sr, sn) = np.split(x, 3, axis=1), np.split(s, 3, axis=1)
    reset = sigmoid((xr + sr).clip(-clip, clip))
    new = np.tanh((xn + (reset * sn if resets else sn.astype(np.float64))).clip(-clip, clip))
    np.testing.assert_allclose(y, new + sigmoid((xz + sz).clip(-clip, clip)) * (h - new), rtol=2e-6, atol=4e-7)
    GuardedCall(kernel_set(isa), "gru_reset_f32", **shared).run()
    np.testing.assert_allclose(y, reset * h, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("cell", "direction", "before"),
    [("GRU", d, b) for d in ("forward", "reverse", "bidirectional") for b in (True, False)]
    + [("LSTM", d, False) for d in ("forward", "reverse", "bidirectional")]
    + [("RNN", d, False) for d in ("forward", "reverse", "bidirectional")],
)
def test_layers_of_onnx(cell, direction, before, bias, threads, isa):
    check_layer(cell, direction, bias, threads, isa, before)


RULES = [
    ("LSTM", {"clip": 0.4}), ("LSTM", {"peepholes": True}), ("LSTM", {"couples": True}),
    ("LSTM", {"clip": 0.6, "peepholes": True, "couples": True}), ("GRU", {"clip": 0.3}),
    ("GRU", {"clip": 0.3, "before": True}), ("RNN", {"relu": True}), ("RNN", {"relu": True, "clip": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("lengths", [None, (5, 0, 2), (4, 4, 1), (3, 9, 5)])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("cell", "rules"), [("LSTM", {}), ("GRU", {}), ("GRU", {"before": True}), ("RNN", {}), *RULES])
def test_rules_of_onnx(cell, rules, direction, lengths, threads, isa):
    check_layer(cell, direction, bias=True, threads=threads, isa=isa, lengths=lengths, **rules)


def check_layer(
    cell,
    direction,
    bias,
    threads,
    isa,
    before=False,
    lengths=None,
    clip=0.0,
    peepholes=False,
    couples=False,
    relu=False,
):
    """All outputs of a layer by kernels, against the definition."""
    length, batch, size, hidden = 5, 2 if lengths is None else len(lengths), 6, 18
    both, gates = 1 + (direction == "bidirectional"), {"GRU": 3, "LSTM": 4, "RNN": 1}[cell]
    functions = tuple((name, 0.0, 0.0) for name in (["Relu"] if relu else USUAL[cell])) * both
    flags = (bias, lengths is not None, True, cell == "LSTM", peepholes)
    params = Recurrent(cell, direction, functions, clip, flags, before, couples)
    inputs = [random(length, batch, size), random(both, gates * hidden, size), random(both, gates * hidden, hidden)]
    inputs += [random(both, 2 * gates * hidden)] if bias else []
    constants = {*range(1, len(inputs))}
    inputs += [] if lengths is None else [np.array(lengths, np.int32)]
    inputs += [random(both, batch, hidden, seed=n) for n in range(1 + (cell == "LSTM"))]
    inputs += [random(both, 3 * hidden)] if peepholes else []
    plain = {*range(len(inputs))} - constants
    for output in range(3 if cell == "LSTM" else 2):
        actual, kernels = run_blocked("Recurrent", params, inputs, isa, constants, threads, plain=plain, output=output)
        assert None not in kernels
        assert kernels.count("gru_cell_f32") == (length * both if cell == "GRU" else 0)
        expected = definition("Recurrent", params, inputs, output=output)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
