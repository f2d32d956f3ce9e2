"""Errors of devices: what a device's code or driver raises becomes an error of this package."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from megengine_lite.errors import LiteError

if TYPE_CHECKING:
    from typing import Protocol

    class Faulty(Protocol):
        """The part of a device that tells of its faults; see _core/device/interface.py."""

        def fault(self, error: Exception) -> LiteError:
            """The error of this package for another one."""


class errors_of:  # used like a function
    """Context manager around calls of a device.

    Errors of this package pass. Any other exception becomes ``device.fault(exception)``, which it is the cause of.
    """

    __slots__ = ("_device",)

    def __init__(self, device: Faulty):
        self._device = device

    def __enter__(self) -> None:
        """There is nothing to prepare."""

    def __exit__(self, kind: object, error: BaseException | None, traceback: TracebackType | None) -> None:
        if isinstance(error, Exception) and not isinstance(error, LiteError):
            raise self._device.fault(error) from error
