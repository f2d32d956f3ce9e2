"""ONNX models that are not valid are refused when they are loaded, with all that is wrong at once."""

import re
import warnings

import numpy as np
import pytest
from onnx import TensorProto, defs, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.onnx.operators.table import CONVERTERS, OLDEST, is_without_meaning
from megengine_lite.errors import LiteError, LiteWarning, ModelFormatError, ShapeError, UnsupportedOperatorError

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def node(op, inputs, outputs="y", name="", **attributes):
    return helper.make_node(op, inputs.split(" "), outputs.split(" "), name, **attributes)


IMAGE = [("x", F, ["n", 4, 8, 8])]
FILTERS = {"f": np.ones((4, 4, 3, 3), np.float32), "g": np.ones((6, 2, 3, 3), np.float32)}
VECTORS = {"four": np.ones(4, np.float32), "five": np.ones(5, np.float32), "one": np.ones(1, np.float32)}


@pytest.mark.parametrize("op, most", [("Relu", 1), ("Add", 2), ("Conv", 3), ("Where", 3), ("Softmax", 1), ("Clip", 3)])
def test_more_inputs_than_an_operator_has(op, most):
    attributes = {"kernel_shape": [1, 1]} if op == "Conv" else {}
    inputs = [("x", F, [1, 1, 1, 1]), ("b", BOOL, [1]), ("v", F, [1]), ("s", F, [])]
    names = {"Where": ["b", "x", "x"], "Conv": ["x", "x", "v"], "Clip": ["x", "s", "s"]}.get(op, ["x"] * most)
    load(make([helper.make_node(op, names, ["y"], **attributes)], inputs, [("y", F, None)]))
    load(make([helper.make_node(op, [*names, ""], ["y"], **attributes)], inputs, [("y", F, None)]))
    with pytest.raises(UnsupportedOperatorError, match=f"it has {most + 1} inputs, and must not have more than {most}"):
        load(make([helper.make_node(op, [*names, "x"], ["y"], **attributes)], inputs, [("y", F, None)]))


ATTRIBUTES = [
    (node("Conv", "x f", group=0), "group is 0"),
    (node("Conv", "x f", group=-1), "group is -1"),
    (node("ConvTranspose", "x f", group=0), "group is 0"),
    (node("ConvTranspose", "x f", output_padding=[1, 1]), r"output_padding is \[1, 1\]"),
    (node("ConvTranspose", "x f", output_padding=[2, 0], strides=[2, 2]), r"output_padding is \[2, 0\]"),
    (node("ConvTranspose", "x f", output_padding=[-1, 0], strides=[2, 2]), r"output_padding is \[-1, 0\]"),
    (
        node("ConvTranspose", "x f", output_padding=[1], strides=[2, 2]),
        r"output_padding is \[1\], and must be 2 numbers",
    ),
    (node("ConvTranspose", "x f", output_shape=[0, 9]), r"output_shape is \[0, 9\]"),
    (node("ConvTranspose", "x f", output_shape=[9]), r"output_shape is \[9\]"),
    (node("Conv", "x f", kernel_shape=[5, 5]), r"kernel_shape is \[5, 5\], and its filters have \[3, 3\]"),
    (node("ConvTranspose", "x f", kernel_shape=[3]), r"kernel_shape is \[3\], and its filters have \[3, 3\]"),
    (node("Split", "x", num_outputs=2, axis=1), "num_outputs is 2, and it has 1 outputs"),
    (node("Conv", "x f five"), "bias must have 4 numbers"),
    (node("Conv", "x f one"), "bias must have 4 numbers"),
    (node("ConvTranspose", "x g four", group=2), "bias must have 6 numbers"),
    (node("DepthToSpace", "x", blocksize=0), "blocksize is 0"),
    (node("SpaceToDepth", "x", blocksize=-2), "blocksize is -2"),
    (node("LRN", "x", size=-3), "size is -3"),
    (node("LpPool", "x", kernel_shape=[2, 2], p=0), "p is 0"),
    (node("GroupNormalization", "x four four", num_groups=0), "num_groups is 0"),
]


@pytest.mark.parametrize("one, message", ATTRIBUTES, ids=[f"{n.op_type} {m}" for n, m in ATTRIBUTES])
def test_attributes_that_no_operator_can_have(one, message):
    constants = {**FILTERS, **VECTORS}
    if one.op_type == "ConvTranspose" and "g" in one.input:
        constants["g"] = np.ones((4, 3, 3, 3), np.float32)
    with pytest.raises(UnsupportedOperatorError, match=message):
        load(make([one], IMAGE, [("y", F, None)], constants, 21))


