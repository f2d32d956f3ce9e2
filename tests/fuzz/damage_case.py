"""One case of engine fuzzing: a damaged model or hostile inputs, run natively and by definition.

A case is told by its number alone. :func:`run_case` gives an :class:`Outcome`; crashes and endless loops are for the
caller to notice.
"""

from __future__ import annotations

import math
import signal
import struct
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from types import FrameType, SimpleNamespace
from typing import NamedTuple

import numpy as np
from fuzz.mutations import MOST_ELEMENTS, Mutator, copy_graph, random_array, random_dtype, random_shape
from support.guarded_memory import GuardedArena, WildWrite, guarded_copy, guarded_plans
from support.places import SHARED_MODELS, TESTS

from megengine_lite._core.cpu.kernel_set import runnable_sets
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.graph import Graph, Node, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.names import TypeTable
from megengine_lite._core.operators.reference import run_nodes
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import AlgoPolicy, SessionConfig
from megengine_lite.errors import LiteError

SHARED = SHARED_MODELS
QUIET = ("ok", "refused")
_SMALL_MODEL = 12  # nodes
SESSION_SECONDS = 10
REFERENCE_SECONDS = 5
# Causes that a check should have prevented, though nothing worse came of them.
_UNPLANNED = (TypeError, LookupError, ArithmeticError, AttributeError, AssertionError, NameError)
# Results of these are not a function of the inputs.
_INDEFINITE = {"Alloc", "Dropout", "ShuffleRNG"}
# Beyond, sums of products leave the range of float32 in one order and not in another.
_LARGEST = 1e12
_LARGEST_INTEGER = 1 << 28
_SMALLEST = 1e-30  # kernels take denormal numbers as 0


Announce = Callable[[list[str]], object]


class TooSlow(BaseException):
    """Time is up. Not an ``Exception``, so that nothing takes it for an error of a model."""


@dataclass(slots=True)
class Outcome:
    """What came of a case.

    ``kind`` is ``ok``, ``refused`` (by a LiteError), ``unnamed`` (by one that names nothing of the model), ``fault``
    (any other exception), ``wild`` (memory was overwritten), ``slow``, ``different`` (from the definition) or
    ``inconsistent`` (only one of native run and definition refused). ``text`` is the message, ``log`` what was done to
    which model.
    """

    kind: str
    text: str = ""
    log: list[str] = field(default_factory=list)


class Tolerance(NamedTuple):
    """Largest difference, relative to the largest number; part of the elements that may differ by a step."""

    relative: float
    share: float = 0.0


@cache
def corpus(shared: bool = True) -> tuple[Path, ...]:
    """Model files to begin with, in a fixed order: those of the tests and, on request, of the shared collection."""
    files = sorted(p for p in (TESTS / "models").rglob("*.mge") if "extern" not in p.parts)
    if shared:
        files += sorted(
            p for group in ("ops", "nets") for p in (SHARED / group).glob("*.mge") if not p.name.endswith(".v1.mge")
        )
    return tuple(p for p in files if _load(p).graph.nodes)


@cache
def _load(path: Path) -> LoadedModel:
    return load_model(path)


@cache
def _recorded_inputs(path: Path) -> dict[str, np.ndarray]:
    recorded = path.with_suffix(".npz")
    if not recorded.exists():
        return {}
    with np.load(recorded) as data:
        return {key.removeprefix("in_"): data[key] for key in data if key.startswith("in_")}


@cache
def _donors(paths: tuple[Path, ...]) -> tuple[Node, ...]:
    """One node of every operator with default parameters, and the last nodes of the small models among these."""
    made = []
    for name, operator in REGISTRY.items():
        if not TypeTable().find(0, name):  # only passes make it
            continue
        params = operator.param() if operator.param is not None else None
        for count in (1, 2, 3):
            made.append(Node(name, params, [Var(k) for k in range(count)], [Var(9)], name))
    graphs = [_load(p).graph for p in paths]
    return (*made, *(g.nodes[-1] for g in graphs if len(g.nodes) < _SMALL_MODEL))


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    old = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


