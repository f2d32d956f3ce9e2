"""Loads a model of any format: takes off what it comes in, tells the format, calls its package. Start here."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from megengine_lite._core.formats.containers import aes_gcm, cryption
from megengine_lite._core.formats.containers.information import Information
from megengine_lite._core.formats.containers.model_source import Source, open_source
from megengine_lite._core.formats.containers.packed import Package, is_package, read_package
from megengine_lite._core.formats.foreign_files import HEAD, IF_ENCRYPTED, looks_like_onnx, recognise
from megengine_lite._core.formats.loaded_model import LoadedModel
from megengine_lite._core.formats.mge.load import load_mge, read_test_cases
from megengine_lite._core.formats.mge.reader import is_model, is_wrapped, read_models
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.formats.wire.cursor import Cursor
from megengine_lite.errors import DecryptionError, LiteTypeError, ModelFormatError, UnsupportedOperatorError

ONNX_SUFFIX = ".onnx"

Decryption = str | Callable[[Any], Any]
"""Name of a method in :mod:`~megengine_lite._core.formats.containers.cryption`, or a function from buffer to buffer."""


def load_model(
    source: Source,
    *,
    decrypt: Decryption | None = None,
    compressed: bool = False,
    check: bool = True,
    copy: bool = False,
    narrow_double: bool = False,
) -> LoadedModel:
    """Loads a model of any container: plain, encrypted, packed, with test cases behind it.

    Parameters
    ----------
    source
        Path (the file is read into memory), bytes (used in place) or binary file (read from its current position).
        Constants of the model refer to the bytes and keep them alive. A buffer must not be changed.
    decrypt
        How to decrypt the file. Ignored for packages, which name their own method.
    compressed
        The values of tensors are compressed. Ignored for packages, which say it themselves.
    check
        Refuse models with operators that cannot be run. Without it the graph can be looked at.
    copy
        Keep all bytes of a file in memory, even those that are not needed at present.
    narrow_double
        Compute the doubles of an ONNX model as float32. Files of MegEngine's have none.

    Raises
    ------
    ModelFormatError
        Not a model, or a damaged one.
    DecryptionError
        Wrong method or key.
    UnsupportedOperatorError
        The model has operators, or types of elements, that cannot be run; all operators are listed.
    """
    stored, package, information, what = _open(source, copy=copy)
    buffer = _plain(stored, package, decrypt, what)
    if is_onnx(buffer, what):
        beside = None if package is not None or decrypt else source
        model = _load_onnx(buffer, what, beside, check, narrow_double)
    else:
        compressed = compressed or (information is not None and information.has_compression)
        model = load_mge(_checked(buffer, what), what, compressed=compressed, check=check)
    model.package, model.information = package and package.without_model(), information
    model.is_secret = buffer is not stored
    return model


def load_record(
    source: Source, *, decrypt: Decryption | None = None, copy: bool = False
) -> tuple[ModelRecord, Package | None, Information | None, str]:
    """The record of a file, without a graph: for programs that write it again.

    Returns
    -------
    tuple
        The model's record; the package around it and its valid information, or None; the name for messages.
    """
    buffer, package, information, what = _open(source, copy=copy)
    buffer = _plain(buffer, package, decrypt, what)
    if is_onnx(buffer, what):
        raise UnsupportedOperatorError(
            f"{what}: an ONNX model, which has no record of MegEngine's; megengine-lite convert writes it as one"
        )
    return next(read_models(_checked(buffer, what), what)), package, information, what


def holds_onnx(source: Source, *, decrypt: Decryption | None = None) -> bool:
    """Whether a file, also an encrypted or packed one, is an ONNX model."""
    buffer, package, _, what = _open(source, copy=False)
    return is_onnx(_plain(buffer, package, decrypt, what), what)


def is_plain(source: Source) -> bool:
    """Whether a file begins as a model does, so that it is neither encrypted nor a package."""
    buffer, what = open_source(source)
    cursor = Cursor(buffer, what=what)
    return is_model(cursor) or is_wrapped(cursor) or looks_like_onnx(bytes(cursor.view[:HEAD]))


def load_test_cases(source: Source) -> list[dict[str, np.ndarray]]:
    """The inputs of the test cases that are stored behind a model, by name; empty if there are none."""
    buffer, what = open_source(source)
    return read_test_cases(_checked(buffer, what), what)


def is_onnx(buffer: Any, what: str) -> bool:
    """Whether these bytes are, or are named like, an ONNX model."""
    return looks_like_onnx(bytes(memoryview(buffer)[:HEAD])) or (what.endswith(ONNX_SUFFIX) and len(buffer) > 0)


def _load_onnx(buffer: Any, what: str, source: Source | None, check: bool, narrow_double: bool) -> LoadedModel:
    from megengine_lite._core.formats.onnx.load import load_onnx

    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        return load_onnx(buffer, what, path, check, narrow_double)
    except ModelFormatError as error:
        head = bytes(memoryview(buffer)[:HEAD])
        if looks_like_onnx(head):
            raise
        kind = recognise(head)  # only its name says that it is one
        if kind is not None:
            raise ModelFormatError(f"{what}: not an ONNX model but {kind}") from None
        raise ModelFormatError(f"{error}. {IF_ENCRYPTED}") from error


def _checked(buffer: Any, what: str) -> Any:
    """The buffer, if it begins as a file of MegEngine's does; else the error says what it is instead."""
    cursor = Cursor(buffer, what=what)
    if is_model(cursor) or is_wrapped(cursor):
        return buffer
    kind = recognise(cursor.view[:HEAD])
    if kind is not None:
        raise ModelFormatError(f"{what}: not a MegEngine model but {kind}")
    raise ModelFormatError(f"{what}: not a MegEngine model. {IF_ENCRYPTED}")


