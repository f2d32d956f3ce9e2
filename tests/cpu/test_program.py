"""The replay loop and the worker pool."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.program import Program, RecordTable

FILL = kernel_set()["fill_elements"]
COPY = kernel_set()["copy_bytes"]


VALUES = np.arange(256, dtype=np.uint8)


def fill_arguments(value, nbytes, base=0, offset=0, chunk=64):
    one = -1, VALUES.ctypes.data + value
    return FILL.values({"x": one, "y": (base, offset), "nbytes": nbytes, "item": 1, "chunk": chunk})


def fill_step(value, nbytes, base=0, offset=0, chunk=64):
    arguments = fill_arguments(value, nbytes, base, offset, chunk)
    return FILL.address, arguments, -(-nbytes // chunk), 0


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_run_executes_all_work_of_every_step(threads):
    memory = np.zeros(10_000, np.uint8)
    steps = [fill_step(3, 10_000), fill_step(4, 5_001, offset=17)]
    program = Program(steps, 1, 0, threads)
    program.set_base(0, memory.ctypes.data)
    program.run(0, 2)
    expected = np.full(10_000, 3, np.uint8)
    expected[17 : 17 + 5_001] = 4
    np.testing.assert_array_equal(memory, expected)


def test_set_base_moves_every_pointer_of_the_base():
    first, second = np.zeros(256, np.uint8), np.zeros(256, np.uint8)
    program = Program([fill_step(1, 100), fill_step(2, 100, offset=100)], 1, 0, 1)
    for memory in (first, second):
        program.set_base(0, memory.ctypes.data)
        program.run(0, 2)
    assert first.sum() == second.sum() == 300


def test_serial_and_parallel_steps_keep_their_order():
    n = 64 * 1000
    a, b = np.zeros(n, np.uint8), np.zeros(n, np.uint8)
    steps = []
    for k in range(1, 50):
        fill = fill_arguments(k, n)
        copy = COPY.values({"x": (0, 0), "y": (1, 0), "nbytes": n, "chunk": 64})
        steps.append((FILL.address, fill, 1000, k % 3 == 0))
        steps.append((COPY.address, copy, 1000, 0))
    program = Program(steps, 2, 0, 2)
    program.set_base(0, a.ctypes.data)
    program.set_base(1, b.ctypes.data)
    for _ in range(20):
        program.run(0, len(steps))
        assert (b == 49).all()


def test_run_of_several_programs_at_once_gives_each_its_result():
    wrong = []

    def work(value):
        memory = np.zeros(100_000, np.uint8)
        program = Program([fill_step(value, 100_000)] * 10, 1, 0, 2)
        program.set_base(0, memory.ctypes.data)
        for _ in range(200):
            memory[:] = 0
            program.run(0, 10)
            if not (memory == value).all():
                wrong.append(value)

    threads = [threading.Thread(target=work, args=(v,)) for v in (1, 2, 3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_run_after_fork_uses_new_workers():
    memory = np.zeros(1000, np.uint8)
    program = Program([fill_step(5, 1000)], 1, 0, 2)
    program.set_base(0, memory.ctypes.data)
    program.run(0, 1)
    child = os.fork()
    if child == 0:
        memory[:] = 0
        program.run(0, 1)
        os._exit(0 if (memory == 5).all() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_run_timed_gives_one_time_per_record():
    memory = np.zeros(1 << 16, np.uint8)
    program = Program([fill_step(5, 1 << 16)] * 7, 1, 0, 1)
    program.set_base(0, memory.ctypes.data)
    times = program.run_timed(0, 7)
    assert len(times) == 7
    assert all(t >= 0 for t in times)


def test_run_refuses_records_that_do_not_exist():
    with pytest.raises(IndexError):
        Program([fill_step(5, 10)], 1, 0, 1).run(0, 2)


def table_of(steps):
    """The same steps as arrays; values that are no pointers are integers here."""
    pairs = [v if isinstance(v, tuple) else (-1, v or 0) for _, arguments, _, _ in steps for v in arguments]
    columns = [[s[0] for s in steps], [len(s[1]) for s in steps], [s[2] for s in steps], [s[3] for s in steps]]
    columns += [[value for _, value in pairs], [base for base, _ in pairs]]
    return RecordTable(*(np.array(column, np.int64) for column in columns))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_program_of_arrays_does_what_the_same_steps_do(threads):
    steps = [fill_step(k % 200, 1000, base=k % 3, offset=100 * (k // 3)) for k in range(60)]
    found = []
    for given in (steps, table_of(steps)):
        memory = [np.zeros(4096, np.uint8) for _ in range(3)]
        program = Program(given, 3, 0, threads)
        for base in (2, 0, 1):
            program.set_base(base, memory[base].ctypes.data)
        program.run(0, len(program))
        found.append(np.concatenate(memory))
    assert len(program) == 60 and found[0].any()
    np.testing.assert_array_equal(found[0], found[1])


def test_arrays_that_do_not_fit_each_other_are_refused():
    steps = [fill_step(1, 64), fill_step(2, 64)]
    for name, error in [("counts", ValueError), ("serial", ValueError), ("bases", ValueError)]:
        table = table_of(steps)
        setattr(table, name, getattr(table, name)[:-1])
        with pytest.raises(error):
            Program(table, 1, 0, 1)
    table = table_of(steps)
    table.counts[0] += 1
    with pytest.raises(IndexError):
        Program(table, 1, 0, 1)
    with pytest.raises(IndexError):
        Program(table_of([fill_step(1, 64, base=1)]), 1, 0, 1)
    assert len(Program(table_of(steps[:0]), 0, 0, 1)) == 0


ON_ONE_PROCESSOR = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
import numpy as np
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.program import Program
fill = kernel_set()["fill_elements"]
memory, value = np.zeros(1 << 25, np.uint8), np.ones(1, np.uint8)
def step(nbytes, chunk):
    arguments = {"x": (-1, value.ctypes.data), "y": (0, 0), "nbytes": nbytes, "item": 1, "chunk": chunk}
    return fill.address, fill.values(arguments), nbytes // chunk, 0
program = Program([step(1 << 25, 1 << 16), *[step(256, 64)] * 4], 1, 0, 2)
program.set_base(0, memory.ctypes.data)
print(*(int(program.run_timed(0, 5)[0] > 100_000) for _ in range(10)))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="there is no affinity on this system")
def test_time_goes_to_the_step_that_took_it_when_threads_wait_for_a_processor():
    """With two threads on one processor, one of them often sees the end of a step long after it."""
    done = subprocess.run([sys.executable, "-c", ON_ONE_PROCESSOR], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["1"] * 10
