"""Packages: reading, writing, settings."""

import json

import pytest
from support.loader_samples import SHARED, add_record, to_bytes

from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.containers.information import (
    BOOLEAN_OPTIONS,
    INTEGER_OPTIONS,
    IOInformation,
    parse_information,
)
from megengine_lite._core.formats.containers.packed import Package, read_package, write_package
from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import DecryptionError, LiteError, ModelFormatError
from megengine_lite.network import LiteOptions
from megengine_lite.struct import LiteDeviceType

pytestmark = pytest.mark.filterwarnings("ignore::megengine_lite.errors.LiteWarning")

INFORMATION = {
    "valid": True,
    "name": "net",
    "version": "1.13.0",
    "has_compression": False,
    "backend": "MGE",
    "device": {"type": "CPU", "device_id": 1, "number_threads": 2, "enable_inplace_model": True},
    "options": {"fuse_preprocess": True, "graph_opt_level": 2, "unknown": 3},
    "IO": {
        "inputs": [
            {"name": "a", "is_host": True, "io_type": "value", "dtype": "float32", "shape": {"dim0": 2, "dim1": 3}}
        ],
        "outputs": [{"name": "sum", "io_type": "shape"}],
    },
    "extra_info": {"note": "text"},
}


def package(information=INFORMATION, *, model_cryption="NONE", information_cryption="NONE", **fields) -> bytes:
    content = None
    if information is not None:
        content = information if isinstance(information, bytes) else json.dumps(information).encode()
        content = cryption.encrypt(information_cryption, content)
    model = cryption.encrypt(model_cryption, to_bytes(add_record()))
    fields = {"name": "net", **fields}
    made = Package(
        model=model,
        model_cryption=model_cryption,
        information=content,
        information_cryption=information_cryption,
        **fields,
    )
    return b"".join(write_package(made))


