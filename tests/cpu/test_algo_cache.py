"""The persistent cache: its container, and what happens to files."""

import random
import struct
import subprocess
import sys
import time

import pytest

from megengine_lite._core.cpu.algorithms.cache import AlgoCache, Timing, category_name, parse_cache, serialize_cache
from megengine_lite.errors import LiteError, ModelFormatError

SAMPLE = {b"one": {b"k1": b"v1", b"k2": b""}, b"": {}, b"two": {b"": b"\0" * 300}}


def test_container_there_and_back():
    assert parse_cache(serialize_cache(SAMPLE)) == SAMPLE
    assert serialize_cache({}) == bytes(4)
    assert serialize_cache({b"ab": {b"k": b"xyz"}}) == (
        struct.pack("<II", 1, 2) + b"ab" + struct.pack("<II", 1, 1) + b"k" + struct.pack("<I", 3) + b"xyz"
    )


def test_container_cut_off_anywhere():
    content = serialize_cache(SAMPLE)
    for size in range(len(content)):
        with pytest.raises(ModelFormatError):
            parse_cache(content[:size])


@pytest.mark.parametrize("content", [b"\xff" * 4, b"\xff" * 100, struct.pack("<III", 1, 2**32 - 1, 0)])
def test_container_with_absurd_sizes(content):
    with pytest.raises(ModelFormatError):
        parse_cache(content)


# Entries as the original writes them: layouts and raw parameters; results of two algorithms.
FOREIGN = {
    b"profile:plat=cpu:ConvolutionForwardv5F0": {
        b"2,3,16,16;Float32|8,3,3,3;Float32|2,8,16,16;Float32|\x00\x00\x01\x00": (
            struct.pack("<IIIII", 2, 2, 0, 7, 0) + b":1;2e-05;64:\0" + bytes(range(256))
        ),
        b"": b"",
    },
    b"profile:plat=cpu:MatrixMulv5DEFAULT": {b"\xff" * 300: b"\x00"},
    b"empty": {},
}


def test_entries_of_the_original_survive_a_rewrite_byte_for_byte(tmp_path):
    path, again = tmp_path / "cache", tmp_path / "again"
    content = serialize_cache(FOREIGN)
    path.write_bytes(content)
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    cache.dump(str(again))
    assert again.read_bytes() == content
    cache.store("ours", "k", timings("a"))
    cache.flush()
    rewritten = path.read_bytes()
    # only the number of categories has changed, and ours comes last
    assert rewritten[4 : len(content)] == content[4:]
    assert parse_cache(rewritten) == FOREIGN | {b"ours": {b"k": b'[["a", 1.0, 64]]'}}


def timings(*names):
    return [Timing(name, seconds, 64) for seconds, name in enumerate(names, 1)]


def test_store_and_lookup():
    cache = AlgoCache()
    category = category_name("conv", "cpu", "avx2", 2)
    assert cache.lookup(category, "key") is None
    cache.store(category, "key", list(reversed(timings("fast", "slow"))))
    assert cache.lookup(category, "key") == timings("fast", "slow")
    assert cache.lookup(category_name("conv", "cpu", "avx2", 1), "key") is None


def test_entry_that_cannot_be_read_is_none():
    cache = AlgoCache()
    numbers = (b'[["a", NaN, 0]]', b'[["a", 1e999, 0]]', b'[["a", 1, 1e999]]')
    for value in (b"", b"text", b"[[1]]", b"3", b"\xff", b"[" * 200_000, *numbers):
        cache.merge(serialize_cache({b"c": {b"k": value}}))
        assert cache.lookup("c", "k") is None


def test_new_file_goes_before_memory_and_foreign_entries_stay(tmp_path):
    path, again = tmp_path / "cache", tmp_path / "again"
    path.write_bytes(serialize_cache({b"profile:plat=cpu": {b"\x01": b"\x02"}, b"c": {b"k": b'[["new", 1.0, 0]]'}}))
    cache = AlgoCache()
    cache.store("c", "k", timings("old"))
    cache.store("c", "k2", timings("kept"))
    cache.open(str(path))
    assert cache.lookup("c", "k")[0].algorithm == "new"
    assert cache.lookup("c", "k2")[0].algorithm == "kept"
    cache.dump(str(again))
    assert parse_cache(again.read_bytes())[b"profile:plat=cpu"] == {b"\x01": b"\x02"}


def test_missing_and_empty_files_are_empty_caches(tmp_path):
    cache = AlgoCache()
    cache.open(str(tmp_path / "none"))
    (tmp_path / "empty").touch()
    cache.open(str(tmp_path / "empty"), always_sync=True)
    cache.store("c", "k", timings("a"))
    cache.flush()
    assert b"c" in parse_cache((tmp_path / "empty").read_bytes())


