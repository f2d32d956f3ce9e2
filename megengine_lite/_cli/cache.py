"""Show what is in a cache of measured algorithms (of --fast-run), or remove what this version cannot use."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from megengine_lite._cli import display
from megengine_lite._core.system.files import read_file, replace_file

USAGE = "FILE [--prune old|foreign]"

_OURS = "megengine_lite"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("file", metavar="FILE", help="a cache of this package, of the original, or both")
    parser.add_argument(
        "--prune",
        choices=["old", "foreign"],
        help="remove measurements of other versions of the kernels (old), or all that were not made by these kernels "
        "on this processor (foreign)",
    )


def execute(args: Namespace) -> dict[str, Any]:
    """Reads the cache, rewrites it if entries are to be removed, and returns its categories."""
    from megengine_lite._core.cpu.algorithms.cache import parse_cache, serialize_cache

    categories = parse_cache(read_file(args.file))
    kept = {name: entries for name, entries in categories.items() if not is_useless(name, args.prune)}
    if len(kept) < len(categories):
        replace_file(args.file, [serialize_cache(kept)])
    rows = [{**_describe(name), "entries": len(entries)} for name, entries in kept.items()]
    return {"file": args.file, "categories": rows, "removed": len(categories) - len(kept)}


def _describe(name: bytes) -> dict[str, Any]:
    """The parts of a category's name; those of the original are one part."""
    text = name.decode(errors="replace")
    owner, *rest = text.split(":")
    if owner != _OURS or len(rest) < 5:
        return {"made_by": "other", "operator": text}
    revision, *processor, isa, threads, operator = rest
    return {
        "made_by": _OURS,
        "operator": operator,
        "revision": revision.lstrip("r"),
        "processor": ":".join(processor),
        "instruction_set": isa,
        "threads": threads.lstrip("t"),
    }


def is_useless(name: bytes, prune: str | None) -> bool:
    """Whether ``--prune`` removes a category of this name."""
    from megengine_lite import cpu_info
    from megengine_lite._core.cpu.algorithms.cache import KERNEL_REVISION

    category = _describe(name)
    if prune is None:
        return False
    if category["made_by"] != _OURS:
        return prune == "foreign"
    if category["revision"] != str(KERNEL_REVISION):
        return True
    return prune == "foreign" and category["processor"] != cpu_info()["brand"]


def show(result: dict[str, Any]) -> None:
    """Prints one row for each category."""
    columns = ("made_by", "operator", "revision", "processor", "instruction_set", "threads", "entries")
    rows = [[category.get(c, "") for c in columns] for category in result["categories"]]
    print(
        display.table(
            rows, ("made by", "operator", "revision", "processor", "kernels", "threads", "entries"), "llllllr"
        )
    )
    if result["removed"]:
        print(f"\ncategories removed: {result['removed']}")
