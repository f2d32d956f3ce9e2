"""Merges a matrix product with the bias, residual addition and activation that follow it.

Linear layers on tensors of more than two dimensions are written as Reshape, MatrixMul, Reshape. Additions after the
second reshape are moved in front of it and merged with the product.
"""

from __future__ import annotations

from megengine_lite._core.compile.passes.fuse_conv import ACTIVATIONS, ADD_THEN
from megengine_lite._core.compile.passes.fuse_quantized import absorbed_by_real
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.fused import Activation, ActivationCode, FusedMatMul
from megengine_lite._core.ir.graph import Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import MatrixMulFormat
from megengine_lite._core.ir.shape_constant import reshape_node
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._records import replace


def run(graph: Graph) -> None:
    """Rewrites float32 products of two matrices whose result is read by a single node."""
    rewriter = Rewriter(graph)
    for node in rewriter:
        if node.op == "MatrixMul" and _is_plain_float(node):
            parameters = FusedMatMul(bool(node.params.transposeA), bool(node.params.transposeB))
            _fuse(node, Node("FusedMatMul", parameters, node.inputs, (), node.name), rewriter)
        elif node.op == "QuantizedMatMul" and node.params.is_real and len(node.outputs[0].shape) == 2:
            _fuse(node, Node(node.op, node.params, node.inputs, (), node.name), rewriter)
    rewriter.finish()


def _fuse(node: Node, fused: Node, rewriter: Rewriter) -> None:
    """Replaces a product and all that it can absorb by ``fused``; a reshape between them is moved behind it."""
    product = node.outputs[0]
    fused.outputs = [Var(product.id, product.name, TensorSpec(product.shape, product.dtype))]
    y, reshape = product, None
    before: list[Node] = []
    absorbed: list[Node] = []
    while (reader := rewriter.only_reader(y)) is not None:
        if reshape is None and not absorbed and _keeps_rows(reader, y):
            reshape = reader
        elif _absorb(fused, reader, y, before) if fused.op == "FusedMatMul" else _absorb_quantized(fused, reader, y):
            absorbed.append(reader)
        else:
            break
        y = reader.outputs[0]
    if not absorbed:
        return
    after = []
    if reshape is None:
        fused.outputs = absorbed[-1].outputs
        replaced = [node, *absorbed]
    else:
        (made,), last = fused.outputs, absorbed[-1].outputs[0]
        fused.outputs = [Var(last.id, last.name, made.spec)]  # its numbers are not those of the product
        after = [reshape_node(fused.outputs[0], last)]
        replaced = [node, reshape, *absorbed]
    rewriter.replace(replaced, [*before, fused, *after])


def _is_plain_float(node: Node) -> bool:
    floats = all(v.dtype.code == DTypeCode.FLOAT32 for v in (*node.inputs, *node.outputs))
    return floats and len(node.inputs) == 2 and node.params.format == MatrixMulFormat.DEFAULT


def _keeps_rows(node: Node, y: Var) -> bool:
    return REGISTRY[node.op].keeps_order and node.inputs[0] is y and node.outputs[0].shape[-1:] == y.shape[-1:]


def _absorb_quantized(fused: Node, reader: Node, y: Var) -> bool:
    found = absorbed_by_real(fused, reader, y)
    if found is None:
        return False
    fused.params, fused.inputs = found
    product = fused.outputs[0]
    fused.outputs = [Var(product.id, product.name, TensorSpec(product.shape, reader.outputs[0].dtype))]
    return True


def _absorb(fused: Node, reader: Node, y: Var, before: list[Node]) -> bool:
    """Absorbs a reader of the result ``y`` if possible; nodes that must precede the fused one go into ``before``."""
    p: FusedMatMul = fused.params
    if reader.op != "Elemwise" or reader.outputs[0].shape != y.shape or p.activation.code != ActivationCode.NONE:
        return False
    mode = reader.params.mode
    if mode in ACTIVATIONS:
        fused.params = replace(p, activation=ACTIVATIONS[mode])
        return True
    others = [v for v in reader.inputs if v is not y]
    if mode not in ADD_THEN or len(others) != 1:
        return False
    addend = others[0]
    activation = Activation(ADD_THEN[mode])
    columns = y.shape[-1]
    if addend.const is not None and addend.spec.size == columns and addend.shape[-1] == columns:
        if p.has_bias:
            return False
        fused.inputs = [*fused.inputs[:2], addend, *fused.inputs[2:]]
        fused.params = replace(p, has_bias=True, activation=activation)
        return True
    if addend.const is None and addend.shape == y.shape and addend.dtype == y.dtype and not p.has_z:
        matrix = addend
        shape = fused.outputs[0].shape
        if addend.shape != shape:
            matrix = Var(addend.id, addend.name, TensorSpec(shape, addend.dtype))
            before.append(reshape_node(addend, matrix))
        fused.inputs = [*fused.inputs, matrix]
        fused.params = replace(p, has_z=True, activation=activation)
        return True
    return False