@pytest.mark.parametrize("padding, stride, dilation", [(1, 2, 1), (1, 1, 2), (2, 3, 1)])
def test_output_padding_below_stride_or_dilation(padding, stride, dilation):
    two = {"output_padding": [padding] * 2, "strides": [stride] * 2, "dilations": [dilation] * 2}
    (y,) = run(
        load(make([node("ConvTranspose", "x f", **two)], IMAGE, [("y", F, None)], FILTERS)),
        x=np.ones((1, 4, 8, 8), np.float32),
    )
    assert y.shape[2] == 7 * stride + 2 * dilation + 1 + padding


C_SHAPES = [(), (1,), (3,), (1, 1), (1, 3), (2, 1), (2, 3)]
TOO_LARGE = [(4,), (4, 3), (2, 4), (4, 1), (1, 2, 3), (1, 1, 1)]


@pytest.mark.parametrize("width", [3, 1])
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [*C_SHAPES, *TOO_LARGE])
def test_what_gemm_adds_is_not_larger_than_the_product(shape, constant, width):
    x, w = np.ones((2, 4), np.float32), np.ones((4, width), np.float32)
    c = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    fits = len(shape) <= 2 and all(d in (1, n) for d, n in zip(shape[::-1], (width, 2), strict=False))
    inputs, given = [("x", F, ["n", 4])], {"x": x}
    if not constant:
        inputs.append(("c", F, [None] * len(shape)))
        given["c"] = c
    model = make([node("Gemm", "x w c")], inputs, [("y", F, None)], {"w": w, **({"c": c} if constant else {})})
    if fits:
        np.testing.assert_allclose(run(load(model), **given)[0], np.broadcast_to(x @ w + c, (2, width)))
    else:
        with pytest.raises((UnsupportedOperatorError, ShapeError)):
            run(load(model), **given)


