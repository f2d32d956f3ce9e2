"""Numbers of the command line: whatever is none, or cannot be, is refused with the name of its flag."""

import argparse
from pathlib import Path

import pytest

import megengine_lite
from megengine_lite._cli import number_types
from megengine_lite._core.runtime.devices import get_device
from megengine_lite.cli import COMMANDS, command_parser, main, parse
from megengine_lite.struct import LiteDeviceType

DIGITS = str(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
NUMBERS = ("N", "K", "S", "T", "X", "M", "BYTES", "GB")
"""What stands for a number in the help."""
NONE = ["", " ", "nan", "-inf", "inf", "1e400", "many", "0x10", "1_0", "\u0663", "9" * 5000 + "x"]
TOO_LARGE = ["1" + "0" * 30, "1" + "0" * 5000]
SIGNED = ("image_mean", "image_std")


def options_with_numbers():
    """All options of all commands that take a number, by command and flag."""
    found = {}
    for command in COMMANDS:
        for action in command_parser(command)._actions:
            if action.option_strings and action.metavar in NUMBERS:
                found[command, max(action.option_strings, key=len)] = action
    return found


OPTIONS = options_with_numbers()


def refusal(capsys, command, flag, text):
    with pytest.raises(SystemExit) as end:
        parse([command, DIGITS, f"{flag}={text}"])
    err = capsys.readouterr().err
    assert end.value.code == 2 and flag in err, (text[:40], err)
    message = err.partition("error: ")[2]
    assert len(message) < 200, message
    return message


def test_there_are_such_options():
    assert len(OPTIONS) > 30
    for option in (("bench", "--streams"), ("bench", "--duration"), ("verify", "--tolerance"), ("run", "--range")):
        assert option in OPTIONS


def test_numbers_are_read_by_one_module():
    """A new option with a number has one of its types, and so the tests below."""
    mine = {f for f in vars(number_types).values() if getattr(f, "__module__", "") == number_types.__name__}
    for option, action in OPTIONS.items():
        assert action.type in mine or action.dest in SIGNED, option
    for command in COMMANDS:
        for action in command_parser(command)._actions:
            if action.help != argparse.SUPPRESS:
                assert action.type not in (int, float), (command, action.dest)


@pytest.mark.parametrize("option", OPTIONS, ids=" ".join)
def test_what_is_no_number_is_refused(capsys, option):
    for text in NONE:
        refusal(capsys, *option, text)
    if OPTIONS[option].dest not in SIGNED:
        refusal(capsys, *option, "-1")


@pytest.mark.parametrize("option", [o for o in OPTIONS if OPTIONS[o].type is not number_types.distance], ids=" ".join)
def test_numbers_that_are_too_large_are_refused(capsys, option):
    for text in TOO_LARGE:
        if option[1] in ("--image-mean", "--image-std"):
            text = text + "0" * 10
        refusal(capsys, *option, text)


@pytest.mark.parametrize("option", [o for o in OPTIONS if OPTIONS[o].type is number_types.positive], ids=" ".join)
def test_counts_begin_with_one(capsys, option):
    assert "0 is not positive" in refusal(capsys, *option, "0")
    assert "0 is not positive" in refusal(capsys, *option, "-0")


def test_images_are_not_divided_by_zero(capsys):
    assert "divided by 0" in refusal(capsys, "run", "--image-std", "1,0,1")


@pytest.mark.parametrize(("text", "value"), [("7", 7), ("+7", 7), (" 007 ", 7), ("0" * 5000 + "7", 7)])
def test_whole_numbers_that_are_taken(text, value):
    assert number_types.positive(text) == value


LARGE_INPUTS = {
    "run": ["--input", "{4000000000,1,8,8}"],
    "bench": ["--input-desc", "data:4000000000,1,8,8"],
    "profile": ["--batch-size", "1000000000"],
    "verify": ["--input", "{1,1,8,8}", "--batch-size", "1000000000"],
}


@pytest.mark.parametrize("command", LARGE_INPUTS)
def test_inputs_that_do_not_fit_into_memory_are_refused_before_they_are_made(error_of, command):
    message = error_of(command, DIGITS, *LARGE_INPUTS[command])
    assert "00000000x1x8x8 would have" in message and "give a smaller shape or batch" in message


def test_the_number_of_threads_is_the_one_that_works(run_json, capsys):
    most = get_device(LiteDeviceType.LITE_CPU).most_threads
    words = ["bench", DIGITS, "--iter", "1", "--warmup-iter", "0", "--threads"]
    assert run_json(*words, 1_000_000)["settings"]["threads"] == most
    assert main([*words, "1000000"]) == 0
    out, err = capsys.readouterr()
    assert f"{most} thread(s)" in out
    assert f"warning: 1000000 threads: {most} are used, the most that work on one run" in err
    assert run_json(*words, most)["settings"]["threads"] == most
    assert "warning" not in capsys.readouterr().err


def test_a_second_model_leads_to_the_flag_for_it(error_of):
    for command in ("verify", "report"):
        message = error_of(command, DIGITS, "other.mge", status=2)
        assert "unrecognized arguments: other.mge; to compare with another model" in message
        assert message.rstrip().endswith("--against other.mge")
    assert "--against" not in error_of("info", DIGITS, "other.mge", status=2)
