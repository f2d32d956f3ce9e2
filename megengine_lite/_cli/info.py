"""Show what is in a model: inputs, outputs, operators, parameters, multiply-adds, and what cannot run.

The model is read, not run.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import display, flags, keys
from megengine_lite._cli.gflags import add_switch
from megengine_lite.errors import LiteError, UnsupportedOperatorError

if TYPE_CHECKING:
    from megengine_lite._core.compile.infer import Stage
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.ir.graph import AnyVar, ModelGraph, Spec, Var

Shapes = Mapping[str, tuple[int, ...]]

USAGE = "MODEL [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("model", metavar="MODEL", help="model file: plain, packed (.lite) or encrypted")
    keys.add_decryption_flags(parser)
    flags.add_library_flags(parser)
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=NxCxHxW", help="look at it with this shape of an input"
    )
    add_switch(parser, "layers", "list every operator with its shapes")


def _open(args: Namespace) -> LoadedModel:
    from megengine_lite._core.formats.load import load_model

    flags.open_library(args)
    keys.use_key(args)
    return load_model(args.model, decrypt=args.decrypt or None, check=False)


def _first_stage(model: LoadedModel, shapes: Shapes) -> Stage:
    """Everything that is known about the graph with inputs of these shapes, without running it."""
    from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, infer_stage
    from megengine_lite._core.ir.graph import ConstantPool, ModelGraph, TensorSpec

    known: dict[AnyVar, TensorSpec] = {}
    for var in model.graph.inputs:
        default = model.default_inputs.get(var.name)
        value = default.array if default is not None and var.name not in shapes else None
        known[var] = TensorSpec(shapes.get(var.name, var.shape), var.dtype, value)
    while True:
        try:
            return infer_stage(model.graph, 0, known, ConstantPool())
        except (NeedsExpansion, NeedsRounds):
            return infer_stage(ModelGraph([], model.graph.inputs, [], []), 0, known, ConstantPool())
        except NeedsValue as need:
            spec = known[need.var]
            # The value of the input is not known here; zeros are as good as any others.
            known[need.var] = TensorSpec(spec.shape, spec.dtype, np.zeros(spec.shape, spec.dtype.storage))


def count_work(args: Namespace, shapes: Shapes) -> int | None:
    """Multiply-adds of a model for inputs of these shapes; None if they depend on data."""
    from megengine_lite._core.ir.graph import Node
    from megengine_lite._core.operators import REGISTRY

    model = _open(args)
    try:
        stage = _first_stage(model, shapes)
    except LiteError:
        return None
    if stage.next_node < len(model.graph.nodes):
        return None
    return sum(REGISTRY[n.op].multiply_adds(n) for n in stage.graph.nodes if isinstance(n, Node))


def execute(args: Namespace) -> dict[str, Any]:
    """Reads the model; gives counts, sizes and shapes."""
    from megengine_lite._core.compile.expand import all_nodes

    result: dict[str, Any] = {"model": args.model, "file_bytes": os.path.getsize(args.model)}
    try:
        model = _open(args)
    except UnsupportedOperatorError as error:  # a file of the first generation: nothing behind it can be told
        return {**result, "failed": True, "problem": str(error)}
    result["container"] = _container(model)
    shapes = flags.given_shapes(args.shape, model.input_names)
    graph = model.graph
    unsupported = _unsupported(graph)
    problem: str | None = None
    stage = None
    try:
        stage = _first_stage(model, shapes) if not unsupported else None
    except LiteError as error:
        problem = str(error)
    specs = _known_specs(stage) if stage is not None else {}
    work, layers = _layers(graph, stage)
    constants = {id(v.const): v.const for n in all_nodes(graph) for v in n.inputs if v.const is not None}
    floats = [c.array for c in constants.values()]
    result["inputs"] = [_tensor(n, v, specs.get(v, v.spec)) for n, v in _inputs(model)]
    result["outputs"] = [_tensor(n, v, specs.get(v)) for n, v in zip(graph.output_names, graph.outputs, strict=True)]
    result["operators"] = dict(Counter(n.op for n in all_nodes(graph)).most_common())
    result["multiply_adds"] = dict(work.most_common())
    result["multiply_adds_total"] = sum(work.values())
    result["complete"] = stage is not None and stage.next_node == len(graph.nodes)
    result["parameters"] = sum(a.size for a in floats)
    result["parameter_bytes"] = sum(a.nbytes for a in floats)
    result["unsupported"] = unsupported
    result["problem"] = problem
    if args.layers:
        result["layers"] = layers
    return result


def _container(model: LoadedModel) -> dict[str, Any]:
    container: dict[str, Any] = {"format": model.container, "release": model.version}
    if model.package is not None:
        container["package"] = {
            "name": model.package.name,
            "model_encryption": model.package.model_cryption,
            "information_encryption": model.package.information_cryption,
            "has_cache": model.package.algorithm_cache is not None,
        }
    if model.metadata is not None:
        container["user_info_bytes"] = len(model.metadata.user_info)
    return container


def _inputs(model: LoadedModel) -> list[tuple[str, Var]]:
    by_name = {v.name: v for v in model.graph.inputs}
    return [(name, by_name[name]) for name in model.input_names]


def _unsupported(graph: ModelGraph) -> list[dict[str, str]]:
    from megengine_lite._core.operators import REGISTRY

    return [{"operator": n.op, "name": n.name} for n in graph.nodes if n.op not in REGISTRY]


def _known_specs(stage: Stage) -> dict[AnyVar, Spec]:
    return {source: copy.spec for copy, source in stage.original.items() if copy.spec is not None}


def _tensor(name: str, var: AnyVar, spec: Spec | None) -> dict[str, Any]:
    from megengine_lite._core.ir.graph import TensorSpec

    if spec is None and var.const is not None:
        spec = var.spec
    shape = list(spec.shape) if isinstance(spec, TensorSpec) else None
    return {"name": name, "dtype": None if spec is None else str(spec.dtype), "shape": shape}


def _layers(graph: ModelGraph, stage: Stage | None) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Multiply-adds by type of operator, and all operators in order."""
    from megengine_lite._core.ir.graph import Node
    from megengine_lite._core.operators import REGISTRY

    inferred = {stage.original[n.outputs[0]]: n for n in stage.graph.nodes} if stage is not None else {}
    work: Counter[str] = Counter()
    layers = []
    for node in graph.nodes:
        known = inferred.get(node.outputs[0]) if node.outputs else None
        cost = REGISTRY[known.op].multiply_adds(known) if isinstance(known, Node) else 0
        if cost:
            work[node.op] += cost
        layers.append(
            {
                "operator": node.op,
                "name": node.name,
                "inputs": None if known is None else [_shape(v) for v in known.inputs],
                "outputs": None if known is None else [_shape(v) for v in known.outputs],
                "multiply_adds": cost,
                "folded": stage is not None and known is None,
            }
        )
    return work, layers


