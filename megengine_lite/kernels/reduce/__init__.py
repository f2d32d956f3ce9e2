"""Reductions of float32 and of integers; softmax and normalizations of float32.

::

    [outer, axis, inner] ─► reduce, reduce_int ─► [outer, 1, inner]   inner = 1: along rows; else neighbours together
                         ─► softmax, norm ─► [outer, axis, inner]  first the statistics, then every element
    image ─► lrn ─► image                              each channel by the squares of its neighbours

A sum has one order, whatever the number of threads: work is cut between reductions, never inside of one. Start with
``reduce``; ``reduce_modes`` says what each mode does with an element.
"""
