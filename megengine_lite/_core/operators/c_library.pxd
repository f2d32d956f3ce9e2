# cython: language_level=3
"""The C interface between the runtime and libraries of operators, versions 0x24 and 0x23.

The layout of every structure is fixed by libraries that are compiled already. Callbacks are declared to throw C++
exceptions: Cython then calls them inside a try block and makes a Python exception of whatever comes out.
"""

from libc.stdint cimport int32_t, uint32_t


cdef struct MGBTensorShape:
    uint32_t ndim
    uint32_t[8] shape


cdef struct MGBTensorLayout:
    int32_t dtype
    MGBTensorShape shape


cdef struct MGBTensor:
    MGBTensorLayout layout
    void* data


# Version 0x24. Libraries from before ``dynamic_param`` existed say size 72 and end before it.
cdef struct MGBOprDesc:
    uint32_t size
    uint32_t nr_output
    const char* type_name
    void (*release)(MGBOprDesc*) except + nogil
    size_t (*hash)(const MGBOprDesc*) except + nogil
    int (*is_same)(const MGBOprDesc*, const MGBOprDesc*) except + nogil
    void (*execute)(const MGBOprDesc*, const MGBTensor*, const MGBTensor*) except + nogil
    void (*infer_shape)(const MGBOprDesc*, const MGBTensorShape*, MGBTensorShape*) except + nogil
    void (*infer_dtype)(const MGBOprDesc*, const int32_t*, int32_t*) except + nogil  # may be null
    void* user_data
    void* dynamic_param


# Version 0x23.
cdef struct OldOprDesc:
    size_t nr_input
    size_t nr_output
    const char* type_name
    void (*release)(OldOprDesc*) except + nogil
    size_t (*hash)(const OldOprDesc*) except + nogil
    int (*is_same)(const OldOprDesc*, const OldOprDesc*) except + nogil
    void (*execute)(const OldOprDesc*, const MGBTensor*, const MGBTensor*) except + nogil
    void (*infer_shape)(const OldOprDesc*, const MGBTensorShape*, MGBTensorShape*) except + nogil
    void* user_data


# Gives a MGBOprDesc or an OldOprDesc, as the version of the table by which the loader was registered says.
ctypedef void* (*create_fn)(size_t nr_input, const void* buf, size_t buf_len) except + nogil


cdef struct MGBOprLoader:
    const char* name
    create_fn create_desc


cdef struct MGBExternCOprApi:
    int (*register_loader)(const MGBOprLoader*) noexcept nogil
    int (*unregister_loader)(const char*) noexcept nogil


ctypedef const MGBExternCOprApi* (*get_api_fn)(int version) noexcept nogil
ctypedef void (*init_fn)(get_api_fn) except + nogil
