"""Take a package (.lite) apart: the model, decrypted, its settings and its caches."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from megengine_lite._cli import flags
from megengine_lite._cli.files import show_written, write_file
from megengine_lite.errors import LiteValueError

USAGE = "PACKAGE DIR [flags]"

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="PACKAGE", help="a package")
    parser.add_argument("out", metavar="DIR", help="directory to write to; made if it is not there")
    flags.add_decryption_flags(parser)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the parts; gives their sizes."""
    from megengine_lite._core.loader import cryption, load_model
    from megengine_lite._core.loader.container import open_source
    from megengine_lite._core.loader.cursor import Cursor
    from megengine_lite._core.loader.packed import is_package, read_package

    flags.use_key(args)
    content, what = open_source(args.model)
    if not is_package(Cursor(content, what=what)):
        raise LiteValueError(f"{args.model} is no package")
    package = read_package(content, what)
    model = cryption.decrypt(package.model_cryption, package.model)
    load_model(model, check=False)
    # The name comes from the file: nothing but a file of the directory may be written.
    stem = Path(package.name).name or "model"
    parts = {f"{stem}.mge": model}
    if package.information is not None and len(package.information):
        text = bytes(cryption.decrypt(package.information_cryption, package.information))
        parts[f"{stem}.json"] = text.split(b"\0")[0]
    if package.algorithm_cache is not None:
        parts[f"{stem}.cache"] = package.algorithm_cache
    if package.binary_cache is not None:
        parts[f"{stem}.binary_cache"] = package.binary_cache
    folder = Path(args.out)
    folder.mkdir(parents=True, exist_ok=True)
    return {"written": {str(folder / n): write_file(str(folder / n), [c], args.model) for n, c in parts.items()}}
