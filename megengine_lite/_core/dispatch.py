"""Work that may run later, on another thread: forward passes between ``forward`` and ``wait``.

A :class:`Job` is run once, by whoever comes first: the network's :class:`Worker` thread, or the thread that waits for
it. So ``forward(); wait()`` costs no change of threads, and a program that does something else in between gets its
result computed meanwhile.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from weakref import WeakSet


class Job:
    """A piece of work.

    Parameters
    ----------
    work
        What to do.
    worker
        The only one that may do it; by default, any thread that waits may.
    """

    __slots__ = (
        "__weakref__",
        "_claim",
        "_done",
        "_runner",
        "_work",
        "_worker",
        "error",
        "finished",
        "was_told",
        "was_waited_for",
    )

    def __init__(self, work: Callable[[], None], worker: Worker | None = None):
        self._work: Callable[[], None] | None = work
        self._worker = worker
        self.error: BaseException | None = None
        """What ended the work early."""
        self.finished = False
        self.was_waited_for = False
        """Whether the one who waited had to do the work."""
        self.was_told = False
        """Whether somebody has seen the error."""
        self._new_locks()
        _LIVE.add(self)

    def _new_locks(self) -> None:
        self._claim = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()
        self._runner = 0

    def run(self) -> None:
        """Does the work, unless somebody has begun it."""
        if not self._claim.acquire(blocking=False):
            return
        self._runner = threading.get_ident()
        try:
            assert self._work is not None
            self._work()
        except BaseException as error:
            self.error = error
        finally:
            self._work = None
            self.finished = True
            self._done.release()

    def is_mine(self) -> bool:
        """Whether the calling thread is in the middle of it."""
        return self._runner == threading.get_ident()

    def wait(self) -> None:
        """:meth:`join`, then raises what ended the work early."""
        self.join()
        if self.error is not None:
            self.was_told = True
            raise self.error

    def join(self) -> None:
        """Returns when the work is done. Called from inside of the work itself it returns at once."""
        if not self.finished and not self.is_mine():
            if self._worker is None or self._worker.is_current():
                self.was_waited_for = not self._claim.locked()
                self.run()
            with self._done:
                pass


class Worker:
    """A thread that runs jobs in order, started with the first job. It never keeps a program from ending."""

    __slots__ = ("__weakref__", "_queue", "_thread")

    def __init__(self) -> None:
        self._queue: SimpleQueue[Job | None] | None = None
        self._thread: threading.Thread | None = None
        _LIVE.add(self)

    def is_current(self) -> bool:
        """Whether the calling thread is this worker's."""
        return self._thread is threading.current_thread()

    def post(self, job: Job) -> None:
        if self._queue is None:
            self._queue = SimpleQueue()
            self._thread = threading.Thread(
                target=_serve, args=(self._queue,), name="megengine_lite-forward", daemon=True
            )
            self._thread.start()
        self._queue.put(job)

    def __del__(self) -> None:
        if self._queue is not None:
            self._queue.put(None)


def _serve(queue: SimpleQueue[Job | None]) -> None:
    while (job := queue.get()) is not None:
        job.run()
        del job  # a job holds its network


_LIVE: WeakSet[Job | Worker] = WeakSet()


def _after_fork() -> None:
    # The child has none of its parent's threads: workers start again, unfinished work is done by whoever waits for it.
    for item in list(_LIVE):
        if isinstance(item, Worker):
            item._queue = item._thread = None
        elif not item.finished and not item.is_mine():  # a fork inside of the work goes on with it
            item._worker = None
            item._new_locks()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
