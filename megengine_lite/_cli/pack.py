"""Put a model, settings and a cache into one package (.lite).

When a package is packed again, it keeps the parts that are not given. What an ONNX model has in files beside it is put
into the package.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import keys, progress
from megengine_lite._cli.gflags import UsageError
from megengine_lite._cli.json_files import once_in
from megengine_lite._cli.model_files import Parts, read_parts, show_written, write_file
from megengine_lite._core.system.files import read_file
from megengine_lite._records import record
from megengine_lite.errors import LiteError, LiteValueError

USAGE = "MODEL OUT [--info JSON] [--cache FILE] [flags]"

show = show_written


@record(slots=True)
class Encryption:
    """How the two parts of a package that can be encrypted are encrypted."""

    model: str = "NONE"
    information: str = "NONE"
    model_key: bytes = b""
    information_key: bytes = b""


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="a model of any container")
    parser.add_argument("out", metavar="OUT", help="file to write")
    keys.add_decryption_flags(parser)
    parser.add_argument("--name", help="name of the model (that in the information, or the file's name)")
    _add_part_flags(parser)


def _add_part_flags(group: Any) -> None:
    group.add_argument("--pack-info-json", "--info", metavar="JSON", help="file with settings: device, options, IO")
    group.add_argument("--pack-cache", "--cache", metavar="FILE", help="cache of measured algorithms")
    for what, other in (("model", "--pack-model-cryption"), ("info", "--pack-info-cryption")):
        group.add_argument(other, f"--{what}-method", metavar="METHOD", help=f"encrypt the {what}")
        group.add_argument(f"--{what}-key", metavar="KEY", help=keys.KEY_HELP)


def add_dump_flags(parser: ArgumentParser) -> None:
    """``--packed-model-dump`` and its companions, for commands that do something else first."""
    group = parser.add_argument_group("package")
    group.add_argument("--packed-model-dump", metavar="FILE", help="write the model as a package")
    _add_part_flags(group)


def dump(args: Namespace) -> dict[str, int]:
    """Writes the package that :func:`add_dump_flags` asks for; gives its size by its name."""
    if args.packed_model_dump is None:
        for flag in ("pack_info_json", "pack_cache", "pack_model_cryption", "pack_info_cryption"):
            if getattr(args, flag) is not None:
                raise UsageError(f"--{flag.replace('_', '-')} needs --packed-model-dump FILE")
        return {}
    return _pack(args, args.packed_model_dump, None)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the package, after checking that it can be opened; gives its size."""
    keys.use_key(args)
    return {"written": _pack(args, args.out, args.name)}


def _pack(args: Namespace, out: str, name: str | None) -> dict[str, int]:
    from megengine_lite._core.cpu.algorithms.cache import parse_cache

    parts = read_parts(args.model, args.decrypt)
    parts.name = name or parts.name
    if args.pack_info_json:
        parts.information = read_file(args.pack_info_json)
        named = _name_in(parts.information, args.pack_info_json)
        parts.name = name or named
    if args.pack_cache:
        parts.algorithm_cache, parts.is_fast_run_cache = read_file(args.pack_cache), True
        parse_cache(parts.algorithm_cache)
    encryption = Encryption(
        args.pack_model_cryption or "NONE",
        args.pack_info_cryption or "NONE",
        keys.read_key(args.model_key),
        keys.read_key(args.info_key),
    )
    return {out: write(parts, out, args.model, encryption)}


def write(parts: Parts, out: str, source: str, encryption: Encryption) -> int:
    """Writes a package of these parts, after checking them; gives its size."""
    from megengine_lite._core.formats.containers import cryption
    from megengine_lite._core.formats.containers.information import parse_information
    from megengine_lite._core.formats.containers.packed import Package, write_package

    package = Package(parts.name, b"")
    package.model_cryption, package.information_cryption = encryption.model, encryption.information
    with progress.waiting("packing"):
        if parts.information is not None:
            parse_information(parts.information, parts.name, out)
            text = cryption.encrypt(encryption.information, parts.information, encryption.information_key)
            package.information = memoryview(text)
        package.model = memoryview(cryption.encrypt(encryption.model, parts.model, encryption.model_key))
    if parts.algorithm_cache is not None:
        package.algorithm_cache = memoryview(parts.algorithm_cache)
        package.is_fast_run_cache = parts.is_fast_run_cache
    if parts.binary_cache is not None:
        package.binary_cache = memoryview(parts.binary_cache)
    return write_file(out, write_package(package), source)


def _name_in(text: bytes, path: str) -> str:
    """The name of the model in the settings of a package, which must be JSON that says everything once."""
    try:
        name = json.loads(text, object_pairs_hook=once_in(path))["name"]
    except LiteError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str):
        raise LiteValueError(f"{path} is no JSON object with the name of the model")
    return name
