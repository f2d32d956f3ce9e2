"""No lowering passes on an activation that its kernel does not have: results would be wrong, and nothing would tell.

Kernel modules export which they have. Here they export none, and everything must run in another way.
"""

import numpy as np
import pytest
from support.instruction_sets import INSTRUCTION_SETS
from support.one_node import run_node
from support.quantized import QuantizedBuilder, q8, run_kernels

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.ir.dtype import FLOAT32, INT8, INT32
from megengine_lite._core.ir.fused import Activation, ActivationCode, FusedConv, FusedMatMul
from megengine_lite._core.ir.onnx_params import Recurrent
from megengine_lite._core.ir.params import (
    RNN,
    ConvBias,
    ConvBiasNonlineMode,
    ElemwiseMultiType,
    ElemwiseMultiTypeMode,
    RNNCell,
    RNNCellNonlineMode,
)
from megengine_lite._core.operators.reference import run_reference

pytestmark = pytest.mark.parametrize("isa", INSTRUCTION_SETS)

TANH = Activation(ActivationCode.TANH)
IMAGE, FILTER = (1, 16, 5, 6), (8, 16, 3, 3)
FLOATS = {
    "FusedConv": (FusedConv(0, 0, 1, 1, 1, 1, 1, activation=TANH), (IMAGE, FILTER), {1}),
    "ConvBiasForward": (ConvBias(nonlineMode=ConvBiasNonlineMode.SIGMOID), (IMAGE, FILTER), {1}),
    "FusedMatMul": (FusedMatMul(False, True, activation=TANH), ((4, 16), (10, 16)), {1}),
    "RNNCellForward": (
        RNNCell(nonlineMode=RNNCellNonlineMode.TANH),
        ((4, 8), (16, 8), (16,), (4, 16), (16, 16), (16,)),
        {1, 2, 4, 5},
    ),
    "Recurrent": (
        Recurrent("RNN", "reverse", (("Tanh", 0.0, 0.0),), 0.0, (True, False, True, False, False)),
        ((5, 4, 8), (1, 16, 8), (1, 16, 16), (1, 32), (1, 4, 16)),
        {1, 2, 3},
    ),
    "RNNForward": (RNN(hidden_size=16, nonlineMode=RNNCellNonlineMode.TANH), ((5, 4, 8), (1, 4, 16), (416,)), {2}),
}
QUANTIZED = {"QuantizedConv", "QuantizedMatMul"}
# What these compute has no activation among its parameters.
WITHOUT = {
    "BatchedMatrixMul", "Convolution", "Convolution3D", "ConvolutionBackwardData", "DeformableConvForward",
    "FusedAttention", "LSTMCellForward", "LSTMForward", "MatrixMul", "MultiHeadAttn",
}  # fmt: skip


@pytest.fixture
def emitted(monkeypatch, isa):
    """The activations of all steps, by kernel, while kernels have none."""
    found = []
    probe, emit = kernel_set(isa).module("probe"), Lowering.emit

    def noted(self, kernel, node, **arguments):
        if "activation" in arguments:
            found.append((kernel, ActivationCode(arguments["activation"])))
        emit(self, kernel, node, **arguments)

    monkeypatch.setattr(Lowering, "emit", noted)
    for name in ("ACTIVATIONS", "SUM_ACTIVATIONS"):
        assert ActivationCode.RELU in getattr(probe, name)
        monkeypatch.setattr(probe, name, (ActivationCode.NONE,))
    return found


def others(emitted):
    return [step for step in emitted if step[1] != ActivationCode.NONE]


@pytest.mark.parametrize("op", FLOATS)
def test_floats(isa, op, emitted):
    params, shapes, constants = FLOATS[op]
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(shape).astype(np.float32) for shape in shapes]
    _, kernels = run_node(op, params, inputs, constants, isa)
    assert None in kernels
    assert others(emitted) == []


@pytest.mark.parametrize("mode", [ConvBiasNonlineMode.RELU, ConvBiasNonlineMode.H_SWISH])
@pytest.mark.parametrize("groups", [1, 16])
@pytest.mark.parametrize("dtype", [q8(0.05), FLOAT32], ids=str)
@pytest.mark.parametrize("add", [None, ElemwiseMultiTypeMode.QFUSE_ADD_RELU])
def test_int8(isa, mode, groups, dtype, add, emitted):
    b = QuantizedBuilder()
    x = b.data((1, 16, 6, 7), q8(0.02))
    w = b.weight((16, 16, 3, 3) if groups == 1 else (16, 1, 1, 3, 3), q8(0.01))
    y = b.typed_node("ConvBiasForward", ConvBias(nonlineMode=mode, sparse=int(groups > 1)), [x, w], dtype)
    if add is not None and dtype.is_quantized:
        y = b.typed_node("ElemwiseMultiType", ElemwiseMultiType(mode=add), [y, b.data((1, 16, 4, 5), q8(0.03))], dtype)
    graph = b.finish(y)
    (got,), _ = run_kernels(graph, b.values, isa)
    (want,) = run_reference(graph, b.values)
    assert np.abs(got.astype(np.float64) - want).max() <= (1 if dtype.is_quantized else 1e-5)
    assert others(emitted) == []


def test_sums_of_integers(isa, emitted):
    b = QuantizedBuilder()
    x, w = b.data((1, 16, 6, 7), INT8), b.weight((16, 16, 3, 3), INT8)
    graph = b.finish(b.typed_node("ConvBiasForward", ConvBias(nonlineMode=ConvBiasNonlineMode.RELU), [x, w], INT32))
    (got,), steps = run_kernels(graph, b.values, isa)
    np.testing.assert_array_equal(got, run_reference(graph, b.values)[0])
    assert steps == ["numpy"]
    assert others(emitted) == []


def test_every_operator_whose_kernels_have_activations_is_known_here(isa):
    kernels = {k.name for k in kernel_set(isa) if "activation" in k.arguments}
    operators = {row.op for row in TABLE.rows if kernels & {*row.kernels}}
    assert operators == FLOATS.keys() | QUANTIZED | WITHOUT
