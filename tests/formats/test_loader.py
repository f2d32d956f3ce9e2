"""Loading whole files: what comes out, and what is refused."""

import io
import json

import numpy as np
import pytest
from support.loader_samples import (
    MODELS,
    PAIRS,
    SHARED,
    SMALL,
    add_record,
    constant_operator,
    input_operator,
    operator,
    read_record,
    to_bytes,
)

from megengine_lite._core.formats.load import load_model, load_test_cases
from megengine_lite._core.formats.loaded_model import Metadata
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.params import Axis, Elemwise, ElemwiseMode
from megengine_lite._core.operators import REGISTRY, Operator
from megengine_lite.errors import LiteTypeError, ModelFormatError, UnsupportedOperatorError


@pytest.mark.parametrize("name", PAIRS)
def test_both_generations_give_the_same_graph(name):
    second = load_model(MODELS / name, check=False)
    first = load_model(MODELS / name.replace(".mge", ".v1.mge"), check=False)
    assert (first.container, second.container) == ("v1", "v2")
    assert first.input_names == second.input_names
    assert first.output_names == second.output_names
    assert [v.spec for v in first.graph.inputs] == [v.spec for v in second.graph.inputs]
    if name == "multi_io.mge":  # here the newer format expresses an elementwise mode by older ones
        return
    assert [n.op for n in first.graph.nodes] == [n.op for n in second.graph.nodes]
    for a, b in zip(first.graph.nodes, second.graph.nodes, strict=True):
        assert a.params == b.params
        assert [v.id for v in a.outputs] == [v.id for v in b.outputs]
        for x, y in zip(a.inputs, b.inputs, strict=True):
            assert x.id == y.id
            if x.const is not None:
                np.testing.assert_array_equal(x.const.array, y.const.array)


def test_graph_has_nodes_in_file_order_with_names_and_specs():
    model = load_model(MODELS / "conv_bn_relu_raw.mge", check=False)
    graph = model.graph
    assert [n.op for n in graph.nodes] == ["Convolution", "BatchNorm", "Elemwise"]
    conv, norm, relu = graph.nodes
    assert conv.inputs[0] is graph.inputs[0]
    assert conv.inputs[0].spec.dtype == FLOAT32
    assert norm.inputs[0] is conv.outputs[0]
    assert len(norm.outputs) == 4
    assert relu.inputs == [norm.outputs[-1]]
    assert graph.outputs == relu.outputs
    assert conv.inputs[1].const.array.shape == (conv.inputs[1].spec.shape)
    assert graph.producers()[conv.outputs[0]] is conv


@pytest.mark.parametrize("name", SMALL)
def test_every_way_to_give_a_source_loads_the_same(name):
    path = MODELS / name
    content = path.read_bytes()
    expected = [(n.op, n.params) for n in load_model(path, check=False).graph.nodes]
    sources = [
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        io.BytesIO(content),
        np.frombuffer(content, "u1"),
    ]
    for source in sources:
        assert [(n.op, n.params) for n in load_model(source, check=False).graph.nodes] == expected
    assert [(n.op, n.params) for n in load_model(path, copy=True, check=False).graph.nodes] == expected


def test_binary_file_is_read_from_its_position(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"12345" + to_bytes(add_record()))
    with path.open("rb") as file:
        file.seek(5)
        assert load_model(file, check=False).output_names == ["sum"]


@pytest.mark.parametrize("source", [io.StringIO("text"), None, 3, ["model.mge"]])
def test_source_of_another_kind_is_a_type_error(source):
    with pytest.raises(LiteTypeError):
        load_model(source)


def test_missing_file_and_directory_are_the_errors_of_python(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_model(tmp_path / "none.mge")
    with pytest.raises(IsADirectoryError):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"mge", b"\0" * 64, b"# not a model, but long enough to be one\n"])
def test_what_is_no_model_is_refused(content, tmp_path):
    path = tmp_path / "model.mge"
    path.write_bytes(content)
    for source in (content, path):
        with pytest.raises(ModelFormatError, match="not a MegEngine model"):
            load_model(source)


def test_constants_are_views_on_the_mapped_file_and_outlive_the_model():
    constants = [
        v.const
        for n in load_model(MODELS / "conv_bn_relu_raw.mge", check=False).graph.nodes
        for v in n.inputs
        if v.const
    ]
    filters = constants[0].array
    assert not filters.flags.owndata
    assert not filters.flags.writeable
    assert filters.flags.aligned
    assert constants[0].array is filters
    assert np.isfinite(filters).all()


