"""Writing files: as a whole, with the rights of what was there, and without leftovers."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support.api_samples import DIGITS, packed
from support.processes import LIMIT, in_process

from megengine_lite._core.cpu.algorithms.cache import AlgoCache, Timing, parse_cache
from megengine_lite._core.system import files
from megengine_lite._core.system.files import file_lock, replace_file, replacing

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="files of POSIX")


@pytest.fixture(autouse=True)
def umask():
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names_in(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


# ---- rights and places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o666, 0o000, 0o755])
def test_rights_of_a_file_stay(tmp_path, mode):
    path = tmp_path / "cache"
    path.write_bytes(b"old")
    path.chmod(mode)
    replace_file(str(path), [b"new"])
    assert mode_of(path) == mode
    path.chmod(0o600)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000, 0o027])
def test_a_new_file_has_the_rights_that_the_process_gives_at_that_time(tmp_path, mask):
    os.umask(mask)
    replace_file(str(tmp_path / "x"), [b"new"])
    assert mode_of(tmp_path / "x") == 0o666 & ~mask


@pytest.mark.parametrize(("like", "mode"), [(0o600, 0o600), (0o640, 0o640), (0o444, 0o644), (0o666, 0o644)])
def test_a_new_file_gives_no_right_that_its_source_does_not_give(tmp_path, like, mode):
    (tmp_path / "source").touch()
    (tmp_path / "source").chmod(like)
    replace_file(str(tmp_path / "x"), [b"new"], like=str(tmp_path / "source"))
    assert mode_of(tmp_path / "x") == mode


def test_nobody_else_may_read_the_content_of_a_private_file_meanwhile(tmp_path):
    path = tmp_path / "secret"
    path.write_bytes(b"old")
    path.chmod(0o600)
    with replacing(str(path)) as file:
        file.write(b"new")
        (temporary,) = names_in(tmp_path) - {"secret"}
        assert mode_of(tmp_path / temporary) == 0o600
    assert mode_of(path) == 0o600


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only the superuser gives files away")
def test_owner_and_group_of_a_file_stay(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    os.chown(path, 12345, 23456)
    path.chmod(0o660)
    replace_file(str(path), [b"new"])
    assert (path.stat().st_uid, path.stat().st_gid, mode_of(path)) == (12345, 23456, 0o660)


def test_rights_of_a_group_are_not_given_to_another_one(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o664)
    real = os.stat(path)
    other = os.stat_result((*real[:4], real.st_uid + 1, real.st_gid + 1, *real[6:]))
    monkeypatch.setattr(os, "fchown", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no")))
    with open(tmp_path / "y", "wb") as file:
        files._take_over(file.fileno(), other)
    assert mode_of(tmp_path / "y") == 0o604


@pytest.mark.parametrize("exists", [True, False])
def test_a_symbolic_link_stays_and_leads_to_the_new_file(tmp_path, exists):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real", tmp_path / "link"
    if exists:
        target.write_bytes(b"old")
        target.chmod(0o600)
    (tmp_path / "second").symlink_to(target)
    link.symlink_to(tmp_path / "second")
    replace_file(str(link), [b"new"])
    assert link.is_symlink() and target.read_bytes() == b"new" and not target.is_symlink()
    assert mode_of(target) == (0o600 if exists else 0o644)
    assert names_in(tmp_path / "there") == {"real"}


def test_devices_and_pipes_are_written_to(tmp_path):
    replace_file("/dev/null", [b"new"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError) as caught:  # nobody reads
        replace_file(str(pipe), [b"new"])
    assert caught.value.errno == errno.ENXIO
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    while reader.is_alive():
        try:
            replace_file(str(pipe), [b"new"])
            break
        except OSError:
            time.sleep(0.01)
    reader.join(LIMIT)
    assert found == [b"new"] and pipe.is_fifo()


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127, "a b.[c]*?"])
def test_names_of_any_length(tmp_path, name):
    for content in (b"one", b"two"):
        replace_file(str(tmp_path / name), [content])
        assert (tmp_path / name).read_bytes() == content
    assert names_in(tmp_path) == {name}


# ---- leftovers ------------------------------------------------------------------------------------------------------

WRITER = """
import sys
from megengine_lite._core.system.files import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


def start_writer(path: Path) -> subprocess.Popen:
    """A process that is in the middle of writing."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def test_what_killed_writers_left_is_removed_and_what_living_ones_write_is_not(tmp_path):
    path = tmp_path / "cache"
    mine = {"cache.0123.tmp", "cache.tmp", "other.0123456789abcdef.tmp", "cache.0123456789abcdef.tmp.x"}
    for name in mine:
        (tmp_path / name).write_bytes(b"of the user")
    *killed, living = (start_writer(path) for _ in range(4))
    for process in killed:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert len(names_in(tmp_path)) == len(mine) + 4
    replace_file(str(path), [b"new"])
    assert len(names_in(tmp_path)) == len(mine) + 2 and mine < names_in(tmp_path)
    assert path.read_bytes() == b"new"
    living.communicate()
    assert living.returncode == 0 and path.read_bytes() == b"half"
    assert names_in(tmp_path) == {*mine, "cache"}


@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_temporary_file_is_left_alone(tmp_path, kind):
    trap = tmp_path / "cache.0123456789abcdef.tmp"
    precious = tmp_path / "precious"
    precious.write_bytes(b"x")
    {"link": lambda: trap.symlink_to(precious), "pipe": lambda: os.mkfifo(trap), "directory": trap.mkdir}[kind]()
    replace_file(str(tmp_path / "cache"), [b"new"])
    assert names_in(tmp_path) == {"cache", "precious", trap.name} and precious.read_bytes() == b"x"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path, error):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def chunks():
        yield b"new"
        raise error

    with pytest.raises(type(error)):
        replace_file(str(path), chunks())
    assert path.read_bytes() == b"old" and names_in(tmp_path) == {"x"}


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Another writer may take the new file for stale in the moment before it is locked."""
    real, seen = files._is_at, []

    def lose(handle, name):
        if not seen:
            os.unlink(name)
        seen.append(name)
        return real(handle, name)

    monkeypatch.setattr(files, "_is_at", lose)
    replace_file(str(tmp_path / "x"), [b"new"])
    assert len(seen) == 2 and (tmp_path / "x").read_bytes() == b"new" and names_in(tmp_path) == {"x"}


