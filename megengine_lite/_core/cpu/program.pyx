"""The program of a plan: a flat array of C records, replayed without the GIL."""

from cpython.buffer cimport PyBUF_WRITE
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.stdint cimport int64_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from megengine_lite._core.cpu.threads cimport (
    choose_cores, progress_made, progress_seen, progress_wait, run_on_threads, tell_of_refusal,
)
from megengine_lite.kernels.common.kernel cimport kernel_fn


cdef extern from "platform.h" nogil:
    int64_t ml_now_ns()
    void* ml_aligned(size_t alignment, size_t nbytes)
    void ml_free_aligned(void* p)
    unsigned long long ml_flush_denormals()
    void ml_restore_denormals(unsigned long long old)


cdef extern from * nogil:
    """
    #define ml_add(p, v) __atomic_add_fetch(p, v, __ATOMIC_SEQ_CST)
    #define ml_load(p) __atomic_load_n(p, __ATOMIC_SEQ_CST)
    #define ml_claim(p) (!__atomic_load_n(p, __ATOMIC_RELAXED) && !__atomic_exchange_n(p, 1, __ATOMIC_SEQ_CST))
    """
    int64_t ml_add(int64_t* p, int64_t v)
    int64_t ml_load(int64_t* p)
    bint ml_claim(char* p)


cdef enum:
    PIECES = 4  # of a record that are a thread's own


cdef struct Record:
    kernel_fn kernel
    int64_t* args       # each of 8 bytes, in the order of the kernel's struct; see kernels/common/kernel.h
    int64_t work
    int64_t pieces      # into which the work is cut for threads
    char* claimed       # for each piece, whether a thread has taken it in the current run
    int64_t done        # pieces that are done in the current run


# A pointer of a record that depends on an external base.
cdef struct Patch:
    int64_t record
    int64_t slot
    int64_t offset


cdef struct Replay:
    Record* records
    int64_t begin
    int64_t end
    char* scratch
    int64_t scratch_stride
    int64_t* clock      # end time of each record, or NULL


cdef void replay_alone(Replay* run, char* scratch) noexcept nogil:
    cdef int64_t k
    cdef Record* r
    for k in range(run.begin, run.end):
        r = &run.records[k]
        r.kernel(r.args, 0, r.work, scratch)
        if run.clock:
            run.clock[k] = ml_now_ns()


