"""NaN and infinities through operators of ONNX: what the package onnx gives, in every place of a graph."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from support.instruction_sets import INSTRUCTION_SETS
from support.onnx_models import expected, load, make, run

from megengine_lite import LiteConfig, LiteNetwork, LiteOptions
from megengine_lite._core.cpu.steps import HostStep
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.onnx.operators import CONVERTERS
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
F = TensorProto.FLOAT
SPECIAL = np.float32([np.nan, -np.inf, np.inf, -3, -1, -0.2, 0, 0.3, 1, 4])
ROWS = np.stack([SPECIAL, SPECIAL[::-1]])
TYPES = {F: np.float32, TensorProto.FLOAT16: np.float16, TensorProto.DOUBLE: np.float64}
OPSET = 22
# They want other types, shapes or values, or draw random numbers.
OTHER_INPUTS = set(
    "And Bernoulli Conv ConvTranspose DFT Det Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool "
    "MeanVarianceNormalization NonMaxSuppression Not Or QuantizeLinear RandomNormalLike RandomUniformLike Resize "
    "Squeeze Xor".split()
)


def plain_operators():
    """Operators that one float tensor is enough for, or two of one type; they have no attribute that must be given."""
    found = []
    for _, op in sorted(CONVERTERS):
        if not onnx.defs.has(op, OPSET) or op in OTHER_INPUTS:
            continue
        schema = onnx.defs.get_schema(op, OPSET)
        if schema.deprecated or any(a.required for a in schema.attributes.values()) or not schema.inputs:
            continue
        count = 2 if schema.inputs[0].option == onnx.defs.OpSchema.FormalParameterOption.Variadic else schema.min_input
        if not any(t.startswith("tensor") for t in schema.outputs[0].types):
            continue  # it makes a sequence
        if count in (1, 2) and len({i.type_str for i in schema.inputs[:count]}) == 1:
            found.append((op, count))
    return found


PLAIN = plain_operators()


def same(ours, theirs, tolerance=1e-5):
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=tolerance, atol=tolerance)


def allowed(op, kind):
    schema = onnx.defs.get_schema(op, OPSET)
    name = {F: "float", TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "double"}[kind]
    return f"tensor({name})" in schema.inputs[0].types


def test_there_are_many_plain_operators():
    assert len(PLAIN) > 60
    wanted = {"Relu", "Clip", "Max", "Min", "Elu", "Selu", "Celu", "HardSigmoid", "Sign", "Mish", "ReduceMax"}
    assert wanted <= {op for op, _ in PLAIN}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("op, count", PLAIN)
def test_plain_operators_keep_nan_where_onnx_does(op, count, kind):
    if not allowed(op, kind):
        return
    arrays = [ROWS] if count == 1 else np.meshgrid(SPECIAL, SPECIAL)
    given = {f"x{k}": np.ascontiguousarray(a).astype(TYPES[kind]) for k, a in enumerate(arrays)}
    inputs = [(name, kind, list(a.shape)) for name, a in given.items()]
    model = make([helper.make_node(op, list(given), ["y"])], inputs, [("y", kind, None)], opset=OPSET)
    wanted = np.asarray(expected(model, **given)[0])
    model.graph.output[0].type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(wanted.dtype)
    at_the_api = {k: a.astype(np.float32) if kind == TensorProto.DOUBLE else a for k, a in given.items()}
    (result,) = run(load(model), **at_the_api)
    if wanted.dtype.kind == "f":
        same(result, wanted, 1e-2 if kind == TensorProto.FLOAT16 else 1e-5)


CLIPS = {"both": ("low", "high"), "low": ("low", ""), "high": ("", "high"), "none": ("", "")}
LIMITS = {"low": np.float32(-1), "high": np.float32(0.5)}
SMALL = {
    **{f"Clip {name}": [helper.make_node("Clip", ["v", *limits], ["y"])] for name, limits in CLIPS.items()},
    "Relu": [helper.make_node("Relu", ["v"], ["y"])],
    "LeakyRelu": [helper.make_node("LeakyRelu", ["v"], ["y"])],
    "HardSigmoid": [helper.make_node("HardSigmoid", ["v"], ["y"])],
    "Max of a number and it": [helper.make_node("Max", ["low", "v"], ["y"])],
    "Min of it and a number": [helper.make_node("Min", ["v", "high"], ["y"])],
    "Max of three": [helper.make_node("Max", ["v", "low", "high"], ["y"])],
    "Relu, then Clip": [helper.make_node("Relu", ["v"], ["r"]), helper.make_node("Clip", ["r", "", "high"], ["y"])],
    "Elu": [helper.make_node("Elu", ["v"], ["y"])],
}
W = np.float32([[1, 0, 0], [0, 1, 0], [0, 0, 1]])
BEFORE = {
    "nothing": ([helper.make_node("Identity", ["x"], ["v"])], ["n", 3, 2, 5]),
    "Conv": ([helper.make_node("Conv", ["x", "filter"], ["v"])], ["n", 3, 2, 5]),
    "Conv and residual": (
        [helper.make_node("Conv", ["x", "filter"], ["c"]), helper.make_node("Add", ["c", "x"], ["v"])],
        ["n", 3, 2, 5],
    ),
    "depthwise Conv": ([helper.make_node("Conv", ["x", "deep"], ["v"], group=3)], ["n", 3, 2, 5]),
    "MatMul": ([helper.make_node("MatMul", ["x", "w"], ["v"])], ["n", 3]),
    "Gemm": ([helper.make_node("Gemm", ["x", "w", "bias"], ["v"])], ["n", 3]),
}
CONSTANTS = {
    **LIMITS,
    "w": W,
    "bias": np.float32([0.5, 0, -0.5]),
    "filter": W.reshape(3, 3, 1, 1),
    "deep": np.ones((3, 1, 1, 1), np.float32),
}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("behind", SMALL)
@pytest.mark.parametrize("before", BEFORE)
def test_what_is_fused_keeps_nan(before, behind, isa):
    """One row of a batch is NaN; kernels run all of it."""
    nodes, shape = BEFORE[before]
    model = make([*nodes, *SMALL[behind]], [("x", F, shape)], [("y", F, None)], CONSTANTS)
    rng = np.random.default_rng(1)
    x = rng.standard_normal([4, *shape[1:]]).astype(np.float32) * 3
    x[2] = np.nan
    x[3, 0] = np.inf if before == "nothing" else 50
    session = Session(load_model(model.SerializeToString()), SessionConfig(isa=isa))
    session.set_array("x", x)
    session.run()
    same(session.output("y").array(), expected(model, x=x)[0])
    assert not [step for plan in session.plans() for step in plan.steps if isinstance(step, HostStep)]


@pytest.mark.parametrize("level", [0, 2])
def test_fusion_does_not_matter(level):
    nodes = [helper.make_node("Conv", ["x", "filter"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    model = make(nodes, [("x", F, ["n", 3, 2, 5])], [("y", F, None)], CONSTANTS)
    x = np.full((1, 3, 2, 5), np.nan, np.float32)
    options = LiteOptions()
    options.graph_opt_level = level
    network = LiteNetwork(LiteConfig(option=options))
    network.load(model.SerializeToString())
    assert np.isnan(run(network, x=x)[0]).all()
