"""Jobs: forward passes that may run later on another thread, and locks for what only one thread may do at a time.

A :class:`Job` is run once, by the first thread that gets to it: the network's :class:`Worker`, or the thread that waits
for it. So ``forward(); wait()`` needs no change of threads, and if a program does something else in between, its result
is computed meanwhile. :class:`Turns` is the part of a network that decides who computes when.

Ctrl-C, or any signal handler that raises, can end a Python function between any two of its steps, also in the first
step of a ``finally``. It cannot end a compiled function, which runs no signal handlers: there an exception comes only
from what it calls. Therefore everything that must not stay half done (locks, states of jobs, posting to a worker) is
done in this compiled module, around calls of Python code that may end at any place.

Attributes that several threads read and change are used inside of critical sections. These exist on Pythons without the
GIL only; elsewhere they are nothing.
"""

from cython cimport critical_section
from cpython.exc cimport PyErr_CheckSignals

from megengine_lite._core.runtime.mutex cimport Mutex, PyThread_get_thread_ident

import threading

from megengine_lite.errors import LiteError
from megengine_lite.log import logger


cdef enum:
    MADE        # nobody waits for it: it may never be posted
    POSTED
    RUNNING
    FINISHED


cdef class Job:
    """A piece of work, made by :meth:`Turns.new_job` and started when ``forward`` posts it.

    Attributes
    ----------
    error : BaseException or None
        The exception that ended the work, until ``network.wait`` has raised it.
    was_waited_for : bool
        Whether the waiting thread had to do the work.
    """

    cdef object _work
    cdef Turns _turns           # None when it is finished: a tensor that knows its job does not hold the network
    cdef Worker _worker         # the only one that may do it; if None, any thread that waits may
    cdef object _done           # a lock, held until the job is finished
    cdef int _state
    cdef unsigned long _runner  # thread in the middle of it
    cdef bint _seen             # somebody has seen the error
    cdef object _error
    cdef readonly bint was_waited_for

    @property
    def error(self):
        return self.own_error()

    cdef own_error(self):
        with critical_section(self):
            return self._error

    cdef take_error(self):
        """The error, which nobody else will get."""
        with critical_section(self):
            error, self._error = self._error, None
        return error

    @property
    def finished(self):
        """Whether the work has ended."""
        return self._state == FINISHED

    cdef bint is_mine(self):
        """Whether the calling thread is in the middle of it."""
        return self._state == RUNNING and self._runner == PyThread_get_thread_ident()

    cdef renew_lock(self):
        self._done = threading.Lock()
        self._done.acquire()

    cdef bint run(self, bint waits) except -1:
        """Does the work; False if another thread has begun it. ``waits`` says whether this thread waits for it."""
        cdef Turns turns
        with critical_section(self):
            if self._state != POSTED:
                return False
            work, turns = self._work, self._turns
            self._runner = PyThread_get_thread_ident()
            self._state = RUNNING
            self.was_waited_for = waits
        try:
            work()
        except BaseException as error:
            with critical_section(self):
                self._error = error
            turns.doubt(error)
            turns.note_failure(self, error)
        with critical_section(self):
            self._state = FINISHED
        self._done.release()
        with critical_section(self):
            self._work = self._turns = self._worker = None
        return True

    cdef raise_interrupt(self):
        """Raises what ended the work on this thread, if it was Ctrl-C or the like, which only this thread can raise."""
        error = self.own_error()
        if error is not None and not isinstance(error, Exception):
            self.take_error()
            raise error

    cpdef join(self):
        """Returns when the work is done. Called from inside of the work itself it returns at once."""
        cdef bint may_run
        with critical_section(self):
            if self._state == FINISHED or self._state == MADE or self.is_mine():
                return
            may_run = self._state == POSTED and (self._worker is None or self._worker.is_current())
            done = self._done
        if may_run and self.run(waits=True):
            self.raise_interrupt()
            return
        done.acquire()
        done.release()

    cpdef wait(self):
        """Like :meth:`join`, then raises the exception that ended the work, if there was one."""
        self.join()
        error = self.own_error()
        if error is not None:
            self._seen = True
            raise error

    cdef after_fork(self):
        """After a fork: the child has none of its parent's threads, so a thread that waits does unfinished work."""
        if self._state in (POSTED, RUNNING) and not self.is_mine():  # a fork inside of the work goes on with it
            self._state = POSTED
            self._worker = None
            self.renew_lock()


