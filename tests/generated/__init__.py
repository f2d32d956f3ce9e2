"""Graphs that nobody has thought of: made by chance, run at every setting, compared with the definitions in numpy.

===============  ======================================================================================================
``maker``        builds a graph node by node and computes each value at once, so that no graph leaves the ranges in
                 which numbers can be compared
``elemwise``     \\
``images``        |
``quantized``     |  *steps*: functions that add a few nodes to what a maker has made so far
``moves``         |
``necks``         |
``selections``    |
``tokens``        |
``recurrent``    /
``grammar``      families: which steps a graph is made of, its inputs, its outputs, the order of its nodes
``expected``     the right outputs, and how far rounding may take others from them
``settings``     all ways of running a graph: instruction set, threads, options, algorithms
``check``        runs a graph at a setting and compares
``shrink``       makes a failing graph small
``files``        a graph as a model file
===============  ======================================================================================================

A graph is told by its family and seed; the same pair gives the same graph everywhere. Start reading in ``grammar``.
``test_generated`` is the fixed part that always runs; ``tools/fuzz_graphs.py`` runs for as long as one likes.
"""
