"""ONNX models: read and written.

::

    bytes ─► reader ─► messages (records of what the file says)
    messages ─► writer ─► bytes

All reads of a file's bytes go through ``formats/cursor``, which checks every bound, and ``protobuf``, which knows how
fields are stored.
"""
