"""What kernels of all families share: vectors, vector mathematics, register blocks, the calling convention.

::

    simd/*.h: one header per instruction set ─► simd.h ─► simd.pxd: vf, vi, and vf_*, vi_* on them
                                                             │
             lanes: across a vector   vmath: exp, tanh ... ◄─┴─► block, block_output: float32 sums, the fused epilogue
                                                             └─► dot, requantize: int8 sums, and how they are stored

* ``kernel`` - the calling convention; start here, then ``simd``
* ``arguments`` - groups of arguments: views, windows, the epilogue
* ``shared_constants`` - numbers that kernels and planners have in common, written in Python only
* ``conv_tiles`` - how direct convolutions divide their output; ``array_checks`` - of functions on numpy arrays
* ``fetch`` - how packed weights are fetched before they are used
* ``interleave``, ``rows`` - inner loops of copies; ``real_values`` - stored numbers as real ones
* ``indexes`` - places that are data; ``order`` - sorting by keys
* ``trigonometry`` - of vectors, beside ``vmath``
* ``tiling`` - for planners: how iteration spaces are merged and cut into work items
"""
