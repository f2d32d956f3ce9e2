"""Runs a graph at a setting, in memory full of NaN, and compares the outputs with the definitions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fuzz.guarded_memory import GuardedArena, WildWrite, guarded_bytes, guarded_copy, guarded_plans

from generated.expected import Expected, expected_outputs
from generated.files import model_bytes
from generated.grammar import used_graph
from generated.maker import Case, Values
from generated.settings import Setting
from megengine_lite import LiteConfig, LiteNetwork
from megengine_lite._core import fast_run
from megengine_lite._core.algo_cache import CACHE
from megengine_lite._core.dtype import from_numpy
from megengine_lite._core.graph import ConstantPool, Graph
from megengine_lite._core.loader import load_model, load_record
from megengine_lite._core.loader.build import build_model
from megengine_lite._core.loader.writer_v2 import write_v2
from megengine_lite._core.program import array_at
from megengine_lite._core.session import Arena, Session
from megengine_lite._core.transform import transform

# Bytes that are NaN as floats of all sizes, and -1 as integers.
_UNWRITTEN = 0xFF


class WrongNamesError(Exception):
    """Outputs of a loaded model have other names than those of the graph."""


class PoisonedArena(Arena):
    """An arena that is filled with NaN each time that a plan takes it."""

    def reserve(self, nbytes: int) -> int:
        address = super().reserve(nbytes)
        self._memory[...] = _UNWRITTEN
        return address


@dataclass(frozen=True)
class Failure:
    """What went wrong with a graph at a setting. ``kind`` tells the same thing of different graphs alike."""

    setting: Setting
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}\n  at {self.setting}"


@contextmanager
def _own_measurements() -> Iterator[None]:
    """Fast-run starts without measurements, and makes them shortly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CACHE, "_categories", {})
        patch.setattr(fast_run, "MIN_RUNS", 1)
        patch.setattr(fast_run, "MIN_NS", 0)
        yield


def _file(graph: Graph, setting: Setting) -> bytes:
    data = model_bytes(graph, named_variables=True)
    if setting.layout is None:
        return data
    record, *_ = load_record(data)
    return b"".join(write_v2(transform(build_model(record), record, setting.layout)))


def _session(graph: Graph, setting: Setting, pool: ConstantPool) -> Session:
    if setting.through == "file":
        model = load_model(_file(graph, setting))
        if model.output_names != graph.output_names:
            raise WrongNamesError(f"outputs are called {model.output_names} instead of {graph.output_names}")
    else:
        names = [v.name for v in graph.inputs]
        model = SimpleNamespace(graph=graph, input_names=names, output_names=graph.output_names, default_inputs={})
    arena = GuardedArena() if setting.guarded else PoisonedArena()
    return Session(model, setting.config(), pool=pool, arena=arena)  # type: ignore[arg-type]


def _network(graph: Graph, setting: Setting) -> LiteNetwork:
    config = LiteConfig()
    if not setting.fuse:
        config.options.graph_opt_level = 0
    network = LiteNetwork(config)
    network.threads_number = setting.threads
    network._settings.isa = setting.isa
    network.load(model_bytes(graph))
    if network.get_all_output_name() != graph.output_names:
        raise WrongNamesError(f"outputs are {network.get_all_output_name()} instead of {graph.output_names}")
    return network


def _run_network(network: LiteNetwork, inputs: Values) -> list[np.ndarray]:
    for name, value in inputs.items():
        network.get_io_tensor(name).set_data_by_copy(value)
    network.forward()
    network.wait()
    return [network.get_io_tensor(name).to_numpy().copy() for name in network.get_all_output_name()]


def _as_handed_out(one: Expected) -> Expected:
    """Bool tensors are bytes in the public interface."""
    return replace(one, value=one.value.view(np.uint8)) if one.value.dtype == np.bool_ else one


