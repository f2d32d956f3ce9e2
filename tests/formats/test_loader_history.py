"""Files of older releases: numbers, layouts of tables and counts that changed."""

import struct

import numpy as np
import pytest
from support.loader_samples import MODELS, operator, read_record, tensor

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.history import current_format, layout_of, release_of
from megengine_lite._core.formats.mge.writer_v2 import dtype_table, param_table
from megengine_lite._core.formats.wire import flatbuffer_builder as fb
from megengine_lite._core.ir.params import (
    BN,
    BNFwdMode,
    ConvBias,
    ConvolutionFormat,
    Host2DeviceCopy,
    Images2Neibs,
    Pooling,
)
from megengine_lite._core.operators.names import full_id, registered_name, short_id
from megengine_lite.errors import LiteWarning, ModelFormatError, UnsupportedOperatorError


@pytest.mark.parametrize(
    ("number", "metadata", "release"),
    [
        (800600, False, (0, 6)),
        (1799900, False, (1, 0)),
        (800800, False, (1, 1)),
        (800900, False, (1, 2)),
        (801000, False, (1, 3)),
        (801100, False, (1, 4)),
        (1799900, True, (1, 5)),
        (100700, True, (1, 7)),
        (100802, True, (1, 8)),
        (101304, True, (1, 13)),
    ],
)
def test_release_follows_from_the_number_in_the_file(number, metadata, release):
    assert release_of(number, metadata) == release


def test_number_of_the_development_head_is_newer_than_all():
    assert release_of(1099900, True) > (1, 13)


@pytest.mark.parametrize(
    ("number", "release", "expected"),
    [
        (7, (1, 0), ConvolutionFormat.NCHW44),
        (12, (1, 1), ConvolutionFormat.CHWN4),
        (12, (1, 2), ConvolutionFormat.NCHW4_NCHW32),
        (18, (1, 2), ConvolutionFormat.CHWN4),
        (15, (1, 3), ConvolutionFormat.CHWN4),
        (11, (1, 5), ConvolutionFormat.NCHW4_NCHW),
        (17, (1, 13), ConvolutionFormat.NCHW4_NHWC),
    ],
)
def test_layout_numbers_are_translated(number, release, expected):
    assert current_format(number, release) == expected


@pytest.mark.parametrize(("number", "release"), [(9, (1, 2)), (11, (1, 0)), (13, (1, 1)), (12, (1, 5)), (17, (1, 5))])
def test_layout_numbers_without_a_meaning_are_no_other_layout(number, release):
    translated = current_format(number, release)
    assert translated not in list(ConvolutionFormat)


def test_old_layouts_of_tables_have_the_fields_of_their_time():
    old = {f.name: f.id for f in layout_of(ConvBias, (1, 2))}
    assert old["compute_mode"] == 11
    assert 10 not in old.values()
    neibs = {f.name: f.id for f in layout_of(Images2Neibs, (1, 3))}
    assert (neibs["window_h"], neibs["window_w"]) == (4, 5)
    assert "dilate_h" not in neibs
    assert layout_of(ConvBias, (1, 3)) is ConvBias.layout


def v1_operator(record, *, short, params=None):
    """A table of the first generation; ``params`` replaces the parameter table."""
    number = short_id(record.type) if short else full_id(registered_name(record.type))
    if params is None and record.params is not None:
        params = param_table(record.params)
    return fb.NewTable(
        {
            0: fb.uint64(number),
            1: None if params is None else fb.uint8(record.params.code),
            2: params,
            3: fb.Vector("I", record.inputs),
            5: record.output_names or None,
            7: [
                fb.NewTable(
                    {
                        0: t.name or None,
                        1: fb.Vector("I", t.shape),
                        3: dtype_table(t.dtype),
                        4: fb.uint32(0 if t.data is None else len(t.data)),
                    }
                )
                for t in record.tensors
            ]
            or None,
        }
    )


def v1_file(tables, outputs, *, version, short=True, values=b"", metadata=False, graph_hash=1, magic=None):
    root = fb.NewTable(
        {
            0: fb.uint32(version),
            1: fb.uint64(graph_hash),
            3: tables,
            4: fb.Vector("II", [(v, v) for v in outputs]),
            5: fb.NewTable({}) if metadata else None,
        }
    )
    body = b"".join(fb.serialize(root, identifier=b"mgb1", size_prefix=True))
    if short:
        head = (magic or b"MGBS\0\0\0\0") + struct.pack("<Q", len(values))
    else:
        head = (magic or b"MGBC\0\0\0\0") + bytes(8) + struct.pack("<Q", len(values))
    return head + values + body


def source(name, shape=(1, 8, 4, 4)):
    return operator("Host2DeviceCopy", (), (), Host2DeviceCopy(), [tensor(shape, name=name)])


def single(record, n_inputs, *, version, params=None, outputs=(-1,), **options):
    """A file whose only node reads inputs; its loaded node."""
    record.inputs = tuple(range(n_inputs))
    tables = [v1_operator(source(f"x{i}"), short=True) for i in range(n_inputs)]
    tables.append(v1_operator(record, short=True, params=params))
    numbers = [n_inputs + (o if o >= 0 else 0) for o in outputs]
    return load_model(v1_file(tables, numbers, version=version, **options), check=False).graph.nodes[0]


def test_short_ids_name_operators_without_revision():
    assert single(operator("Pooling", params=Pooling(window_h=3)), 1, version=100700).params == Pooling(window_h=3)


