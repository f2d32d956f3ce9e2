"""Settings of the whole process: :class:`LiteGlobal`, :func:`decryption_func`."""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from megengine_lite._api.arguments import to_integers
from megengine_lite._core.runtime.devices import device_count
from megengine_lite._core.system.files import path_to_write, to_path
from megengine_lite.errors import (
    DecryptionError,
    LiteArgumentError,
    LiteError,
    LiteTypeError,
    LiteValueError,
    brief,
)
from megengine_lite.log import logger, warn
from megengine_lite.struct import LiteBackend, LiteDeviceType

__all__ = ["LiteDecryptionFunc", "LiteGlobal", "decryption_func"]

# The prototype of the original's C callback. Decryption functions here are plain Python functions.
LiteDecryptionFunc = ctypes.CFUNCTYPE(
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.POINTER(ctypes.c_uint8),
    ctypes.c_size_t,
    ctypes.c_void_p,
)

_MOST_BYTES = 1 << 40
_LONGEST_KEY = 1 << 20


class _OutputArray(np.ndarray):
    """An array that is to be filled. It is true in a condition, so ``if not out_arr`` can tell it from None."""

    def __bool__(self) -> bool:
        return True


class _DecryptionFunction:
    """A user's function in the form that :meth:`LiteGlobal.register_decryption_and_key` takes."""

    def __init__(self, func: Callable[..., Any]):
        functools.update_wrapper(self, func)
        self._func = func

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._func(*args, **kwargs)

    def decrypt(self, data: Any, key: bytes) -> Any:
        """The plain bytes. The function is asked for their number first, and then writes them."""
        in_arr = np.frombuffer(data, np.uint8)
        if in_arr.flags.writeable:
            in_arr.flags.writeable = False
        key_arr = np.frombuffer(key, np.uint8)
        size = self._call(in_arr, key_arr, None)
        if isinstance(size, bytes | bytearray | memoryview | np.ndarray):
            return np.ascontiguousarray(size).tobytes() if isinstance(size, np.ndarray) else size
        out = np.zeros(self._checked(size, _MOST_BYTES), np.uint8)
        written = self._call(in_arr, key_arr, out.view(_OutputArray))
        return out[: self._checked(written, out.size)].data

    def _call(self, in_arr: np.ndarray, key_arr: np.ndarray, out_arr: np.ndarray | None) -> Any:
        try:
            return self._func(in_arr, key_arr, out_arr)
        except (LiteError, MemoryError):
            raise
        except Exception as error:
            raise DecryptionError(
                f"the decryption function {self._name()} raised {type(error).__name__}: {error}"
            ) from error

    def _name(self) -> str:
        return str(getattr(self._func, "__name__", type(self._func).__name__))

    def _checked(self, size: Any, most: int) -> int:
        name = self._name()
        if isinstance(size, bool) or not isinstance(size, int | np.integer):
            raise DecryptionError(f"{name} must return a number of bytes, not {type(size).__name__}")
        if not 0 <= size <= most:
            raise DecryptionError(f"{name} returned {size} bytes, where at most {most} are possible")
        return int(size)


