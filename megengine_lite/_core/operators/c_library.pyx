# distutils: language = c++
"""Operators from C libraries: opening a library, the table of its loaders, descriptors of operators.

A library is native code with all rights of the process. It is opened only because the user says so: a model file can
name a loader and hand bytes to it, never a path.

The table of loaders is C++ behind a mutex, because libraries may use it from threads of their own. No thread waits for
the mutex while it holds Python's lock, so a library may call with or without that lock.
"""

import os
import threading

from libc.stdint cimport int32_t, uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy
from libcpp.map cimport map as cpp_map
from libcpp.mutex cimport mutex
from libcpp.pair cimport pair
from libcpp.string cimport string
from libcpp.vector cimport vector

from megengine_lite._core.system.tensor_limits cimport MAX_NDIM

from megengine_lite._core.system.files import open_file
from megengine_lite.errors import LiteError, LiteFileNotFoundError, LiteTypeError, LiteValueError, ShapeError
from megengine_lite.log import logger


cdef extern from "libraries.h" nogil:
    int RTLD_LAZY
    int RTLD_LOCAL
    ctypedef struct Dl_info:
        const char* dli_fname
    void* dlopen(const char* path, int flags)
    void* dlsym(void* handle, const char* name)
    char* dlerror()
    int dladdr(const void* address, Dl_info* info)


cdef extern from *:
    """
    /* In place of Cython's own function, which tells more kinds of exceptions apart and needs newer symbols for that. */
    #include <exception>
    #include <new>
    #define __Pyx_CppExn2PyErr raise_cpp_exception
    static void raise_cpp_exception() {
        if (PyErr_Occurred()) return; /* Python's own is the latest */
        try {
            throw;
        } catch (const std::bad_alloc &exception) {
            PyErr_SetString(PyExc_MemoryError, exception.what());
        } catch (const std::exception &exception) {
            PyErr_SetString(PyExc_RuntimeError, exception.what());
        } catch (...) {
            PyErr_SetString(PyExc_RuntimeError, "Unknown exception");
        }
    }
    """


ctypedef void* address_t


cdef struct Loader:
    create_fn create
    int version


cdef enum:
    VERSION = 0x24
    OLD_VERSION = 0x23

TYPE_NAMES = ("float32", "int32", "uint8", "float16", "int16")
"""Element types of the interface, by number."""

_DUMMY_LOADER = b"extern_opr_dummy"


# ---- the table of loaders -----------------------------------------------------------------------------------------

# Never freed: a library may call in until the very end of the process.
cdef mutex* table_lock = new mutex()
cdef cpp_map[string, Loader]* table = new cpp_map[string, Loader]()
cdef vector[pair[string, address_t]]* refused = new vector[pair[string, address_t]]()
cdef size_t attempts = 0  # calls of register_loader so far


cdef int add_loader(const MGBOprLoader* loader, int version) noexcept nogil:
    global attempts
    cdef Loader entry
    cdef string name
    cdef int added = 0
    if loader == NULL or loader.name == NULL or loader.create_desc == NULL:
        return 0
    name = string(loader.name)
    entry.create = loader.create_desc
    entry.version = version
    table_lock.lock()
    attempts += 1
    if table.count(name):
        refused.push_back(pair[string, address_t](name, <address_t>entry.create))
    else:
        table[0][name] = entry
        added = 1
    table_lock.unlock()
    return added


cdef int register_loader(const MGBOprLoader* loader) noexcept nogil:
    return add_loader(loader, VERSION)


cdef int register_old_loader(const MGBOprLoader* loader) noexcept nogil:
    return add_loader(loader, OLD_VERSION)


cdef int unregister_loader(const char* name) noexcept nogil:
    cdef size_t removed
    if name == NULL:
        return 0
    table_lock.lock()
    removed = table.erase(string(name))
    table_lock.unlock()
    return removed != 0


cdef MGBExternCOprApi api = MGBExternCOprApi(register_loader, unregister_loader)
cdef MGBExternCOprApi old_api = MGBExternCOprApi(register_old_loader, unregister_loader)


cdef const MGBExternCOprApi* get_api(int version) noexcept nogil:
    if version == VERSION:
        return &api
    if version == OLD_VERSION:
        return &old_api
    return NULL


