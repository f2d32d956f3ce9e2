"""Print a script that completes commands and flags in a shell.

megengine-lite completion bash > ~/.local/share/bash-completion/completions/megengine-lite
megengine-lite completion zsh > ~/.zfunc/_megengine-lite        # a folder of $fpath
megengine-lite completion fish > ~/.config/fish/completions/megengine-lite.fish

For one session: source <(megengine-lite completion bash), or zsh; megengine-lite completion fish | source.
"""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._core.cpu.isa import instruction_sets
from megengine_lite._records import record

USAGE = "{bash,zsh,fish}"

_PROGRAM = "megengine-lite"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("shell", choices=sorted(_SCRIPTS))


def execute(args: Namespace) -> dict[str, Any]:
    """Makes the script."""
    return {"script": _SCRIPTS[args.shell](_commands())}


def show(result: dict[str, Any]) -> None:
    """Prints the script."""
    print(result["script"], end="")


@record(frozen=True, slots=True)
class _Flag:
    name: str
    help: str
    takes_value: bool
    choices: tuple[str, ...]


@record(frozen=True, slots=True)
class _Command:
    name: str
    summary: str
    flags: tuple[_Flag, ...]
    words: tuple[str, ...]
    """What its first argument may be, if that is no file."""


def _commands() -> list[_Command]:
    from megengine_lite.cli import COMMANDS, command_parser

    return [_command(name, summary, command_parser(name)) for name, summary in COMMANDS.items()]


def _command(name: str, summary: str, parser: ArgumentParser) -> _Command:
    flags: list[_Flag] = []
    words: tuple[str, ...] = ()
    for action in parser._actions:
        choices = _values(action)
        if not action.option_strings:
            words = words or choices
        elif action.help != argparse.SUPPRESS:
            text = " ".join((action.help or "").replace("%%", "%").split())
            for option in action.option_strings:
                if option.startswith("--"):
                    flags.append(_Flag(option, text, action.nargs != 0, choices))
    return _Command(name, summary, tuple(flags), words)


def _values(action: argparse.Action) -> tuple[str, ...]:
    """What the value of a flag may be, if it has a few names."""
    from megengine_lite._core.formats.containers.cryption import METHODS

    if action.metavar == "METHOD":
        return tuple(METHODS)
    return tuple(instruction_sets()) if action.dest == "isa" else tuple(map(str, action.choices or ()))


# ---- bash ------------------------------------------------------------------------------------------------------------


def _bash(commands: list[_Command]) -> str:
    """A function that looks at the command and the word before the cursor."""
    lines = [
        f"# Completion of {_PROGRAM} for bash, made by: {_PROGRAM} completion bash",
        "_megengine_lite() {",
        '    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command="" flags="" words=""',
        "    local i",
        "    # Bash makes a word of the = between a flag and its value.",
        '    if [[ $word == "=" ]]; then word=""',
        '    elif [[ $before == "=" ]]; then before=${COMP_WORDS[COMP_CWORD-2]}',
        "    fi",
        "    for ((i = 1; i < COMP_CWORD; i++)); do",
        "        case ${COMP_WORDS[i]} in -*) ;; *) command=${COMP_WORDS[i]}; break ;; esac",
        "    done",
        "    COMPREPLY=()",
        "    case $command in",
        f'        "") COMPREPLY=($(compgen -W "{" ".join(c.name for c in commands)} --help --version" -- "$word"))',
        "            return ;;",
    ]
    for command in commands:
        names = " ".join(f.name for f in command.flags)
        lines.append(f'        {command.name}) flags="{names}" words="{" ".join(command.words)}" ;;')
    lines += ["    esac", '    case "$command $before" in']
    for command in commands:
        for flag in command.flags:
            if flag.choices:
                reply = f'COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$word")); return'
                lines.append(f'        "{command.name} {flag.name}") {reply} ;;')
    lines += [
        "    esac",
        '    if [[ $word == -* ]]; then COMPREPLY=($(compgen -W "$flags" -- "$word"))',
        '    elif [[ -n $words ]]; then COMPREPLY=($(compgen -W "$words" -- "$word"))',
        '    else while IFS= read -r i; do COMPREPLY+=("$i"); done < <(compgen -f -- "$word")',
        "        compopt -o filenames 2>/dev/null",
        "    fi",
        "}",
        f"complete -F _megengine_lite {_PROGRAM}",
    ]
    return "\n".join(lines) + "\n"


# ---- zsh -------------------------------------------------------------------------------------------------------------


def _zsh(commands: list[_Command]) -> str:
    """A function of zsh's completion system, with the texts of the help."""
    lines = [
        f"#compdef {_PROGRAM}",
        f"# Completion of {_PROGRAM} for zsh, made by: {_PROGRAM} completion zsh",
        "_megengine_lite() {",
        "    local -a commands",
        "    commands=(",
        *(f"        {_quoted(f'{c.name}:{c.summary}')}" for c in commands),
        "    )",
        "    if (( CURRENT == 2 )); then _describe command commands; return; fi",
        "    local command=$words[2]",
        "    shift words; (( CURRENT-- ))",
        "    case $command in",
    ]
    for command in commands:
        rest = f"*:: :({' '.join(command.words)})" if command.words else "*:file:_files"
        specs = " ".join(_quoted(s) for s in [*map(_zsh_flag, command.flags), rest])
        lines.append(f"        {command.name}) _arguments {specs} ;;")
    # A file of $fpath is the body of the function of its name. A script that is sourced has only to announce its own.
    lines += [
        "    esac",
        "}",
        "case $funcstack[1] in",
        '    _megengine[-_]lite) _megengine_lite "$@" ;;',
        "    *) compdef _megengine_lite megengine-lite ;;",
        "esac",
    ]
    return "\n".join(lines) + "\n"


def _zsh_flag(flag: _Flag) -> str:
    text = re.sub(r"([\[\]:\\])", r"\\\1", flag.help)
    value = f":value:({' '.join(flag.choices)})" if flag.choices else ":value:_files" if flag.takes_value else ""
    return f"{flag.name}{'=' if value else ''}[{text}]{value}"


# ---- fish ------------------------------------------------------------------------------------------------------------


def _fish(commands: list[_Command]) -> str:
    """A line for each command and flag."""
    lines = [
        f"# Completion of {_PROGRAM} for fish, made by: {_PROGRAM} completion fish",
        *(f"complete -c {_PROGRAM} -f -n __fish_use_subcommand -a {c.name} -d {_quoted(c.summary)}" for c in commands),
    ]
    for command in commands:
        start = f"complete -c {_PROGRAM} -n '__fish_seen_subcommand_from {command.name}'"
        if command.words:
            lines.append(f"{start} -f -a '{' '.join(command.words)}'")
        for flag in command.flags:
            value = f" -x -a '{' '.join(flag.choices)}'" if flag.choices else " -r" if flag.takes_value else ""
            lines.append(f"{start} -l {flag.name[2:]}{value} -d {_quoted(flag.help)}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A word for zsh and fish."""
    return "'" + text.replace("'", "’") + "'"


_SCRIPTS = {"bash": _bash, "zsh": _zsh, "fish": _fish}
