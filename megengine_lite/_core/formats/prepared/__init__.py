"""Prepared files: a plan with its packed weights, as a process runs it.

::

    PreparedRecord ─► writer ─► file: header │ facts, model, plan │ pages of weights ─► reader ─► PreparedRecord

A prepared file stands beside the model that it was made from. It has no code and no addresses: kernels go by name,
pointers are a base and an offset. The header has checksums of both parts behind it, and one of itself. What is in a
plan can only be judged by the device that made it (``cpu/prepared_plan``).

* ``record`` - what is in such a file; start here
* ``writer``, ``reader`` - to and from bytes; ``identity`` - which model it was made from
"""
