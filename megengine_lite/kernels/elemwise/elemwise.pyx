"""Chains of float32 elementwise functions, evaluated tile by tile in the first-level cache.

A chain is a small program over its inputs. The output is cut into tiles that are dense blocks of its innermost
dimensions; every function of the chain runs over one tile before the next tile begins, with intermediate results in
`scratch`. So memory is read and written once, however long the chain is. Inputs that are not dense within a tile
(broadcast ones) are first copied to scratch, and stay there as long as the next tile needs the same numbers.
"""

import numpy as np

from libc.stdint cimport int64_t
from libc.string cimport memset

from megengine_lite.kernels.elemwise cimport elemwise_modes as M
from megengine_lite.kernels.elemwise.elemwise_modes cimport mode1, mode2, mode3
from megengine_lite.kernels.common.rows cimport copy_row, fill_row, stream_row
from megengine_lite.kernels.common.shared_constants cimport CHAIN_OPERANDS, MAX_DIMS
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, stream_end, vf, vf_load, vf_load_n, vf_product, vf_store, vf_store_n,
)

from megengine_lite.kernels.common.array_checks import chain_steps
from megengine_lite.kernels.common.tiling import plan_chain

cpdef enum:  # planners read it
    MAX_INPUTS = 12
    MAX_REGISTERS = 64  # inputs and steps

cdef struct ChainStep:  # in the table
    int64_t mode
    int64_t slot  # of the result
    int64_t operands[CHAIN_OPERANDS]  # their registers; those behind the last one are 0

cdef enum Direction:
    SPREAD = 0  # strided to dense
    STORE = 1  # dense to strided
    STREAM = 2  # dense to strided, past the caches


# ---- one function over dense memory --------------------------------------------------------------------------------

