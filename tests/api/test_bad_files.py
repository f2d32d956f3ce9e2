"""Every call that takes a path, bytes or a user's function, with everything that it may be given instead."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, loaded, packed, run
from support.loader_samples import add_record, to_bytes
from support.processes import isolated

import megengine_lite
from megengine_lite import LiteConfig, LiteGlobal, LiteNetwork, export_onnx, get_model_io_info, load
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.system.late_import import late_import
from megengine_lite.errors import (
    DecryptionError,
    LiteError,
    LiteFileNotFoundError,
    LiteIsADirectoryError,
    LiteMemoryError,
    LiteOSError,
    LitePermissionError,
    LiteTypeError,
    LiteValueError,
    ModelFormatError,
    ShapeError,
)

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX"),
    pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning"),
]


class _NoPath(os.PathLike):
    """A path that gives something else."""

    def __fspath__(self) -> Any:
        return 3


# What a path may be, and the errors of reading from it.
PATHS: dict[str, type[LiteError] | tuple[type[LiteError], ...]] = {
    "missing": LiteFileNotFoundError,
    "in no directory": LiteFileNotFoundError,
    "directory": LiteIsADirectoryError,
    "unreadable": LitePermissionError,
    "null": LiteValueError,
    "surrogate": LiteValueError,
    "too long": LiteOSError,
    "loop": LiteOSError,
    "below a file": LiteOSError,
    "pipe": ModelFormatError,
    "socket": LiteOSError,
    "zeros": LiteOSError,
    "terminal": LiteOSError,
    "empty": ModelFormatError,
    "empty name": LiteFileNotFoundError,
    "no path": LiteTypeError,
    "number": LiteTypeError,
    "None": LiteTypeError,
    "list": LiteTypeError,
}


def path_of(kind: str, folder: Path) -> Any:
    """Makes what a kind of path names; in a process of its own."""
    path = folder / "x"
    if kind == "directory":
        path.mkdir()
    elif kind == "unreadable":
        path.write_bytes(DIGITS.read_bytes())
        path.chmod(0)
        _refuse_without_rights()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "below a file":
        path.write_bytes(b"x")
        path = path / "y"
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        os.chdir(folder)  # names of sockets are short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("x")
    elif kind == "empty":
        path.touch()
    texts = {
        "in no directory": str(path / "y" / "z"),
        "null": f"{path}\0y",
        "surrogate": f"{path}\ud800",
        "too long": str(folder / ("x" * 5000)),
        "zeros": "/dev/zero",
        "terminal": os.ttyname(os.openpty()[1]) if kind == "terminal" else "",
        "empty name": "",
    }
    others = {"no path": _NoPath(), "number": 3.5, "None": None, "list": [str(path)]}
    return others[kind] if kind in others else texts.get(kind, path)


def _refuse_without_rights() -> None:
    """The superuser may read everything: lets the system refuse files without rights in this process."""
    real = os.open

    def refuse(path, flags, *args, **kwargs):
        if os.path.isfile(path) and not os.stat(path).st_mode & 0o777:
            raise PermissionError(13, "Permission denied", path)
        return real(path, flags, *args, **kwargs)

    os.open = refuse


def _network() -> LiteNetwork:
    network = LiteNetwork()
    network.enable_global_layout_transform()
    network.load(DIGITS)
    return network


@contextlib.contextmanager
def made(kind: str, folder: Path) -> Iterator[Any]:
    """A path of a kind; an error tells of which."""
    place = folder / kind
    place.mkdir()
    try:
        yield path_of(kind, place)
    except BaseException as error:
        raise AssertionError(f"for a path that is: {kind}") from error


@isolated
def test_models(tmp_path):
    for kind, expected in PATHS.items():
        with made(kind, tmp_path) as path:
            for read in (LiteNetwork().load, get_model_io_info):
                for source in (path, str(path)) if isinstance(path, Path) else (path,):
                    with pytest.raises(expected) as caught:
                        read(source)
                    assert len(str(caught.value)) > 15
                    assert not isinstance(caught.value, OSError) or caught.value.errno


# Reading a cache that is not there is no error, and what is none is not used.
CACHE_WORKS = {"missing", "in no directory", "pipe", "empty", "empty name"}


@isolated
def test_caches_and_libraries(tmp_path):
    for kind, expected in PATHS.items():
        with made(kind, tmp_path) as path:
            with pytest.raises(LiteError):
                LiteGlobal.set_loader_lib_path(path)
            if kind not in CACHE_WORKS:
                with pytest.raises(expected):
                    LiteGlobal.set_persistent_cache(path)
                continue
            CACHE.clear()
            # It is written at the next measurement, or not, without an error.
            LiteGlobal.set_persistent_cache(path, always_sync=True)
            network = LiteNetwork()
            network.set_network_algo_policy(2)
            network.load(DIGITS)
            assert np.abs(run(network, IMAGES[:2]) - PROB[:2]).max() < 1e-5
    assert list(tmp_path.rglob("*.tmp")) == []


def _profile(path: Any) -> None:
    network = _network()
    network.enable_profile_performance(path)
    run(network)


def _text_dump(path: Any) -> None:
    network = _network()
    network.io_txt_dump(path)
    run(network)


def _binary_dump(path: Any) -> None:
    network = _network()
    network.io_bin_dump(path)
    run(network)


WRITERS = {
    "dump_persistent_cache": LiteGlobal.dump_persistent_cache,
    "enable_profile_performance": _profile,
    "io_txt_dump": _text_dump,
    "io_bin_dump": _binary_dump,
    "get_static_memory_alloc_info": lambda path: _network().get_static_memory_alloc_info(path),
    "dump_layout_transform_model": lambda path: _network().dump_layout_transform_model(path),
    "report": lambda path: _network().report(runs=1, warmup=0).save(path, "json"),
    "prepare": lambda path: _network().prepare(path),
    "prepare of a model": lambda path: load(DIGITS).prepare(path, IMAGES[:1]),
    "export_onnx": lambda path: export_onnx(DIGITS, path, verify=False),
}
# Directories are made, files are replaced, devices take everything.
WRITTEN = {
    "io_txt_dump": {"missing", "empty", "zeros"},
    "io_bin_dump": {"missing", "in no directory", "directory"},
    "get_static_memory_alloc_info": {"missing", "in no directory", "directory"},
}
FILES_WRITTEN = {"missing", "empty", "unreadable", "zeros"}


@pytest.mark.parametrize("writer", WRITERS)
@isolated
def test_what_is_written(writer, tmp_path):
    for kind in sorted(set(PATHS) - {"terminal"}):
        with made(kind, tmp_path) as path:
            if kind in WRITTEN.get(writer, FILES_WRITTEN):
                WRITERS[writer](path)
                assert kind == "zeros" or Path(path).exists()
                continue
            with pytest.raises(LiteError) as caught:
                WRITERS[writer](path)
            assert len(str(caught.value)) > 20
            assert kind != "empty name" or "needs the name of a file or folder, and it is empty" in str(caught.value)
    assert list(tmp_path.rglob("*.tmp")) == []
    assert os.path.exists("/dev/zero") and not os.path.isfile("/dev/zero")


# ---- bytes and open files -------------------------------------------------------------------------------------------


class _Broken(io.RawIOBase):
    def read(self, size: int = -1) -> Any:
        raise OSError(5, "Input/output error")


class _Text:
    def read(self, size: int = -1) -> str:
        return "text"


def _released() -> memoryview:
    view = memoryview(DIGITS.read_bytes())
    view.release()
    return view


def _closed() -> io.BytesIO:
    file = io.BytesIO(DIGITS.read_bytes())
    file.close()
    return file


SOURCES = {
    "released": (_released, LiteValueError),
    "closed": (_closed, LiteValueError),
    "broken": (_Broken, LiteOSError),
    "text": (_Text, LiteTypeError),
    "text file": (lambda: io.StringIO("text"), LiteTypeError),
    "empty": (lambda: b"", ModelFormatError),
    "empty file": (io.BytesIO, ModelFormatError),
    "gaps": (lambda: memoryview(DIGITS.read_bytes())[::2], LiteValueError),
    "floats": (lambda: np.ones((3, 4)), ModelFormatError),
    "objects": (lambda: np.array([None, 3], object), LiteError),
    "number": (lambda: 3, LiteTypeError),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_bytes_and_files(kind):
    make, error = SOURCES[kind]
    for read in (LiteNetwork().load, get_model_io_info):
        with pytest.raises(error):
            read(make())


# ---- what a decryption function gives -------------------------------------------------------------------------------

RESULTS = {
    "released": _released,
    "None": lambda: None,
    "text": lambda: "text",
    "float": lambda: 2.5,
    "true": lambda: True,
    "negative": lambda: -1,
    "huge": lambda: 1 << 70,
    "more than memory": lambda: 1 << 39,
    "empty": lambda: b"",
    "gaps": lambda: memoryview(bytes(100))[::2],
    "objects": lambda: np.array([None, 3], object),
    "dict": dict,
    "garbage": lambda: b"garbage" * 10,
}


@pytest.mark.parametrize("kind", RESULTS)
@pytest.mark.parametrize("packed_model", [False, True])
def test_results_of_a_decryption_function(kind, packed_model, monkeypatch):
    monkeypatch.setattr(cryption, "METHODS", dict(cryption.METHODS))
    LiteGlobal.register_decryption_and_key("bad", lambda data, key, out: RESULTS[kind](), b"k")
    content = to_bytes(add_record())
    config = LiteConfig()
    config.bare_model_cryption_name = "bad"
    if packed_model:
        content = packed(content).replace(b"NONE", b"bad\0")
    for read in (LiteNetwork(config).load, lambda source: get_model_io_info(source, config)):
        with pytest.raises(LiteError):
            read(content)


class UserFault(Exception):
    """An exception of the user's own."""


