"""Encrypt a model. What an ONNX model has in files beside it is encrypted with it.

AES_256_GCM keeps it secret and notices changes; it needs a key of 32 random bytes, or a passphrase. The other methods
are the original's.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import keys, progress
from megengine_lite._cli.model_files import show_written, whole_model, write_file
from megengine_lite.errors import LiteValueError

USAGE = "MODEL OUT --method METHOD [--key KEY]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model that is not encrypted, and no package")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument(
        "--method",
        metavar="METHOD",
        required=True,
        help="AES_256_GCM, AES_default, RC4_default or SIMPLE_FAST_RC4_default",
    )
    parser.add_argument("--key", metavar="KEY", help=f"{keys.KEY_HELP}; without it a public one")


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the encrypted model; gives its size."""
    from megengine_lite._core.formats.containers import cryption
    from megengine_lite._core.formats.containers.model_source import open_source
    from megengine_lite._core.formats.load import load_model

    model = load_model(args.model, check=False)  # what is no model would be found out only when it is decrypted
    if model.package is not None:
        raise LiteValueError(
            f"{args.model} is a package, which is not encrypted as a whole but by its parts: megengine-lite pack "
            f"{args.model} {args.out} --model-method {args.method} --model-key KEY"
        )
    content, _ = open_source(args.model)
    key = keys.read_key(args.key)
    with progress.waiting("encrypting"):
        secret = cryption.encrypt(args.method, whole_model(args.model, content), key)
    return {"written": {args.out: write_file(args.out, [secret], args.model)}}