cdef class Line:
    # What a worker and its thread share.
    cdef object queue
    cdef unsigned long thread


class _Thread(threading.Thread):
    def __init__(self, line):
        super().__init__(name="megengine_lite-forward", daemon=True)
        self._line = line

    def run(self):
        serve(self._line)


cdef serve(Line line):
    cdef Job job
    line.thread = PyThread_get_thread_ident()
    while True:
        job = line.queue.get()
        if job is None:
            return
        job.run(waits=False)
        job = None  # it holds its network


cdef bint told_of_threads = False


cdef tell_of_threads(error):
    global told_of_threads
    if not told_of_threads:
        told_of_threads = True
        logger.warning(
            "no thread can be started (%s): forward computes on the thread that calls it, as in inplace mode. Raise the "
            "limit on processes and threads (ulimit -u, the pids limit of the container) to compute in the background",
            error,
        )


cdef class Worker:
    """A thread that runs jobs in order. It starts with the first job and never keeps a program from ending."""

    cdef Line _line

    cdef bint is_current(self):
        """Whether the calling thread is this worker's."""
        with critical_section(self):
            return self._line is not None and self._line.thread == PyThread_get_thread_ident()

    cdef queue(self):
        """The queue of its thread, which is started if necessary; None if the system gives no thread."""
        cdef Line line
        if self._line is None:
            line = Line.__new__(Line)
            try:
                from queue import SimpleQueue  # here, because most programs need no thread

                line.queue = SimpleQueue()
                _Thread(line).start()
            except (RuntimeError, MemoryError, ImportError) as error:
                tell_of_threads(error)
                return None
            except BaseException:
                if line.queue is not None:
                    line.queue.put(None)  # the thread may have been started all the same
                raise
            with critical_section(self):
                self._line = line
        return self._line.queue

    def __del__(self):
        if self._line is not None:
            self._line.queue.put(None)


