"""Show what is in a model: inputs, outputs, operators, parameters, multiply-adds, and what cannot run.

The model is read and planned, not run; what the plan shows to be slow on this machine is told in one line.
"""

from __future__ import annotations

import math
import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import display, flags, json_files, keys, progress
from megengine_lite._cli.cache import is_useless
from megengine_lite._cli.gflags import add_switch, as_usage_error
from megengine_lite._cli.model_files import show_written
from megengine_lite._core.ir.declared_shape import with_same_sizes
from megengine_lite._core.reports.units import counted
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.memory_limit import memory_limit
from megengine_lite.errors import (
    NOT_ABOUT_THE_MODEL,
    InternalError,
    LiteError,
    UnsupportedOperatorError,
)

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel

# A model is not planned to look at it if its weights and inputs take more than this part of the memory.
_MOST_PLANNED = 8

Shapes = Mapping[str, tuple[int, ...]]

USAGE = "MODEL [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    keys.add_decryption_flags(parser)
    flags.add_library_flags(parser)
    flags.add_double_flag(parser)
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=NxCxHxW", help="look at it with this shape of an input"
    )
    add_switch(parser, "layers", "list every operator with its shapes")
    parser.add_argument("--graph", metavar="FILE", help="draw the graph: graph.svg, or graph.dot, graph.json")


def _open(args: Namespace) -> LoadedModel:
    from megengine_lite._core.formats.load import load_model

    flags.open_library(args)
    keys.use_key(args)
    return load_model(args.model, decrypt=args.decrypt or None, check=False, narrow_double=args.narrow_double)


def count_work(args: Namespace, shapes: Shapes) -> int | None:
    """Multiply-adds of a model for inputs of these shapes; None if they depend on data."""
    from megengine_lite._core.ir.graph import Node
    from megengine_lite._core.operators import REGISTRY
    from megengine_lite._core.reports.model_facts import first_stage

    model = _open(args)
    try:
        stage = first_stage(model, shapes)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError:
        return None
    if stage.next_node < len(model.graph.nodes):
        return None
    return sum(REGISTRY[n.op].multiply_adds(n) for n in stage.graph.nodes if isinstance(n, Node))


def execute(args: Namespace) -> dict[str, Any]:
    """Reads the model; gives counts, sizes and shapes."""
    from megengine_lite._core.ir.graph import Var
    from megengine_lite._core.reports.model_facts import model_facts

    to_text = None
    if args.graph is not None:
        from megengine_lite._core.reports.model_report.graph_files import writer_of

        with as_usage_error():
            to_text = writer_of(args.graph)
    result: dict[str, Any] = {"model": args.model, "file_bytes": os.path.getsize(args.model), "written": {}}
    try:
        model = _open(args)
    except UnsupportedOperatorError as error:  # a file of the first generation: nothing behind it can be told
        return {**result, "failed": True, "problem": str(error)}
    shapes: Shapes = flags.given_shapes(args.shape, model.input_names)
    if shapes:
        now = {v.name: v.shape for v in model.graph.inputs if isinstance(v, Var)}
        shapes = with_same_sizes(model.graph.declared, now, shapes)
    facts = model_facts(model, shapes)
    layers = facts.pop("layers")
    if to_text is not None:
        result["written"] = _write_graph(args, model, shapes, to_text)
    result["slow_here"] = _slow_here(model, shapes, facts)
    if args.layers:
        facts |= {"layers": layers, "file_layers": _file_layers(model, shapes, facts)}
    return {**result, **facts}


