"""The devices that exist, by ``LiteDeviceType``. This is the one place that knows them."""

from __future__ import annotations

from megengine_lite._core.cpu.device import CpuDevice
from megengine_lite._core.device.interface import Device
from megengine_lite._core.system.control_groups import within_quota
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.integers import to_integer
from megengine_lite.errors import DeviceError
from megengine_lite.struct import LiteDeviceType

_DEVICES: dict[int, Device] = {}


def register_device(device: Device) -> None:
    """Makes a device available under its type, in place of one that had the same type."""
    _DEVICES[device.type] = device


CPU = CpuDevice()
register_device(CPU)


def _to_type(device_type: int) -> LiteDeviceType:
    number = to_integer(device_type, "a device type")
    try:
        kind = LiteDeviceType(number)
    except ValueError:
        raise DeviceError(f"there is no device type {number}; use LiteDeviceType.LITE_CPU") from None
    return LiteDeviceType.LITE_CPU if kind is LiteDeviceType.LITE_DEVICE_DEFAULT else kind


def get_device(device_type: int) -> Device:
    """The device of a ``LiteDeviceType``; ``LITE_DEVICE_DEFAULT`` is the CPU.

    Raises
    ------
    DeviceError
        This machine or this build does not have it.
    """
    is_known = type(device_type) is LiteDeviceType and device_type in _DEVICES  # by far the most frequent case
    kind = device_type if is_known else _to_type(device_type)
    device = _DEVICES.get(kind)
    if device is not None:
        return device
    available = " or ".join(f"LiteDeviceType.{d.name}" for d in _DEVICES.values())
    message = f"{LiteDeviceType(kind).name} is not available in this build. Use device_type={available}"
    if kind == LiteDeviceType.LITE_CAMBRICON:
        message += " (the number 5 meant LITE_DEVICE_DEFAULT in older versions of this API; that is 7 now)"
    raise DeviceError(message)


def device_count(device_type: int) -> int:
    """How many devices of a type there are; 0 for those that this build cannot drive."""
    kind = _to_type(device_type)
    device = _DEVICES.get(kind)
    if device is None:
        return 0
    with errors_of(device):
        return device.count()


def busy_processors() -> int:
    """How many processors this process can keep busy, and so how many threads are worth having.

    Those that it may use, within the quotas of its control groups.
    """
    return within_quota(device_count(LiteDeviceType.LITE_CPU))


def check_device_id(device_type: int, device_id: int) -> int:
    """An id for a device of a type. If the type is not available, that is left to :func:`get_device`."""
    kind = _to_type(device_type)
    device = _DEVICES.get(kind, CPU)
    with errors_of(device):
        return device.check_id(device_id)
