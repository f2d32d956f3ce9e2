"""File formats: bytes become a model with its graph; writing goes the other way.

::

    containers ─► bytes ─┬─► mge ──► records ──┬─► LoadedModel: graph, names of inputs and outputs
    file, package, key   └─► onnx ─► messages ─┘
                             mge ◄── records ◄─── graph

Start with ``load``: it opens a source, takes off packages and encryption, tells the format and calls its package.

- ``wire`` takes numbers out of bytes: a cursor that checks every bound, flatbuffers, Protocol Buffers. All fields of
  models are read there; encryptions and caches of algorithms, which are neither, check their few sizes themselves.
- ``containers`` is what a model of either format comes in.
- ``loaded_model`` and ``stored_values`` are what both formats give: a model, and constants that stay in the file until
  they are needed. ``foreign_files`` recognizes files that are no models.
- ``prepared`` is no model: a plan of one, with packed weights, which stands beside the model.
- ``mge`` is MegEngine's format, both generations; ``onnx`` is ONNX. Neither knows the other.
"""
