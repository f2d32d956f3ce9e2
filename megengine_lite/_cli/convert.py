"""Write a model of any container as a plain file of the second generation, which the original loads, too."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import flags
from megengine_lite._cli.files import show_written
from megengine_lite.errors import LiteValueError

USAGE = "MODEL OUT [flags]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    parser.add_argument("out", metavar="OUT", help="file to write")


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the model; gives its size."""
    if os.path.exists(args.out) and os.path.samefile(args.out, args.model):
        raise LiteValueError(f"{args.out} is the file that is read; write to another one")
    args.layout_transform_dump = args.out
    network = flags.load_network(args).network
    flags.finish(args, network)
    return {"written": {args.out: os.path.getsize(args.out)}}
