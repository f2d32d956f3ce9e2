"""Makes one table of the elementwise functions between a dequantization and a quantization.

A function of 8 bits has 256 results, however many steps it takes.
"""

from __future__ import annotations

from megengine_lite._core.compile.passes.fuse_elemwise import function_of_one
from megengine_lite._core.compile.passes.recognise_quantized import quantizes, source_of
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import INT8_OPERANDS
from megengine_lite._core.ir.fused_quantized import QuantizedConv
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var


def run(graph: Graph) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if not quantizes(node):
            continue
        functions = rewriter.producer(node.inputs[0])
        if functions is not None and rewriter.only_reader(node.inputs[0]) is node:
            _make_table(functions, node, rewriter)
    rewriter.finish()
    graph.remove_dead()


def _make_table(functions: Node, last: Node, rewriter: Rewriter) -> None:
    """Replaces functions of a single quantized tensor and the quantization behind them, unless they are others."""
    found = function_of_one(functions)
    if found is None or found[0].shape != last.outputs[0].shape:
        return
    tensor, function = found
    old, new = [functions, last], []
    x = source_of(tensor, rewriter)
    if x is None and (product := _that_rounds(tensor, functions, rewriter)) is not None:
        x = Var(tensor.id, tensor.name, TensorSpec(tensor.shape, product.params.conv_dtype))
        old.append(product)
        new.append(Node(product.op, product.params, product.inputs, [x], product.name))
    if x is not None:
        rewriter.replace(old, [*new, Node("QuantizedFunction", function, [x], last.outputs, functions.name)])


def _that_rounds(tensor: Var, reader: Node, rewriter: Rewriter) -> Node | None:
    """The convolution that makes a real tensor of the quantized numbers it has before, if only this node reads them."""
    node = rewriter.producer(tensor)
    if node is None or node.op != "QuantizedConv" or rewriter.only_reader(tensor) is not reader:
        return None
    p: QuantizedConv = node.params
    return node if p.add is None and p.conv_dtype.ties_to_even and p.conv_dtype.code in INT8_OPERANDS else None
