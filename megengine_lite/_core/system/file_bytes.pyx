"""The bytes of a model file in our own memory, so that a later write to the file cannot change a network.

A file is read once, whole. Once kernels have packed weights, the original bytes are not needed until a plan for another
shape needs another packed form. So their pages are given back to the system, and a checksum is kept. When they are
needed again they are read from the file, which stays mapped for that purpose; a mapping keeps the old content of a file
that is deleted or replaced by another. Bytes with another checksum are an error: the file was overwritten in place.

Our own code never reads the mapping: if the file has become shorter, that would end the process with a signal. Instead
the operating system copies the bytes through a pipe, and reports an error for those that do not exist. The mapping
needs no open file. docs/design/file-bytes.md says why files are read and not mapped.
"""

import os

from cython cimport critical_section
from cpython.buffer cimport PyBUF_READ, PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.memoryview cimport PyMemoryView_FromMemory
from libc.errno cimport errno
from libc.stdint cimport uint8_t, uint64_t
from libc.stdlib cimport calloc, free
from posix.unistd cimport read, write

from megengine_lite._core.system.memory_limit import describe_bytes, memory_limit
from megengine_lite._core.system.hashes import xxh64
from megengine_lite.errors import LiteMemoryError, ModelFormatError, os_error

cdef extern from "pages.h":
    void* ml_pages(size_t nbytes)
    void ml_free_pages(void* p, size_t nbytes)
    bint ml_forget_pages(void* p, size_t nbytes)
    void* ml_keep_file(int file, size_t nbytes)
    void* ml_share_file(int file, size_t begin, size_t nbytes)
    void ml_unmap_file(void* p, size_t nbytes)


cdef enum:
    READ_BYTES = 1 << 24    # between two looks for signals
    PIPE_BYTES = 1 << 16    # what a pipe holds on most systems
    LEAST_PAGES = 4         # smaller pieces are kept: giving them back takes longer than it is worth

cdef size_t PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
# The seed is secret: without it nobody can make other bytes with the same checksum.
cdef uint64_t SEED = int.from_bytes(os.urandom(8), "little")


