"""Things that threads borrow: the workers of a model. Compiled, so that no signal handler runs between two steps."""

from megengine_lite._core.runtime.mutex cimport Mutex, PyThread_get_thread_ident

from megengine_lite.errors import LiteError


cdef class Loans:
    """Things that threads borrow, one each. Who finds none waits until one comes back.

    A thread in the middle of a call cannot borrow again: if all did, each would wait for the others.

    Parameters
    ----------
    things
        What is lent.
    refusal
        The error's message for a thread that borrows again.
    """

    cdef object _free       # a queue of what nobody has
    cdef list _things
    cdef dict _held         # what each thread has that is in the middle of a call
    cdef Mutex _all         # two threads that each hold a part of the things would wait for each other
    cdef bint _closed
    cdef str _refusal

    def __cinit__(self, things, str refusal):
        from queue import SimpleQueue  # here, as for workers

        self._things = list(things)
        self._held = {}
        self._all = Mutex()
        self._refusal = refusal
        self._free = SimpleQueue()
        for thing in self._things:
            self._free.put(thing)

    @property
    def free(self):
        """How many things nobody has."""
        return self._free.qsize()

    cdef unsigned long borrower(self) except? 0:
        cdef unsigned long me = PyThread_get_thread_ident()
        if me in self._held:
            raise LiteError(self._refusal)
        return me

    def require_outside(self):
        """Raises a LiteError if the calling thread is in the middle of a call."""
        self.borrower()

    def lend(self, function, *arguments):
        """``function(thing, *arguments)`` with a thing that nobody else has, or None if all have been taken away."""
        cdef unsigned long me = self.borrower()
        thing = self._free.get()
        self._held[me] = [thing]
        try:
            return function(thing, *arguments)
        finally:
            self.give_back(me)

    def lend_each(self, function, *arguments):
        """``function(thing, *arguments)`` with every thing; each is kept until the last call has ended."""
        cdef unsigned long me = self.borrower()
        cdef Mutex lock = self._all
        cdef list held = []
        lock.take()
        self._held[me] = held
        try:
            for _ in range(1 if self._closed else len(self._things)):
                thing = self._free.get()
                held.append(thing)
                function(thing, *arguments)
        finally:
            self.give_back(me)
            lock.give()

    def beside(self, function, *arguments):
        """``function(*arguments)``, a call that needs nothing of this but may run what must not borrow."""
        cdef unsigned long me = self.borrower()
        self._held[me] = []
        try:
            return function(*arguments)
        finally:
            self.give_back(me)

    def take_away(self):
        """Waits until every thing has come back and takes it. From now on None is lent."""
        self.borrower()
        cdef Mutex lock = self._all
        lock.take()
        try:
            while self._things:
                self._free.get()
                self._things.pop()
        finally:
            lock.give()
        self._closed = True
        self._free.put(None)

    cdef give_back(self, unsigned long me):
        for thing in self._held.pop(me):
            self._free.put(thing)

    def after_fork(self):
        """After a fork: what threads had that the child does not have comes back."""
        from queue import SimpleQueue

        cdef unsigned long me = PyThread_get_thread_ident()
        cdef list held = self._held.get(me)
        self._held = {} if held is None else {me: held}
        self._free = SimpleQueue()
        for thing in [None] if self._closed else self._things:
            if held is None or not any(thing is other for other in held):
                self._free.put(thing)
        if self._all.owner != me:
            self._all = Mutex()
