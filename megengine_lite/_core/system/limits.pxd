# Limits of all tensors. Python code finds them in memory.pyx.
cdef enum:
    MAX_NDIM = 7    # dimensions; also the original's limit
    ALIGNMENT = 64  # bytes: a cache line, and the widest vector
