"""Type ids, output counts, the order of inputs."""

import re

import pytest
from support.loader_samples import MODELS, SHARED, input_operator, operator, read_record, to_bytes

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.input_order import listed_order
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.params import BN, SVD, BNFwdMode, CondExecMerge, TopK, TopKMode
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators import names as operator_names
from megengine_lite._core.system.hashes import std_hash, xxh64

SPECIFICATION = SHARED.parent / "spec" / "operators.md"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"ConvolutionV2\0", 0x0589235F97273D9F),
        (b"Convolution", 0x0DF58829A4C725CD),
        (b"Dot", 0x04BA138D84BFBC16),
        (b"RegionRestrictedConvolutionBackwardFilter", 0x49B3F09594E3B489),
        (b"RegionRestrictedConvolutionBackwardFilter\0", 0x08FC04512D959EC7),
    ],
)
def test_xxh64_gives_known_type_ids(text, expected):
    assert xxh64(text, operator_names.TYPE_SEED) == expected


@pytest.mark.parametrize("name", ["LSTMForward", "ConvolutionV2", "Conv", "", "PoolingV1"])
def test_xxh64_of_long_and_short_bytes_differs(name):
    assert xxh64(name.encode() * 9, 1) != xxh64(name.encode() * 9 + b"x", 1)


def test_revisions_have_one_canonical_name():
    assert operator_names.canonical_name("ConvBiasForwardV4") == "ConvBiasForward"
    assert operator_names.canonical_name("LSTMForward") == "LSTMForward"
    assert operator_names.canonical_name("CorrelationBackwardData1") == "CorrelationBackwardData1"
    assert operator_names.registered_name("ConvBiasForward") == "ConvBiasForwardV4"


def test_type_is_found_by_full_and_short_id_and_by_name():
    assert operator_names.TypeTable().find(0x0589235F97273D9F) == "Convolution"  # full id of ConvolutionV2
    assert operator_names.TypeTable().find(0x0DF58829A4C725CD) == "Convolution"  # short id
    assert operator_names.TypeTable().find(0xBC193EEF48C27B7E) == "Convolution"  # full id of the canonical name
    assert operator_names.TypeTable().find(1, "ConvolutionV2") == "Convolution"
    assert operator_names.TypeTable().find(1, "NoSuchOperator") == ""


@pytest.mark.parametrize("name", ["FusedConv", "FusedElemwise", "QuantizedConv", "ReduceAxes", "ChannelGather"])
def test_file_cannot_name_an_operator_that_passes_make(name):
    assert name in REGISTRY
    assert operator_names.TypeTable().find(0, name) == ""
    assert all(operator_names.TypeTable().find(number) == "" for number in operator_names.type_ids(name))


@pytest.mark.shared
@pytest.mark.skipif(not SPECIFICATION.exists(), reason="the specification is not there")
def test_all_type_ids_of_the_specification_are_known():
    text = SPECIFICATION.read_text()
    rows = re.findall(r"^\| (\w+)(?: \*)? \| ([0-9a-f]{16})(?: \| ([0-9a-f]{16}))? \|$", text, re.M)
    assert len(rows) > 230
    for name, *ids in rows:
        for number in filter(None, ids):
            assert operator_names.TypeTable().find(int(number, 16)) == operator_names.canonical_name(name)


@pytest.mark.parametrize(
    ("name", "params", "inputs", "tensors", "expected"),
    [
        ("Convolution", None, 2, 0, 1),
        ("Split", None, 4, 0, 3),
        ("TopK", TopK(mode=TopKMode.KTH_ONLY), 2, 0, 1),
        ("TopK", TopK(mode=TopKMode.VALUE_IDX_SORTED), 2, 0, 2),
        ("SVD", SVD(compute_uv=True), 1, 0, 3),
        ("SVD", SVD(compute_uv=False), 1, 0, 1),
        ("BatchNorm", BN(fwd_mode=BNFwdMode.INFERENCE), 5, 0, 4),
        ("BatchNorm", BN(fwd_mode=BNFwdMode.TRAINING), 5, 0, 6),
        ("BatchNorm", BN(fwd_mode=BNFwdMode.TRAINING), 3, 0, 4),
        ("MultipleDeviceTensorHolder", None, 0, 5, 5),
        ("CheckNonFinite", None, 3, 0, 4),
        ("CondExecMerge", CondExecMerge(nr_output=2**32 - 1), 4, 0, 4),
        ("LSTMForward", None, 4, 0, 4),
    ],
)
def test_count_outputs_is_that_of_the_original(name, params, inputs, tensors, expected):
    assert operator_names.count_outputs(name, params, inputs, tensors) == expected


@pytest.mark.parametrize("pair", ["conv_bn_relu_raw", "io_many_outputs", "nms_0.8", "roll_two", "multi_io"])
def test_counted_outputs_agree_with_numbers_that_v2_states(pair):
    first = read_record(MODELS / f"{pair}.v1.mge")
    second = read_record(MODELS / f"{pair}.mge")
    counts = {(op.type, len(op.outputs)) for op in second.operators}
    assert {(op.type, len(op.outputs)) for op in first.operators} <= counts
    numbers = [v for op in second.operators for v in op.outputs]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    ("file_order", "expected"),
    [
        ("data roi", "roi data"),
        ("b_in a_in", "a_in b_in"),
        ("alpha data zeta roi m1", "roi zeta data m1 alpha"),
        ("arg_1 arg_2 arg_0 arg_3 arg_4", "arg_0 arg_4 arg_2 arg_3 arg_1"),
        ("only", "only"),
        ("", ""),
    ],
)
def test_listed_order_is_that_of_the_original(file_order, expected):
    assert listed_order(file_order.split()) == expected.split()


def test_listed_order_keeps_every_name_while_the_map_grows():
    names = [f"input_{i}" for i in range(3000)]
    assert sorted(listed_order(names)) == sorted(names)


def test_std_hash_takes_whole_words_and_the_tail():
    hashes = {std_hash(b"abcdefghijk"[:n]) for n in range(12)}
    assert len(hashes) == 12


def test_model_lists_inputs_as_the_original_and_keeps_file_order_in_the_graph():
    operators = [input_operator(i, name) for i, name in enumerate(["alpha", "data", "zeta", "roi", "m1"])]
    operators.append(operator("Concat", range(5), (5,)))
    model = load_model(to_bytes(ModelRecord("v2", 101300, operators, [(5, "")])), check=False)
    assert model.input_names == ["roi", "zeta", "data", "m1", "alpha"]
    assert [v.name for v in model.graph.inputs] == ["alpha", "data", "zeta", "roi", "m1"]
