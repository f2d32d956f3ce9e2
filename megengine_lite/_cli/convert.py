"""Write a model of any container as a plain file of the second generation, which the original loads, too.

If the name OUT ends in .onnx, it is written as ONNX.

An ONNX model is written as a file of MegEngine's if its operators have counterparts there; else all those that have
none are listed. Those sizes of its inputs are fixed in the file from which something in it follows.

A file is verified before it is written: it is run here on random inputs, and its outputs are compared with those of the
model. An ONNX file is checked by the package onnx and run in ONNX Runtime. What is not installed is left out, and said.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from megengine_lite._cli import keys, progress
from megengine_lite._cli.display import print_line, shape_text
from megengine_lite._cli.flags import add_double_flag, given_shapes
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._cli.model_files import show_written, write_file
from megengine_lite._cli.number_types import positive

USAGE = "MODEL OUT [--layout LAYOUT] [--shape NAME=SHAPE] [--opset N] [--static] [--decrypt METHOD] [--key KEY]"

_ONNX = ".onnx"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    from megengine_lite._core.compile.transform import LAYOUTS
    from megengine_lite._core.formats.onnx.export import DEFAULT_OPSET

    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    parser.add_argument("out", metavar="OUT", help="file to write; with a name that ends in .onnx it is an ONNX model")
    parser.add_argument(
        "--layout",
        choices=list(LAYOUTS),
        help="fuse convolutions with what follows them, and let them work in this layout of images "
        "(without it, operators are written as they are)",
    )
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=NxCxHxW",
        help="from an ONNX model: the shape of an input in the file, which fixes the sizes from which something there "
        "follows; a size with a name holds for all inputs; 1 for what the model leaves open",
    )
    add_double_flag(parser)
    add_switch(parser, "no-verify", "write the file without checking and running it")
    group = parser.add_argument_group("ONNX")
    group.add_argument(
        "--opset", type=positive, metavar="N", help=f"version of the standard's operators ({DEFAULT_OPSET})"
    )
    add_switch(group, "static", "fix the shapes of the inputs; else they may change where they can")
    add_switch(
        group,
        "custom-domain",
        "write operators that ONNX does not have in the domain megengine, which no other program knows",
    )
    keys.add_decryption_flags(parser)


def execute(args: Namespace) -> dict[str, Any]:
    """Writes the model; gives its size."""
    from megengine_lite import LiteConfig
    from megengine_lite._api.conversion import converted
    from megengine_lite._api.loading import to_source

    is_onnx = args.out.lower().endswith(_ONNX)
    _check_flags(args, is_onnx)
    keys.use_key(args)
    config = LiteConfig()
    config.bare_model_cryption_name = args.decrypt or ""
    if is_onnx:
        return _export(args, config)
    with progress.waiting("converting"):
        result = converted(
            to_source(args.model), config, args.layout, _shapes(args), args.narrow_double, verify=not args.no_verify
        )
    return {
        "written": {args.out: write_file(args.out, result.chunks, args.model)},
        "compared": _listed(result.compared),
        "notes": result.notes,
    }


def _listed(compared: Sequence[Mapping[str, Sequence[int]]]) -> list[dict[str, list[int]]]:
    return [{name: list(shape) for name, shape in sizes.items()} for sizes in compared]


def _shapes(args: Namespace) -> dict[str, tuple[int, ...]]:
    """The shapes that are given to inputs of an ONNX model."""
    from megengine_lite._core.formats.load import load_model

    if not args.shape:
        return {}
    model = load_model(args.model, decrypt=args.decrypt or None)
    if model.container != "onnx":
        raise UsageError("--shape is for ONNX models; those of MegEngine's keep their shapes")
    return given_shapes(args.shape, model.input_names)


def _check_flags(args: Namespace, is_onnx: bool) -> None:
    if is_onnx and args.layout:
        raise UsageError("--layout is for files of MegEngine's; ONNX models have the layout NCHW")
    if is_onnx and args.shape:
        raise UsageError("--shape is for files of MegEngine's that are made of ONNX models")
    if is_onnx and args.narrow_double:
        raise UsageError("--narrow-double is for files of MegEngine's that are made of ONNX models")
    given = [f for f in ("opset", "static", "custom_domain") if getattr(args, f)]
    if given and not is_onnx:
        raise UsageError(f"--{given[0].replace('_', '-')} is for ONNX models; name the file OUT.onnx")


def _export(args: Namespace, config: Any) -> dict[str, Any]:
    from megengine_lite._api.onnx_export import exported
    from megengine_lite._core.formats.onnx.export import DEFAULT_OPSET

    with progress.waiting("exporting"):
        result = exported(
            args.model,
            config,
            opset=args.opset or DEFAULT_OPSET,
            static=args.static,
            custom_domain=args.custom_domain,
            verify=not args.no_verify,
            target=args.out,
        )
    free: dict[str, list[str]] = {}
    for (name, axis), label in result.dimensions.items():
        free.setdefault(label, []).append(f"{name}[{axis}]")
    return {
        "written": {p: write_file(p, chunks, args.model) for p, chunks in result.files(args.out).items()},
        "free_dimensions": free,
        "checked": result.checked,
        "compared": _listed(result.compared),
        "notes": [*result.notes, *(["not verified"] if args.no_verify else [])],
    }


def show(result: dict[str, Any]) -> None:
    """Prints the size of the file and what was verified, and for ONNX what may change."""
    show_written(result)
    is_onnx = "checked" in result
    if is_onnx:
        free = result["free_dimensions"]
        print_line("may change: " + (", ".join(f"{n} ({' '.join(axes)})" for n, axes in free.items()) or "nothing"))
        if result["checked"]:
            print("checked by onnx")
    for sizes in result["compared"]:
        shapes = ", ".join(f"{name} {shape_text(shape)}" for name, shape in sizes.items())
        print_line(f"{'ONNX Runtime' if is_onnx else 'the file'} computes the same outputs for {shapes or 'no inputs'}")
    for note in result["notes"]:
        print_line(note)
