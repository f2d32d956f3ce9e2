"""Lowering functions: one module per operator family turns nodes into kernel calls.

``table`` says which function takes which nodes. The modules whose names begin with ``quantized`` are the quantized
halves of the families. ``copying``, ``iteration`` and ``requantize`` are helpers that several families use.
:mod:`megengine_lite._core.cpu.lowering` is the context that lowering functions work in.
"""
