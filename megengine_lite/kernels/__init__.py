"""Kernels: one source each, compiled once per instruction set; a set is one file, like ``_avx2.*.so``.

::

    conv/conv_direct.pyx ─► setup.py, once per set ─► _base/conv_direct, _avx2/conv_direct, _avx512/conv_direct ...
                                                          │
    _core/cpu/program: (kernel, args) ...  ◄── the set that the processor has: _core/cpu/kernel_set
        └─ each thread: kernel(args, begin, end, scratch)

The instruction sets are the rows of :mod:`megengine_lite._core.cpu.isa`.

==============  =======================================================================================================
``common``      what kernels share: vectors (``simd``), vector mathematics (``vmath``), register blocks (``block``) ...
``conv``        convolutions
``matmul``      matrix products
``elemwise``    elementwise functions, conversions
``reduce``      reductions, softmax, normalizations
``image``       pooling, resizing, sampling, regions
``move``        copies, transpositions, conversions between layouts
``other``       recurrent cells, sorting, Fourier transforms, a probe of the build
==============  =======================================================================================================

A kernel takes ``(args, begin, end, scratch)`` and does the work items ``begin`` .. ``end - 1``. It knows no graph, no
Python object, allocates nothing, and cannot fail. Its arguments are declared once, as a struct beside it; groups that
several kernels have are in ``common/arguments.pxd``. From the structs ``tools/kernel_tables.py`` makes the table
``KERNELS`` of each module: addresses, and the names by which callers give arguments.

A module also exports what planners must know of its kernels: modes, sizes of blocks, ``scratch_bytes``. What is the
same on every instruction set is in ``common/shared_constants.py``, from which the build makes constants for the
kernels. In each family of operators on tensors a function runs a kernel on numpy arrays, and checks their types, shapes
and strides: ``conv_direct``, ``matmul`` (in ``gemm``), ``elemwise_chain``, ``reduce``, ``pool_images`` (in
``pooling``), and for NCHW44 and NCHW88 ``nchw_to_packed`` and ``packed_to_nchw`` (in ``relayout``). All other kernels
are called by the names of their arguments, with :class:`megengine_lite._core.cpu.kernel_call.KernelCall`.

The name of a kernel says operator, algorithm and element type: ``conv_direct_f32``. No family uses another one's code;
what two of them need lives in ``common``. Start with ``move/fill``, the shortest; docs/adding-a-kernel.md explains it.
"""
