"""The inputs and outputs of a network: tensors on one side, memory of a session on the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from megengine_lite._api.layout import LiteLayout
from megengine_lite._api.network_io import LiteIO
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._core.system.memory import Storage
from megengine_lite._core.system.strided import NUMPY_TYPES, code_of, count_bytes
from megengine_lite.errors import LiteArgumentError, LiteError, LiteIndexError, LiteTypeError, ShapeError
from megengine_lite.log import warn
from megengine_lite.struct import LiteIOType
from megengine_lite.tensor import LiteTensor

if TYPE_CHECKING:
    from megengine_lite._core.device.interface import Device
    from megengine_lite._core.device.plan import RunValue
    from megengine_lite._core.ir.dtype import DType
    from megengine_lite._core.runtime.jobs import Job
    from megengine_lite._core.runtime.session import Session


def port_code(dtype: DType) -> int:
    """``LiteDataType`` number of a model's element type: that of its storage; bool counts as uint8.

    Raises
    ------
    LiteTypeError
        Tensors cannot hold it.
    """
    code = code_of(np.dtype(np.uint8) if dtype.storage == np.bool_ else dtype.storage)
    if code is None:
        raise LiteTypeError(f"elements of type {dtype} cannot be an input or output of a network")
    return code


def _tensor(shape: tuple[int, ...], code: int, device: Device, device_id: int, host: bool) -> LiteTensor:
    """A tensor in memory of the device, or of the host for the device."""
    pinned = host and not device.host_visible
    return LiteTensor(LiteLayout._make(shape, code), device.type, device_id, pinned)


def _memory_of(device: Device) -> Device | None:
    """``device`` of the storages that a session on this device works in."""
    return None if device.host_visible else device


class InputPort:
    """An input: tells the session when the memory or the shape of its tensor has changed.

    The session reads the tensor's memory if that is dense and of the session's device. Else it reads a copy, which each
    forward renews.
    """

    __slots__ = (
        "_batch",
        "_code",
        "_copy",
        "_memory",
        "_pieces",
        "_rows",
        "_storage",
        "_version",
        "name",
        "shape",
        "tensor",
    )

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DType,
        device: Device,
        device_id: int,
        io: LiteIO | None = None,
        default: np.ndarray | None = None,
    ):
        self.name = name
        self._code = code = port_code(dtype)
        wanted = io.config_layout if io is not None else LiteLayout()
        if wanted.ndim:
            shape = wanted._shape
        if wanted._explicit_dtype and wanted._code != code:
            raise LiteTypeError(
                f"input {name!r} is {NUMPY_TYPES[code]}; the LiteIO for it asks for {NUMPY_TYPES[wanted._code]}"
            )
        self._memory = _memory_of(device)
        self.tensor = _tensor(shape, code, device, device_id, io is None or bool(io.is_host))
        self.tensor._port = (name, code)
        if default is not None and default.shape == shape:
            self.tensor.set_data_by_copy(default.view(NUMPY_TYPES[code]))
        self.shape: tuple[int, ...] | None = None
        """The shape in the session; None before the first run."""
        self._version = -1
        self._storage: Storage | None = None
        self._copy: LiteTensor | None = None  # of a tensor that the session cannot read
        self._batch: LiteTensor | None = None  # the pieces of a discrete input, put together
        self._rows: list[LiteTensor] = []  # its samples; a piece is another tensor over the same memory,
        self._pieces: list[LiteTensor] = []  # or over memory that it was given

    def bind(self, session: Session) -> bool:
        """Gives the tensor's memory to the session; returns whether the shape has changed."""
        tensor = self.tensor
        if self._batch is not None:
            self._gather()
        if tensor.version == self._version:
            storage = self._storage
            if storage is not None and storage.pending is not None:
                storage.settle()
            if self._copy is not None:
                self._copy.copy_from(tensor)
            return False
        return self._bind_anew(session)

    def _bind_anew(self, session: Session) -> bool:
        tensor = self.tensor
        shape = tensor._shape
        if not shape:
            raise ShapeError(f"input {self.name!r} has no layout; set its data before forward")
        if tensor._code != self._code:
            raise LiteTypeError(
                f"input {self.name!r} is {NUMPY_TYPES[self._code]}, its tensor holds {NUMPY_TYPES[tensor._code]}"
            )
        source = tensor
        storage = tensor._storage
        if storage.device is self._memory and tensor._contiguous:
            self._copy = None
        else:
            source = self._copy = LiteTensor(device_type=session.device.type, device_id=session.device_id)
            source.copy_from(tensor)
            storage = source._storage
        session.set_input(self.name, storage, shape, None, source._offset)
        changed = shape != self.shape
        self.shape = shape
        self._storage = tensor._storage
        self._version = tensor.version
        return changed

    def forget_session(self) -> None:
        """Forgets what the session was told: the next one is new."""
        self._version = -1
        self.shape = None

    def busy(self, job: Job | None) -> None:
        """Sets the job that reads the memory; writing through the tensor waits for it."""
        self.tensor.busy = job

    # ---- discrete inputs ----------------------------------------------------------------------------------------

    def piece(self, index: int) -> LiteTensor:
        """One sample of the batch as a tensor of its own."""
        if self._batch is None:
            shape = self.tensor._shape
            batch = self.tensor._sibling()
            batch.layout = LiteLayout._make(shape, self._code)
            self._rows = [batch.slice([k], [k + 1]) for k in range(shape[0])]
            pieces = [batch.slice([k], [k + 1]) for k in range(shape[0])]
            for p in pieces:
                p._port = (self.name, self._code)
            self._pieces = pieces
            self._batch = batch  # at the end: an interrupt must not leave one without pieces
        if not 0 <= index < len(self._pieces):
            raise LiteIndexError(f"input {self.name!r} has {len(self._pieces)} pieces, there is no number {index}")
        return self._pieces[index]

    def _gather(self) -> None:
        """Copies pieces that have got memory of their own into the batch; the others are windows into it."""
        batch = self._batch
        assert batch is not None
        for k, piece in enumerate(self._pieces):
            if piece._shape[1:] != batch._shape[1:] or piece._shape[0] != 1 or piece._code != self._code:
                raise ShapeError(
                    f"piece {k} of input {self.name!r} has {piece.layout}; it must be {[1, *batch._shape[1:]]} of "
                    f"{NUMPY_TYPES[self._code]}"
                )
            if piece._storage is not batch._storage:
                self._rows[k].copy_from(piece)
        if self.tensor._storage is not batch._storage or self.tensor._shape != batch._shape:
            self.tensor.share_memory_with(batch)