def _raise(error):
    raise error


@pytest.mark.parametrize(
    "error", [UserFault("no"), KeyError("k"), OSError(5, "lost"), ShapeError("odd"), MemoryError()]
)
@pytest.mark.parametrize("call", [0, 1])
def test_what_a_decryption_function_raises_is_the_cause(error, call, monkeypatch):
    monkeypatch.setattr(cryption, "METHODS", dict(cryption.METHODS))

    def decrypt(data, key, out):
        return 10 if call and out is None else _raise(error)

    LiteGlobal.register_decryption_and_key("raises", decrypt, b"k")
    config = LiteConfig()
    config.bare_model_cryption_name = "raises"
    for read in (LiteNetwork(config).load, lambda source: get_model_io_info(source, config)):
        with pytest.raises(LiteError) as caught:
            read(b"model")
        if isinstance(error, LiteError):
            assert caught.value is error
        elif isinstance(error, MemoryError):
            assert type(caught.value) is LiteMemoryError
        else:
            assert type(caught.value) is DecryptionError and caught.value.__cause__ is error
            assert str(caught.value) == f"the decryption function decrypt raised {type(error).__name__}: {error}"


@pytest.mark.parametrize("error", [UserFault("no"), KeyError("k"), ValueError("closed"), OSError(5, "lost")])
def test_what_a_reader_raises_is_the_cause(error):
    class Reader:
        def read(self):
            raise error

    for read in (LiteNetwork().load, get_model_io_info):
        with pytest.raises(LiteError, match="the model cannot be read: ") as caught:
            read(Reader())
        assert caught.value.__cause__ is error


