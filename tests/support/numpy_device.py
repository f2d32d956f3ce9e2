"""A device with memory of its own, which runs the numpy definitions of operators. docs/adding-a-device.md explains it.

The host can reach nothing of that memory: a storage has no address, and the one that DLPack shows lies in pages that
nobody may read. Work is queued, and done when somebody waits for it: code that forgets to wait reads old numbers.
"""

from __future__ import annotations

import mmap
import threading
import weakref
from collections.abc import Callable
from time import perf_counter

import numpy as np

from megengine_lite._core.compile.infer import Stage
from megengine_lite._core.device.interface import Device
from megengine_lite._core.device.plan import Arena, Origin, Plan, PlanReport, RunValue, Slot, StepTime
from megengine_lite._core.ir.graph import AnyVar, ConstantPool, TensorSpec
from megengine_lite._core.operators.base import quiet
from megengine_lite._core.operators.reference import run_node
from megengine_lite._core.session_config import SessionConfig
from megengine_lite._core.system.memory import Storage
from megengine_lite.struct import LiteDeviceType


class NumpyMemory(Storage):
    """A piece of the device's memory. Only the device knows where the bytes are."""

    def __init__(self, nbytes: int, device: NumpyDevice):
        self._pages = mmap.mmap(-1, nbytes + 1, prot=0)
        self.handle: int = np.frombuffer(self._pages, np.uint8).ctypes.data


class NumpyDevice(Device):
    """Two devices that are a part of this process, and behave as if they were not."""

    type = LiteDeviceType.LITE_ATLAS

    def __init__(self) -> None:
        self._contents: dict[int, np.ndarray] = {}
        self._queue: list[Callable[[], None]] = []
        self._lock = threading.RLock()

    def count(self) -> int:
        return 2

    # Memory.

    def allocate(self, nbytes: int, device_id: int = 0, host: bool = False) -> Storage:
        if host:
            return Storage(nbytes)
        memory = NumpyMemory(nbytes, self)
        self._contents[memory.handle] = np.zeros(nbytes, np.uint8)
        weakref.finalize(memory, self._contents.pop, memory.handle)
        return memory

    def bytes_of(self, storage: Storage, offset: int, nbytes: int) -> np.ndarray:
        """A view of the device's memory, for work of the device."""
        assert isinstance(storage, NumpyMemory) and 0 <= offset <= offset + nbytes <= storage.nbytes
        return self._contents[storage.handle][offset : offset + nbytes]

    def read(self, storage: Storage, offset: int, into: np.ndarray) -> None:
        self.synchronize(0)
        into[...] = self.bytes_of(storage, offset, into.nbytes)

    def write(self, storage: Storage, offset: int, data: np.ndarray) -> None:
        kept = data.copy()
        self.start(lambda: np.copyto(self.bytes_of(storage, offset, kept.nbytes), kept))

    def copy(self, source: Storage, source_offset: int, target: Storage, target_offset: int, nbytes: int) -> None:
        self.start(
            lambda: np.copyto(
                self.bytes_of(target, target_offset, nbytes), self.bytes_of(source, source_offset, nbytes).copy()
            )
        )

    def fill_zero(self, storage: Storage, offset: int, nbytes: int) -> None:
        self.start(lambda: self.bytes_of(storage, offset, nbytes).fill(0))

    def dlpack_device(self, device_id: int, host: bool) -> tuple[int, int]:
        return (1, 0) if host else (12, device_id)  # the processor, or a device of a third party

    def dlpack_address(self, storage: Storage) -> int:
        assert isinstance(storage, NumpyMemory)
        return storage.handle

    # The order of work.

    def start(self, work: Callable[[], None]) -> None:
        """Queues work, which is done when somebody waits."""
        with self._lock:
            self._queue.append(work)

    def synchronize(self, device_id: int) -> None:
        with self._lock:
            queue, self._queue = self._queue, []
            for work in queue:
                work()

    # Plans.

    def plan(self, stage: Stage, pool: ConstantPool, config: SessionConfig, device_id: int) -> Plan:
        return NumpyPlan(self, stage)

    def new_arena(self, device_id: int) -> Arena:
        return NumpyArena()


class NumpyArena(Arena):
    """Intermediate results are arrays that numpy allocates."""

    @property
    def nbytes(self) -> int:
        return 0

    def release(self) -> None:
        """There is nothing to free."""


class NumpyPlan(Plan):
    """Runs the nodes of a stage one by one, by their definitions."""

    def __init__(self, device: NumpyDevice, stage: Stage):
        graph, original = stage.graph, stage.original
        fixed = [v for v in graph.outputs if isinstance(v.spec, TensorSpec)]
        inputs = [Slot(original[v], v.spec, k) for k, v in enumerate(graph.inputs)]
        outputs = [Slot(original[v], v.spec, len(inputs) + k) for k, v in enumerate(fixed)]
        dynamic = {v: original[v] for v in graph.outputs if not isinstance(v.spec, TensorSpec)}
        super().__init__(stage, inputs, outputs, dynamic)
        self._device = device
        self._nodes = graph.nodes
        self._ends = [*graph.inputs, *fixed]  # by the number of the slot
        self._bound: dict[int, tuple[Storage, int]] = {}

    def bind(self, slot: Slot, storage: Storage, offset: int) -> None:
        self._bound[slot.base] = storage, offset

    def run(self, arena: Arena) -> None:
        bound = dict(self._bound)
        self._device.start(lambda: self._compute(bound))
        if self.has_dynamic_outputs:
            self._device.synchronize(0)  # the session wants to know them at once

    def run_timed(self, arena: Arena) -> list[StepTime]:
        self._device.synchronize(0)
        return self._compute(dict(self._bound))

    def report(self) -> PlanReport:
        return PlanReport([StepTime(Origin.of(node), "numpy", 0.0, 0) for node in self._nodes])

    @quiet
    def _compute(self, bound: dict[int, tuple[Storage, int]]) -> list[StepTime]:
        values: dict[AnyVar, np.ndarray] = {}
        times = []

        def memory(slot: Slot) -> np.ndarray:
            data = self._device.bytes_of(*bound[slot.base], slot.spec.nbytes)
            return data.view(slot.spec.dtype.storage).reshape(slot.spec.shape)

        def known(var: AnyVar) -> TensorSpec:
            array = values[var] if var.const is None else var.const.array
            return TensorSpec(array.shape, var.spec.dtype, array)

        for slot in self.inputs:
            values[self._ends[slot.base]] = memory(slot).copy()
        for node in self._nodes:
            begin = perf_counter()
            results = run_node(node, [known(v) for v in node.inputs])
            values.update((v, r.value) for v, r in zip(node.outputs, results, strict=True))
            times.append(StepTime(Origin.of(node), "numpy", perf_counter() - begin, 0))
        for slot in self.outputs:
            np.copyto(memory(slot), known(self._ends[slot.base]).value)
        for var, named in self._dynamic_vars.items():
            self.dynamic[named] = self._new_value(known(var))
        return times

    def _new_value(self, result: TensorSpec) -> RunValue:
        array = np.ascontiguousarray(result.value)
        storage = self._device.allocate(array.nbytes)
        self._device.bytes_of(storage, 0, array.nbytes)[...] = array.reshape(-1).view(np.uint8)
        return RunValue(TensorSpec(array.shape, result.dtype), storage)