cdef inline inlined loop1(int mode, float* y, const float* a, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    cdef vf v
    while i + VW <= n:
        v = vf_load(a + i)
        mode1(mode, &v)
        vf_store(y + i, v)
        i += VW
    if i < n:
        v = vf_load_n(a + i, n - i)
        mode1(mode, &v)
        vf_store_n(y + i, v, n - i)


cdef inline inlined loop2(int mode, float* y, const float* a, const float* b, int64_t n) noexcept nogil:
    cdef int64_t i = 0
    cdef vf v
    while i + VW <= n:
        v = vf_load(a + i)
        mode2(mode, &v, vf_load(b + i))
        vf_store(y + i, v)
        i += VW
    if i < n:
        v = vf_load_n(a + i, n - i)
        mode2(mode, &v, vf_load_n(b + i, n - i))
        vf_store_n(y + i, v, n - i)


cdef inline inlined loop3(
    int mode, float* y, const float* a, const float* b, const float* c, int64_t n
) noexcept nogil:
    cdef int64_t i = 0
    cdef vf v
    while i + VW <= n:
        v = vf_load(a + i)
        mode3(mode, &v, vf_load(b + i), vf_load(c + i))
        vf_store(y + i, v)
        i += VW
    if i < n:
        v = vf_load_n(a + i, n - i)
        mode3(mode, &v, vf_load_n(b + i, n - i), vf_load_n(c + i, n - i))
        vf_store_n(y + i, v, n - i)


cdef void multiply_add4(
    float* y, const float* a, const float* b, const float* c, const float* d, int64_t n
) noexcept nogil:
    cdef int64_t i = 0
    cdef vf v
    while i + VW <= n:
        v = vf_product(vf_load(a + i), vf_load(b + i))
        vf_store(y + i, v + vf_product(vf_load(c + i), vf_load(d + i)))
        i += VW
    if i < n:
        v = vf_product(vf_load_n(a + i, n - i), vf_load_n(b + i, n - i))
        v = v + vf_product(vf_load_n(c + i, n - i), vf_load_n(d + i, n - i))
        vf_store_n(y + i, v, n - i)


# The functions below return False, and write nothing, for a mode that they do not have: MODES is made of that.

cdef bint apply1(int64_t mode, float* y, const float* a, int64_t n) noexcept nogil:
    if mode == M.RELU:
        loop1(M.RELU, y, a, n)
    elif mode == M.ABS:
        loop1(M.ABS, y, a, n)
    elif mode == M.ACOS:
        loop1(M.ACOS, y, a, n)
    elif mode == M.ASIN:
        loop1(M.ASIN, y, a, n)
    elif mode == M.CEIL:
        loop1(M.CEIL, y, a, n)
    elif mode == M.COS:
        loop1(M.COS, y, a, n)
    elif mode == M.EXP:
        loop1(M.EXP, y, a, n)
    elif mode == M.EXPM1:
        loop1(M.EXPM1, y, a, n)
    elif mode == M.FLOOR:
        loop1(M.FLOOR, y, a, n)
    elif mode == M.LOG:
        loop1(M.LOG, y, a, n)
    elif mode == M.LOG1P:
        loop1(M.LOG1P, y, a, n)
    elif mode == M.NEGATE:
        loop1(M.NEGATE, y, a, n)
    elif mode == M.SIGMOID:
        loop1(M.SIGMOID, y, a, n)
    elif mode == M.SIN:
        loop1(M.SIN, y, a, n)
    elif mode == M.TANH:
        loop1(M.TANH, y, a, n)
    elif mode == M.FAST_TANH:
        loop1(M.FAST_TANH, y, a, n)
    elif mode == M.ROUND:
        loop1(M.ROUND, y, a, n)
    elif mode == M.ERF:
        loop1(M.ERF, y, a, n)
    elif mode == M.ERFINV:
        loop1(M.ERFINV, y, a, n)
    elif mode == M.ERFC:
        loop1(M.ERFC, y, a, n)
    elif mode == M.ERFCINV:
        loop1(M.ERFCINV, y, a, n)
    elif mode == M.H_SWISH:
        loop1(M.H_SWISH, y, a, n)
    elif mode == M.SILU:
        loop1(M.SILU, y, a, n)
    elif mode == M.GELU:
        loop1(M.GELU, y, a, n)
    elif mode == M.GELU_TANH:
        loop1(M.GELU_TANH, y, a, n)
    elif mode == M.ROUND_EVEN:
        loop1(M.ROUND_EVEN, y, a, n)
    elif mode == M.ISNAN:
        loop1(M.ISNAN, y, a, n)
    elif mode == M.ISINF:
        loop1(M.ISINF, y, a, n)
    elif mode == M.SINH:
        loop1(M.SINH, y, a, n)
    elif mode == M.COSH:
        loop1(M.COSH, y, a, n)
    elif mode == M.ASINH:
        loop1(M.ASINH, y, a, n)
    elif mode == M.ACOSH:
        loop1(M.ACOSH, y, a, n)
    elif mode == M.ATANH:
        loop1(M.ATANH, y, a, n)
    elif mode == M.TAN:
        loop1(M.TAN, y, a, n)
    elif mode == M.SOFTPLUS:
        loop1(M.SOFTPLUS, y, a, n)
    elif mode == M.RELU6:
        loop1(M.RELU6, y, a, n)
    elif mode == M.HSIGMOID:
        loop1(M.HSIGMOID, y, a, n)
    elif mode == M.LOGSIGMOID:
        loop1(M.LOGSIGMOID, y, a, n)
    elif mode == M.SQRT:
        loop1(M.SQRT, y, a, n)
    elif mode == M.SQUARE:
        loop1(M.SQUARE, y, a, n)
    elif mode == M.SIGN:
        loop1(M.SIGN, y, a, n)
    elif mode == M.NAN_RELU:
        loop1(M.NAN_RELU, y, a, n)
    elif mode == M.NAN_SIGN:
        loop1(M.NAN_SIGN, y, a, n)
    else:
        return False
    return True


cdef bint apply2(int64_t mode, float* y, const float* a, const float* b, int64_t n) noexcept nogil:
    if mode == M.ABS_GRAD:
        loop2(M.ABS_GRAD, y, a, b, n)
    elif mode == M.ADD:
        loop2(M.ADD, y, a, b, n)
    elif mode == M.FLOOR_DIV:
        loop2(M.FLOOR_DIV, y, a, b, n)
    elif mode == M.MAX:
        loop2(M.MAX, y, a, b, n)
    elif mode == M.MIN:
        loop2(M.MIN, y, a, b, n)
    elif mode == M.MOD:
        loop2(M.MOD, y, a, b, n)
    elif mode == M.MUL:
        loop2(M.MUL, y, a, b, n)
    elif mode == M.POW:
        loop2(M.POW, y, a, b, n)
    elif mode == M.SIGMOID_GRAD:
        loop2(M.SIGMOID_GRAD, y, a, b, n)
    elif mode == M.SUB:
        loop2(M.SUB, y, a, b, n)
    elif mode == M.SWITCH_GT0:
        loop2(M.SWITCH_GT0, y, a, b, n)
    elif mode == M.TANH_GRAD:
        loop2(M.TANH_GRAD, y, a, b, n)
    elif mode == M.TRUE_DIV:
        loop2(M.TRUE_DIV, y, a, b, n)
    elif mode == M.LOG_SUM_EXP:
        loop2(M.LOG_SUM_EXP, y, a, b, n)
    elif mode == M.LT:
        loop2(M.LT, y, a, b, n)
    elif mode == M.LEQ:
        loop2(M.LEQ, y, a, b, n)
    elif mode == M.EQ:
        loop2(M.EQ, y, a, b, n)
    elif mode == M.FUSE_ADD_RELU:
        loop2(M.FUSE_ADD_RELU, y, a, b, n)
    elif mode == M.FUSE_ADD_SIGMOID:
        loop2(M.FUSE_ADD_SIGMOID, y, a, b, n)
    elif mode == M.FUSE_ADD_TANH:
        loop2(M.FUSE_ADD_TANH, y, a, b, n)
    elif mode == M.FAST_TANH_GRAD:
        loop2(M.FAST_TANH_GRAD, y, a, b, n)
    elif mode == M.ATAN2:
        loop2(M.ATAN2, y, a, b, n)
    elif mode == M.H_SWISH_GRAD:
        loop2(M.H_SWISH_GRAD, y, a, b, n)
    elif mode == M.FUSE_ADD_H_SWISH:
        loop2(M.FUSE_ADD_H_SWISH, y, a, b, n)
    elif mode == M.SILU_GRAD:
        loop2(M.SILU_GRAD, y, a, b, n)
    elif mode == M.GELU_GRAD:
        loop2(M.GELU_GRAD, y, a, b, n)
    elif mode == M.NEQ:
        loop2(M.NEQ, y, a, b, n)
    elif mode == M.ASINH_GRAD:
        loop2(M.ASINH_GRAD, y, a, b, n)
    elif mode == M.ACOSH_GRAD:
        loop2(M.ACOSH_GRAD, y, a, b, n)
    elif mode == M.ATANH_GRAD:
        loop2(M.ATANH_GRAD, y, a, b, n)
    elif mode == M.PRELU:
        loop2(M.PRELU, y, a, b, n)
    elif mode == M.SOFTPLUS_GRAD:
        loop2(M.SOFTPLUS_GRAD, y, a, b, n)
    elif mode == M.RELU6_GRAD:
        loop2(M.RELU6_GRAD, y, a, b, n)
    elif mode == M.HSIGMOID_GRAD:
        loop2(M.HSIGMOID_GRAD, y, a, b, n)
    elif mode == M.NAN_MAX:
        loop2(M.NAN_MAX, y, a, b, n)
    elif mode == M.NAN_MIN:
        loop2(M.NAN_MIN, y, a, b, n)
    else:
        return False
    return True


cdef bint apply3(int64_t mode, float* y, const float* a, const float* b, const float* c, int64_t n) noexcept nogil:
    if mode == M.FUSE_MUL_ADD3:
        loop3(M.FUSE_MUL_ADD3, y, a, b, c, n)
    elif mode == M.COND_LEQ_MOV:
        loop3(M.COND_LEQ_MOV, y, a, b, c, n)
    elif mode == M.COND_LT_MOV:
        loop3(M.COND_LT_MOV, y, a, b, c, n)
    elif mode == M.CLIP:
        loop3(M.CLIP, y, a, b, c, n)
    elif mode == M.PRELU_GRAD:
        loop3(M.PRELU_GRAD, y, a, b, c, n)
    elif mode == M.MAX_MIN:
        loop3(M.MAX_MIN, y, a, b, c, n)
    elif mode == M.MIN_MAX:
        loop3(M.MIN_MAX, y, a, b, c, n)
    else:
        return False
    return True


# ---- broadcast inputs ----------------------------------------------------------------------------------------------

cdef void move_tile(
    int direction, float* dense, float* strided, int64_t ndim, const int64_t* dims, const int64_t* strides
) noexcept nogil:
    """Copies between a dense tile and strided memory. Innermost dimension first; its stride is 0 or 1."""
    cdef int64_t index[MAX_DIMS]
    cdef int64_t d
    cdef int64_t length = dims[0]
    cdef int64_t inner = strides[0]
    memset(index, 0, sizeof(index))
    while True:
        if direction == STORE:
            copy_row(strided, dense, length)
        elif direction == STREAM:
            stream_row(strided, dense, length)
        elif inner:
            copy_row(dense, strided, length)
        else:
            fill_row(dense, strided[0], length)
        dense += length
        d = 1
        while d < ndim:
            index[d] += 1
            strided += strides[d]
            if index[d] < dims[d]:
                break
            strided -= dims[d] * strides[d]
            index[d] = 0
            d += 1
        if d >= ndim:
            return


# ---- the kernel ----------------------------------------------------------------------------------------------------

cdef struct ElemwiseChainArgs:
    const int64_t* table
    float* y
    const float* x[MAX_INPUTS]
    int64_t ndim, split, count, inner, inputs, steps, slot_floats, stream


cdef void elemwise_chain_f32(const ElemwiseChainArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """One work item = one tile.

    Dimensions are numbered from the innermost one. A tile has all elements of the dimensions below `split`, which are
    `inner`, times up to `count` indexes of dimension `split`. `table` holds, with strides in elements: `ndim` extents;
    `ndim` strides of y and its slot; for each input `ndim` strides and a slot; then the steps. A slot is the number of
    a piece of scratch of `slot_floats` floats; -1 stands for an operand that is dense within every tile and is used in
    place. The result of the last step is y. With `stream`, y has a slot and is larger than the caches.
    """
    cdef const int64_t* table = a.table
    cdef int64_t ndim = a.ndim, split = a.split, count = a.count, inner = a.inner
    cdef int64_t inputs = a.inputs, steps = a.steps, slot_floats = a.slot_floats, stream = a.stream
    cdef const int64_t* extents = table
    cdef const int64_t* y_strides = table + ndim
    cdef int64_t y_slot = table[2 * ndim]
    cdef const int64_t* input_table = table + 2 * ndim + 1
    cdef const ChainStep* program = <const ChainStep*>(input_table + inputs * (ndim + 1))
    cdef int64_t tiles = (extents[split] + count - 1) // count
    cdef float* pool = <float*>scratch
    cdef float* register[MAX_REGISTERS]
    cdef const float* spread_from[MAX_INPUTS]
    cdef int64_t spread_size[MAX_INPUTS]
    cdef int64_t dims[MAX_DIMS]
    cdef int64_t index[MAX_DIMS]
    cdef int64_t item, rest, d, k, n, slot, offset
    cdef const int64_t* strides
    cdef const float* x
    cdef float* y
    cdef float* target
    for d in range(split):
        dims[d] = extents[d]
    for k in range(inputs):
        spread_from[k] = NULL
    for item in range(begin, end):
        rest = item // tiles
        index[split] = (item - rest * tiles) * count
        dims[split] = min(count, extents[split] - index[split])
        n = inner * dims[split]
        for d in range(split + 1, ndim):
            index[d] = rest % extents[d]
            rest //= extents[d]
        for k in range(inputs):
            strides = input_table + k * (ndim + 1)
            slot = strides[ndim]
            offset = 0
            for d in range(split, ndim):
                offset += index[d] * strides[d]
            x = a.x[k] + offset
            if slot < 0:
                register[k] = <float*>x
                continue
            register[k] = pool + slot * slot_floats
            if spread_from[k] != x or spread_size[k] < n:
                move_tile(SPREAD, register[k], <float*>x, split + 1, dims, strides)
                spread_from[k] = x
                spread_size[k] = n
        offset = 0
        for d in range(split, ndim):
            offset += index[d] * y_strides[d]
        y = a.y + offset
        target = y if y_slot < 0 else pool + y_slot * slot_floats
        for k in range(steps):
            register[inputs + k] = target if k + 1 == steps else pool + program[k].slot * slot_floats
            apply(program + k, register, register[inputs + k], n)
        if y_slot >= 0:
            move_tile(STREAM if stream else STORE, target, y, split + 1, dims, y_strides)
    if stream:
        stream_end()


cdef inline int apply(const ChainStep* step, float** register, float* y, int64_t n) noexcept nogil:
    """One function of a chain. The number of its operands, or 0 for a mode that does not exist here."""
    cdef const int64_t* of = &step.operands[0]
    cdef const float* a = register[of[0]]
    if apply2(step.mode, y, a, register[of[1]], n):
        return 2
    if apply1(step.mode, y, a, n):
        return 1
    if apply3(step.mode, y, a, register[of[1]], register[of[2]], n):
        return 3
    if step.mode == M.FUSE_MUL_ADD4:
        multiply_add4(y, a, register[of[1]], register[of[2]], register[of[3]], n)
        return 4
    return 0


cdef int operands_of(int64_t mode) noexcept nogil:
    """The number of operands of a mode, 0 if chains do not have it: runs it on no elements."""
    cdef ChainStep step
    memset(&step, 0, sizeof(step))
    step.mode = mode
    cdef float nothing = 0
    cdef float* register = &nothing
    return apply(&step, &register, &nothing, 0)


# Mode -> number of operands, for every mode that a chain may hold; planners refuse all others.
MODES = {mode: operands_of(mode) for mode in range(M.MODE_COUNT) if operands_of(mode)}
# Two limits at once, by the modes of both.
LIMITS = {(M.MAX, M.MIN): M.MAX_MIN, (M.MIN, M.MAX): M.MIN_MAX}

include "elemwise_table.pxi"


# ---- chains on arrays ----------------------------------------------------------------------------------------------

def elemwise_chain(steps, inputs):
    """Evaluates a chain of elementwise functions.

    Parameters
    ----------
    steps : list of (int, tuple of int)
        Mode number and operand registers of each function. Registers are the inputs, then the results of the steps.
    inputs : list of float32 arrays, C-contiguous
        At most 12. They broadcast together to the shape of the result.

    Returns
    -------
    float32 array
        The result of the last function, of the shape that the inputs broadcast to.

    Raises
    ------
    ValueError
        An input is of another type, not C-contiguous, or does not broadcast with the others; a mode does not exist for
        float32; a register does not hold a value yet; there are too many inputs, registers or dimensions.
    TypeError
        A mode or a register is no integer.

    Examples
    --------
    >>> import numpy as np
    >>> from megengine_lite._core.cpu.kernel_set import kernel_set
    >>> from megengine_lite._core.ir.params import ElemwiseMode as M
    >>> x, y = np.float32([1, -2]), np.float32([[1], [10]])
    >>> kernel_set().module("elemwise").elemwise_chain([(M.MUL, (0, 1)), (M.RELU, (2,))], [x, y]).tolist()
    [[1.0, 0.0], [10.0, 0.0]]
    """
    steps = chain_steps(steps, inputs, MODES, MAX_INPUTS, MAX_REGISTERS)
    cdef ElemwiseChainArgs a
    cdef const float[::1] flat
    cdef Py_ssize_t k
    shape = np.broadcast_shapes(*[x.shape for x in inputs])
    y = np.empty(shape, np.float32)
    if y.size == 0:
        return y
    plan = plan_chain(shape, [np.broadcast_to(x, shape).strides for x in inputs], y.strides, steps)
    if plan.ndim > MAX_DIMS:
        raise ValueError(f"inputs that are repeated along so many dimensions of {shape} are more than a chain can walk")
    cdef int64_t[::1] table = plan.table
    scratch = np.empty(max(plan.scratch // 4, 1), np.float32)
    cdef float[::1] scratch_view = scratch
    cdef float[::1] out = y.reshape(-1)
    a.table = &table[0]
    a.y = &out[0]
    a.ndim = plan.ndim
    a.split = plan.split
    a.count = plan.count
    a.inner = plan.inner
    a.inputs = len(inputs)
    a.steps = len(steps)
    a.slot_floats = plan.slot_floats
    a.stream = plan.stream
    for k, x in enumerate(inputs):
        flat = x.reshape(-1)
        a.x[k] = &flat[0]
    cdef int64_t work = plan.work
    with nogil:
        elemwise_chain_f32(&a, 0, work, &scratch_view[0])
    return y
