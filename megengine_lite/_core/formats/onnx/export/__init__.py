"""Models written as ONNX.

::

    ModelGraph, KnownShapes ─► exporter ─► operators (a converter for each) ─► ModelProto ─► ../writer ─► bytes

Start with ``exporter``. It walks the nodes of a model as it was loaded, calls the converter of each (``operators``),
and lists those that cannot be written. ``table`` has the converters and what they see of a node. ``forms`` says in
which forms a variable is there: as it is stored, as real numbers, as an index, as an image in NCHW. ``graph_writer``
makes nodes, constants and names; ``rounding`` has arithmetic that ONNX lacks.
"""

DEFAULT_OPSET = 17
"""Version of the standard's operators that is written unless another one is asked for."""
