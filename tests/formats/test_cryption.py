"""Encryption: the original's methods byte for byte, our own container, and wrong keys."""

import random
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.loader_samples import SHARED, add_record, to_bytes

from megengine_lite._core.formats.containers import aes_gcm, cryption
from megengine_lite._core.formats.load import load_model
from megengine_lite.errors import DecryptionError, LiteError, LiteTypeError, LiteValueError, LiteWarning

ORIGINAL = ["AES_default", "RC4_default", "SIMPLE_FAST_RC4_default"]
KEYS = {"AES_default": bytes(range(100, 132)), "RC4_default": bytes(range(7, 23)), "SIMPLE_FAST_RC4_default": b"k" * 16}
pytestmark = pytest.mark.filterwarnings("ignore::megengine_lite.errors.LiteWarning")


@pytest.fixture
def methods(monkeypatch):
    """The table of methods, restored afterwards."""
    from megengine_lite._records import replace

    monkeypatch.setattr(cryption, "METHODS", {k: replace(m) for k, m in cryption.METHODS.items()})
    return cryption.METHODS


@pytest.mark.parametrize("name", ORIGINAL)
@given(content=st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_decryption_gives_back_what_was_encrypted(name, content):
    plain = bytes(cryption.decrypt(name, cryption.encrypt(name, content)))
    assert plain[: len(content)] == content
    if name == "AES_default":
        assert len(plain) == len(content)
    else:
        assert len(plain) == (len(content) + 7) // 8 * 8
        assert not any(plain[len(content) :])


@pytest.mark.parametrize("name", ORIGINAL)
@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 65535, 65536, 65537, 100_000])
def test_sizes_at_the_edges_of_blocks(name, size):
    content = random.Random(size).randbytes(size)
    encrypted = cryption.encrypt(name, content)
    words = (size + 7) // 8
    expected = {"AES_default": 16 + (size // 16 + 1) * 16 + 8}.get(name, words * 8 + 8)
    assert len(encrypted) == expected
    plain = bytes(cryption.decrypt(name, encrypted))
    assert plain[:size] == content
    assert len(plain) == (size if name == "AES_default" else words * 8)
    assert size < 16 or content[:16] not in bytes(encrypted)


def test_aes_pads_in_the_usual_way(monkeypatch):
    from Crypto.Cipher import AES

    monkeypatch.setattr("os.urandom", bytes)  # an initial vector of zeros
    for size in (0, 9, 16):
        encrypted = cryption.encrypt("AES_default", b"x" * size)
        cipher = AES.new(bytes(range(32)), AES.MODE_CBC, bytes(16))
        n_padding = 16 - size % 16
        assert cipher.decrypt(encrypted[16:-8]) == b"x" * size + bytes([n_padding]) * n_padding
        assert encrypted[:16] == bytes(16) and encrypted[-8:] == size.to_bytes(8, "big")


def test_ciphers_give_known_bytes():
    assert bytes(cryption.encrypt("RC4_default", b"megengine")).hex() == KNOWN_RC4
    assert bytes(cryption.encrypt("SIMPLE_FAST_RC4_default", b"megengine")).hex() == KNOWN_SIMPLE
    assert len(cryption.encrypt("AES_default", b"megengine")) == 16 + 16 + 8


KNOWN_RC4 = "0bf8b0d146c829d80a517a5edfef13f73d2fc30888a2396b"
KNOWN_SIMPLE = "c713c9c7c68344b1f3c431488063277a1837efcbe154b9ae"


@pytest.mark.parametrize("name", ORIGINAL)
def test_model_encrypted_by_us_loads(name):
    content = to_bytes(add_record())
    encrypted = cryption.encrypt(name, content)
    assert load_model(encrypted, decrypt=name, check=False).output_names == ["sum"]
    assert load_model(content, decrypt="NONE", check=False).output_names == ["sum"]
    with pytest.raises(LiteError):
        load_model(encrypted)


@pytest.mark.parametrize("name", ORIGINAL)
def test_other_key_decrypts_and_the_default_does_not(name, methods):
    content = to_bytes(add_record())
    encrypted = cryption.encrypt(name, content, KEYS[name] + b"more")
    with pytest.raises(DecryptionError):
        load_model(encrypted, decrypt=name)
    cryption.update_key(name, KEYS[name])
    assert load_model(encrypted, decrypt=name, check=False).output_names == ["sum"]
    cryption.update_key(name, b"")  # changes nothing
    assert load_model(encrypted, decrypt=name, check=False).output_names == ["sum"]


@pytest.mark.parametrize("name", ORIGINAL)
def test_plain_model_with_a_method_is_refused(name):
    with pytest.raises(DecryptionError):
        load_model(to_bytes(add_record()), decrypt=name)


@pytest.mark.parametrize("name", [*ORIGINAL, "AES_256_GCM"])
def test_cut_off_file_is_refused_at_every_size(name, methods):
    content = to_bytes(add_record())
    if name == "AES_256_GCM":
        cryption.update_key(name, b"k" * 32)
    encrypted = bytes(cryption.encrypt(name, content))
    for size in range(len(encrypted)):
        with pytest.raises(DecryptionError):
            load_model(encrypted[:size], decrypt=name)


@pytest.mark.parametrize("name", ["RC4_default", "SIMPLE_FAST_RC4_default"])
def test_changed_bytes_are_noticed_by_the_trailer(name):
    encrypted = cryption.encrypt(name, to_bytes(add_record()))
    random_ = random.Random(5)
    for _ in range(50):
        damaged = bytearray(encrypted)
        damaged[random_.randrange(len(damaged))] ^= 1 << random_.randrange(8)
        with pytest.raises(DecryptionError):
            load_model(damaged, decrypt=name)


def test_unknown_method_is_refused_with_a_list():
    with pytest.raises(DecryptionError, match="AES_default"):
        load_model(to_bytes(add_record()), decrypt="no such method")


def test_default_key_is_warned_of_and_another_is_not(methods):
    content = cryption.encrypt("RC4_default", b"12345678")
    with pytest.warns(LiteWarning, match="everybody knows"):
        cryption.decrypt("RC4_default", content)
    import warnings

    cryption.update_key("RC4_default", KEYS["RC4_default"])
    content = cryption.encrypt("RC4_default", b"12345678")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cryption.decrypt("RC4_default", content)


def test_keys_are_checked_and_never_shown(methods):
    with pytest.raises(LiteValueError, match="takes a key of 32 bytes, 3 were given"):
        cryption.update_key("AES_default", b"abc")
    with pytest.raises(LiteValueError, match="takes a key of 16 bytes"):
        cryption.encrypt("RC4_default", b"", b"short")
    cryption.update_key("AES_default", b"secret! " * 4)
    assert "secret" not in repr(methods["AES_default"])
    with pytest.raises(DecryptionError) as error:
        cryption.decrypt("AES_default", b"123")
    assert "secret" not in str(error.value)


def test_registered_method_decrypts_bare_models(methods):
    content = to_bytes(add_record())
    mirrored = bytes(b ^ 0x5A for b in content)

    def mirror(data, key):
        return bytes(b ^ key[0] for b in data)

    cryption.register("mirror", mirror, b"\x5a", mirror)
    assert load_model(mirrored, decrypt="mirror", check=False).output_names == ["sum"]
    assert cryption.encrypt("mirror", content) == mirrored
    for name in ("mirror", "AES_default", "NONE"):
        with pytest.raises(LiteValueError, match="exists already"):
            cryption.register(name, mirror)
    cryption.register("one way", mirror)
    with pytest.raises(LiteValueError, match="only decrypt"):
        cryption.encrypt("one way", content)


def test_function_decrypts_and_its_errors_come_through():
    content = to_bytes(add_record())
    model = load_model(content[::-1], decrypt=lambda data: bytes(data)[::-1], check=False)
    assert model.output_names == ["sum"]
    with pytest.raises(ZeroDivisionError):
        load_model(content, decrypt=lambda data: 1 // 0)
    with pytest.raises(LiteTypeError, match="NoneType"):
        load_model(content, decrypt=lambda data: None)
    with pytest.raises(DecryptionError, match="the function that was given"):
        load_model(content, decrypt=lambda data: b"garbage")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 3 * 4096])
@pytest.mark.parametrize("key", [bytes(range(200, 232)), b"k" * 32, b"a passphrase"])
def test_gcm_container_gives_back_every_size(size, key, monkeypatch):
    monkeypatch.setattr(aes_gcm, "_CHUNK_LOG2", 12)
    monkeypatch.setattr(aes_gcm, "_COST_LOG2", 10)
    content = random.Random(size).randbytes(size)
    encrypted = aes_gcm.encrypt(content, key)
    assert content not in encrypted or size < 2
    assert aes_gcm.decrypt(encrypted, key) == content
    assert aes_gcm.encrypt(content, key) != encrypted  # another salt and nonce


def test_gcm_container_notices_every_flipped_bit(monkeypatch):
    monkeypatch.setattr(aes_gcm, "_COST_LOG2", 10)
    key = bytes(range(32))
    encrypted = aes_gcm.encrypt(b"content", key)
    for place in range(len(encrypted)):
        for bit in range(8) if place >= 20 else (0, 4):
            damaged = bytearray(encrypted)
            damaged[place] ^= 1 << bit
            with pytest.raises(DecryptionError):
                aes_gcm.decrypt(damaged, key)


class Chunked:
    """An encrypted file of three full chunks and a short one, taken apart."""

    def __init__(self, seed: int = 1, key: bytes = bytes(range(32)), size: int = 3 * 4096 + 100):
        self.key = key
        self.plain = random.Random(seed).randbytes(size)
        content = bytes(aes_gcm.encrypt(self.plain, key))
        self.head, body, step = content[:64], content[64:], 4096 + 16
        self.chunks = [body[k : k + step] for k in range(0, len(body), step)]

    def with_size(self, size: int) -> bytes:
        """The header with another size of the plain content."""
        return self.head[:12] + size.to_bytes(8, "little") + self.head[20:]


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(aes_gcm, "_CHUNK_LOG2", 12)
    monkeypatch.setattr(aes_gcm, "_COST_LOG2", 10)
    made = Chunked()
    assert len(made.chunks) == 4
    assert aes_gcm.decrypt(made.head + b"".join(made.chunks), made.key) == made.plain
    return made


def refused(content: bytes, key: bytes) -> bool:
    with pytest.raises(DecryptionError, match="the key is wrong or the file was changed"):
        aes_gcm.decrypt(content, key)
    return True


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3), (0, 0, 2, 3), (0, 1, 1, 3)])
def test_gcm_container_notices_exchanged_and_repeated_chunks(chunked, order):
    assert refused(chunked.head + b"".join(chunked.chunks[k] for k in order), chunked.key)


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_gcm_container_notices_missing_chunks_even_with_a_fitting_header(chunked, n):
    with pytest.raises(DecryptionError):
        aes_gcm.decrypt(chunked.head + b"".join(chunked.chunks[:n]), chunked.key)
    assert refused(chunked.with_size(n * 4096) + b"".join(chunked.chunks[:n]) + bytes(16 * (n == 0)), chunked.key)


