"""Makes one table of the elementwise functions between a dequantization and a quantization.

A function of 8 bits has 256 results, however many steps it takes.
"""

from __future__ import annotations

from megengine_lite._core.compile.passes.recognise_quantized import quantizes, source_of
from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import DTypeCode
from megengine_lite._core.ir.fused import ElemwiseProgram, ElemwiseStep
from megengine_lite._core.ir.fused_quantized import QuantizedFunction
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
    if node.op == "FusedElemwise":
        program: ElemwiseProgram = node.params
    elif node.op == "Elemwise":
        program = ElemwiseProgram((ElemwiseStep(int(node.params.mode), tuple(range(len(node.inputs)))),))
    else:
        return None
    numbers, tensors = [], []
    for k, v in enumerate(node.inputs):
        if v.const is not None and v.spec.size == 1 and v.dtype.code is DTypeCode.FLOAT32:
            numbers.append((k, float(v.const.array.reshape(-1)[0])))
        else:
            tensors.append(k)
    if not tensors or len({node.inputs[k] for k in tensors}) > 1:
        return None
    tensor = node.inputs[tensors[0]]
    x = source_of(tensor, rewriter)
    if x is None or x.shape != y.shape:
        return None
    count, more = len(node.inputs), 1 + len(numbers)
    register = dict.fromkeys(tensors, 0) | {k: 1 + place for place, (k, _) in enumerate(numbers)}
    register |= {count + step: more + step for step in range(len(program.steps))}
    steps = tuple(ElemwiseStep(s.mode, tuple(register[a] for a in s.args)) for s in program.steps)
    parameters = QuantizedFunction(ElemwiseProgram(steps), tuple(n for _, n in numbers))
    return Node("QuantizedFunction", parameters, [x], [y], node.name)
