"""Recurrent cells, sorting, Fourier transforms, and a probe of what a build can do.

::

    sums of matmul, state ─► recurrent ─► next state
    rows ─► sorting ─► sorted rows, and the places that their elements had
    rows of a signal ─► fourier ─► their spectra
    probe ─► multiply-adds per second of this core, the yardstick of benchmarks/kernels.py

Each module stands alone.
"""
