"""Several ways to compute one operator: tables of algorithms, and the choice by cost, by measurement or from a cache.

::

    problem: shapes ─► table ─► candidates: those that apply, and that the policy allows
                         │          ├─ without ``profile`` ─► the one of least cost
                         │          └─ with it ─► the fastest: from the cache, else measured now
                         └─ the one that ``policy.forced`` names, or an error

* ``algorithm`` - what an entry of a table says, and the choice by cost; start here
* ``convolution``, ``matmul`` - the tables, with the estimates of cost and the scratch that kernels need
* ``taps``, ``phases`` - filters that meet padding more than the image, and dilated ones, for ``convolution``
* ``tables`` - all of them by name, and the check of the names in ``policy.forced``
* ``fast_run`` - ``select``, and the measurement; ``cache`` keeps measurements in a file
"""
