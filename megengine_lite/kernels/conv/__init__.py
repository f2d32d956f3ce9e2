"""Convolutions of float32 and of int8 numbers, one module per algorithm.

::

    image, plain, few channels ─► conv_first ────────────────────────────┐
    blocked ────────────────────► conv_direct, conv_winograd (3 x 3) ────┼─► blocked, with bias, residual, activation
    blocked, small groups ──────► conv_group ────────────────────────────┤
    blocked, groups of 1.5 blocks ► conv_halves ─────────────────────────┤
    blocked, a filter a channel ► conv_depthwise ────────────────────────┘
    plain, any filter, 3-D ─────► conv_plain ──────────────────────────────► plain

``*_int8`` are the twins for bytes, with the same functions in the same order; ``conv_winograd_int8`` is for sets that
multiply 16-bit numbers. ``pack_winograd`` transforms filters for both when a model is prepared; ``winograd_grid`` says
where tiles lie. Start with ``conv_direct``.
``_core/cpu/algorithms/convolution.py`` says when each applies.
"""
