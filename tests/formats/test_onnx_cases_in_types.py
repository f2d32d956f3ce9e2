"""Cases of the package onnx in float32 give the same numbers when their models are in double or half precision."""

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, ModelProto, TensorProto, helper, numpy_helper
from support.graphs import session_of
from support.onnx_cases import _array, cases, compare, out_of_scope, what_the_original_lacks

from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = 4
FLOAT = TensorProto.FLOAT
KINDS = {
    kind: (number, helper.tensor_dtype_to_np_dtype(number))
    for kind, number in (
        ("double", TensorProto.DOUBLE),
        ("half", TensorProto.FLOAT16),
        ("bfloat16", TensorProto.BFLOAT16),
    )
}
# They are computed in float32, half precision and, when asked, in place of double.
ONLY_NARROW = ("DeformConv", "LRN")
# Cases whose numbers half precision does not hold, or not well enough.
TOO_LARGE = ("large_number", "test_reduce_prod_default_axes_keepdims_example")


class Retyped:
    """A copy of a model with another type in the place of float32."""

    def __init__(self, model: ModelProto, kind: str):
        self.kind, self.dtype = KINDS[kind]
        self.model = ModelProto.FromString(model.SerializeToString())
        self._graph(self.model.graph)
        for function in self.model.functions:
            self._nodes(function.node)
        self._infer_outputs()

    def _infer_outputs(self) -> None:
        """Gives outputs that stay float32, as statistics do, their type back."""
        bare = ModelProto.FromString(self.model.SerializeToString())
        del bare.graph.value_info[:]
        for info in bare.graph.output:
            info.ClearField("type")
        try:
            inferred = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph.output
        except onnx.shape_inference.InferenceError:
            return  # an operator that is not defined in this type
        for info, known in zip(self.model.graph.output, inferred, strict=True):
            if known.type.tensor_type.elem_type == FLOAT:
                info.type.tensor_type.elem_type = FLOAT

    def _graph(self, graph) -> None:
        for info in (*graph.input, *graph.output, *graph.value_info):
            self._type(info.type)
        for tensor in graph.initializer:
            self._tensor(tensor)
        self._nodes(graph.node)

    def _type(self, kind) -> None:
        if kind.tensor_type.elem_type == FLOAT:
            kind.tensor_type.elem_type = self.kind
        for field in ("sequence_type", "optional_type"):
            if kind.HasField(field):
                self._type(getattr(kind, field).elem_type)

    def _tensor(self, tensor) -> None:
        if tensor.data_type == FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(self.dtype), tensor.name))

    def _nodes(self, nodes) -> None:
        for attribute in (a for node in nodes for a in node.attribute):
            if attribute.name in ("to", "dtype", "output_dtype", "output_datatype") and attribute.i == FLOAT:
                attribute.i = self.kind
            if attribute.name in ("value_float", "value_floats"):
                numbers = attribute.f if attribute.name == "value_float" else list(attribute.floats)
                stored = numpy_helper.from_array(np.array(numbers, self.dtype))
                attribute.CopyFrom(AttributeProto(name="value", type=AttributeProto.TENSOR, t=stored))
            if attribute.HasField("t"):
                self._tensor(attribute.t)
            if attribute.HasField("g"):
                self._graph(attribute.g)


def chosen(kind: str):
    """Names of the cases whose data are float32, and their models in another type, as far as these are valid."""
    listed = out_of_scope()
    for name, case in cases().items():
        if name in listed or "cast" in name or (kind == "half" and any(part in name for part in TOO_LARGE)):
            continue
        if FLOAT in {info.type.tensor_type.elem_type for info in case.model.graph.input}:
            model = Retyped(case.model, kind).model
            try:
                onnx.checker.check_model(model, full_check=True)
            except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
                continue  # an operator that is not defined in this type
            yield name, model


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["double", "half"])
def test_results_are_those_in_float32(kind, part):
    faults, ran = {}, 0
    for name, model in list(chosen(kind))[part::PARTS]:
        case = cases()[name]
        try:
            if kind == "double" and {node.op_type for node in model.graph.node} & {*ONLY_NARROW}:
                with pytest.raises(UnsupportedOperatorError, match="narrow_double computes"):
                    load_model(model.SerializeToString())
            else:
                rtol, atol = (1e-5, 1e-6) if kind == "double" else (3e-2, 3e-2)
                loaded = load_model(model.SerializeToString())
                compare(loaded, case.data_sets, max(case.rtol, rtol), max(case.atol, atol))
            ran += 1
        except Exception as error:
            faults[name] = f"{type(error).__name__}: {str(error)[:300]}"
    assert not faults
    assert ran > 200


@pytest.mark.parametrize("part", range(PARTS))
def test_constants_of_bfloat16_are_read_as_the_numbers_that_they_are(part):
    """Numpy has no such elements, so that arrays hold their bits: with constants a model gives what it does without."""
    faults, ran = {}, 0
    for name, model in list(chosen("bfloat16"))[part::PARTS]:
        given, _ = cases()[name].data_sets[0]
        values = [_array(v) for v in given]
        stored = ModelProto.FromString(model.SerializeToString())
        for info, value in list(zip(model.graph.input, values, strict=True))[1:]:
            of_type = value.astype(helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type))
            stored.graph.initializer.append(numpy_helper.from_array(of_type, info.name))
        try:
            sessions = [session_of(load_model(m.SerializeToString()).graph) for m in (model, stored)]
            for session in sessions:
                for var, value in zip(session.model.graph.inputs, values, strict=False):
                    session.set_array(var.name, value.reshape(value.shape or (1,)).astype(var.dtype.storage))
                session.run()
        except UnsupportedOperatorError:
            continue
        for output in sessions[0].output_names:
            found, wanted = (s.output(output).array().astype(np.float64) for s in reversed(sessions))
            if found.shape != wanted.shape or not np.allclose(found, wanted, 2e-2, 1e-2, equal_nan=True):
                faults[name] = found.reshape(-1)[:3], wanted.reshape(-1)[:3]
        ran += 1
    assert not faults
    assert ran > 100


@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("kind", ["half", "bfloat16"])
def test_files_compute_in_types_that_the_original_computes_in(kind, part):
    """It converts to bfloat16 and from it, moves its elements, and has no other operators for it."""
    faults, written = {}, 0
    for name, model in list(chosen(kind))[part::PARTS]:
        values = [_array(v) for v in cases()[name].data_sets[0][0]]
        try:
            source = load_model(model.SerializeToString()).graph
            shapes = {v.name: x.shape or (1,) for v, x in zip(source.inputs, values, strict=True)}
            graph = for_original(source, "model", shapes)
        except UnsupportedOperatorError:
            continue
        if lacking := what_the_original_lacks(graph):
            faults[name] = lacking
        written += 1
    assert not faults
    assert written > 100
