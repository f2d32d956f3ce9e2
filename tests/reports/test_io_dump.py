"""Text and binary dumps: the original's names, numbers, order, and form."""

import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import ADD, API_MODELS, DIGITS, IMAGES, add, config, loaded
from support.loader_samples import MODELS, input_operator, operator, tensor, to_bytes
from support.places import TESTS
from support.processes import LIMIT

from megengine_lite import LiteNetwork
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import FLOAT32, INT32, DType, DTypeCode
from megengine_lite._core.ir.params import DTypeTable, Elemwise, ElemwiseMode
from megengine_lite.errors import LiteError, LiteWarning

DUMPS = TESTS / "models" / "dumps"
PLACES = (API_MODELS, MODELS, TESTS / "models" / "digits")
_STRIDES = re.compile(r"(?<=[{,])(\d+)\(-?\d+\)")


def model_of(name: str) -> Path:
    return next(p / f"{name}.mge" for p in PLACES if (p / f"{name}.mge").exists())


def forward(network: LiteNetwork, model: Path) -> None:
    data = np.load(model.with_suffix(".npz")) if model.with_suffix(".npz").exists() else {}
    for name in network.get_all_input_name():
        if f"in_{name}" in data:
            network.get_io_tensor(name).set_data_by_copy(data[f"in_{name}"])
    network.forward()
    network.wait()


def form_of(text: str) -> list[str]:
    """A text dump without values and strides."""
    lines = []
    for line in text.splitlines():
        if " produced: " in line:
            line = _STRIDES.sub(r"\1", line)
        elif line.startswith("  [i"):
            line = re.sub(r"(var\d+:|host value\[.\]>) \[.*\] ([sd])$", r"\1 [] \2", line)
        elif line.startswith(" val: "):
            line = f" val: {line[-1]}"
        lines.append(line)
    return lines


# ---- text ---------------------------------------------------------------------------------------------------------

RECORDED = (
    "var3 produced: name=b layout={2(3),3(1) Float32} owner_opr=h2d[2]{Host2DeviceCopy} opr2\n"
    " deps:\n"
    " val: [1, 1, 1, 1, 1, ...]min=1 max=1 mean=1 l2=1 sd=0 s\n"
    "var1 produced: name=a layout={2(3),3(1) Float32} owner_opr=h2d[0]{Host2DeviceCopy} opr0\n"
    " deps:\n"
    " val: [1, 2, 3, 4, 5, ...]min=1 max=6 mean=3.5 l2=3.89 sd=1.87 s\n"
    "var5 produced: name=sum layout={2(3),3(1) Float32} owner_opr=ADD(a,b)[4]{Elemwise} opr4\n"
    " deps:\n"
    "  [i0]var1: [1, 2, 3, 4, 5, ...] s\n"
    "  [i1]var3: [1, 1, 1, 1, 1, ...] s\n"
    " val: [2, 3, 4, 5, 6, ...]min=2 max=7 mean=4.5 l2=4.81 sd=1.87 s\n"
)


def add_rising(network: LiteNetwork, first: int = 1) -> None:
    network.get_io_tensor("a").set_data_by_copy(list(range(first, first + 6)))
    network.get_io_tensor("b").set_data_by_copy([1] * 6)
    network.forward()
    network.wait()


