"""The CPU as a device: host memory, and plans that run kernels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from megengine_lite._core.device.interface import PLAN_SETTINGS, Device
from megengine_lite._core.system.dlpack import CPU_DEVICE
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.late_import import late_import
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import DeviceError
from megengine_lite.struct import LiteDeviceType

if TYPE_CHECKING:
    from megengine_lite._core.compile.infer import Stage
    from megengine_lite._core.device.plan import Arena, Plan
    from megengine_lite._core.formats.prepared.record import PreparedPlan
    from megengine_lite._core.ir.graph import AnyVar, ConstantPool
    from megengine_lite._core.session_config import Measurements, SessionConfig

_LARGE = 1 << 25
"""Bytes of memory that is worth large pages."""
# What makes plans is imported when the first model is loaded: tensors need none of it.


class CpuDevice(Device):
    """The processor and its memory. Ids are labels: all of them mean the same processor."""

    type = LiteDeviceType.LITE_CPU
    host_visible = True
    obeys = PLAN_SETTINGS

    @property
    def most_threads(self) -> int:
        from megengine_lite._core.cpu.threads import MOST_THREADS

        return int(MOST_THREADS)

    def near_bytes(self, config: SessionConfig) -> int:
        with late_import():
            from megengine_lite._core.cpu.kernel_set import instruction_set

        return instruction_set(config.isa).near_bytes

    def count(self) -> int:
        """The number of processors that this process may use."""
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    def check_id(self, device_id: int) -> int:
        device_id = to_integer(device_id, "a device id")
        if not -1 <= device_id < 2**31:
            raise DeviceError(f"there is no CPU device {device_id}; ids are -1 (any), 0, 1, ...")
        return device_id

    def allocate(self, nbytes: int, device_id: int = 0, host: bool = False) -> Storage:
        if nbytes < _LARGE:
            return Storage(nbytes)
        with late_import():
            from megengine_lite._core.cpu.host_memory import large_storage

        return large_storage(nbytes)

    def synchronize(self, device_id: int) -> None:
        """A run and a copy are over when their calls return."""

    def dlpack_device(self, device_id: int, host: bool) -> tuple[int, int]:
        where: tuple[int, int] = CPU_DEVICE
        return where

    def plan(self, stage: Stage, pool: ConstantPool, config: SessionConfig, device_id: int) -> Plan:
        with late_import():
            from megengine_lite._core.cpu import planner
            from megengine_lite._core.cpu.algorithms.cache import CACHE
            from megengine_lite._core.cpu.kernel_set import kernel_set

        plan = planner.build_plan(stage, kernel_set(config.isa), pool, config)
        CACHE.flush()  # planning has measured
        return plan

    def facts_of_plans(self, config: SessionConfig) -> dict[str, str]:
        with late_import():
            from megengine_lite._core.cpu.prepared_plan import kernels_version
            from megengine_lite._core.system.processor import brand

        isa, version = kernels_version(config)
        return {"processor": brand(), "instruction set": isa, "kernels": version}

    def record(self, plan: Plan, variables: Mapping[AnyVar, int]) -> PreparedPlan:
        with late_import():
            from megengine_lite._core.cpu import plan_record
            from megengine_lite._core.cpu.planner import HostPlan

        assert isinstance(plan, HostPlan)
        return plan_record.record_of(plan, variables)

    def restore(self, record: PreparedPlan, variables: Mapping[int, AnyVar], config: SessionConfig, what: str) -> Plan:
        with late_import():
            from megengine_lite._core.cpu import prepared_plan

        return prepared_plan.restore(record, variables, config, what)

    def new_arena(self, device_id: int) -> Arena:
        with late_import():
            from megengine_lite._core.cpu.host_memory import HostArena

        return HostArena()

    def facts(self, config: SessionConfig) -> dict[str, str]:
        from megengine_lite._core.cpu.kernel_set import cpu_info, kernel_set

        return {"processor": str(cpu_info()["brand"]), "kernels": kernel_set(config.isa).name}

    def slow_products_of_bytes(self, config: SessionConfig) -> str:
        from megengine_lite._core.cpu.isa import instruction_sets
        from megengine_lite._core.cpu.kernel_set import kernel_set

        own = kernel_set(config.isa).isa
        if own.dot.is_one_instruction:
            return ""
        better = [name for name, row in instruction_sets().items() if row.dot.is_one_instruction]
        return f"{own.name} has no dot product of them{f' as {better[-1]} has' if better else ''}"

    def channels_of_block(self, config: SessionConfig) -> int:
        from megengine_lite._core.cpu.kernel_set import instruction_set

        return instruction_set(config.isa).width

    def read_measurements(self, content: bytes) -> Measurements | None:
        from megengine_lite._core.cpu.algorithms.cache import AlgoCache

        cache = AlgoCache()
        cache.merge(content)
        return cache
