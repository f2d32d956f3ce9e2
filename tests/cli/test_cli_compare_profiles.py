"""The command profile with --compare."""

import json

import pytest
from support.api_samples import DIGITS

from megengine_lite import LiteNetwork
from megengine_lite._cli.compare_profiles import _TAKEN, execute
from megengine_lite._cli.gflags import UsageError
from megengine_lite.cli import command_parser, main, parse

FEW = ("--batch-size", 2)


def profile_of(path, *steps: tuple[str, str, str, object]) -> str:
    names = ("operator", "name", "algorithm", "ms")
    path.write_text(json.dumps({"steps": [dict(zip(names, step, strict=True)) for step in steps]}))
    return str(path)


@pytest.fixture
def files(tmp_path):
    return (
        profile_of(tmp_path / "a.json", ("Conv", "c1", "direct", 2.0), ("Softmax", "s", "softmax_f32", 0.5)),
        profile_of(tmp_path / "b.json", ("Conv", "c1", "winograd", 1.0), ("Relayout", "r", "plain", 0.25)),
    )


TABLE = """\
a.json 2.500 ms, b.json 1.250 ms, 0.500 times as long
operators: 0 slower, 1 faster, 0 same, 1 only in the first, 1 only in the second

ms, a.json  ms, b.json  difference  ratio  change              operator  algorithm           name
----------  ----------  ----------  -----  ------------------  --------  ------------------  ----
    2.0000      1.0000     -1.0000   0.50  faster              Conv      direct -> winograd  c1
    0.5000                 -0.5000         only in the first   Softmax   softmax_f32         s
                0.2500     +0.2500         only in the second  Relayout  plain               r
"""


def test_a_table_shows_what_has_changed(files, capsys, monkeypatch):
    monkeypatch.setattr(LiteNetwork, "load", lambda *_: pytest.fail("a model is loaded"))
    assert main(["profile", "--compare", *files]) == 0
    assert capsys.readouterr().out == TABLE


def test_markdown_and_json_are_other_forms(files, capsys, run_json):
    assert main(["profile", "--compare", *files, "--format", "md"]) == 0
    out = capsys.readouterr().out
    assert "| faster | Conv | direct -> winograd | c1 | 2.0000 | 1.0000 | -1.0000 | 0.50 |" in out
    assert "| change | operator | algorithm | name | ms, a.json | ms, b.json | difference | ratio |" in out
    assert main(["profile", "--compare", *files, "--format", "json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == run_json("profile", "--compare", *files)
    assert (printed["names"], printed["ms"]) == (["a.json", "b.json"], [2.5, 1.25])
    assert printed["operators"][0]["algorithms"] == ["direct", "winograd"]


def test_all_files_with_profiles_are_taken(run_json, tmp_path):
    given = [tmp_path / "p.json", tmp_path / "trace.json", tmp_path / "report" / "bench.json"]
    result = run_json("profile", DIGITS, "--iter", 2, *FEW, "--output", given[1])
    given[0].write_text(json.dumps(result))
    run_json("bench", DIGITS, "--iter", 1, *FEW, "--report", tmp_path / "report")
    names = list(dict.fromkeys((s["operator"], s["name"]) for s in result["steps"]))  # an operator may have several
    for other in given[1:]:
        found = run_json("profile", "--compare", given[0], other)
        assert sorted((row["operator"], row["name"]) for row in found["operators"]) == sorted(names)
        assert found["counts"]["only in the first"] == found["counts"]["only in the second"] == 0
    same = run_json("profile", "--compare", given[0], given[0])
    assert same["counts"]["same"] == len(names) and same["names"] == [str(given[0])] * 2
    assert all(row["ms"][0] == row["ms"][1] for row in same["operators"])


EVIL = "<script>\x1b[2J|x\n"


def test_names_are_only_text(tmp_path, capsys):
    a = profile_of(tmp_path / "a.json", (EVIL, EVIL, EVIL, 1.0))
    for form, shown in (([], "<script>\\x1b[2J|x\\n"), (["--format=md"], "\\<script>\\x1b[2J\\|x")):
        assert main(["profile", "--compare", a, a, *form]) == 0
        out = capsys.readouterr().out
        assert "\x1b" not in out
        lines = [line for line in out.splitlines() if "script" in line]
        assert len(lines) == 1 and lines[0].count(shown) == 3


WRONG = [
    {"steps": [("Conv", "c", "direct", "1")]}, {"steps": [("Conv", "c", "direct", float("nan"))]},
    {"steps": [("Conv", "c", "direct", -1)]}, {"steps": [("Conv", "c", "direct", True)]},
    {"steps": [("Conv", "c", "direct", 10**400)]}, {"steps": [(1, "c", "direct", 1)]},
    {"steps": [("Conv", None, "", 1)]},
]  # fmt: skip


@pytest.mark.parametrize("content", WRONG, ids=str)
def test_wrong_steps_are_an_error(files, error_of, tmp_path, content):
    path = profile_of(tmp_path / "c.json", *content["steps"])
    assert f"{path} is no profile that can be compared" in error_of("profile", "--compare", files[0], path)


@pytest.mark.parametrize(
    "text",
    ["[]", "3", '"steps"', "{}", '{"steps": 3}', '{"steps": [3]}', '{"traceEvents": [{}]}', '{"graph_exec": {}}',
     '{"steps": [{"operator": "a", "name": "b", "algorithm": "c", "ms": 1, "times_ms": "12"}]}'],
)  # fmt: skip
def test_other_files_are_an_error_that_says_what_to_do(files, error_of, tmp_path, text):
    (tmp_path / "c.json").write_text(text)
    message = error_of("profile", "--compare", files[0], tmp_path / "c.json")
    assert "c.json is no profile that can be compared: megengine-lite profile MODEL --json" in message


def test_flags_of_a_run_are_refused_as_nothing_runs(files, error_of, tmp_path):
    out = tmp_path / "out"
    words = ("--output", out, "--form", "megengine", "--iter", 3, "--threads=2", "--image-mean=1,2,3", "--fast-run")
    message = error_of("profile", "--compare", *files, *words, "--dump-config", out, status=2)
    leave_out = "--image-mean, --dump-config, --iter, --output, --form\n"
    assert message.startswith("megengine-lite: error: --compare reads two profiles and runs nothing: leave out ")
    assert "--threads, --fast-run," in message and message.endswith(leave_out)
    assert not out.exists()


@pytest.mark.parametrize("dest", sorted({a.dest for a in command_parser("profile")._actions} - {*_TAKEN, "help"}))
def test_no_flag_is_without_effect_beside_a_comparison(files, dest):
    args = parse(["profile", "--compare", *files])
    assert execute(args)
    setattr(args, dest, "anything")
    with pytest.raises(UsageError, match="leave out "):
        execute(args)


def test_wrong_usage(files, error_of):
    assert "--form is for --output FILE" in error_of("profile", DIGITS, "--form", "megengine", status=2)
    assert "leave out m.mge" in error_of("profile", "m.mge", "--compare", *files, status=2)
    assert "expected 2 arguments" in error_of("profile", "--compare", files[0], status=2)
    assert "--format is for --compare" in error_of("profile", DIGITS, "--format", "md", status=2)
    assert "there is no file" in error_of("profile", "--compare", files[0], "none.json")
    assert "it is no JSON" in error_of("profile", "--compare", files[0], DIGITS)
    assert "MODEL" in error_of("profile", status=2)