cdef bint find_loader(bytes name, Loader* found):
    """Copies the entry, so that the table may change while the loader is called."""
    cdef string key = name
    cdef bint exists
    with nogil:
        table_lock.lock()
        exists = table.count(key) != 0
        if exists:
            found[0] = table[0][key]
        table_lock.unlock()
    return exists


def loader_names():
    """Names of all registered loaders, sorted."""
    cdef vector[string] names
    cdef pair[string, Loader] item
    with nogil:
        table_lock.lock()
        for item in table[0]:
            names.push_back(item.first)
        table_lock.unlock()
    return [_text(name) for name in names]


# ---- libraries ----------------------------------------------------------------------------------------------------

_load_lock = threading.RLock()  # one library at a time, so that what it registers is known to be its own


def load_library(path, init="mgb_c_opr_init"):
    """Opens a library of operators and lets it register its loaders.

    The library stays open until the process ends. Opening it again is no error.

    Parameters
    ----------
    path : str, bytes or os.PathLike
        As for ``dlopen``: a name without a slash is searched for on the library path, not in the working directory.
    init : str
        The library's function that registers the loaders.

    Raises
    ------
    LiteFileNotFoundError
        There is no such file.
    LiteError
        It cannot be opened, or is no library of operators, or its initialization failed.
    """
    cdef bytes encoded
    cdef const char* c_path
    cdef bytes symbol_name = os.fsencode(init)
    cdef const char* symbol = symbol_name
    cdef const char* trouble = NULL
    cdef address_t handle
    cdef address_t entry = NULL
    cdef size_t attempts_before
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise LiteValueError(f"{path!r} is not the path of a library: {error}") from None
    except TypeError:
        raise LiteTypeError(f"the path of a library is a str, bytes or path, not {type(path).__name__}") from None
    if not encoded or b"\0" in encoded:
        raise LiteValueError(f"{path!r} is not the path of a library")
    if os.fsencode(os.sep) in encoded:  # not a name to be searched for
        open_file(os.fsdecode(encoded), pipes=False).close()  # dlopen may wait forever for what is no file
    c_path = encoded
    with _load_lock:
        with nogil:
            handle = dlopen(c_path, RTLD_LAZY | RTLD_LOCAL)
            if handle != NULL:
                entry = dlsym(handle, symbol)
            if entry == NULL:
                trouble = dlerror()
        if entry == NULL:
            reason = trouble.decode(errors="replace") if trouble != NULL else "no reason given"
            kind = LiteError if os.path.exists(encoded) else LiteFileNotFoundError
            raise kind(f"cannot use {_text(encoded)!r} as a library of operators: {reason}")
        attempts_before = attempts
        try:
            with nogil:
                (<init_fn>entry)(get_api)
        except Exception as error:
            raise LiteError(f"{init} of library {_text(encoded)!r} failed: {error}") from error
        finally:
            _warn_of_refused()
        if attempts == attempts_before:
            logger.warning("library %r has not registered any operator", _text(encoded))


def _warn_of_refused():
    """Warns of loaders that another library had registered before."""
    cdef vector[pair[string, address_t]] latest
    cdef pair[string, address_t] item
    cdef Loader kept
    with nogil:
        table_lock.lock()
        latest.swap(refused[0])
        table_lock.unlock()
    for item in latest:
        if not find_loader(item.first, &kept):
            continue
        owner, newcomer = library_of(<address_t>kept.create), library_of(item.second)
        if owner != newcomer:
            logger.warning(
                "library %r wants to register the operator loader %r, which library %r has registered already; "
                "the first one stays", newcomer, _text(item.first), owner
            )  # fmt: skip


cdef str library_of(address_t function):
    """Path of the library that a function is in."""
    cdef Dl_info info
    if dladdr(function, &info) and info.dli_fname != NULL:
        return _text(info.dli_fname)
    return "?"


cdef str _text(bytes name):
    return name.decode(errors="replace")


# ---- operators ----------------------------------------------------------------------------------------------------


