"""Converters: what each operator of ONNX means in the graph, one function for each, in modules by family.

::

    node of ONNX ─► table: the converter for its name and opset ─► nodes of the graph, by GraphBuilder

Start with ``table``. It has the list, which the modules fill when they are imported, and :class:`~.table.Call`, which
converters get. If, Loop and Scan, which have graphs, are in ``control_flow`` of the package above.
"""

from megengine_lite._core.formats.onnx.operators import (  # noqa: F401  # they enter their converters into the table
    activations,
    arithmetic,
    attention,
    constants,
    convolution,
    einsum,
    images,
    indexing,
    joining,
    losses,
    matrices,
    microsoft,
    microsoft_quantized,
    normalization,
    pooling,
    quantization,
    random,
    recurrent,
    reductions,
    sampling,
    selection,
    sequences,
    shapes,
    signal,
)
from megengine_lite._core.formats.onnx.operators.table import CONVERTERS, find_converter, first_version

__all__ = ["CONVERTERS", "find_converter", "first_version"]
