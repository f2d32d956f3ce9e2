"""Copies, fills, transpositions, gathers and conversions between layouts. Nothing is computed but addresses,
and sums of windows.

::

    dense ─► fill ─► dense                   plain ◄─► relayout ◄─► blocked
    strided ─► transpose ─► strided          plain ─► relayout_int8 ─► packed for a first int8 convolution
    indices ─► gather, along_axis ─► rows or elements
    blocked ─► gather_channels ─► blocked
    image ─► windows ─► all windows of it    windows ─► windows ─► image that is their sum
    matrices, sequences ─► parts ─► their triangles, turned around
    weights ─► pack_tiles ─► in the order of kernels for blocks of channels
    numbers ─► narrow ─► bfloat16

Elements are moved by their size in bits, whatever they mean. Start with ``fill``.
"""
