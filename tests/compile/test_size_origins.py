"""From which sizes of inputs shapes and known numbers follow, against what inference gives for other sizes."""

import numpy as np
import pytest
from support.onnx_models import bytes_of_text

from megengine_lite._core.compile.transform.known_part import known_part
from megengine_lite._core.compile.transform.size_origins import InputSize
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.ir.graph import TensorSpec, Var
from megengine_lite.errors import LiteError

MODELS = {
    "a view": """(float[n, c, h, w] x) => (float[a, b] y) <int64[1] m = {-1}, int64 zero = {0}, int64[1] ax = {0}>
        { s = Shape(x) b = Gather(s, zero) u = Unsqueeze(b, ax) t = Concat<axis = 0>(u, m) y = Reshape(x, t) }""",
    "two views": """(float[n, c, h, w] x) => (float[a, b, p, q] y)
        <int64[1] m = {-1}, int64[1] zero = {0}, int64[1] two = {2}>
        { s = Shape(x) b = Slice(s, zero, two) t = Concat<axis = 0>(b, m) u = Reshape(x, t) v = Softmax<axis = 2>(u)
          y = Reshape(v, s) }""",
    "a flat tensor": "(float[n, c, h, w] x) => (float[a, b] y) { y = Flatten<axis = 2>(x) }",
    "arithmetic": """(float[n, c, h, w] x) => (float[a, b, p, q] y) <int64[1] two = {2}, int64[4] k = {1, 1, 2, 3}>
        { s = Shape(x) d = Mul(s, k) e = Expand(two, d) f = Cast<to = 1>(e) y = Relu(f) }""",
    "an expansion": """(float[n, c, h, w] x, float[n, 1, 1, w] z) => (float[a, b, p, q] y)
        { s = Shape(x) e = Expand(z, s) y = Add(e, x) }""",
    "a turned image": """(float[n, c, h, w] x) => (float[a, b, p] y) <int64[3] t = {0, -1, 2}, int64[1] one = {1}>
        { u = Transpose<perm = [2, 0, 3, 1]>(x) v = Concat<axis = 1>(u, u) s = Shape(v) g = Gather<axis = 0>(s, one)
          m = ReduceMax<axes = [0], keepdims = 0>(v) y = Reshape(m, t) }""",
    "convolutions": """(float[n, 2, h, w] x, float[k, 2, 3, 3] f) => (float[a, b, p, q] y, int64[4] s)
        { u = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, f) v = MaxPool<kernel_shape = [2, 2]>(u) s = Shape(v)
          y = Relu(v) }""",
    "products": """(float[n, 1, 3, k] x, float[n, 1, k, m] z) => (int64[4] s) { y = MatMul(x, z) s = Shape(y) }""",
    "an enlarged image": """(float[n, c, h, w] x) => (float[a, b, p, q] y, int64[4] s)
        <float[4] k = {1, 1, 2, 2}> { y = Resize<mode = "nearest">(x, , k) s = Shape(y) }""",
    "a size that is compared": """(float[n, c, h, w] x) => (float[a, b, p, q] y) <int64 four = {4}, int64 three = {3}>
        { s = Shape(x) h = Gather<axis = 0>(s, three) b = Less(h, four)
          y = If(b) <then_branch = t () => (float[a, b, p, q] p) { p = Relu(x) },
            else_branch = e () => (float[a, b, p, q] q) { q = Neg(x) }> }""",
}
SIZES = {"n": 2, "c": 3, "h": 8, "w": 6, "k": 4, "m": 5}


def part_of(graph, sizes):
    shapes = {}
    for declared in graph.declared:
        shapes[declared.name] = tuple(d if isinstance(d, int) else sizes[d] for d in declared.dims)
    known = {v: TensorSpec(shapes[v.name], v.dtype) for v in graph.inputs}
    part = known_part(graph, known)
    return part, part.origins(known)


def found_in(part):
    return {o: copy for copy, o in part.stage.original.items() if isinstance(copy, Var)}


@pytest.mark.parametrize("name", MODELS)
def test_what_does_not_follow_from_a_size_is_the_same_for_others(name):
    graph = load_model(bytes_of_text(MODELS[name])).graph
    part, origins = part_of(graph, SIZES)
    one = found_in(part)
    n_compared = 0
    used = {d for declared in graph.declared for d in declared.dims if isinstance(d, str)}
    for dimension in sorted(used):
        changed = {
            InputSize(v, axis)
            for v, declared in zip(graph.inputs, graph.declared, strict=True)
            for axis, d in enumerate(declared.dims)
            if d == dimension
        }
        for size in (SIZES[dimension] + 1, SIZES[dimension] + 2, 2 * SIZES[dimension], 1):
            try:
                other, _ = part_of(graph, {**SIZES, dimension: size})
            except LiteError:
                continue
            two = found_in(other)
            for var in one.keys() & two.keys():
                for axis, places in enumerate(origins.sizes(var)):
                    if changed.isdisjoint(places):
                        n_compared += 1
                        assert one[var].shape[axis] == two[var].shape[axis], (var, axis, dimension)
                if one[var].const is None or two[var].const is None or origins.sizes(var) is None:
                    continue
                if one[var].shape != two[var].shape or one[var].spec.size > 64:
                    continue
                numbers = zip(
                    origins.each(var), one[var].const.array.reshape(-1), two[var].const.array.reshape(-1), strict=True
                )
                for number, a, b in numbers:
                    if changed.isdisjoint(number.places):
                        n_compared += 1
                        assert a == b, (var, dimension)
                    if number.copied is not None and number.copied[0] in two:
                        n_compared += 1
                        copied, axis = number.copied
                        assert b == number.factor * two[copied].shape[axis], (var, dimension)
    assert n_compared > 10


def test_numbers_are_known_to_be_sizes():
    """The file computes these itself."""
    graph = load_model(bytes_of_text(MODELS["a view"])).graph
    part, origins = part_of(graph, SIZES)
    (reshape,) = (n for n in part.graph.nodes if n.op == "Reshape")
    batch, rest = origins.each(reshape.inputs[1])
    assert batch.copied == (graph.inputs[0], 0) and batch.places == {InputSize(graph.inputs[0], 0)}
    assert rest.copied is None and rest.places == {InputSize(graph.inputs[0], k) for k in range(4)}
    assert np.array_equal(found_in(part)[reshape.inputs[1]].const.array, [2, 144])
