"""ONNX models made in tests, and runs of them."""

from __future__ import annotations

import numpy as np

from megengine_lite import LiteNetwork


def make(nodes, inputs, outputs, initializers=(), opset=17, functions=(), opsets=(), **graph):
    """A model; inputs and outputs are (name, type number, shape), initializers a dictionary of arrays."""
    from onnx import helper, numpy_helper

    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [helper.make_tensor_value_info(*o) for o in outputs],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in dict(initializers).items()],
        **graph,
    )
    sets = [helper.make_opsetid("", opset), *opsets]
    return helper.make_model(made, functions=list(functions), opset_imports=sets, ir_version=10)


def bytes_of_text(graph: str, opset: int = 17) -> bytes:
    """A model, from the text form of its graph."""
    from onnx import parser

    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> graph {graph}').SerializeToString()


def load(model) -> LiteNetwork:
    """A network from a model, its bytes or a path."""
    network = LiteNetwork()
    network.load(model.SerializeToString() if hasattr(model, "SerializeToString") else model)
    return network


def run(network, **given) -> list[np.ndarray]:
    """The outputs in the model's order, for inputs by name."""
    for name, value in given.items():
        network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(value))
    network.forward()
    network.wait()
    return [network.get_io_tensor(n).to_numpy().copy() for n in network.get_all_output_name()]


def expected(model, **given) -> list[np.ndarray]:
    """What the package onnx computes."""
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(model).run(None, given)
