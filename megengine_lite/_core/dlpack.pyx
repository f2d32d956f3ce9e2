"""DLPack capsules (https://dmlc.github.io/dlpack/latest/): memory of ours for other libraries."""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

CPU_DEVICE = (1, 0)
"""Device type and id of host memory."""


cdef enum:
    MAX_NDIM = 7
    READ_ONLY = 1


cdef struct DLDevice:
    int32_t device_type
    int32_t device_id


cdef struct DLDataType:
    uint8_t code
    uint8_t bits
    uint16_t lanes


cdef struct DLTensor:
    void* data
    DLDevice device
    int32_t ndim
    DLDataType dtype
    int64_t* shape
    int64_t* strides
    uint64_t byte_offset


cdef struct DLManagedTensor:
    DLTensor dl_tensor
    void* manager_ctx
    void (*deleter)(void*) noexcept


cdef struct DLVersion:
    uint32_t major
    uint32_t minor


cdef struct DLManagedTensorVersioned:
    DLVersion version
    void* manager_ctx
    void (*deleter)(void*) noexcept
    uint64_t flags
    DLTensor dl_tensor


# Both forms of the head, and what they point to, in one allocation.
cdef struct Package:
    DLManagedTensor plain
    DLManagedTensorVersioned versioned
    int64_t shape[MAX_NDIM]
    int64_t strides[MAX_NDIM]


cdef void release_plain(void* head) noexcept with gil:
    Py_DECREF(<object><PyObject*>(<DLManagedTensor*>head).manager_ctx)
    free(head)  # the plain head stands first in its package


cdef void release_versioned(void* head) noexcept with gil:
    cdef DLManagedTensorVersioned* tensor = <DLManagedTensorVersioned*>head
    Py_DECREF(<object><PyObject*>tensor.manager_ctx)
    free(<char*>head - <size_t>&(<Package*>NULL).versioned)


cdef void drop_capsule(object capsule) noexcept:
    # A consumer renames the capsule and calls the deleter itself; one that nobody took is ours to release.
    cdef void* head
    if PyCapsule_IsValid(capsule, b"dltensor"):
        head = PyCapsule_GetPointer(capsule, b"dltensor")
        (<DLManagedTensor*>head).deleter(head)
    elif PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        head = PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        (<DLManagedTensorVersioned*>head).deleter(head)


def make_capsule(
    owner, uintptr_t address, tuple shape, tuple strides, int code, int bits, bint readonly, bint versioned
):
    """A capsule over memory that ``owner`` keeps alive; ``strides`` in elements, ``code`` and ``bits`` as in DLPack."""
    cdef Package* package = <Package*>calloc(1, sizeof(Package))
    cdef DLTensor* tensor
    cdef int k
    if package == NULL:
        raise MemoryError()
    tensor = &package.versioned.dl_tensor if versioned else &package.plain.dl_tensor
    tensor.data = <void*>address
    tensor.device = DLDevice(CPU_DEVICE[0], CPU_DEVICE[1])
    tensor.ndim = <int>len(shape)
    tensor.dtype = DLDataType(code, bits, 1)
    for k in range(tensor.ndim):
        package.shape[k] = shape[k]
        package.strides[k] = strides[k]
    tensor.shape = package.shape
    tensor.strides = package.strides
    Py_INCREF(owner)
    if versioned:
        package.versioned.version = DLVersion(1, 0)
        package.versioned.manager_ctx = <void*><PyObject*>owner
        package.versioned.deleter = release_versioned
        package.versioned.flags = READ_ONLY if readonly else 0
        return PyCapsule_New(&package.versioned, b"dltensor_versioned", drop_capsule)
    package.plain.manager_ctx = <void*><PyObject*>owner
    package.plain.deleter = release_plain
    return PyCapsule_New(&package.plain, b"dltensor", drop_capsule)
