"""Results of integers are the same bits on every processor and instruction set.

``integer_results.txt`` has checksums of what generated graphs and stored models give, of the outputs that no arithmetic
of floats leads to. Each machine compares all its sets with the list, and so with processors of other architectures.
After a wanted change, ``PYTHONPATH=tests python tests/cpu/test_integer_results.py`` writes the list anew.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import numpy as np
import pytest
from generated.grammar import make_case
from support.instruction_sets import INSTRUCTION_SETS
from support.places import SHARED_MODELS, TESTS

from megengine_lite._core.compile.infer import NeedsExpansion, NeedsRounds, NeedsValue, infer_stage
from megengine_lite._core.cpu.kernel_set import runnable_sets
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import ConstantPool, ModelGraph, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.shape import PassThrough
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

LISTING = TESTS / "cpu" / "integer_results.txt"
GRAPHS = {"necks_int8": 100}
Inputs = Mapping[str, np.ndarray]


def exact_part(graph: ModelGraph, inputs: Inputs) -> ModelGraph | None:
    """What a graph computes of integers, and of floats that are only converted; its outputs are the last of these."""
    known = {v: TensorSpec(inputs[v.name].shape, v.spec.dtype) for v in graph.inputs}
    try:
        stage = infer_stage(graph, 0, known, ConstantPool())
    except (NeedsExpansion, NeedsRounds, NeedsValue):
        return None
    exact, inexact, read_further = dict[Var, None](), set[Var](), set[Var]()
    for node in stage.graph.nodes:
        only_moves = node.op == "TypeCvt" or isinstance(REGISTRY[node.op], PassThrough)
        has_floats = any(v.spec.dtype.is_float for v in node.outputs) and not only_moves
        if has_floats or not inexact.isdisjoint(node.inputs):
            inexact.update(node.outputs)
        elif any(v.spec.dtype.is_quantized or v in exact for v in (*node.inputs, *node.outputs)):
            exact.update(dict.fromkeys(node.outputs))
            read_further.update(node.inputs)
    last = [stage.original[v] for v in exact if v not in read_further]
    return ModelGraph(graph.nodes, graph.inputs, last, [f"y{k}" for k in range(len(last))]) if last else None


def read(label: str) -> tuple[ModelGraph, Inputs]:
    """A graph, by its line in the list, and its inputs by name."""
    if "/" not in label:
        family, seed = label.split()
        case = make_case(family, int(seed))
        return case.graph, case.runs[0]
    with np.load(SHARED_MODELS / f"{label.removesuffix('.v1')}.npz") as data:
        inputs = {key.removeprefix("in_"): data[key] for key in data if key.startswith("in_")}
    return load_model(SHARED_MODELS / f"{label}.mge").graph, inputs


def checksums(label: str, isas: Sequence[str]) -> dict[str, str]:
    """Checksums of the exact part of a graph on each set; empty for a graph without such a part."""
    graph, inputs = read(label)
    part = exact_part(graph, inputs)
    if part is None:
        return {}
    names = [v.name for v in part.inputs]
    model = SimpleNamespace(graph=part, input_names=names, output_names=part.output_names, default_inputs={})
    found = {}
    for isa in isas:
        session = Session(model, SessionConfig(isa=isa))
        for name in names:
            session.set_array(name, np.ascontiguousarray(inputs[name]))
        session.run()
        sums = [zlib.crc32(session.output(name).array().tobytes()) for name in session.output_names]
        found[isa] = " ".join(f"{number:08x}" for number in sums)
    return found


def listed() -> dict[str, str]:
    """Checksums of the list by label."""
    lines = LISTING.read_text().splitlines() if LISTING.exists() else []
    return dict(line.split(": ") for line in lines)


LISTED = listed()


@pytest.mark.parametrize("label", [label for label in LISTED if "/" not in label])
def test_generated_graphs_give_the_bits_of_other_processors(label):
    assert checksums(label, INSTRUCTION_SETS) == dict.fromkeys(INSTRUCTION_SETS, LISTED[label])


@pytest.mark.shared
@pytest.mark.skipif(not SHARED_MODELS.is_dir(), reason="the shared model collection is absent")
@pytest.mark.parametrize("label", [label for label in LISTED if "/" in label])
def test_stored_models_give_the_bits_of_other_processors(label):
    assert checksums(label, INSTRUCTION_SETS) == dict.fromkeys(INSTRUCTION_SETS, LISTED[label])


def write_listing() -> None:
    """Writes the list, if all sets of this machine agree."""
    labels = [f"{family} {seed}" for family, count in GRAPHS.items() for seed in range(count)]
    files = [p for group in ("nets", "ops") for p in sorted((SHARED_MODELS / group).glob("*.mge"))]
    labels += [f"{p.parent.name}/{p.stem}" for p in files if (p.parent / f"{p.stem}.npz").exists()]
    lines = []
    for label in labels:
        if found := checksums(label, runnable_sets()):
            (result,) = {*found.values()}
            lines.append(f"{label}: {result}\n")
    LISTING.write_text("".join(lines))


if __name__ == "__main__":
    write_listing()