def test_gcm_container_notices_a_cut_at_every_place_of_the_last_chunk(chunked):
    content = chunked.head + b"".join(chunked.chunks)
    for n in range(1, len(chunked.chunks[-1]) + 1):
        assert refused(content[:-n], chunked.key)
        # and with a header that says so
        assert refused(chunked.with_size(len(chunked.plain) - n) + content[64:-n], chunked.key)


@pytest.mark.parametrize("n", [1, 15, 16, 4096, 4096 + 16])
def test_gcm_container_notices_appended_bytes(chunked, n):
    content = chunked.head + b"".join(chunked.chunks)
    assert refused(content + bytes(n), chunked.key)
    if n > 16:  # a whole chunk more
        assert refused(chunked.with_size(len(chunked.plain) + n - 16) + content[64:] + bytes(n), chunked.key)


def test_gcm_container_notices_a_chunk_and_a_header_of_another_file(chunked):
    other = Chunked(seed=2)
    own, foreign = b"".join(chunked.chunks), b"".join(other.chunks)
    assert refused(other.head + own, chunked.key) and refused(chunked.head + foreign, chunked.key)
    for k in range(4):
        mixed = [*chunked.chunks[:k], other.chunks[k], *chunked.chunks[k + 1 :]]
        assert refused(chunked.head + b"".join(mixed), chunked.key)
    # the same salt or the same nonce under another header
    for part in (slice(20, 52), slice(52, 64)):
        head = chunked.head[: part.start] + other.head[part] + chunked.head[part.stop :]
        assert refused(head + own, chunked.key)


