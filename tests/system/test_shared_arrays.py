"""Arrays that processes share: who finds whose, what becomes of the files, and what happens where that cannot be."""

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from megengine_lite._core.system import shared_arrays
from megengine_lite._core.system.shared_arrays import LEAST, SharedArrays

pytestmark = pytest.mark.skipif(shared_arrays.fcntl is None, reason="needs locks of POSIX")

RNG = np.random.default_rng(0)
WEIGHTS = RNG.random((100, 70), "float32")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The folder with the files of this test; it need not exist."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path / f"megengine_lite-{os.geteuid()}"


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.exists() else []


def is_shared(array: np.ndarray, original: np.ndarray) -> bool:
    """Whether it is another, equal array that nobody may write to."""
    assert array.dtype == original.dtype and array.shape == original.shape
    assert array.tobytes() == original.tobytes()
    return array is not original and not array.flags.writeable


def start(code: str) -> subprocess.Popen:
    """Another process with ``arrays`` and ``weights``, the same as here; it says when it is ready."""
    head = (
        "import numpy as np\n"
        "from megengine_lite._core.system.shared_arrays import SharedArrays\n"
        "weights = np.random.default_rng(0).random((100, 70), 'float32')\n"
        "arrays = SharedArrays('model')\n"
    )
    tail = "\nprint('ready', flush=True)\ninput()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", head + code + tail], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    assert process.communicate("\n")[0] == "" and process.returncode == 0


# ---- sharing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int32", "bool", "complex64"])
@pytest.mark.parametrize("shape", [(LEAST,), (7, 9, 1000), (1 << 21,)])
def test_arrays_keep_their_values_and_their_form(dtype, shape):
    array = (RNG.random(shape, "float32") * 100).astype(dtype)
    shared = SharedArrays("model").share(array)
    assert is_shared(shared, array) == (array.nbytes >= LEAST)
    assert shared.ctypes.data % 64 == 0 or array.nbytes < LEAST


def test_values_that_equal_nothing_are_shared_too():
    array = np.full(LEAST, np.nan, "float32")
    assert is_shared(SharedArrays("model").share(array), array)


def test_equal_arrays_are_there_once(folder):
    arrays = SharedArrays("model")
    first = arrays.share(WEIGHTS)
    (file,) = files_in(folder)
    size = file.stat().st_size
    assert WEIGHTS.nbytes < size < WEIGHTS.nbytes + 8192
    others = [arrays.share(WEIGHTS.copy()), SharedArrays("model").share(WEIGHTS.copy())]
    assert all(is_shared(a, WEIGHTS) for a in (first, *others)) and file.stat().st_size == size
    arrays.share(WEIGHTS + 1)
    assert file.stat().st_size == 2 * size


def test_what_is_added_later_is_found(folder):
    one, two = SharedArrays("model"), SharedArrays("model")
    one.share(WEIGHTS)
    two.share(WEIGHTS)
    one.share(WEIGHTS + 1)
    size = files_in(folder)[0].stat().st_size
    assert is_shared(two.share(WEIGHTS + 1), WEIGHTS + 1)
    assert files_in(folder)[0].stat().st_size == size


def test_another_process_finds_them(folder):
    process = start("shared = arrays.share(weights)\nassert shared is not weights")
    size = files_in(folder)[0].stat().st_size
    arrays = SharedArrays("model")
    assert is_shared(arrays.share(WEIGHTS), WEIGHTS)
    assert files_in(folder)[0].stat().st_size == size
    end(process)


def test_only_this_user_may_read_them(folder):
    arrays = SharedArrays("model")
    arrays.share(WEIGHTS)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(files_in(folder)[0].stat().st_mode) == 0o600


def test_nothing_is_opened_before_there_is_something_to_share(folder):
    arrays = SharedArrays("model")
    small = np.zeros(LEAST - 1, "uint8")
    assert arrays.share(small) is small and not folder.exists()


# ---- the end of files -----------------------------------------------------------------------------------------------


def test_the_last_one_removes_the_file(folder):
    one, two = SharedArrays("model"), SharedArrays("model")
    shared = one.share(WEIGHTS)
    two.share(WEIGHTS)
    del one
    assert len(files_in(folder)) == 1
    del two
    assert files_in(folder) == []
    assert is_shared(shared, WEIGHTS)  # what is mapped stays


def test_a_process_that_ends_leaves_the_file_to_the_others(folder):
    arrays = SharedArrays("model")
    process = start("arrays.share(weights)")
    arrays.share(WEIGHTS)
    end(process)
    assert len(files_in(folder)) == 1
    process = start("arrays.share(weights)")
    del arrays
    assert len(files_in(folder)) == 1
    end(process)
    assert files_in(folder) == []


