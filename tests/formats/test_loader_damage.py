"""Damaged and hostile files: every one ends in an error of this package, in bounded time and memory."""

import random
import struct
import tracemalloc

import pytest
from support.loader_samples import MODELS, SMALL, add_record, constant_operator, input_operator, operator, to_bytes

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge import build, records
from megengine_lite._core.formats.wire import flatbuffer_builder as fb
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite._core.formats.wire.flatbuffer import root_table
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from megengine_lite.errors import LiteError, ModelFormatError

pytestmark = pytest.mark.filterwarnings("ignore:.*written by a release newer")
WORDS = (0, 1, 3, 4, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF)


def touch(content) -> bool:
    """Loads a model and all of its constants; False if it is refused as it should be."""
    try:
        model = load_model(content, check=False)
        for node in model.graph.nodes:
            for var in node.inputs:
                if var.const is not None:
                    assert var.const.array.shape == var.spec.shape
        return True
    except LiteError:
        return False


@pytest.mark.parametrize("name", ["roll_two.mge", "roll_two.v1.mge", "nms_0.8.v1.mge"])
def test_file_cut_off_at_every_byte_is_refused(name):
    content = (MODELS / name).read_bytes()
    for size in range(len(content)):
        with pytest.raises(ModelFormatError):
            load_model(content[:size], check=False)


@pytest.mark.parametrize("name", SMALL)
def test_changed_bytes_never_raise_other_errors(name):
    content = (MODELS / name).read_bytes()
    random_ = random.Random(name)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(random_.choice((1, 1, 2, 8))):
            damaged[random_.randrange(len(damaged))] = random_.choice((0, 1, 0x7F, 0x80, 0xFF, random_.randrange(256)))
        touch(bytes(damaged))


@pytest.mark.parametrize("name", SMALL)
def test_changed_words_never_raise_other_errors(name):
    """Offsets, counts and sizes are words; each gets the numbers at which checks break."""
    content = (MODELS / name).read_bytes()
    random_ = random.Random(name)
    places = range(0, len(content) - 4, 4)
    refused = 0
    for place in random_.sample(places, min(len(places), 150)):
        old = struct.unpack_from("<I", content, place)[0]
        for word in random_.sample((*WORDS, (old + 4) % 2**32, (old - 4) % 2**32, old ^ 1), 5):
            damaged = bytearray(content)
            struct.pack_into("<I", damaged, place, word)
            refused += not touch(bytes(damaged))
    assert refused > 20


@pytest.mark.parametrize("name", ["einsum_nchw_kc.mge", "einsum_nchw_kc.v1.mge"])
def test_spliced_files_never_raise_other_errors(name):
    content = (MODELS / name).read_bytes()
    random_ = random.Random(1)
    for _ in range(400):
        a, b = sorted(random_.randrange(len(content)) for _ in range(2))
        c = random_.randrange(len(content))
        touch(content[:a] + content[c : c + random_.randrange(64)] + content[b:])


def repeated_operator(n_references: int, n_inputs: int) -> bytes:
    """A file in which many references lead to one operator with many inputs."""
    target = fb.NewTable({0: "Concat", 7: fb.Vector("I", [0] * n_inputs), 8: fb.Vector("I", [0])})
    root = fb.NewTable({0: fb.uint32(101300), 2: fb.Vector("I", [0] * n_references), 3: [target]})
    content = bytearray(b"".join(fb.serialize(root, identifier=b"mgv2", size_prefix=True)))
    # The vector of references follows the root table, the vector with the one true reference follows it.
    vector = content.index(struct.pack("<II", n_references, 0))
    true = vector + 4 + 4 * n_references
    while struct.unpack_from("<I", content, true)[0] != 1:
        true += 1
    place = true + 4 + struct.unpack_from("<I", content, true + 4)[0]
    for i in range(n_references):
        at = vector + 4 + 4 * i
        struct.pack_into("<I", content, at, place - at)
    return bytes(content)


