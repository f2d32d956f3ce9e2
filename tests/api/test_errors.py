"""The tree of exceptions, and how errors surface."""

import ast
import errno
import io
import logging
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import DIGITS

import megengine_lite
from megengine_lite import LiteGlobal, LiteLayout, LiteNetwork, LiteTensor, TensorBatchCollector, errors
from megengine_lite.errors import LiteError

ALSO = {
    "LiteError": (RuntimeError,),
    "ModelFormatError": (ValueError,),
    "UnsupportedOperatorError": (NotImplementedError,),
    "DeviceError": (),
    "InternalError": (),
    "DecryptionError": (),
    "ShapeError": (ValueError,),
    "LiteArgumentError": (AssertionError,),
    "LiteValueError": (ValueError,),
    "LiteAttributeError": (AttributeError,),
    "LiteTypeError": (TypeError, KeyError),
    "LiteIndexError": (IndexError,),
    "LiteMemoryError": (MemoryError,),
    "LiteOSError": (OSError,),
    "LiteFileNotFoundError": (errors.LiteOSError, FileNotFoundError),
    "LiteIsADirectoryError": (errors.LiteOSError, IsADirectoryError),
    "LitePermissionError": (errors.LiteOSError, PermissionError),
}

# What callers of the original catch, and a call that raises it.
CAUGHT = [
    (RuntimeError, lambda: LiteNetwork().forward()),
    (RuntimeError, lambda: LiteTensor(device_type=1)),
    (RuntimeError, lambda: LiteTensor([4]).reshape([5])),
    (RuntimeError, lambda: LiteTensor().fill_zero()),
    (AssertionError, lambda: LiteTensor().set_data_by_copy(np.zeros((4, 4), "int8").T[:, ::2])),
    (AssertionError, lambda: LiteTensor().set_data_by_share(np.zeros((4, 4), "int8")[:, 1:])),
    (AssertionError, lambda: LiteTensor([1]).set_data_by_copy([1, 2])),
    (AssertionError, lambda: LiteTensor([1]).copy_from(None)),
    (AssertionError, lambda: LiteTensor([4]).slice([0], [1, 2])),
    (AssertionError, lambda: LiteLayout([1] * 8)),
    (AssertionError, lambda: megengine_lite.lite_dtype_2_numpy(0)),
    (AssertionError, lambda: TensorBatchCollector([2, 2], device_type=0).collect(None)),
    (TypeError, lambda: LiteLayout([1.5])),
    (TypeError, lambda: LiteLayout([1], "nonsense")),
    (KeyError, lambda: LiteLayout([1], np.float64)),
    (KeyError, lambda: LiteTensor().set_data_by_copy(np.zeros(1))),
    (IndexError, lambda: TensorBatchCollector([2, 2], device_type=0).get_tensor_at(2)),
    (OSError, lambda: LiteNetwork().load("/no/such/file.mge")),
    (FileNotFoundError, lambda: megengine_lite.get_model_io_info("/no/such/file.mge")),
]


def test_all_errors_are_in_the_table():
    raised = {n for n in errors.__all__ if issubclass(getattr(errors, n), Exception)} - {"LiteWarning"}
    assert raised == set(ALSO)
    assert issubclass(errors.LiteWarning, UserWarning)


@pytest.mark.parametrize("name", ALSO)
def test_error_is_a_runtime_error_and_what_python_expects(name):
    kind = getattr(errors, name)
    assert issubclass(kind, LiteError) and issubclass(kind, RuntimeError)
    assert all(issubclass(kind, other) for other in ALSO[name])


@pytest.mark.parametrize("name", ALSO)
def test_error_shows_its_message_and_can_be_pickled(name):
    error = getattr(errors, name)("tensor 'a' has 3 bytes")
    assert str(error) == "tensor 'a' has 3 bytes"
    twin = pickle.loads(pickle.dumps(error))
    assert type(twin) is type(error) and str(twin) == str(error)


@pytest.mark.parametrize("name", ALSO)
def test_a_message_does_not_tell_a_terminal_what_to_do(name):
    error = getattr(errors, name)("tensor '\x1b[2J\x9b1m\u202e\ud800ä' of\n\tfile")
    assert str(error) == "tensor '\\x1b[2J\\x9b1m\\u202e\\ud800ä' of\n\tfile"
    if issubclass(getattr(errors, name), OSError):
        assert str(getattr(errors, name)(2, "no\x07 file", "x\x07")) == "no\\x07 file"


def test_missing_file_has_the_fields_of_an_os_error():
    with pytest.raises(LiteError) as caught:
        LiteNetwork().load("/no/such/file.mge")
    assert isinstance(caught.value, FileNotFoundError)
    assert (caught.value.errno, caught.value.filename) == (2, "/no/such/file.mge")
    twin = pickle.loads(pickle.dumps(caught.value))
    assert (twin.errno, twin.filename, str(twin)) == (2, "/no/such/file.mge", str(caught.value))


@pytest.mark.parametrize(("kind", "call"), CAUGHT)
def test_error_is_caught_as_in_programs_for_the_original(kind, call, capfd, caplog):
    with caplog.at_level(logging.DEBUG), pytest.raises(kind) as caught:
        call()
    assert isinstance(caught.value, LiteError) and len(str(caught.value)) > 10
    assert capfd.readouterr() == ("", "")
    assert [r for r in caplog.records if r.name == "root" or r.levelno >= logging.ERROR] == []


