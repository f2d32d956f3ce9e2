"""Encrypted models: the methods of the original, byte for byte, and those that users register.

The three methods of the original have default keys that everybody can read in its sources, and they do not always
detect a changed file. To protect a model use ``AES_256_GCM``, which is in ``aes_gcm``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import megengine_lite._core.formats.containers.rc4 as rc4
from megengine_lite._core.formats.containers import aes_gcm
from megengine_lite._records import field, record
from megengine_lite.errors import DecryptionError, LiteTypeError, LiteValueError
from megengine_lite.log import warn

NONE = "NONE"
_AES_BLOCK = 16
_AES_LENGTH_BYTES = 8
_AES_PUBLIC_KEY = bytes(range(32))
_RC4_TRAILER_BYTES = 8
_RC4_PUBLIC_KEY = b"liejgfkh|\x7f~yx}{z"

Transform = Callable[[Any, bytes], Any]


def decrypt_aes(data: Any, key: bytes) -> memoryview:
    """Decrypts AES-256-CBC: 16 bytes of initial vector, the blocks, the plain length as eight bytes (big-endian)."""
    from Crypto.Cipher import AES

    view = memoryview(data).cast("B")
    n_blocks, rest = divmod(len(view) - _AES_BLOCK - _AES_LENGTH_BYTES, _AES_BLOCK)
    length = int.from_bytes(view[-_AES_LENGTH_BYTES:], "big")
    if n_blocks < 0 or rest or length > n_blocks * _AES_BLOCK:
        raise DecryptionError("not encrypted by AES_default, or damaged: the size does not fit")
    plain = bytearray(n_blocks * _AES_BLOCK)
    cipher = AES.new(key, AES.MODE_CBC, bytes(view[:_AES_BLOCK]))
    cipher.decrypt(view[_AES_BLOCK:-_AES_LENGTH_BYTES], output=plain)
    return memoryview(plain)[:length]


def encrypt_aes(data: Any, key: bytes) -> bytes:
    """The inverse of :func:`decrypt_aes`, with a random initial vector; padded as usual, by PKCS #7."""
    from Crypto.Cipher import AES

    plain = bytes(memoryview(data).cast("B"))
    vector = os.urandom(_AES_BLOCK)
    n_padding = _AES_BLOCK - len(plain) % _AES_BLOCK
    padded = plain + bytes([n_padding]) * n_padding
    cipher = AES.new(key, AES.MODE_CBC, vector)
    return bytes(vector + cipher.encrypt(padded) + len(plain).to_bytes(_AES_LENGTH_BYTES, "big"))


def _rc4_keys(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:16], "little")


def _rc4_decryption(name: str, function: Callable[..., bool]) -> Transform:
    def decrypt_rc4(data: Any, key: bytes) -> memoryview:
        view = memoryview(data).cast("B")
        if len(view) < _RC4_TRAILER_BYTES or len(view) % 8:
            raise DecryptionError(f"not encrypted by {name}, or damaged: the size is no multiple of eight")
        plain = bytearray(len(view))
        if not function(view, *_rc4_keys(key), plain):
            raise DecryptionError(f"the model cannot be decrypted by {name}: the key is wrong or the file was changed")
        # The original hands out what it makes of the trailer, too. The zeros that fill the last word stay: the size of
        # the model is not stored.
        return memoryview(plain)[:-_RC4_TRAILER_BYTES]

    return decrypt_rc4


def _rc4_encryption(function: Callable[..., None]) -> Transform:
    def encrypt_rc4(data: Any, key: bytes) -> bytearray:
        view = memoryview(data).cast("B")
        out = bytearray(rc4.encrypted_size(len(view)))
        function(view, *_rc4_keys(key), out)
        return out

    return encrypt_rc4


@record(slots=True)
class Method:
    """A way to decrypt. Keys never appear in messages.

    ``decrypt(data, key)`` and ``encrypt(data, key)`` take and return buffers. ``key_bytes`` is the least length of a
    key (0: any), ``public_key`` the default key that everybody knows.
    """

    name: str
    decrypt: Transform
    key: bytes = field(repr=False)
    encrypt: Transform | None = None
    key_bytes: int = 0
    public_key: bytes = field(default=b"", repr=False)


METHODS: dict[str, Method] = {
    m.name: m
    for m in (
        Method("AES_default", decrypt_aes, _AES_PUBLIC_KEY, encrypt_aes, 32, _AES_PUBLIC_KEY),
        Method(
            "RC4_default",
            _rc4_decryption("RC4_default", rc4.decrypt),
            _RC4_PUBLIC_KEY,
            _rc4_encryption(rc4.encrypt),
            16,
            _RC4_PUBLIC_KEY,
        ),
        Method(
            "SIMPLE_FAST_RC4_default",
            _rc4_decryption("SIMPLE_FAST_RC4_default", rc4.decrypt_simple),
            _RC4_PUBLIC_KEY,
            _rc4_encryption(rc4.encrypt_simple),
            16,
            _RC4_PUBLIC_KEY,
        ),
        Method("AES_256_GCM", aes_gcm.decrypt, b"", aes_gcm.encrypt),
    )
}
"""All known methods by name."""


def register(name: str, decrypt: Transform, key: bytes = b"", encrypt: Transform | None = None) -> None:
    """Adds a method; its name must be new."""
    if name == NONE or name in METHODS:
        raise LiteValueError(f"a decryption method {name!r} exists already; choose another name")
    METHODS[name] = Method(name, decrypt, bytes(key), encrypt)


def _method(name: str) -> Method:
    if not isinstance(name, str):
        raise LiteTypeError(f"the name of a decryption method is a str, not {type(name).__name__}")
    found = METHODS.get(name)
    if found is None:
        raise DecryptionError(
            f"no decryption method {name!r}; there are {', '.join(METHODS)}. Others must be registered"
        )
    return found


def _checked_key(method: Method, key: bytes) -> bytes:
    """The key, cut to the length that the method uses."""
    if len(key) < method.key_bytes:
        raise LiteValueError(f"{method.name} takes a key of {method.key_bytes} bytes, {len(key)} were given")
    return key[: method.key_bytes] if method.key_bytes else key


def update_key(name: str, key: bytes) -> None:
    """Gives a method another key; an empty one changes nothing."""
    method = _method(name)
    if key:
        method.key = _checked_key(method, bytes(key))


def decrypt(name: str, data: Any) -> Any:
    """Decrypts a buffer by the method of that name, with its present key.

    Raises
    ------
    DecryptionError
        There is no such method, or it cannot decrypt the data.
    """
    if name == NONE:
        return data
    method = _method(name)
    _warn_if_public(method, method.key)
    return method.decrypt(data, method.key)


def encrypt(name: str, data: Any, key: bytes = b"") -> Any:
    """Encrypts a buffer by the method of that name, with its present key or the one given."""
    if name == NONE:
        return data
    method = _method(name)
    if method.encrypt is None:
        raise LiteValueError(f"method {name!r} can only decrypt")
    key = _checked_key(method, bytes(key)) if key else method.key
    _warn_if_public(method, key)
    return method.encrypt(data, key)


def _warn_if_public(method: Method, key: bytes) -> None:
    if method.public_key and key == method.public_key:
        warn(
            f"the model is encrypted with the default key of {method.name}, which everybody knows: it is neither "
            "secret nor protected against changes. Give a key of your own where that matters"
        )