def _shape(var: AnyVar) -> list[int] | None:
    from megengine_lite._core.ir.graph import Var

    return list(var.shape) if isinstance(var, Var) else None


def show(result: dict[str, Any]) -> None:
    """Prints tables."""
    print(f"model       {display.one_line(result['model'])}, {display.bytes_text(result['file_bytes'])}")
    if "container" not in result:
        print(f"cannot run: {result['problem']}")
        return
    container = result["container"]
    print(f"container   {_container_text(container)}")
    n_operators = sum(result["operators"].values())
    parameters = display.count_text(result["parameters"])
    print(f"parameters  {parameters} ({display.bytes_text(result['parameter_bytes'])})")
    print(f"operators   {n_operators}")
    partly = "" if result["complete"] else " (as far as shapes are known)"
    print(f"arithmetic  {display.count_text(result['multiply_adds_total'])} multiply-adds{partly}\n")
    rows = [
        (kind[:-1], t["name"], t["dtype"] or "?", display.shape_text(t["shape"]))
        for kind in ("inputs", "outputs")
        for t in result[kind]
    ]
    print(display.table(rows, ("", "name", "type", "shape")))
    total = max(result["multiply_adds_total"], 1)
    counts = []
    for op, n in result["operators"].items():
        work = result["multiply_adds"].get(op, 0)
        counts.append((op, n, display.count_text(work) if work else "", f"{100 * work / total:.1f} %" if work else ""))
    print("\n" + display.table(counts, ("operator", "count", "multiply-adds", "share"), "lrrr"))
    if "layers" in result:
        print("\n" + _layer_table(result["layers"]))
    if result["unsupported"]:
        unknown = [(u["operator"], u["name"]) for u in result["unsupported"]]
        print("\ncannot run; these operators are not supported:\n" + display.table(unknown, ("operator", "name")))
    if result["problem"]:
        print(f"\ncannot run as it is: {result['problem']}")


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


def _shapes_text(shapes: list[list[int] | None] | None) -> str:
    return "" if shapes is None else " ".join(map(display.shape_text, shapes))
