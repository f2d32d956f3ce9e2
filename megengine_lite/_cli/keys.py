"""Keys of encrypted models, from the command line."""

from __future__ import annotations

import argparse
import os
from typing import Any

from megengine_lite._cli.gflags import UsageError
from megengine_lite._core.system.files import read_file
from megengine_lite.errors import LiteValueError

KEY_HELP = "key of the method: hexadecimal digits, @FILE, or env:NAME for the text of an environment variable"


def add_decryption_flags(group: Any) -> None:
    """``--decrypt`` and ``--key``."""
    group.add_argument("--decrypt", metavar="METHOD", help="how the file is encrypted, for example AES_default")
    group.add_argument("--key", metavar="HEX", help=KEY_HELP)


def is_secret(text: str | None) -> bool:
    """Whether this form of a key is the key itself, and not the name of where it is."""
    return bool(text) and not str(text).startswith(("@", "env:"))


def read_key(text: str | None) -> bytes:
    """A key from its form on the command line; empty if there is none.

    Raises
    ------
    LiteValueError
        Not a key; the message does not repeat it.
    """
    if not text:
        return b""
    if text.startswith("@"):
        return read_file(text[1:])
    if text.startswith("env:"):
        value = os.environ.get(text[4:])
        if value is None:
            raise LiteValueError(f"the environment variable {text[4:]!r} for the key is not set")
        return value.encode()
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise LiteValueError("a key is an even number of hexadecimal digits, @FILE, or env:NAME") from None


def use_key(args: argparse.Namespace) -> None:
    """Gives the method of ``--decrypt`` the key of ``--key``."""
    from megengine_lite import LiteGlobal

    if args.key:
        if not args.decrypt:
            raise UsageError("--key needs --decrypt METHOD")
        LiteGlobal.update_decryption_key(args.decrypt, read_key(args.key))
