"""Writing models as plain files of MegEngine's, and comparing what these compute with what the models compute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._api.comparison import compare_result, described, divides_by_zero, problem_of, tolerance
from megengine_lite._api.integer_inputs import integer_ranges
from megengine_lite._api.loading import read_model, rewritten
from megengine_lite._api.options import LiteConfig
from megengine_lite._api.random_values import random_values, with_integers, without_zeros
from megengine_lite._core.compile.expand import all_nodes
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.expansion import Subgraphs
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.system.own_faults import own_fault
from megengine_lite._records import field, record
from megengine_lite.errors import NOT_ABOUT_THE_MODEL, LiteError

if TYPE_CHECKING:
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.ir.graph import ModelGraph
    from megengine_lite._core.ir.known_shapes import Shape
    from megengine_lite._core.runtime.session import Session


@record(frozen=True, slots=True)
class Conversion:
    """A model as a plain file of MegEngine's.

    Attributes
    ----------
    chunks
        The file, in pieces.
    compared
        Shapes of the inputs for which the file gave the outputs of the model; empty if it was not compared.
    notes
        What could not be compared, and why.
    """

    chunks: list[Any]
    compared: list[dict[str, Shape]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def converted(
    source: str | bytes | memoryview,
    config: LiteConfig,
    layout: str | None = None,
    shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    narrow_double: bool = False,
    verify: bool = True,
) -> Conversion:
    """The model of a source as a plain file of the second generation; see :func:`.loading.rewritten`.

    Raises
    ------
    UnsupportedOperatorError
        Nodes of an ONNX model have no counterpart; all of them are listed.
    InternalError
        The file does not give the outputs of the model.
    """
    chunks = rewritten(source, config, layout, shapes, narrow_double)
    if not verify:
        return Conversion(chunks, notes=["not verified"])
    compared: list[dict[str, Shape]] = []
    notes: list[str] = []
    try:
        model = read_model(source, config, narrow_double)
        made = read_model(b"".join(bytes(c) for c in chunks), LiteConfig(), False)
    except NOT_ABOUT_THE_MODEL:
        raise
    except LiteError as error:
        return Conversion(chunks, notes=[f"not compared: the model cannot be run here: {error}"])
    # The file has the nodes that are computed, in the place of graphs that depend on shapes or run several times.
    if all(operator_of(node.op).folds for node in made.graph.nodes):
        _compare(model, made, compared, notes)
    else:
        notes.append("not compared: the model draws random numbers, or runs code of yours")
    return Conversion(chunks, compared, notes)


def _compare(model: LoadedModel, made: LoadedModel, compared: list[dict[str, Shape]], notes: list[str]) -> None:
    """Runs both on random inputs, of the sizes in the file."""
    from megengine_lite._core.runtime.session import Session
    from megengine_lite._core.session_config import SessionConfig

    # As the model says it: kernels of int8 round in other places than real numbers, by a step here and there.
    here = Session(model, SessionConfig(fuse=False, fuse_elemwise=False))
    there = Session(made)
    given = _inputs(model, made, integer_ranges(model.graph))
    narrow = _inputs(model, made, {})
    sizes = {name: value.shape for name, value in given.items()}
    limit = tolerance({*_types(model.graph), *_types(made.graph)})
    forgiven = False
    # Integers without zeros can be divided by, and with zeros alone no index is out of range.
    for values in (given, narrow, *(with_integers(narrow, f) for f in (without_zeros, np.zeros_like))):
        if problem_of(here, values) is not None:
            continue
        try:
            found = _check_outputs(here, there, values, limit)
        except NOT_ABOUT_THE_MODEL:
            raise
        except LiteError:
            # What integers divided by 0 are is not defined. In the file, divisions of inner graphs are in the graph.
            whole = made if any(isinstance(node.params, Subgraphs) for node in model.graph.nodes) else model
            if not divides_by_zero(whole, _as_in(whole, values)):
                raise
            forgiven = True
            continue
        compared.append(sizes)
        notes += found
        return
    reason = "divides integers by 0" if forgiven else "does not take random inputs"
    notes.append(f"not compared: the model {reason} of the sizes {described(sizes)}")


def _check_outputs(here: Session, there: Session, given: Mapping[str, np.ndarray], limit: float) -> list[str]:
    """Raises if the file that was made cannot be run, or gives other outputs than the model has given.

    Gives notes about outputs that could not be compared as all others are.
    """
    problem = problem_of(there, _as_in(there.model, given))
    if problem is not None:
        raise own_fault(f"the file that was made cannot be run: {problem}") from problem
    sizes = {name: value.shape for name, value in given.items()}
    notes = []
    for name in here.output_names:
        where = f"the output {name!r} of the file that was made, for inputs {described(sizes)},"
        want = here.output(name).array()
        # Operators of MegEngine's make a number of NaN.
        left_out = np.isnan(want) if want.dtype.kind == "f" else None
        notes += compare_result(where, there.output(name).array(), here, name, given, limit, left_out)
    return notes


def _as_in(model: LoadedModel, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Inputs in the types that they have there: the file may have others than the model."""
    types = {v.name: v.dtype.storage for v in model.graph.inputs}
    return {name: value.astype(types[name]) for name, value in given.items()}


def _inputs(model: LoadedModel, made: LoadedModel, ranges: Mapping[str, tuple[int, int]]) -> dict[str, np.ndarray]:
    """Random values of the model's types in the shapes of the file."""
    shapes = {v.name: v.shape for v in made.graph.inputs}
    return {
        v.name: random_values(shapes[v.name], v.dtype.storage, k, ranges.get(v.name))
        for k, v in enumerate(model.graph.inputs)
    }


def _types(graph: ModelGraph) -> Iterator[DType]:
    """The element types that a graph names."""
    for node in all_nodes(graph):
        for found in (node.output_dtype, getattr(node.params, "dtype", None)):
            if isinstance(found, DType):
                yield found
        yield from (v.spec.dtype for v in node.inputs if v.spec is not None)
    yield from (v.dtype for v in graph.inputs)
