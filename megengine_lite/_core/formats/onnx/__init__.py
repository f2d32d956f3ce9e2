"""ONNX models: read, made into graphs, and written.

::

    bytes ─► reader ─► messages (records of what the file says) ─► importer ─► LoadedModel
    ModelGraph ─► export ─► messages ─► writer ─► bytes

Start with ``load``. ``importer`` makes the model with its inputs and outputs, ``graph_converter`` the nodes between.
``operators`` has a converter for each operator of ONNX, except that If, Loop and Scan are in ``control_flow``, with
loops that append to sequences in ``growing``. It makes nodes by ``graph_builder`` and asks ``inference`` for shapes.
``ordering`` puts the nodes of a graph in an order in which they can be computed. ``graph_values`` says how scalars and
int64 are represented, which tensors here do not have. ``narrowing`` makes float32 of double where that is asked for.
``scope`` has the values that the nodes of a graph can read, ``branches`` are those of ``If``, ``declarations`` compares
values with what the model says of them, ``tensors`` and ``external_files`` give the values of tensors, and
``stored_tensors`` says which nodes read them; ``one_file`` puts external files into the model; ``pieces`` lets go of
the file where its records are kept.
``unconverted`` is the graph as it stands in the file, to look at where the model cannot be run.

``export`` is the way back: a converter for each operator of ours, which makes nodes of ONNX. ``own_operators`` writes
the operators that ONNX lacks in a domain of their own, and reads them.

Fields are taken out of the bytes by ``wire/protobuf``.
"""
