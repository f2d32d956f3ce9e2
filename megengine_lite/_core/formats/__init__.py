"""File formats: bytes become neutral records, and records become graphs; the other way for writing.

One package per format. ``mge`` is MegEngine's: both generations, packed, encrypted.
"""
