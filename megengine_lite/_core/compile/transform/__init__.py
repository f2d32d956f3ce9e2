"""Rewrites a whole model that is to be written to a file, so that it runs faster wherever it is loaded.

::

    ModelGraph ─► shaped ─► fold_convolution ─► blocked ─► ModelGraph ─► formats/mge: to_record, writer_v2 ─► file
                  a copy                        unless the layout is "nchw"

Unlike the passes of a plan these rewrites must not rely on the size of a batch or an image: the written model must run
at every shape that the original one ran at. Of the shapes in the file only the number of channels is used, since it
belongs to the weights.

===================  ================================================================================================
``shaped``           the model's graph with the shapes that the file's inputs lead to
``fold_convolution`` batch norm, scale, bias and activation go into the convolution before them
``blocked``          convolutions and what lies between them work on blocks of 4 or 8 channels
``for_original``     graphs of other formats in operators that files of MegEngine's can hold; ``counterparts`` has what
                     stands for operators that these lack
``known_part``       the part of such a graph whose shapes are known, with all graphs and rounds in their places
``size_origins``     from which sizes of the inputs its shapes and known numbers follow
===================  ================================================================================================

Start with :func:`transform`, which runs them.
"""

from __future__ import annotations

from megengine_lite._core.compile.transform import blocked, fold_convolution
from megengine_lite._core.compile.transform.shaped import shaped_graph
from megengine_lite._core.ir.graph import ConstantPool, ModelGraph
from megengine_lite._core.ir.image_layouts import Format
from megengine_lite._core.operators.base import quiet

__all__ = ["LAYOUTS", "transform"]

LAYOUTS = {
    "nchw": Format.NCHW,
    "nchw44": Format.NCHW44,
    "nchw44_dot": Format.NCHW44_DOT,
    "nchw88": Format.NCHW88,
}
"""Names of the layouts that a model can be written in."""


@quiet
def transform(source: ModelGraph, layout: str) -> ModelGraph:
    """A graph with fused convolutions that work in a layout. The given graph is not changed.

    Parameters
    ----------
    source
        The graph of a model.
    layout
        One of :data:`LAYOUTS`. With ``"nchw"`` convolutions are only fused.
    """
    pool = ConstantPool()
    graph = shaped_graph(source, pool)
    fold_convolution.run(graph, pool)
    blocked.run(graph, pool, LAYOUTS[layout])
    return graph
