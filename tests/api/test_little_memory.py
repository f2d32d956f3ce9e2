"""Models are loaded where the process may have little more memory, or none."""

import subprocess
import sys

import pytest
from support.api_samples import DIGITS
from support.processes import LIMIT

from megengine_lite._api.typed_errors import typed_errors
from megengine_lite.errors import LiteMemoryError

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs RLIMIT_AS")

BEGIN = """
import resource, sys
from megengine_lite import LiteError, LiteNetwork, get_model_io_info
model, number = sys.argv[1], int(sys.argv[2])
network = LiteNetwork()
reads = (get_model_io_info, network.load)

def limit(spare):
    size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + spare, -1))
"""

READ_ALL = """
for read in reads:
    try:
        read(model)
    except LiteError as error:
        print(type(error).__name__, str(error))
    else:
        print("done")
"""

LIMITED = BEGIN + "limit(number)" + READ_ALL

# Objects of all sizes that Python's allocator has fill the memory, then some of the smallest are given back.
EXHAUSTED = (
    BEGIN
    + """
eaten, count = [None] * 400_000, 0

def eat(size):
    global count
    try:
        while True:
            eaten[count] = bytes(size)
            count += 1
    except MemoryError:
        pass

limit(8 << 20)
for size in (1 << 20, 1 << 16, 4096, *range(479, 2, -16)):
    eat(size)
try:
    for k in range(count - number, count):
        eaten[k] = None
except MemoryError:  # for the loop itself: nothing is given back then
    pass
try:
    get_model_io_info(model)
except LiteError as error:
    eaten.clear()
    print(type(error).__name__, str(error))
else:
    eaten.clear()
    print("done")
network.load(model)
print("done")
"""
)

# A call of the system says that there is no memory: Python's import finds no folder, or a file is not opened.
REFUSED = (
    BEGIN
    + """
import errno, os

def refuse(*arguments, **options):
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), "folder")

if number:
    import posix
    sys.path_importer_cache.clear()
    posix.listdir = refuse
else:
    os.open = refuse
"""
    + READ_ALL
)


def lines_of(program, number):
    command = [sys.executable, "-c", program, str(DIGITS), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def is_clear(line):
    """Done, or an error that says what is missing."""
    name, _, message = line.partition(" ")
    if name == "LiteError":
        return "cannot be imported" in message and "ulimit -v" in message
    return line == "done" or (name == "LiteMemoryError" and "memory" in message)


@pytest.mark.parametrize(
    "spare", [0, 1 << 18, 1 << 20, 2 << 20, 3 << 20, 4 << 20, 8 << 20, 16 << 20, 24 << 20, 64 << 20]
)
def test_a_process_may_have_little_more_memory(spare):
    lines = lines_of(LIMITED, spare)
    assert len(lines) == 2 and all(map(is_clear, lines)), lines


@pytest.mark.parametrize("number", [0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000])
def test_all_memory_is_in_use(number):
    """The error itself needs memory, and the frames that it passes."""
    lines = lines_of(EXHAUSTED, number)
    assert len(lines) == 2 and is_clear(lines[0]) and lines[1] == "done", lines


def test_python_has_no_memory_for_a_frame():
    """CPython 3.11 says so by a SystemError of its own; another one is a fault."""
    with pytest.raises(LiteMemoryError, match=r"^load: there is not enough memory$"), typed_errors("load"):
        raise SystemError("error return without exception set")
    with pytest.raises(SystemError, match="another"), typed_errors("load"):
        raise SystemError("another")


@pytest.mark.parametrize("number", [0, 1], ids=["files", "folders"])
def test_the_system_has_no_memory(number):
    lines = lines_of(REFUSED, number)
    assert "done" not in lines and len(lines) == 2 and all(map(is_clear, lines)), lines