def typed(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def test_what_is_said_of_values_is_compared_with_them():
    nodes = [node("Relu", "x", "a"), node("Shape", "a", "s"), node("Add", "c c", "d"), node("Neg", "a", "y")]
    said = [typed("a", I64, ["n", 4]), typed("s", I64, [2, 1]), typed("d", F, [3]), typed("y", F, ["n", 5])]
    model = make(nodes, [("x", F, ["n", 4])], [("y", F, ["n"]), ("s", F, [2]), ("d", F, [2])],
                 {"c": np.ones(2, np.float32)}, value_info=said)  # fmt: skip
    with pytest.raises(ModelFormatError) as error:
        load(model)
    for part in ("'a' is declared as INT64, and is FLOAT", "'s' is declared as FLOAT, and is INT64"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "kind, shape, error, message",
    [
        (I64, [2], ModelFormatError, "'d' is declared as INT64, and is FLOAT"),
        (F, [3], LiteWarning, r"'d' is declared with the shape \[3\], and has \[2\]"),
        (F, [], LiteWarning, "'d' is declared with 0 dimensions, and has 1"),
        (F, [2, 1], LiteWarning, "'d' is declared with 2 dimensions, and has 1"),
        (F, ["k"], None, ""),
        (F, [-1], None, ""),
        (F, None, None, ""),
        (F, [2], None, ""),
        (0, None, None, ""),
    ],
)
@pytest.mark.parametrize("output", [True, False])
def test_declared_types_and_shapes(kind, shape, error, message, output):
    """Other types are errors; other shapes are what programs often leave behind, and a warning."""
    nodes = [node("Add", "c c", "d"), node("Add", "x d", "y")]
    outputs = [("y", F, None), *([("d", kind, shape)] if output else [])]
    model = make(nodes, [("x", F, [2])], outputs, {"c": np.ones(2, np.float32)},
                 value_info=[] if output else [typed("d", kind, shape)])  # fmt: skip
    if error is ModelFormatError:
        with pytest.raises(error, match=message):
            load(model)
        return
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        network = load(model)
    assert [w.category for w in caught] == ([LiteWarning] if error else [])
    assert all(re.search(message, str(w.message)) for w in caught)
    np.testing.assert_array_equal(run(network, x=np.ones(2, np.float32))[0], [3, 3])


def test_a_type_that_says_nothing_is_no_fault():
    model = make([node("Neg", "x", "a"), node("Abs", "a", "y")], [("x", F, [2])], [("y", F, None)])
    model.graph.value_info.add().name = "a"
    model.graph.value_info[0].type.denotation = "TENSOR"
    np.testing.assert_array_equal(run(load(model), x=np.ones(2, np.float32))[0], [1, 1])


def test_branches_declare_their_values_too():
    def branch(kind):
        return helper.make_graph([node("Neg", "x", "z")], "branch", [], [typed("z", kind, None)])

    for kind in (F, I64):
        one = helper.make_node("If", ["c"], ["y"], then_branch=branch(kind), else_branch=branch(F))
        model = make([one], [("x", F, [2])], [("y", F, None)], {"c": np.array(True)})
        if kind == F:
            load(model)
        else:
            with pytest.raises(LiteError, match="'z' is declared as INT64, and is FLOAT"):
                load(model)


def _four_bits(name):
    return helper.make_tensor(name, TensorProto.FLOAT4E2M1, [2], [1, 2])


def test_all_is_listed_that_cannot_be_run_whatever_the_reason():
    """Types of stored tensors, of attributes and of inputs as well as operators, attributes and dimensions."""
    branch = helper.make_graph(
        [node("DequantizeLinear", "v s", "d", "inside")], "b", [], [helper.make_tensor_value_info("d", F, None)]
    )
    nodes = [
        node("DequantizeLinear", "w s", "a", "first"),
        node("DequantizeLinear", "w s", "b", "second"),
        node("Constant", "", "c", "third", value=_four_bits("t")),
        node("Foo", "x", "d", "fourth", domain="q"),
        node("Neg", "x", "e", "fifth", odd=1),
        node("Reshape", "x many", "f", "sixth"),
        node("Reshape", "f few", "g", "seventh"),
        node("Foo", "a", "h", "eighth", domain="q"),
        node("Cast", "x", "i", "ninth", to=TensorProto.FLOAT8E4M3FN),
        node("If", "yes", "j", "tenth", then_branch=branch, else_branch=branch),
        node("Neg", "unknown", "k", "behind an input"),
    ]
    nodes[2].input[:] = []
    values = {
        "s": np.float32(1),
        "many": np.ones(8, np.int64),
        "few": np.array([1]),
    }
    model = make(
        nodes,
        [("x", F, [1]), ("yes", BOOL, []), ("unused", TensorProto.STRING, [1]), ("unknown", F, None)],
        [(name, F, None) for name in "abcdeghijk"],
        values,
        opsets=[helper.make_opsetid("q", 1)],
    )
    model.graph.initializer.extend([_four_bits("w"), _four_bits("v"), _four_bits("r")])
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT4E2M1, None))
    with pytest.raises(UnsupportedOperatorError, match=": these inputs and nodes cannot be run: ") as raised:
        load(model)
    message = str(raised.value)
    for line in (
        r"input 'unused' \(it has elements of type STRING",
        r"input 'unknown' \(it has no shape",
        r"DequantizeLinear 'first' \(tensor 'w' has elements of type FLOAT4E2M1",
        r"DequantizeLinear 'second' \(tensor 'w'",
        r"Constant 'third' \(tensor 't'",
        r"q.Foo 'fourth' \(there is no such operator",
        r"Neg 'fifth' \(its attribute 'odd'",
        r"Reshape 'sixth' \(its result has 8 dimensions, and tensors have at most 7",
        r"q.Foo 'eighth' \(",
        r"Cast 'ninth' \(.*FLOAT8E4M3FN",
        r"DequantizeLinear 'inside' \(tensor 'v'",
        r"output 'r' \(tensor 'r'",
    ):
        assert re.search(line, message), (line, message)
    assert "seventh" not in message and "behind" not in message and "tenth" not in message


@pytest.mark.parametrize("version", range(OLDEST, defs.onnx_opset_version() + 1))
def test_attributes_that_need_not_be_read_are_those_of_the_standard(version):
    names = "consumed_inputs kernel_shape momentum odd ratio round_mode saturate seed sorted spatial stash_type".split()
    for domain, op in CONVERTERS:
        if domain == "" and defs.has(op, version, ""):
            known = defs.get_schema(op, version, "").attributes
            assert [n for n in names if is_without_meaning(n, op, version) and n not in known] == []


