"""Recurrent layers of ONNX with lengths, peepholes, clipping and the batch first: results and kernels."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.graphs import run, session_of
from support.onnx_models import make

from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model

F, INT32 = TensorProto.FLOAT, TensorProto.INT32
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
SIZE, HIDDEN = 5, 18

RULES = {
    "plain": {}, "lengths": {"lengths": True}, "clip": {"clip": 0.4}, "relu": {"relu": True},
    "peepholes": {"peepholes": True, "lengths": True}, "coupled": {"couples": True}, "states": {"states": True},
    "all": {"lengths": True, "clip": 0.5, "peepholes": True, "couples": True, "states": True},
    "before": {"before": True, "lengths": True},
}  # fmt: skip
OF_CELL = {
    "RNN": ["plain", "lengths", "relu", "states"],
    "GRU": ["plain", "lengths", "clip", "before", "states"],
    "LSTM": ["plain", "lengths", "clip", "peepholes", "coupled", "states", "all"],
}


def layer(cell, direction, batch_first=False, lengths=False, clip=0.0, relu=False, peepholes=False, couples=False,
          states=False, before=False):  # fmt: skip
    """A model of one layer whose batch and length may change, and its constants by name."""
    rng, both = np.random.default_rng(0), 2 if direction == "bidirectional" else 1
    rows = GATES[cell] * HIDDEN

    def random(*shape):
        return rng.uniform(-0.5, 0.5, shape).astype(np.float32)

    numbers = {"w": random(both, rows, SIZE), "r": random(both, rows, HIDDEN), "b": random(both, 2 * rows)}
    inputs = [("x", F, ["n", "t", SIZE] if batch_first else ["t", "n", SIZE])]
    names = ["x", "w", "r", "b", "", "", "", ""]
    if lengths:
        names[4] = "lengths"
        inputs.append(("lengths", INT32, ["n"]))
    for place, name in ((5, "h"), (6, "c")):
        if states and (name == "h" or cell == "LSTM"):
            names[place] = name
            inputs.append((name, F, ["n", both, HIDDEN] if batch_first else [both, "n", HIDDEN]))
    if peepholes:
        names[7], numbers["p"] = "p", random(both, 3 * HIDDEN)
    attributes = {"hidden_size": HIDDEN, "direction": direction}
    if clip:
        attributes["clip"] = clip
    if relu:
        attributes["activations"] = ["Relu"] * both
    if couples:
        attributes["input_forget"] = 1
    if cell == "GRU":
        attributes["linear_before_reset"] = int(before)
    if batch_first:
        attributes["layout"] = 1
    outs = ["y", "y_h", "y_c"][: 3 if cell == "LSTM" else 2]
    node = helper.make_node(cell, names[: 8 if cell == "LSTM" else 6], outs, **attributes)
    return make([node], inputs, [(o, F, None) for o in outs], numbers).SerializeToString(), inputs


def feeds_of(inputs, batch, length, batch_first=False):
    rng, found = np.random.default_rng([batch, length]), {}
    for name, kind, dims in inputs:
        shape = [{"n": batch, "t": length}.get(d, d) for d in dims]
        numbers = rng.uniform(-1, 1, shape).astype(np.float32)
        found[name] = rng.integers(1, length + 1, shape).astype(np.int32) if kind == INT32 else numbers
    return found


def by_kernels(content, *feeds):
    """The outputs for each of several inputs, once it is known that kernels compute all."""
    session = session_of(load_model(content).graph)
    found = [[v.copy() for v in run(session, **given)] for given in feeds]
    assert [s.node.op for plan in session.plans() for s in plan.steps if isinstance(s, HostStep)] == []
    return found


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("cell", "name"), [(cell, name) for cell, names in OF_CELL.items() for name in names])
def test_layers_give_what_onnx_runtime_gives(cell, name, direction):
    runtime = pytest.importorskip("onnxruntime")
    content, inputs = layer(cell, direction, **RULES[name])
    theirs = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    feeds = [feeds_of(inputs, *sizes) for sizes in ((3, 6), (1, 4), (4, 1))]
    for given, ours in zip(feeds, by_kernels(content, *feeds), strict=True):
        for a, b in zip(ours, theirs.run(None, given), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("cell", ["RNN", "GRU", "LSTM"])
def test_a_sequence_in_a_batch_is_the_sequence_alone(cell, direction):
    """Lengths change nothing but what lies behind the end, where outputs are 0."""
    with_lengths, inputs = layer(cell, direction, lengths=True)
    alone, _ = layer(cell, direction)
    given = feeds_of(inputs, 4, 7)
    ((y, *last),) = by_kernels(with_lengths, given)
    for k, length in enumerate(given["lengths"]):
        ((y_alone, *last_alone),) = by_kernels(alone, {"x": given["x"][:length, k : k + 1]})
        np.testing.assert_allclose(y[:length, :, k], y_alone[:, :, 0], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(y[length:, :, k], 0)
        for a, b in zip(last, last_alone, strict=True):
            np.testing.assert_allclose(a[:, k], b[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize(("cell", "name"), [(cell, name) for cell, names in OF_CELL.items() for name in names])
def test_the_batch_may_be_first(cell, name, direction):
    other, others = layer(cell, direction, batch_first=True, **RULES[name])
    usual, inputs = layer(cell, direction, **RULES[name])
    assert [n for n, _, _ in others] == [n for n, _, _ in inputs]
    feeds = [feeds_of(inputs, *sizes) for sizes in ((3, 6), (2, 4))]
    turned = [{k: v.swapaxes(0, 1) if v.ndim == 3 else v for k, v in given.items()} for given in feeds]
    for ours, expected in zip(by_kernels(other, *turned), by_kernels(usual, *feeds), strict=True):
        np.testing.assert_array_equal(ours[0], expected[0].transpose(2, 0, 1, 3))
        for a, b in zip(ours[1:], expected[1:], strict=True):
            np.testing.assert_array_equal(a, b.swapaxes(0, 1))
