# Limits of all tensors. Python code finds them in memory.pyx.
cdef enum:
    MAX_NDIM = 7    # dimensions; also the original's limit
    ALIGNMENT = 64  # bytes: where memory begins, at a cache line and a vector of any instruction set
