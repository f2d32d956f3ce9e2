"""ONNX models: read, made into graphs, and written.

::

    bytes ─► reader ─► messages (records of what the file says) ─► importer ─► Model (with its Graph)
    messages ─► writer ─► bytes

Start with ``load``. ``importer`` walks the nodes, ``operators`` has a converter for each operator of ONNX, which makes
nodes by ``graph_builder``; that also says how scalars and int64, which tensors here do not have, are carried.
``values`` and ``external`` give the values of tensors.

All reads of a file's bytes go through ``formats/cursor``, which checks every bound, and ``protobuf``, which knows how
fields are stored.
"""
