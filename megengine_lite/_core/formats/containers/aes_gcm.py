"""An encrypted container that detects tampering: AES-256-GCM in chunks.

Layout, numbers little-endian::

    0   8   magic "MGLGCM01"
    8   1   key source: 0 the caller's 32-byte key, 1 a passphrase (scrypt)
    9   1   log2 of the chunk size
    10  1   log2 of scrypt's cost, 0 without passphrase
    11  1   0
    12  8   size of the plain content
    20  32  salt
    52  12  nonce
    64      chunks: encrypted bytes, then a tag of 16 bytes; all but the last have the full chunk size

Each file has its own key, derived from the caller's key and the salt by HKDF-SHA256. The nonce of chunk ``i`` is that
of the file, its last four bytes combined with ``i`` by exclusive or. The header, ``i`` and a mark for the last chunk
are authenticated with every chunk, so chunks can be neither changed, exchanged, nor cut off.
"""

from __future__ import annotations

import math
import os
import struct
from typing import Any

from megengine_lite.errors import DecryptionError, LiteValueError

MAGIC = b"MGLGCM01"
KEY_BYTES = 32
_HEADER = struct.Struct("<8sBBBBQ32s12s")
_TAG_BYTES = 16
_RAW_KEY, _PASSPHRASE = 0, 1
_CHUNK_LOG2 = 20
_CHUNK_LOG2_RANGE = range(12, 27)
_COST_LOG2 = 15
_COST_LOG2_RANGE = range(10, 18)  # at most 128 MiB and about half a second
_SCRYPT_R = 8
_HOW = "LiteGlobal.update_decryption_key('AES_256_GCM', key), or --decrypt AES_256_GCM --key KEY on the command line"
_FAILURE = "the model cannot be decrypted: the key is wrong or the file was changed"


def _file_key(key: bytes, source: int, cost_log2: int, salt: bytes) -> bytes:
    from Crypto.Hash import SHA256
    from Crypto.Protocol.KDF import HKDF

    if source == _PASSPHRASE:
        cost = 1 << cost_log2
        memory = 256 * cost * _SCRYPT_R
        import hashlib  # it loads OpenSSL, which few models need

        key = hashlib.scrypt(key, salt=salt, n=cost, r=_SCRYPT_R, p=1, dklen=KEY_BYTES, maxmem=memory)
    return bytes(HKDF(key, KEY_BYTES, salt, SHA256, context=MAGIC))


def _is_passphrase(key: bytes) -> bool:
    """Whether a key is text, or has another length than 32. Of 10^13 random keys about one is text by chance."""
    if len(key) != KEY_BYTES:
        return True
    try:
        return all(c.isprintable() or c.isspace() for c in key.decode())
    except UnicodeDecodeError:
        return False


def _chunk_cipher(file_key: bytes, header: bytes, nonce: bytes, index: int, last: bool) -> Any:
    from Crypto.Cipher import AES

    counter = int.from_bytes(nonce[8:], "big") ^ index
    cipher = AES.new(file_key, AES.MODE_GCM, nonce=nonce[:8] + counter.to_bytes(4, "big"), mac_len=_TAG_BYTES)
    cipher.update(header + struct.pack("<QB", index, last))
    return cipher


def encrypt(data: Any, key: bytes) -> bytearray:
    """Encrypts bytes.

    Parameters
    ----------
    data
        A contiguous buffer.
    key
        32 random bytes; anything else, and 32 bytes that are text, is taken as a passphrase.
    """
    if not key:
        raise LiteValueError("AES_256_GCM needs a key: 32 random bytes, or a passphrase")
    plain = memoryview(data).cast("B")
    source, cost_log2 = (_PASSPHRASE, _COST_LOG2) if _is_passphrase(key) else (_RAW_KEY, 0)
    salt, nonce = os.urandom(32), os.urandom(12)
    header = _HEADER.pack(MAGIC, source, _CHUNK_LOG2, cost_log2, 0, len(plain), salt, nonce)
    file_key = _file_key(key, source, cost_log2, salt)
    chunk = 1 << _CHUNK_LOG2
    n_chunks = max(math.ceil(len(plain) / chunk), 1)
    out = bytearray(len(header) + len(plain) + n_chunks * _TAG_BYTES)
    out[: len(header)] = header
    view = memoryview(out)
    at = len(header)
    for i in range(n_chunks):
        part = plain[i * chunk : (i + 1) * chunk]
        cipher = _chunk_cipher(file_key, header, nonce, i, i == n_chunks - 1)
        cipher.encrypt(part, output=view[at : at + len(part)])
        at += len(part)
        view[at : at + _TAG_BYTES] = cipher.digest()
        at += _TAG_BYTES
    return out


def decrypt(data: Any, key: bytes) -> bytearray:
    """Decrypts what :func:`encrypt` made.

    Raises
    ------
    DecryptionError
        The key is wrong, or the file is not what was encrypted.
    """
    cipher_text = memoryview(data).cast("B")
    if len(cipher_text) < _HEADER.size + _TAG_BYTES or bytes(cipher_text[: len(MAGIC)]) != MAGIC:
        raise DecryptionError("not a file of the AES-256-GCM container")
    header = bytes(cipher_text[: _HEADER.size])
    _, source, chunk_log2, cost_log2, zero, size, salt, nonce = _HEADER.unpack(header)
    known_source = source == _RAW_KEY or (source == _PASSPHRASE and cost_log2 in _COST_LOG2_RANGE)
    if not known_source or chunk_log2 not in _CHUNK_LOG2_RANGE or zero:
        raise DecryptionError(_FAILURE)
    if not key or (source == _RAW_KEY and len(key) != KEY_BYTES):
        kind = f"key of {KEY_BYTES} bytes" if source == _RAW_KEY else "passphrase"
        raise DecryptionError(f"the model is encrypted with a {kind}; give it: {_HOW}")
    chunk = 1 << chunk_log2
    n_chunks = max(-(-size // chunk), 1)
    if len(cipher_text) != len(header) + size + n_chunks * _TAG_BYTES:
        raise DecryptionError(_FAILURE)
    file_key = _file_key(key, source, cost_log2, salt)
    plain = bytearray(size)
    view = memoryview(plain)
    at = len(header)
    for i in range(n_chunks):
        part = view[i * chunk : (i + 1) * chunk]
        cipher = _chunk_cipher(file_key, header, nonce, i, i == n_chunks - 1)
        cipher.decrypt(cipher_text[at : at + len(part)], output=part)
        at += len(part)
        try:
            cipher.verify(bytes(cipher_text[at : at + _TAG_BYTES]))
        except ValueError:
            raise DecryptionError(_FAILURE) from None
        at += _TAG_BYTES
    return plain