def test_the_file_of_a_killed_process_is_removed_or_used(folder):
    process = start("shared = arrays.share(weights)")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = files_in(folder)
    same = SharedArrays("model")
    assert is_shared(same.share(WEIGHTS), WEIGHTS) and files_in(folder) == [left]
    other = SharedArrays("another model")
    other.share(WEIGHTS)
    assert len(files_in(folder)) == 2  # that of a living process stays
    del same, other
    process = start("shared = arrays.share(weights)")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    other = SharedArrays("another model")
    other.share(WEIGHTS)
    assert len(files_in(folder)) == 1 and files_in(folder) != [left]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_remove_the_file_of_its_parent(folder):
    script = (
        "import gc, os\n"
        "shared = arrays.share(weights)\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert arrays.share(weights + 1) is not weights\n"
        "    del arrays\n"
        "    gc.collect()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    process = start(script)
    assert len(files_in(folder)) == 1
    end(process)
    assert files_in(folder) == []


# ---- what cannot be, and what is damaged ----------------------------------------------------------------------------


def test_what_a_killed_process_has_begun_is_overwritten(folder):
    arrays = SharedArrays("model")
    arrays.share(WEIGHTS)
    (file,) = files_in(folder)
    size = file.stat().st_size
    with file.open("ab") as end_of_file:
        end_of_file.write(bytes(10_000))
    other = SharedArrays("model")
    assert is_shared(other.share(WEIGHTS + 1), WEIGHTS + 1)
    assert is_shared(arrays.share(WEIGHTS + 2), WEIGHTS + 2)
    assert file.stat().st_size == 3 * size


def test_other_bytes_are_never_taken_for_the_array(folder):
    arrays = SharedArrays("model")
    arrays.share(WEIGHTS)
    (file,) = files_in(folder)
    content = bytearray(file.read_bytes())
    content[5000] ^= 1
    file.write_bytes(content)
    mine = WEIGHTS.copy()
    assert SharedArrays("model").share(mine) is mine


def test_a_file_with_a_damaged_header_is_not_used(folder):
    arrays = SharedArrays("model")
    shared = [arrays.share(WEIGHTS + k) for k in range(3)]
    (file,) = files_in(folder)
    content = bytearray(file.read_bytes())
    content[len(content) // 3 + 1] ^= 64  # of the second
    with file.open("r+b") as opened:
        opened.write(content)
    mine = WEIGHTS + 3
    assert SharedArrays("model").share(mine) is mine
    assert all(is_shared(s, WEIGHTS + k) for k, s in enumerate(shared))  # not cut off
    assert file.stat().st_size == len(content)


def test_a_file_without_room_leaves_arrays_as_they_are(folder):
    code = (
        "import resource\n"
        "shared = arrays.share(weights)\n"
        "assert shared is not weights\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "more = weights + 1\n"
        "assert arrays.share(more) is more\n"
        "assert arrays.share(weights) is weights\n"
        "assert (shared == weights).all()\n"
    )
    process = start(code)
    size = files_in(folder)[0].stat().st_size
    assert size < WEIGHTS.nbytes + 8192  # cut back
    end(process)


@pytest.mark.parametrize("obstacle", ["file", "link", "rights", "no directory"])
def test_a_folder_that_cannot_be_trusted_is_not_used(folder, obstacle, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if obstacle == "file":
        folder.write_text("")
    elif obstacle == "link":
        folder.symlink_to(tmp_path / "elsewhere")
    elif obstacle == "rights":
        folder.mkdir()
        folder.chmod(0o770)
    else:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "not here"))
    assert SharedArrays("model").share(WEIGHTS) is WEIGHTS
    assert list(tmp_path.rglob("*.weights")) == []


def test_a_lock_that_is_not_given_back_is_not_waited_for(folder, monkeypatch):
    monkeypatch.setattr(shared_arrays, "_PATIENCE", 0.05)
    folder.mkdir(mode=0o700)
    with shared_arrays._locked(str(folder)):
        assert SharedArrays("model").share(WEIGHTS) is WEIGHTS
    assert is_shared(SharedArrays("model").share(WEIGHTS), WEIGHTS)


def test_systems_without_locks_share_nothing(folder, monkeypatch):
    monkeypatch.setattr(shared_arrays, "fcntl", None)
    assert SharedArrays("model").share(WEIGHTS) is WEIGHTS and not folder.exists()


def test_many_at_the_same_time_have_one_copy(folder):
    code = "kept = [arrays.share(weights + k) for k in range(20)]\nassert all(not a.flags.writeable for a in kept)"
    head = (
        "import numpy as np\nfrom megengine_lite._core.system.shared_arrays import SharedArrays\n"
        "weights = np.random.default_rng(0).random((100, 70), 'float32')\narrays = SharedArrays('model')\n"
    )
    together = [
        subprocess.Popen(
            [sys.executable, "-c", head + code + "\nprint(flush=True)\ninput()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in together:
        assert process.stdout is not None and process.stdout.readline() == "\n"
    (file,) = files_in(folder)
    room = -(-(WEIGHTS.nbytes + 64) // shared_arrays._PAGE) * shared_arrays._PAGE
    assert file.stat().st_size == 20 * room
    for process in together:
        end(process)
    assert files_in(folder) == []
