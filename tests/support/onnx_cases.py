"""The cases of the package onnx for each operator, and the list of those that are out of scope."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import numpy as np

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.dtype import FLOAT16, UINT16, DType, DTypeCode
from megengine_lite._core.ir.params import ElemwiseMode, OptionalAxisV1
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.runtime.session import Session
from support.graphs import session_of
from support.places import TESTS

LIST = TESTS / "formats" / "onnx_cases_out_of_scope.txt"
# Results in these types are rounded after each operator there, at the end here.
_STEPS = {"float16": 2e-3, "bfloat16": 2e-2}


@cache
def cases() -> dict[str, object]:
    """All cases by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {case.name: case for case in load_model_tests(kind="node")}


@cache
def whole_models() -> dict[str, tuple[bytes, list[tuple[list[np.ndarray], list[np.ndarray]]], float, float]]:
    """Models that the package has with values: name -> bytes, inputs and outputs, tolerances."""
    from onnx import TensorProto, numpy_helper
    from onnx.backend.test.loader import load_model_tests

    def stored(folder: Path, what: str) -> list[np.ndarray]:
        count = len(list(folder.glob(f"{what}_*.pb")))
        files = (folder / f"{what}_{k}.pb" for k in range(count))
        return [numpy_helper.to_array(TensorProto.FromString(f.read_bytes())) for f in files]

    found = {}
    for kind in ("simple", "pytorch-converted", "pytorch-operator"):
        for case in load_model_tests(kind=kind):
            if case.model_dir is None:
                content, values = case.model.SerializeToString(), case.data_sets
            else:
                folder = Path(case.model_dir)
                content = (folder / "model.onnx").read_bytes()
                values = [(stored(d, "input"), stored(d, "output")) for d in sorted(folder.glob("test_data_set_*"))]
            found[case.name] = content, values, case.rtol, case.atol
    return found


def light_models() -> dict[str, Path]:
    """Files of the networks that the package has without weights, which constants stand for, by name."""
    import onnx

    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return {path.stem: path for path in sorted(folder.glob("*.onnx"))}


