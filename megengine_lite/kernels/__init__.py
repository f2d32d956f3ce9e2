"""Kernels: one source each, compiled once per instruction set into a folder of its own (``_avx2``, say).

The instruction sets are the rows of :mod:`megengine_lite._core.cpu.isa`.

==============  =======================================================================================================
``common``      what kernels share: vectors (``simd``), vector mathematics (``vmath``), register blocks (``block``) ...
``conv``        convolutions
``matmul``      matrix products
``elemwise``    elementwise functions, conversions
``reduce``      reductions, softmax, normalizations
``image``       pooling, resizing, regions
``move``        copies, transpositions, conversions between layouts
``other``       recurrent cells, sorting, a probe of the build
==============  =======================================================================================================

A kernel takes ``(args, begin, end, scratch)`` and does the work items ``begin`` .. ``end - 1``. It knows no graph, no
Python object, allocates nothing, and cannot fail. Its module's table ``KERNELS`` gives its address and the names of its
pointers, integers and reals; callers give arguments by these names. A name says operator, algorithm and element type:
``conv_direct_f32``. No family uses another one's code; what two of them need lives in ``common``.
"""
