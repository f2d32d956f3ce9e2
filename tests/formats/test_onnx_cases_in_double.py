"""Cases of the package onnx in float32 give the same numbers when their models are in double."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, numpy_helper
from support.onnx_cases import cases, compare, out_of_scope

from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = 4
FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE
# They are computed in float32, half precision and, when asked, in place of double.
ONLY_NARROW = ("DeformConv", "LRN")


def in_double(model: ModelProto) -> ModelProto:
    """A copy of a model with double in the place of float32."""
    model = ModelProto.FromString(model.SerializeToString())
    _graph(model.graph)
    for function in model.functions:
        _nodes(function.node)
    return model


def _graph(graph) -> None:
    for info in (*graph.input, *graph.output, *graph.value_info):
        _type(info.type)
    for tensor in graph.initializer:
        _tensor(tensor)
    _nodes(graph.node)


def _type(kind) -> None:
    if kind.tensor_type.elem_type == FLOAT:
        kind.tensor_type.elem_type = DOUBLE
    for field in ("sequence_type", "optional_type"):
        if kind.HasField(field):
            _type(getattr(kind, field).elem_type)


def _tensor(tensor) -> None:
    if tensor.data_type == FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))


def _nodes(nodes) -> None:
    for attribute in (a for node in nodes for a in node.attribute):
        if attribute.name in ("to", "dtype", "output_dtype", "output_datatype") and attribute.i == FLOAT:
            attribute.i = DOUBLE
        if attribute.name in ("value_float", "value_floats"):
            numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
            stored = numpy_helper.from_array(np.array(numbers, np.float64))
            attribute.CopyFrom(AttributeProto(name="value", type=AttributeProto.TENSOR, t=stored))
        if attribute.HasField("t"):
            _tensor(attribute.t)
        if attribute.HasField("g"):
            _graph(attribute.g)


def chosen():
    """Names of the cases whose data are float32, and their models in double, as far as these are valid."""
    listed = out_of_scope()
    for name, case in cases().items():
        if name in listed or "cast" in name:
            continue
        if FLOAT in {info.type.tensor_type.elem_type for info in case.model.graph.input}:
            model = in_double(case.model)
            try:
                onnx.checker.check_model(model, full_check=True)
            except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
                continue  # an operator that is not defined in double
            yield name, model


@pytest.mark.parametrize("part", range(PARTS))
def test_results_are_those_in_float32(part):
    faults, ran = {}, 0
    for name, model in list(chosen())[part::PARTS]:
        case = cases()[name]
        try:
            if {node.op_type for node in model.graph.node} & {*ONLY_NARROW}:
                with pytest.raises(UnsupportedOperatorError, match="narrow_double computes"):
                    load_model(model.SerializeToString())
            else:
                loaded = load_model(model.SerializeToString())
                compare(loaded, case.data_sets, max(case.rtol, 1e-5), max(case.atol, 1e-6))
            ran += 1
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert ran > 200
