"""LiteGlobal and decryption functions."""

import json
import logging
import os
import subprocess
import sys
from ctypes import c_void_p

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, loaded, run

from megengine_lite import LiteConfig, LiteDeviceType, LiteGlobal, LiteNetwork, decryption_func, get_model_io_info
from megengine_lite._core.cpu.algorithms.cache import CACHE, serialize_cache
from megengine_lite._core.formats.containers import cryption
from megengine_lite.errors import (
    DecryptionError,
    DeviceError,
    LiteArgumentError,
    LiteError,
    LiteFileNotFoundError,
    LiteTypeError,
    LiteValueError,
    LiteWarning,
    ModelFormatError,
)
from megengine_lite.log import logger

pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")
PLAIN = DIGITS.read_bytes()
CPU = LiteDeviceType.LITE_CPU


def encrypted(name: str) -> LiteConfig:
    made = LiteConfig()
    made.bare_model_cryption_name = name
    return made


def runs(content: bytes, name: str) -> bool:
    return bool(np.abs(run(loaded(content, encrypted(name))) - PROB).max() < 1e-5)


@pytest.fixture
def method():
    """A name for a decryption method that is forgotten afterwards."""
    name = "test_method"
    yield name
    cryption.METHODS.pop(name, None)


@pytest.fixture
def cache():
    CACHE.clear()
    yield CACHE
    CACHE.clear()


# ---- decryption ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_built_in_methods_and_their_keys(name):
    public = cryption.METHODS[name].key
    other = bytes(range(100, 132))
    content = bytes(cryption.encrypt(name, PLAIN, other))
    with pytest.raises((DecryptionError, ModelFormatError)):
        loaded(content, encrypted(name))
    try:
        LiteGlobal.update_decryption_key(name, list(other))
        assert runs(content, name)
        LiteGlobal.update_decryption_key(name, [])
        assert runs(content, name)
        assert get_model_io_info(content, encrypted(name)).inputs[0].name == "data"
    finally:
        LiteGlobal.update_decryption_key(name, public)
    assert runs(bytes(cryption.encrypt(name, PLAIN)), name)


def test_keys_that_cannot_be():
    for name, key in (("AES_default", [1] * 31), ("RC4_default", [1] * 15)):
        with pytest.raises(LiteValueError):
            LiteGlobal.update_decryption_key(name, key)
    with pytest.raises(LiteTypeError):
        LiteGlobal.update_decryption_key("AES_default", "0" * 32)
    for number in (None, 1.0, "1"):
        with pytest.raises(LiteTypeError):
            LiteGlobal.update_decryption_key("AES_default", [number] * 32)
    with pytest.raises(LiteError):
        LiteGlobal.update_decryption_key("none", [1] * 32)


def test_encrypted_with_the_wrong_or_no_name():
    content = bytes(cryption.encrypt("AES_default", PLAIN))
    for name in ("", "RC4_default", "SIMPLE_FAST_RC4_default"):
        with pytest.raises((DecryptionError, ModelFormatError)):
            loaded(content, encrypted(name))
    with pytest.raises(DecryptionError, match="none"):
        loaded(content, encrypted("none"))
    with pytest.raises(DecryptionError):
        loaded(PLAIN, encrypted("RC4_default"))


