"""Decrypt a model. For packages there is the command unpack."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import keys, progress
from megengine_lite._cli.model_files import show_written, write_file

USAGE = "MODEL OUT --method METHOD [--key KEY]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="an encrypted model")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument(
        "--method", "--decrypt", dest="decrypt", metavar="METHOD", required=True, help="how it is encrypted"
    )
    parser.add_argument("--key", metavar="KEY", help=keys.KEY_HELP)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the plain model, after checking that it is one; gives its size."""
    from megengine_lite._core.formats.containers.model_source import open_source
    from megengine_lite._core.formats.load import decrypted, load_model

    keys.use_key(args)
    content, what = open_source(args.model)
    with progress.waiting("decrypting"):
        plain = decrypted(content, args.decrypt, what)
    load_model(plain, check=False)
    return {"written": {args.out: write_file(args.out, [plain], args.model)}}