@pytest.mark.parametrize("model_cryption", ["NONE", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
@pytest.mark.parametrize("information_cryption", ["NONE", "AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_package_loads_under_every_encryption(model_cryption, information_cryption):
    content = package(model_cryption=model_cryption, information_cryption=information_cryption)
    model = load_model(content, decrypt="ignored for packages", check=False)
    assert model.output_names == ["sum"]
    assert model.information.name == "net"
    assert model.package.model_cryption == model_cryption


def test_package_is_read_as_written():
    content = package(algorithm_cache=b"\0\0\0\0", is_fast_run_cache=True, binary_cache=b"binary")
    read = read_package(content)
    assert (read.name, read.model_cryption, read.information_parser) == ("net", "NONE", "LITE_default")
    assert bytes(read.model) == to_bytes(add_record())
    assert json.loads(bytes(read.information)) == INFORMATION
    assert read.read_cache() == b"\0\0\0\0"
    assert bytes(read.binary_cache) == b"binary"
    assert read_package(package()).read_cache() == b""


def test_information_is_typed():
    information = load_model(package(), check=False).information
    assert information.version == (1, 13, 0)
    assert (information.device_type, information.device_id, information.number_threads) == ("CPU", 1, 2)
    assert information.enable_inplace_model is True
    assert information.use_tensorrt is None
    assert information.options == {"fuse_preprocess": True, "graph_opt_level": 2}
    assert information.inputs == [IOInformation("a", True, "value", "float32", (2, 3))]
    assert information.outputs == [IOInformation("sum", io_type="shape")]
    assert json.loads(information.extra_info) == {"note": "text"}


@pytest.mark.parametrize(
    "information", [None, {"valid": False, "name": "other"}, {"name": "other"}, {"valid": False, "version": 3}]
)
def test_missing_or_invalid_information_is_ignored(information):
    model = load_model(package(information), check=False)
    assert model.information is None
    assert model.package.name == "net"


def without(key):
    return {k: v for k, v in INFORMATION.items() if k != key}


@pytest.mark.parametrize(
    ("information", "message"),
    [
        (INFORMATION | {"name": "other"}, "is for the model 'other'"),
        (without("name"), "is for the model None"),
        (without("version"), "version"),
        (INFORMATION | {"version": "1.13"}, "version"),
        (INFORMATION | {"version": 1.13}, "str is expected"),
        (INFORMATION | {"device": {"type": "ABACUS"}}, "possible are CPU"),
        (INFORMATION | {"device": []} | {"device": [1]}, "must be an object"),
        (INFORMATION | {"device": {"device_id": "0"}}, "int is expected"),
        (INFORMATION | {"options": {"graph_opt_level": True}}, "int is expected"),
        (INFORMATION | {"IO": {"inputs": [{}]}}, "needs a name"),
        (INFORMATION | {"IO": {"inputs": [{"name": "a", "shape": {"dim0": -1}}]}}, "below zero"),
        (INFORMATION | {"IO": {"inputs": [{"name": "a", "dtype": "float128"}]}}, "possible are float32"),
        (INFORMATION | {"IO": {"inputs": {"name": "a"}}}, "list is expected"),
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[1]", "must be an object"),
        (b" " * (1 << 20) + b"{}", "at most"),
    ],
)
def test_information_that_does_not_fit_is_refused(information, message):
    with pytest.raises(ModelFormatError, match=message):
        load_model(package(information), check=False)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_information_of_any_depth_is_read_or_refused(opening, closing):
    """Writing JSON again takes more of the stack than reading it: there are depths at which only that fails."""
    base = json.dumps({**INFORMATION, "extra_info": "HERE"})
    for depth in (1, 50, 97, 98, 99, 100, 101, 150, *range(800, 1100, 7), 5000, 30_000):
        text = base.replace('"HERE"', opening * depth + "1" + closing * depth)
        if depth < 99:
            found = parse_information(text.encode(), "net")
            assert found is not None and found.extra_info is not None and found.extra_info.count("1") == 1
            continue
        with pytest.raises(ModelFormatError, match=r"nested deeper than 100 levels|is no JSON"):
            parse_information(text.encode(), "net")


@pytest.mark.parametrize("key", ["name", "device", "version", "valid"])
def test_members_of_any_depth_where_they_do_not_belong(key):
    for depth in (80, 500, 900, 990, 995, 1000):
        text = json.dumps({**INFORMATION, key: "HERE"}).replace('"HERE"', "[" * depth + "]" * depth)
        with pytest.raises(ModelFormatError):
            parse_information(text.encode(), "net")


def test_packages_name_the_devices_and_options_of_the_api():
    with pytest.raises(ModelFormatError) as caught:
        parse_information(json.dumps({**INFORMATION, "device": {"type": "TPU"}}).encode(), "net")
    named = str(caught.value).partition("possible are ")[2].split(", ")
    assert {f"LITE_{name}" for name in named} == {d.name for d in LiteDeviceType} - {"LITE_DEVICE_DEFAULT"}
    assert {*BOOLEAN_OPTIONS, *INTEGER_OPTIONS} <= set(LiteOptions.__slots__)


def test_padding_behind_the_json_is_ignored():
    content = json.dumps(INFORMATION).encode() + b"\0\0\0garbage"
    assert parse_information(content, "net").name == "net"


def test_unknown_parsers_are_refused():
    with pytest.raises(ModelFormatError, match="no parser 'mine' for the information"):
        load_model(package(information_parser="mine"), check=False)
    strange = read_package(package(algorithm_cache=b"1234", is_fast_run_cache=True, cache_parser="mine"))
    with pytest.raises(ModelFormatError, match="no parser 'mine' for caches"):
        strange.read_cache()


def test_wrong_or_unknown_method_is_a_decryption_error():
    content = to_bytes(add_record())
    for method in ("RC4_default", "unknown"):
        made = b"".join(write_package(Package("net", content, method)))
        with pytest.raises(DecryptionError):
            load_model(made)


def test_empty_and_double_packages_are_refused():
    from megengine_lite._core.formats.wire.flatbuffer_builder import NewTable, serialize

    for models, message in (
        ([], "holds 0 models"),
        ([NewTable({})] * 2, "holds 2 models"),
        ([NewTable({})], "no header"),
    ):
        with pytest.raises(ModelFormatError, match=message):
            load_model(b"packed_model" + b"".join(serialize(NewTable({0: models}))))
    with pytest.raises(ModelFormatError):
        load_model(b"packed_model")
    with pytest.raises(ModelFormatError):
        load_model(b"packed_model" + bytes(range(64)))


def test_package_cut_off_at_every_byte_is_refused():
    content = package()
    whole = read_package(content)
    end = content.index(bytes(whole.model)) + len(whole.model)
    for size in range(end):
        with pytest.raises(LiteError):
            load_model(content[:size], check=False)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared model collection is not there")
@pytest.mark.parametrize(
    ("file", "name", "information", "cache"),
    [
        ("test_pack_cache_to_model.lite", "shufflenet", True, 31337),
        ("test_packed_model.lite", "shufflenet_slim", True, 0),
        ("test_packed_model_no_info.lite", "shufflenet_slim", False, 0),
        ("test_packed_model_rc4.lite", "shufflenet", True, 0),
        ("test_packed_model_sfrc4.lite", "shufflenet_slim", True, 0),
    ],
)
def test_packages_made_for_the_original_load(file, name, information, cache):
    model = load_model(SHARED / file, check=False)
    assert model.package.name == name
    assert (model.information is not None) == information
    assert len(model.package.read_cache()) == cache
    assert (model.input_names, model.output_names) == (["data"], ["Softmax"])
    if information:
        assert model.information.inputs[0].dtype == "float32"
        assert json.loads(model.information.extra_info)["classes"] == 1000
