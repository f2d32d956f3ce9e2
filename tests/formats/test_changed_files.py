"""Model files that others write to, cut off, delete or replace while a network lives or is being loaded."""

from __future__ import annotations

import os
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.api_samples import ADD, DIGITS, IMAGES, PROB, add, loaded, packed, run
from support.loader_samples import constant_operator, input_operator, operator, to_bytes
from support.processes import in_process, isolated

from megengine_lite import LiteNetwork
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.params import Convolution
from megengine_lite._core.operators import REGISTRY  # noqa: F401  # so that children have it
from megengine_lite._core.system import file_bytes
from megengine_lite._core.system.file_bytes import FileBytes
from megengine_lite.errors import LiteError, ModelFormatError

CHANNELS = 32


def weight(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((CHANNELS, CHANNELS, 3, 3), np.float32)


def convolution(seed: int) -> bytes:
    """A model whose kernels want the weight in another form for small images than for large ones."""
    operators = [
        input_operator(0, "x", (1, CHANNELS, 8, 8)),
        constant_operator(1, (CHANNELS, CHANNELS, 3, 3), data=weight(seed)),
        operator("Convolution", (0, 1), (2,), Convolution(pad_h=1, pad_w=1)),
    ]
    return to_bytes(ModelRecord("v2", 101300, operators, [(2, "")], {2: "y"}))


SIZES = (40, 3, 8)
"""Sizes of images. On every instruction set the weight is packed in another way for the second than for the first."""


def image(size: int) -> np.ndarray:
    return np.random.default_rng(size).standard_normal((1, CHANNELS, size, size), np.float32)


def defined(size: int, seed: int = 0) -> np.ndarray:
    """The convolution by its definition."""
    x = np.pad(image(size), ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight(seed), optimize=True)


def compute(network: LiteNetwork, size: int) -> np.ndarray:
    network.get_io_tensor("x").set_data_by_copy(image(size))
    network.forward()
    network.wait()
    return network.get_io_tensor("y").to_numpy()


def is_right(network: LiteNetwork, size: int) -> bool:
    return bool(np.abs(compute(network, size) - defined(size)).max() < 1e-3)


def weight_piece(network: LiteNetwork) -> file_bytes.FilePiece:
    (node,) = network._engine.model.graph.nodes
    return node.inputs[1].const._data


def overwrite(path: Path) -> None:
    """As ``cp`` does over a file that exists."""
    path.write_bytes(convolution(1))


def truncate(path: Path) -> None:
    os.truncate(path, 100)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(10_000))


def change_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(20_000)
        byte = file.read(1)[0]
        file.seek(20_000)
        file.write(bytes([byte ^ 1]))


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """As a careful program exchanges a file."""
    other = path.with_suffix(".new")
    other.write_bytes(convolution(1))
    other.rename(path)


IN_PLACE = [overwrite, truncate, empty, change_a_byte]
HARMLESS = [grow, delete, replace]


@pytest.fixture
def path(tmp_path) -> Path:
    made = tmp_path / "model.mge"
    made.write_bytes(convolution(0))
    return made


@pytest.mark.parametrize("change", IN_PLACE + HARMLESS)
@isolated
def test_change_before_the_first_forward(change, path):
    network = loaded(path)
    change(path)
    assert is_right(network, SIZES[0])


@pytest.mark.parametrize("change", IN_PLACE + HARMLESS)
@isolated
def test_change_between_forwards(change, path):
    network = loaded(path)
    for size in SIZES:
        assert is_right(network, size)
    assert weight_piece(network).is_absent
    change(path)
    for size in SIZES:
        assert is_right(network, size)


@pytest.mark.parametrize("change", HARMLESS)
@isolated
def test_change_that_keeps_the_old_content_before_a_forward_at_another_shape(change, path):
    network = loaded(path)
    assert is_right(network, SIZES[0])
    change(path)
    for size in SIZES:
        assert is_right(network, size)