cdef void replay_together(Replay* run, char* scratch, int thread, int threads) noexcept nogil:
    """Takes pieces of each record until there are none, its own first, then waits until the record is done."""
    cdef int64_t k, n, piece, seen
    cdef Record* r
    for k in range(run.begin, run.end):
        r = &run.records[k]
        piece = r.pieces * thread // threads
        for n in range(r.pieces):
            if ml_claim(&r.claimed[piece]):
                r.kernel(r.args, r.work * piece // r.pieces, r.work * (piece + 1) // r.pieces, scratch)
                if run.clock:
                    # Before the piece counts as done. What the last one writes stays, whichever thread that is: one
                    # that is kept from its processor would read the time long after the record ended.
                    run.clock[k] = ml_now_ns()
                if ml_add(&r.done, 1) == r.pieces:
                    progress_made()
            piece += 1
            if piece == r.pieces:
                piece = 0
        while ml_load(&r.done) < r.pieces:
            seen = progress_seen()
            if ml_load(&r.done) < r.pieces:
                progress_wait(seen)


cdef void replay(void* context, int thread, int threads) noexcept nogil:
    cdef Replay* run = <Replay*>context
    cdef char* scratch = run.scratch + thread * run.scratch_stride
    cdef unsigned long long mode = ml_flush_denormals()
    if threads == 1:
        replay_alone(run, scratch)
    else:
        replay_together(run, scratch, thread, threads)
    ml_restore_denormals(mode)


def array_at(uintptr_t address, Py_ssize_t nbytes):
    """A writable memoryview of memory that the caller keeps alive."""
    return PyMemoryView_FromMemory(<char*>address, nbytes, PyBUF_WRITE)


class RecordTable:
    """The steps of a program as arrays of int64.

    Attributes
    ----------
    kernels, counts, work, serial : array
        For each step the address of its kernel, how many arguments it has, and the rest as for :class:`Program`.
    values, bases : array
        For each argument of all steps its bytes, or the base of a pointer and its offset there. ``bases`` is -1 for
        all that depends on no base.
    """

    def __init__(self, kernels, counts, work, serial, values, bases):
        self.kernels = kernels
        self.counts = counts
        self.work = work
        self.serial = serial
        self.values = values
        self.bases = bases

    def __len__(self):
        return len(self.kernels)


cdef class Program:
    """Records made from the steps of a plan.

    Parameters
    ----------
    steps : list of (address, arguments, work, serial), or RecordTable
        ``arguments`` are those of the kernel in the order of its struct: int, float, or a pointer. That is a pair
        ``(base, offset)`` where ``base`` -1 means that ``offset`` is an absolute address and others index the external
        bases, or None for a null pointer.
    bases : int
        Number of external bases; :meth:`set_base` gives each its address before the first run.
    scratch : int
        Bytes of scratch that each thread needs.
    threads : int
        How many threads may take part.
    """

    cdef Record* records
    cdef int64_t* arguments     # of all records
    cdef char* claims           # of all records
    cdef Patch* patches
    cdef int64_t* patch_begin   # patches of base b: patch_begin[b] .. patch_begin[b + 1]
    cdef uintptr_t* addresses
    cdef char* scratch
    cdef int64_t count, bases, scratch_stride
    cdef int threads
    cdef int64_t* clock

    def __cinit__(self, steps, int bases, int64_t scratch, int threads):
        is_table = isinstance(steps, RecordTable)
        arguments = len(steps.values) if is_table else sum([len(step[1]) for step in steps])
        self.count = len(steps)
        self.bases = bases
        self.threads = max(threads, 1)
        if self.threads > 1:
            choose_cores()
        self.scratch_stride = (scratch + 4095) // 4096 * 4096
        self.records = <Record*>calloc(self.count + 1, sizeof(Record))
        self.arguments = <int64_t*>calloc(arguments + 1, sizeof(int64_t))
        self.claims = <char*>calloc(self.count + 1, self.threads * PIECES)
        self.addresses = <uintptr_t*>calloc(bases + 1, sizeof(uintptr_t))
        self.patch_begin = <int64_t*>calloc(bases + 2, sizeof(int64_t))
        if not (self.records and self.arguments and self.claims and self.addresses and self.patch_begin):
            raise MemoryError("no memory for the records of a program")
        if self.scratch_stride:
            self.scratch = <char*>ml_aligned(4096, self.scratch_stride * self.threads)
        if self.scratch_stride and not self.scratch:
            raise MemoryError(f"no memory for {self.scratch_stride * self.threads} bytes of scratch")
        if is_table:
            self.fill_by_table(steps)
        else:
            self.fill(steps)

    cdef void set_record(self, int64_t k, uintptr_t kernel, int64_t work, bint serial, int64_t* arguments) noexcept:
        cdef Record* r = &self.records[k]
        r.kernel = <kernel_fn><void*>kernel
        r.work = work
        r.pieces = 1 if serial or work < 2 else min(work, self.threads * PIECES)
        r.claimed = self.claims + k * self.threads * PIECES
        r.args = arguments

    cdef fill(self, steps):
        cdef int64_t k, slot, base, n
        cdef int64_t* free_arguments
        cdef Record* r
        cdef int64_t bases = self.bases
        patches = [[] for _ in range(bases)]
        free_arguments = self.arguments
        for k, (address, arguments, work, serial) in enumerate(steps):
            r = &self.records[k]
            self.set_record(k, address, work, serial, free_arguments)
            free_arguments += len(arguments)
            for slot, value in enumerate(arguments):
                if value is None:
                    continue
                if isinstance(value, tuple):
                    base, offset = value
                    if base < 0:
                        r.args[slot] = <int64_t><uintptr_t>offset
                    else:
                        patches[base].append((k, slot, offset))
                elif isinstance(value, float):
                    (<double*>r.args)[slot] = value
                else:
                    r.args[slot] = value
        n = sum(map(len, patches))
        self.patches = <Patch*>calloc(n + 1, sizeof(Patch))
        if not self.patches:
            raise MemoryError("no memory for the records of a program")
        n = 0
        for base in range(bases):
            self.patch_begin[base] = n
            for k, slot, offset in patches[base]:
                self.patches[n] = Patch(k, slot, offset)
                n += 1
        self.patch_begin[bases] = n

    cdef fill_by_table(self, table):
        cdef const int64_t[::1] kernels = table.kernels, counts = table.counts, work = table.work
        cdef const int64_t[::1] serial = table.serial, values = table.values, bases = table.bases
        cdef int64_t k, slot, n, base, first = 0
        cdef int64_t arguments = values.shape[0]
        if not self.count == counts.shape[0] == work.shape[0] == serial.shape[0] or bases.shape[0] != arguments:
            raise ValueError("the arrays of a program have different lengths")
        for slot in range(arguments):
            if bases[slot] >= self.bases:
                raise IndexError("no such base")
        for k in range(self.count):
            if counts[k] < 0 or counts[k] > arguments - first:
                raise IndexError("no such arguments")
            self.set_record(k, <uintptr_t>kernels[k], work[k], serial[k] != 0, self.arguments + first)
            first += counts[k]
        n = 0
        for slot in range(arguments):
            if bases[slot] < 0:
                self.arguments[slot] = values[slot]
            else:
                n += 1
                self.patch_begin[bases[slot] + 1] += 1  # how many there are of each base
        self.patches = <Patch*>calloc(n + 1, sizeof(Patch))
        if not self.patches:
            raise MemoryError("no memory for the records of a program")
        for base in range(self.bases):
            self.patch_begin[base + 1] += self.patch_begin[base]
        # Each begin moves to the end of its base meanwhile, which is the begin of the next.
        first = 0
        for k in range(self.count):
            for slot in range(counts[k]):
                base = bases[first + slot]
                if base >= 0:
                    self.patches[self.patch_begin[base]] = Patch(k, slot, values[first + slot])
                    self.patch_begin[base] += 1
            first += counts[k]
        for base in range(self.bases, 0, -1):
            self.patch_begin[base] = self.patch_begin[base - 1]
        self.patch_begin[0] = 0

    def __dealloc__(self):
        free(self.records)
        free(self.arguments)
        free(self.claims)
        free(self.patches)
        free(self.patch_begin)
        free(self.addresses)
        ml_free_aligned(self.scratch)
        free(self.clock)

    def __len__(self):
        return self.count

    @property
    def scratch_bytes(self):
        """Scratch of all threads together."""
        return self.scratch_stride * self.threads

    cpdef set_base(self, int64_t base, uintptr_t address):
        """Sets the address of an external base in all records that use it; takes no time if it has not changed."""
        cdef int64_t k
        cdef Patch* p
        if base < 0 or base >= self.bases:
            raise IndexError("no such base")
        if self.addresses[base] == address:
            return
        self.addresses[base] = address
        for k in range(self.patch_begin[base], self.patch_begin[base + 1]):
            p = &self.patches[k]
            self.records[p.record].args[p.slot] = <int64_t>(address + <uintptr_t>p.offset)

    def base(self, int64_t base):
        """The address of an external base."""
        if base < 0 or base >= self.bases:
            raise IndexError("no such base")
        return self.addresses[base]

    cdef void replay(self, int64_t begin, int64_t end, int64_t* clock) noexcept nogil:
        cdef Replay context
        cdef int64_t k
        context.records = self.records
        context.begin = begin
        context.end = end
        context.scratch = self.scratch
        context.scratch_stride = self.scratch_stride
        context.clock = clock
        if self.threads > 1:
            for k in range(begin, end):
                self.records[k].done = 0
                memset(self.records[k].claimed, 0, self.records[k].pieces)
        run_on_threads(replay, &context, self.threads)

    cpdef run(self, int64_t begin, int64_t end):
        """Runs the records begin..end-1. Every base must have been set."""
        if begin < 0 or end > self.count:
            raise IndexError("no such records")
        with nogil:
            self.replay(begin, end, NULL)
        if self.threads > 1:
            tell_of_refusal(self.threads)

    def run_timed(self, int64_t begin, int64_t end):
        """Like :meth:`run`; returns a list of the nanoseconds that each record took."""
        cdef int64_t start, k
        if begin < 0 or end > self.count:
            raise IndexError("no such records")
        if not self.clock:
            self.clock = <int64_t*>calloc(self.count + 1, sizeof(int64_t))
            if not self.clock:
                raise MemoryError("no memory for a profile")
        with nogil:
            start = ml_now_ns()
            self.replay(begin, end, self.clock)
        out = []
        for k in range(begin, end):
            out.append(self.clock[k] - start)
            start = self.clock[k]
        return out
