"""Loads models of MegEngine and ONNX and runs them on CPUs.

The names, modules and behaviour are those of MegEngine Lite's Python package. Programs that import that package can run
with this one by :func:`install_as_megenginelite`. Importing this package does little: the engine is imported when the
first model is loaded, and threads are started when the first forward needs them.
"""

from __future__ import annotations

import sys as _sys

from megengine_lite import _interrupts  # noqa: F401  (from here on Ctrl-C ends a command quietly)

# isort: split
if _sys.byteorder != "little":
    raise ImportError(
        f"megengine_lite runs on little-endian processors only: model files and kernels are so, this Python is "
        f"{_sys.byteorder}-endian; use a little-endian system of the same machine, for example ppc64le"
    )

from megengine_lite import _compiled  # noqa: F401  (finds compiled modules; refuses other interpreters before numpy does)

# isort: split
# Programs that star-import the original also get the names of ctypes that its interface needs.
from ctypes import (
    CFUNCTYPE,
    POINTER,
    byref,
    c_byte,
    c_char_p,
    c_double,
    c_float,
    c_int,
    c_int8,
    c_int16,
    c_int32,
    c_int64,
    c_long,
    c_short,
    c_size_t,
    c_ubyte,
    c_uint,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ushort,
    c_void_p,
    cast,
    memmove,
    memset,
    pointer,
    sizeof,
)
from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

try:
    import numpy as np
except (ImportError, RuntimeError) as _error:  # what it says depends on its version
    if not any(words in str(_error) for words in ("more than once per process", "tracer already init")):
        raise
    raise ImportError(
        "megengine_lite needs numpy, which another interpreter of this process has imported; numpy can be "
        "loaded only once, so import it in the main interpreter first, or start another process for megengine_lite"
    ) from _error

from megengine_lite import base, errors, global_setting, network, struct, tensor, utils
from megengine_lite.base import __version__, get_log_level, set_log_level, version
from megengine_lite.errors import (
    DecryptionError,
    DeviceError,
    LiteError,
    LiteWarning,
    ModelFormatError,
    ShapeError,
    UnsupportedOperatorError,
)
from megengine_lite.global_setting import LiteDecryptionFunc, LiteGlobal, decryption_func
from megengine_lite.network import (
    LiteAsyncCallback,
    LiteConfig,
    LiteExtraConfig,
    LiteFinishCallback,
    LiteIO,
    LiteNetwork,
    LiteNetworkIO,
    LiteOptions,
    LiteStartCallback,
    get_model_io_info,
)
from megengine_lite.struct import (
    LiteAlgoSelectStrategy,
    LiteBackend,
    LiteDataType,
    LiteDeviceType,
    LiteIOType,
    LiteLogLevel,
    LiteTensorPhase,
)
from megengine_lite.tensor import (
    MAX_DIM,
    LiteLayout,
    LiteTensor,
    LiteTensorConcat,
    ctype_to_lite_dtypes,
    lite_dtype_2_numpy,
)
from megengine_lite.utils import TensorBatchCollector

if _TYPE_CHECKING:
    from megengine_lite._api.onnx_export import export_onnx
    from megengine_lite._core.cpu.kernel_set import cpu_info
    from megengine_lite.custom_operator import register_operator, unregister_operator
    from megengine_lite.model import Model as Model
    from megengine_lite.model import load as load

__all__ = [
    "CFUNCTYPE",
    "MAX_DIM",
    "POINTER",
    "DecryptionError",
    "DeviceError",
    "LiteAlgoSelectStrategy",
    "LiteAsyncCallback",
    "LiteBackend",
    "LiteConfig",
    "LiteDataType",
    "LiteDecryptionFunc",
    "LiteDeviceType",
    "LiteError",
    "LiteExtraConfig",
    "LiteFinishCallback",
    "LiteGlobal",
    "LiteIO",
    "LiteIOType",
    "LiteLayout",
    "LiteLogLevel",
    "LiteNetwork",
    "LiteNetworkIO",
    "LiteOptions",
    "LiteStartCallback",
    "LiteTensor",
    "LiteTensorConcat",
    "LiteTensorPhase",
    "LiteWarning",
    "ModelFormatError",
    "ShapeError",
    "TensorBatchCollector",
    "UnsupportedOperatorError",
    "__version__",
    "base",
    "byref",
    "c_byte",
    "c_char_p",
    "c_double",
    "c_float",
    "c_int",
    "c_int8",
    "c_int16",
    "c_int32",
    "c_int64",
    "c_long",
    "c_short",
    "c_size_t",
    "c_ubyte",
    "c_uint",
    "c_uint8",
    "c_uint16",
    "c_uint32",
    "c_uint64",
    "c_ushort",
    "c_void_p",
    "cast",
    "cpu_info",
    "ctype_to_lite_dtypes",
    "decryption_func",
    "errors",
    "export_onnx",
    "get_log_level",
    "get_model_io_info",
    "global_setting",
    "install_as_megenginelite",
    "lite_dtype_2_numpy",
    "memmove",
    "memset",
    "network",
    "np",
    "pointer",
    "register_operator",
    "set_log_level",
    "sizeof",
    "tensor",
    "unregister_operator",
    "utils",
    "version",
]


def __getattr__(name: str) -> _Any:
    if name == "cpu_info":
        from megengine_lite._core.cpu.kernel_set import cpu_info

        return cpu_info
    if name == "export_onnx":
        from megengine_lite._api.onnx_export import export_onnx

        return export_onnx
    if name in ("register_operator", "unregister_operator"):
        from megengine_lite import custom_operator

        return getattr(custom_operator, name)
    if name in ("Model", "load"):  # not in __all__: programs for the original star-import it, and have such names
        from megengine_lite import model

        return getattr(model, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def install_as_megenginelite() -> None:
    """Makes ``import megenginelite`` give this package, so that programs for the original run unchanged.

    Call it before anything imports the original. ``megenginelite.tensor`` and the other modules are replaced, too.

    Raises
    ------
    LiteError
        The original is imported already.

    Examples
    --------
    >>> import megengine_lite
    >>> megengine_lite.install_as_megenginelite()
    >>> from megenginelite import LiteNetwork
    >>> LiteNetwork is megengine_lite.LiteNetwork
    True
    """
    package = _sys.modules[__name__]
    present = _sys.modules.get("megenginelite")
    if present is not None and present is not package:
        raise LiteError("megenginelite is imported already; call install_as_megenginelite before anything imports it")
    _sys.modules["megenginelite"] = package
    for module in (base, struct, tensor, network, global_setting, utils):
        _sys.modules["megenginelite." + module.__name__.rpartition(".")[2]] = module
