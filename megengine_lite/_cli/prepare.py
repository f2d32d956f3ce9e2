"""Write a prepared file, from which a process starts a model without planning it and packing its weights.

It is for inputs of one shape, and for the flags that are given here: networks that load it must have the same settings.
Other shapes run as without it, and so does every network on another processor, of another release, or of another model.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import flags, inputs, progress
from megengine_lite._cli.model_files import show_written as show

__all__ = ["USAGE", "add", "execute", "show"]

USAGE = "MODEL -o FILE [--input NAME={SHAPE} ...] [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    group = parser.add_argument_group("prepared file")
    group.add_argument("-o", "--output", metavar="FILE", required=True, help="where to write it: model.prepared")


def execute(args: Namespace) -> dict[str, Any]:
    """Plans, packs and writes; gives the shapes of inputs, and the size of the file."""
    network = flags.load_network(args).network
    given = inputs.set_inputs(args, network, fill=True)
    with progress.waiting("preparing"):
        network.prepare(args.output)
    flags.finish(args, network)
    return {
        "model": args.model,
        "inputs": {name: list(array.shape) for name, array in given.items()},
        "settings": flags.describe_settings(network),
        "written": {args.output: os.path.getsize(args.output)},
    }