cdef class Turns:
    """Who computes when: the base of a network's engine, which knows how to compute.

    Calls that change the network run one after the other. They wait for a job that is under way, unless they come from
    inside of that job: its callbacks may use the network.

    Subclasses have ``_forward()``, which computes and returns None, or returns a job that is to be posted;
    ``_recover()``, which removes everything from earlier forwards that could affect the next one;
    ``_call_start(callback)`` and ``_call_finish(callback)``.
    """

    cdef Mutex _lock
    cdef Job _last                  # the last job
    cdef list _outer                # jobs that were not finished when others began inside of their callbacks
    cdef Worker _worker
    cdef object _failure            # of an earlier forward that nobody has been told of
    cdef bint _doubtful             # a forward has ended somewhere in the middle
    cdef unsigned long _starting    # thread inside of the start callback, under the lock
    cdef set _finishing             # threads inside of the finish callback
    cdef public object start_callback

    def __cinit__(self, *arguments, **named):
        self._lock = Mutex()
        self._outer = []
        self._finishing = set()

    cdef doubt(self, error):
        """Notes an error that may have ended Python code anywhere; errors of this package come from known places."""
        if not isinstance(error, LiteError):
            self._doubtful = True

    @property
    def _job(self):
        return self.last_job()

    cdef Job last_job(self):
        with critical_section(self):
            return self._last

    cdef note_failure(self, Job job, error):
        """Keeps the error of a job if a callback of it has begun another forward before it failed."""
        with critical_section(self):
            if self._last is not job:
                self._failure = error

    cdef Mutex enter(self):
        """Takes the lock when no forward is under way, and returns it."""
        cdef Job job
        cdef Mutex lock
        while True:
            job = self.last_job()
            if job is not None:
                job.join()
            lock = self._lock
            lock.take()
            job = self.last_job()
            if job is None or job._state == FINISHED or job.is_mine():
                return lock
            lock.give()

    def exclusively(self, function, *arguments):
        """Calls ``function(*arguments)`` while no forward is under way and none can begin."""
        cdef Mutex lock = self.enter()
        try:
            return function(*arguments)
        except BaseException as error:
            self.doubt(error)
            raise
        finally:
            lock.give()

    def forward(self):
        """Computes, or posts a job that will.

        No job is left after an exception. If the exception may have come from any place, the next call recovers first.
        """
        cdef Job job = None
        cdef bint here = False
        queue = None
        cdef Mutex lock = self.enter()
        try:
            if self._doubtful:
                self._recover()
                self._doubtful = False
            if self.start_callback is not None and not self._starting:
                self.call_start()
            job = self._forward()
            # The start callback holds the lock until it ends, and may wait for the job.
            here = job is not None and self._starting != 0
            if job is not None and not here:
                queue = self._worker.queue()
            self.set_job(job)
            if here:
                job.run(waits=False)
                job.raise_interrupt()
        except BaseException as error:
            self.doubt(error)
            raise
        finally:
            lock.give()
        if job is None or here:
            return
        if queue is not None:
            # This comes last, because programs take the callback as a sign that forward is over.
            queue.put(job)
        else:
            job.run(waits=False)
            job.raise_interrupt()

    cdef call_start(self):
        self._starting = PyThread_get_thread_ident()  # a forward inside of it does not call it again
        try:
            self._call_start(self.start_callback)
        finally:
            self._starting = 0

    cdef set_job(self, Job job):
        """Replaces the last job. If that has failed and nobody was told, the next wait raises its error."""
        cdef Job last = self.last_job()
        if last is not None:
            error = last.own_error()
            if error is not None and not last._seen:
                with critical_section(self):
                    self._failure = error
            if last._state != FINISHED:
                self._outer = [other for other in self._outer if not other.finished] + [last]
        if job is not None:
            job._state = POSTED
        with critical_section(self):
            self._last = job

    def new_job(self, work, bint only_worker):
        """A job that calls ``work()``, on the worker's thread or, without ``only_worker``, on any that waits for it."""
        cdef Job job = Job.__new__(Job)
        if self._worker is None:
            self._worker = Worker()
        job._work = work
        job._turns = self
        job._worker = self._worker if only_worker else None
        job.renew_lock()
        return job

    def wait(self):
        """Returns when the last forward is done; raises its error, if there was one."""
        cdef Job job = self.last_job()
        failure = None
        if job is not None:
            job.join()
            failure = job.take_error()
        with critical_section(self):
            if failure is None or failure is self._failure:
                failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def finish(self, callback):
        """Calls the finish callback, unless this is a wait inside of it."""
        me = PyThread_get_thread_ident()
        if me in self._finishing:
            return
        self._finishing.add(me)
        try:
            self._call_finish(callback)
        finally:
            self._finishing.discard(me)

    def after_fork(self):
        """After a fork: makes new locks, since the old ones may be held by threads that the child does not have.

        Says whether such a thread was in the middle of a call that nobody goes on with.
        """
        cdef Job job
        cdef bint left = self._lock.owner != 0
        me = PyThread_get_thread_ident()
        left = left and self._lock.owner != me
        self._lock = Mutex()
        self._finishing &= {me}
        if self._starting != me:
            self._starting = 0
        if self._worker is not None:
            self._worker._line = None
        for job in [*self._outer, self._last]:
            if job is not None:
                job.after_fork()
                left = left and job._state == FINISHED
        return left


cdef class Exclusive:
    """Something that one thread at a time may use, and not again while it is using it."""

    cdef Mutex _lock

    def __cinit__(self, *arguments, **named):
        self._lock = Mutex()

    def use(self, function):
        """Calls ``function()`` when no other thread is using it.

        Raises
        ------
        LiteError
            The calling thread is inside of another call.
        """
        cdef Mutex lock = self._lock
        lock.take()
        try:
            if lock.depth > 1:
                raise LiteError("an operator cannot run a network that needs the memory which the operator runs in")
            return function()
        finally:
            lock.give()

    def use_if_idle(self, function):
        """Calls ``function()``, unless a thread is using it now."""
        cdef Mutex lock = self._lock
        if lock.take_if_free():
            try:
                if lock.depth == 1:
                    function()
            finally:
                lock.give()

    def after_fork(self):
        """After a fork: the thread that was using it may not exist in the child."""
        if self._lock.owner != PyThread_get_thread_ident():
            self._lock = Mutex()


def locked(lock, function, *arguments):
    """Calls ``function(*arguments)`` with the lock held. No signal handler runs between the call and the lock."""
    lock.acquire()
    try:
        return function(*arguments)
    finally:
        lock.release()