@pytest.mark.parametrize(
    ("version", "op", "attribute", "value"),
    [
        (12, "Dropout", "ratio", 0.5),
        (9, "Cast", "saturate", 1),
        (23, "Cast", "round_mode", "up"),
        (13, "Neg", "momentum", 0.5),
        (13, "Relu", "consumed_inputs", [0]),
        (9, "BatchNormalization", "spatial", 1),
        (17, "Split", "num_outputs", 1),
        (13, "Add", "kernel_shape", [1]),
    ],
)
def test_attributes_of_other_versions_are_not_known(version, op, attribute, value):
    count = {"Add": 2, "BatchNormalization": 5}.get(op, 1)
    one = helper.make_node(op, list("xabcd"[:count]), ["y"], **({"to": F} if op == "Cast" else {}))
    given = dict.fromkeys("abcd"[: count - 1], np.ones(3, np.float32))

    def loaded():
        return load(make([one], [("x", F, [1, 3])], [("y", F, None)], given, opset=version))

    assert loaded() is not None
    one.attribute.append(helper.make_attribute(attribute, value))
    with pytest.raises(UnsupportedOperatorError, match=f"its attribute '{attribute}' is not known here"):
        loaded()


@pytest.mark.parametrize("op", ["RNN", "GRU", "LSTM"])
@pytest.mark.parametrize("size", [2**40, 4, 0, -3])
def test_sizes_of_recurrent_layers_are_those_of_their_weights(op, size):
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op]
    weights = {"w": np.ones((1, 3 * gates, 2), np.float32), "r": np.ones((1, 3 * gates, 3), np.float32)}
    ends = [("x", F, [1, 1, 2])], [("y", F, None)]
    load(make([node(op, "x w r", hidden_size=3)], *ends, weights))
    with pytest.raises(UnsupportedOperatorError, match=f"hidden_size is {size}, and its weights are for 3"):
        load(make([node(op, "x w r", hidden_size=size)], *ends, weights))


def schemas_with_required_attributes():
    """Operators of the standard in each version that changed them, as far as they are read."""
    for schema in defs.get_all_schemas_with_history():
        version = max(schema.since_version, OLDEST)
        is_read = schema.domain == "" and defs.get_schema(schema.name, version).since_version == schema.since_version
        if is_read and any(a.required for a in schema.attributes.values()):
            yield schema, version


@pytest.mark.parametrize(
    ("schema", "version"), [pytest.param(s, v, id=f"{s.name}-{v}") for s, v in schemas_with_required_attributes()]
)
def test_attributes_that_an_operator_must_have(schema, version):
    names = [f"x{k}" for k in range(schema.min_input)]
    node = helper.make_node(schema.name, names, [f"y{k}" for k in range(max(schema.min_output, 1))])
    for kind in F, I64, BOOL:
        model = make([node], [(n, kind, [2, 3, 4, 4]) for n in names], [("y0", kind, None)], opset=version)
        with pytest.raises((ModelFormatError, UnsupportedOperatorError)):
            load(model)


@pytest.mark.parametrize("lengths", [(1, 2, 2, 2), (2, 1, 2, 2), (2, 2, 1, 2), (2, 2, 2, 1), (0, 1, 1, 1)], ids=str)
def test_slices_with_lists_of_different_lengths(lengths):
    """Numbers that are only known when the model runs: here, they are cast from floats."""
    names = ["starts", "ends", "axes", "steps"]
    given = {n: np.arange(count, dtype=np.int64) + (n == "steps") for n, count in zip(names, lengths, strict=True)}
    whole = [helper.make_node("Add", [n, "zero"], [f"{n}_"]) for n in names]
    cut = helper.make_node("Slice", ["x", *(f"{n}_" for n in names)], ["y"])
    zero = helper.make_node("Cast", ["f"], ["zero"], to=I64)
    model = make([zero, *whole, cut], [("x", F, [4, 4]), ("f", F, [1])], [("y", F, None)], given)
    with pytest.raises(LiteError, match="different lengths"):
        run(load(model), x=np.ones((4, 4), np.float32), f=np.zeros(1, np.float32))


@pytest.mark.parametrize("op, gates", [("RNN", 1), ("GRU", 3), ("LSTM", 4)])
@pytest.mark.parametrize(
    "direction, stored", [("forward", 2), ("bidirectional", 1), ("bidirectional", 0), ("reverse", 2)]
)
def test_recurrent_weights_of_other_directions(direction, stored, op, gates):
    weights = {"w": np.ones((stored, 4 * gates, 2), np.float32), "r": np.ones((stored, 4 * gates, 4), np.float32)}
    cell = helper.make_node(op, ["x", "w", "r"], ["y"], direction=direction, hidden_size=4)
    with pytest.raises(LiteError) as error:
        run(load(make([cell], [("x", F, [3, 1, 2])], [("y", F, None)], weights)), x=np.ones((3, 1, 2), np.float32))
    assert "fault of megengine_lite" not in str(error.value)