def test_old_convolution_layouts_arrive_with_todays_numbers():
    stored = operator("Pooling", params=Pooling(format=12))
    assert single(stored, 1, version=800800).params.format == ConvolutionFormat.CHWN4
    assert single(stored, 1, version=800900).params.format == ConvolutionFormat.NCHW4_NCHW32
    assert single(stored, 1, version=100700).params.format == ConvolutionFormat.NHWC_NCHW


def test_old_conv_bias_has_its_block_size_skipped():
    table = fb.NewTable({4: fb.uint32(1), 10: fb.uint32(4), 11: fb.uint32(1)})
    old = single(operator("ConvBiasForward", params=ConvBias()), 2, version=800900, params=table).params
    assert (old.pad_h, old.compute_mode) == (1, 1)
    new = single(operator("ConvBiasForward", params=ConvBias()), 2, version=801000, params=table).params
    assert (new.pad_h, new.compute_mode) == (1, 4)


def test_old_neighbour_windows_are_read_without_dilation():
    table = fb.NewTable({4: fb.uint32(5), 5: fb.uint32(7)})
    old = single(operator("Images2Neibs", params=Images2Neibs()), 1, version=801000, params=table).params
    assert old == Images2Neibs(window_h=5, window_w=7)
    new = single(operator("Images2Neibs", params=Images2Neibs()), 1, version=801100, params=table).params
    assert new == Images2Neibs(dilate_h=5, dilate_w=7)


@pytest.mark.parametrize(("version", "counted"), [(801100, 3), (100700, 4)])
def test_old_batch_norm_gets_the_output_that_it_lacks(version, counted):
    norm = operator("BatchNorm", range(5), params=BN(fwd_mode=BNFwdMode.INFERENCE))
    relu = operator("Elemwise", (4 + counted,))
    tables = [v1_operator(source(f"x{i}"), short=True) for i in range(5)]
    tables += [v1_operator(norm, short=True), v1_operator(relu, short=True)]
    graph = load_model(v1_file(tables, [5 + counted], version=version), check=False).graph
    node, reader = graph.nodes
    assert len(node.outputs) == 4
    assert reader.inputs == [node.outputs[-1]]
    assert graph.outputs == reader.outputs


def constant_file(shape, values, nbytes=None, **options):
    record = operator("ImmutableTensor", (), (), None, [tensor(shape, data=bytes(nbytes or len(values)))])
    return v1_file(
        [v1_operator(record, short=options.get("short", True))], [0], values=values, version=101300, **options
    )


@pytest.mark.parametrize("short", [True, False])
def test_values_stand_in_front_of_the_graph(short):
    stored = np.float32([1, 2, 3])
    model = load_model(constant_file((3,), stored.tobytes(), short=short))
    np.testing.assert_array_equal(model.graph.outputs[0].const.array, stored)
    assert model.container == "v1"


def test_values_follow_each_other_without_padding():
    first = operator("ImmutableTensor", (), (), None, [tensor((3,), data=b"123")])
    first.tensors[0].dtype = type(first.tensors[0].dtype)(8)
    second = operator("ImmutableTensor", (), (), None, [tensor((2,), data=bytes(8))])
    stored = np.float32([4, 5])
    tables = [v1_operator(first, short=True), v1_operator(second, short=True)]
    content = v1_file(tables, [0, 1], values=b"123" + stored.tobytes(), version=101300)
    a, b = (v.const.array for v in load_model(content).graph.outputs)
    assert a.tobytes() == b"123"
    assert b.flags.aligned
    np.testing.assert_array_equal(b, stored)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (constant_file((3,), bytes(12), graph_hash=0), "no hash"),
        (constant_file((3,), bytes(8)), "takes 12"),
        (constant_file((3,), bytes(8), nbytes=12), "8 are left"),
        (constant_file((3,), bytes(12), magic=b"MGBS\0\1\0\0"), "not a MegEngine model"),
        (constant_file((3,), bytes(12)).replace(b"mgb1", b"mgb2"), "identifier"),
    ],
)
def test_damaged_first_generation_is_refused(content, message):
    with pytest.raises(ModelFormatError, match=message):
        load_model(content)


def test_file_of_a_newer_release_is_read_with_a_warning():
    content = v1_file([v1_operator(source("x"), short=True)], [0], version=102000)
    with pytest.warns(LiteWarning, match=r"newer than 1\.13"):
        assert load_model(content).input_names == ["x"]


def test_distance_behind_the_end_is_refused():
    content = bytearray(constant_file((3,), bytes(12), short=False))
    for distance in (len(content), 2**63, 2**64 - 1):
        content[16:24] = struct.pack("<Q", distance)
        with pytest.raises(ModelFormatError, match="cut off or damaged"):
            load_model(content)


def test_unknown_type_ids_of_the_first_generation_are_listed():
    table = fb.NewTable({0: fb.uint64(0x1234), 3: fb.Vector("I", (0,)), 12: "mystery"})
    content = v1_file([v1_operator(source("x"), short=True), table, table], [1], version=101300)
    with pytest.raises(UnsupportedOperatorError) as error:
        load_model(content, check=False)
    assert str(error.value).count("operator type 0x0000000000001234 'mystery'") == 2


def test_bytes_behind_the_model_are_ignored():
    for name in ("io_many_outputs.mge", "io_many_outputs.v1.mge"):
        content = (MODELS / name).read_bytes()
        assert read_record(content + b"more").end == len(content)
