"""File formats: bytes become records, and records become graphs; writing goes the other way.

::

    bytes ─► mge ──► records ──► Model: graph, names of inputs and outputs
        └──► onnx ─► messages ─► Model
    bytes ◄─ mge ◄─ records ◄─ graph

All reads of a file's bytes go through ``cursor``, which checks every bound; no other module indexes into them.

Records say what a file says, in the same form for all versions of a format. There is one package per format. ``mge`` is
MegEngine's: both generations, packed, encrypted. ``onnx`` reads and writes ONNX. Start with ``mge.load``: it tells the
formats apart, since packages and encrypted files may hold either.
"""
