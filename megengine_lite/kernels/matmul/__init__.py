"""Matrix products of float32 and of int8 numbers.

::

    A [M, K] ─► rows, packed where that pays ─┐
    B [K, N] ─► panels of N ──────────────────┴─► block of C in registers ─► bias, Z, activation ─► C [M, N]

``gemm`` has float32: blocks, and a naive product to compare with; start there. ``gemm_dot`` has float32 by dot
products, for few rows. ``gemm_int8`` has sums in int32, and stores them as they are or as quantized results;
``gemm_wide_int8`` does that on sets that widen bytes first; ``last_columns`` is for both. ``gemm.matmul`` multiplies
numpy arrays.
"""
