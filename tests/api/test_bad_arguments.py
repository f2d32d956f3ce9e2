"""Every public call with every kind of argument that it cannot take: only errors of this package come out."""

from __future__ import annotations

import array
import ctypes
import itertools
import mmap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.api_samples import DIGITS, loaded

import megengine_lite
from megengine_lite import (
    LiteConfig,
    LiteGlobal,
    LiteIO,
    LiteLayout,
    LiteNetwork,
    LiteNetworkIO,
    LiteOptions,
    LiteTensor,
    LiteTensorConcat,
    TensorBatchCollector,
    get_model_io_info,
    register_operator,
    set_log_level,
    unregister_operator,
)
from megengine_lite.errors import LiteError, LiteTypeError, brief

pytestmark = pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning")


def _released() -> memoryview:
    view = memoryview(bytearray(24))
    view.release()
    return view


def _closed() -> mmap.mmap:
    memory = mmap.mmap(-1, 4096)
    memory.close()
    return memory


def _deep() -> list:
    found: list = []
    for _ in range(200_000):  # every Python refuses to show it; 3.13 shows 5,000
        found = [found]
    return found


def _cyclic() -> list:
    found: list = []
    found.append(found)
    return found


def _failing_generator() -> Any:
    yield 1
    raise ValueError("in the generator")


class _FailingArray:
    def __array__(self, *_: Any, **__: Any) -> Any:
        raise OSError("no array")


class _NoArray:
    def __array__(self, *_: Any, **__: Any) -> Any:
        return 3


class _AbsurdInterface:
    @property
    def __array_interface__(self) -> Any:
        return {"shape": (1 << 60,), "typestr": "<f4", "data": (0, False), "version": 3}


class _NoInterface:
    __array_interface__ = 3


class _FailingDevice:
    def __dlpack_device__(self) -> Any:
        raise ZeroDivisionError("no device")

    def __dlpack__(self, **_: Any) -> Any:
        return None


class _NoCapsule:
    def __dlpack_device__(self) -> Any:
        return (1, 0)

    def __dlpack__(self, **_: Any) -> Any:
        return 3


class _NoMemory(_NoCapsule):
    def __dlpack__(self, **_: Any) -> Any:
        raise MemoryError


class _FailingIndex:
    def __index__(self) -> int:
        raise RuntimeError("no index")


class _FailingIterator:
    def __iter__(self) -> Any:
        raise OSError("no iterator")

    def __len__(self) -> int:
        return 3


class _FailingItems:
    def __len__(self) -> int:
        raise ValueError("no length")

    def __getitem__(self, place: int) -> Any:
        raise KeyError(place)


class _FailingText:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


ARGUMENTS: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "object": object,
    "no text": _FailingText,
    "class": lambda: int,
    "function": lambda: lambda *_: 1 / 0,
    "text": lambda: "x",
    "surrogate": lambda: "\ud800",
    "null in text": lambda: "a\0b",
    "no bytes": lambda: b"",
    "no bytearray": bytearray,
    "large": lambda: 1 << 200,
    "giant": lambda: 10**5000,
    "giant in a list": lambda: [10**5000],
    "negative": lambda: -1,
    "nan": lambda: float("nan"),
    "infinity in a list": lambda: [1e400],
    "large in a list": lambda: [1 << 70],
    "ragged": lambda: [[1], [2, 3]],
    "mixed": lambda: [1, "a"],
    "set": lambda: frozenset([1]),
    "dict": lambda: {1: 2},
    "deep": _deep,
    "cyclic": _cyclic,
    "endless": itertools.count,
    "failing generator": _failing_generator,
    "failing iterator": _FailingIterator,
    "failing items": _FailingItems,
    "failing index": _FailingIndex,
    "failing array": _FailingArray,
    "no array": _NoArray,
    "absurd interface": _AbsurdInterface,
    "no interface": _NoInterface,
    "failing device": _FailingDevice,
    "no capsule": _NoCapsule,
    "no memory": _NoMemory,
    "released": _released,
    "closed": _closed,
    "null": lambda: ctypes.c_void_p(None),
    "null of a type": lambda: ctypes.POINTER(ctypes.c_int)(),
    "letters": lambda: array.array("u", "abc"),
    "objects": lambda: np.array([None, 2], object),
    "texts": lambda: np.array(["a"]),
    "dates": lambda: np.array(["2020"], "M8[D]"),
    "records": lambda: np.zeros(2, [("a", "f4")]),
    "complex": lambda: np.ones(3, complex),
    "empty": lambda: np.zeros((0, 3), "f4"),
    "larger than memory": lambda: np.broadcast_to(np.float32(1), (1 << 40,)),
}


