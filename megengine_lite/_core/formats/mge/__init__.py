"""Loader: the bytes of a model file become a :class:`~megengine_lite._core.graph.Graph`.

``container`` finds out what a file is, ``packed`` and ``cryption`` open what is around a model, ``schema_v1`` and
``schema_v2`` read both generations of the format into the same ``records``, and ``build`` makes the graph of them. Only
``cursor`` takes numbers out of file bytes.
"""

from megengine_lite._core.loader.build import Model
from megengine_lite._core.loader.load import load_model, load_record, load_test_cases

__all__ = ["Model", "load_model", "load_record", "load_test_cases"]
