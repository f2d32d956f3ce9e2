"""Translates the forms of flags that ``load_and_run`` takes (those of gflags) for argparse."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from megengine_lite._core.system.files import check_other_file, read_file
from megengine_lite.errors import LiteError, LiteValueError

_TRUE = ("=true", "=t", "=1", "=yes", "=y")
_FALSE = ("=false", "=f", "=0", "=no", "=n")
_MOST_FILES = 20
# The options that name what a command reads, and what it writes; of a folder the names of the files in it.
READ = (
    "model", "against", "compare", "input", "prepared", "fast_run_algo_policy", "load_config", "pack_info_json",
    "pack_cache", "c_opr_lib", "key", "model_key", "info_key",
)  # fmt: skip
_FILE = ("",)
WRITTEN = {
    **dict.fromkeys(("out", "output", "graph", "profile", "profile_host", "model_dump", "packed_model_dump"), _FILE),
    **dict.fromkeys(("layout_transform_dump", "dump_fitting_model", "fast_run_algo_policy", "dump_config"), _FILE),
    "dumps": _FILE,
    "get_static_mem_info": ("graph.json", "StaticMemoryInfo.json"),
    "report": ("bench.json", "iterations.csv", "operators.csv"),
}
# An option that may write over the files of others: a cache that grows, and may be packed then; options that change.
IN_PLACE = {"fast_run_algo_policy": ("fast_run_algo_policy", "pack_cache"), "dump_config": ("load_config",)}


class UsageError(Exception):
    """The command line is wrong; the exit status is 2."""


@contextlib.contextmanager
def as_usage_error() -> Iterator[None]:
    """Around the reading of a value: what it cannot be is wrong usage."""
    try:
        yield
    except LiteValueError as error:
        raise UsageError(str(error)) from None


def expand(words: Sequence[str], environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command line with ``--flagfile`` and ``--fromenv`` replaced by the flags that they stand for.

    Parameters
    ----------
    words
        Arguments without the program's name.
    environment
        Where ``--fromenv=a,b`` finds ``FLAGS_a`` and ``FLAGS_b``.

    Raises
    ------
    UsageError
        A file cannot be read or names itself; a variable is not set.
    """
    return _expand(list(words), environment, ())


def _expand(words: list[str], environment: Mapping[str, str], files: tuple[str, ...]) -> list[str]:
    out: list[str] = []
    while words:
        word = words.pop(0)
        if word == "--":
            return [*out, word, *words]
        match = re.fullmatch(r"--?(flagfile|fromenv)(?:=(.*))?", word, re.S)
        if match is None:
            out.append(word)
            continue
        value = match[2]
        if value is None:
            if not words:
                raise UsageError(f"{word} needs a value")
            value = words.pop(0)
        if match[1] == "flagfile":
            out += _expand(_read_flags(value, files), environment, (*files, value))
        else:
            out += [_from_environment(name, environment) for name in value.split(",")]
    return out


def _read_flags(path: str, files: tuple[str, ...]) -> list[str]:
    """The flags of a file: one in each line, ``#`` begins a comment line."""
    if len(files) == _MOST_FILES:
        raise UsageError(f"--flagfile {path}: more than {_MOST_FILES} files name one another")
    try:
        lines = [line.strip() for line in read_file(path).decode().split("\n")]
    except (LiteError, UnicodeDecodeError) as error:
        raise UsageError(f"--flagfile {path} cannot be read: {error}") from None
    words: list[str] = []
    for line in lines:
        if not line or line.startswith("#"):
            continue
        match = re.fullmatch(r"(--?[A-Za-z][\w-]*)(?:(=.*)|\s+(.*))?", line, re.S)
        if match is None:
            raise UsageError(f"--flagfile {path}: {line!r} is no flag")
        words.append(match[1] + (match[2] or ""))
        words += [match[3]] if match[3] else []
    return words


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    variable = "FLAGS_" + name.strip().replace("-", "_")
    if variable not in environment:
        raise UsageError(f"--fromenv {name}: the environment variable {variable} is not set")
    return f"--{name.strip()}={environment[variable]}"


