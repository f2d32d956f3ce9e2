"""The two stream ciphers of MegEngine Lite, byte for byte.

Both combine 64-bit words with the numbers of a generator that resembles RC4 but is another one. Neither protects
against tampering, and the default keys are public. They are here to read and write files of the original.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    DROPPED = 768

cdef uint64_t M0 = 0x2127599BF4325C37ULL
cdef uint64_t M1 = 0x880355F21E6D1965ULL


cdef struct Generator:
    uint8_t s[256]
    uint8_t i
    uint8_t j


cdef inline uint8_t draw(Generator* g) noexcept nogil:
    cdef uint8_t a, b, c
    g.i += 1
    a = g.s[g.i]
    g.j += a
    b = g.s[g.j]
    g.s[g.i] = b
    g.s[g.j] = a
    c = g.s[<uint8_t> ((g.i << 5) ^ (g.j >> 3))] + g.s[<uint8_t> ((g.j << 5) ^ (g.i >> 3))]
    return <uint8_t> (g.s[<uint8_t> (a + b)] + g.s[c ^ 0xAA]) ^ g.s[<uint8_t> (g.j + b)]


cdef inline uint64_t draw64(Generator* g) noexcept nogil:
    cdef uint64_t word = 0
    cdef int k
    for k in range(8):
        word |= <uint64_t> draw(g) << (8 * k)
    return word


cdef void start(Generator* g, uint64_t key) noexcept nogil:
    cdef int x
    cdef uint8_t t = 0, kept
    for x in range(256):
        g.s[x] = <uint8_t> x
    for x in range(256):
        t += g.s[x] + <uint8_t> (key >> (8 * (x & 7)))
        kept = g.s[x]
        g.s[x] = g.s[t]
        g.s[t] = kept
    g.i = g.j = 0
    for x in range(DROPPED):
        draw(g)
    for x in range(draw(g)):
        draw(g)


cdef inline uint64_t mix(uint64_t h, uint64_t word) noexcept nogil:
    word ^= word >> 23
    word *= M0
    word ^= word >> 47
    return (h ^ word) * M1


cdef inline uint64_t load(const uint8_t* p) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, p, 8)
    return word


cdef inline void store(uint8_t* p, uint64_t word) noexcept nogil:
    memcpy(p, &word, 8)


cdef uint64_t padded(const uint8_t[::1] data, uint8_t[::1] out) except? 0:
    """Copies data to the front of ``out``, fills the last word with zeros, and returns the number of words."""
    cdef uint64_t n = data.shape[0]
    cdef uint64_t words = (n + 7) // 8
    if <uint64_t> out.shape[0] != 8 * words + 8:
        raise ValueError("the output needs room for whole words and the trailer")
    out[n:] = 0
    if n:
        out[:n] = data
    return words


def encrypted_size(uint64_t nbytes):
    """Size of the encrypted form: whole words and a trailer of one word."""
    return (nbytes + 7) // 8 * 8 + 8


def encrypt_simple(const uint8_t[::1] data, uint64_t hash_key, uint64_t key, uint8_t[::1] out):
    """SIMPLE_FAST_RC4: encrypts ``data`` into ``out``; the trailer is the hash of what is encrypted."""
    cdef uint64_t words = padded(data, out), k, h = hash_key
    cdef Generator e
    with nogil:
        start(&e, key)
        for k in range(words):
            store(&out[8 * k], load(&out[8 * k]) ^ draw64(&e))
            h = mix(h, load(&out[8 * k]))
        store(&out[8 * words], h)


def decrypt_simple(const uint8_t[::1] data, uint64_t hash_key, uint64_t key, uint8_t[::1] out):
    """SIMPLE_FAST_RC4: decrypts all words, the trailer too, as the original does; False if the trailer is wrong."""
    cdef uint64_t words = whole_words(data, out), k, h = hash_key
    cdef Generator e
    with nogil:
        for k in range(words - 1):
            h = mix(h, load(&data[8 * k]))
    if h != load(&data[8 * (words - 1)]):
        return False
    with nogil:
        start(&e, key)
        for k in range(words):
            store(&out[8 * k], load(&data[8 * k]) ^ draw64(&e))
    return True


cdef uint64_t whole_words(const uint8_t[::1] data, uint8_t[::1] out) except 0:
    if data.shape[0] < 8 or data.shape[0] % 8 or out.shape[0] != data.shape[0]:
        raise ValueError("the data must be whole words, at least one, and the output as long")
    return data.shape[0] // 8


def encrypt(const uint8_t[::1] data, uint64_t hash_key, uint64_t key, uint8_t[::1] out):
    """RC4: encrypts ``data`` into ``out``; the second generator starts from the hash of the plain words."""
    cdef uint64_t words = padded(data, out), k, word, h = hash_key, fed = hash_key
    cdef Generator s, e
    with nogil:
        for k in range(words):
            h = mix(h, load(&out[8 * k]))
        start(&s, h)
        start(&e, key)
        for k in range(words):
            word = load(&out[8 * k]) ^ draw64(&s)
            fed = mix(fed, word)
            store(&out[8 * k], word ^ draw64(&e))
        store(&out[8 * words], h ^ fed ^ draw64(&e))


def decrypt(const uint8_t[::1] data, uint64_t hash_key, uint64_t key, uint8_t[::1] out):
    """RC4: decrypts all words, the trailer too, as the original does.

    True if the hash shows that the result is what was encrypted.
    """
    cdef uint64_t words = whole_words(data, out), k, h, fed = hash_key, found = hash_key
    cdef Generator s, e
    with nogil:
        start(&e, key)
        for k in range(words - 1):
            fed = mix(fed, load(&data[8 * k]) ^ draw64(&e))
        h = load(&data[8 * (words - 1)]) ^ fed ^ draw64(&e)
        start(&s, h)
        start(&e, key)
        for k in range(words):
            store(&out[8 * k], load(&data[8 * k]) ^ draw64(&s) ^ draw64(&e))
            if k + 1 < words:
                found = mix(found, load(&out[8 * k]))
    return found == h
