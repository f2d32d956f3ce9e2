"""Devices, as the API sees them: whether they exist, and their memory.

There is one, the CPU. Asking for another raises a ``DeviceError`` that says what to do.
"""

from __future__ import annotations

import os

from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import DeviceError

CPU = 0
DEFAULT = 7
_NAMES = {0: "LITE_CPU", 1: "LITE_CUDA", 3: "LITE_ATLAS", 4: "LITE_NPU", 5: "LITE_CAMBRICON", 7: "LITE_DEVICE_DEFAULT"}


class CpuDevice:
    """The processor and its memory. Ids are labels: all of them mean the same processor."""

    type = CPU

    def allocate(self, nbytes: int) -> Storage:
        """Memory of this device. It is allocated when it is first used."""
        return Storage(nbytes)

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


_CPU_DEVICE = CpuDevice()


def get_device(device_type: int) -> CpuDevice:
    """The device of a ``LiteDeviceType``.

    Raises
    ------
    DeviceError
        This machine or this build does not have it.
    """
    device_type = to_integer(device_type, "a device type")
    if device_type in (CPU, DEFAULT):
        return _CPU_DEVICE
    if device_type not in _NAMES:
        raise DeviceError(f"there is no device type {device_type}; use LiteDeviceType.LITE_CPU")
    message = (
        f"{_NAMES[device_type]} is not available: this build runs on CPUs. Use device_type=LiteDeviceType.LITE_CPU"
    )
    if device_type == 5:
        message += " (the number 5 meant LITE_DEVICE_DEFAULT in older versions of this API; that is 7 now)"
    raise DeviceError(message)


def device_count(device_type: int) -> int:
    """How many devices of a type there are; 0 for those that this build cannot drive."""
    device_type = to_integer(device_type, "a device type")
    if device_type in (CPU, DEFAULT):
        return _CPU_DEVICE.count()
    if device_type in _NAMES:
        return 0
    raise DeviceError(f"there is no device type {device_type}")
