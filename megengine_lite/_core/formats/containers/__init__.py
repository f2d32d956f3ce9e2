"""What a model comes in: a file or a buffer, a package, encryption.

::

    path, bytes, stream ─► model_source ─► packed ─► cryption ─► the model's bytes
                                             └─► information: settings beside the model

Start with ``model_source``, which every load begins with. ``packed`` reads and writes packages; ``information`` checks
the settings in them. ``cryption`` knows the methods by name; ``aes_gcm`` and ``rc4`` are two of them.
"""
