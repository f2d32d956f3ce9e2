"""Makes one table of the elementwise functions between a dequantization and a quantization.

A function of 8 bits has 256 results, however many steps it takes.
"""

from __future__ import annotations

from megengine_lite._core.compile.passes.fuse_elemwise import function_of_one
from megengine_lite._core.compile.passes.recognise_quantized import quantizes, source_of
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.graph import Graph, Node, Var


def run(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if not quantizes(node):
            continue
        functions = rewriter.producer(node.inputs[0])
        if functions is None or rewriter.only_reader(node.inputs[0]) is not node:
            continue
        table = _table(functions, node.outputs[0], rewriter)
        if table is not None:
            rewriter.replace([functions, node], [table])
    rewriter.finish()
    graph.remove_dead()


def _table(node: Node, y: Var, rewriter: Rewriter) -> Node | None:
    """The functions of a node as one of a single quantized tensor; None if they are something else."""
    found = function_of_one(node)
    if found is None:
        return None
    tensor, function = found
    x = source_of(tensor, rewriter)
    if x is None or x.shape != y.shape:
        return None
    return Node("QuantizedFunction", function, [x], [y], node.name)