def values_of_a_light_model(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The input that the package takes for such a network, and the output that it has for it."""
    import onnx

    graph = onnx.load(path).graph
    stored = {tensor.name for tensor in graph.initializer}
    (given,) = (value for value in graph.input if value.name not in stored)
    shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
    size = int(np.prod(shape))
    output = onnx.TensorProto.FromString(path.with_name(f"{path.stem}_output_0.pb").read_bytes())
    return (np.arange(size, dtype=np.float32) / size).reshape(shape), onnx.numpy_helper.to_array(output)


def out_of_scope() -> dict[str, str]:
    """Name of a case -> what the error says of it."""
    found, reason = {}, ""
    for line in LIST.read_text().splitlines():
        if line.startswith("# "):
            reason = line[2:]
        elif line:
            found[line] = reason
    return found


RANDOM = "random numbers, of which only the shape and the range are compared"
LEFT_OUT = "an optional tensor that is not given"
SEQUENCES = "is no tensor; make an input of each tensor, and join them by SequenceConstruct"


def what_the_original_lacks(graph) -> list[str]:
    """Nodes of a file's graph that compute in types in which the original only converts, or moves elements; those that
    combine a row with parts of a tensor, which it reads as if they had no gaps (what is computed may be a row); those
    that it drops while it loads them, and then misses; those that give data the size of one axis as their shape, which
    it takes for the size of the first one; softmax, which is NaN there for small numbers; and layer norms, which take
    the square of the mean from the mean square there."""
    bfloat16, found = DType(DTypeCode.BFLOAT16), []
    with_gaps = set()
    known = set()  # whose shape the original knows when it loads the file, whatever the inputs are
    measured = {}  # of which variable there is the shape, or the size of an axis
    for node in graph.nodes:
        if node.op == "GetVarShape":
            (measured[node.outputs[0]],) = node.inputs
            if node.inputs[0] in known and node.inputs[0].spec.shape == (1,):
                found.append(f"the shape of a number in {node.name}")
        if node.op in ("Reshape", "Broadcast") and node.inputs[1] in measured:
            shape = measured[node.inputs[1]].spec.shape
            if len(shape) > 1:
                found.append(f"a size as a shape in {node.name}")
            elif shape == node.inputs[0].spec.shape:  # equal nodes are one node there
                found.append(f"perhaps its own shape in {node.name}")
        if node.op == "Concat" and len(node.inputs) == 1:
            found.append(f"one part in {node.name}")
        if node.op == "TypeCvt" and node.inputs[0].spec.dtype == node.outputs[0].spec.dtype:
            found.append(f"a type that stays in {node.name}")
        if node.op == "PowC" and node.params.exp in (0, 1):
            found.append(f"a power of {node.params.exp} in {node.name}")
        if node.op == "Reshape" and node.inputs[0] in known and node.inputs[0].spec.shape == node.outputs[0].spec.shape:
            found.append(f"a shape that stays in {node.name}")
        is_free = node.op == "Reshape" and node.params != OptionalAxisV1()
        numbers = node.inputs[1:] if node.op in ("Reshape", "Broadcast") and not is_free else node.inputs
        if node.inputs and all(v.const is not None or v in known for v in numbers):
            known.update(node.outputs)
        if node.op == "Softmax":
            found.append(f"a row of small numbers in {node.name}")
        if node.op in ("GeneralNorm", "LayerNorm"):
            found.append(f"a small variance in {node.name}")
        facts = operator_of(node.op).in_original
        keeps_gaps = facts.keeps_gaps or (node.op == "Elemwise" and node.params.mode == ElemwiseMode.NEGATE)
        if facts.leaves_gaps or (keeps_gaps and node.inputs[0] in with_gaps):
            with_gaps.update(node.outputs)
        if node.op == "Elemwise" and len(node.inputs) == 2:
            for x, row in (node.inputs, node.inputs[::-1]):
                shape = (*[1] * (len(x.spec.shape) - len(row.spec.shape)), *row.spec.shape)
                is_row = row.const is None or (shape[0] == 1 and shape[-1] > 1)
                if x in with_gaps and len(shape) > 1 and is_row:
                    found.append(f"a row for a part with gaps in {node.name}")
        if node.op in ("BatchedMatrixMul", "MatrixMul") and with_gaps.intersection(node.inputs):
            found.append(f"a part with gaps in {node.name}")
        types = {v.spec.dtype for v in (*node.inputs, *node.outputs)}
        moves = operator_of(node.op).moves_elements or node.op in ("TypeCvt", "VirtualDep", "GetVarShape")
        if (UINT16 in types and node.op not in ("TypeCvt", "VirtualDep", "GetVarShape")) or (
            bfloat16 in types and not moves
        ):
            found.append(f"{node.op} of {types}")
        if node.op == "LRN" and FLOAT16 in types:
            found.append("LRN of float16")
    return found


def load(case, **options):
    return load_model(case.model.SerializeToString(), **options)


def check(case) -> None:
    """Runs a case; raises if a result is not the expected one."""
    compare(load(case), case.data_sets, case.rtol, case.atol)


def check_of_tensors(case) -> None:
    """Runs a case with an input for each tensor of a sequence; raises if a result is not the expected one."""
    model, data_sets = _of_tensors(case)
    compare(load_model(model.SerializeToString()), data_sets, case.rtol, case.atol)


def _of_tensors(case):
    """The model and values of a case. Inputs that are sequences or optional are made of inputs that are tensors."""
    from onnx import ModelProto, TypeProto, helper

    graph = case.model.graph
    model = ModelProto.FromString(case.model.SerializeToString())
    del model.graph.input[:]
    nodes, data_sets = [], [([], outputs) for _, outputs in case.data_sets]
    for info, *values in zip(graph.input, *(inputs for inputs, _ in case.data_sets), strict=True):
        kind, value = info.type, values[0]
        if kind.HasField("optional_type"):
            kind = kind.optional_type.elem_type
            if value is None:
                nodes.append(helper.make_node("Optional", [], [info.name], type=kind))
                continue
        if kind.HasField("sequence_type"):
            element = kind.sequence_type.elem_type
            names = [f"{info.name}.{k}" for k in range(len(value))]
            one = helper.make_node("SequenceConstruct", names, [info.name])
            none = helper.make_node("SequenceEmpty", [], [info.name], dtype=element.tensor_type.elem_type)
            nodes.append(one if names else none)
        else:
            element, names, values = kind, [info.name], [[v] for v in values]
        for k, name in enumerate(names):
            typed = TypeProto.FromString(element.SerializeToString())
            for dim in typed.tensor_type.shape.dim:
                dim.ClearField("dim_param")  # each tensor of a sequence has sizes of its own
            if not typed.tensor_type.HasField("shape"):
                typed = helper.make_tensor_type_proto(element.tensor_type.elem_type, np.shape(value[k]))
            model.graph.input.append(helper.make_value_info(name, typed))
        for (inputs, _), parts in zip(data_sets, values, strict=True):
            inputs += parts
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model, data_sets


def compare(model, data_sets, rtol: float, atol: float, is_random: bool = False) -> list[Session]:
    """Runs a model on all inputs; raises if a result is not the expected one, or has not its shape and range.

    Gives the sessions.
    """
    sessions = []
    for inputs, outputs in data_sets:
        session = session_of(model.graph)
        sessions.append(session)
        for var, given in zip(model.graph.inputs, map(_array, inputs), strict=True):
            session.set_array(
                var.name, np.ascontiguousarray(given.reshape(given.shape or (1,)).astype(var.dtype.storage))
            )
        session.run()
        for name, wanted in zip(model.output_names, _tensors(outputs), strict=True):
            result = session.output(name).array()
            result = result.reshape(()) if name in model.scalars else result
            assert result.shape == wanted.shape, name
            if is_random:
                assert wanted.min() <= result.min() and result.max() <= wanted.max(), name
                continue
            tolerance = max(rtol, _STEPS.get(wanted.dtype.name, 0))
            ours, theirs = result.astype(np.float64), wanted.astype(np.float64)
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=max(atol, tolerance / 100), err_msg=name)
    return sessions


def _array(value) -> np.ndarray:
    from onnx import TensorProto, numpy_helper

    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else np.asarray(value)


def _tensors(values) -> list[np.ndarray]:
    """Arrays of all values; the tensors of sequences are outputs of their own here."""
    return [_array(v) for value in values for v in (value if isinstance(value, list) else [value])]
