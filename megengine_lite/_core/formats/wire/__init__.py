"""How numbers are stored in files: flatbuffers and Protocol Buffers, read with every bound checked.

::

    bytes ─► cursor ─┬─► flatbuffer ─► tables
                     └─► protobuf ──► fields of messages
    bytes ◄─ flatbuffer_builder ◄─ tables

Start with ``cursor``: all fields of models are read through it.
"""
