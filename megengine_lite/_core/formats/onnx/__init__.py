"""ONNX models: read, made into graphs, and written.

::

    bytes ─► reader ─► messages (records of what the file says) ─► importer ─► LoadedModel
    ModelGraph ─► export ─► messages ─► writer ─► bytes

Start with ``load``. ``importer`` walks the nodes, ``operators`` has a converter for each operator of ONNX, which makes
nodes by ``graph_builder``. ``graph_values`` describes how scalars and int64 are represented, which tensors here do not
have. ``branches`` are those of ``If``, ``declarations`` compares values with what
the model says of them, ``tensors`` and ``external_files`` give the values of tensors.

``export`` is the way back: a converter for each operator of ours, which makes nodes of ONNX.

Fields are taken out of the bytes by ``wire/protobuf``.
"""