@pytest.mark.parametrize(("place", "values"), [(8, (1, 2, 255)), (9, (11, 13, 26, 0, 255)), (10, (1, 10)), (11, (1,))])
def test_gcm_container_notices_a_changed_header(chunked, place, values):
    for value in values:
        head = bytearray(chunked.head)
        head[place] = value
        with pytest.raises(DecryptionError):
            aes_gcm.decrypt(bytes(head) + b"".join(chunked.chunks), chunked.key)


def test_gcm_container_refuses_every_other_key(chunked):
    content = chunked.head + b"".join(chunked.chunks)
    for k in range(32):
        key = bytearray(chunked.key)
        key[k] ^= 1
        assert refused(content, bytes(key))
    for key in (b"", b"short", chunked.key + b"1", chunked.key[:-1]):
        with pytest.raises(DecryptionError):
            aes_gcm.decrypt(content, key)
    passphrase = bytes(aes_gcm.encrypt(b"content", b"a passphrase"))
    for key in (b"a passphrasf", b"A passphrase", b"k" * 32):
        assert refused(passphrase, key)


def test_gcm_container_never_uses_a_nonce_twice(chunked, monkeypatch):
    used: list[tuple[bytes, bytes]] = []
    cipher_of = aes_gcm._chunk_cipher

    def remember(file_key, header, nonce, index, last):
        cipher = cipher_of(file_key, header, nonce, index, last)
        used.append((file_key, cipher.nonce))
        return cipher

    monkeypatch.setattr(aes_gcm, "_chunk_cipher", remember)
    for _ in range(50):
        aes_gcm.encrypt(chunked.plain, chunked.key)
    assert len(used) == 200 == len(set(used))
    assert len({key for key, _ in used}) == 50  # each file has its own key
    assert len({nonce for _, nonce in used}) == 200


