"""Packing of images for a first int8 convolution, and copies with the sign bits flipped, or widened."""

from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t

from megengine_lite.kernels.common.real_values cimport Format, item_size, load_real, load_some, to_stored, to_stored_even
from megengine_lite.kernels.common.simd cimport (
    VW, inlined, outlined, vf, vf_set1, vf_store_n, vi, vi_load, vi_load_wide, vi_set1, vi_store,
)


# How real numbers become bytes: divided by `scale`, rounded (halves to even numbers if `ties_even`), clamped, plus `zero`; then four are xored with `flip`.
cdef struct PixelResult:
    float scale, low, high
    int32_t zero, flip
    bint ties_even


cdef inline outlined image_row(
    const char* x, int64_t plane, int channels, int64_t w, const Format* f, const PixelResult* to, int32_t* y
) noexcept nogil:
    """Writes a row of pixels of 4 bytes. Bytes beyond the last channel are the zero point."""
    cdef int64_t size = item_size(f.kind), k = 0, n
    cdef vf scale = vf_set1(to.scale), low = vf_set1(to.low), high = vf_set1(to.high), value
    cdef vi pixels, channel
    cdef int c
    while k < w:
        n = min(VW, w - k)
        pixels = vi_set1(0)
        for c in range(4):
            channel = vi_set1(to.zero)
            if c < channels:
                if n == VW:
                    value = load_real(x + c * plane + k * size, f)
                else:
                    value = load_some(x + c * plane + k * size, f, n, 1)
                if to.ties_even:
                    channel = to_stored_even(value / scale, low, high, channel)
                else:
                    channel = to_stored(value / scale, low, high, channel)
            pixels = pixels | ((channel & vi_set1(255)) << (8 * c))
        pixels = pixels ^ vi_set1(to.flip)
        if n == VW:
            vi_store(y + k, pixels)
        else:
            vf_store_n(<float*>(y + k), <vf>pixels, n)
        k += n


cdef struct PackImageArgs:
    const char* x
    int32_t* y
    int64_t channels, h, w, halo_h, halo_w, kind, zero, y_kind, y_zero, ties_even, flip
    double scale, y_scale, low, high


cdef void pack_image_int8(const PackImageArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Quantizes an NCHW image of up to 4 channels and packs it, with padding, in pixels of 4 bytes.

    At the end all bytes are xored with those of `flip`. One work item = one row of y, which is
    [n][h + 2 halo_h][w + 2 halo_w][4].
    """
    cdef int64_t channels = a.channels, h = a.h, w = a.w, halo_h = a.halo_h, halo_w = a.halo_w
    cdef Format f = Format(<int>a.kind, <int32_t>a.zero, <float>a.scale)
    cdef PixelResult to = PixelResult(
        <float>a.y_scale, <float>a.low, <float>a.high, <int32_t>a.y_zero, <int32_t>a.flip, <bint>a.ties_even
    )
    cdef int64_t size = item_size(f.kind), rows = h + 2 * halo_h, item, r, k
    cdef int32_t nothing = <int32_t>(<uint32_t>(to.zero & 255) * 0x01010101) ^ to.flip
    cdef int32_t* y
    for item in range(begin, end):
        r = item % rows - halo_h
        y = a.y + item * (w + 2 * halo_w)
        if r < 0 or r >= h:
            for k in range(w + 2 * halo_w):
                y[k] = nothing
            continue
        for k in range(halo_w):
            y[k] = nothing
            y[halo_w + w + k] = nothing
        image_row(
            a.x + (item // rows * channels * h + r) * w * size, h * w * size, <int>channels, w, &f, &to,
            y + halo_w,
        )


cdef struct CopyImagesArgs:
    const uint8_t* x
    uint8_t* y
    int64_t size, chunk, flip, x_image, y_image


cdef inline inlined copy_images(bint WIDE, const CopyImagesArgs* a, int64_t begin, int64_t end) noexcept nogil:
    """flip_bytes, or WIDE widen_bytes."""
    cdef int64_t size = a.size, chunk = a.chunk, x_image = a.x_image, y_image = a.y_image
    cdef int64_t chunks = (size + chunk - 1) // chunk, lanes = 2 * VW if WIDE else 4 * VW, item, k, last
    cdef uint8_t one = <uint8_t>a.flip
    cdef uint32_t wide_one = <uint32_t><int8_t>one & 0xFFFF
    cdef vi flip = vi_set1(<int32_t>(wide_one * 0x10001) if WIDE else <int32_t>a.flip)
    cdef const uint8_t* x
    cdef uint8_t* y
    cdef int16_t* wide_y
    for item in range(begin, end):
        x = a.x + item // chunks * x_image
        y = a.y + item // chunks * y_image * (2 if WIDE else 1)
        wide_y = <int16_t*>y
        k = item % chunks * chunk
        last = min(k + chunk, size)
        while k + lanes <= last:
            if WIDE:
                vi_store(<int32_t*>(wide_y + k), vi_load_wide(<const int8_t*>(x + k)) ^ flip)
            else:
                vi_store(<int32_t*>(y + k), vi_load(<const int32_t*>(x + k)) ^ flip)
            k += lanes
        while k < last:
            if WIDE:
                wide_y[k] = <int8_t>(x[k] ^ one)
            else:
                y[k] = x[k] ^ one
            k += 1


cdef void flip_bytes(const CopyImagesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Copies images with every four bytes xored with those of `flip`: 0x80 in each turns signed numbers into unsigned
    ones and back (dot.pxd).

    One work item = `chunk` bytes of one image, a multiple of the bytes of a vector.
    """
    copy_images(False, a, begin, end)


cdef void widen_bytes(const CopyImagesArgs* a, int64_t begin, int64_t end, void* scratch) noexcept nogil:
    """Copies images as signed numbers of 16 bits, which y points at and `y_image` counts, flipped before like
    flip_bytes."""
    copy_images(True, a, begin, end)


include "relayout_int8_table.pxi"
