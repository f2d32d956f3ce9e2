"""Suppression of boxes that overlap those of higher scores, with the rules of ONNX."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from megengine_lite.kernels.common.order cimport BUCKETS, MOST_PASSES, key_of_float, sort_all


cdef struct SuppressBoxesArgs:
    const float* boxes
    const float* scores
    const float* overlap
    const float* least
    int32_t* kept
    int32_t* counts
    int64_t classes, n, limit, by_center


cdef enum:
    FIELDS = 5  # of a box: low and high corner, area
    BLOCK = 32  # boxes that another is compared with at once


# Boxes that were kept, each field on its own.
cdef struct BoxFields:
    float* low0
    float* low1
    float* high0
    float* high1
    float* area
    int64_t count


def scratch_bytes(int64_t n):
    """Bytes of scratch of suppress_boxes: boxes that were kept, keys and places of scores twice, and histograms."""
    return (FIELDS + 5) * n * 4 + MOST_PASSES * BUCKETS * 4


cdef inline bint hits(
    const BoxFields* b, int64_t first, int64_t n, float low0, float low1, float high0, float high1, float area,
    float most
) noexcept nogil:
    """Whether a box overlaps one of n of the others by more than `most`."""
    cdef int64_t k
    cdef int found = 0
    cdef float side0, side1, shared, whole
    for k in range(first, first + n):
        side0 = min(high0, b.high0[k]) - max(low0, b.low0[k])
        side1 = min(high1, b.high1[k]) - max(low1, b.low1[k])
        shared = side0 * side1
        whole = area + b.area[k] - shared
        found |= (side0 > 0) & (side1 > 0) & (shared > 0) & (whole > 0) & (shared / whole > most)
    return found != 0


cdef inline int64_t suppress(
    const SuppressBoxesArgs* a, const float* boxes, const int32_t* places, const int32_t* order, int64_t n,
    BoxFields* b, int32_t* kept
) noexcept nogil:
    """The kept ones of n boxes in order; gives their number. Boxes without an area neither suppress nor are."""
    cdef float most = a.overlap[0], low0, low1, high0, high1, area, half0, half1
    cdef int64_t i, k, found = 0
    cdef bint gone
    cdef const float* box
    b.count = 0
    for i in range(n):
        if found >= a.limit:
            break
        box = boxes + 4 * places[order[i]]
        if a.by_center:
            half0 = box[2] / 2
            half1 = box[3] / 2
            low0 = box[0] - half0
            low1 = box[1] - half1
            high0 = box[0] + half0
            high1 = box[1] + half1
        else:
            low0 = min(box[0], box[2])
            high0 = max(box[0], box[2])
            low1 = min(box[1], box[3])
            high1 = max(box[1], box[3])
        area = (box[2] - box[0]) * (box[3] - box[1])  # NaN if a corner is
        area = (high0 - low0) * (high1 - low1) if area == area or a.by_center else area
        if area > 0:
            gone = False
            k = 0
            while k < b.count and not gone:
                if k + BLOCK <= b.count:
                    gone = hits(b, k, BLOCK, low0, low1, high0, high1, area, most)
                else:
                    gone = hits(b, k, b.count - k, low0, low1, high0, high1, area, most)
                k += BLOCK
            if gone:
                continue
            b.low0[b.count] = low0
            b.low1[b.count] = low1
            b.high0[b.count] = high0
            b.high1[b.count] = high1
            b.area[b.count] = area
            b.count += 1
        kept[found] = places[order[i]]
        found += 1
    return found


cdef void suppress_boxes(const SuppressBoxesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """kept [images, classes, limit] and counts [images, classes] of boxes [images, n, 4], by scores [images, classes, n].

    Boxes are two corners, or a center and a size if `by_center`. Those whose score is not above least[0] are left out;
    least may be NULL. What stands behind the kept ones is 0. One work item = one class of one image. Scratch:
    scratch_bytes(n).
    """
    cdef int64_t n = a.n, item, i, count
    cdef BoxFields b
    cdef uint32_t* keys = <uint32_t*>scratch + FIELDS * n
    cdef uint32_t* keys2 = keys + n
    cdef int32_t* places = <int32_t*>(keys2 + n)
    cdef int32_t* order = places + n
    cdef uint32_t* starts = <uint32_t*>(order + 2 * n)
    cdef const float* scores
    cdef int32_t* kept
    b.low0 = <float*>scratch
    b.low1 = b.low0 + n
    b.high0 = b.low1 + n
    b.high1 = b.high0 + n
    b.area = b.high1 + n
    for item in range(begin, end):
        scores = a.scores + item * n
        kept = a.kept + item * a.limit
        count = 0
        for i in range(n):
            if not a.least or scores[i] > a.least[0]:
                keys[count] = key_of_float((<const uint32_t*>scores)[i] ^ 0x80000000u)  # the largest first, then NaN
                places[count] = <int32_t>i
                count += 1
        if count:
            count = suppress(a, a.boxes + item // a.classes * n * 4, places,
                             sort_all(keys, order, count, keys2, starts), count, &b, kept)
        a.counts[item] = <int32_t>count
        for i in range(count, a.limit):
            kept[i] = 0


include "suppression_table.pxi"