def test_keys_of_constants_are_unique_within_and_between_loads():
    keys = [
        v.const.key
        for _ in range(2)
        for v in {v for n in load_model(MODELS / "conv_bn_relu_raw.mge", check=False).graph.nodes for v in n.inputs}
        if v.const is not None
    ]
    assert len(keys) == len(set(keys)) == 10


def test_metadata_is_handed_out_as_bytes():
    record = add_record()
    record.metadata = Metadata(True, False, b"\x80\x04\0 pickle?", 64)
    model = load_model(to_bytes(record), check=False)
    assert model.metadata == Metadata(True, False, b"\x80\x04\0 pickle?", 64)
    assert model.version == 101300


def test_unknown_operators_are_listed_all_at_once(monkeypatch):
    monkeypatch.setattr("megengine_lite._core.operators.REGISTRY", {})
    record = add_record()
    record.operators.append(operator("TopK", (2,), (3, 4), name="best"))
    with pytest.raises(UnsupportedOperatorError, match=r"Elemwise 'sum', TopK 'best'"):
        load_model(to_bytes(record))
    assert len(load_model(to_bytes(record), check=False).graph.nodes) == 2


def test_operator_of_the_user_is_found_at_the_time_of_loading(monkeypatch):
    class Twice(Operator):
        name = "Twice"
        types = ("TwiceV3",)

        def count_outputs(self, params, n_inputs, payload=()):
            return 2

    record = add_record()
    record.operators[-1] = operator("TwiceV3", (0, 1), (2, 3))
    content = to_bytes(record)
    with pytest.raises(UnsupportedOperatorError, match="TwiceV3"):
        load_model(content)
    monkeypatch.setitem(REGISTRY, "Twice", Twice())
    node = load_model(content).graph.nodes[0]
    assert (node.op, len(node.outputs)) == ("Twice", 2)


def test_parameters_of_another_operator_are_refused():
    record = add_record()
    record.operators[-1].params = Axis(axis=1)
    with pytest.raises(ModelFormatError, match=r"Elemwise 'sum' has parameters of kind 2, Elemwise \(17\) is expected"):
        load_model(to_bytes(record))


def test_enum_number_without_a_name_is_kept():
    record = add_record()
    record.operators[-1].params = Elemwise(mode=999)
    mode = load_model(to_bytes(record), check=False).graph.nodes[0].params.mode
    assert mode == 999
    assert not isinstance(mode, ElemwiseMode)


