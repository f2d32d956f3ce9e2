"""Put a model, settings and a cache into one package (.lite)."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from megengine_lite._cli import flags
from megengine_lite._cli.files import show_written, write_file
from megengine_lite.errors import LiteValueError

USAGE = "MODEL OUT [--info JSON] [--cache FILE] [flags]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model that is not encrypted")
    parser.add_argument("out", metavar="OUT", help="file to write")
    parser.add_argument("--name", help="name of the model (that in the information, or the file's name)")
    parser.add_argument("--info", "--pack-info-json", metavar="JSON", help="file with settings: device, options, IO")
    parser.add_argument("--cache", "--pack-cache", metavar="FILE", help="cache of measured algorithms")
    for what, other in (("model", "--pack-model-cryption"), ("info", "--pack-info-cryption")):
        parser.add_argument(f"--{what}-method", other, metavar="METHOD", default="NONE", help=f"encrypt the {what}")
        parser.add_argument(f"--{what}-key", metavar="KEY", help=flags.KEY_HELP)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the package, after checking that it can be opened; gives its size."""
    from megengine_lite._core.loader import cryption, load_model
    from megengine_lite._core.loader.container import open_source
    from megengine_lite._core.loader.information import parse_information
    from megengine_lite._core.loader.packed import Package, write_package

    load_model(args.model, check=False)
    content, _ = open_source(args.model)
    name = args.name or Path(args.model).stem
    package = Package(name, memoryview(content))
    package.model_cryption, package.information_cryption = args.model_method, args.info_method
    if args.info:
        text = Path(args.info).read_bytes()
        package.name = args.name or _name_in(text, args.info)
        parse_information(text, package.name, args.info)
        package.information = memoryview(cryption.encrypt(args.info_method, text, _key(args.info_key)))
    package.model = memoryview(cryption.encrypt(args.model_method, content, _key(args.model_key)))
    if args.cache:
        package.algorithm_cache = memoryview(Path(args.cache).read_bytes())
        package.is_fast_run_cache = True
    return {"written": {args.out: write_file(args.out, write_package(package), args.model)}}


def _key(text: str | None) -> bytes:
    return flags.read_key(text) if text else b""


def _name_in(text: bytes, path: str) -> str:
    try:
        name = json.loads(text)["name"]
    except (ValueError, KeyError, TypeError):
        name = None
    if not isinstance(name, str):
        raise LiteValueError(f"{path} is no JSON object with the name of the model")
    return name
