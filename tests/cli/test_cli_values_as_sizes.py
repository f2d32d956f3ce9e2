"""``convert`` of ONNX models in which values of inputs decide sizes: the error names the node and these inputs."""

import re

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.converted_files import node, written
from support.onnx_models import load, make, run

F, I64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
X, WEIGHTS = ("x", F, ["n", 3]), {"zero": np.int64(0), "one": np.int64(1), "zeros": np.zeros(3, np.int64)}
IMAGE = ("x", F, [1, 1, 8, 8])


def graph(op, inputs, more=(), outputs=()):
    """A graph in a node, whose result is ``z``."""
    infos = [helper.make_tensor_value_info(*info) for info in more]
    results = [helper.make_tensor_value_info(*info) for info in (*outputs, ("z", F, ["m", 3]))]
    return helper.make_graph([node(op, inputs, "z")], "g", infos, results)


BODY = graph("Neg", "state", [("i", I64, []), ("go", BOOL, []), ("state", F, ["m", 3])], [("go", BOOL, [])])
# The nodes, of which the last one is at fault; the inputs but for those that decide; those that do, with values.
CASES = {
    "Reshape": ([node("Reshape", "x s", "y")], [X], {"s": [3, -1]}),
    "Reshape by a vector of any length": ([node("Reshape", "x s", "y")], [X], {"s": [3, 1, -1]}),
    "Expand": ([node("Expand", "x s", "y")], [X], {"s": [2, 1, 3]}),
    "ConstantOfShape": ([node("ConstantOfShape", "s", "c"), node("Size", "c", "y")], [X], {"s": [2, 3]}),
    "Tile": ([node("Tile", "x s", "y")], [X], {"s": [2, 2]}),
    "Pad": ([node("Concat", "zeros s", "pads", axis=0), node("Pad", "x pads", "y")], [X], {"s": [1]}),
    "Slice": ([node("Slice", "x a b", "y")], [X], {"a": [0, 1], "b": [1, 3]}),
    "TopK": ([node("TopK", "x k", "y places")], [X], {"k": [2]}),
    "Split": ([node("Split", "x s", "y z", axis=1)], [X], {"s": [1, 2]}),
    "Squeeze": ([node("Unsqueeze", "x ax", "u"), node("Squeeze", "u ax", "y")], [X], {"ax": [1]}),
    "Resize by sizes": ([helper.make_node("Resize", ["x", "", "", "s"], ["y"])], [IMAGE], {"s": [1, 1, 5, 9]}),
    "Resize by scales": ([helper.make_node("Resize", ["x", "", "s"], ["y"])], [IMAGE], {"s": np.float32([1, 1, 2, 3])}),
    "Range": ([node("Range", "zero k one", "y")], [X], {"k": 4}),
    "Loop": ([helper.make_node("Loop", ["k", "", "x"], ["y"], body=BODY)], [X], {"k": 3}),
    "If": (
        [node("If", "c", "y", then_branch=graph("Neg", "x"), else_branch=graph("Abs", "x"))],
        [X],
        {"c": np.array(True)},
    ),
    "behind filters of any size": (
        [node("Conv", "x w", "a"), node("Reshape", "a s", "y")],
        [IMAGE, ("w", F, [2, 1, "k", "k"])],
        {"s": [-1, 2]},
    ),
    "behind a shape": (
        [node("Reshape", "x s", "a"), node("Shape", "a", "b"), node("Expand", "zero b", "y")],
        [X],
        {"s": [3, -1]},
    ),
}


def kind_of(value):
    return {"f": F, "b": BOOL}.get(np.asarray(value).dtype.kind, I64)


@pytest.mark.parametrize("open_sizes", [True, False])
@pytest.mark.parametrize("name", sorted(CASES))
def test_the_node_and_the_inputs_are_named_and_constants_help(name, open_sizes, tmp_path, error_of):
    nodes, inputs, values = CASES[name]
    arrays = {k: np.asarray(v) for k, v in values.items()}
    shapes = {k: [f"length_{k}"] * v.ndim if open_sizes else v.shape for k, v in arrays.items()}
    deciding = [(k, kind_of(v), shapes[k]) for k, v in arrays.items()]
    outputs = [("y", F, None)]
    model = make(nodes, [*inputs, *deciding], outputs, WEIGHTS, 18)
    fixed = make(nodes, inputs, outputs, {**WEIGHTS, **arrays}, 18)
    for made in (model, fixed):
        made.graph.output[0].ClearField("type")
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    error = error_of("convert", tmp_path / "model.onnx", tmp_path / "out.mge")
    (line,) = re.findall(r"nodes: (\w+) '\w+' \((.*)\)", error)
    at_fault = nodes[0] if name in ("Squeeze", "ConstantOfShape", "behind a shape") else nodes[-1]
    assert line[0] == at_fault.op_type
    found = re.fullmatch(r".* depends on the values of (.*); give the model constants in their place", line[1])
    assert found is not None, line
    assert found[1] == ", ".join(map(repr, values))
    shapes = [f"--shape={n}={'x'.join('2' if isinstance(d, str) else str(d) for d in s)}" for n, _, s in inputs]
    data = {n: np.ones([2 if isinstance(d, str) else d for d in s], np.float32) for n, _, s in inputs}
    file = load(str(written(tmp_path, fixed, *shapes)))
    wanted = run(load(fixed), **data)
    data = {n: v for n, v in data.items() if n in file.get_all_input_name()}
    for ours, expected in zip(run(file, **data), wanted, strict=True):
        np.testing.assert_array_equal(ours, expected)
