"""The command line: ``megengine-lite COMMAND ...`` or ``python -m megengine_lite COMMAND ...``.

See docs/command-line.md. Commands are modules of :mod:`megengine_lite._cli`: ``USAGE`` and ``add`` declare the
arguments, ``execute`` does the work and gives a result of plain types, ``show`` prints it for people.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from megengine_lite._cli.flags import normalize
from megengine_lite.errors import LiteError

COMMANDS = (
    "run", "info", "bench", "profile", "verify", "encrypt", "decrypt", "pack", "unpack", "convert", "cache", "demo"
)  # fmt: skip

USAGE_ERROR = 2
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    from megengine_lite import __version__

    parser = argparse.ArgumentParser(prog="megengine-lite", description="Runs MegEngine models on the CPU.")
    parser.add_argument("--version", action="version", version=f"megengine_lite {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"megengine_lite._cli.{name}")
        text = module.__doc__ or ""
        usage = f"megengine-lite {name} {module.USAGE}"
        command = commands.add_parser(
            name, usage=usage, help=text.splitlines()[0], description=text, allow_abbrev=False
        )
        module.add(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        command.add_argument("--verbose", action="store_true", help="log to stderr; show where an error comes from")
        command.set_defaults(module=module)
    return parser


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
    args = build_parser().parse_args(normalize(sys.argv[1:] if argv is None else argv))
    if args.verbose:
        from megengine_lite import LiteLogLevel, set_log_level

        set_log_level(LiteLogLevel.DEBUG)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        result = args.module.execute(args)
        if args.json:
            print(json.dumps(_to_json(result), indent=1))
        else:
            args.module.show(result)
        sys.stdout.flush()
    except (LiteError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        if args.verbose:
            raise
        print(f"megengine-lite: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return int(result.get("failed", False))


def _to_json(value: Any) -> Any:
    """The value without numbers that JSON does not have: these become text."""
    if isinstance(value, dict):
        return {k: _to_json(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_to_json(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"megengine-lite: warning: {message}", file=sys.stderr)
