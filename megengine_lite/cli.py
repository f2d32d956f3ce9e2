"""The command line: ``megengine-lite COMMAND ...`` or ``python -m megengine_lite COMMAND ...``.

See docs/command-line.md. Commands are modules of :mod:`megengine_lite._cli`: ``USAGE`` and ``add`` declare the
arguments, ``execute`` does the work and gives a result of plain types, ``show`` prints it for people.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import os
import re
import sys
import warnings
from collections.abc import Sequence
from typing import Any, NoReturn, TextIO

from megengine_lite._cli import config_files, json_files, progress
from megengine_lite._cli.gflags import HelpMatch, UsageError, add_switch, expand, matching_help, normalize, switches
from megengine_lite._core.system.suggest import suggestion
from megengine_lite._interrupts import INTERRUPTED, raise_from_now_on
from megengine_lite.errors import LiteError, printable

# Summaries are here so that they can be shown without importing the commands.
COMMANDS = {
    "run": "Run a model on given inputs, show its outputs and how long each run took.",
    "info": "Show what is in a model: inputs, outputs, operators, parameters, multiply-adds, and what cannot run.",
    "bench": "Measure a model: load time, first run, latency, GFLOP/s and peak memory.",
    "fit": "Find the flags by which a model runs fastest on this machine.",
    "profile": "Show how long each step of a run takes, by which algorithm and at what speed.",
    "report": "Report on a model: graph, time, roofline, memory, weights; a page for browsers, text, or JSON.",
    "verify": "Compare the outputs of a model with stored ones, or with those of another run.",
    "encrypt": "Encrypt a model.",
    "decrypt": "Decrypt a model. For packages there is the command unpack.",
    "pack": "Put a model, settings and a cache into one package (.lite).",
    "unpack": "Take a package (.lite) apart: the model, decrypted, its settings and its caches.",
    "prepare": "Write a prepared file, from which a process starts a model without planning and packing.",
    "convert": "Write a model of any container as a plain file of the second generation, or as ONNX.",
    "cache": "Show what is in a cache of measured algorithms (of --fast-run), or remove what this version cannot use.",
    "doctor": "Show what this machine is and has, test the kernels, and say what is worth changing.",
    "completion": "Print a script that completes commands and flags in a shell: bash, zsh or fish.",
    "demo": "Classify handwritten digits with the small model that comes with the package.",
}

USAGE_ERROR = 2

# Commands that --fitting turns into the command fit.
_CAN_FIT = ("run", "bench")


class _Parser(argparse.ArgumentParser):
    """A parser whose error messages suggest what may have been meant."""

    def error(self, message: str) -> NoReturn:
        hints = []
        if message.startswith("unrecognized arguments:"):
            shown = [action for action in self._actions if action.help != argparse.SUPPRESS]
            flags = [flag for action in shown for flag in action.option_strings]
            words = [word.partition("=")[0] for word in message.split() if word.startswith("--")]
            hints = [suggestion(words, flags)]
            more = [word for word in message.split()[2:] if not word.startswith("-")]
            if more and "--against" in flags:
                hints = [f"to compare with another model or with stored values: --against {more[0]}", *hints]
        choice = re.search(r"argument COMMAND: invalid choice: '(.*?)' \(", message)
        if choice is not None:
            message = message.partition(" (choose")[0]
            hints = [suggestion(choice[1], COMMANDS)]
            if not hints[0] and os.path.isfile(choice[1]):
                hints = [f"to run a model: {self.prog} run {choice[1]}"]
            elif not hints[0]:
                hints = [f"there are {', '.join(COMMANDS)}"]
        super().error(printable("; ".join([message, *filter(None, hints)]).replace("\n", "\\n")))


class _HelpMatchAll(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        found = [text for text in (matching_help(command_parser(name), values) for name in COMMANDS) if text]
        print("\n\n".join(found) or f"no command has a flag with {values!r} in its name or description")
        parser.exit()


def _add_version(parser: argparse.ArgumentParser) -> None:
    from megengine_lite import __version__

    parser.add_argument("--version", action="version", version=f"megengine_lite {__version__}")


def build_parser() -> argparse.ArgumentParser:
    """The parser of everything before the command; it knows only the names of commands."""
    parser = _Parser(prog="megengine-lite", description="Runs models of MegEngine and ONNX on CPUs.")
    _add_version(parser)
    parser.add_argument("--helpmatch", action=_HelpMatchAll, metavar="WORD", help="show the flags with a word in them")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def command_parser(name: str) -> argparse.ArgumentParser:
    """The parser of one command."""
    module = importlib.import_module(f"megengine_lite._cli.{name}")
    prog = f"megengine-lite {name}"
    parser = _Parser(prog=prog, usage=f"{prog} {module.USAGE}", description=module.__doc__, allow_abbrev=False)
    _add_version(parser)
    parser.add_argument("--helpmatch", action=HelpMatch, metavar="WORD", help="show the flags with a word in them")
    module.add(parser)
    add_switch(parser, "json", "print the result as JSON")
    add_switch(parser, "verbose", "log to stderr; show where an error comes from")
    parser.set_defaults(module=module)
    return parser


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command line, and the command's ``module``.

    Raises
    ------
    SystemExit
        The command line is wrong, or asks for help.
    UsageError
        A file or a variable that it refers to does not exist.
    LiteError
        A file of options cannot be used, see :func:`config_files.parse`.
    """
    words = expand(words)
    place = next((k for k, word in enumerate(words) if not word.startswith("-")), None)
    if place is None or words[place] not in COMMANDS:
        if not words:
            build_parser().print_help(sys.stderr)
            sys.exit(USAGE_ERROR)
        later = next((word for word in words if word in COMMANDS), None)
        if place and later is not None:
            raise UsageError(f"flags with a value come after the command: megengine-lite {later} ...")
        build_parser().parse_args(words)
    assert place is not None
    name, words = words[place], [*words[:place], *words[place + 1 :]]
    parser = command_parser(name)
    words = normalize(words, switches(parser))
    if name in _CAN_FIT and "--fitting" in words:
        words = [word for word in words if word != "--fitting"]
        name, parser = "fit", command_parser("fit")
        words = normalize(words, switches(parser))
    return config_files.parse(
        parser,
        words,
        name,
        lambda other: command_parser(other) if isinstance(other, str) and other in COMMANDS else None,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit status: 0 done, 1 an error (told on stderr) or a comparison that failed, 2 wrong usage, 130 interrupted.
    """
    sys.stdout = sys.stdout or io.StringIO()  # a parent may have closed them
    sys.stderr = sys.stderr or io.StringIO()
    try:
        raise_from_now_on()
        return _main(sys.argv[1:] if argv is None else argv)
    except KeyboardInterrupt:
        return INTERRUPTED


def _main(words: Sequence[str]) -> int:
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            args = parse(words)
        except UsageError as error:
            return _complain(error, USAGE_ERROR)
        except LiteError as error:
            return _complain(error, 1)
        if args.verbose:
            from megengine_lite import LiteLogLevel, set_log_level

            set_log_level(LiteLogLevel.DEBUG)
        progress.enable(not args.json)
        with contextlib.redirect_stdout(_Printable(sys.stdout)):
            return _run(args)


class _Printable(io.TextIOBase):
    """A stream that escapes characters that a terminal would obey or cannot show: names come from files."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, text: str) -> int:
        encoding = self._stream.encoding or "utf-8"
        self._stream.write(printable(text).encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()


def _run(args: argparse.Namespace) -> int:
    try:
        result = args.module.execute(args)
        if args.json:
            print(json_files.to_text(result))
        else:
            args.module.show(result)
        sys.stdout.flush()
    except UsageError as error:
        return _complain(error, USAGE_ERROR)
    except (LiteError, OSError, MemoryError, ImportError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if args.verbose:
            raise
        return _complain(error, 1)
    return int(result.get("failed", False))


def _complain(error: BaseException, status: int) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:  # without its number
        name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes | os.PathLike) else ""
        text = error.strerror if name in error.strerror else f"{name}: {error.strerror}"
    text = " ".join(text.split()) or type(error).__name__
    print(f"megengine-lite: error: {text}", file=_Printable(sys.stderr))
    return status


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"megengine-lite: warning: {message}", file=_Printable(sys.stderr))
