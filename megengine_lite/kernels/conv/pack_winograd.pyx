"""Transforms filters for conv_winograd and conv_winograd_int8 and puts them in the order in which these read them."""

from libc.stdint cimport int16_t, int64_t, uint16_t

from megengine_lite.kernels.common.shared_constants cimport TILE_BLOCKS, WEIGHTS_FLOAT16
from megengine_lite.kernels.common.simd cimport VW, f16, inlined, vf_load, vf_store, vf_store_f16

cdef enum:
    CHANNELS = 16  # input channels of a work item
    TAPS = 9


cdef struct PackWinogradArgs:
    const float* weight
    const double* matrix
    void* y
    int64_t oc, ic, side, weights


ctypedef fused stored:
    float
    f16


ctypedef fused weight:
    float
    int16_t


ctypedef fused tap:
    double
    int16_t


cdef inline inlined gather_taps(
    const weight* w, int64_t channel, int64_t oc, int64_t i, int64_t ic, tap* taps
) noexcept nogil:
    """[3 3][VW]: the taps of input channel i of VW output channels; zeros for channels that do not exist."""
    cdef int k, lane
    for lane in range(VW):
        for k in range(TAPS):
            taps[k * VW + lane] = 0
            if channel + lane < oc and i < ic:
                taps[k * VW + lane] = <tap>w[((channel + lane) * ic + i) * TAPS + k]


cdef inline inlined transform(
    int S, const double* g, const double* taps, stored* y, int64_t step
) noexcept nogil:
    """G w G^T of the filters of VW output channels. taps: [3 3][VW], g: [S][3]; element k goes to y + k step."""
    cdef double half[8 * 3 * VW]
    cdef float rounded[VW]
    cdef double total
    cdef int i, j, lane
    for i in range(S):
        for j in range(3):
            for lane in range(VW):
                half[(i * 3 + j) * VW + lane] = g[3 * i] * taps[j * VW + lane] \
                    + g[3 * i + 1] * taps[(3 + j) * VW + lane] + g[3 * i + 2] * taps[(6 + j) * VW + lane]
    for i in range(S):
        for j in range(S):
            for lane in range(VW):
                total = g[3 * j] * half[3 * i * VW + lane] + g[3 * j + 1] * half[(3 * i + 1) * VW + lane] \
                    + g[3 * j + 2] * half[(3 * i + 2) * VW + lane]
                rounded[lane] = <float>total
            if stored is f16:
                vf_store_f16(<uint16_t*>(y + (i * S + j) * step), vf_load(rounded))
            else:
                vf_store(y + (i * S + j) * step, vf_load(rounded))


cdef inline void transform_filters(
    int64_t side, const double* g, const double* taps, stored* y, int64_t step
) noexcept nogil:
    if side == 4:
        transform(4, g, taps, y, step)
    else:
        transform(6, g, taps, y, step)


cdef void pack_winograd_f32(const PackWinogradArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = [tile of TILE_BLOCKS channel blocks][side side][ic][channels of the tile], from weight = [oc][ic][3][3].

    `matrix` is G, [side][3]. The last tile has as many blocks as are left; channels that do not exist get zeros. All
    is computed in float64 and rounded once, or again if `weights` is FLOAT16. One work item = CHANNELS input channels of
    a tile, the tile outermost.
    """
    cdef int64_t oc = a.oc, ic = a.ic, side = a.side, area = side * side
    cdef int64_t blocks = (oc + VW - 1) // VW, parts = (ic + CHANNELS - 1) // CHANNELS
    cdef int64_t item, first, lanes, i, block, at
    cdef double taps[TAPS * VW]
    for item in range(begin, end):
        first = item // parts * TILE_BLOCKS
        lanes = min(<int64_t>TILE_BLOCKS, blocks - first) * VW
        for i in range(item % parts * CHANNELS, min(ic, (item % parts + 1) * CHANNELS)):
            for block in range(lanes // VW):
                gather_taps(a.weight, (first + block) * VW, oc, i, ic, &taps[0])
                at = first * VW * area * ic + i * lanes + block * VW
                if a.weights == WEIGHTS_FLOAT16:
                    transform_filters(side, a.matrix, taps, <f16*>a.y + at, ic * lanes)
                else:
                    transform_filters(side, a.matrix, taps, <float*>a.y + at, ic * lanes)


cdef struct PackWinogradInt8Args:
    const int16_t* weight
    int16_t* y
    int64_t oc, ic


cdef inline inlined transform_int8(const int16_t* taps, int16_t* y, int64_t step) noexcept nogil:
    """4 G w G^T of the filters of VW output channels; taps are [3 3][VW], element k goes to y + k step, every second."""
    cdef int16_t half[4 * 3 * VW]
    cdef int i, j, lane
    for j in range(3):
        for lane in range(VW):
            half[j * VW + lane] = 2 * taps[j * VW + lane]
            half[(3 + j) * VW + lane] = taps[j * VW + lane] + taps[(3 + j) * VW + lane] + taps[(6 + j) * VW + lane]
            half[(6 + j) * VW + lane] = taps[j * VW + lane] - taps[(3 + j) * VW + lane] + taps[(6 + j) * VW + lane]
            half[(9 + j) * VW + lane] = 2 * taps[(6 + j) * VW + lane]
    for i in range(4):
        for lane in range(VW):
            y[2 * lane] = 2 * half[3 * i * VW + lane]
            y[step + 2 * lane] = \
                half[3 * i * VW + lane] + half[(3 * i + 1) * VW + lane] + half[(3 * i + 2) * VW + lane]
            y[2 * step + 2 * lane] = \
                half[3 * i * VW + lane] - half[(3 * i + 1) * VW + lane] + half[(3 * i + 2) * VW + lane]
            y[3 * step + 2 * lane] = 2 * half[(3 * i + 2) * VW + lane]
        y += 4 * step


cdef void pack_winograd_int8(const PackWinogradInt8Args* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """y = [tile of TILE_BLOCKS channel blocks][4 4][pair of ic][channels of the tile][2], from weight = [oc][ic][3][3].

    The last tile has as many blocks as are left; channels that do not exist get zeros. Weights of 9 bits fit. One work
    item = CHANNELS input channels of a tile, the tile outermost.
    """
    cdef int64_t oc = a.oc, ic = a.ic, pairs = (ic + 1) // 2
    cdef int64_t blocks = (oc + VW - 1) // VW, parts = (ic + CHANNELS - 1) // CHANNELS
    cdef int64_t item, first, lanes, i, block, at
    cdef int16_t taps[TAPS * VW]
    for item in range(begin, end):
        first = item // parts * TILE_BLOCKS
        lanes = min(<int64_t>TILE_BLOCKS, blocks - first) * VW
        for i in range(item % parts * CHANNELS, min(2 * pairs, (item % parts + 1) * CHANNELS)):
            for block in range(lanes // VW):
                gather_taps(a.weight, (first + block) * VW, oc, i, ic, &taps[0])
                at = (first * VW * 16 * pairs + i // 2 * lanes + block * VW) * 2 + i % 2
                transform_int8(taps, a.y + at, pairs * lanes * 2)


def work_items(int64_t oc, int64_t ic):
    """How many work items there are."""
    cdef int64_t blocks = (oc + VW - 1) // VW
    return (blocks + TILE_BLOCKS - 1) // TILE_BLOCKS * ((ic + CHANNELS - 1) // CHANNELS)


include "pack_winograd_table.pxi"