def test_old_content_stays_until_there_is_new(tmp_path):
    path = tmp_path / "cache"
    content = serialize_cache({b"c": {b"k": b'[["a", 1.0, 0]]'}})
    path.write_bytes(content)
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    cache.flush()
    assert path.read_bytes() == content
    cache.store("c", "k2", timings("b"))
    cache.flush()
    assert set(parse_cache(path.read_bytes())[b"c"]) == {b"k", b"k2"}


def test_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "cache"
    cache = AlgoCache()
    cache.store("c", "k", timings("a"))
    cache.dump(str(path))
    content = path.read_bytes()
    cache.store("c", "k2", timings("b"))

    def crash(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", crash)
    with pytest.raises(LiteError, match="No space"):
        cache.dump(str(path))
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_file_that_cannot_be_written_is_no_reason_to_stop(tmp_path):
    cache = AlgoCache()
    cache.open(str(tmp_path / "none" / "cache"), always_sync=True)
    cache.store("c", "k", timings("a"))
    cache.flush()
    assert cache.lookup("c", "k") == timings("a")


def test_file_that_is_damaged_meanwhile_is_left_alone(tmp_path, caplog):
    path = tmp_path / "cache"
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    cache.store("c", "k", timings("a"))
    cache.flush()
    path.write_bytes(b"something else")
    for key in ("k2", "k3"):
        cache.store("c", key, timings("b"))
        with caplog.at_level("WARNING", "megengine_lite"):
            cache.flush()
    assert path.read_bytes() == b"something else"
    assert sum("left as it is" in r.getMessage() for r in caplog.records) == 1
    assert cache.lookup("c", "k3") == timings("b")


@pytest.mark.parametrize("content", [b"\1", b"model" * 100, b"\1\0\0\0" + b"\xff" * 8, bytes(3)])
def test_file_that_is_no_cache_is_left_alone(tmp_path, content):
    path = tmp_path / "cache"
    path.write_bytes(content)
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    cache.store("c", "k", timings("a"))
    cache.flush()
    assert path.read_bytes() == content
    assert [p.name for p in tmp_path.iterdir()] == ["cache"]


def test_file_that_others_delete_is_made_again(tmp_path):
    path = tmp_path / "cache"
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    for key in ("a", "b"):
        cache.store("c", key, timings("x"))
        cache.flush()
        assert parse_cache(path.read_bytes())[b"c"].keys() >= {key.encode()}
        path.unlink()


WRITER = """
import sys
from megengine_lite._core.cpu.algorithms.cache import CACHE, Timing
CACHE.open(sys.argv[1], always_sync=True)
print("ready", flush=True)
for k in range(10**6):
    CACHE.store("category", str(k), [Timing("algorithm" * 20, 1.0, 0)])
    CACHE.flush()
"""


def test_killed_writers_leave_the_old_or_the_new_file(tmp_path):
    path = tmp_path / "cache"
    path.write_bytes(serialize_cache(FOREIGN))
    chance = random.Random(3)
    most = rounds = 0
    end = time.monotonic() + 60
    while rounds < 5 or (most <= 5 and time.monotonic() < end):
        rounds += 1
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0.02, 0.25) * rounds)  # ever longer, for machines that are slow or emulated
            process.kill()
        found = parse_cache(path.read_bytes())
        assert {name: found[name] for name in FOREIGN} == FOREIGN
        # the numbers from 0 on, without a gap, and never fewer than before
        keys = sorted(int(k) for k in found.get(b"category", {}))
        assert keys == list(range(len(keys))) and len(keys) >= most
        most = len(keys)
    assert most > 5


def test_directory_that_cannot_be_written_to_is_no_reason_to_stop(tmp_path, monkeypatch, caplog):
    path = tmp_path / "cache"
    path.write_bytes(serialize_cache(SAMPLE))
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("megengine_lite._core.cpu.algorithms.cache.replace_file", refuse)
    cache.store("c", "k", timings("a"))
    with caplog.at_level("WARNING", "megengine_lite"):
        cache.flush()
    assert [r.getMessage() for r in caplog.records] == [
        f"the algorithm cache {path} cannot be written: [Errno 13] Permission denied"
    ]
    assert parse_cache(path.read_bytes()) == SAMPLE and cache.lookup("c", "k") == timings("a")


def test_dump_leaves_a_file_alone_that_is_no_cache(tmp_path):
    cache = AlgoCache()
    cache.store("c", "k", [Timing("a", 1.0, 0)])
    model, old = tmp_path / "model.mge", tmp_path / "old.cache"
    model.write_bytes(b"mgv2" + bytes(100))
    with pytest.raises(ModelFormatError):
        cache.dump(str(model))
    assert model.read_bytes() == b"mgv2" + bytes(100)
    old.write_bytes(serialize_cache({b"x": {b"y": b"z"}}))
    cache.dump(str(old))
    assert parse_cache(old.read_bytes()) == parse_cache(cache.content())
