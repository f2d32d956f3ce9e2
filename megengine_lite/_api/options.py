"""Settings of networks. Public under :mod:`megengine_lite.network`, as in the original."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any, ClassVar

from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.suggest import nearest
from megengine_lite.errors import LiteArgumentError, LiteAttributeError, LiteTypeError
from megengine_lite.struct import LiteBackend, LiteDeviceType

__all__ = ["LiteConfig", "LiteExtraConfig", "LiteOptions"]


def to_text(name: str, value: object) -> str:
    """A name that was given as str or bytes."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogateescape")
    raise LiteArgumentError(f"{name} is a str or bytes, not {type(value).__name__}")


class CheckedFields:
    """Fields that are checked when they are assigned; unknown names are an error."""

    __slots__ = ()
    _integers: ClassVar[tuple[str, ...]] = ()
    _hints: ClassVar[dict[str, str]] = {}
    _elsewhere: ClassVar[dict[str, str]] = {}  # fields of a field, and how they are written

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._integers:
            value = to_integer(value, name, bools=True)
        elif not hasattr(type(self), name):
            raise self._unknown(name)
        object.__setattr__(self, name, value)

    if not TYPE_CHECKING:  # mypy would allow all names

        def __getattr__(self, name: str) -> Any:  # called for names that are not found otherwise
            if name.startswith("_"):  # copy and pickle ask for some
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            raise self._unknown(name)

    def _unknown(self, name: str) -> LiteAttributeError:
        """The error for a field that does not exist. It says where the one is that is probably meant."""
        hint = self._hints.get(name)
        if hint is None:
            places = {n: n for n in dir(type(self)) if not n.startswith("_")} | self._elsewhere
            near = nearest(name, places)
            hint = f"it has {', '.join(self._integers)}" if near is None else f"did you mean {places[near]!r}?"
        return LiteAttributeError(f"{type(self).__name__} has no field {name!r}; {hint}")


_OPTION_DEFAULTS = {
    "weight_preprocess": 0,
    "fuse_preprocess": 0,
    "fake_next_exec": 0,
    "var_sanity_check_first_run": 1,
    "const_shape": 0,
    "force_dynamic_alloc": 0,
    "force_output_dynamic_alloc": 0,
    "force_output_use_user_specified_memory": 0,
    "no_profiling_on_shape_change": 0,
    "jit_level": 0,
    "comp_node_seq_record_level": 0,
    "graph_opt_level": 2,
    "async_exec_level": 1,
    "enable_nchw44": 0,
    "enable_nchw44_dot": 0,
    "enable_nchw88": 0,
    "enable_nhwcd4": 0,
    "enable_nchw4": 0,
    "enable_nchw32": 0,
    "enable_nchw64": 0,
}


class LiteOptions(CheckedFields):
    """How a network is optimized and run. All fields are integers: 0 or 1, if they are not levels.

    Attributes
    ----------
    weight_preprocess
        Make the plan and pack the weights at load; otherwise the first forward does it.
    fuse_preprocess
        Fuse operators that prepare the input. Levels of ``graph_opt_level`` above 0 include this; with level 0 it fuses
        chains of elementwise operators.
    fake_next_exec
        The next forward computes nothing: its outputs are zeros. The option is then off again.
    var_sanity_check_first_run
        Check that nobody writes to the inputs during the first run. On by default.
    const_shape
        Later forwards must have the input shapes of the first one.
    force_dynamic_alloc
        Free the memory of intermediate results after each run instead of keeping it.
    force_output_dynamic_alloc
        Give each run new memory for its outputs, so an array that was taken from an output keeps its values.
    force_output_use_user_specified_memory
        Compute outputs into the memory that ``set_data_by_share`` gave to the output tensors.
    no_profiling_on_shape_change
        Fast-run measures only for the first input shapes.
    jit_level
        Not 0: fuse elementwise chains. Levels of ``graph_opt_level`` above 0 include this.
    comp_node_seq_record_level
        0: shapes may change. 1: the same, since runs are always replayed from a record here. 2: later forwards must
        have the input shapes of the first one, and the graph is freed. (``record_level`` is another name.)
    graph_opt_level
        0: run the graph as it is in the file. Other levels: optimize it.
    async_exec_level
        0: forward computes before it returns. With bit 4 it never does. Otherwise another thread computes if that
        saves time.
    enable_nchw44, enable_nchw44_dot, enable_nchw88
        Layout of written models. For running, channel-blocked layouts of this machine's width are always used where
        they are faster.
    enable_nhwcd4, enable_nchw4, enable_nchw32, enable_nchw64
        Layouts of other devices: a warning at load, no effect.

    Examples
    --------
    >>> options = LiteOptions()
    >>> options.graph_opt_level, options.var_sanity_check_first_run
    (2, 1)
    >>> options.const_shape = True
    """

    __slots__ = tuple(_OPTION_DEFAULTS)
    _integers = tuple(_OPTION_DEFAULTS)
    _hints: ClassVar[dict[str, str]] = {"enable_chwn4": "that layout exists on CUDA devices only"}

    weight_preprocess: int
    fuse_preprocess: int
    fake_next_exec: int
    var_sanity_check_first_run: int
    const_shape: int
    force_dynamic_alloc: int
    force_output_dynamic_alloc: int
    force_output_use_user_specified_memory: int
    no_profiling_on_shape_change: int
    jit_level: int
    comp_node_seq_record_level: int
    graph_opt_level: int
    async_exec_level: int
    enable_nchw44: int
    enable_nchw44_dot: int
    enable_nchw88: int
    enable_nhwcd4: int
    enable_nchw4: int
    enable_nchw32: int
    enable_nchw64: int

    def __init__(self) -> None:
        for name, value in _OPTION_DEFAULTS.items():
            setattr(self, name, value)

    @property
    def record_level(self) -> int:
        """Another name of ``comp_node_seq_record_level``."""
        return self.comp_node_seq_record_level

    @record_level.setter
    def record_level(self, level: int) -> None:
        self.comp_node_seq_record_level = level

    def __repr__(self) -> str:
        from megengine_lite._core.formats.containers.information import INTEGER_OPTIONS  # formats come with models

        shown = list(_OPTION_DEFAULTS)[:13]
        return str({n: getattr(self, n) if n in INTEGER_OPTIONS else bool(getattr(self, n)) for n in shown})


