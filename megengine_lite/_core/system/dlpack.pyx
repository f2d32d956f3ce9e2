"""DLPack capsules (https://dmlc.github.io/dlpack/latest/): our memory for other libraries, and theirs for us."""

from cpython.pycapsule cimport (
    PyCapsule_CheckExact,
    PyCapsule_GetPointer,
    PyCapsule_IsValid,
    PyCapsule_New,
    PyCapsule_SetName,
)
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t, uintptr_t
from libc.stdlib cimport calloc, free

from megengine_lite._core.system.tensor_limits cimport MAX_NDIM

CPU_DEVICE = (1, 0)
"""Device type and id of host memory."""

HOST_DEVICES = (1, 3)
"""Types of devices whose memory the processor reads: itself, and memory pinned for CUDA."""

cdef enum:
    # Arrays of other libraries may have more dimensions than ours; a capsule with more than this is damaged.
    MOST_NDIM = 64
    READ_ONLY = 1
    IS_COPIED = 2


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


cdef union Head:
    DLManagedTensor plain
    DLManagedTensorVersioned versioned


# What a capsule points to, in one allocation. The head stands first: its address is that of the whole.
cdef struct CapsuleContent:
    Head head
    int64_t shape[MAX_NDIM]
    int64_t strides[MAX_NDIM]


cdef void release_plain(void* head) noexcept with gil:
    Py_DECREF(<object><PyObject*>(<DLManagedTensor*>head).manager_ctx)
    free(head)


cdef void release_versioned(void* head) noexcept with gil:
    Py_DECREF(<object><PyObject*>(<DLManagedTensorVersioned*>head).manager_ctx)
    free(head)


cdef void drop_capsule(object capsule) noexcept:
    # A consumer renames the capsule and calls the deleter itself. We release a capsule that nobody has taken.
    cdef void* head
    if PyCapsule_IsValid(capsule, b"dltensor"):
        head = PyCapsule_GetPointer(capsule, b"dltensor")
        (<DLManagedTensor*>head).deleter(head)
    elif PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        head = PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        (<DLManagedTensorVersioned*>head).deleter(head)


def make_capsule(
    owner, tuple device, uintptr_t address, tuple shape, tuple strides, int code, int bits,
    bint readonly, bint versioned, bint copied,
):
    """A capsule over memory of a device (type, id) that ``owner`` keeps alive.

    ``strides`` are in elements, ``code`` and ``bits`` as in DLPack.
    ``copied`` says that the memory was made for this capsule; only versioned capsules have a place for it.
    """
    cdef CapsuleContent* package = <CapsuleContent*>calloc(1, sizeof(CapsuleContent))
    cdef DLTensor* tensor
    cdef int k
    if package == NULL:
        raise MemoryError()
    tensor = &package.head.versioned.dl_tensor if versioned else &package.head.plain.dl_tensor
    tensor.data = <void*>address
    tensor.device = DLDevice(device[0], device[1])
    tensor.ndim = <int>len(shape)
    tensor.dtype = DLDataType(code, bits, 1)
    for k in range(tensor.ndim):
        package.shape[k] = shape[k]
        package.strides[k] = strides[k]
    tensor.shape = package.shape
    tensor.strides = package.strides
    Py_INCREF(owner)
    if versioned:
        package.head.versioned.version = DLVersion(1, 0)
        package.head.versioned.manager_ctx = <void*><PyObject*>owner
        package.head.versioned.deleter = release_versioned
        package.head.versioned.flags = (READ_ONLY if readonly else 0) | (IS_COPIED if copied else 0)
        return PyCapsule_New(&package.head.versioned, b"dltensor_versioned", drop_capsule)
    package.head.plain.manager_ctx = <void*><PyObject*>owner
    package.head.plain.deleter = release_plain
    return PyCapsule_New(&package.head.plain, b"dltensor", drop_capsule)


cdef class Borrowed:
    """Memory of a capsule that was taken; released with the last reference to it."""

    cdef void* head
    cdef bint versioned

    def __dealloc__(self):
        if self.head == NULL:
            return
        if self.versioned:
            if (<DLManagedTensorVersioned*>self.head).deleter != NULL:
                (<DLManagedTensorVersioned*>self.head).deleter(self.head)
        elif (<DLManagedTensor*>self.head).deleter != NULL:
            (<DLManagedTensor*>self.head).deleter(self.head)


def is_capsule(source):
    """Whether an object is a capsule itself, and not one that makes capsules."""
    return PyCapsule_CheckExact(source)


def take_capsule(capsule):
    """Takes over a capsule from its producer.

    Returns
    -------
    tuple
        An object that keeps the memory alive; address; shape; strides in elements, or None for a dense tensor; type
        code and bits; whether it is read-only.

    Raises
    ------
    TypeError
        Not a capsule, one of an unknown version, or memory of another device. The capsule then stays with its owner.
    """
    cdef Borrowed owner = Borrowed.__new__(Borrowed)
    cdef DLTensor* tensor
    cdef bint readonly = False
    cdef void* head
    cdef int k
    if PyCapsule_IsValid(capsule, b"dltensor_versioned"):
        owner.versioned = True
        head = PyCapsule_GetPointer(capsule, b"dltensor_versioned")
        if (<DLManagedTensorVersioned*>head).version.major != 1:
            raise TypeError(f"DLPack {(<DLManagedTensorVersioned*>head).version.major} is not known")
        tensor = &(<DLManagedTensorVersioned*>head).dl_tensor
        readonly = (<DLManagedTensorVersioned*>head).flags & READ_ONLY
    elif PyCapsule_IsValid(capsule, b"dltensor"):
        head = PyCapsule_GetPointer(capsule, b"dltensor")
        tensor = &(<DLManagedTensor*>head).dl_tensor
    else:
        raise TypeError("it gives no DLPack capsule, or one that was taken before")
    if tensor.device.device_type not in HOST_DEVICES:
        raise TypeError(f"its memory is on a device of type {tensor.device.device_type}; copy it to the host first")
    if tensor.dtype.lanes != 1:
        raise TypeError("elements of several lanes are not supported")
    if not 0 <= tensor.ndim <= MOST_NDIM:
        raise TypeError(f"it claims to have {tensor.ndim} dimensions")
    PyCapsule_SetName(capsule, b"used_dltensor_versioned" if owner.versioned else b"used_dltensor")
    owner.head = head
    shape = tuple([tensor.shape[k] for k in range(tensor.ndim)])
    strides = tuple([tensor.strides[k] for k in range(tensor.ndim)]) if tensor.strides != NULL else None
    address = <uintptr_t>tensor.data + tensor.byte_offset
    return owner, address, shape, strides, tensor.dtype.code, tensor.dtype.bits, bool(readonly)
