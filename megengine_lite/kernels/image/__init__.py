"""Pooling, resizing, sampling and regions of images.

::

    image, blocked or plain ─► windows: pooling, pooling_int8 ───────┐
                            ─► taps of rows and columns: resize, ────┼─► image
                               resize_int; of one each: pick_pixels ─┤
                            ─► regions, by coordinates: region, ─────┤
                               align_regions, deform_pool            │
                            ─► taps at any positions: sampling ──────┘
                            ─► moved taps of a filter: deform_columns ─► factor of a product
    two images ─► correlation ─► means of products at displacements
    matrices ─► affine_points ─► positions of all pixels
    image of NHWC ─► colour ─► image in another colour space

``region`` also drops boxes that overlap, and ``suppression`` does so by scores. Sampling takes the positions from a
map, or from a matrix; ``taps`` finds the pixels there, by the rule for the border, and ``sampling`` or
``sampling_int8`` adds them up. ``pooling_any`` pools volumes, and gives the positions of maxima. Start with
``pooling``.
Windows are clipped at the border, so inputs need no halo. ``pooling.pool_images`` pools numpy arrays.
"""