def test_text_dump_of_every_run(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(ADD)
    network.io_txt_dump(str(path))
    assert path.read_text() == ""
    add_rising(network)
    assert path.read_text() == RECORDED
    add_rising(network)
    assert path.read_text() == RECORDED * 2


@pytest.mark.parametrize("name", sorted(p.stem for p in DUMPS.glob("*.txt") if "binary" not in p.name))
def test_text_dump_has_the_form_of_the_original(tmp_path, name):
    path, model = tmp_path / "io.txt", model_of(name)
    network = LiteNetwork()
    network.io_txt_dump(path)
    network.load(model)
    forward(network, model)
    expected = (DUMPS / f"{name}.txt").read_text().splitlines()
    assert len(expected) > 25
    assert form_of(path.read_text()) == expected


def test_text_dump_tells_what_is_read_of_a_variable(tmp_path):
    path, model = tmp_path / "io.txt", model_of("batch_by_shape")
    network = loaded(model)
    network.io_txt_dump(path)
    forward(network, model)
    text = path.read_text()
    assert "  [i0]var83:  <shape dep[s]> {3,64,16} s\n" in text
    assert "  [i1]var41:  <host value[s]> [3, 16, -1] s\n" in text


def test_text_dump_marks_what_depends_on_data(tmp_path):
    path, model = tmp_path / "io.txt", model_of("cond_take")
    network = loaded(model)
    network.io_txt_dump(path)
    forward(network, model)
    letters = {
        line.split()[0]: line_after[-1]
        for line, line_after in zip(
            [x for x in path.read_text().splitlines() if " produced: " in x],
            [x for x in path.read_text().splitlines() if x.startswith(" val: ")],
            strict=True,
        )
    }
    assert letters == {"var5": "s", "var3": "s", "var7": "s", "var9": "s", "var1": "s", "var11": "d", "var12": "d"}


def one_operator(params, op="Elemwise", dtype=FLOAT32, shape=(2, 3)) -> bytes:
    record = ModelRecord("v2", 101300, [input_operator(0, "x", shape, dtype)], [(1, "")], {1: "y"})
    record.operators.append(operator(op, (0,), (1,), params))
    return to_bytes(record)


@pytest.mark.parametrize(
    ("values", "statistics"),
    [
        ([3, 3], "[3, 3]min=3 max=3 mean=3 l2=3 sd=0"),
        ([-1, 2], "[1, 2]min=1 max=2 mean=1.5 l2=1.58 sd=0.707"),
        ([1e-5, 123456], "[1e-05, 1.235e+05]min=1e-05 max=1.23e+05 mean=6.17e+04 l2=8.73e+04 sd=8.73e+04"),
        ([7], "[7]min=7 max=7 mean=7 l2=7 sd=N/A"),
        ([float("nan"), 1], "[nan, 1]min=nan max=nan mean=nan l2=nan sd=nan"),
    ],
)
def test_text_dump_statistics(tmp_path, values, statistics):
    path = tmp_path / "io.txt"
    network = loaded(one_operator(Elemwise(mode=ElemwiseMode.ABS), shape=(len(values),)))
    network.io_txt_dump(path)
    network.get_io_tensor("x").set_data_by_copy(np.array(values, "float32"))
    network.forward()
    network.wait()
    assert path.read_text().splitlines()[-1] == f" val: {statistics} s"


def test_text_dump_names_of_types(tmp_path):
    path = tmp_path / "io.txt"
    quantized = DType(DTypeCode.QUANTIZED_S8, 0.5)
    network = loaded(one_operator(DTypeTable(dtype=quantized), "TypeCvt"))
    network.io_txt_dump(path)
    network.forward()
    network.wait()
    assert path.read_text().splitlines()[3] == (
        "var3 produced: name=y layout={2(3),3(1) QuantizedS8} owner_opr=asQuantizedS8(x)[2]{TypeCvt} opr2"
    )


def test_text_dump_of_a_long_list_of_inputs(tmp_path):
    path = tmp_path / "io.txt"
    names = [f"input_with_a_long_name_{k}" for k in range(5)]
    record = ModelRecord("v2", 101300, [input_operator(k, n) for k, n in enumerate(names)], [(5, "all")])
    from megengine_lite._core.ir.params import Axis

    record.operators.append(operator("Concat", range(5), (5,), Axis(axis=0)))
    network = loaded(to_bytes(record))
    network.io_txt_dump(path)
    network.forward()
    network.wait()
    # cut once "concat" and the names have more than 62 letters together
    assert f"owner_opr=concat({','.join(names[:3])},...)[10]{{Concat}} opr10\n" in path.read_text()


def test_text_dump_that_cannot_be_written_any_more(tmp_path):
    directory = tmp_path / "gone"
    directory.mkdir()
    network = loaded(ADD)
    network.io_txt_dump(directory / "io.txt")
    (directory / "io.txt").unlink()
    directory.rmdir()
    with pytest.raises(LiteError, match="cannot be written"):
        add(network, 1, 2)


# ---- text, values at the end --------------------------------------------------------------------------------------

LAZY = (
    "==== begin lazy value recording\n"
    "var3 produced: name=b layout={2(3),3(1) Float32} owner_opr=h2d[2]{Host2DeviceCopy} opr2\n"
    " deps:\n"
    " val: <see lazy value below> s\n"
    "var1 produced: name=a layout={2(3),3(1) Float32} owner_opr=h2d[0]{Host2DeviceCopy} opr0\n"
    " deps:\n"
    " val: <see lazy value below> s\n"
    "var5 produced: name=sum layout={2(3),3(1) Float32} owner_opr=ADD(a,b)[4]{Elemwise} opr4\n"
    " deps:\n"
    "  [i0]var1: <see lazy value below> s\n"
    "  [i1]var3: <see lazy value below> s\n"
    " val: <see lazy value below> s\n"
)
LAZY_VALUES = (
    "==== recorded values\n"
    "#0: opr2 h2d[2]{Host2DeviceCopy}\n"
    "  var3: name=b [1, 1, 1, 1, 1, ...]min=1 max=1 mean=1 l2=1 sd=0\n"
    "#1: opr0 h2d[0]{Host2DeviceCopy}\n"
    "  var1: name=a [2, 3, 4, 5, 6, ...]min=2 max=7 mean=4.5 l2=4.81 sd=1.87\n"
    "#2: opr4 ADD(a,b)[4]{Elemwise}\n"
    "  var5: name=sum [3, 4, 5, 6, 7, ...]min=3 max=8 mean=5.5 l2=5.76 sd=1.87\n"
)


def recording(level: int):
    options = {"comp_node_seq_record_level": level}
    if level == 2:
        options |= {"var_sanity_check_first_run": 0, "fake_next_exec": 0}
    return config(**options)


@pytest.mark.parametrize("level", [1, 2])
def test_text_dump_of_recorded_runs_has_the_last_values_at_the_end(tmp_path, level):
    path = tmp_path / "io.txt"
    network = LiteNetwork(recording(level))
    network.io_txt_dump(path)
    network.load(ADD)
    for first in (1, 2):
        add_rising(network, first)
        assert path.read_text() == LAZY
    del network
    assert path.read_text() == LAZY + LAZY_VALUES


def test_text_dump_of_recorded_runs_ends_with_the_next_dump(tmp_path):
    network = loaded(ADD, recording(1))
    network.io_txt_dump(tmp_path / "first.txt")
    add_rising(network, 2)
    network.io_txt_dump(tmp_path / "second.txt")
    assert (tmp_path / "first.txt").read_text() == LAZY + LAZY_VALUES
    assert (tmp_path / "second.txt").read_text() == ""


def test_text_dump_of_recorded_runs_begins_anew_for_other_shapes(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(DIGITS, recording(1))
    network.io_txt_dump(path)
    for n in (1, 2):
        network.get_io_tensor("data").set_data_by_copy(IMAGES[:n])
        network.forward()
        network.wait()
    text = path.read_text()
    assert text.count("==== begin lazy value recording\n") == 2
    assert text.count("==== recorded values\n") == 1
    assert text.index("layout={1(64),1(64),8(8),8(1) Float32}") < text.index("==== recorded")
    assert text.index("==== recorded") < text.index("layout={2(64),1(64),8(8),8(1) Float32}")


def test_text_dump_of_recorded_runs_ends_with_the_program(tmp_path):
    (tmp_path / "add.mge").write_bytes(ADD)
    program = (
        "from megengine_lite import *\n"
        "c = LiteConfig(); c.options.comp_node_seq_record_level = 1\n"
        "n = LiteNetwork(c); n.load('add.mge'); n.io_txt_dump('io.txt')\n"
        "n.get_io_tensor('a').set_data_by_copy([2, 3, 4, 5, 6, 7])\n"
        "n.get_io_tensor('b').set_data_by_copy([1] * 6)\n"
        "n.forward(); n.wait()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=LIMIT)
    assert (tmp_path / "io.txt").read_text() == LAZY + LAZY_VALUES


def test_text_dump_of_recorded_runs_is_not_ended_by_a_child(tmp_path):
    path = tmp_path / "io.txt"
    network = loaded(ADD, recording(1))
    network.io_txt_dump(path)
    add_rising(network, 2)
    child = os.fork()
    if not child:
        del network
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert path.read_text() == LAZY
    del network
    assert path.read_text() == LAZY + LAZY_VALUES


# ---- binary -------------------------------------------------------------------------------------------------------


def read_binary(path):
    content = path.read_bytes()
    length, code, most = struct.unpack_from("<III", content)
    shape = struct.unpack_from(f"<{most}I", content, 12)
    begin = 12 + 4 * most
    return content[begin : begin + length].decode(), code, most, shape, content[begin + length :]


def test_binary_dump_field_by_field(tmp_path):
    directory = tmp_path / "new" / "out"
    network = loaded(ADD)
    network.io_bin_dump(str(directory))
    add(network, 1, 2)
    add(network, 3, 4)
    assert sorted(p.name for p in directory.iterdir()) == ["000001", "000003", "000005"]
    device = 'CompNode("cpu0:0" from "cpu0:0")'
    a, b = (
        f"{{id:{n}, layout:{{2(3),3(1) Float32}}, Float32, owner:h2d[{n - 1}]{{Host2DeviceCopy}}, name:{name}, slot:0, "
        f"{device}, s, 4, 4}}"
        for n, name in ((1, "a"), (3, "b"))
    )
    described = (
        "var={id:5, layout:{2(3),3(1) Float32}, Float32, owner:ADD(a,b)[4]{Elemwise}, name:sum, slot:0, "
        f"{device}, s, 4, 4}} owner_opr_inputs=0={a} 1={b}"
    )
    shape = (2, 3, 0, 0, 0, 0, 0)
    assert read_binary(directory / "000005") == (described, 0, 7, shape, np.full(6, 7, "<f4").tobytes())
    assert read_binary(directory / "000003")[0] == f"var={b} owner_opr_inputs="


@pytest.mark.parametrize("name", sorted(p.name.split(".")[0] for p in DUMPS.glob("*.binary.txt")))
def test_binary_dump_has_the_form_of_the_original(tmp_path, name):
    model = model_of(name)
    network = loaded(model)
    network.io_bin_dump(tmp_path)
    forward(network, model)
    found = []
    for path in sorted(tmp_path.iterdir()):
        described, code, most, shape, data = read_binary(path)
        numbers = f"{path.name} {code} {most} {','.join(map(str, shape))} {len(data)}"
        found.append(f"{numbers} {_STRIDES.sub(lambda m: m[1], described)}")
    assert found == (DUMPS / f"{name}.binary.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("dtype", "code", "item"),
    [
        (FLOAT32, 0, 4),
        (DType(DTypeCode.UINT8), 1, 1),
        (DType(DTypeCode.INT8), 2, 1),
        (DType(DTypeCode.INT16), 3, 2),
        (INT32, 4, 4),
        (DType(DTypeCode.FLOAT16), 9, 2),
        (DType(DTypeCode.BOOL), 12, 1),
        (DType(DTypeCode.QUANTIZED8_ASYMM, 0.5, 3), 100000, 1),
        (DType(DTypeCode.QUANTIZED_S32, 0.5), 100001, 4),
        (DType(DTypeCode.QUANTIZED_S8, 0.5), 100002, 1),
    ],
)
def test_binary_dump_numbers_of_types(tmp_path, dtype, code, item):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3,))], [(2, "y")])
    record.operators.append(operator("TypeCvt", (0,), (1,), DTypeTable(dtype=dtype)))
    record.operators.append(operator("TypeCvt", (1,), (2,), DTypeTable(dtype=FLOAT32)))
    network = loaded(to_bytes(record))
    network.io_bin_dump(tmp_path)
    network.get_io_tensor("x").set_data_by_copy(np.array([0, 1, 2], "float32"))
    network.forward()
    network.wait()
    _, found, _, shape, data = read_binary(tmp_path / "000003")
    assert (found, shape[:2], len(data)) == (code, (3, 0), 3 * item)