def test_repeated_references_are_bounded_by_the_size_of_the_file():
    content = repeated_operator(20_000, 20_000)
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="again and again"):
        load_model(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_operators_and_variables_are_limited(monkeypatch):
    monkeypatch.setattr(records, "MAX_OPERATORS", 100)
    monkeypatch.setattr(build, "MAX_VARIABLES", 50)
    relu = Elemwise(mode=ElemwiseMode.RELU)
    for count, message in ((40, None), (60, "more than 50 variables"), (200, "more than 100 operators")):
        chain = [input_operator(0, "x"), *(operator("Elemwise", (i,), (i + 1,), relu) for i in range(count))]
        content = to_bytes(records.ModelRecord("v2", 101300, chain, [(count, "")]))
        if message is None:
            assert len(load_model(content, check=False).graph.nodes) == count
            continue
        with pytest.raises(ModelFormatError, match=message):
            load_model(content, check=False)


def test_few_references_to_one_table_are_allowed():
    with pytest.raises(ModelFormatError, match="reads variable 0"):
        load_model(repeated_operator(3, 5), check=False)


def test_loading_takes_no_memory_for_values():
    values = 8 << 20
    record = add_record()
    record.operators.append(constant_operator(3, (values // 4,), data=memoryview(bytes(values))))
    content = to_bytes(record)
    tracemalloc.start()
    model = load_model(content, check=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20
    assert model.output_names == ["sum"]


def test_cursor_refuses_what_lies_outside():
    cursor = Cursor(bytes(range(16)), 4, 12, "file")
    assert len(cursor) == 8
    assert cursor.uint32(0, "number") == 0x07060504
    assert cursor.uint64(0, "number") == 0x0B0A090807060504
    assert bytes(cursor.span(6, 2, "bytes")) == b"\x0a\x0b"
    for read in (
        lambda: cursor.uint32(5, "number"),
        lambda: cursor.uint64(1, "number"),
        lambda: cursor.span(2**64 - 1, 2, "bytes"),
        lambda: cursor.span(0, 2**64 - 1, "bytes"),
        lambda: root_table(cursor, 6),
    ):
        with pytest.raises(ModelFormatError, match=r"file: .* the end is at 12"):
            read()
    assert not cursor.startswith(b"\x0a\x0b\x0c", 6)
    with pytest.raises(ModelFormatError):
        Cursor(b"1234", 3, 9)


def field_list(*words) -> bytes:
    return struct.pack(f"<{len(words)}H", *words)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<Ii", 4, 100), "no field list"),  # in front of the buffer
        (struct.pack("<Ii", 4, -100), "field list of root table"),  # behind it
        (struct.pack("<Ii", 4, -4) + field_list(6, 2, 0), "impossible size"),
        (struct.pack("<Ii", 4, -4) + field_list(2, 4), "impossible size"),
        (struct.pack("<Ii", 4, -4) + field_list(60, 4), "field list of root table"),
        (struct.pack("<Ii", 4, -4) + field_list(4, 400), "root table at byte 4"),
        (struct.pack("<I", 400), "root table"),
    ],
)
def test_damaged_tables_are_refused(content, message):
    with pytest.raises(ModelFormatError, match=message):
        root_table(Cursor(content))


def test_field_outside_of_its_table_is_refused():
    table = root_table(Cursor(struct.pack("<Ii", 4, -4) + field_list(6, 8, 6) + bytes(8)))
    assert table.uint8(0) == 8  # within the table
    with pytest.raises(ModelFormatError, match="field 0 of root table"):
        table.uint32(0)
    assert table.uint32(1, 77) == 77


def test_fields_of_every_kind_are_read_as_written():
    inner = fb.NewTable({0: fb.float64(2.5), 2: fb.uint64(2**64 - 1), 3: fb.boolean(True)})
    root = fb.NewTable(
        {
            0: fb.int8(-3),
            1: fb.int32(-(2**31)),
            2: fb.uint32(2**32 - 1),
            3: fb.float32(0.5),
            4: "näme",
            5: b"\0\1",
            6: fb.Vector("i", [-1, 2]),
            7: fb.Vector("b3xi", [(1, -7), (0, 9)]),
            8: ["a", "", "c"],
            9: [inner, fb.NewTable({})],
            11: inner,
            12: fb.Text(b"\xff\0x"),
        }
    )
    content = b"".join(fb.serialize(root, identifier=b"test"))
    assert content[4:8] == b"test"
    table = root_table(Cursor(content))
    assert (table.int8(0), table.int32(1), table.uint32(2), table.float32(3)) == (-3, -(2**31), 2**32 - 1, 0.5)
    assert table.text(4, "") == "näme"
    assert bytes(table.span(5, "")) == table.blob(5, "") == b"\0\1"
    assert table.int32s(6, "") == (-1, 2)
    assert table.structs(7, 8, "") == struct.pack("<b3xib3xi", 1, -7, 0, 9)
    assert table.texts(8, "") == ["a", "", "c"]
    first, second = table.tables(9, "")
    assert (first.float64(0), first.uint64(2), first.boolean(3), first.has(1)) == (2.5, 2**64 - 1, True, False)
    assert not any(second.has(i) for i in range(4))
    assert table.table(11, "").float64(0) == 2.5
    assert table.text(12, "") == "\\xff\0x"
    assert table.table(10, "") is None
    assert list(table.tables(30, "")) == table.texts(30, "") == []
    assert table.uint32s(30, "") == table.int32s(30, "") == ()
