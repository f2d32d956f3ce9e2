"""Lowering functions: one module per operator family turns nodes into kernel calls.

::

    Node ─► table: a row ─► lower_*(ctx, node) ─► ctx.emit(kernel, arguments) ─► Step: a kernel call
                  │             ├─ algorithms: which kernel
                  │             └─ packing: weights as it reads them
                  └─ no row, or the function returns False ──────────────────► HostStep: numpy

``table`` says which function takes which nodes; start there, then with ``softmax``, which is short. The modules
whose names begin with ``quantized`` are the quantized halves of the families. ``conv_direct``, ``conv_winograd``,
``copying``, ``window``, ``quantized_iteration`` and ``requantize`` are helpers that families use.
:mod:`megengine_lite._core.cpu.lowering` is the context that lowering functions work in.
"""
