"""Recurrent cells, sorting, Fourier transforms, and a probe of what a build can do.

::

    sums of matmul, state ─► recurrent ─► next state
    data ─► sorting ─► the same in order along an axis or the first of it, and the places that elements had
    rows of a signal ─► fourier ─► their spectra
    probe ─► multiply-adds per second of this core, the yardstick of benchmarks/kernels.py

Each module stands alone.
"""
