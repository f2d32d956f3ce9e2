"""MegEngine's model files, of both generations: read and written.

::

    bytes ─► reader ─► schema_v1 | schema_v2 ─► records ─► build ─► LoadedModel
    Graph ─► to_record ─► records ─► writer_v2 ─► bytes

Start with ``load``. ``shared_tables`` reads what both generations share, ``history`` knows what older releases wrote
differently, ``repair`` mends graphs that older releases damaged. ``input_order`` is the order in which the original
lists a model's inputs.
"""