def _tensor() -> LiteTensor:
    return LiteTensor(LiteLayout([2, 3], "float32"))


def _batch() -> TensorBatchCollector:
    return TensorBatchCollector([2, 3], "float32", 0)


_NETWORK = loaded()

CALLS: dict[str, Callable[[Any], Any]] = {
    "set_data_by_copy": lambda x: _tensor().set_data_by_copy(x),
    "set_data_by_copy length": lambda x: _tensor().set_data_by_copy(b"a" * 24, x),
    "set_data_by_copy layout": lambda x: _tensor().set_data_by_copy(b"a" * 24, 24, x),
    "set_data_by_share": lambda x: _tensor().set_data_by_share(x),
    "set_data_by_share length": lambda x: _tensor().set_data_by_share(bytearray(24), x),
    "set_data_by_share layout": lambda x: _tensor().set_data_by_share(bytearray(24), 24, x),
    "copy_from": lambda x: _tensor().copy_from(x),
    "share_memory_with": lambda x: _tensor().share_memory_with(x),
    "reshape": lambda x: _tensor().reshape(x),
    "slice start": lambda x: _tensor().slice(x, [1]),
    "slice end": lambda x: _tensor().slice([0], x),
    "slice step": lambda x: _tensor().slice([0], [1], x),
    "from_dlpack": LiteTensor.from_dlpack,
    "LiteTensor layout": LiteTensor,
    "LiteTensor device": lambda x: LiteTensor([1], x),
    "LiteTensor id": lambda x: LiteTensor([1], 0, x),
    "LiteTensor pinned": lambda x: LiteTensor([1], 0, 0, x),
    "LiteTensor dtype": lambda x: LiteTensor([1], dtype=x),
    "tensor.layout": lambda x: setattr(_tensor(), "layout", x),
    "LiteLayout shape": LiteLayout,
    "LiteLayout dtype": lambda x: LiteLayout([1], x),
    "layout.ndim": lambda x: setattr(LiteLayout([1]), "ndim", x),
    "lite_dtype_2_numpy": megengine_lite.lite_dtype_2_numpy,
    "LiteTensorConcat": lambda x: LiteTensorConcat(x, 0),
    "LiteTensorConcat dim": lambda x: LiteTensorConcat([_tensor()], x),
    "TensorBatchCollector": lambda x: TensorBatchCollector(x, device_type=0),
    "collect": lambda x: _batch().collect(x),
    "collect_id": lambda x: _batch().collect_id(np.zeros(3, "f4"), x),
    "collect_by_ctypes": lambda x: _batch().collect_by_ctypes(x, 12),
    "collect_by_ctypes length": lambda x: _batch().collect_by_ctypes(bytearray(12), x),
    "free": lambda x: _batch().free(x),
    "get_tensor_at": lambda x: _batch().get_tensor_at(x),
    "load": lambda x: LiteNetwork().load(x),
    "get_model_io_info": get_model_io_info,
    "get_model_io_info config": lambda x: get_model_io_info(DIGITS, x),
    "LiteNetwork config": LiteNetwork,
    "LiteNetwork io": lambda x: LiteNetwork(None, x),
    "get_io_tensor": _NETWORK.get_io_tensor,
    "get_io_tensor phase": lambda x: _NETWORK.get_io_tensor("data", x),
    "get_discrete_tensor": lambda x: _NETWORK.get_discrete_tensor(x, 0),
    "get_input_name": _NETWORK.get_input_name,
    "get_output_name": _NETWORK.get_output_name,
    "set_network_algo_policy": lambda x: LiteNetwork().set_network_algo_policy(x),
    "set_network_algo_policy batch": lambda x: LiteNetwork().set_network_algo_policy(1, x),
    "set_network_algo_workspace_limit": lambda x: loaded().set_network_algo_workspace_limit(x),
    "set_start_callback": lambda x: LiteNetwork().set_start_callback(x),
    "set_finish_callback": lambda x: LiteNetwork().set_finish_callback(x),
    "async_with_callback": lambda x: LiteNetwork().async_with_callback(x),
    "share_weights_with": lambda x: LiteNetwork().share_weights_with(x),
    "share_runtime_memroy": lambda x: LiteNetwork().share_runtime_memroy(x),
    "extra_configure": lambda x: LiteNetwork().extra_configure(x),
    "threads_number": lambda x: setattr(LiteNetwork(), "threads_number", x),
    "device_id": lambda x: setattr(LiteNetwork(), "device_id", x),
    "stream_id": lambda x: setattr(LiteNetwork(), "stream_id", x),
    "LiteIO": LiteIO,
    "LiteIO layout": lambda x: LiteIO("a", layout=x),
    "LiteIO io_type": lambda x: LiteIO("a", io_type=x),
    "LiteNetworkIO": LiteNetworkIO,
    "add_input": lambda x: LiteNetworkIO().add_input(x),
    "LiteOptions": lambda x: setattr(LiteOptions(), "jit_level", x),
    "LiteConfig": LiteConfig,
    "config.options": lambda x: setattr(LiteConfig(), "options", x),
    "config.device_type": lambda x: setattr(LiteConfig(), "device_type", x),
    "bare_model_cryption_name": lambda x: setattr(LiteConfig(), "bare_model_cryption_name", x),
    "register_decryption_and_key": lambda x: LiteGlobal.register_decryption_and_key(x, 3, b""),
    "register_decryption_and_key key": lambda x: LiteGlobal.register_decryption_and_key("NONE", len, x),
    "update_decryption_key": lambda x: LiteGlobal.update_decryption_key(x, b""),
    "update_decryption_key key": lambda x: LiteGlobal.update_decryption_key("none", x),
    "get_device_count": LiteGlobal.get_device_count,
    "register_memory_pair": lambda x: LiteGlobal.register_memory_pair(x, ctypes.c_void_p(1), 1, 0),
    "register_memory_pair length": lambda x: LiteGlobal.register_memory_pair(*[ctypes.c_void_p(8)] * 2, x, 1 << 20),
    "set_tensorrt_cache": LiteGlobal.set_tensorrt_cache,
    "enable_profile_performance form": lambda x: _NETWORK.enable_profile_performance("x", form=x),
    "register_operator": lambda x: register_operator(x, infer=3),  # type: ignore[arg-type]
    "register_operator infer": lambda x: register_operator("Q", infer=x),
    "register_operator outputs": lambda x: register_operator("Q", infer=len, outputs=x),  # type: ignore[arg-type]
    "unregister_operator": unregister_operator,
    "set_log_level": set_log_level,
}


@pytest.mark.parametrize("call", CALLS)
def test_only_errors_of_this_package_come_out(call):
    found = {}
    for kind, make in ARGUMENTS.items():
        try:
            CALLS[call](make())
        except LiteError as error:
            if not 5 < len(str(error)) < 1000:
                found[kind] = f"says {str(error)[:100]!r}"
        except Exception as error:
            found[kind] = repr(error)[:200]
    assert found == {}


def test_what_cannot_be_shown_is_shown_by_its_type():
    assert brief([1, 2]) == "[1, 2]"
    assert brief("x" * 100) == "'" + "x" * 75 + " ..."
    assert brief(_FailingText()) == "an object of type _FailingText"
    assert brief(_deep()) == "an object of type list"
    assert len(brief(10**5000)) <= 80  # old versions of Python print it


def test_the_error_of_a_callers_class_is_the_cause():
    with pytest.raises(LiteTypeError) as caught:
        LiteLayout(_FailingIterator())
    assert isinstance(caught.value.__cause__, OSError)
