"""All options of a run in a file: ``--dump-config`` and ``--load-config``.

The file has the options by the names of their flags::

    {"command": "bench", "options": {"model": "model.mge", "threads": 4, "reproducible": true, ...}}

Reading turns them into words of a command line, which stand before those of the real one. ``null`` stands for an option
that is not given. Of the file of another command those options are taken that are the same in both.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from megengine_lite._cli import json_files
from megengine_lite._cli.gflags import UsageError, with_names
from megengine_lite._cli.keys import KEY_HELP, is_secret
from megengine_lite._core.system.suggest import suggestion
from megengine_lite.errors import LiteTypeError, LiteValueError, brief
from megengine_lite.log import warn

_LOAD = "--load-config"
# What is no option of the run itself.
_LEFT_OUT = ("help", "version", "helpmatch", "load-config", "dump-config", "fitting", "compare")
# One of these on the command line takes the place of all others in a file, because they decide the same.
_CHOICES = (
    ("iter", "seconds"),
    ("streams", "thread"),
    ("multithread-default", "threads"),
    ("fast-run", "full-run"),
    ("lite", "mdl"),
    ("record-comp-seq", "record-comp-seq2"),
    ("input", "input-desc", "rng"),
)
# An option of a file that is only for another one of it.
_BELONGS_TO = {"format": "output"}
# A key in the flags of another run.
_SECRET = re.compile(r"--?key[=\s]\s*(?!env:|@)")
# Kinds of values, by the result of the function that reads an option's text.
_KINDS: dict[str, tuple[str, tuple[type, ...]]] = {
    "str": ("text", (str,)),
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "np.ndarray": ("a list of numbers", (list,)),
}


def add_config_flags(parser: argparse.ArgumentParser) -> None:
    """Declares the flags; :func:`parse` obeys them."""
    group = parser.add_argument_group("options in files")
    group.add_argument(
        _LOAD,
        metavar="FILE",
        help="take options from a file as --dump-config writes it; the command line overrides",
    )
    group.add_argument("--dump-config", metavar="FILE", help="write all options of this run, as JSON")


def parse(
    parser: argparse.ArgumentParser,
    words: Sequence[str],
    command: str,
    parser_of: Callable[[Any], argparse.ArgumentParser | None],
) -> argparse.Namespace:
    """The arguments of a command line in the form of :func:`~megengine_lite._cli.gflags.normalize`.

    ``parser_of`` gives the parser of another command by its name, and None for what is no command.

    Raises
    ------
    LiteValueError, LiteTypeError
        A file has an option that the command does not have, or a value that the option cannot have; or a file is to be
        written that is read.
    LiteOSError
        A file cannot be read or written.
    UsageError
        A key would be written to a file, or the name of a file is empty.
    """
    if _LOAD not in parser._option_string_actions:
        return with_names(parser, parser.parse_args(words))
    seeker = argparse.ArgumentParser(prog=parser.prog, usage=parser.usage, add_help=False, allow_abbrev=False)
    seeker.add_argument(_LOAD, metavar="FILE")
    found = with_names(seeker, seeker.parse_known_args(words)[0])
    if found.load_config is not None:
        words = [*_Config(parser, found.load_config, command, parser_of).words(words), *words]
    args = with_names(parser, parser.parse_args(words))
    if args.dump_config is not None and getattr(args, "compare", None) is None:
        content = {"command": command, "options": _options(parser, args)}
        json_files.write(args.dump_config, content)
    return args


# ---- writing ---------------------------------------------------------------------------------------------------------


def _shown(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """The options by the names that files have for them. Those that are refused, and ``--no-FLAG``, are not shown."""
    shown = {_name(a): a for a in parser._actions if a.help != argparse.SUPPRESS}
    return {name: action for name, action in shown.items() if name not in _LEFT_OUT}


def _name(action: argparse.Action) -> str:
    return next(iter(_names(action)), action.dest.lstrip("-").replace("_", "-"))


def _names(action: argparse.Action) -> list[str]:
    """All names of an option that files may have."""
    return [option.lstrip("-").replace("_", "-") for option in action.option_strings if option.startswith("--")]


def _options(parser: argparse.ArgumentParser, args: argparse.Namespace) -> dict[str, Any]:
    return {name: _value(name, action, args) for name, action in _shown(parser).items()}


def _value(name: str, action: argparse.Action, args: argparse.Namespace) -> Any:
    value = getattr(args, action.dest)
    if action.dest == "dumps":  # several flags in one list, of which the last counts
        kind, file = value[-1] if value else ("", None)
        return None if kind != name else True if action.nargs == 0 else file
    if is_secret(value) if action.help == KEY_HELP else name == "other" and value and _SECRET.search(value):
        raise UsageError(f"--dump-config does not write keys to files: give that in --{name} as env:NAME or @FILE")
    return value.tolist() if hasattr(value, "tolist") else value


# ---- reading ---------------------------------------------------------------------------------------------------------


class _Config:
    """The options in a file, for a command."""

    def __init__(
        self,
        parser: argparse.ArgumentParser,
        path: str,
        command: str,
        parser_of: Callable[[Any], argparse.ArgumentParser | None],
    ):
        self._parser = parser
        self._path = path
        self._known = _shown(parser)
        content = json_files.read(path, "file of options")
        if not isinstance(content, dict) or not isinstance(content.get("options"), dict):
            raise LiteValueError(f'{path} is no file of options: {{"command": ..., "options": {{...}}}} is expected')
        if other := sorted(map(str, content.keys() - {"command", "options"})):
            raise LiteValueError(f'{path} has {other[0]!r} beside "command" and "options": options stand in the latter')
        self._options: dict[str, Any] = content["options"]
        made_for = content.get("command")
        other_parser = None if made_for in (None, command) else parser_of(made_for)
        if made_for not in (None, command) and other_parser is None:
            raise LiteValueError(f"{path} has the options of {brief(made_for)}, and there is no such command")
        self._of_other = {} if other_parser is None else _shown(other_parser)
        self._made_for = "" if made_for in (None, command) else f" of {brief(made_for)}"
        self._command = command

    def words(self, given: Sequence[str]) -> list[str]:
        """The options as words, without those that the words of the command line give."""
        flags = {word.partition("=")[0] for word in given}
        words: list[str] = []
        left_out = []
        keys: dict[argparse.Action, str] = {}
        for key, value in self._options.items():
            name = key.replace("_", "-")
            other = self._of_other.get(name)
            if other is not None and not self._is_shared(name, other):
                left_out += [] if value is None or value == other.default else [name]
                continue
            action = self._action(key, name)
            if value is not None and action in keys:
                raise LiteValueError(
                    f"{self._path}: {keys[action]!r} and {key!r} are the same option: leave one of them out"
                )
            if value is not None:
                keys[action] = key
            if value is None or (type(value) is type(action.default) and value == action.default):
                continue
            if not action.option_strings:
                self._check(key, value, "str")
                action.required, action.default = False, value  # for a command line without it
            elif not flags.intersection(self._rivals(action)):
                words += self._of(key, name, action, value)
        if left_out:
            warn(
                f"{self._path} has options{self._made_for}; {self._command} does not take {', '.join(left_out)} from it"
            )
        return words

    def _is_shared(self, name: str, other: argparse.Action) -> bool:
        """Whether an option of the other command is one of this command, too. Files of one name may be others."""
        own = self._known.get(name)
        if own is None or (own.type, own.nargs, own.metavar) != (other.type, other.nargs, other.metavar):
            return False
        return own.metavar != "FILE" or own.help == other.help

    def _action(self, key: str, name: str) -> argparse.Action:
        by_flag = self._parser._option_string_actions.get(f"--{name}")
        action = self._known.get(name if by_flag is None else _name(by_flag))
        if action is None:
            hint = suggestion(name, self._known)
            raise LiteValueError(
                f"{self._path}: {self._command} has no option {key!r}"
                + (f"; the file has the options{self._made_for}" if self._made_for else "")
                + (f"; {hint}" if hint else f"; {self._command} --help lists them")
            )
        return action

    def _rivals(self, action: argparse.Action) -> Iterator[str]:
        """The flags in whose presence an option of the file does not count."""
        name = _name(action)
        names = {_BELONGS_TO.get(name, name), *(other for choice in _CHOICES if name in choice for other in choice)}
        for other in self._parser._actions:
            if other.dest == action.dest or not names.isdisjoint(_names(other)):
                yield from other.option_strings

    def _of(self, key: str, name: str, action: argparse.Action, value: Any) -> list[str]:
        if action.nargs == 0:
            if not isinstance(value, bool):
                raise self._wrong(key, "true or false", value)
            return [f"--{name}" if value else f"--no-{name}"]
        if isinstance(action, argparse._AppendAction):
            if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                raise self._wrong(key, "a list of texts", value)
            return [f"--{name}={v}" for v in value]
        kind = "str" if action.type is None else _kind(action.type)
        self._check(key, value, kind)
        text = ",".join(map(repr, value)) if isinstance(value, list) else str(value)
        if action.choices is not None and value not in action.choices:
            raise LiteValueError(f"{self._path}: {key!r} is one of {', '.join(action.choices)}, not {brief(value)}")
        if callable(action.type):
            try:
                action.type(text)
            except (argparse.ArgumentTypeError, ValueError, OverflowError) as error:
                raise LiteValueError(f"{self._path}: {key!r} cannot be {brief(value)}: {error}") from None
        return [f"--{name}={text}"]

    def _check(self, key: str, value: Any, kind: str) -> None:
        expected, types = _KINDS[kind]
        items = value if isinstance(value, list) else ()
        if type(value) not in types or any(type(item) not in (int, float) for item in items):
            raise self._wrong(key, expected, value)

    def _wrong(self, key: str, expected: str, value: Any) -> LiteTypeError:
        return LiteTypeError(f"{self._path}: {key!r} is {expected}, not {brief(value)}")


def _kind(reader: Any) -> str:
    """The name of the type that a function of an option gives."""
    return str(getattr(reader, "__annotations__", {}).get("return", getattr(reader, "__name__", "str")))
