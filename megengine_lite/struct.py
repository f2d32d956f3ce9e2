"""The enumerations of the API."""

from enum import IntEnum

__all__ = [
    "LiteAlgoSelectStrategy",
    "LiteBackend",
    "LiteDataType",
    "LiteDeviceType",
    "LiteIOType",
    "LiteLogLevel",
    "LiteTensorPhase",
]


class LiteBackend(IntEnum):
    """The engine that runs a network. There is one."""

    LITE_DEFAULT = 0


class LiteDeviceType(IntEnum):
    """Kinds of devices. This build runs on ``LITE_CPU``; ``LITE_DEVICE_DEFAULT`` means the CPU as well.

    Notes
    -----
    Before 1.9 of the original API the number 5 meant ``LITE_DEVICE_DEFAULT``. Use the names.
    """

    LITE_CPU = 0
    LITE_CUDA = 1
    LITE_ATLAS = 3
    LITE_NPU = 4
    LITE_CAMBRICON = 5
    LITE_DEVICE_DEFAULT = 7


class LiteDataType(IntEnum):
    """Element types of tensors."""

    LITE_FLOAT = 0
    LITE_HALF = 1
    LITE_INT = 2
    LITE_INT16 = 3
    LITE_INT8 = 4
    LITE_UINT8 = 5
    LITE_UINT16 = 6


class LiteTensorPhase(IntEnum):
    """Where :meth:`LiteNetwork.get_io_tensor` looks for a name."""

    LITE_IO = 0
    LITE_INPUT = 1
    LITE_OUTPUT = 2


class LiteIOType(IntEnum):
    """Whether the value of an output is wanted, or its shape only."""

    LITE_IO_VALUE = 0
    LITE_IO_SHAPE = 1


class LiteAlgoSelectStrategy(IntEnum):
    """How the algorithm of each operator is chosen; combine members with ``|``.

    ``LITE_ALGO_HEURISTIC`` estimates, ``LITE_ALGO_PROFILE`` measures at the first run (fast-run),
    ``LITE_ALGO_REPRODUCIBLE`` allows only algorithms that give the same bits every time, ``LITE_ALGO_OPTIMIZED``
    leaves the plain reference algorithms out. ``LITE_ALGO_HEURISTIC | LITE_ALGO_PROFILE`` uses measurements from
    the cache and estimates where there are none.
    """

    LITE_ALGO_HEURISTIC = 1
    LITE_ALGO_PROFILE = 2
    LITE_ALGO_REPRODUCIBLE = 4
    LITE_ALGO_OPTIMIZED = 8


class LiteLogLevel(IntEnum):
    """How much :func:`set_log_level` lets through: ``DEBUG`` everything, ``ERROR`` errors only."""

    DEBUG = 0
    INFO = 1
    WARN = 2
    ERROR = 3