@pytest.mark.parametrize("change", IN_PLACE)
@isolated
def test_change_of_the_content_before_a_forward_at_another_shape(change, path):
    network = loaded(path)
    assert is_right(network, SIZES[0])
    assert weight_piece(network).is_absent
    change(path)
    for _ in range(2):
        with pytest.raises(ModelFormatError, match="overwritten after it was loaded"):
            compute(network, SIZES[1])
    assert is_right(network, SIZES[0])
    path.write_bytes(convolution(0))  # the old content again
    assert is_right(network, SIZES[1])


@isolated
def test_bytes_do_not_depend_on_files(path):
    network = loaded(path.read_bytes())
    assert is_right(network, SIZES[0])
    overwrite(path)
    assert is_right(network, SIZES[1])


@isolated
def test_package_that_is_overwritten(path):
    path.write_bytes(packed(convolution(0)))
    network = loaded(path)
    assert is_right(network, SIZES[0])
    assert weight_piece(network).is_absent
    path.write_bytes(bytes(path.stat().st_size))
    assert is_right(network, SIZES[0])
    with pytest.raises(ModelFormatError, match="overwritten"):
        compute(network, SIZES[1])


@isolated
def test_networks_that_share_weights_of_a_file_that_is_gone(path):
    network, other = loaded(path), LiteNetwork()
    other.share_weights_with(network)
    assert is_right(network, SIZES[0])
    truncate(path)
    assert is_right(other, SIZES[0])
    with pytest.raises(ModelFormatError, match="overwritten"):
        compute(other, SIZES[1])


# ---- while a file is loaded -----------------------------------------------------------------------------------------


