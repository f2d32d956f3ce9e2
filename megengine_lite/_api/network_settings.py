"""The settings of a network that are made before it is loaded. Public as a part of :class:`LiteNetwork`."""

from __future__ import annotations

from copy import copy
from typing import Any

from megengine_lite._api.engine import EngineOwner
from megengine_lite._api.options import LiteConfig, LiteExtraConfig
from megengine_lite._api.run_settings import RunSettings
from megengine_lite._core.runtime.devices import check_device_id
from megengine_lite._core.session_config import PRECISIONS, AlgoPolicy
from megengine_lite._core.system.integers import to_integer, to_switch
from megengine_lite._core.system.suggest import choices
from megengine_lite._records import replace
from megengine_lite.errors import DeviceError, LiteError, LiteTypeError, LiteValueError
from megengine_lite.log import logger, warn
from megengine_lite.struct import LiteAlgoSelectStrategy, LiteDeviceType

_ALL_STRATEGIES = sum(LiteAlgoSelectStrategy)


def to_precision(precision: object) -> str:
    """The name of a precision of weights."""
    if not isinstance(precision, str):
        raise LiteTypeError(f"precision is a text, not {type(precision).__name__}")
    if precision not in PRECISIONS:
        raise LiteValueError(f"unknown precision {precision!r} {choices(precision, PRECISIONS)}")
    return precision


