"""All options of a run in a file: --dump-config and --load-config."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
from support.api_samples import DIGITS

from megengine_lite import LiteNetwork, LiteWarning
from megengine_lite._cli.config_files import _shown
from megengine_lite.cli import command_parser, main, parse
from megengine_lite.errors import LiteOSError, LiteTypeError, LiteValueError

COMMANDS = ("run", "bench", "fit", "profile", "report", "verify")
FEW = ("--iter", 2, "--warmup-iter", 0, "--batch-size", 2)


def options_of(path) -> dict:
    return json.loads(path.read_text())["options"]


def file_of(path, **options) -> str:
    path.write_text(json.dumps({"command": "bench", "options": options}))
    return str(path)


# ---- there and back -------------------------------------------------------------------------------------------------

GIVEN = {
    "run": ["--io-dump-stderr", "--io-dump=dump file", "--range", "1e9", "--top=3", "--noreproducible", "--key=env:K"],
    "bench": ["--streams=2", "--duration", "0.25", "--isa=base", "--fast_run", "--image-mean", "0.1,2,-3"],
    "fit": ["--dump-fitting-model=a b.lite", "--threads=2", "--option", "jit_level=1", "--option=weight_preprocess=1"],
    "profile": ["--form=megengine", "--record-comp-seq=false", "--input=data=[[1.5]]", "--seed=7"],
    "report": ["-o", "r.html", "--tolerance=0.5", "--other=--isa base --threads 2", "--workspace-limit=0"],
    "verify": ["--layers", "--against=x.mge", "--nono-sanity-check", "--fast-run-shared-batch-size=4"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_all_options_go_there_and_back(command, tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    written = parse([command, str(DIGITS), *GIVEN[command], f"--dump-config={first}"])
    read = parse([command, f"--load-config={first}", f"--dump-config={second}"])
    content = json.loads(first.read_text())
    assert content["command"] == command and content == json.loads(second.read_text())
    assert set(content["options"]) == set(_shown(command_parser(command)))
    a, b = ({k: v for k, v in vars(args).items() if not k.endswith("_config")} for args in (written, read))
    assert a.pop("dumps", [])[-1:] == b.pop("dumps", [])
    for name in ("image_mean", "image_std"):
        np.testing.assert_array_equal(a.pop(name), b.pop(name))
    assert a == b


def test_values_are_those_of_the_command_line(tmp_path):
    path = tmp_path / "c.json"
    parse(["run", str(DIGITS), *GIVEN["run"], f"--dump-config={path}"])
    options = options_of(path)
    assert options["model"] == str(DIGITS)
    assert (options["io-dump"], options["io-dump-stderr"]) == ("dump file", None)
    assert (options["range"], options["top"], options["reproducible"], options["key"]) == (1e9, 3, False, "env:K")
    parse(["bench", str(DIGITS), *GIVEN["bench"], f"--dump-config={path}"])
    options = options_of(path)
    assert (options["streams"], options["seconds"], options["isa"], options["fast-run"]) == (2, 0.25, "base", True)
    assert np.allclose(options["image-mean"], [0.1, 2, -3])


def test_a_run_by_a_file_is_the_same_run(run_json, tmp_path):
    given = ("--threads", 2, "--isa", "base", "--option", "jit_level=1", *FEW)
    first = run_json("bench", DIGITS, *given, "--dump-config", tmp_path / "c.json")
    again = run_json("bench", "--load-config", tmp_path / "c.json")
    for key in ("model", "settings", "instruction_set", "inputs"):
        assert first[key] == again[key]
    assert again["settings"]["threads"] == 2 and again["time_ms"]["runs"] == 2


def test_the_command_line_goes_before_the_file(tmp_path):
    path = file_of(
        tmp_path / "c.json", model="other.mge", threads=4, multithread_default=4, reproducible=True, input=["a=b"]
    )
    args = parse(["bench", "m.mge", "--multithread=2", "--noreproducible", "--input", "c=d", "--load-config", path])
    assert (args.model, args.threads, args.multithread_default) == ("m.mge", 2, None)
    assert (args.reproducible, args.input) == (False, ["c=d"])
    args = parse(["bench", f"-load_config={path}"])
    assert (args.model, args.threads, args.reproducible, args.input) == ("other.mge", 4, True, ["a=b"])


# Flags that decide the same: the one in the file, and the one of the command line that takes its place.
CHOICES = [
    ["--iter=2", "--seconds=0.5", "--duration=0.5"],
    ["--thread=2", "--streams=3"],
    ["--threads=2", "--multithread=2", "--multithread-default=3"],
    ["--fast-run", "--full-run"],
    ["--lite", "--mdl"],
    ["--record-comp-seq", "--record-comp-seq2"],
    ["--input=data={2,1,8,8}", "--load-input-data=data={2,1,8,8}", "--input-desc=data:3,1,8,8", "--rng=data:rand({})"],
]
PAIRS = [(a, b) for flags in CHOICES for a in flags for b in flags if a != b]


@pytest.mark.parametrize(("in_file", "given"), PAIRS)
def test_what_decides_the_same_on_the_command_line_goes_before_the_file(in_file, given, tmp_path):
    parse(["bench", str(DIGITS), in_file, f"--dump-config={tmp_path / 'c.json'}"])
    found = vars(parse(["bench", f"--load-config={tmp_path / 'c.json'}", given]))
    expected = vars(parse(["bench", str(DIGITS), given]))
    differ = {name for name in expected if not np.array_equal(found[name], expected[name])}
    assert differ == {"load_config"}


def test_flags_that_exclude_each_other_are_a_choice(error_of):
    """Whatever is refused together on one command line would be refused by a file and the command line."""
    known = command_parser("bench")._option_string_actions
    for flags in CHOICES[1:5]:
        dests = {known[flag.partition("=")[0]].dest: flag for flag in flags}
        assert "--" in error_of("bench", DIGITS, *dests.values(), status=2)


@pytest.mark.parametrize("form", ["md", "json"])
def test_the_form_in_a_file_is_that_of_its_own_output(form, tmp_path):
    path = tmp_path / "c.json"
    parse(["report", str(DIGITS), f"--format={form}", f"--dump-config={path}"])
    assert parse(["report", f"--load-config={path}"]).format == form
    assert parse(["report", f"--load-config={path}", "-o", "r.html"]).format is None
    args = parse(["report", f"--load-config={path}", "--output=r", "--format=html"])
    assert (args.output, args.format) == ("r", "html")


def test_a_file_of_some_options_is_enough(tmp_path):
    path = file_of(tmp_path / "c.json", duration=1, const_shape=None, **{"const-shape": True, "multithread": 3})
    args = parse(["bench", "m.mge", "--load-config", path])
    assert (args.seconds, args.const_shape, args.threads) == (1.0, True, 3)


def test_without_a_model_anywhere_usage_is_wrong(error_of, tmp_path):
    path = file_of(tmp_path / "c.json", threads=2)
    assert "arguments are required: MODEL" in error_of("bench", "--load-config", path, status=2)
    assert "--load-config: expected one argument" in error_of("bench", "m", "--load-config", status=2)


def test_fit_instead_of_bench_has_the_options_of_fit(tmp_path):
    parse(["bench", "m.mge", "--fitting", f"--dump-config={tmp_path / 'c.json'}"])
    assert json.loads((tmp_path / "c.json").read_text())["command"] == "fit"
    assert "fitting" not in options_of(tmp_path / "c.json")


# ---- what is wrong --------------------------------------------------------------------------------------------------

WRONG_VALUES = [
    ("threads", "4", LiteTypeError, "'threads' is a whole number, not '4'"),
    ("threads", 4.0, LiteTypeError, "'threads' is a whole number, not 4.0"),
    ("threads", True, LiteTypeError, "'threads' is a whole number, not True"),
    ("threads", 0, LiteValueError, "'threads' cannot be 0: 0 is not positive"),
    ("warmup_iter", -1, LiteValueError, "'warmup_iter' cannot be -1: -1 is negative"),
    ("seconds", "long", LiteTypeError, "'seconds' is a number, not 'long'"),
    ("seconds", float("nan"), LiteValueError, "'seconds' cannot be nan"),
    ("reproducible", 1, LiteTypeError, "'reproducible' is true or false, not 1"),
    ("isa", 2, LiteTypeError, "'isa' is text, not 2"),
    ("isa", ["avx2"], LiteTypeError, "'isa' is text, not ['avx2']"),
    ("model", 3, LiteTypeError, "'model' is text, not 3"),
    ("input", "a=b", LiteTypeError, "'input' is a list of texts, not 'a=b'"),
    ("input", [1], LiteTypeError, "'input' is a list of texts, not [1]"),
    ("image-mean", 0.5, LiteTypeError, "'image-mean' is a list of numbers, not 0.5"),
    ("image-mean", ["1"], LiteTypeError, "'image-mean' is a list of numbers, not ['1']"),
    ("image-mean", [1, 2], LiteValueError, "neither one number nor three"),
    ("image-order", "grb", LiteValueError, "'image-order' is one of bgr, rgb, not 'grb'"),
    ("layout-transform", "cuda", LiteValueError, "there is no device 'cuda'"),
    ("option", {"jit_level": 1}, LiteTypeError, "'option' is a list of texts, not {'jit_level': 1}"),
]


@pytest.mark.parametrize(("key", "value", "kind", "text"), WRONG_VALUES, ids=lambda v: str(v)[:20])
def test_wrong_values_are_typed_errors(tmp_path, key, value, kind, text):
    path = file_of(tmp_path / "c.json", **{key: value})
    with pytest.raises(kind) as error:
        parse(["bench", "m.mge", "--load-config", path])
    assert text in str(error.value) and path in str(error.value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("thread_s", "did you mean 'threads'?"),
        ("frobnicate", "bench --help lists them"),
        ("cuda", "bench has no option 'cuda'"),
        ("no-reproducible", "bench has no option 'no-reproducible'"),
        ("fitting", "bench has no option 'fitting'"),
        ("load-config", "bench has no option 'load-config'"),
        ("help", "bench has no option 'help'"),
        ("\x1b[2J", r"no option '\x1b[2J'"),
        ("", "bench has no option ''"),
    ],
)
def test_unknown_options_are_typed_errors(tmp_path, key, text):
    with pytest.raises(LiteValueError) as error:
        parse(["bench", "m.mge", "--load-config", file_of(tmp_path / "c.json", **{key: None})])
    assert text in str(error.value)


def test_options_of_another_command_say_so(tmp_path):
    with pytest.raises(LiteValueError, match="run has no option 'stream'; the file has the options of 'bench'"):
        parse(["run", "m.mge", "--load-config", file_of(tmp_path / "c.json", stream=2)])
    assert parse(["run", "m.mge", "--load-config", file_of(tmp_path / "c.json", iter=2)]).iter == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("\x80", "it is no JSON"),
        ("[]", "is expected"),
        ('{"options": []}', "is expected"),
        ('{"threads": 3}', "is expected"),
        ('{"options": {}, "threads": 3}', "has 'threads' beside"),
        ('{"options": {"threads": 1, "iter": 3, "threads": 2}}', "has 'threads' twice"),
        ('{"options": {"iter": 3}, "options": {"iter": 4}}', "has 'options' twice"),
        ('{"options": {"fast-run": true, "fast_run": false}}', "'fast-run' and 'fast_run' are the same option"),
        ('{"command": "nope", "options": {}}', "has the options of 'nope', and there is no such command"),
        ('{"command": 7, "options": {}}', "has the options of 7, and there is no such command"),
        ('{"options": {"seconds": 1, "duration": 2}}', "'seconds' and 'duration' are the same option"),
    ],
)
def test_other_files_are_typed_errors(tmp_path, text, says):
    (tmp_path / "c.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(LiteValueError) as error:
        parse(["bench", "m.mge", f"--load-config={tmp_path / 'c.json'}"])
    assert says in str(error.value)


def test_files_that_are_not_there_are_typed_errors(tmp_path):
    with pytest.raises(LiteOSError, match="there is no file"):
        parse(["bench", "m.mge", f"--load-config={tmp_path / 'none'}"])
    with pytest.raises(LiteOSError, match="cannot be written"):
        parse(["bench", "m.mge", f"--dump-config={tmp_path / 'no' / 'c.json'}"])


def test_errors_take_one_line_before_anything_is_loaded(error_of, tmp_path, monkeypatch):
    monkeypatch.setattr(LiteNetwork, "load", lambda *_: pytest.fail("the model is loaded"))
    message = error_of("bench", DIGITS, "--load-config", file_of(tmp_path / "c.json", threads="4"))
    assert message.startswith("megengine-lite: error: ") and message.count("\n") == 1
    with pytest.raises(LiteValueError, match="is the file that is read"):
        parse(["bench", str(DIGITS), f"--dump-config={DIGITS}"])


@pytest.mark.parametrize("flag", ["--key", "--model-key", "--info-key"])
def test_keys_are_not_written(error_of, tmp_path, flag):
    path = tmp_path / "c.json"
    message = error_of("run", DIGITS, flag, "00ff" * 8, "--dump-config", path, status=2)
    assert "00ff" not in message and f"give that in {flag} as env:NAME or @FILE" in message
    assert not path.exists()
    parse(["run", str(DIGITS), flag, "@key file", f"--dump-config={path}"])
    assert options_of(path)[flag[2:]] == "@key file"


@pytest.mark.parametrize("form", ["--key 00ff", "-key=00ff", "--isa base --key  00ff --threads 2"])
def test_keys_of_the_other_run_are_not_written(error_of, tmp_path, form):
    path = tmp_path / "c.json"
    message = error_of("verify", DIGITS, f"--other={form}", "--dump-config", path, status=2)
    assert "00ff" not in message and "in --other as env:NAME" in message and not path.exists()
    parse(["verify", str(DIGITS), "--other=--key env:K --threads 2", f"--dump-config={path}"])
    assert options_of(path)["other"] == "--key env:K --threads 2"


def test_help_and_completion_know_the_flags(capsys, run_json):
    assert "--load-config" in run_json("completion", "bash")["script"]
    with pytest.raises(SystemExit):
        main(["bench", "--helpmatch", "config"])
    out = capsys.readouterr().out
    assert "--load-config FILE" in out and "--dump-config FILE" in out


# ---- files of another command ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_files_of_all_others(command, tmp_path):
    """Options that both have mean the same; of the others one line tells, if they are set."""
    for other in COMMANDS:
        path = tmp_path / f"{other}.json"
        words = [other, str(DIGITS), "--threads", "2", "--narrow-double", "--seed", "7", "--dump-config", str(path)]
        parse(words)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            args = parse([command, "--load-config", str(path)])
        assert (args.model, args.threads, args.narrow_double, args.seed) == (str(DIGITS), 2, True, 7), other
        assert args.module.__name__.endswith(command)


def test_options_that_another_command_does_not_have_are_told(tmp_path):
    path = tmp_path / "bench.json"
    parse(["bench", str(DIGITS), "--iter", "7", "--seconds", "1", "--json", "--dump-config", str(path)])
    with pytest.warns(LiteWarning, match=r"has options of 'bench'; report does not take seconds from it"):
        args = parse(["report", "--load-config", str(path)])
    assert args.json and args.iter == 7
    parse(["run", str(DIGITS), "--output", "values.npz", "--dump-config", str(path)])
    with pytest.warns(LiteWarning, match="report does not take output from it"):  # that would overwrite them
        assert parse(["report", "--load-config", str(path)]).output is None
    content = json.loads(path.read_text())
    for command, key in (("run", "nonsense"), ("doctor", "seconds")):
        path.write_text(json.dumps({"command": command, "options": {**content["options"], key: 1}}))
        with pytest.raises(LiteValueError, match="report has no option '"):
            parse(["report", "--load-config", str(path)])


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["bench", "m.mge", "--report", ""], "--report"),
        (["bench", "m.mge", "--report="], "--report"),
        (["report", "m.mge", "-o", ""], "--output"),
        (["profile", "m.mge", "--output="], "--output"),
        (["run", "m.mge", "--output="], "--output"),
        (["verify", "m.mge", "--against="], "--against"),
        (["bench", "m.mge", "--dump-config="], "--dump-config"),
        (["bench", "m.mge", "--load-config="], "--load-config"),
        (["bench", "m.mge", "--prepared="], "--prepared"),
        (["info", "m.mge", "--graph="], "--graph"),
        (["unpack", "m.lite", ""], "DIR"),
        (["convert", "m.mge", ""], "OUT"),
        (["run", ""], "MODEL"),
    ],
)
def test_names_of_files_are_not_empty(error_of, words, flag):
    message = error_of(*words, status=2)
    assert f"{flag} needs the name of a" in message and "it is empty" in message