class _Changed:
    """A file that is changed when half of it has been read."""

    def __init__(self, path: Path, change) -> None:
        self._path, self._change = path, change
        self._file = path.open("rb", buffering=0)
        self._size = path.stat().st_size
        self._first = True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: memoryview) -> int:
        if self._first:
            self._first = False
            return self._file.readinto(buffer[: self._size // 2])
        self._change(self._path)
        return self._file.readinto(buffer)


@pytest.mark.parametrize("change", [truncate, empty])
@isolated
def test_file_that_shrinks_while_it_is_read(change, path):
    with pytest.raises(ModelFormatError, match=r"cut off while it was read, at byte \d+ of \d+"):
        FileBytes(_Changed(path, change), "model.mge")


@pytest.mark.parametrize("change", [change_a_byte, grow])
@isolated
def test_file_that_changes_while_it_is_read(change, path):
    os.utime(path, (1, 1))
    with pytest.raises(ModelFormatError, match="changed while it was read"):
        FileBytes(_Changed(path, change), "model.mge")


@isolated
def test_file_that_others_write_all_the_time(tmp_path):
    code = (
        "import sys\n"
        "from support.api_samples import *\n"
        "from megengine_lite.errors import LiteError\n"
        f"path = {str(tmp_path / 'model.mge')!r}\n"
        "ends = {'right': 0, 'refused': 0}\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        network = loaded(path)\n"
        "    except LiteError:\n"
        "        ends['refused'] += 1\n"
        "    else:\n"
        "        assert abs(run(network, IMAGES[:8]) - PROB[:8]).max() < 1e-4\n"
        "        ends['right'] += 1\n"
        "assert ends['right']\n"
        "print(sum(ends.values()))\n"
    )
    writer = (
        "import sys, time\n"
        "content = open(sys.argv[1], 'rb').read()\n"
        "while True:\n"
        "    with open(sys.argv[2], 'wb', buffering=0) as file:\n"
        "        for at in range(0, len(content), 5000):\n"
        "            file.write(content[at : at + 5000])\n"
        "    time.sleep(0.002)\n"
    )
    import subprocess
    import sys

    shutil.copy(DIGITS, tmp_path / "model.mge")
    with subprocess.Popen([sys.executable, "-c", writer, str(DIGITS), str(tmp_path / "model.mge")]) as process:
        try:
            assert in_process(code) == "300"
        finally:
            process.kill()


# ---- what a loaded file costs ---------------------------------------------------------------------------------------


@isolated
def test_networks_keep_no_file_open(tmp_path):
    path = tmp_path / "model.mge"
    path.write_bytes(ADD)
    assert add(loaded(path), 1, 2).max() == 3  # what is imported late is imported now
    before = set(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    networks = [loaded(path) for _ in range(50)]
    for k, network in enumerate(networks):
        assert add(network, k, 1).max() == k + 1
    assert set(os.listdir("/proc/self/fd")) == before


@isolated
def test_no_free_file_to_read_weights_again(path):
    network = loaded(path)
    assert is_right(network, SIZES[0])
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")), 16))
    held = []
    with pytest.raises(OSError, match="Too many"):
        while True:
            held.append(os.dup(0))
    with pytest.raises(LiteError, match="cannot be read again"):
        compute(network, SIZES[1])
    os.close(held.pop())
    os.close(held.pop())
    assert is_right(network, SIZES[1])


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@isolated
def test_memory_of_a_load_and_of_weights_that_are_packed(tmp_path):
    side = 2048
    weights = np.random.default_rng(0).standard_normal((2, side, side), np.float32)
    operators = [input_operator(0, "x", (1, side, 2, 2))]
    for k, values in enumerate(weights):
        operators.append(constant_operator(2 * k + 1, (side, side, 1, 1), data=values))
        operators.append(operator("Convolution", (2 * k, 2 * k + 1), (2 * k + 2,), Convolution()))
    path = tmp_path / "large.mge"
    path.write_bytes(to_bytes(ModelRecord("v2", 101300, operators, [(4, "")], {4: "y"})))
    del operators
    size = path.stat().st_size
    run(loaded(), IMAGES[:4])
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = resident()
    network = loaded(path)
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) << 10
    assert peak - before < 1.2 * size + (8 << 20)
    x = np.random.default_rng(1).standard_normal((1, side, 2, 2), np.float32)
    network.get_io_tensor("x").set_data_by_copy(x)
    network.forward()
    network.wait()
    expected = (weights[1] @ (weights[0] @ x.astype(float).reshape(side, 4))).reshape(x.shape)
    assert np.abs(network.get_io_tensor("y").to_numpy() - expected).max() < 1e-3 * np.abs(expected).max()
    assert resident() - before < 1.2 * size + (8 << 20)  # one copy of the weights, not two


def read(path: Path) -> FileBytes:
    with path.open("rb", buffering=0) as file:
        return FileBytes(file, "model.mge")


@isolated
def test_bytes_that_several_tensors_name(path):
    content = path.read_bytes()
    held = read(path)
    whole = memoryview(held)
    pieces = [held.piece(whole[begin:end]) for begin, end in ((0, 20_000), (17_000, 36_000), (0, 20_000))]
    del whole
    used = memoryview(pieces[1])
    for piece in pieces:
        piece.release()
    assert used == content[17_000:36_000]
    assert bytes(pieces[0]) == bytes(pieces[2]) == content[:20_000]


@isolated
def test_bytes_of_a_file(path):
    content = path.read_bytes()
    held = read(path)
    assert len(held) == len(content)
    assert bytes(held) == content
    whole = memoryview(held)
    places = (0, 18_000), (5, 6), (100, 100), (17_000, 36_900), (36_900, len(content))
    pieces = [held.piece(whole[begin:end]) for begin, end in places]
    for piece in pieces:
        piece.release()
        assert not piece.is_absent  # somebody looks at all bytes
    whole.release()
    for piece in pieces:
        piece.release()
    assert [piece.is_absent for piece in pieces] == [True, False, False, True, False]
    for piece, (begin, end) in zip(pieces, places, strict=True):
        assert bytes(piece) == content[begin:end]
        assert not piece.is_absent
    view = memoryview(pieces[3])
    pieces[3].release()
    assert bytes(view) == content[17_000:36_900]
    view.release()
    assert pieces[3].is_absent  # now that nobody looks
    with pytest.raises(BufferError, match="given back"):
        memoryview(held)
    with pytest.raises(ValueError, match="other memory"):
        held.piece(memoryview(b"other"))
    assert abs(run(loaded(DIGITS), IMAGES) - PROB).max() < 1e-4
