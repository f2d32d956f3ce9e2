"""Write a model of any container as a plain file of the second generation, which the original loads, too."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import keys, progress
from megengine_lite._cli.model_files import show_written, write_file

USAGE = "MODEL OUT [--layout LAYOUT] [--decrypt METHOD] [--key KEY]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    from megengine_lite._core.compile.transform import LAYOUTS

    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument(
        "--layout",
        choices=list(LAYOUTS),
        help="fuse convolutions with what follows them, and let them work in this layout of images "
        "(without it, operators are written as they are)",
    )
    keys.add_decryption_flags(parser)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the model; gives its size."""
    from megengine_lite import LiteConfig
    from megengine_lite._api.loading import rewritten, to_source

    keys.use_key(args)
    config = LiteConfig()
    config.bare_model_cryption_name = args.decrypt or ""
    with progress.waiting("rewriting"):
        chunks = rewritten(to_source(args.model), config, args.layout)
    return {"written": {args.out: write_file(args.out, chunks, args.model)}}