def test_directory_stays_an_os_error(tmp_path):
    with pytest.raises(IsADirectoryError):
        LiteNetwork().load(tmp_path)


def digits_with(**settings) -> LiteNetwork:
    network = LiteNetwork()
    for name, value in settings.items():
        setattr(network, name, value)
    network.load(DIGITS)
    return network


UNWRITABLE = {
    "text dump": lambda path: LiteNetwork().io_txt_dump(path),
    "binary dump": lambda path: digits_with().io_bin_dump(path),
    "profile": lambda path: LiteNetwork().enable_profile_performance(path),
    "memory": lambda path: digits_with().get_static_memory_alloc_info(path),
    "cache": lambda path: LiteGlobal.dump_persistent_cache(path),
    "export": lambda path: megengine_lite.export_onnx(DIGITS, path, verify=False),
}


@pytest.mark.parametrize("what", UNWRITABLE)
def test_what_cannot_be_written_is_an_os_error(what, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LiteError) as caught:
        UNWRITABLE[what](str(tmp_path / "file" / "x"))
    assert isinstance(caught.value, OSError) and caught.value.errno in (errno.ENOTDIR, errno.EEXIST)
    assert str(tmp_path / "file") in str(caught.value)


def raised_in_handlers(of: str, source: str) -> set[str]:
    """What handlers of an exception raise in a module."""
    handlers = [h for h in ast.walk(ast.parse(source)) if isinstance(h, ast.ExceptHandler) and h.type is not None]
    return {
        ast.unparse(node.exc.func)
        for handler in handlers
        if ast.unparse(handler.type) == of
        for node in ast.walk(handler)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)
    }


def test_an_error_of_the_system_stays_one_everywhere():
    package = Path(megengine_lite.__file__).parent
    found = {name for path in package.rglob("*.py") for name in raised_in_handlers("OSError", path.read_text())}
    assert "os_error" in found and "LiteError" not in found


def test_failed_constructors_are_silent(monkeypatch):
    reported: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    for fail in (
        lambda: LiteTensor(device_type=1),
        lambda: LiteTensor([2**61]),
        lambda: LiteLayout([-1]),
        lambda: TensorBatchCollector([2, 2]),
    ):
        with pytest.raises(LiteError):
            fail()
    assert reported == [] and stream.getvalue() == ""


def test_every_thread_gets_its_own_message():
    wrong: list[str] = []

    def provoke(number: int):
        for _ in range(200):
            try:
                LiteTensor([number]).reshape([number + 1])
            except LiteError as error:
                if f"{number} elements of shape [{number}]" not in str(error):
                    wrong.append(str(error))

    threads = [threading.Thread(target=provoke, args=(n,)) for n in range(11, 15)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


CHECKS = """
import numpy as np
from megengine_lite import *
assert False, "assertions are off"
window = LiteTensor(LiteLayout([4, 4], "int32")).slice([0, 0], [4, 2])
batch = TensorBatchCollector([2, 2], "int32", LiteDeviceType.LITE_CPU)
calls = [
    lambda: LiteTensor().set_data_by_copy(np.zeros((4, 4), "float32")[:, ::2]),
    lambda: LiteTensor().set_data_by_share(np.zeros((4, 4), "float32")[:, ::2]),
    lambda: LiteTensor([2]).set_data_by_copy([1.0, 2.0, 3.0]),
    lambda: LiteTensor([2]).set_data_by_copy(b"1234"),
    lambda: LiteTensor([2]).set_data_by_copy(b"1234", 8),
    lambda: LiteTensor([2]).set_data_by_share(b"1234"),
    lambda: LiteTensor([2]).set_data_by_share(np.ones(2, "float32"), 4),
    lambda: LiteTensor([2]).set_data_by_copy(c_void_p(0), 8),
    lambda: LiteTensor([2]).set_data_by_copy(4096),
    lambda: LiteTensor([2]).copy_from(np.ones(2)),
    lambda: LiteTensor([2]).share_memory_with(None),
    lambda: LiteTensor([2]).slice([0], [1, 2]),
    lambda: window.set_data_by_share(np.ones((4, 2), "int32")),
    lambda: window.reshape([8]),
    lambda: window.copy_from(LiteTensor([8])),
    lambda: LiteLayout([1] * 8),
    lambda: LiteLayout([-1]),
    lambda: lite_dtype_2_numpy(3),
    lambda: LiteTensorConcat([LiteTensor([2]), LiteTensor([2, 2])], 0),
    lambda: LiteTensorConcat([LiteTensor([2])], 1),
    lambda: batch.collect(np.zeros(3, "int32")),
    lambda: batch.collect_id(np.zeros(2, "int32"), 2),
    lambda: batch.collect_by_ctypes(4096, 4),
    lambda: batch.get_tensor_at(-1),
    lambda: batch.free([5]),
]
for number, call in enumerate(calls):
    try:
        call()
    except LiteError:
        print("refused")
    else:
        print("accepted", number)
"""


def test_all_checks_hold_in_optimized_python():
    done = subprocess.run([sys.executable, "-O", "-c", CHECKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * CHECKS.count("    lambda:")
