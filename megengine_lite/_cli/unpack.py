"""Take a package (.lite) apart: the model, decrypted, its settings and its caches."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from megengine_lite._cli import keys
from megengine_lite._cli.model_files import read_parts, show_written, write_file
from megengine_lite._core.system.files import to_path
from megengine_lite.errors import LiteValueError

USAGE = "PACKAGE DIR [flags]"

_LONGEST_NAME = 200  # bytes; a file name has 255, as a rule

show = show_written


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="PACKAGE", help="a package")
    parser.add_argument("out", metavar="DIR", help="directory to write to; made if it is not there")
    keys.add_decryption_flags(parser)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the parts; gives their sizes."""
    from megengine_lite._core.formats.load import is_onnx

    keys.use_key(args)
    parts = read_parts(args.model, args.decrypt)
    if not parts.package:
        raise LiteValueError(f"{args.model} is no package")
    stem = _file_name(parts.name)
    contents = {
        f"{stem}{'.onnx' if is_onnx(parts.model, parts.name) else '.mge'}": parts.model,
        f"{stem}.json": parts.information,
        f"{stem}.cache": parts.algorithm_cache,
        f"{stem}.binary_cache": parts.binary_cache,
    }
    folder = Path(to_path(args.out))
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "written": {
            str(folder / name): write_file(str(folder / name), [content], args.model)
            for name, content in contents.items()
            if content is not None
        }
    }


def _file_name(name: str) -> str:
    """The name of a model as part of a file name. It comes from the file: it may not lead out of the directory."""
    plain = "".join(c if c.isprintable() else "_" for c in Path(name.replace("\0", "_")).name)
    return plain.encode()[:_LONGEST_NAME].decode(errors="ignore") or "model"