class NetworkSettings(EngineOwner):
    """The part of :class:`LiteNetwork` that sets how it will run."""

    config: LiteConfig
    _settings: RunSettings
    _stream_id: int
    _algo: AlgoPolicy
    _extra: LiteExtraConfig
    _callbacks: tuple[Any, Any, Any]

    @property
    def device_id(self) -> int:
        """Which device of its type the network runs on; on a CPU a label, -1 or more. May be set before ``load``."""
        return self._settings.device_id

    @device_id.setter
    def device_id(self, device_id: int) -> None:
        self._require_not_loaded("device_id")
        self._settings.device_id = check_device_id(self.config.device_type, device_id)

    @property
    def stream_id(self) -> int:
        """A label without effect on a CPU; may be set before ``load``."""
        return self._stream_id

    @stream_id.setter
    def stream_id(self, stream_id: int) -> None:
        self._require_not_loaded("stream_id")
        self._stream_id = to_integer(stream_id, "stream_id", bools=True)

    @property
    def threads_number(self) -> int:
        """How many threads a forward may use, 1 by default; may be set before ``load``. Results do not depend on it.

        At most 64 are used.
        """
        return self._settings.threads

    @threads_number.setter
    def threads_number(self, nr_threads: int) -> None:
        self._require_not_loaded("threads_number")
        threads = to_integer(nr_threads, "threads_number", bools=True)
        if threads < 1:
            raise LiteValueError(f"a network runs on at least one thread, not {threads}")
        self._settings.threads = threads

    @property
    def precision(self) -> str:
        """How weights of products and convolutions are kept: ``"float32"``, ``"bfloat16"`` or ``"float16"``.

        May be set before ``load``. The last two round weights to 8 or 11 significant bits; kept so, they take half the
        memory. All that is computed stays float32. ``"float16"`` holds numbers up to 65504, and a model with larger
        weights is refused when it is planned.
        """
        return self._settings.precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._require_not_loaded("precision")
        self._settings.precision = to_precision(precision)

    @property
    def narrow_double(self) -> bool:
        """Whether the double of an ONNX model is computed as float32, so that kernels run what else runs in numpy.

        May be set before ``load``; False by default. Integers stay as they are, and so do sizes that a model computes
        in double. Numbers beyond the range of float32 become its largest ones where they are stored in the model. Other
        files have no double.
        """
        return self._settings.narrow_double

    @narrow_double.setter
    def narrow_double(self, narrow_double: bool) -> None:
        self._require_not_loaded("narrow_double")
        self._settings.narrow_double = to_switch(narrow_double, "narrow_double")

    def is_cpu_inplace_mode(self) -> bool:
        """Whether all work is done on the calling thread, inside of :meth:`forward`."""
        return self._settings.inplace

    def enable_cpu_inplace_mode(self) -> None:
        """Does all work on the calling thread, inside of :meth:`forward`. Call it before ``load``."""
        self._require_not_loaded("enable_cpu_inplace_mode")
        if self.config.device_type not in (LiteDeviceType.LITE_CPU, LiteDeviceType.LITE_DEVICE_DEFAULT):
            raise DeviceError("inplace mode is for networks on a CPU")
        if self._callbacks[2] is not None:
            warn("the network runs asynchronously: inplace mode has no effect")
        self._settings.inplace = True

    def use_tensorrt(self) -> None:
        """Warns: there is no TensorRT on a CPU, the network runs on this runtime's kernels."""
        self._require_not_loaded("use_tensorrt")
        warn("TensorRT does not exist on a CPU; the network runs without it")

    def extra_configure(self, extra_config: LiteExtraConfig) -> None:
        """Sets which part of a packed model's own configuration is used. Call it before ``load``."""
        if not isinstance(extra_config, LiteExtraConfig):
            raise LiteTypeError(f"a LiteExtraConfig is needed, not {type(extra_config).__name__}")
        self._require_not_loaded("extra_configure")
        self._extra = copy(extra_config)

    def set_network_algo_policy(
        self,
        policy: LiteAlgoSelectStrategy | int,
        shared_batch_size: int = 0,
        binary_equal_between_batch: bool = False,
    ) -> None:
        """Sets how the algorithm of each operator is chosen. Call it before the first forward.

        Parameters
        ----------
        policy
            Members of :class:`LiteAlgoSelectStrategy`, combined with ``|``.
        shared_batch_size
            Batch size that algorithms are chosen for when ``binary_equal_between_batch`` is set; 0 for the model's.
        binary_equal_between_batch
            Samples of a batch get bit by bit the results that they get alone. Implies reproducible algorithms.

        Raises
        ------
        LiteValueError
            Unknown bits.
        LiteError
            The network has run.
        """
        bits = to_integer(policy, "policy", bools=True)
        if bits < 0 or bits & ~_ALL_STRATEGIES:
            raise LiteValueError(f"policy {bits} has bits that are no LiteAlgoSelectStrategy")
        batch = to_integer(shared_batch_size, "shared_batch_size", bools=True)
        if batch < 0:
            raise LiteValueError(f"a batch cannot have {batch} samples")
        if self._engine is not None and self._engine.has_run:
            raise LiteError("the algorithms are chosen by the first forward: set_network_algo_policy comes before it")
        if self._engine is not None:
            logger.warning("the algorithm policy is changed after load: the network is planned anew")
        strategy = LiteAlgoSelectStrategy
        self._use_algo(
            replace(
                self._algo,
                heuristic=bool(bits & strategy.LITE_ALGO_HEURISTIC),
                profile=bool(bits & strategy.LITE_ALGO_PROFILE),
                reproducible=bool(bits & strategy.LITE_ALGO_REPRODUCIBLE) or bool(binary_equal_between_batch),
                optimized=bool(bits & strategy.LITE_ALGO_OPTIMIZED),
                shared_batch_size=batch,
                binary_equal_between_batch=bool(binary_equal_between_batch),
            )
        )

    def set_network_algo_workspace_limit(self, size_limit: int) -> None:
        """Allows only algorithms that need at most ``size_limit`` bytes besides inputs and outputs.

        Call it after ``load``. If the network has run already, new plans are made.
        """
        self._loaded("set_network_algo_workspace_limit")
        limit = to_integer(size_limit, "size_limit", bools=True)
        if limit < 0:
            raise LiteValueError(f"a workspace cannot have {limit} bytes")
        self._use_algo(replace(self._algo, workspace_limit=limit))

    def _use_algo(self, algo: AlgoPolicy) -> None:
        self._algo = algo
        if self._engine is not None:
            self._engine.use_algo_policy(algo)