@pytest.mark.parametrize("short", [b"", b"1", b"1234567", b"12345678", b"1" * 24, b"1" * 31])
@pytest.mark.parametrize("name", ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"])
def test_encrypted_files_that_are_too_short(short, name):
    with pytest.raises((DecryptionError, ModelFormatError)):
        loaded(short, encrypted(name))


SECRET = (np.frombuffer(PLAIN, np.uint8) ^ 15).tobytes()


def test_registered_function(method):
    calls = []

    @decryption_func
    def swap(in_arr, key_arr, out_arr):
        writeable = in_arr.flags.writeable or key_arr.flags.writeable
        calls.append((in_arr.size, key_arr.tolist(), out_arr is None, writeable))
        if not out_arr:
            return in_arr.size
        out_arr[:] = in_arr ^ key_arr[0]
        return out_arr.size

    LiteGlobal.register_decryption_and_key(method, swap, [15])
    assert runs(SECRET, method)
    assert calls == [(len(PLAIN), [15], True, False), (len(PLAIN), [15], False, False)]
    assert swap(np.array([3], "uint8"), np.array([1], "uint8"), None) == 1
    LiteGlobal.update_decryption_key(method, bytes([16]))
    with pytest.raises(DecryptionError):
        loaded(SECRET, encrypted(method))


def test_registered_plain_function_that_returns_bytes(method):
    LiteGlobal.register_decryption_and_key(method, lambda data, key, out: (data ^ key[0]).tobytes(), bytes([15]))
    assert runs(SECRET, method)


def test_registered_function_may_write_less_than_it_said(method):
    def padded(in_arr, key_arr, out_arr):
        if out_arr is None:
            return in_arr.size + 100
        out_arr[: in_arr.size] = in_arr ^ key_arr[0]
        return in_arr.size

    LiteGlobal.register_decryption_and_key(method, padded, [15 + 256])
    assert runs(SECRET, method)


@pytest.mark.parametrize("sizes", [(-1, 0), (10, 11), ("5", 0), (None, 0), (1 << 50, 0), (5, None)])
def test_registered_function_with_impossible_sizes(method, sizes):
    LiteGlobal.register_decryption_and_key(method, lambda i, k, out: sizes[out is not None], b"k")
    with pytest.raises(DecryptionError):
        loaded(SECRET, encrypted(method))


def test_registered_function_that_raises(method):
    def fail(in_arr, key_arr, out_arr):
        raise PermissionError("no licence")

    LiteGlobal.register_decryption_and_key(method, fail, b"k")
    with pytest.raises(DecryptionError, match="fail raised PermissionError: no licence") as caught:
        loaded(SECRET, encrypted(method))
    assert isinstance(caught.value.__cause__, PermissionError)


def test_methods_and_keys_are_logged_without_the_key(method, caplog):
    logger.setLevel(logging.INFO)
    try:
        LiteGlobal.register_decryption_and_key(method, lambda i, k, o: 0, b"secret-key")
        LiteGlobal.update_decryption_key(method, b"other-key")
    finally:
        logger.setLevel(logging.ERROR)
    lines = [r.getMessage() for r in caplog.records]
    assert len(lines) == 2 and all(repr(method) in line and "-key" not in line for line in lines)


def test_registration_that_cannot_be(method):
    function = decryption_func(lambda i, k, o: 0)
    for name in ("AES_default", "NONE"):
        with pytest.raises(LiteValueError):
            LiteGlobal.register_decryption_and_key(name, function, b"k")
    for arguments in ((b"x", function, b"k"), (method, None, b"k"), (method, function, "k"), (method, function, 3)):
        with pytest.raises(LiteTypeError):
            LiteGlobal.register_decryption_and_key(*arguments)
    LiteGlobal.register_decryption_and_key(method, function, b"")
    with pytest.raises(LiteValueError):
        LiteGlobal.register_decryption_and_key(method, function, b"")
    with pytest.raises(LiteTypeError):
        decryption_func(3)


# ---- the persistent cache -----------------------------------------------------------------------------------------


def profiled() -> LiteNetwork:
    network = LiteNetwork()
    network.set_network_algo_policy(2)
    network.load(DIGITS)
    return network


def test_cache_of_a_profiled_run(cache, tmp_path):
    path = tmp_path / "cache"
    LiteGlobal.dump_persistent_cache(path)
    assert path.read_bytes() == bytes(4)
    network = profiled()
    assert np.abs(run(network) - PROB).max() < 1e-5
    LiteGlobal.dump_persistent_cache(str(path))
    content = path.read_bytes()
    assert len(content) > 100 and b"megengine_lite" in content
    LiteGlobal.set_persistent_cache(str(path))
    assert np.abs(run(network, IMAGES[:3]) - PROB[:3]).max() < 1e-5
    cache.clear()
    LiteGlobal.set_persistent_cache(path=path)
    before = {name: dict(entries) for name, entries in cache._categories.items()}
    assert np.abs(run(profiled()) - PROB).max() < 1e-5
    assert before == cache._categories


def test_cache_that_is_kept_up_to_date(cache, tmp_path):
    path = tmp_path / "cache"
    LiteGlobal.set_persistent_cache(path, always_sync=True)
    assert not path.exists()
    run(profiled())
    assert b"megengine_lite" in path.read_bytes()


def test_cache_that_replaces_another_is_merged_and_logged(cache, tmp_path, caplog):
    for name, entries in (("first", {b"a": 1.0, b"b": 1.0}), ("second", {b"b": 2.0, b"c": 2.0})):
        stored = {key: json.dumps([[name, seconds, 0]]).encode() for key, seconds in entries.items()}
        (tmp_path / name).write_bytes(serialize_cache({b"category": stored}))
    logger.setLevel(logging.WARNING)
    try:
        LiteGlobal.set_persistent_cache(tmp_path / "first", always_sync=True)
        LiteGlobal.set_persistent_cache(tmp_path / "second")
    finally:
        logger.setLevel(logging.ERROR)
    assert ["first" in r.getMessage() and "second" in r.getMessage() for r in caplog.records] == [True]
    assert [cache.lookup("category", key)[0].algorithm for key in "abc"] == ["first", "second", "second"]


def test_cache_that_is_none_is_left_alone(cache, tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(b"\xff" * 50)
    LiteGlobal.set_persistent_cache(path, always_sync=True)
    run(profiled())
    assert path.read_bytes() == b"\xff" * 50


def test_cache_paths_that_cannot_be(cache, tmp_path):
    with pytest.raises(LiteError):
        LiteGlobal.set_persistent_cache(tmp_path)
    with pytest.raises(LiteError):
        LiteGlobal.dump_persistent_cache(tmp_path / "none" / "cache")
    for path in (None, 3):
        with pytest.raises(LiteTypeError):
            LiteGlobal.set_persistent_cache(path)


# ---- devices, memory, libraries -----------------------------------------------------------------------------------


def test_device_counts():
    count = len(os.sched_getaffinity(0))
    assert LiteGlobal.get_device_count(CPU) == LiteGlobal().get_device_count(7) == count
    assert [LiteGlobal.get_device_count(d) for d in (1, 3, 4, 5)] == [0, 0, 0, 0]
    with pytest.raises(DeviceError):
        LiteGlobal.get_device_count(9)
    with pytest.raises(LiteTypeError):
        LiteGlobal.get_device_count("LITE_CPU")


def test_coalesce():
    network = loaded()
    assert np.abs(run(network) - PROB).max() < 1e-5
    assert network.memory_usage["arena"] > 0
    assert LiteGlobal.try_coalesce_all_free_memory() is None
    assert network.memory_usage["arena"] == 0
    assert np.abs(run(network) - PROB).max() < 1e-5


def test_tensorrt_warns(tmp_path):
    with pytest.warns(LiteWarning):
        LiteGlobal.set_tensorrt_cache(tmp_path / "x")
    with pytest.warns(LiteWarning):
        LiteGlobal.dump_tensorrt_cache()


def test_loader_library_that_is_none(tmp_path):
    with pytest.raises(LiteFileNotFoundError):
        LiteGlobal.set_loader_lib_path(tmp_path / "none.so")
    (tmp_path / "text.so").write_text("text")
    with pytest.raises(LiteError):
        LiteGlobal.set_loader_lib_path(str(tmp_path / "text.so"))
    with pytest.raises(LiteTypeError):
        LiteGlobal.set_loader_lib_path(None)


def test_memory_pairs():
    virtual, physical = c_void_p(0x10000), c_void_p(0x90000)
    LiteGlobal.register_memory_pair(virtual, physical, 256, CPU)
    try:
        assert LiteGlobal.lookup_physic_ptr(virtual, CPU).value == 0x90000
        assert LiteGlobal.lookup_physic_ptr(c_void_p(0x100FF), CPU).value == 0x900FF
        for missing in ((c_void_p(0x10100), CPU), (virtual, LiteDeviceType.LITE_CUDA)):
            with pytest.raises(LiteError):
                LiteGlobal.lookup_physic_ptr(*missing)
        with pytest.raises(LiteError):
            LiteGlobal.register_memory_pair(c_void_p(0x10080), physical, 256, CPU)
        with pytest.raises(LiteError):
            LiteGlobal.clear_memory_pair(virtual, c_void_p(0x1), CPU)
    finally:
        LiteGlobal.clear_memory_pair(virtual, physical, CPU)
    with pytest.raises(LiteError):
        LiteGlobal.lookup_physic_ptr(virtual, CPU)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, c_void_p(1), 1, CPU), LiteArgumentError),
        ((c_void_p(), c_void_p(1), 1, CPU), LiteValueError),
        ((c_void_p(1), c_void_p(1), 0, CPU), LiteValueError),
        ((c_void_p(1), c_void_p(1), 1, 99), DeviceError),
        ((c_void_p(1), c_void_p(1), 1, CPU, 3), LiteValueError),
    ],
)
def test_memory_pairs_that_cannot_be(arguments, error):
    with pytest.raises(error):
        LiteGlobal.register_memory_pair(*arguments)


def test_several_processes_keep_one_cache_up_to_date(tmp_path):
    path = tmp_path / "cache"
    code = (
        "import sys\n"
        "from megengine_lite._core.cpu.algorithms.cache import CACHE, Timing\n"
        "CACHE.open(sys.argv[1], always_sync=True)\n"
        "for k in range(20):\n"
        "    CACHE.store('category', f'{sys.argv[2]}-{k}', [Timing('a', 1.0, 0)])\n"
        "    CACHE.flush()\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(k)]) for k in range(3)]
    assert [p.wait(60) for p in processes] == [0, 0, 0]
    CACHE.clear()
    try:
        CACHE.open(str(path))
        found = [CACHE.lookup("category", f"{p}-{k}") for p in range(3) for k in range(20)]
        assert all(found) and len(found) == 60
    finally:
        CACHE.clear()
