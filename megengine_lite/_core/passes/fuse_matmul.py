"""Matrix product with what follows it: bias, residual addition and activation become one node.

Linear layers on tensors of more than two dimensions are written as Reshape, MatrixMul, Reshape; the additions behind
them are taken in through the second reshape, which then follows the fused product.
"""

from __future__ import annotations

from dataclasses import replace

from megengine_lite._core.dtype import DTypeCode
from megengine_lite._core.fused import Activation, ActivationCode, FusedMatMul
from megengine_lite._core.graph import ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.passes.fuse_conv import ACTIVATIONS, ADD_THEN
from megengine_lite._core.shape_constant import reshape_node


def run(graph: Graph, pool: ConstantPool) -> None:
    """Rewrites float32 products of two matrices whose result only one node reads."""
    consumers = graph.consumers()
    outputs = set(graph.outputs)
    replaced: dict[int, list[Node]] = {}  # id of a node -> what stands in its place
    for node in graph.nodes:
        if node.op != "MatrixMul" or id(node) in replaced or not _is_plain_float(node):
            continue
        fused = Node(
            "FusedMatMul",
            FusedMatMul(bool(node.params.transposeA), bool(node.params.transposeB)),
            node.inputs,
            node.outputs,
            node.name,
        )
        y, reshape, last = node.outputs[0], None, None
        before: list[Node] = []
        while True:
            readers = consumers.get(y, [])
            if y in outputs or len(readers) != 1:
                break
            reader = readers[0]
            if reshape is None and last is None and _keeps_rows(reader, y):
                reshape, y = reader, reader.outputs[0]
                continue
            if not _absorb(fused, reader, y, pool, before):
                break
            last, y = reader, reader.outputs[0]
            replaced[id(reader)] = []
        if last is None:
            node.outputs[0].producer = node
            continue
        matrix = Var(y.id, y.name, TensorSpec(node.outputs[0].shape, node.outputs[0].dtype))
        fused.outputs, matrix.producer = [matrix], fused
        after = []
        if reshape is None:
            fused.outputs = [y]
            y.producer = fused
        else:
            after = [reshape_node(matrix, y)]
            replaced[id(reshape)] = []
        replaced[id(node)] = []
        replaced[id(last)] = [*before, fused, *after]
    graph.nodes = [n for node in graph.nodes for n in replaced.get(id(node), [node])]


def _is_plain_float(node: Node) -> bool:
    floats = all(v.dtype.code == DTypeCode.FLOAT32 for v in (*node.inputs, *node.outputs))
    return floats and len(node.inputs) == 2 and node.params.format == 0


def _keeps_rows(node: Node, y: Var) -> bool:
    return (
        node.op in ("Reshape", "AxisAddRemove") and node.inputs[0] is y and node.outputs[0].shape[-1:] == y.shape[-1:]
    )


def _absorb(fused: Node, reader: Node, y: Var, pool: ConstantPool, before: list[Node]) -> bool:
    """Takes a reader of the result ``y`` into the fused node, if it can; ``before`` gets nodes that must precede."""
    p: FusedMatMul = fused.params
    if reader.op != "Elemwise" or reader.outputs[0].shape != y.shape or p.activation.code != ActivationCode.NONE:
        return False
    mode = reader.params.mode
    if mode in ACTIVATIONS:
        fused.params = replace(p, activation=Activation(ACTIVATIONS[mode]))
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