def add_switch(group: Any, flag: str, text: str, *, default: bool | None = False) -> None:
    """Declares a flag that is on or off: ``--flag``, and ``--no-flag``, which is not shown."""
    name = flag.replace("-", "_")
    group.add_argument(f"--{flag}", dest=name, action="store_true", default=default, help=text)
    group.add_argument(f"--no-{flag}", dest=name, action="store_false", default=default, help=argparse.SUPPRESS)


def switches(parser: argparse.ArgumentParser) -> set[str]:
    """Names of a parser's flags that are on or off."""
    known = parser._option_string_actions
    return {option[2:] for option in known if f"--no-{option[2:]}" in known}


def with_names(parser: argparse.ArgumentParser, args: argparse.Namespace) -> argparse.Namespace:
    """The arguments, if every file or folder has a name, and nothing is to be written over what is read.

    Raises
    ------
    UsageError
        A name is empty, as ``--report "$DIR"`` has it without the variable.
    LiteValueError
        A file is to be written that the command reads.
    """
    for action in parser._actions:
        kind = {"FILE": "file", "DIR": "folder", "OUT": "file", "MODEL": "model"}.get(str(action.metavar))
        if kind is not None and getattr(args, action.dest, None) == "":
            shown = max(action.option_strings, key=len, default=str(action.metavar))
            here = '; "." is the present one' if kind == "folder" else ""
            raise UsageError(f"{shown} needs the name of a {kind}, and it is empty{here}")
    for option, names in WRITTEN.items():
        for path in _paths(args, option):
            for source in (s for other in READ if other not in IN_PLACE.get(option, ()) for s in _paths(args, other)):
                for name in names:
                    check_other_file(os.path.join(path, name) if name else path, source)
    return args


def _paths(args: argparse.Namespace, option: str) -> Iterator[str]:
    """What an option may name as a file: ``NAME=FILE`` is an input, ``@FILE`` a key, a pair a dump and its file."""
    value = getattr(args, option, None)
    for item in value if isinstance(value, list) else [value]:
        text = item[1] if isinstance(item, tuple) else item
        if not isinstance(text, str):
            continue
        yield text.removeprefix("@") if option.endswith("key") else text
        if option == "input":
            yield from (part for word in text.split(";") for part in (word, re.split("[=:]", word, maxsplit=1)[-1]))


def normalize(words: Sequence[str], switches: set[str]) -> list[str]:
    """Flags as argparse knows them.

    One or two dashes, ``-`` or ``_`` within the name; for switches ``--flag=true``, ``--flag=false``, ``--noflag``.
    """
    out: list[str] = []
    for k, word in enumerate(words):
        if word == "--":
            return [*out, *words[k:]]
        match = re.fullmatch(r"--?([A-Za-z][\w-]+)(=.*)?", word, re.S)
        if match is None:
            out.append(word)
            continue
        name, value = match[1].replace("_", "-"), match[2] or ""
        if name.startswith("no") and name[2:] in switches:
            name = f"no-{name[2:]}"
        if name in switches and value.lower() in _TRUE + _FALSE:
            name, value = name if value.lower() in _TRUE else f"no-{name}", ""
        out.append(f"--{name}{value}")
    return out


class HelpMatch(argparse.Action):
    """``--helpmatch WORD``: shows only the flags that have the word in their names or descriptions."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        print(matching_help(parser, values) or f"no flag of {parser.prog} has {values!r} in its name or description")
        parser.exit()


def matching_help(parser: argparse.ArgumentParser, word: str) -> str:
    """Help on the flags that have a word in their names or descriptions; empty if there are none."""
    wanted = word.lower().lstrip("-").replace("_", "-")
    found = [
        action
        for action in parser._actions
        if action.option_strings
        and action.help not in (None, argparse.SUPPRESS)
        and any(wanted in text.lower() for text in (*action.option_strings, str(action.help)))
    ]
    if not found:
        return ""
    formatter = parser._get_formatter()
    formatter.start_section(parser.prog)
    formatter.add_arguments(found)
    formatter.end_section()
    return formatter.format_help().rstrip()