def test_many_writers_at_once_leave_one_whole_file(tmp_path):
    path = tmp_path / "x"

    def write(k: int) -> None:
        for _ in range(20):
            replace_file(str(path), [bytes([k]) * 5000])

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    content = path.read_bytes()
    assert len(content) == 5000 and len(set(content)) == 1 and names_in(tmp_path) == {"x"}


# ---- caches ---------------------------------------------------------------------------------------------------------


def flushed(path: Path, key: str = "k") -> None:
    cache = AlgoCache()
    cache.open(str(path), always_sync=True)
    cache.store("c", key, [Timing("a", 1.0, 0)])
    cache.flush()


def test_a_cache_keeps_its_rights_and_its_link(tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "real", tmp_path / "cache"
    target.write_bytes(bytes(4))
    target.chmod(0o600)
    link.symlink_to(target)
    flushed(link)
    assert link.is_symlink() and mode_of(target) == 0o600
    assert parse_cache(target.read_bytes()) == {b"c": {b"k": b'[["a", 1.0, 0]]'}}
    assert names_in(tmp_path / "there") == {"real", "real.lock"}  # whoever uses the file itself has the same lock
    assert mode_of(tmp_path / "there" / "real.lock") == 0o600


def test_a_lock_that_is_a_link_is_not_followed(tmp_path, caplog):
    victim = tmp_path / "victim"
    (tmp_path / "cache.lock").symlink_to(victim)
    flushed(tmp_path / "cache")
    assert not victim.exists() and not (tmp_path / "cache").exists()
    with pytest.raises(OSError), file_lock(str(tmp_path / "cache")):
        pass


# ---- commands -------------------------------------------------------------------------------------------------------


def test_a_decrypted_file_is_as_private_as_its_source(run_json, tmp_path):
    key = "00" * 32
    run_json("encrypt", DIGITS, tmp_path / "secret", "--method", "AES_256_GCM", "--key", key)
    (tmp_path / "secret").chmod(0o600)
    for out in ("new", "old"):
        if out == "old":
            (tmp_path / out).write_bytes(b"old")
            (tmp_path / out).chmod(0o640)
        run_json("decrypt", tmp_path / "secret", tmp_path / out, "--method", "AES_256_GCM", "--key", key)
        assert (tmp_path / out).read_bytes() == DIGITS.read_bytes()
    assert (mode_of(tmp_path / "new"), mode_of(tmp_path / "old")) == (0o600, 0o640)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a\0b", "a_b"),
        ("../../x", "x"),
        ("..", ".."),
        ("", "model"),
        ("a/", "a"),
        ("n\x1b[2J", "n_[2J"),
        ("x" * 300, "x" * 200),
        ("ü" * 200, "ü" * 100),
    ],
)
def test_the_name_of_a_package_is_part_of_a_file_name(run_json, tmp_path, name, stem):
    (tmp_path / "p.lite").write_bytes(packed(name=name, information={"name": name}))
    run_json("unpack", tmp_path / "p.lite", tmp_path / "out")
    assert names_in(tmp_path / "out") == {f"{stem}.mge", f"{stem}.json"}
    assert names_in(tmp_path) == {"p.lite", "out"}


def test_the_old_files_of_a_killed_process_go_with_the_next_cache(tmp_path):
    code = (
        "import os, sys\n"
        "from megengine_lite._core.system import files\n"
        "from megengine_lite._core.cpu.algorithms.cache import AlgoCache, Timing\n"
        f"cache = AlgoCache(); cache.open({str(tmp_path / 'cache')!r}, always_sync=True)\n"
        "cache.store('c', 'k', [Timing('a', 1.0, 0)])\n"
        "os.replace = lambda *_: os._exit(0)\n"
        "cache.flush()\n"
    )
    for _ in range(3):
        in_process(code)
    assert len(names_in(tmp_path)) == 2  # the lock, and what the last one left
    flushed(tmp_path / "cache")
    assert names_in(tmp_path) == {"cache", "cache.lock"}


@pytest.mark.parametrize("place", ["fstat", "set_blocking"])
def test_an_interrupt_while_a_file_is_opened_closes_it_once(place, tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")
    closed = []

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, place, interrupt)
        patch.setattr(os, "close", closed.append)
        with pytest.raises(KeyboardInterrupt):
            files.open_file(str(tmp_path / "a"))
    assert closed == []  # the file object has closed it
    before = set(os.listdir("/proc/self/fd"))
    with files.open_file(str(tmp_path / "a")) as file:
        assert file.read() == b"x"
    assert set(os.listdir("/proc/self/fd")) == before