def _as_enum(kind: type[Any], value: int) -> Any:
    """The member, or the number if there is no such member."""
    try:
        return kind(value)
    except ValueError:
        return value


class LiteConfig(CheckedFields):
    """The device of a network, the encryption of its model, and its options.

    Parameters
    ----------
    device_type
        A :class:`LiteDeviceType`; ``LITE_CPU`` by default.
    option
        Options to copy; the default ones otherwise.

    Attributes
    ----------
    has_compression : int
        The weights in the file are compressed.
    device_id : int
        A label, -1 or more.
    device_type : int
    backend : int
        ``LiteBackend.LITE_DEFAULT``.
    auto_optimize_inference : int
        Choose optimizations for the processor. Switches ``weight_preprocess`` on; layouts are always chosen so.
    use_loader_dynamic_param : int
        Exists for programs that set it. It causes a warning at load and has no effect, as in the original.

    Examples
    --------
    >>> config = LiteConfig()
    >>> config.bare_model_cryption_name = "AES_default"
    >>> config.options.graph_opt_level = 0
    """

    _integers = (
        "has_compression",
        "device_id",
        "device_type",
        "backend",
        "auto_optimize_inference",
        "use_loader_dynamic_param",
    )
    __slots__ = (*_integers, "_bare_model_cryption_name", "_discrete_input_name", "_options")
    _elsewhere: ClassVar[dict[str, str]] = {n: f"options.{n}" for n in (*_OPTION_DEFAULTS, "record_level")}

    has_compression: int
    device_id: int
    device_type: int
    backend: int
    auto_optimize_inference: int
    use_loader_dynamic_param: int

    def __init__(
        self, device_type: LiteDeviceType | int = LiteDeviceType.LITE_CPU, option: LiteOptions | None = None
    ) -> None:
        self.has_compression = 0
        self.device_id = 0
        self.device_type = device_type
        self.backend = LiteBackend.LITE_DEFAULT
        self.auto_optimize_inference = 0
        self.use_loader_dynamic_param = 0
        self.bare_model_cryption_name = ""
        self.discrete_input_name = b""
        self.options = LiteOptions() if option is None else option

    @property
    def options(self) -> LiteOptions:
        """The options; assigning copies them."""
        options: LiteOptions = self._options
        return options

    @options.setter
    def options(self, options: LiteOptions) -> None:
        if not isinstance(options, LiteOptions):
            raise LiteTypeError(f"options are LiteOptions, not {type(options).__name__}")
        self._options = copy(options)

    @property
    def bare_model_cryption_name(self) -> str:
        """Name of the decryption method of a model file that is not a package; ``""`` for plain files."""
        name: str = self._bare_model_cryption_name
        return name

    @bare_model_cryption_name.setter
    def bare_model_cryption_name(self, name: str | bytes) -> None:
        self._bare_model_cryption_name = to_text("bare_model_cryption_name", name)

    @property
    def discrete_input_name(self) -> bytes:
        """Name of the input that is given in pieces, see :meth:`LiteNetwork.get_discrete_tensor`; ``b""`` for none."""
        name: str = self._discrete_input_name
        return name.encode("utf-8", "surrogateescape")

    @discrete_input_name.setter
    def discrete_input_name(self, name: str | bytes) -> None:
        self._discrete_input_name = to_text("discrete_input_name", name)

    def __repr__(self) -> str:
        return str(
            {
                "has_compression": bool(self.has_compression),
                "device_id": self.device_id,
                "device_type": _as_enum(LiteDeviceType, self.device_type),
                "backend": _as_enum(LiteBackend, self.backend),
                "bare_model_cryption_name": self.bare_model_cryption_name,
                "options": self.options,
                "auto_optimize_inference": self.auto_optimize_inference,
                "discrete_input_name": self.discrete_input_name,
            }
        )


class LiteExtraConfig(CheckedFields):
    """Which part of a packed model's own configuration is used.

    Parameters
    ----------
    disable_model_config
        Ignore the configuration, options and IO description inside of the package.
    """

    __slots__ = _integers = ("disable_configure_by_model_info",)

    disable_configure_by_model_info: int

    def __init__(self, disable_model_config: bool | int = False) -> None:
        self.disable_configure_by_model_info = disable_model_config

    def __repr__(self) -> str:
        return str({"disable_configure_by_model_info": bool(self.disable_configure_by_model_info)})
