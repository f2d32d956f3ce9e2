"""What a device must offer. Everything above this package asks for no more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.memory import Storage
from megengine_lite.errors import DeviceError, InternalError, LiteError, LiteMemoryError, import_error
from megengine_lite.struct import LiteDeviceType

if TYPE_CHECKING:  # tensors need a device, but nothing of what makes plans
    from megengine_lite._core.compile.infer import Stage
    from megengine_lite._core.device.plan import Arena, Plan
    from megengine_lite._core.formats.prepared.record import PreparedPlan
    from megengine_lite._core.ir.graph import AnyVar, ConstantPool
    from megengine_lite._core.session_config import Measurements, SessionConfig


PLAN_SETTINGS = frozenset(
    """threads_number graph_opt_level jit_level fuse_preprocess no_profiling_on_shape_change algo_policy
    precision""".split()
)
"""Settings of a network that mean something only to the plans of a device."""


class Device(ABC):
    """A kind of hardware that runs networks and holds tensors.

    A device that works in memory of the host needs none of ``read``, ``write``, ``copy``, ``fill_zero`` and
    ``dlpack_address``: nothing calls them.

    Attributes
    ----------
    type : LiteDeviceType
        Its number in the API.
    host_visible : bool
        Whether the device works in memory of the host, as a CPU does: ``device`` of its storages is None. Otherwise
        plans are bound to storages of this device only (of any id); tensors in other memory are copied there and back.
    obeys : frozenset of str
        Those of :data:`PLAN_SETTINGS` that its plans depend on. If a program sets another one, a warning says that it
        has no effect on this device.
    """

    type: LiteDeviceType
    host_visible: bool = False
    obeys: frozenset[str] = frozenset()

    @property
    def most_threads(self) -> int:
        """Threads of the host that can work on one run."""
        return 1

    def near_bytes(self, config: SessionConfig) -> int:
        """Bytes of results that are best made before their readers run; large batches run a few samples at a time if
        theirs are many times more. 0 runs all batches as a whole."""
        return 0

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self.type.name

    @abstractmethod
    def count(self) -> int:
        """How many there are, for ``LiteGlobal.get_device_count``."""

    def check_id(self, device_id: int) -> int:
        """The id as an int. Ids are 0 .. count - 1; -1 means any, and becomes 0. The other methods get the result.

        Raises
        ------
        DeviceError
            There is no such device.
        """
        device_id = to_integer(device_id, "a device id")
        if device_id == -1:
            return 0
        if not 0 <= device_id < self.count():
            raise DeviceError(f"there is no {self.name} device {device_id}; there are {self.count()}, from 0 on")
        return device_id

    # Memory.

    @abstractmethod
    def allocate(self, nbytes: int, device_id: int = 0, host: bool = False) -> Storage:
        """Zeroed memory, which may be allocated when it is first used, and is freed with the storage.

        Parameters
        ----------
        nbytes
            Its size.
        device_id
            Where.
        host
            Memory of the host that the device copies from and to fast (pinned memory), instead of its own.
        """

    def read(self, storage: Storage, offset: int, into: np.ndarray) -> None:
        """Copies from memory of this device to the host, and waits for it. ``into`` is an array of bytes."""
        raise self._cannot("read", "copy from its memory to the host")

    def write(self, storage: Storage, offset: int, data: np.ndarray) -> None:
        """Copies bytes from the host to memory of this device. ``data`` may be changed after the call."""
        raise self._cannot("write", "copy from the host to its memory")

    def copy(self, source: Storage, source_offset: int, target: Storage, target_offset: int, nbytes: int) -> None:
        """Copies between memory of this device, which may overlap."""
        raise self._cannot("copy", "copy inside of its memory")

    def fill_zero(self, storage: Storage, offset: int, nbytes: int) -> None:
        """Sets bytes of memory of this device to zero."""
        raise self._cannot("fill_zero", "set its memory to zero")

    @abstractmethod
    def synchronize(self, device_id: int) -> None:
        """Waits for all work that was started on a device."""

    @abstractmethod
    def dlpack_device(self, device_id: int, host: bool) -> tuple[int, int]:
        """(type, id) in DLPack of what :meth:`allocate` gives for the same arguments."""

    def dlpack_address(self, storage: Storage) -> int:
        """The address of memory of this device, for other libraries that drive it."""
        raise self._cannot("dlpack_address", "show its memory to other libraries (dl_device=(1, 0) gives a copy)")

    # Errors.

    def _cannot(self, method: str, what: str) -> DeviceError:
        return DeviceError(f"{self.name} has no method {method} ({type(self).__name__}): it cannot {what}")

    def fault(self, error: Exception) -> LiteError:
        """The error of this package for an exception that a method of the device or of a plan should not have raised.

        The caller raises it, with ``error`` as its cause.
        """
        if isinstance(error, MemoryError):
            return LiteMemoryError(f"there is not enough memory on {self.name}: {error}")
        if isinstance(error, ImportError):
            return import_error(error, self.name)
        return InternalError(
            f"{self.name} has failed: {type(error).__name__}: {error}; this is a fault of the device's code or driver, "
            "please report it"
        )

    # Plans.

    @abstractmethod
    def plan(self, stage: Stage, pool: ConstantPool, config: SessionConfig, device_id: int) -> Plan:
        """Makes a plan. The stage's graph may be changed.

        Raises
        ------
        LiteError
            The stage cannot run here: an operator is not supported, or there is not enough memory.
        """

    def facts_of_plans(self, config: SessionConfig) -> dict[str, str]:
        """What of the hardware and of this device's code the plans of a configuration depend on, by name."""
        return {}

    def record(self, plan: Plan, variables: Mapping[AnyVar, int]) -> PreparedPlan:
        """A plan as a prepared file has it. Inputs and outputs of the model go by their numbers in ``variables``.

        Raises
        ------
        LiteError
            The plan cannot be stored.
        """
        raise self._cannot("record", "store plans in prepared files")

    def restore(self, record: PreparedPlan, variables: Mapping[int, AnyVar], config: SessionConfig, what: str) -> Plan:
        """The plan of a record, which a device with the same :meth:`facts_of_plans` has made.

        Parameters
        ----------
        record
            From a prepared file.
        variables
            The inputs and outputs of the model, by number.
        config
            The session's.
        what
            Name of the file for messages.

        Raises
        ------
        ModelFormatError
            The record has what cannot be.
        """
        raise self._cannot("restore", "run plans from prepared files")

    @abstractmethod
    def new_arena(self, device_id: int) -> Arena:
        """Memory for the intermediate results of plans."""

    def facts(self, config: SessionConfig) -> dict[str, str]:
        """What reports say of the hardware, by title; ``kernels`` names what plans for the configuration run."""
        return {"device": self.name}

    def slow_products_of_bytes(self, config: SessionConfig) -> str:
        """Why plans for the configuration gain little by 8-bit numbers, as part of a sentence; empty if they gain."""
        return ""

    def channels_of_block(self, config: SessionConfig) -> int:
        """Channels in a block of the layouts that plans use; 0 if they use none.

        Raises
        ------
        DeviceError
            Plans for the configuration cannot run on this machine.
        """
        return 0

    def read_measurements(self, content: bytes) -> Measurements | None:
        """The times of algorithms that were packed with a model; None if this device measures nothing.

        Raises
        ------
        LiteError
            The content is damaged.
        """
        return None
