"""Pooling, resizing and regions of images.

::

    image, blocked or plain ─► windows: pooling, pooling_int8 ───────┐
                            ─► taps of rows and columns: resize ─────┼─► image
                            ─► regions, by coordinates: region ──────┘

Start with ``pooling``. Windows are clipped at the border, so inputs need no halo.
``pooling.pool_images`` pools numpy arrays.
"""
