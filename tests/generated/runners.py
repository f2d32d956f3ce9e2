"""Runs a graph at a setting: as a session in memory full of NaN, or by the public interface."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Protocol

import numpy as np
from support.graphs import overwrite
from support.guarded_memory import GuardedArena, guarded_bytes, guarded_copy

from generated.expected import Expected
from generated.files import model_bytes
from generated.maker import Values
from generated.settings import Setting
from megengine_lite import LiteConfig, LiteNetwork
from megengine_lite._api.loading import transformed
from megengine_lite._core.cpu.host_memory import HostArena
from megengine_lite._core.formats.load import load_model, load_record
from megengine_lite._core.formats.mge.build import build_model
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.ir.graph import ConstantPool, Graph
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.system.memory import Storage

# Bytes that are NaN as floats of all sizes, and -1 as integers.
_UNWRITTEN = 0xFF


class WrongNamesError(Exception):
    """Outputs of a loaded model have other names than those of the graph."""


class ChangedError(Exception):
    """An output that had been handed over was changed by a later run."""


class PoisonedArena(HostArena):
    """An arena that is filled with NaN each time that a plan takes it."""

    def reserve(self, nbytes: int) -> int:
        address = super().reserve(nbytes)
        self._memory[...] = _UNWRITTEN
        return address


class Runner(Protocol):
    """A graph that is ready to be run."""

    def run(self, inputs: Values, expected: Sequence[Expected]) -> list[np.ndarray | None]:
        """Copies of the outputs; None for one of which only the shape was asked for."""


def _file(graph: Graph, setting: Setting) -> bytes:
    data = model_bytes(graph, named_variables=True)
    if setting.layout is None:
        return data
    record, *_ = load_record(data)
    return b"".join(write_v2(transformed(build_model(record), record, setting.layout)))


class SessionRunner:
    """Runs a session; all memory that its plans may write to is full of NaN before."""

    def __init__(self, graph: Graph, setting: Setting, pool: ConstantPool):
        if setting.through == "file":
            model = load_model(_file(graph, setting))
            if model.output_names != graph.output_names:
                raise WrongNamesError(f"outputs are called {model.output_names} instead of {graph.output_names}")
        else:
            names = [v.name for v in graph.inputs]
            model = SimpleNamespace(graph=graph, input_names=names, output_names=graph.output_names, default_inputs={})
        arena = GuardedArena() if setting.guarded else PoisonedArena()
        self._hidden = frozenset(graph.output_names[1::2]) if setting.shape_only else frozenset()
        self._setting = setting
        self._held: list[tuple[Storage, bytes]] = []
        self._session = Session(model, setting.config(), pool=pool, arena=arena, shape_only=self._hidden)  # type: ignore[arg-type]

    def run(self, inputs: Values, expected: Sequence[Expected]) -> list[np.ndarray | None]:
        session = self._session
        hold = guarded_copy if self._setting.guarded else np.ascontiguousarray
        for name, value in inputs.items():
            array = hold(value)
            session.set_array(name, array)
        if self._setting.own_outputs:
            for name, one in zip(session.output_names, expected, strict=True):
                memory = guarded_bytes(one.value.nbytes)
                memory[...] = _UNWRITTEN
                session.bind_output(name, Storage.of_buffer(memory), memory.nbytes)
        if self._setting.renewed:
            session.renew_outputs()
        session.prepare()
        held = {id(storage) for storage, _ in self._held}
        for plan in session.plans():
            for buffer in plan.buffers:
                if id(buffer) not in held:
                    overwrite(buffer, _UNWRITTEN)
        if self._setting.timed:
            session.run_profiled()
        else:
            session.run()
        outputs = [self._output(name, one) for name, one in zip(session.output_names, expected, strict=True)]
        if isinstance(session.arena, GuardedArena):
            session.arena.check()
        if any(bytes(memoryview(storage)) != copy for storage, copy in self._held):
            raise ChangedError("an output of an earlier run was changed")
        return outputs

    def _output(self, name: str, expected: Expected) -> np.ndarray | None:
        value = self._session.output(name)
        if name in self._hidden:
            if value.shape != expected.value.shape or value.dtype.storage != expected.value.dtype:
                raise WrongNamesError(f"{name!r} should be {expected.value.shape}, is {value.dtype} {value.shape}")
            return None
        if self._setting.renewed:
            self._held.append((value.storage, bytes(memoryview(value.storage))))
        return value.array().copy()


class NetworkRunner:
    """Runs a model file by the public interface."""

    def __init__(self, graph: Graph, setting: Setting):
        config = LiteConfig()
        if not setting.fuse:
            config.options.graph_opt_level = 0
        self._network = LiteNetwork(config)
        self._network.threads_number = setting.threads
        self._network._settings.isa = setting.isa
        self._network.precision = setting.precision
        self._network.load(model_bytes(graph))
        names = self._network.get_all_output_name()
        if names != graph.output_names:
            raise WrongNamesError(f"outputs are called {names} instead of {graph.output_names}")

    def run(self, inputs: Values, expected: Sequence[Expected]) -> list[np.ndarray | None]:
        network = self._network
        for name, value in inputs.items():
            network.get_io_tensor(name).set_data_by_copy(value)
        network.forward()
        network.wait()
        arrays = [network.get_io_tensor(name).to_numpy().copy() for name in network.get_all_output_name()]
        # Bool tensors are bytes in the public interface.
        return [a.view(np.bool_) if one.value.dtype == np.bool_ else a for a, one in zip(arrays, expected, strict=True)]


def make_runner(graph: Graph, setting: Setting, pool: ConstantPool) -> Runner:
    """What runs a graph at a setting."""
    return NetworkRunner(graph, setting) if setting.through == "network" else SessionRunner(graph, setting, pool)
