"""Numbers that several modules need have one definition."""

import re

from support.places import ROOT

from megengine_lite import MAX_DIM
from megengine_lite._core.cpu.host_memory import aligned_bytes, aligned_empty
from megengine_lite._core.cpu.isa import INSTRUCTION_SETS
from megengine_lite._core.system.memory import ALIGNMENT, MAX_NDIM, Storage
from megengine_lite.kernels.common import shared_constants

PACKAGE = ROOT / "megengine_lite"
SUFFIXES = (".py", ".pyx", ".pxd", ".h")


def definitions(name: str) -> list[tuple[str, str]]:
    """Files that give a name a number, and the number."""
    sources = [p for p in PACKAGE.rglob("*") if p.suffix in SUFFIXES]
    number = re.compile(rf"^\s*_?{name}\s*=\s*(\d[\d\s<]*)", re.M)
    return [(p.name, n.strip()) for p in sources for n in number.findall(p.read_text())]


def test_numbers_of_several_modules_stand_once():
    assert definitions("MAX_NDIM") == [("tensor_limits.pxd", "7")]
    assert definitions("ALIGNMENT") == [("tensor_limits.pxd", "64")]
    assert definitions("MAX_DIM") == []
    assert [file for file, _ in definitions("STREAM_BYTES")] == ["tiling.py"]
    for name in ("MAX_DIMS", "LINE", "WIDEST", "SLACK", "TILE_BLOCKS", "QUAD"):
        assert [file for file, _ in definitions(name)] == ["shared_constants.py"], name
    assert [file for file, _ in definitions("ITEM")] == ["tiling.py"]
    assert [file for file, _ in definitions("MIN_ROW")] == ["conv_direct.py"]


def test_numbers_that_agree_fit_the_instruction_sets():
    lanes = [row.width for row in INSTRUCTION_SETS]
    assert max(lanes) == shared_constants.WIDEST
    assert [n for n in lanes if shared_constants.LINE % n] == []  # lines are stored by whole vectors
    assert shared_constants.SLACK == 4 * shared_constants.WIDEST
    assert ALIGNMENT % (4 * shared_constants.LINE) == ALIGNMENT % (4 * shared_constants.WIDEST) == 0
    assert shared_constants.MAX_DIMS >= MAX_NDIM


def test_python_code_has_the_same_numbers():
    assert (MAX_DIM, MAX_NDIM, ALIGNMENT) == (7, 7, 64)


def test_memory_is_aligned():
    for nbytes in (1, 63, 64, 1000):
        assert aligned_bytes(nbytes).ctypes.data % ALIGNMENT == 0
        assert aligned_empty(nbytes).ctypes.data % ALIGNMENT == 0
        storage = Storage(nbytes)
        assert memoryview(storage).nbytes == nbytes
        assert storage.address % ALIGNMENT == 0