def decryption_func(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for functions that decrypt models.

    Parameters
    ----------
    func
        ``func(in_arr, key_arr, out_arr)`` with arrays of uint8. It is called twice: with ``out_arr`` None to return
        the number of plain bytes, then with an array of that size to fill, to return the number of bytes written.
        It may also return the plain bytes themselves at the first call. If it raises, ``load`` raises a
        :class:`~megengine_lite.errors.DecryptionError` whose ``__cause__`` is that exception; an error of this package
        passes as it is.

    Examples
    --------
    >>> @decryption_func
    ... def swap_bits(in_arr, key_arr, out_arr):
    ...     if not out_arr:
    ...         return in_arr.size
    ...     out_arr[:] = in_arr ^ key_arr[0]
    ...     return out_arr.size
    """
    if not callable(func):
        raise LiteTypeError(f"a decryption function is needed, not {type(func).__name__}")
    return _DecryptionFunction(func)


def _to_key(key: bytes | Iterable[int]) -> bytes:
    if isinstance(key, str):
        raise LiteTypeError("a key is bytes or a sequence of integers, not a str; encode it first")
    if isinstance(key, bytes):
        return key
    numbers = to_integers(key, "a key", _LONGEST_KEY)
    if len(numbers) > _LONGEST_KEY:
        raise LiteValueError(f"a key has at most {_LONGEST_KEY} bytes")
    return bytes(k & 0xFF for k in numbers)


# (device, backend) -> virtual address -> (physical address, bytes)
_memory_pairs: dict[tuple[int, int], dict[int, tuple[int, int]]] = {}
_memory_pairs_lock = threading.Lock()


class LiteGlobal:
    """Settings of the whole process. All methods are static; they may be called from any thread."""

    @staticmethod
    def register_decryption_and_key(
        decryption_name: str, decryption_func: Callable[..., Any], key: bytes | Iterable[int]
    ) -> None:
        """Registers a decryption method under a name, for use as ``LiteConfig.bare_model_cryption_name``.

        Parameters
        ----------
        decryption_name
            A name that no other method has.
        decryption_func
            See :func:`megengine_lite.decryption_func`; with or without the decorator.
        key
            Bytes, or integers of which the low eight bits count.

        Raises
        ------
        LiteValueError
            The name is taken.
        LiteTypeError
            Not a name, a function or a key.
        """
        from megengine_lite._core.formats.containers import cryption

        if not isinstance(decryption_name, str):
            raise LiteTypeError(f"the name of a decryption method is a str, not {type(decryption_name).__name__}")
        if not callable(decryption_func):
            raise LiteTypeError(f"a decryption function is needed, not {type(decryption_func).__name__}")
        function = decryption_func
        if not isinstance(function, _DecryptionFunction):
            function = _DecryptionFunction(function)
        cryption.register(decryption_name, function.decrypt, _to_key(key))
        logger.info("decryption method %r is registered", decryption_name)

    @staticmethod
    def update_decryption_key(decryption_name: str, key: bytes | Iterable[int]) -> None:
        """Gives a decryption method another key; an empty key changes nothing.

        ``AES_default`` takes 32 bytes, ``RC4_default`` and ``SIMPLE_FAST_RC4_default`` at least 16, of which the
        first 16 count.

        Raises
        ------
        LiteValueError, DecryptionError
            The key is too short; there is no such method.
        """
        from megengine_lite._core.formats.containers import cryption

        cryption.update_key(decryption_name, _to_key(key))
        logger.info("decryption method %r has another key", decryption_name)

    @staticmethod
    def set_loader_lib_path(path: str | os.PathLike[str]) -> None:
        """Opens a shared library with operators of its own, made for the C interface of the original.

        The library is native code with all rights of this process.

        Raises
        ------
        LiteFileNotFoundError, LiteError
            There is no such file, or it is not a library of this kind.
        """
        from megengine_lite._core.operators.c_library import load_library

        load_library(to_path(path))

    @staticmethod
    def set_persistent_cache(path: str | os.PathLike[str], always_sync: bool = False) -> None:
        """Reads measurements of fast-run from a file, so that they need not be made again.

        Parameters
        ----------
        path
            The file need not exist yet. A file that is not such a cache is reported in the log and left as it is.
        always_sync
            Write new measurements to the file as they are made. Several processes may use one file; the old content
            is never lost.

        Notes
        -----
        A measurement is used only for the processor, the instruction set, the number of threads and the revision of
        the kernels that it was made with.
        """
        from megengine_lite._core.cpu.algorithms.cache import CACHE

        CACHE.open(to_path(path), bool(always_sync))

    @staticmethod
    def dump_persistent_cache(path: str | os.PathLike[str]) -> None:
        """Writes all measurements of fast-run in memory to a file."""
        from megengine_lite._core.cpu.algorithms.cache import CACHE

        CACHE.dump(path_to_write(path))

    @staticmethod
    def set_tensorrt_cache(path: str | os.PathLike[str]) -> None:
        """Warns: there is no TensorRT on a CPU, so there is nothing to cache."""
        to_path(path)
        warn("TensorRT does not exist on a CPU; its cache is not used")

    @staticmethod
    def dump_tensorrt_cache() -> None:
        """Warns: there is no TensorRT on a CPU, so there is nothing to write."""
        warn("TensorRT does not exist on a CPU; there is no cache to write")

    @staticmethod
    def get_device_count(device_type: LiteDeviceType | int) -> int:
        """The number of devices of a kind: for the CPU the processors that this process may use, else 0.

        Raises
        ------
        DeviceError
            There is no such kind.
        """
        return device_count(device_type)

    @staticmethod
    def try_coalesce_all_free_memory() -> None:
        """Gives unused memory back to the system.

        Networks allocate memory for intermediate results again in their next forward.
        """
        from megengine_lite._api.engine import release_idle_memory

        release_idle_memory()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(ctypes.c_size_t(0))

    @staticmethod
    def register_memory_pair(
        vir_ptr: ctypes.c_void_p,
        phy_ptr: ctypes.c_void_p,
        length: int,
        device: LiteDeviceType | int,
        backend: LiteBackend | int = LiteBackend.LITE_DEFAULT,
    ) -> None:
        """Registers the physical address of ``length`` bytes at a virtual address.

        Examples
        --------
        >>> from ctypes import c_void_p
        >>> LiteGlobal.register_memory_pair(c_void_p(4096), c_void_p(65536), 256, LiteDeviceType.LITE_CPU)
        >>> LiteGlobal.lookup_physic_ptr(c_void_p(4100), LiteDeviceType.LITE_CPU).value
        65540
        >>> LiteGlobal.clear_memory_pair(c_void_p(4096), c_void_p(65536), LiteDeviceType.LITE_CPU)
        """
        virtual, physical = _address(vir_ptr), _address(phy_ptr)
        if isinstance(length, bool) or not isinstance(length, int) or length <= 0:
            raise LiteValueError(f"the length of a piece of memory is a positive int, not {brief(length)}")
        with _memory_pairs_lock:
            pairs = _memory_pairs.setdefault(_place(device, backend), {})
            for start, (_, size) in pairs.items():
                if start < virtual + length and virtual < start + size:
                    raise LiteError(f"memory at {start:#x} is registered already and overlaps; clear that pair first")
            pairs[virtual] = physical, length

    @staticmethod
    def clear_memory_pair(
        vir_ptr: ctypes.c_void_p,
        phy_ptr: ctypes.c_void_p,
        device: LiteDeviceType | int,
        backend: LiteBackend | int = LiteBackend.LITE_DEFAULT,
    ) -> None:
        """Removes what :meth:`register_memory_pair` has registered."""
        virtual, physical = _address(vir_ptr), _address(phy_ptr)
        with _memory_pairs_lock:
            pairs = _memory_pairs.get(_place(device, backend), {})
            if pairs.get(virtual, (None,))[0] != physical:
                raise LiteError(f"the addresses {virtual:#x} and {physical:#x} are not registered as a pair")
            del pairs[virtual]

    @staticmethod
    def lookup_physic_ptr(
        vir_ptr: ctypes.c_void_p,
        device: LiteDeviceType | int,
        backend: LiteBackend | int = LiteBackend.LITE_DEFAULT,
    ) -> ctypes.c_void_p:
        """The physical address of a virtual one inside of registered memory.

        Raises
        ------
        LiteError
            The memory is not registered.
        """
        virtual = _address(vir_ptr)
        with _memory_pairs_lock:
            for start, (physical, size) in _memory_pairs.get(_place(device, backend), {}).items():
                if start <= virtual < start + size:
                    return ctypes.c_void_p(physical + virtual - start)
        raise LiteError(f"no memory is registered at the virtual address {virtual:#x}")


def _address(pointer: Any) -> int:
    if not isinstance(pointer, ctypes.c_void_p):
        raise LiteArgumentError(f"an address is a ctypes.c_void_p, not {type(pointer).__name__}")
    if not pointer.value:
        raise LiteValueError("the address is null")
    return pointer.value


def _place(device: Any, backend: Any) -> tuple[int, int]:
    device_count(device)  # raises for what is no device type
    if backend != LiteBackend.LITE_DEFAULT:
        raise LiteValueError(f"there is no backend {backend}; use LiteBackend.LITE_DEFAULT")
    return int(device), int(backend)