def test_an_interrupt_in_a_decryption_function_or_a_reader_passes(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cryption, "METHODS", dict(cryption.METHODS))
    LiteGlobal.register_decryption_and_key("stops", interrupted, b"k")
    config = LiteConfig()
    config.bare_model_cryption_name = "stops"
    with pytest.raises(KeyboardInterrupt):
        LiteNetwork(config).load(b"model")
    with pytest.raises(KeyboardInterrupt):
        LiteNetwork().load(type("Reader", (), {"read": interrupted})())


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_no_memory_for_a_copy(monkeypatch):
    tensor = megengine_lite.LiteTensor([2, 3])

    def refuse(*_, **__):
        raise MemoryError

    monkeypatch.setattr("megengine_lite.tensor.np.array", refuse)
    for copy in (tensor.to_numpy, lambda: tensor.__array__(np.dtype("int8"))):
        with pytest.raises(LiteMemoryError, match="24 bytes"):
            copy()


def test_no_memory_for_a_tensor():
    tensor = megengine_lite.LiteTensor([1 << 30, 1 << 20])
    for use in (tensor.to_numpy, tensor.fill_zero, tensor.get_data_by_share):
        with pytest.raises(LiteMemoryError):
            use()


def test_no_memory_in_a_forward(monkeypatch):
    network = loaded()

    def refuse(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("megengine_lite._core.runtime.session.Session._find_plan", refuse)
        with pytest.raises(LiteMemoryError, match="forward"):
            network.forward()
    assert np.abs(run(network, IMAGES[:2]) - PROB[:2]).max() < 1e-5


def test_parts_that_cannot_be_imported_are_import_errors():
    for error in (SystemError("error return without exception set"), ValueError("field is required")):
        with pytest.raises(ImportError, match=type(error).__name__) as caught, late_import():
            raise error
        assert caught.value.__cause__ is error
    for error in (MemoryError(), OSError(12, "no memory"), ImportError("no module")):
        with pytest.raises(type(error)) as caught, late_import():
            raise error
        assert caught.value is error
