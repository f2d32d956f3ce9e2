"""Rewrites of a stage's graph, one per file, in the order in which they run.

Every variable has a spec with a known shape. A pass changes the graph in place and does not change what its outputs
mean. Weights that it changes are derived through the constant pool, so they are made once per model.
"""

from __future__ import annotations

from megengine_lite._core.compile.passes import (
    canonical_layout,
    fuse_conv,
    fuse_elemwise,
    fuse_matmul,
    fuse_quantized,
    gather_channels,
    merge_reductions,
    simplify,
    widen_float16,
)
from megengine_lite._core.config import SessionConfig
from megengine_lite._core.ir.graph import ConstantPool, Graph

__all__ = ["run"]


def run(graph: Graph, pool: ConstantPool, config: SessionConfig) -> None:
    """Runs all passes that the options ask for.

    Raises
    ------
    InternalError
        The graph that comes out cannot be computed in its order.
    """
    if config.fuse:
        _run_all(graph, pool)
    elif config.fuse_elemwise:
        fuse_elemwise.run(graph)
    graph.verify()


def _run_all(graph: Graph, pool: ConstantPool) -> None:
    widen_float16.run(graph, pool)
    canonical_layout.run(graph, pool)
    simplify.run(graph, pool)
    gather_channels.run(graph)
    merge_reductions.run(graph)
    fuse_conv.run(graph, pool)
    fuse_quantized.run(graph)
    fuse_matmul.run(graph)
    fuse_elemwise.run(graph)
