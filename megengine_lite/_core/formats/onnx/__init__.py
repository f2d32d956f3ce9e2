"""ONNX models: read, made into graphs, and written.

::

    bytes ─► reader ─► messages (records of what the file says) ─► importer ─► LoadedModel
    messages ─► writer ─► bytes

Start with ``load``. ``importer`` walks the nodes, ``operators`` has a converter for each operator of ONNX, which makes
nodes by ``graph_builder``; that also says how scalars and int64, which tensors here do not have, are carried.
``values`` and ``external`` give the values of tensors.

Fields are taken out of the bytes by ``wire/protobuf``.
"""
