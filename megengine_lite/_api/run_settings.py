"""Settings of a network that are fixed before it is loaded, and the effect of each option."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from megengine_lite._api.network_io import LiteIO
from megengine_lite._api.options import LiteOptions
from megengine_lite._core.device.interface import PLAN_SETTINGS, Device
from megengine_lite._core.runtime.devices import device_count, get_device
from megengine_lite._core.runtime.jobs import Exclusive
from megengine_lite._core.session_config import AlgoPolicy, SessionConfig
from megengine_lite._core.system.device_errors import errors_of
from megengine_lite._records import field, record
from megengine_lite.errors import DeviceError, LiteValueError
from megengine_lite.log import warn
from megengine_lite.struct import LiteDeviceType

if TYPE_CHECKING:
    from megengine_lite._core.device.plan import Arena
    from megengine_lite._core.session_config import Measurements

# Options for layouts of images in blocks of channels.
_BLOCKS = {"enable_nchw44": 4, "enable_nchw44_dot": 4, "enable_nchw88": 8}
_OTHER_DEVICES = ("enable_nhwcd4", "enable_nchw4", "enable_nchw32", "enable_nchw64")
# Bit of ``async_exec_level``.
_ALWAYS_ASYNC = 4


class RuntimeMemory(Exclusive):
    """Memory for intermediate results, shared by networks that run one after the other."""

    def __init__(self) -> None:
        self._arenas: dict[tuple[int, int], Arena] = {}

    def arena(self, device: Device, device_id: int) -> Arena:
        """The memory on one device."""
        place = device.type, device_id
        if place not in self._arenas:
            with errors_of(device):
                self._arenas[place] = device.new_arena(device_id)
        return self._arenas[place]


@record(slots=True)
class RunSettings:
    """The settings of a network that are fixed before it is loaded."""

    options: LiteOptions = field(default_factory=LiteOptions)
    auto_optimize: bool = False
    device_type: int = 0
    device_id: int = 0
    threads: int = 1
    isa: str | None = None
    precision: str = "float32"
    narrow_double: bool = False
    inplace: bool = False
    discrete_input: str = ""
    inputs: list[LiteIO] = field(default_factory=list)
    outputs: list[LiteIO] = field(default_factory=list)
    memory: RuntimeMemory = field(default_factory=RuntimeMemory)
    measured: Measurements | None = None
    shares_weights: bool = False

    @property
    def device(self) -> Device:
        """The device that the network runs on.

        Raises
        ------
        DeviceError
            It is not available.
        """
        return get_device(self.device_type)

    @property
    def prepares(self) -> bool:
        """Whether loading a model includes planning and packing its weights."""
        return bool(self.options.weight_preprocess) or self.auto_optimize

    @property
    def fixes_shapes(self) -> bool:
        """Whether the input shapes of the first forward are the only ones."""
        return bool(self.options.const_shape) or self.options.comp_node_seq_record_level == 2

    @property
    def may_defer(self) -> bool:
        """Whether a forward may be computed after it has returned."""
        return (
            not self.inplace and self.options.async_exec_level != 0 and device_count(LiteDeviceType.LITE_CPU) > 1
        ) or self.always_defers

    @property
    def always_defers(self) -> bool:
        """Whether each forward is handed to another thread, even if that takes longer."""
        return not self.inplace and bool(self.options.async_exec_level & _ALWAYS_ASYNC)

    def check(self) -> None:
        """Raises for contradicting settings, warns about settings without effect. An id for any device becomes one."""
        with errors_of(self.device):
            self.device_id = self.device.check_id(self.device_id)
        options = self.options
        if options.force_output_dynamic_alloc and options.force_output_use_user_specified_memory:
            raise LiteValueError(
                "force_output_dynamic_alloc and force_output_use_user_specified_memory exclude each other"
            )
        level = options.comp_node_seq_record_level
        if not 0 <= level <= 2:
            raise LiteValueError(f"comp_node_seq_record_level is 0, 1 or 2, not {level}")
        if level == 2 and (options.var_sanity_check_first_run or options.fake_next_exec):
            raise LiteValueError(
                "comp_node_seq_record_level 2 needs var_sanity_check_first_run and fake_next_exec switched off"
            )
        for name in _OTHER_DEVICES:
            if getattr(options, name):
                warn(f"{name} is a layout of other devices; it has no effect on {self._place}")
        plain = LiteOptions()
        for name in sorted(PLAN_SETTINGS - self.device.obeys):
            if name == "threads_number":
                given, usual = self.threads, 1
            elif name == "algo_policy":
                continue  # may be set at any time
            elif name == "precision":
                if self.precision != "float32":
                    raise DeviceError(f"precision {self.precision} is for networks on a CPU, not on {self._place}")
                continue
            else:
                given, usual = getattr(options, name), getattr(plain, name)
            if given != usual:
                warn(f"{name} {given} has no effect on {self._place}: its plans do not depend on it")

    def check_algo(self, algo: AlgoPolicy) -> None:
        """Warns about rules for choosing algorithms that the device does not obey."""
        if algo != AlgoPolicy() and "algo_policy" not in self.device.obeys:
            warn(
                "set_network_algo_policy and set_network_algo_workspace_limit have no effect on "
                f"{self._place}: it chooses algorithms by itself"
            )

    @property
    def _place(self) -> str:
        """The device in messages."""
        return "a CPU" if self.device.type is LiteDeviceType.LITE_CPU else self.device.name

    def session_config(self, algo: AlgoPolicy, explain: bool = False) -> SessionConfig:
        options = self.options
        return SessionConfig(
            threads=min(self.threads, self.device.most_threads),
            isa=self.isa,
            precision=self.precision,
            fuse=options.graph_opt_level != 0,
            fuse_elemwise=options.jit_level != 0 or bool(options.fuse_preprocess),
            sanity_check=bool(options.var_sanity_check_first_run),
            profile_on_shape_change=not options.no_profiling_on_shape_change,
            explain=explain,
            algo=algo,
            measured=self.measured,
        )

    def notes(self, width: int) -> Iterator[str]:
        """For the log: the options that work in another way here than in the original, and how.

        Parameters
        ----------
        width
            Channels in a block of the layouts that the kernels use.
        """
        options = self.options
        most = self.device.most_threads
        if self.threads > most > 1:
            yield f"threads_number {self.threads}: {most} are used, the most that work on one run"
        if "graph_opt_level" in self.device.obeys:
            yield from self._notes_on_fusion()
        if options.comp_node_seq_record_level == 1:
            yield "comp_node_seq_record_level 1: every run is replayed from a record, whatever the level"
        if self.inplace and options.async_exec_level & _ALWAYS_ASYNC:
            yield f"async_exec_level {options.async_exec_level}: inplace mode goes before it, forward computes"
        for name, channels in _BLOCKS.items():
            if getattr(options, name) and width == 0:
                yield f"{name}: {self.device.name} has no such layout; it is that of models that are written"
            elif getattr(options, name):
                other = "" if width == channels else ", wider" if width > channels else ", narrower"
                yield f"{name}: this machine's kernels take blocks of {width} channels, which is the same layout{other}"
        if self.auto_optimize and width == 0:
            yield "auto_optimize_inference: weight_preprocess is on"
        elif self.auto_optimize:
            yield (
                f"auto_optimize_inference: weight_preprocess is on, and blocks of {width} channels are used where they "
                "pay, as without it"
            )
        for io in (*self.inputs, *self.outputs):
            if not io.is_host and self.device.host_visible:
                yield f"{io.name!r}: the memory of the device, which is_host=False asks for, is host memory on a CPU"

    def _notes_on_fusion(self) -> Iterator[str]:
        options = self.options
        level, jit = options.graph_opt_level, options.jit_level
        fused = "chains of elementwise operators are fused"
        if level == 1 or level not in range(3):
            yield f"graph_opt_level {level}: all optimizations are done, as at level 2, the highest here"
        if options.fuse_preprocess:
            if level == 0:
                yield f"fuse_preprocess: {fused}, and nothing else, because graph_opt_level is 0"
            else:
                yield f"fuse_preprocess: included in graph_opt_level {level}"
        if jit not in (0, 1):
            yield f"jit_level {jit}: as level 1, the highest here; reductions are steps of their own"
        if jit:
            yield f"jit_level {jit}: nothing is compiled at run time; {fused}, by kernels that are there already"