def test_binary_dump_of_a_type_without_a_number_is_warned_of_once(tmp_path):
    record = ModelRecord("v2", 101300, [input_operator(0, "x", (3,))], [(2, "y")])
    narrow = DType(DTypeCode.QUANTIZED_S16, 0.5)
    record.operators.append(operator("ImmutableTensor", (), (1,), None, [tensor((3,), narrow, bytes(6))]))
    record.operators.append(operator("TypeCvt", (1,), (2,), DTypeTable(dtype=FLOAT32)))
    network = loaded(to_bytes(record))
    network.io_bin_dump(tmp_path)
    with pytest.warns(LiteWarning, match="no place for variables of type QuantizedS16") as told:
        for _ in range(2):
            network.forward()
            network.wait()
    assert len(told) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["000005"]


def test_last_dump_wins(tmp_path):
    network = loaded(ADD)
    network.io_txt_dump(tmp_path / "first.txt")
    network.io_bin_dump(tmp_path)
    add(network, 1, 2)
    assert (tmp_path / "first.txt").read_text() == ""
    assert (tmp_path / "000005").exists()


def test_dump_that_cannot_be_written(tmp_path):
    network = loaded(ADD)
    with pytest.raises(LiteError):
        network.io_txt_dump(tmp_path / "none" / "io.txt")
    (tmp_path / "file").touch()
    with pytest.raises(LiteError):
        network.io_bin_dump(tmp_path / "file")
    assert add(network, 1, 2).max() == 3
