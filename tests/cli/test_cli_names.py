"""Names that tell a terminal what to do: none of them reaches it, by any command."""

import io
import re
import sys

import numpy as np
import pytest
from support.api_samples import packed
from support.loader_samples import input_operator, operator, to_bytes

from megengine_lite._cli import display
from megengine_lite._core.cpu.algorithms.cache import serialize_cache
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode, Softmax
from megengine_lite.cli import main

EVIL = "n\x1b]0,x\x07\x1b[2J\r\x9b31m\u202eü"


@pytest.fixture
def model(tmp_path):
    """``sum = a + b`` with such names of inputs, operators and outputs."""
    operators = [input_operator(i, side + EVIL) for i, side in enumerate("ab")]
    operators.append(operator("Elemwise", (0, 1), (2,), Elemwise(mode=ElemwiseMode.ADD), name="add" + EVIL))
    path = tmp_path / "model.mge"
    path.write_bytes(to_bytes(ModelRecord("v2", 101300, operators, [(2, "")], {2: "sum" + EVIL})))
    return path


def check(text: str) -> None:
    assert re.findall(r"[^\n\t\x20-\x7e\xa0-\u200d]", text) == []


COMMANDS = {
    "run": ("--input-desc", f"a{EVIL}:2,3;b{EVIL}:2,3", "--model-info", "--io-dump-stdout"),
    "run without inputs": (),
    "run with another input": ("--input", f"c{EVIL}=1"),
    "bench": ("--iter", "1"),
    "profile": ("--iter", "1"),
    "verify": (),
    "fit": ("--threads", "1"),
    "info": ("--layers",),
    "info --shape": ("--shape", f"c{EVIL}=1x2"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.filterwarnings("error:.*")
def test_commands_show_names_escaped(command, model, capsys):
    status = main([command.split()[0], str(model), *COMMANDS[command]])
    out, err = capsys.readouterr()
    check(out)
    check(err)
    assert status == (0 if command.split()[0] == command or command == "run" else 1)
    assert ("\\x1b[2J\\r\\x9b31m\\u202eü" in out + err) == (command != "fit")


def test_names_in_caches_packages_and_errors_are_escaped(tmp_path, capsys):
    cache, package, unknown = tmp_path / "cache", tmp_path / "p.lite", tmp_path / "unknown.mge"
    cache.write_bytes(serialize_cache({EVIL.encode(): {b"k": b"v"}, f"megengine_lite:r1:{EVIL}:b:t1:x".encode(): {}}))
    package.write_bytes(packed(name=EVIL, information={"name": EVIL, "backend": EVIL, "device": {"type": EVIL}}))
    unknown.write_bytes(
        to_bytes(ModelRecord("v2", 101300, [input_operator(0, "a"), operator(EVIL, (0,), (1,))], [(1, "")]))
    )
    for words in (
        ["cache", cache],
        ["info", package],
        ["unpack", package, tmp_path / "out"],
        ["run", package],
        ["info", unknown],
        ["run", unknown],
    ):
        main([*map(str, words)])
        out, err = capsys.readouterr()
        check(out)
        check(err)
        assert len(out + err) > 20


BREAK = "two\nlines\tand"
LINES = {
    "run": ("run", "{model}", "--input-desc", "a{mark}:2,3;b{mark}:2,3", "--calc-output-rms", "--top", "1"),
    "bench": ("bench", "{model}", "--iter", "1", "--report", "{folder}/r{mark}"),
    "bench without a file": ("bench", "{folder}/none{mark}.mge"),
    "profile": ("profile", "{model}", "--iter", "1"),
    "compare": ("profile", "--compare", "{folder}/r{mark}/bench.json", "{folder}/r{mark}/bench.json"),
    "compare as text": ("profile", "--compare", *["{folder}/r{mark}/bench.json"] * 2, "--format", "md"),
    "report": ("report", "{model}", "--iter", "1", "-o", "{folder}/r{mark}.html"),
    "verify": ("verify", "{model}", "--layers"),
    "fit": ("fit", "{model}", "--threads", "1", "--fast-run", "--dump-fitting-model", "{folder}/f{mark}.lite"),
    "info": ("info", "{model}", "--layers", "--graph", "{folder}/g{mark}.svg"),
    "info --shape": ("info", "{model}", "--shape", "c{mark}=1x2"),
    "convert": ("convert", "{model}", "{folder}/c{mark}.onnx"),
    "prepare": ("prepare", "{model}", "-o", "{folder}/p{mark}"),
    "encrypt": ("encrypt", "{model}", "{folder}/e{mark}.mge", "--method", "{mark}"),
    "pack": ("pack", "{model}", "{folder}/p{mark}.lite"),
    "doctor": ("doctor",),
}


@pytest.mark.parametrize("command", LINES)
def test_names_and_paths_of_two_lines_are_shown_in_one(command, tmp_path, capsys, monkeypatch):
    """Each command says as many lines as it does with plain names."""
    said = []
    for mark in ("2", BREAK):
        operators = [input_operator(i, side + mark) for i, side in enumerate("ab")]
        operators.append(operator("Elemwise", (0, 1), (2,), Elemwise(mode=ElemwiseMode.ADD), name="add" + mark))
        path = tmp_path / f"m{mark}.mge"
        path.write_bytes(to_bytes(ModelRecord("v2", 101300, operators, [(2, "")], {2: "sum" + mark})))
        monkeypatch.setenv("OMP_NUM_THREADS", mark)
        if command.startswith("compare"):
            main(["bench", str(path), "--iter", "1", "--report", f"{tmp_path}/r{mark}"])
        capsys.readouterr()
        status = main([w.format(model=path, folder=tmp_path, mark=mark) for w in LINES[command]])
        said.append((status, [len(text.splitlines()) for text in capsys.readouterr()]))
    assert said[0] == said[1] and sum(said[0][1])


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_what_a_terminal_has_no_letter_for_is_escaped(encoding, model, monkeypatch):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    assert main(["info", str(model)]) == 0
    sys.stdout.flush()
    assert ("ü" if encoding != "ascii" else "\\xfc").encode(encoding) in raw.getvalue()
    assert b"\x1b" not in raw.getvalue()


def test_outputs_are_written_by_such_names(model, run_json, tmp_path):
    run_json("run", model, "--input-desc", f"a{EVIL}:2,3;b{EVIL}:2,3", "--output", tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        assert len(file.files) == 1 and file[file.files[0]].shape == (2, 3)


@pytest.mark.parametrize("words", [["run", "a.mge", f"--{EVIL}flag"], ["run", "a.mge", EVIL], [f"r{EVIL}"]])
def test_words_of_the_command_line_are_escaped_in_messages(words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    said = capsys.readouterr().err
    assert EVIL not in said and "\\x1b" in said


def test_words_of_two_lines_take_one_in_messages(capsys):
    for mark in ("x", BREAK):
        with pytest.raises(SystemExit):
            main(["info", "a.mge", f"--{mark}flag"])
        assert len(capsys.readouterr().err.splitlines()) == 2


def test_columns_are_as_wide_as_names_are_shown():
    name = "a\x1b[31m\nb"
    shown = r"a\x1b[31m\nb"
    lines = display.table([[name, 1], ["c", 2]], ("name", "count")).splitlines()
    assert lines == [
        f"{'name':{len(shown)}}  count",
        f"{'-' * len(shown)}  -----",
        f"{shown}  1",
        f"{'c':{len(shown)}}  2",
    ]


LONG = "begin" + "x" * 3000 + "end"


@pytest.fixture
def long_name(tmp_path):
    """A chain of three operators, of which the one in the middle has a name of thousands of characters."""
    operators = [input_operator(0, "a")]
    for k, name in enumerate(("short", LONG, "last")):
        operators.append(operator("Softmax", (k,), (k + 1,), Softmax(axis=0), name=name))
    path = tmp_path / "model.mge"
    path.write_bytes(to_bytes(ModelRecord("v2", 101300, operators, [(3, "")], {1: "short", 2: LONG, 3: "y"})))
    return path


TABLES = {
    "info": ("--layers",),
    "verify": ("--layers", "--other=--option graph_opt_level=0"),
    "profile": ("--iter", "1", "--option", "graph_opt_level=0"),
    "run": ("--input", "a=[1]", "--model-info"),
    "bench": ("--iter", "1"),
}


@pytest.mark.parametrize("command", TABLES)
def test_one_long_name_does_not_make_all_lines_long(command, long_name, run_json, capsys):
    words = [command, str(long_name), *TABLES[command]]
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if LONG not in line) < 300
    if command in ("info", "verify"):
        assert LONG not in "".join(lines)
        (row,) = (line for line in lines if "beginx" in line)
        assert re.search(r" beginx+\.\.\.x+end ", row)
        assert LONG in str(run_json(*words))


def test_names_at_the_end_of_a_table_stay_whole():
    rows = [(1, "short"), (2, LONG), (LONG, "short")]
    lines = display.table(rows, ("", "name")).splitlines()
    assert lines[3].endswith(LONG) and [len(lines[k]) for k in (1, 2, 4)] == [162, 87, 87]