cdef class Descriptor:
    """An operator made by a loader; owns what the library made of it.

    Calls into the library release Python's lock and are made one at a time.

    Parameters
    ----------
    name : bytes
        As stored in the model: the loader's name, perhaps followed by a colon and more.
    data : bytes
        What the loader gets; handed over as a private copy that lives as long as the operator.
    n_inputs : int
        Number of inputs.

    Raises
    ------
    LiteError
        There is no such loader, it refuses, or what it makes breaks the rules of the interface.
    """

    cdef MGBOprDesc* desc
    cdef OldOprDesc* old
    cdef void* data
    cdef readonly size_t n_inputs
    cdef readonly size_t n_outputs
    cdef str label
    cdef object lock

    def __cinit__(self, bytes name, bytes data, size_t n_inputs):
        cdef Loader loader
        cdef void* made
        cdef size_t nbytes
        self.lock = threading.RLock()
        self.n_inputs = n_inputs
        self.label = f"extern operator {_text(name)!r}"
        # A name that begins with a colon has no such parts.
        key = name.split(b":", 1)[0] or name
        if not find_loader(key, &loader):
            if not find_loader(_DUMMY_LOADER, &loader):
                known = ", ".join(loader_names()) or "none"
                raise LiteError(
                    f"{self.label}: no library has registered a loader {_text(key)!r} (registered: {known}); open its "
                    "library with LiteGlobal.set_loader_lib_path before the model is loaded"
                )
            data = len(name).to_bytes(8, "little") + name + data
        nbytes = len(data)
        self.data = malloc(nbytes + 1)
        if self.data == NULL:
            raise MemoryError(f"no memory for the data of {self.label}")
        memcpy(self.data, <const char*>data, nbytes)
        try:
            with nogil:
                made = loader.create(n_inputs, self.data, nbytes)
        except Exception as error:
            raise self._failure("create_desc", error) from error
        if made == NULL:
            raise LiteError(f"{self.label}: its loader refuses {n_inputs} inputs with {len(data)} bytes of data")
        if loader.version == OLD_VERSION:
            self.old = <OldOprDesc*>made
            self._check_old()
        else:
            self.desc = <MGBOprDesc*>made
            self._check()

    cdef _check(self):
        cdef MGBOprDesc* d = self.desc
        if d.size not in (80, 72):
            # ``release`` has the same place in every version, so the library gets it back all the same.
            raise LiteError(f"{self.label}: its descriptor has {d.size} bytes, expected 80 or 72")
        self._check_fields(
            d.nr_output, d.type_name != NULL, d.release != NULL, d.hash != NULL, d.is_same != NULL,
            d.execute != NULL, d.infer_shape != NULL,
        )  # fmt: skip
        if d.size == 80 and d.dynamic_param != NULL:
            raise LiteError(f"{self.label}: its loader sets dynamic_param, which must be null")

    cdef _check_old(self):
        cdef OldOprDesc* d = self.old
        self._check_fields(
            d.nr_output, d.type_name != NULL, d.release != NULL, d.hash != NULL, d.is_same != NULL,
            d.execute != NULL, d.infer_shape != NULL,
        )  # fmt: skip

    def _check_fields(self, n_outputs, *present):
        names = ("type_name", "release", "hash", "is_same", "execute", "infer_shape")
        if missing := [name for name, there in zip(names, present, strict=True) if not there]:
            raise LiteError(f"{self.label}: its descriptor has no {', '.join(missing)}")
        if not 1 <= n_outputs <= 65535:
            raise LiteError(f"{self.label}: its descriptor says {n_outputs} outputs")
        self.n_outputs = n_outputs

    def __dealloc__(self):
        try:
            if self.desc != NULL:
                if self.desc.release == NULL:
                    logger.error("%s: its descriptor cannot be released and leaks", self.label)
                else:
                    with nogil:
                        self.desc.release(self.desc)
            elif self.old != NULL:
                if self.old.release == NULL:
                    logger.error("%s: its descriptor cannot be released and leaks", self.label)
                else:
                    with nogil:
                        self.old.release(self.old)
        except Exception as error:
            logger.error("%s: release failed: %s", self.label, error)
        free(self.data)

    def _failure(self, function, error):
        return LiteError(f"{self.label}: {function} failed: {error}")

    def infer(self, shapes, types):
        """Shapes and element types of the outputs.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Of the inputs.
        types : sequence of int
            Numbers of the inputs' types, positions in ``TYPE_NAMES``.

        Returns
        -------
        list of (tuple of int, int)
            Shape and type number of each output.
        """
        cdef vector[MGBTensorShape] ins, outs
        cdef size_t i, k
        ins.resize(self.n_inputs)
        outs.resize(self.n_outputs)
        if <size_t>len(shapes) != self.n_inputs:
            raise ShapeError(f"{self.label} was made for {self.n_inputs} inputs, got {len(shapes)}")
        for i in range(self.n_inputs):
            self._store_shape(&ins[i], shapes[i])
        with self.lock:
            out_types = self._infer_types(types)
            try:
                with nogil:
                    if self.desc != NULL:
                        self.desc.infer_shape(self.desc, ins.data(), outs.data())
                    else:
                        self.old.infer_shape(self.old, ins.data(), outs.data())
            except Exception as error:
                raise self._failure("infer_shape", error) from error
        result = []
        for i in range(self.n_outputs):
            if not 1 <= outs[i].ndim <= MAX_NDIM:
                raise ShapeError(
                    f"{self.label}: infer_shape gives output {i} {outs[i].ndim} dimensions, expected 1 to {MAX_NDIM}"
                )
            result.append((tuple([outs[i].shape[k] for k in range(outs[i].ndim)]), out_types[i]))
        return result

    def _infer_types(self, types):
        cdef vector[int32_t] ins = types
        cdef vector[int32_t] outs
        cdef size_t i
        if self.desc == NULL or self.desc.infer_dtype == NULL:
            kinds = set(types)
            if len(kinds) != 1:
                names = ", ".join(TYPE_NAMES[t] for t in types) or "none"
                raise LiteTypeError(
                    f"{self.label} does not say its output types, so its inputs must have one type; they have {names}"
                )
            return [*kinds] * self.n_outputs
        outs.resize(self.n_outputs)
        try:
            with nogil:
                self.desc.infer_dtype(self.desc, ins.data(), outs.data())
        except Exception as error:
            raise self._failure("infer_dtype", error) from error
        for i in range(self.n_outputs):
            if not 0 <= outs[i] < len(TYPE_NAMES):
                raise LiteTypeError(f"{self.label}: infer_dtype gives output {i} the type {outs[i]}, which does not exist")
        return list(outs)

    def execute(self, inputs, outputs):
        """Computes the outputs.

        Parameters
        ----------
        inputs, outputs : sequence of (tuple of int, int, int)
            Shape, type number and address of each tensor: dense memory that the caller keeps alive. Outputs share
            no memory with inputs.
        """
        cdef vector[MGBTensor] ins, outs
        self._store_tensors(&ins, inputs)
        self._store_tensors(&outs, outputs)
        if ins.size() != self.n_inputs or outs.size() != self.n_outputs:
            raise ShapeError(f"{self.label} has {self.n_inputs} inputs and {self.n_outputs} outputs")
        with self.lock:
            try:
                with nogil:
                    if self.desc != NULL:
                        self.desc.execute(self.desc, ins.data(), outs.data())
                    else:
                        self.old.execute(self.old, ins.data(), outs.data())
            except Exception as error:
                raise self._failure("execute", error) from error

    cdef _store_tensors(self, vector[MGBTensor]* to, tensors):
        cdef size_t i
        to.resize(len(tensors))
        for i, (shape, type_number, address) in enumerate(tensors):
            to[0][i].layout.dtype = type_number
            self._store_shape(&to[0][i].layout.shape, shape)
            to[0][i].data = <void*><uintptr_t>address

    cdef _store_shape(self, MGBTensorShape* to, shape):
        cdef size_t k
        shape = shape or (1,)  # the interface has no tensors without dimensions
        if len(shape) > MAX_NDIM or max(shape) > 0xFFFFFFFF:
            raise ShapeError(f"{self.label} cannot take a tensor of shape {tuple(shape)}")
        to.ndim = len(shape)
        for k in range(to.ndim):
            to.shape[k] = shape[k]