def run_case(seed: int, paths: tuple[Path, ...], announce: Announce) -> Outcome:
    """Makes the case of a number from one of the models and runs it; ``announce`` is told its log before it runs."""
    rng = Random(f"engine {seed}")
    path = rng.choice(paths)
    log = [str(path.name)]
    measured = rng.random() < 0.1
    config = SessionConfig(
        isa=rng.choice(runnable_sets()),
        threads=rng.choice((1, 1, 2, 3)),
        fuse=rng.random() < 0.9,
        algo=AlgoPolicy(heuristic=not measured, profile=measured),
    )
    log.append(f"{config.isa}, {config.threads} threads, fuse={config.fuse}, measured={measured}")
    kind = rng.choices(("graph", "inputs", "bytes"), (70, 15, 15))[0]
    case: Callable[..., Outcome] = {
        "graph": partial(_damaged_graph, donors=_donors(paths)),
        "inputs": _hostile_inputs,
        "bytes": _damaged_bytes,
    }[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            outcome = case(rng, path, config, log, announce)
        except WildWrite as error:
            outcome = Outcome("wild", str(error))
    outcome.log = log
    return outcome


# ---- kinds of cases --------------------------------------------------------------------------------------------------


def _damaged_graph(
    rng: Random, path: Path, config: SessionConfig, log: list[str], announce: Announce, donors: tuple[Node, ...]
) -> Outcome:
    mutator = Mutator(copy_graph(_load(path).graph), rng, donors)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        mutator.mutate()
    log += mutator.log
    inputs = _inputs_for(mutator.graph, path, rng)
    announce(log)
    return _run_both(mutator.graph, inputs, config)


def _damaged_bytes(rng: Random, path: Path, config: SessionConfig, log: list[str], announce: Announce) -> Outcome:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 2, 4))):
        # Structure stands in front of and between weights: small numbers are where it is.
        places = [rng.randrange(len(content) - 4) for _ in range(8)]
        place = min(places, key=lambda p: sum(b > 64 for b in content[p : p + 4]))
        if rng.random() < 0.5:
            content[place] = rng.choice((0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        else:
            old = struct.unpack_from("<i", content, place)[0]
            word = rng.choice(
                (0, 1, 2, 3, -1, 16, 255, 65536, 2**31 - 1, -(2**31), old ^ 1, -old if old > -(2**31) else 0)
            )
            struct.pack_into("<i", content, place, word)
        log.append(f"byte {place}: {bytes(content[place : place + 4]).hex()}")
    announce(log)
    try:
        graph = load_model(bytes(content)).graph
        inputs = _inputs_for(graph, path, rng)
    except LiteError as error:
        return Outcome("refused", str(error))
    return _run_both(graph, inputs, config)


def _hostile_inputs(rng: Random, path: Path, config: SessionConfig, log: list[str], announce: Announce) -> Outcome:
    """Good inputs, bad ones, good ones again: the last results must be the first."""
    graph = copy_graph(_load(path).graph)
    good = _inputs_for(graph, path, rng)
    bad = dict(good)
    types = {v.name: v.spec.dtype for v in graph.inputs}
    for name in rng.sample(list(bad), rng.randrange(1, len(bad) + 1)) if bad else ():
        shape = random_shape(rng, bad[name].shape) if rng.random() < 0.7 else bad[name].shape
        if math.prod(shape) > 16 * MOST_ELEMENTS:
            shape = bad[name].shape
        bad[name] = random_array(rng, shape, types[name] if rng.random() < 0.9 else random_dtype(rng))
        log.append(f"input {name}: {bad[name].dtype} {shape}")
    announce(log)
    with guarded_plans():
        session = _session(graph, config)
        first = _guard(lambda: _run(session, good))
        if isinstance(first, Outcome):
            return first
        second = _guard(lambda: _run(session, bad), graph)
        if isinstance(second, Outcome) and second.kind not in ("refused", "unnamed"):
            return second
        third = _guard(lambda: _run(session, good))
        session.arena.check()
    if isinstance(third, Outcome):
        return Outcome("fault", f"the session is not usable after an error: {third.text}")
    if not _is_indefinite(graph):
        for name, a, b in zip(session.output_names, first, third, strict=True):
            if a.shape != b.shape or a.tobytes() != b.tobytes():
                return Outcome("fault", f"output {name} is another one after a run with bad inputs")
    if isinstance(second, Outcome):
        return second
    return _compare(graph, bad, second)


# ---- running ---------------------------------------------------------------------------------------------------------


def _inputs_for(graph: Graph, path: Path, rng: Random) -> dict[str, np.ndarray]:
    recorded = _recorded_inputs(path)
    inputs = {}
    for var in graph.inputs:
        shape, storage = var.spec.shape, var.spec.dtype.storage
        given = var.spec.value if var.spec.value is not None else recorded.get(var.name)
        if given is not None and given.dtype == storage and (given.shape == shape or rng.random() < 0.2):
            inputs[var.name] = given
        elif math.prod(shape) <= 64 * MOST_ELEMENTS:
            inputs[var.name] = random_array(rng, shape, var.spec.dtype)
        else:
            inputs[var.name] = np.zeros((1,) * len(shape), storage)
    return inputs


def _session(graph: Graph, config: SessionConfig) -> Session:
    model = SimpleNamespace(
        graph=graph,
        input_names=[v.name for v in graph.inputs],
        output_names=graph.output_names,
        default_inputs={},
    )
    return Session(model, config, arena=GuardedArena())


def _run(session: Session, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Copies of the outputs; inputs are given in guarded memory, with the types that their arrays have."""
    with _limited(SESSION_SECONDS):
        guarded = {name: guarded_copy(array) for name, array in inputs.items()}
        for name, array in guarded.items():
            session.set_array(name, array)
        session.run()
        session.run()  # takes the plan of the first
    for name, array in guarded.items():
        if array.tobytes() != inputs[name].tobytes():
            raise AssertionError(f"input {name} was changed")
    outputs = []
    for name in session.output_names:
        outputs.append(session.output(name).array().copy())
    return outputs


def _guard(action, graph: Graph | None = None):
    """The result of an action, or the outcome that its exception is."""
    try:
        return action()
    except TooSlow as error:
        return Outcome("slow", _location(error))
    except LiteError as error:
        text = f"{type(error).__name__}: {error}"
        if isinstance(error.__cause__, _UNPLANNED):
            return Outcome("fault", f"{text} ({_location(error.__cause__)})")
        if graph is None or "memory" in text or _names_something(graph, text):
            return Outcome("refused", text)
        return Outcome("unnamed", text)
    except Exception as error:
        place = _location(error)
        if isinstance(error, MemoryError) and not place:
            return Outcome("ok", "this script has not enough memory")
        return Outcome("fault", f"{type(error).__name__}: {error} ({place})")


def _location(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/megengine_lite/" in f.filename]
    return " < ".join(f"{f.filename.rpartition('/megengine_lite/')[2]}:{f.lineno} {f.name}" for f in frames[-1:-4:-1])


def _names_something(graph: Graph, message: str) -> bool:
    names = {n.op for n in graph.nodes} | {n.name for n in graph.nodes} | {v.name for v in graph.inputs}
    return any(name and name in message for name in names)


def _run_both(graph: Graph, inputs: dict[str, np.ndarray], config: SessionConfig) -> Outcome:
    with guarded_plans():
        session = _session(graph, config)
        result = _guard(lambda: _run(session, inputs), graph)
        session.arena.check()
        if isinstance(result, Outcome) and result.kind == "refused":
            again = _guard(lambda: _run(session, inputs), graph)
            if not isinstance(again, Outcome) or again.kind != "refused":
                return Outcome("inconsistent", f"refused ({result.text}), but not when run again: {again}")
    if isinstance(result, Outcome) and result.kind != "refused":
        return result
    return _compare(graph, inputs, result)


def _is_indefinite(graph: Graph) -> bool:
    return any(n.op in _INDEFINITE or n.op.endswith("RNG") for n in graph.nodes)


def _compare(graph: Graph, inputs: dict[str, np.ndarray], result: list[np.ndarray] | Outcome) -> Outcome:
    """The outcome of a run, given its outputs or why it was refused, with the definition beside it."""
    if not isinstance(result, Outcome):
        graph.remove_dead()
    values = {v: inputs[v.name] for v in graph.inputs}
    values |= {v: v.const.array for v in graph.outputs if v.const is not None}
    constants = [v.const.array for n in graph.nodes for v in n.inputs if v.const is not None]
    ordinary = all(map(_is_ordinary, (*values.values(), *constants))) and all(
        _is_ordinary_parameter(getattr(n.params, f.name)) for n in graph.nodes for f in getattr(n.params, "layout", ())
    )
    try:
        with _limited(REFERENCE_SECONDS):
            for node, arrays in run_nodes(graph, inputs):
                values.update(zip(node.outputs, arrays, strict=True))
                ordinary = ordinary and all(map(_is_ordinary, arrays))
    except TooSlow:
        return result if isinstance(result, Outcome) else Outcome("ok", "not compared")
    except Exception as error:
        if isinstance(result, Outcome):
            return result
        if any(n.op == "GetVarShape" for n in graph.nodes):  # of tensors that nobody computes, perhaps
            return Outcome("ok", "not compared")
        return Outcome("inconsistent", f"runs, but by definition {type(error).__name__}: {error}")
    if isinstance(result, Outcome):
        return Outcome("inconsistent", f"has a result by definition, but {result.text}")
    if _is_indefinite(graph):
        return Outcome("ok")
    tolerance = _tolerance(graph)
    for name, var, got in zip(graph.output_names, graph.outputs, result, strict=True):
        want = values[var]
        if (ordinary and got.shape != want.shape) or got.dtype != want.dtype:
            return Outcome("different", f"{name}: {got.dtype} {got.shape}, not {want.dtype} {want.shape}")
        if ordinary and (text := _difference(got, want, tolerance)):
            return Outcome("different", f"{name}: {text}")
    return Outcome("ok")


def _is_ordinary(array: np.ndarray) -> bool:
    """Whether kernels and definition must agree on what comes of an array."""
    if array.dtype.kind not in "fc":
        return (
            array.dtype != np.int32 or not array.size or bool(np.abs(array.astype(np.int64)).max() < _LARGEST_INTEGER)
        )
    size = np.abs(array)
    return bool(((size < _LARGEST) & ((size > _SMALLEST) | (size == 0))).all())


def _is_ordinary_parameter(value: object) -> bool:
    return not isinstance(value, float) or value == 0 or _SMALLEST < abs(value) < _LARGEST


def _tolerance(graph: Graph) -> Tolerance:
    used = [n.output_dtype for n in graph.nodes if n.output_dtype is not None]
    used += [v.spec.dtype for n in graph.nodes for v in n.inputs if v.spec is not None]
    if any(d.is_quantized for d in used):
        return Tolerance(0.1, 0.05)
    return Tolerance(5e-2 if any(d.code in (DTypeCode.FLOAT16, DTypeCode.BFLOAT16) for d in used) else 2e-3)


def _difference(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> str:
    if not want.size:
        return ""
    wide = np.complex128 if want.dtype.kind == "c" else np.float64
    difference = np.abs(got.astype(wide) - want.astype(wide))
    largest = float(np.abs(want.astype(wide)).max())
    limit = tolerance.relative * max(largest, 1e-6) if want.dtype.kind in "fc" else 0
    wrong = ~(difference <= limit)
    if not wrong.any():
        return ""
    if tolerance.share and wrong.mean() <= tolerance.share and difference.max() <= max(1, 0.1 * largest):
        return ""
    place = np.unravel_index(int(wrong.argmax()), want.shape)
    return (
        f"{wrong.sum()} of {want.size} differ, the largest is {largest:.4g}; {got[place]} not {want[place]} at {place}"
    )
