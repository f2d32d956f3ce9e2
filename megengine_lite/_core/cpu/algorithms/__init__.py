"""Several ways to compute one operator: tables of algorithms, and the choice by cost, by measurement or from a cache.

* ``algorithm`` - what an entry of a table says, and the choice by cost
* ``convolution``, ``matmul`` - the tables, with the estimates of cost and the scratch that kernels need
* ``fast_run`` - the choice by measurement; ``cache`` keeps measurements in a file
"""