cdef class FileBytes:
    """All bytes of a file, read-only, as a buffer.

    Parameters
    ----------
    file
        Open for reading, unbuffered, at its beginning. It may be closed afterwards.
    what
        Name of the file for messages.

    Raises
    ------
    ModelFormatError
        The file changes while it is read.
    LiteMemoryError
        There is not enough memory.
    """

    cdef char* data
    cdef char* mapped       # the file, or NULL if it cannot be mapped
    cdef uint8_t* users     # for each page, whether no piece, one, or several have all of it
    cdef size_t room        # bytes that data has, whole pages; mapped has less, if any
    cdef readonly Py_ssize_t views   # buffers that show all bytes, not a piece
    cdef bint parted        # whether a piece has been given back
    cdef readonly size_t size
    cdef readonly str what

    def __cinit__(self, file, str what):
        cdef int number = file.fileno()
        before = os.fstat(number)
        size = before.st_size
        self.what = what
        self.size = size
        self.room = (self.size // PAGE + 2) * PAGE  # and a page behind: kernels load whole vectors
        if size <= memory_limit():
            self.data = <char*>ml_pages(self.room)
        if self.data == NULL:
            raise LiteMemoryError(f"{what}: there is not enough memory for the file's {describe_bytes(size)}")
        self.users = <uint8_t*>calloc(self.room // PAGE, 1)
        if self.users == NULL:
            raise LiteMemoryError(f"{what}: there is not enough memory to keep count of the file's parts")
        self.fill(file)
        after = os.fstat(number)
        if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise ModelFormatError(f"{what}: the file was changed while it was read; load it again")
        self.mapped = <char*>ml_keep_file(number, self.size)

    cdef fill(self, file):
        cdef size_t done = 0
        while done < self.size:
            count = file.readinto(
                PyMemoryView_FromMemory(self.data + done, min(self.size - done, <size_t>READ_BYTES), PyBUF_WRITE)
            )
            if not count:
                raise ModelFormatError(
                    f"{self.what}: the file was cut off while it was read, at byte {done} of {self.size}; load it again"
                )
            done += <size_t>count

    def __dealloc__(self):
        free(self.users)
        if self.data != NULL:
            ml_free_pages(self.data, self.room)
        if self.mapped != NULL:
            ml_unmap_file(self.mapped, self.size)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        if self.parted:
            raise BufferError(f"{self.what}: parts of the bytes have been given back; look at pieces")
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 1, flags)
        with critical_section(self):
            self.views += 1

    def __releasebuffer__(self, Py_buffer* buffer):
        with critical_section(self):
            self.views -= 1

    def piece(self, view):
        """The part of these bytes that a memoryview shows, as a :class:`FilePiece`."""
        cdef Py_buffer buffer
        cdef FilePiece piece = FilePiece.__new__(FilePiece)
        cdef size_t first, count, k
        PyObject_GetBuffer(view, &buffer, PyBUF_SIMPLE)
        piece.owner = self
        piece.begin = <char*>buffer.buf - self.data
        piece.size = buffer.len
        PyBuffer_Release(&buffer)
        if piece.size and (<size_t>piece.begin > self.size or piece.begin + piece.size > <Py_ssize_t>self.size):
            raise ValueError("the view shows other memory")
        first, count = piece.pages()
        with critical_section(self):
            for k in range(first // PAGE, (first + count) // PAGE):
                self.users[k] = min(self.users[k] + 1, 2)
        return piece


cdef class FilePiece:
    """Some bytes of a file, as a read-only buffer. While no view of them exists they need no memory."""

    cdef readonly FileBytes owner
    cdef Py_ssize_t begin
    cdef Py_ssize_t size
    cdef readonly Py_ssize_t views   # buffers that are held
    cdef bint idle          # nobody is expected to look at them soon
    cdef bint absent        # the whole pages inside are with the system
    cdef bint known         # whether there is a checksum
    cdef object checksum

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        with critical_section(self.owner):
            self.views += 1  # from now on no other thread gives the pages back
            try:
                if self.absent:
                    self.fetch()
                PyBuffer_FillInfo(buffer, self, self.owner.data + self.begin, self.size, 1, flags)
            except BaseException:
                self.views -= 1
                raise
            self.idle = False

    def __releasebuffer__(self, Py_buffer* buffer):
        with critical_section(self.owner):
            self.views -= 1
            self.drop()

    def release(self):
        """Frees the memory as soon as no view of the bytes exists; the next view reads them again."""
        with critical_section(self.owner):
            self.idle = True
            self.drop()

    @property
    def is_absent(self):
        return self.absent

    cdef (size_t, size_t) pages(self):
        """The begin of the first whole page, and the number of bytes of all whole pages."""
        cdef size_t first = (self.begin + PAGE - 1) // PAGE * PAGE
        cdef size_t end = (self.begin + self.size) // PAGE * PAGE
        return first, end - first if end > first else 0

    cdef hash_pages(self, size_t first, size_t count):
        return xxh64(PyMemoryView_FromMemory(self.owner.data + first, count, PyBUF_READ), SEED)

    cdef drop(self):
        cdef size_t first, count, k
        if not self.idle or self.absent or self.views or self.owner.views or self.owner.mapped == NULL:
            return
        first, count = self.pages()
        if count < LEAST_PAGES * PAGE:
            return
        for k in range(first // PAGE, (first + count) // PAGE):
            if self.owner.users[k] > 1:
                return  # files can name the same bytes twice
        if not self.known:
            self.checksum = self.hash_pages(first, count)
            self.known = True
        self.owner.parted = True
        self.absent = ml_forget_pages(self.owner.data + first, count)

    cdef fetch(self):
        """Reads the pages again."""
        cdef size_t first, count
        first, count = self.pages()
        if copy_mapped(self.owner.data + first, self.owner.mapped + first, count):
            if self.hash_pages(first, count) == self.checksum:
                self.absent = False
                return
        ml_forget_pages(self.owner.data + first, count)
        raise ModelFormatError(
            f"{self.owner.what}: the file was overwritten after it was loaded, and weights are needed from it again, for a "
            "new plan: the first forward, or inputs of another shape. Load it again. To exchange the file of a running program write another and rename it, or load "
            "the bytes: load(Path(file).read_bytes())"
        )


cdef class MappedFile:
    """Bytes of a file, read-only, as a buffer that processes share: their pages are those of the system's cache.

    The file must not be overwritten or cut in place as long as this exists; it may be replaced by renaming.

    Parameters
    ----------
    file
        Open for reading. It may be closed afterwards.
    what
        Name of the file for messages.
    begin, size
        Which bytes: all by default. They begin at a multiple of the page's size.

    Raises
    ------
    LiteOSError, LiteMemoryError
        It cannot be mapped.
    """

    cdef char* data
    cdef readonly Py_ssize_t size

    def __cinit__(self, file, str what, size_t begin=0, size=None):
        cdef int number = file.fileno()
        cdef int refusal
        self.size = os.fstat(number).st_size - begin if size is None else size
        if not self.size:
            return
        self.data = <char*>ml_share_file(number, begin, self.size)
        if self.data == NULL:
            refusal = errno
            error = OSError(refusal, os.strerror(refusal))
            raise os_error(error, f"{what} cannot be mapped: {error.strerror}", what)

    def __dealloc__(self):
        if self.data != NULL:
            ml_unmap_file(self.data, self.size)

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.data, self.size, 1, flags)


cdef bint copy_mapped(char* target, const char* source, size_t count) except *:
    """Copies bytes of a mapped file; False if the file has become too short."""
    cdef size_t done = 0
    cdef ssize_t moved, taken
    cdef int reader, writer
    try:
        reader, writer = os.pipe()
    except OSError as error:
        raise os_error(error, f"weights cannot be read again from the model's file: {error.strerror}", "") from error
    try:
        os.set_blocking(writer, False)  # a pipe may hold less
        while done < count:
            moved = write(writer, source + done, min(count - done, <size_t>PIPE_BYTES))
            if moved <= 0:
                return False
            while moved > 0:
                taken = read(reader, target + done, moved)
                if taken <= 0:
                    return False
                done += taken
                moved -= taken
        return True
    finally:
        os.close(reader)
        os.close(writer)