def _open(source: Source, *, copy: bool) -> tuple[Any, Package | None, Information | None, str]:
    """The bytes of a model as they are stored, the package around it, its valid information, the name for messages."""
    buffer, what = open_source(source, copy=copy)
    if not is_package(Cursor(buffer, what=what)):
        return buffer, None, None, what
    package = read_package(buffer, what)
    return package.model, package, package.read_information(what), what


def _plain(stored: Any, package: Package | None, decrypt: Decryption | None, what: str) -> Any:
    """The plain bytes of a model: the stored ones, unless they are encrypted."""
    if package is not None:
        decrypt = package.model_cryption
    elif decrypt is None and Cursor(stored, what=what).startswith(aes_gcm.MAGIC):
        decrypt = "AES_256_GCM"
    return decrypted(stored, decrypt, what)


def decrypted(buffer: Any, decrypt: Decryption | None, what: str) -> Any:
    """The plain bytes of a model; of an ONNX model without the zeros that encryption puts behind it.

    Zeros stay behind MegEngine's models, which say themselves where they end.

    Raises
    ------
    DecryptionError
        Wrong method or key.
    """
    if decrypt is None or decrypt in ("", cryption.NONE):
        return buffer
    plain = cryption.decrypt(decrypt, buffer) if isinstance(decrypt, str) else decrypt(buffer)
    try:
        cursor = Cursor(plain, what=what)
    except TypeError as error:
        raise LiteTypeError(f"the decryption function must give bytes, not {type(plain).__name__}") from error
    except (ValueError, BufferError) as error:  # a view that was released, or has gaps
        kind = type(plain).__name__
        raise DecryptionError(f"the decryption function gave a {kind} that cannot be read: {error}") from error
    if looks_like_onnx(bytes(cursor.view[:HEAD])):
        from megengine_lite._core.formats.onnx.reader import model_size

        return cursor.view[: model_size(cursor)]
    if not is_model(cursor) and not is_wrapped(cursor):
        method = f"method {decrypt!r}" if isinstance(decrypt, str) else "the function that was given"
        raise DecryptionError(
            f"{what}: decrypted by {method} it is not a model: the method or the key is wrong, or the file is damaged"
        )
    return plain