def test_modes_of_other_formats_are_refused():
    for mode in (ElemwiseMode.NAN_RELU, ElemwiseMode.NAN_SIGN, ElemwiseMode.GELU_TANH):
        record = add_record()
        record.operators[-1].params = Elemwise(mode=mode)
        with pytest.raises(ModelFormatError, match=f"has the mode {int(mode)}, which no file has"):
            load_model(to_bytes(record))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.operators.pop(0), "reads variable 0, which no operator before it defines"),
        (lambda r: r.operators.insert(0, r.operators.pop()), "reads variable 0, which no operator before it defines"),
        (lambda r: r.operators.append(r.operators[0]), "two inputs have the name 'a'"),
        (lambda r: r.operators.append(r.operators[-1]), "defines variable 2 a second time"),
        (lambda r: r.outputs.append((9, "")), "variable 9 is an output and not defined"),
        (lambda r: r.outputs.clear(), "the model has no outputs"),
        (lambda r: setattr(r.operators[0].tensors[0], "shape", ()), "input 'a' has no shape"),
        (lambda r: setattr(r.operators[0].tensors[0], "shape", (1,) * 8), "has 8 dimensions"),
        (lambda r: r.operators[0].tensors.clear(), "has 0 tensors and 1 outputs"),
        (lambda r: setattr(r.operators[-1], "inputs", (0, 2)), "reads variable 2"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    record = add_record()
    change(record)
    with pytest.raises(ModelFormatError, match=message):
        load_model(to_bytes(record), check=False)


def test_outputs_may_be_inputs_and_constants_and_count_once():
    record = add_record()
    record.operators.insert(0, constant_operator(7, (1,), data=np.float32([5])))
    record.outputs = [(2, ""), (0, ""), (7, ""), (2, "")]
    model = load_model(to_bytes(record), check=False)
    assert model.output_names == ["sum", "a", "CONSTANT[7]"]
    assert [v.id for v in model.graph.outputs] == [2, 0, 7]


def test_aliases_replace_the_list_of_outputs():
    record = add_record()
    record.outputs = [(2, "total"), (0, "first")]
    assert load_model(to_bytes(record), check=False).output_names == ["total", "first"]


def test_outputs_with_equal_names_are_told_apart():
    record = add_record()
    record.operators.append(operator("Elemwise", (0,), (3,), Elemwise(mode=ElemwiseMode.RELU)))
    record.variable_names[3] = "sum"
    record.outputs = [(2, ""), (3, "")]
    assert load_model(to_bytes(record), check=False).output_names == ["sum", "sum[3]"]


def wrapped(model: bytes, cases: list[bytes]) -> bytes:
    return b"mgbtest0" + len(cases).to_bytes(4, "little") + model + b"".join(cases)


def test_test_cases_behind_a_model_are_read_by_name():
    cases = []
    for k in range(2):
        values = [np.full((2, 3), 10 * k + i, np.float32) for i in range(2)]
        operators = [constant_operator(i, (2, 3), data=v) for i, v in enumerate(values)]
        cases.append(to_bytes(ModelRecord("v2", 101300, operators, [(0, ""), (1, "")])))
    content = wrapped(to_bytes(add_record(("b", "a"))), cases)
    assert load_model(content, check=False).output_names == ["sum"]
    found = load_test_cases(content)
    assert [sorted(case) for case in found] == [["a", "b"], ["a", "b"]]
    assert found[1]["a"][0, 0] == 10
    assert found[1]["b"][1, 2] == 11
    assert load_test_cases(to_bytes(add_record())) == []


def test_test_cases_that_are_cut_off_are_refused():
    content = wrapped(to_bytes(add_record()), [])
    content = content[:8] + (3).to_bytes(4, "little") + content[12:]
    with pytest.raises(ModelFormatError):
        load_test_cases(content)


def test_input_may_have_a_default_value():
    source = input_operator(0, "a", (2,))
    source.params = type(source.params)(dump_default_value=True)
    source.tensors[0].data = memoryview(np.float32([1.5, 2.5]).tobytes())
    record = ModelRecord("v2", 101300, [source], [(0, "")])
    model = load_model(to_bytes(record))
    np.testing.assert_array_equal(model.default_inputs["a"].array, np.float32([1.5, 2.5]))
    assert model.graph.inputs[0].const is None


@pytest.mark.parametrize("name", SMALL)
def test_written_record_is_read_back(name):
    record = read_record(MODELS / name)
    content = to_bytes(record)
    again = read_record(content)
    assert again.end == len(content)
    assert again.outputs == record.outputs
    assert {k: v for k, v in again.variable_names.items() if v} == {k: v for k, v in record.variable_names.items() if v}
    for a, b in zip(record.operators, again.operators, strict=True):
        assert (a.type, a.name, a.params, a.inputs, a.outputs, a.output_dtype, a.payload) == (
            (b.type, b.name, b.params, b.inputs, b.outputs, b.output_dtype, b.payload)
        )
        assert [(t.name, t.shape, t.dtype, t.data) for t in a.tensors] == [
            (t.name, t.shape, t.dtype, t.data) for t in b.tensors
        ]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared model collection is not there")
@pytest.mark.parametrize("folder", ["nets", "ops", "digits"])
def test_all_shared_models_load(folder):
    report_file = SHARED / folder / "REPORT.json"
    report = json.loads(report_file.read_text()) if report_file.exists() else {}
    loaded = 0
    for path in sorted((SHARED / folder).glob("*.mge")):
        model = load_model(path, check=False)
        for node in model.graph.nodes:
            for var in node.inputs:
                if var.const is not None:
                    assert var.const.array.shape == var.spec.shape
        stored = (
            np.load(path.with_suffix(".npz").with_name(path.name.replace(".v1", "").replace(".mge", ".npz")))
            if (folder != "digits")
            else ()
        )
        assert {k[3:] for k in stored if k.startswith("in_")} <= set(model.input_names), path
        expected = report.get(path.name.replace(".v1", "").removesuffix(".mge"), {}).get("outputs")
        if expected and all("[" not in name for name in expected):  # those with brackets are invented by the original
            assert model.output_names == expected, path
        loaded += 1
    assert loaded > {"nets": 50, "ops": 1700, "digits": 1}[folder]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared model collection is not there")
def test_inputs_of_the_discrete_model_are_listed_as_the_original_lists_them():
    assert load_model(SHARED / "test_discrete_input.mge", check=False).input_names[1] == "data"