def test_gcm_container_says_the_same_for_wrong_key_and_damage():
    encrypted = aes_gcm.encrypt(b"content", b"k" * 32)
    damaged = bytearray(encrypted)
    damaged[-1] ^= 1
    with pytest.raises(DecryptionError) as wrong_key:
        aes_gcm.decrypt(encrypted, b"x" * 32)
    with pytest.raises(DecryptionError) as changed:
        aes_gcm.decrypt(damaged, b"k" * 32)
    assert str(wrong_key.value) == str(changed.value)
    with pytest.raises(LiteValueError, match="needs a key"):
        aes_gcm.encrypt(b"", b"")


TEXTS = [
    b"correct horse battery staple 32!",
    "Ä".encode() * 16,
    b"0123456789abcdef" * 2,
    b"of 31 bytes and a line's end...\n",
]


@pytest.mark.parametrize("key", [*TEXTS, b"short"])
def test_text_is_a_passphrase_of_any_length(key, monkeypatch):
    monkeypatch.setattr(aes_gcm, "_COST_LOG2", 10)
    encrypted = aes_gcm.encrypt(b"content", key)
    assert encrypted[8] == 1  # key source: a passphrase
    assert aes_gcm.decrypt(encrypted, key) == b"content"


def test_random_bytes_are_a_key_and_old_files_with_text_for_a_key_open(monkeypatch):
    for seed in range(100):
        assert aes_gcm.encrypt(b"", random.Random(seed).randbytes(32))[8] == 0
    monkeypatch.setattr(aes_gcm, "_is_passphrase", lambda key: False)
    for key in TEXTS:
        assert aes_gcm.decrypt(aes_gcm.encrypt(b"content", key), key) == b"content"


@pytest.mark.parametrize("name", ORIGINAL)
def test_encrypting_with_the_public_key_warns(name, methods):
    content = to_bytes(add_record())
    for key in (b"", methods[name].public_key):
        with pytest.warns(LiteWarning, match=f"default key of {name}, which everybody knows"):
            cryption.encrypt(name, content, key)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cryption.encrypt(name, content, KEYS[name])


@pytest.mark.parametrize(("key", "kind"), [(bytes(range(32)), "key of 32 bytes"), (b"words", "passphrase")])
def test_gcm_container_is_recognized_and_asks_for_its_key(methods, key, kind):
    encrypted = aes_gcm.encrypt(to_bytes(add_record()), key)
    with pytest.raises(DecryptionError, match=f"with a {kind}; give it: .*--decrypt AES_256_GCM --key"):
        load_model(encrypted)
    cryption.update_key("AES_256_GCM", key)
    assert load_model(encrypted, check=False).output_names == ["sum"]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.exists(), reason="the shared model collection is not there")
@pytest.mark.parametrize(
    ("file", "method", "plain"),
    [
        ("shufflenet_crypt_aes.mge", "AES_default", "shufflenet.mge"),
        ("shufflenet_crypt_rc4.mge", "RC4_default", "nets/shufflenet_v2_slim.mge"),
        ("shufflenet_crypt_sfrc4.mge", "SIMPLE_FAST_RC4_default", "nets/shufflenet_v2_slim.mge"),
    ],
)
def test_files_encrypted_for_the_original_are_ours_byte_for_byte(file, method, plain, monkeypatch):
    content = (SHARED / plain).read_bytes()
    encrypted = (SHARED / file).read_bytes()
    decrypted = cryption.decrypt(method, encrypted)
    assert bytes(decrypted[: len(content)]) == content
    monkeypatch.setattr("os.urandom", lambda n: encrypted[:n])  # the initial vector of AES
    assert bytes(cryption.encrypt(method, content)) == encrypted
    graph = load_model(SHARED / file, decrypt=method, check=False).graph
    expected = load_model(SHARED / plain, check=False).graph
    assert [(n.op, n.params) for n in graph.nodes] == [(n.op, n.params) for n in expected.nodes]
    last = [[v.const.array for v in g.nodes[-2].inputs if v.const] for g in (graph, expected)]
    for a, b in zip(*last, strict=True):
        np.testing.assert_array_equal(a, b)
