"""Elementwise functions of floats, integers and quantized numbers, and conversions between element types.

::

    tiles of the inputs ─► a chain of functions (modes), in the first-level cache ─► tiles of the output

* ``elemwise`` - chains of float32, with ``elemwise_modes``: the functions on vectors; start here
* ``compare`` - comparisons of float32, whose results are truth values
* ``elemwise_int`` - integers and truth values
* ``elemwise_int64`` - int64
* ``quantized_elemwise`` - quantized numbers, by tables and by arithmetic on real values
* ``typecvt`` - conversions between plain types
"""