class OutputPort:
    """An output: shows each result in its tensor, in the way that the options ask for.

    Parameters
    ----------
    user_memory
        ``force_output_use_user_specified_memory``
    fresh
        ``force_output_dynamic_alloc``
    """

    __slots__ = (
        "_device",
        "_device_id",
        "_fresh",
        "_given",
        "_is_host",
        "_layout",
        "_memory",
        "_pending",
        "_value",
        "_version",
        "name",
        "needs_memory",
        "shape_only",
        "tensor",
    )

    name: str
    tensor: LiteTensor
    shape_only: bool
    """Whether the tensor gets a layout and zeros, and no result."""
    needs_memory: bool
    """Whether the caller has to give memory for the result."""

    def __init__(
        self,
        name: str,
        device: Device,
        device_id: int,
        io: LiteIO | None = None,
        user_memory: bool = False,
        fresh: bool = False,
    ):
        self.name = name
        self.shape_only = io is not None and io.io_type == LiteIOType.LITE_IO_SHAPE
        layout = io.config_layout if io is not None else LiteLayout()
        self._layout = layout if layout.ndim or layout._explicit_dtype else None
        self.needs_memory = user_memory and not self.shape_only
        self._fresh = fresh and not self.shape_only
        self._device = device
        self._device_id = device_id
        self._memory = _memory_of(device)
        self._is_host = not device.host_visible and (io is None or bool(io.is_host))
        self.tensor = LiteTensor(device_type=device.type, device_id=device_id, is_pinned_host=self._is_host)
        self._show(Storage(0), (), 0)
        self._version = -1
        self._pending: Storage | None = None  # storage that was told of a job
        self._given = -1  # version of the tensor whose memory the session was told
        self._value: RunValue | None = None  # the result that the tensor shows

    def expect(self, spec: tuple[tuple[int, ...], DType] | None) -> None:
        """Shows the layout that is known before the first run."""
        if spec is not None:
            self._show_zeros(spec[0], port_code(spec[1]))

    @property
    def has_user_memory(self) -> bool:
        return self.tensor._storage is not self.tensor._shown

    @property
    def is_plain(self) -> bool:
        """Whether the tensor shows memory of the session, so that a result can appear in it at any time."""
        return not (self.needs_memory or self._fresh or self.shape_only or self.has_user_memory)

    def bind(self, session: Session) -> None:
        """Before a run: tells the session which memory the caller wants the result in."""
        tensor = self.tensor
        if not self.has_user_memory:
            raise LiteError(
                f"output {self.name!r} has no memory: with force_output_use_user_specified_memory give it an array by "
                "set_data_by_share before forward"
            )
        if tensor.version != self._given:
            if tensor._readonly or not tensor._contiguous:
                raise LiteArgumentError(f"output {self.name!r} needs writable, contiguous memory")
            storage = tensor._storage
            if storage.device is self._memory:
                session.bind_output(self.name, storage, tensor._nbytes, tensor._offset)
            else:
                session.bind_output(self.name, None)  # the result is copied there
            self._given = tensor.version

    def publish(self, session: Session) -> None:
        """After a run: shows the result in the tensor."""
        value = session.output(self.name)
        tensor = self.tensor
        if value is self._value and tensor.version == self._version and not self._fresh:
            return
        shape, code = value.shape, port_code(value.dtype)
        if self._layout is not None:
            self._check_layout(self._layout, shape, code)
        if self.needs_memory:
            self._publish_to_user(value, shape, code)
        elif self.shape_only:
            self._show_zeros(shape, code)
            self._shows(value)
        elif self.has_user_memory and not self._fresh:
            # The tensor was given other memory: it gets a copy while that is large enough.
            tensor._set_layout(shape, code)
            self._show_copy(value)
        elif self._is_host:
            if self._fresh or value.spec.nbytes > tensor._shown.nbytes:
                self._show_zeros(shape, code)
            tensor._set_layout(shape, code)
            self._show_copy(value)
        else:
            # With fresh outputs the session computes the next result into other memory.
            self._show(value.storage, shape, code)
            self._shows(value)

    def _shows(self, value: RunValue) -> None:
        """Notes that there is nothing to do after runs that have the same result in the same memory."""
        self._value = value
        self._version = self.tensor.version

    def _show_copy(self, value: RunValue) -> None:
        self.tensor._copy_bytes(value.storage, value.offset, value.spec.nbytes)
        self._value = None  # again after the next run

    def publish_zeros(self, spec: tuple[tuple[int, ...], DType] | None) -> None:
        """After a run that computed nothing."""
        if self.needs_memory:
            self.tensor.fill_zero()
        else:
            self.expect(spec)

    def _show_zeros(self, shape: tuple[int, ...], code: int) -> None:
        """Shows a layout, in new memory."""
        nbytes = count_bytes(shape, code)
        with errors_of(self._device):
            storage = self._device.allocate(nbytes, self._device_id, self._is_host)
        self._show(storage, shape, code)
        self._value = None

    def _show(self, storage: Storage, shape: tuple[int, ...], code: int) -> None:
        """Shows memory of the port. The tensor may have been made a name of memory elsewhere since the last time."""
        tensor = self.tensor
        tensor._place(self._device, self._device_id, self._is_host)
        tensor._show(storage, shape, code)

    def _publish_to_user(self, value: RunValue, shape: tuple[int, ...], code: int) -> None:
        tensor = self.tensor
        nbytes = value.spec.nbytes
        if nbytes != tensor._nbytes:
            raise ShapeError(
                f"output {self.name!r} has shape {list(shape)} ({nbytes} bytes); the memory given for it has "
                f"{tensor._nbytes} bytes. Share an array of that shape"
            )
        if tensor._shape != shape or tensor._code != code:
            tensor._set_layout(shape, code)
            self._given = tensor.version
        if value.storage is tensor._storage:
            self._shows(value)
        else:
            self._show_copy(value)

    def _check_layout(self, wanted: LiteLayout, shape: tuple[int, ...], code: int) -> None:
        """Warns once if the result does not have the layout that was asked for; the original ignores that layout."""
        if (wanted.ndim and shape != wanted._shape) or (wanted._explicit_dtype and code != wanted._code):
            self._layout = None
            warn(
                f"output {self.name!r} has shape {list(shape)} of {NUMPY_TYPES[code]}; its LiteIO, or the package, "
                f"says {wanted.shapes or 'any shape'} of {np.dtype(wanted.dtype)}. The model decides: correct the other"
            )

    def set_pending(self, job: Job | None) -> None:
        """Sets the job that computes the result; reading the tensor waits for it."""
        self.tensor.pending = job
        if job is not None:
            self._pending = self.tensor._shown
        if self._pending is not None:
            self._pending.pending = job

    def forget_session(self) -> None:
        """Forgets what the session was told, which may be incomplete: the next one is new."""
        self._value = None
        self._given = -1


class CallbackIO(dict[LiteIO, LiteTensor]):
    """What start and finish callbacks get: tensors by :class:`LiteIO`; ``ios["name"]`` works, too."""

    __slots__ = ()

    def __getitem__(self, key: LiteIO | str) -> LiteTensor:
        return super().__getitem__(key)  # type: ignore[index]  # a LiteIO hashes and compares like its name
