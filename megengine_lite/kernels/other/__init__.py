"""Recurrent cells, sorting, and a probe of what a build can do.

::

    sums of matmul, state ─► recurrent ─► next state
    rows ─► sorting ─► sorted rows, or the boxes that are kept
    probe ─► multiply-adds per second of this core, the yardstick of benchmarks/kernels.py

Each module stands alone.
"""
