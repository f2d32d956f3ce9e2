"""MegEngine's model files: plain, with test cases, encrypted, in packages; read and written.

::

    bytes ─► container ─► cryption ─► schema_v1 | schema_v2 ─► records ─► build ─► Model (with its Graph)
    Graph ─► to_record ─► records ─► writer_v2 ─► bytes

All reads of a file's bytes go through ``formats/cursor``, which checks every bound, and ``flatbuffer``, which knows
tables; no other module indexes into them. Start with ``load``. ``history`` knows what older releases wrote differently,
``foreign`` recognizes files of other kinds.
"""

from megengine_lite._core.formats.mge.build import Model
from megengine_lite._core.formats.mge.load import load_model, load_record, load_test_cases

__all__ = ["Model", "load_model", "load_record", "load_test_cases"]