def _run(session: Session, inputs: Values, setting: Setting, expected: Sequence[Expected]) -> list[np.ndarray]:
    """Copies of the outputs; all memory that a plan may write to is full of NaN before."""
    hold = guarded_copy if setting.guarded else np.ascontiguousarray
    for name, value in inputs.items():
        array = hold(value)
        session.set_input(name, array.ctypes.data, array.shape, from_numpy(array.dtype), array)
    if setting.own_outputs:
        for name, one in zip(session.output_names, expected, strict=True):
            memory = guarded_bytes(one.value.nbytes)
            memory[...] = _UNWRITTEN
            session.bind_output(name, memory.ctypes.data, memory.nbytes, memory)
    session.prepare()
    for plan in session.plans():
        for buffer in plan.buffers:
            buffer[...] = _UNWRITTEN
    session.run()
    outputs = []
    for name in session.output_names:
        address, shape, dtype, _ = session.output(name)
        size = int(np.prod(shape)) * dtype.itemsize
        outputs.append(np.frombuffer(array_at(address, size) if size else b"", dtype.storage).reshape(shape).copy())
    if isinstance(session.arena, GuardedArena):
        session.arena.check()
    return outputs


def _raised(error: Exception) -> str:
    """The types of an error and of what caused it."""
    types = [type(error).__name__]
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
        types.append(type(error).__name__)
    return f"raised {' from '.join(types)}"


def _compare(got: Sequence[np.ndarray], expected: Sequence[Expected], names: Sequence[str]) -> str:
    for value, one, name in zip(got, expected, names, strict=True):
        found = "" if one.uncertain else one.difference(value)
        if found:
            return f"output {name!r}: {found}"
    return ""


class Checker:
    """A graph with its right outputs, to be run at many settings."""

    def __init__(self, case: Case):
        self.case = case
        self.expected = [expected_outputs(case.graph, inputs) for inputs in case.runs]

    @property
    def uncertain(self) -> bool:
        """Whether no output tells anything."""
        return all(one.uncertain for run in self.expected for one in run)

    def check(self, setting: Setting) -> Failure | None:
        """Runs all inputs, two times in turn where there are several; gives what is wrong."""
        order = None if setting.order is None else random.Random(setting.order)
        graph = used_graph(self.case.graph, order)
        pool = ConstantPool()
        with ExitStack() as stack:
            stack.enter_context(_own_measurements())
            stack.enter_context(np.errstate(all="ignore"))
            if setting.shared is not None:
                failure = self._runs(setting.shared, graph, pool, keep := [])
                if failure is not None:
                    return Failure(setting, failure.kind, f"the other session: {failure.message}")
                del keep
            if setting.guarded:
                stack.enter_context(guarded_plans())
            return self._runs(setting, graph, pool, [])

    def _runs(self, setting: Setting, graph: Graph, pool: ConstantPool, keep: list[Session]) -> Failure | None:
        try:
            if setting.through == "network":
                network = _network(graph, setting)
            else:
                session = _session(graph, setting, pool)
                keep.append(session)
            first: dict[int, list[np.ndarray]] = {}
            for k in [*range(len(self.case.runs))] * 2:
                if setting.through == "network":
                    got = _run_network(network, self.case.runs[k])
                else:
                    got = _run(session, self.case.runs[k], setting, self.expected[k])
                expected = self.expected[k]
                if setting.through == "network":
                    expected = [_as_handed_out(one) for one in expected]
                wrong = _compare(got, expected, graph.output_names)
                if wrong:
                    return Failure(setting, "wrong", f"run {k}, {wrong}")
                before = first.setdefault(k, got)
                if any(a.tobytes() != b.tobytes() for a, b in zip(got, before, strict=True)):
                    return Failure(setting, "other numbers", f"run {k} gives other numbers the second time")
        except WildWrite as error:
            return Failure(setting, "wild write", str(error))
        except Exception as error:  # any of them is what is looked for
            return Failure(setting, _raised(error), str(error))
        return None


def check_case(case: Case, settings: Sequence[Setting]) -> list[Failure]:
    """What is wrong with a graph at each of the settings."""
    checker = Checker(case)
    return [failure for setting in settings if (failure := checker.check(setting)) is not None]


def write_case(case: Case, stem: Path) -> None:
    """Writes ``stem.mge`` and ``stem.npz`` with ``in_NAME`` and ``out_K`` of the first run."""
    stem.with_suffix(".mge").write_bytes(model_bytes(case.graph))
    arrays = {f"in_{name}": value for name, value in case.runs[0].items()}
    for k, one in enumerate(Checker(case).expected[0]):
        arrays[f"out_{k}"] = one.value
    np.savez(stem.with_suffix(".npz"), **arrays)
