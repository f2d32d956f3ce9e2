"""Networks: :class:`LiteNetwork`, and the settings that it takes."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

from megengine_lite._api.arguments import require_callback
from megengine_lite._api.diagnostics import Diagnostics
from megengine_lite._api.engine import Callback, Engine
from megengine_lite._api.io_info import get_model_io_info
from megengine_lite._api.loading import (
    apply_information,
    packed_measurements,
    pool_of,
    read_model,
    rewritten,
    to_source,
)
from megengine_lite._api.network_io import LiteIO, LiteNetworkIO, to_io
from megengine_lite._api.network_settings import NetworkSettings
from megengine_lite._api.options import LiteConfig, LiteExtraConfig, LiteOptions, to_text
from megengine_lite._api.run_settings import RunSettings
from megengine_lite._api.typed_errors import typed_errors
from megengine_lite._core.runtime.devices import get_device
from megengine_lite._core.runtime.jobs import locked
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite._core.system.files import to_path
from megengine_lite._core.system.garbage import without_collector
from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.late_import import late_import
from megengine_lite._records import replace
from megengine_lite.errors import (
    LiteArgumentError,
    LiteError,
    LiteIndexError,
    LiteMemoryError,
    LiteTypeError,
    LiteValueError,
)
from megengine_lite.log import warn
from megengine_lite.struct import LiteDeviceType, LiteTensorPhase
from megengine_lite.tensor import LiteTensor

if TYPE_CHECKING:
    from megengine_lite._core.runtime.prepared import PreparedModel

__all__ = [
    "LiteAsyncCallback",
    "LiteConfig",
    "LiteExtraConfig",
    "LiteFinishCallback",
    "LiteIO",
    "LiteNetwork",
    "LiteNetworkIO",
    "LiteOptions",
    "LiteStartCallback",
    "get_model_io_info",
]

# The prototypes of the original's C callbacks. Callbacks here are plain Python functions.
LiteAsyncCallback = ctypes.CFUNCTYPE(ctypes.c_int)
LiteStartCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t)
LiteFinishCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t)

# The state of a pickled network, except the settings that load completes.
_PICKLED = (
    "config", "network_io", "_stream_id", "_algo", "_extra", "_transform", "_source", "_source_config", "_prepared"
)  # fmt: skip

_PICKLED_SETTINGS = ("device_id", "threads", "precision", "narrow_double", "inplace")


class LiteNetwork(NetworkSettings, Diagnostics):
    """A model that runs.

    Parameters
    ----------
    config
        Device, options, decryption. The default configuration otherwise.
    io
        Inputs and outputs whose description in the model is to be changed or completed.

    Raises
    ------
    DeviceError, LiteValueError, LiteTypeError
        There is no such device or backend; arguments of another type.

    Notes
    -----
    The order of calls: settings (``threads_number``, ``device_id``, :meth:`enable_cpu_inplace_mode`, …), then
    :meth:`load`, then for each input :meth:`get_io_tensor` and data, :meth:`forward`, :meth:`wait`, and reading the
    outputs. Settings after ``load`` and running before it raise :class:`LiteError`.

    ``forward`` may return before the result is ready. :meth:`wait`, or reading an output tensor, waits for it.
    Tensors and arrays of a network stay valid after it has been deleted.

    One network may be used from several threads: its calls are serialized. Different networks run at the same time,
    also if they share weights.

    Examples
    --------
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import megengine_lite
    >>> network = megengine_lite.LiteNetwork()
    >>> network.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
    >>> network.get_io_tensor("data").set_data_by_copy(np.zeros([1, 1, 8, 8], "float32"))
    >>> network.forward()
    >>> network.wait()
    >>> network.get_io_tensor(network.get_output_name(0)).layout.shapes
    [1, 10]
    """

    def __init__(self, config: LiteConfig | None = None, io: LiteNetworkIO | None = None):
        if config is None:
            config = LiteConfig()
        if io is None:
            io = LiteNetworkIO()
        if not isinstance(config, LiteConfig):
            raise LiteTypeError(f"config is a LiteConfig, not {type(config).__name__}")
        if not isinstance(io, LiteNetworkIO):
            raise LiteTypeError(f"io is a LiteNetworkIO, not {type(io).__name__}")
        if config.backend != 0:
            raise LiteValueError(f"there is no backend {config.backend}; use LiteBackend.LITE_DEFAULT")
        if config.device_type not in (set(LiteDeviceType) - {LiteDeviceType.LITE_NPU}):
            get_device(config.device_type)  # raises
        self.config = config
        self.network_io = io
        self.model_bytes = None
        """Always None. The original kept the bytes of a model here."""
        self._settings = RunSettings(device_id=config.device_id)
        self._stream_id = 0
        self._algo = AlgoPolicy()
        self._extra = LiteExtraConfig()
        self._source: str | bytes | memoryview | None = None
        self._source_config = config  # says how the source is encrypted
        self._prepared: str | None = None  # the path of the prepared file that was asked for
        self._engine: Engine | None = None
        self._callbacks: tuple[Callback | None, Callback | None, Callable[[], Any] | None] = (None, None, None)
        self._lock = threading.Lock()

    # ---- loading ------------------------------------------------------------------------------------------------

    def load(self, file: Any, *, prepared: str | os.PathLike[str] | None = None) -> None:
        """Loads a model: plain, encrypted or packed.

        Parameters
        ----------
        file
            A path, a ``file://`` URL, a binary file (read from its position), or the model's bytes. A file that is
            given by path is read into memory. Weights may be read from it again when inputs have another shape. If the
            file has been overwritten in place by then, :meth:`forward` raises :class:`ModelFormatError`.
        prepared
            The path of a file that :meth:`Model.prepare <megengine_lite.model.Model.prepare>` has made from the model,
            so that nothing has to be planned and packed. If it was made for something else (another model, processor,
            version or setting), a :class:`LiteWarning` names the difference, and the model is loaded without it.

        Raises
        ------
        ModelFormatError
            Not a model, or damaged; or ``prepared`` is not a prepared file, or damaged.
        DecryptionError
            Wrong key or method, or a method that is not registered.
        UnsupportedOperatorError
            The model has operators that this runtime does not know; all are listed.
        DeviceError
            The configuration, or that of the package, asks for a device that does not exist.
        LiteFileNotFoundError
            No such file.
        LiteError
            A model is loaded already.
        """
        with typed_errors("load"):
            self._load_source(to_source(file), copy(self.config), None if prepared is None else to_path(prepared))

    def _load_source(self, source: str | bytes | memoryview, source_config: LiteConfig, prepared: str | None) -> None:
        locked(self._lock, self._load_alone, source, source_config, prepared)

    @without_collector
    def _load_alone(self, source: str | bytes | memoryview, source_config: LiteConfig, prepared: str | None) -> None:
        self._require_not_loaded("load")
        settings = self._complete_settings()
        state = {
            "_source": os.path.abspath(source) if isinstance(source, str) else source,  # the directory may change
            "_source_config": source_config,
            "_prepared": None if prepared is None else os.path.abspath(prepared),
        }
        if prepared is not None and (found := self._open_prepared(prepared, source, source_config, settings)):
            self._start(
                Engine(found.model, settings, self._algo, pool_of(found.model, source, settings), found), **state
            )
            return
        model = read_model(source, source_config, settings.narrow_double)
        if model.information is not None and not self._extra.disable_configure_by_model_info:
            apply_information(settings, model.information)
        settings.measured = packed_measurements(model.package, settings.device)
        self._start(Engine(model, settings, self._algo, pool_of(model, source, settings)), **state)

    def _open_prepared(
        self, path: str, source: str | bytes | memoryview, source_config: LiteConfig, settings: RunSettings
    ) -> PreparedModel | None:
        with late_import():
            from megengine_lite._api.preparing import open_prepared

        return open_prepared(path, source, source_config, settings, self._algo)

    def _complete_settings(self) -> RunSettings:
        """A copy of the present settings, which the caller can no longer change."""
        config = self.config
        if config.use_loader_dynamic_param:
            warn("use_loader_dynamic_param has no effect: operators of C libraries always get their parameters so")
        return replace(
            self._settings,
            options=copy(config.options),
            auto_optimize=bool(config.auto_optimize_inference),
            device_type=config.device_type,
            discrete_input=config.discrete_input_name.decode("utf-8", "surrogateescape"),
            inputs=[copy(to_io(io)) for io in self.network_io.inputs],
            outputs=[copy(to_io(io)) for io in self.network_io.outputs],
        )

    def _start(self, engine: Engine, **state: Any) -> None:
        engine.start_callback, engine.finish_callback, engine.async_callback = self._callbacks
        engine.observe(self._profile, self._dump)
        # In one step: whenever an exception comes, the network is either loaded or not.
        vars(self).update(state, _settings=engine.settings, _engine=engine)

    def share_weights_with(self, src_network: LiteNetwork) -> None:
        """Loads the model of another network without another copy of its weights.

        This network keeps its own settings, inputs and outputs. Both may run at the same time, and either may be
        deleted first. A model that was loaded before is replaced.

        Raises
        ------
        LiteArgumentError, LiteError
            Not a network, one that is not loaded, or one that has freed its graph (``comp_node_seq_record_level`` 2).
        """
        if not isinstance(src_network, LiteNetwork):
            raise LiteArgumentError(f"weights are shared with a LiteNetwork, not {type(src_network).__name__}")
        source = src_network._loaded("share_weights_with")
        with typed_errors("share_weights_with"):
            locked(self._lock, self._share_alone, src_network, source)

    def _share_alone(self, src_network: LiteNetwork, source: Engine) -> None:
        settings = self._complete_settings()
        settings.measured, settings.narrow_double = source.settings.measured, source.settings.narrow_double
        prepared = source.prepared_for(settings, self._algo)
        model = source.model_with_graph() if prepared is None else prepared.model
        self._start(
            Engine(model, settings, self._algo, source.pool, prepared),
            _source=src_network._source,
            _source_config=src_network._source_config,
            _prepared=src_network._prepared,
            _extra=LiteExtraConfig(True),  # the package's settings are the source's
        )

    def share_runtime_memroy(self, src_network: LiteNetwork) -> None:
        """Shares the memory for intermediate results with another network. Call it before ``load``.

        The two then never run at the same time: a forward waits for that of the other network.
        """
        if not isinstance(src_network, LiteNetwork):
            raise LiteArgumentError(f"memory is shared with a LiteNetwork, not {type(src_network).__name__}")
        self._require_not_loaded("share_runtime_memroy")
        self._settings.memory = src_network._settings.memory

    share_runtime_memory = share_runtime_memroy

    # ---- running ------------------------------------------------------------------------------------------------

    def forward(self) -> None:
        """Starts to compute all outputs from the present inputs.

        It may return before the result is ready: see :meth:`wait`. Inputs that were never set are zeros, or the
        model's defaults.

        Raises
        ------
        ShapeError, LiteTypeError
            An input does not fit; the network stays usable.
        """
        engine = self._engine
        if engine is None:
            raise LiteError("the network has no model: call load before forward")
        try:
            engine.forward()
        except LiteError:
            raise
        except MemoryError as error:
            raise LiteMemoryError("forward: there is not enough memory") from error

    def wait(self) -> None:
        """Waits until the result of the last forward is ready, then calls the finish callback.

        Raises
        ------
        LiteError
            A forward since the last call has failed. Exceptions of callbacks are raised unchanged.
        """
        engine = self._loaded("wait")
        try:
            engine.wait()
        except LiteError:
            raise
        except MemoryError as error:
            raise LiteMemoryError("wait: there is not enough memory") from error
        engine.after_wait()

    def async_with_callback(self, async_callback: Callable[[], Any] | None) -> None:
        """Lets :meth:`forward` return at once; ``async_callback()`` is called when the outputs are ready.

        It is called on a thread of the network, once per forward that succeeds. An exception inside of it is logged and
        raised by the next :meth:`wait`. With None the network is synchronous again.

        Raises
        ------
        LiteError
            The network is in inplace mode, where everything runs on the caller's thread.
        """
        if self._settings.inplace and async_callback is not None:
            raise LiteError("a network in inplace mode computes on the caller's thread: it cannot run asynchronously")
        self._set_callback(2, async_callback, "async_callback")

    def set_start_callback(self, start_callback: Callback | None) -> None:
        """Calls ``start_callback(inputs)`` inside of each :meth:`forward`, before the work; None for none.

        ``inputs`` is a dict from :class:`LiteIO` (or name) to tensor. The callback may change the tensors. Its result
        is ignored. If it raises an exception, ``forward`` raises it and computes nothing.
        """
        self._set_callback(0, start_callback, "start_callback", "inputs")

    def set_finish_callback(self, finish_callback: Callback | None) -> None:
        """Calls ``finish_callback(outputs)`` inside of each :meth:`wait`, after the work; None for none.

        ``outputs`` is a dict from :class:`LiteIO` (or name) to tensor. In asynchronous mode it is called after the
        async callback, on the same thread.
        """
        self._set_callback(1, finish_callback, "finish_callback", "outputs")

    def _set_callback(self, place: int, callback: Any, name: str, *arguments: str) -> None:
        if callback is not None:
            require_callback(callback, name, *arguments)
        callbacks: list[Any] = list(self._callbacks)
        callbacks[place] = callback
        self._callbacks = (callbacks[0], callbacks[1], callbacks[2])
        engine = self._engine
        if engine is not None:
            engine.start_callback, engine.finish_callback, engine.async_callback = self._callbacks

    # ---- inputs and outputs -------------------------------------------------------------------------------------

    def get_io_tensor(self, name: str | bytes, phase: LiteTensorPhase | int = LiteTensorPhase.LITE_IO) -> LiteTensor:
        """The tensor of an input or output; each call gives the same one.

        Parameters
        ----------
        name
            Name of the input or output.
        phase
            Where to look. ``LITE_IO`` finds an input before an output of the same name.

        Notes
        -----
        The next forward overwrites the memory of an output, unless the options say otherwise.
        """
        engine = self._engine
        if engine is None:
            raise LiteError("the network has no model: call load before get_io_tensor")
        if isinstance(name, bytes):
            name = name.decode("utf-8", "surrogateescape")
        elif not isinstance(name, str):
            raise LiteTypeError(f"the name of an input or output is a str, not {type(name).__name__}")
        if type(phase) is not LiteTensorPhase:
            phase = to_integer(phase, "phase", bools=True)
            if not 0 <= phase <= 2:
                raise LiteValueError(f"phase is a LiteTensorPhase (0, 1, 2), not {phase}")
        if phase != 2:
            port = engine.inputs.get(name)
            if port is not None:
                return port.tensor
        if phase != 1:
            out = engine.outputs.get(name)
            if out is not None:
                engine.expect_outputs()
                return out.tensor
        kind = ("input or output", "input", "output")[phase]
        known = [*(engine.inputs if phase != 2 else ()), *(engine.outputs if phase != 1 else ())]
        raise LiteIndexError(f"the model has no {kind} {name!r}; there are {known}")

    def get_discrete_tensor(
        self, name: str | bytes, n_idx: int, phase: LiteTensorPhase | int = LiteTensorPhase.LITE_INPUT
    ) -> LiteTensor:
        """One piece, of shape ``[1, …]``, of the input that ``config.discrete_input_name`` names.

        The number of pieces is the first dimension of that input, or of its :class:`LiteIO` layout. From the first call
        on, all pieces together are the input. A piece that keeps its memory is not copied.
        """
        engine = self._loaded("get_discrete_tensor")
        text = to_text("the name of an input", name)
        if phase != LiteTensorPhase.LITE_INPUT:
            raise LiteValueError("only inputs can be discrete")
        if not self._settings.discrete_input or text != self._settings.discrete_input or text not in engine.inputs:
            raise LiteIndexError(f"{text!r} is not a discrete input; name it in LiteConfig.discrete_input_name")
        return engine.inputs[text].piece(to_integer(n_idx, "n_idx", bools=True))

    def get_input_name(self, index: int) -> str:
        """Name of an input by position, in the order of the original."""
        return _at(self._loaded("get_input_name").session.input_names, index, "input")

    def get_output_name(self, index: int) -> str:
        """Name of an output by position, in the model's order."""
        return _at(self._loaded("get_output_name").session.output_names, index, "output")

    def get_all_input_name(self) -> list[str]:
        """Names of all inputs, in the order of :meth:`get_input_name`."""
        return list(self._loaded("get_all_input_name").session.input_names)

    def get_all_output_name(self) -> list[str]:
        """Names of all outputs, in the order of :meth:`get_output_name`."""
        return list(self._loaded("get_all_output_name").session.output_names)

    # ---- inside -------------------------------------------------------------------------------------------------

    def _model_chunks(self, layout: str) -> list[Any]:
        assert self._source is not None
        return rewritten(self._source, self._source_config, layout, narrow_double=self.narrow_double)

    def __getstate__(self) -> dict[str, Any]:
        # The pickle has the model's file or bytes and the settings, but no callbacks and observers.
        state = {name: getattr(self, name) for name in _PICKLED}
        state["settings"] = {name: getattr(self._settings, name) for name in _PICKLED_SETTINGS}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        LiteNetwork.__init__(self, state["config"], state["network_io"])
        self._settings = RunSettings(**state.pop("settings"))
        source, source_config = state.pop("_source"), state.pop("_source_config")
        prepared = state.pop("_prepared", None)  # pickles of older releases have none
        self.__dict__.update(state)
        if source is not None:
            self._load_source(source, source_config, prepared)

    def __repr__(self) -> str:
        # The original shows two things; it knows no other precision.
        other = {} if self.precision == "float32" else {"precision": self.precision}
        other |= {"narrow_double": "True"} if self.narrow_double else {}
        return str({"config": self.config, **other, "IOs": self.network_io})

    def _repr_html_(self) -> str:
        from megengine_lite._api.notebooks import facts_table, network_facts

        return facts_table(network_facts(self._engine, self._source))


def _at(names: list[str], position: int, kind: str) -> str:
    number = to_integer(position, "index", bools=True)
    if not 0 <= number < len(names):
        raise LiteIndexError(f"the model has {len(names)} {kind}s, there is no number {number}")
    return names[number]
