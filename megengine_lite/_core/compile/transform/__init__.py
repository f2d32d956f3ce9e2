"""Rewrites a whole model so that it can be written to a file again, faster to run for whoever loads it.

Unlike the passes of a plan these rewrites may not rely on the sizes of a batch or an image: what is written runs at
every shape that the model ran at. Only the number of channels, which belongs to the weights, is taken from the shapes
that the file gives.

===================  ================================================================================================
``shaped``           the model's graph with the shapes that the file's inputs lead to
``fold_convolution`` batch norm, scale, bias and activation go into the convolution before them
``blocked``          convolutions and what lies between them work on blocks of 4 or 8 channels
``records``          the graph as records, which the writer takes
===================  ================================================================================================
"""

from __future__ import annotations

from megengine_lite._core.graph import ConstantPool
from megengine_lite._core.layouts import Format
from megengine_lite._core.loader.build import Model
from megengine_lite._core.loader.records import ModelRecord
from megengine_lite._core.oprs.base import quiet
from megengine_lite._core.transform import blocked, fold_convolution
from megengine_lite._core.transform.records import to_record
from megengine_lite._core.transform.shaped import shaped_graph

__all__ = ["LAYOUTS", "to_record", "transform"]

LAYOUTS = {
    "nchw": Format.NCHW,
    "nchw44": Format.NCHW44,
    "nchw44_dot": Format.NCHW44_DOT,
    "nchw88": Format.NCHW88,
}
"""Names of the layouts that a model can be written in."""


@quiet
def transform(model: Model, record: ModelRecord, layout: str) -> ModelRecord:
    """The model with fused convolutions that work in a layout, in a form that can be written.

    Parameters
    ----------
    model, record
        A model and the record that it was built from. Neither is changed.
    layout
        One of :data:`LAYOUTS`. With ``"nchw"`` convolutions are only fused.
    """
    pool = ConstantPool()
    graph = shaped_graph(model.graph, pool)
    fold_convolution.run(graph, pool)
    blocked.run(graph, pool, LAYOUTS[layout])
    return to_record(graph, record)
