"""Puts weights in the order in which kernels read them. Runs once per model.

::

    filter [OC, IC, KH, KW] ─► pack_direct, pack_depthwise, pack_winograd ... ─► blocks of OC that fill vectors
    matrix [K, N]           ─► pack_panels, pack_columns                      ─► panels of N that fill vectors

``float32`` and ``int8`` have the forms of their kernels; int8 also has the sums that correct for offsets of its input.
Weights of float32 are put in order by kernels (``pack_tiles``, ``pack_winograd``), those of int8 in numpy. Start with
``float32.pack_direct``. Lowering calls these functions through the constant pool, which keeps the results.
"""