def _file_layers(model: LoadedModel, shapes: Shapes, facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    from megengine_lite._core.reports.file_nodes import file_layers
    from megengine_lite._core.reports.model_facts import first_stage

    stage = None if facts["unsupported"] or facts["problem"] else first_stage(model, shapes)
    return file_layers(model, stage, shapes)


def _slow_here(model: LoadedModel, shapes: Shapes, facts: Mapping[str, Any]) -> list[dict[str, str]] | None:
    """What will be slow on this machine, and what to do; None if the model cannot be planned."""
    from megengine_lite._core.reports.slow_here import slow_here
    from megengine_lite._core.runtime.session import Session

    if facts["unsupported"] or facts["problem"]:
        return None
    session = Session(model)
    values = {n: d.array for n, d in model.default_inputs.items() if n not in shapes}
    specs = {n: (shapes.get(n, session.input_spec(n)[0]), session.input_spec(n)[1]) for n in session.input_names}
    taken = facts["parameter_bytes"] + sum(math.prod(shape) * dtype.itemsize for shape, dtype in specs.values())
    if taken > memory_limit() // _MOST_PLANNED:
        return None
    try:
        with errors_of(session.device), progress.waiting("planning"):
            for name, (shape, dtype) in specs.items():
                session.set_array(name, values[name] if name in values else np.zeros(shape, dtype.storage))
            session.prepare()
    except InternalError:
        raise
    except LiteError:  # too large, or possible only with values of inputs that are not known here
        return None
    found = slow_here([plan.report() for plan in session.plans()], session.device, session.config)
    if not facts["complete"]:
        found.append({"what": "later steps depend on data", "do": "the command profile shows them"})
    return [*found, *_measured_elsewhere(model)]


def _measured_elsewhere(model: LoadedModel) -> Iterator[dict[str, str]]:
    """A package with measurements of algorithms of which none can be used here."""
    from megengine_lite._core.cpu.algorithms.cache import parse_cache

    if model.package is None or not model.package.is_fast_run_cache or model.package.algorithm_cache is None:
        return
    if all(is_useless(name, "foreign") for name in parse_cache(bytes(model.package.algorithm_cache))):
        yield {
            "what": "the package's cache has no measurement that this version made on this processor",
            "do": "the command fit writes a package with measurements of this machine",
        }


def _write_graph(
    args: Namespace, model: LoadedModel, shapes: Shapes, to_text: Callable[[Mapping[str, Any]], str]
) -> dict[str, int]:
    from megengine_lite._core.reports.model_report.collect import imported_graph, without_run
    from megengine_lite._core.reports.model_report.report import ModelReport

    with progress.waiting("drawing"):
        found = without_run(model, os.path.basename(args.model), shapes)
        if model.file_graph is not None:
            found["imported"] = imported_graph(model, shapes)
        report = ModelReport(found).content["reports"][0]
        return {args.graph: json_files.write_text(args.graph, to_text(report), args.model)}


def show(result: dict[str, Any]) -> None:
    """Prints tables."""
    display.print_line(f"model       {result['model']}, {display.bytes_text(result['file_bytes'])}")
    if "container" not in result:
        display.print_line(f"cannot run: {result['problem']}")
        return
    container = result["container"]
    display.print_line(f"container   {_container_text(container)}")
    n_operators, made = result["file_operators"], sum(result["operators"].values())
    parameters = display.count_text(result["parameters"])
    print(f"parameters  {parameters} ({display.bytes_text(result['parameter_bytes'])})")
    if container["format"] == "onnx":
        made_of = (
            "" if result["operators"] == result["operators_in_file"] else f", imported as {counted(made, 'operator')}"
        )
        print(f"operators   {counted(n_operators, 'node')}{made_of}")
    else:
        print(f"operators   {n_operators}")
    partly = "" if result["complete"] else " (as far as shapes are known)"
    print(f"arithmetic  {display.count_text(result['multiply_adds_total'])} multiply-adds{partly}")
    if result["slow_here"] is not None:
        display.print_line(f"slow here   {_slow_text(result['slow_here'])}")
    print()
    rows = [
        (kind[:-1], t["name"], t["dtype"] or "?", _declared_text(t.get("declared")) or display.shape_text(t["shape"]))
        for kind in ("inputs", "outputs")
        for t in result[kind]
    ]
    print(display.table(rows, ("", "name", "type", "shape")))
    total = max(result["multiply_adds_total"], 1)
    counts = []
    for op in {**result["operators_in_file"], **result["multiply_adds_in_file"]}:
        n = result["operators_in_file"].get(op)
        work = result["multiply_adds_in_file"].get(op, 0)
        shown = (display.count_text(work), f"{100 * work / total:.1f} %") if work else ("", "")
        counts.append((op, "" if n is None else n, *shown))
    print("\n" + display.table(counts, ("operator", "count", "multiply-adds", "share"), "lrrr"))
    if any(row[1] == "" for row in counts):
        print("\noperators without a count are in functions of the model")
    if "layers" in result:
        print("\n" + _layer_table(result["file_layers"]))
    if result["unsupported"]:
        unknown = [(u["operator"], u["name"], u.get("inside", "")) for u in result["unsupported"]]
        print(
            "\ncannot run; these operators are not supported:\n"
            + display.table(unknown, ("operator", "name", "inside of"))
        )
    if result["problem"]:
        print()
        display.print_line(f"cannot run as it is: {result['problem']}")
    show_written(result)


def _slow_text(hints: list[dict[str, str]]) -> str:
    """All in one line."""
    return "; ".join(f"{hint['what']} ({hint['do']})" for hint in hints) or "nothing: every step has a kernel"


def _container_text(container: dict[str, Any]) -> str:
    number = "IR version" if container["format"] == "onnx" else "written by release number"
    text = f"{container['format']}, {number} {container['release']}"
    if "package" in container:
        package = container["package"]
        text += f"; package of {package['name']!r}, model encrypted by {package['model_encryption']}"
    return text


def _layer_table(layers: list[dict[str, Any]]) -> str:
    rows = []
    for k, layer in enumerate(layers):
        shapes = [_shapes_text(layer["inputs"]), _shapes_text(layer["outputs"])]
        work = display.count_text(layer["multiply_adds"]) if layer["multiply_adds"] else ""
        rows.append((k, layer["operator"], layer["name"], *shapes, work))
    return display.table(rows, ("", "operator", "name", "inputs", "outputs", "multiply-adds"), "r")


def _declared_text(shape: list[int | str] | None) -> str:
    from megengine_lite._core.ir.declared_shape import open_shape_text

    return "" if shape is None else open_shape_text(shape)


def _shapes_text(shapes: list[list[int] | None] | None) -> str:
    return "" if shapes is None else " ".join(map(display.shape_text, shapes))
