"""Steps by which a random graph of ONNX grows: elementwise operators, shapes, places."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper

from support.onnx_graphs import ANY, F16, FLOATS, I8, I32, I64, NUMBERS, U8, WHOLE, B, D, F, Graph, Step, spread, step

# ---- elementwise -----------------------------------------------------------------------------------------------------

FUNCTIONS = (
    "Abs Asinh Atan Ceil Celu Cos Elu Erf Exp Floor Gelu HardSigmoid HardSwish Identity LeakyRelu Log Mish Neg "
    "Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Tanh ThresholdedRelu IsNaN IsInf"
).split()


@step(4)
def function(g: Graph):
    if v := g.pick(FLOATS):
        g.add(g.choice(*FUNCTIONS), [v])


@step()
def function_of_integers(g: Graph):
    if v := g.pick(WHOLE):
        g.add(g.choice("Abs", "Neg", "Sign", "Identity", "Relu"), [v])


@step(3)
def two_operands(g: Graph):
    if v := g.pick(NUMBERS):
        operands = [v, spread(g, v)]
        g.rng.shuffle(operands)
        op = g.choice("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "PRelu" if v.kind == F else "Mod")
        g.add(op, operands)


@step()
def rest(g: Graph):
    if v := g.pick(FLOATS):
        g.add("Mod", [v, spread(g, v)], fmod=1)


@step()
def comparison(g: Graph):
    if v := g.pick(NUMBERS):
        g.add(g.choice("Greater", "Less", "Equal", "GreaterOrEqual", "LessOrEqual"), [v, spread(g, v)])


@step()
def logic(g: Graph):
    if v := g.pick([B]):
        op = g.choice("And", "Or", "Xor", "Equal", "Not")
        g.add(op, [v] if op == "Not" else [v, spread(g, v)])


@step()
def bits(g: Graph):
    if (v := g.pick((I64, I32, U8))) and g.opset >= 18:
        op = g.choice("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
        g.add(op, [v] if op == "BitwiseNot" else [v, spread(g, v)])


@step()
def where(g: Graph):
    mask, v = g.pick([B]), g.pick((F, I64, I32, U8))
    if mask and v:
        g.add("Where", [mask, v, spread(g, v)])


@step()
def several_operands(g: Graph):
    if v := g.pick(FLOATS):
        g.add(g.choice("Sum", "Mean", "Max", "Min"), [v, spread(g, v), spread(g, v)][: g.choice(1, 2, 3)])


@step(2)
def cast(g: Graph):
    if v := g.pick():
        g.add("Cast", [v], to=g.choice(F, F, I64, I32, B, U8, I8, F16, D))


@step(3)
def cast_back(g: Graph):
    if v := g.pick((B, U8, I8, F16, D, I32, I64)):
        g.add("Cast", [v], to=F)


@step()
def clip(g: Graph):
    if v := g.pick(NUMBERS):
        low, high = (g.constant(n, v.kind) if g.chance(0.7) else None for n in (-1, 2))
        g.add("Clip", [v, low, high])


@step()
def shrink(g: Graph):
    if v := g.pick(FLOATS):
        g.add("Shrink", [v], lambd=0.3, bias=g.choice(0.0, 0.2))


# ---- shapes ----------------------------------------------------------------------------------------------------------


@step(3)
def transpose(g: Graph):
    if v := g.pick(ANY, range(2, 6)):
        g.add("Transpose", [v], perm=g.rng.sample(range(v.rank), v.rank))


@step(3)
def reshape(g: Graph):
    v = g.pick(ANY, range(1, 6))
    if not v:
        return
    axis = g.rng.randrange(v.rank)
    size = v.size(axis) or 1
    factor = g.choice(*[n for n in range(1, size + 1) if size % n == 0])
    targets = [
        [0] * g.rng.randint(0, min(2, v.rank)) + [-1],
        [-1, v.arrays[0].shape[-1]],
        [0] * axis + [factor, size // factor] + [-1] * (axis + 1 < v.rank),
        [0, -1, 1],
    ]
    g.add("Reshape", [v, g.whole(*g.choice(*targets))])


@step()
def reshape_to_computed_sizes(g: Graph):
    if (v := g.pick(ANY, (2, 3, 4))) and (shape := g.add("Shape", [v])):
        size = g.add("Gather", [shape[0], g.whole(0)], axis=0)
        target = size and g.add("Concat", [size[0], g.whole(-1)], axis=0)
        if target:
            g.add("Reshape", [v, target[0]])


@step()
def arithmetic_of_shapes(g: Graph):
    v = g.pick(ANY, range(1, 5))
    if not v or not (shape := g.add("Shape", [v])):
        return
    place = g.constant(g.axis(v), I64)
    size = g.add("Gather", [shape[0], place], axis=0)
    other = g.pick([v.kind], range(5))
    value = numpy_helper.from_array(np.float32([1.5]))
    options: list[Step] = [
        lambda g: g.add("ConstantOfShape", shape, value=value),
        lambda g: g.add("ReduceProd", shape, keepdims=g.choice(0, 1)),
        lambda g: g.add("Cast", shape, to=F),
        lambda g: other and g.add("Expand", [other, shape[0]]),
        lambda g: g.add("Size", [v]),
        lambda g: size and g.add("Range", [g.constant(0, I64), size[0], g.constant(g.choice(1, 2), I64)]),
    ]
    g.choice(*options)(g)


@step(2)
def new_or_dropped_axis(g: Graph):
    v = g.pick(ANY, range(6))
    if not v:
        return
    ones = [k for k, d in enumerate(v.sizes) if d == 1]
    op, axis = ("Squeeze", g.choice(*ones)) if ones and g.chance(0.6) else ("Unsqueeze", g.rng.randint(0, v.rank))
    g.add(op, [v, g.whole(axis)] if g.opset >= 13 else [v], axes=None if g.opset >= 13 else [axis])


@step()
def flatten(g: Graph):
    if v := g.pick(ANY, range(1, 5)):
        g.add("Flatten", [v], axis=g.rng.randint(-v.rank, v.rank))


@step(3)
def concat(g: Graph):
    if v := g.pick(ANY, range(1, 5)):
        others = [g.pick([v.kind], [v.rank]) for _ in range(g.choice(1, 1, 2))]
        g.add("Concat", [v, *others], axis=g.axis(v))


@step()
def split(g: Graph):
    v = g.pick((F, I64, I32, U8), range(1, 5))
    if not v:
        return
    axis = g.rng.randrange(v.rank)
    size = v.size(axis) or 0
    if size < 2 or g.chance(0.4):
        g.add("Split", [v], 2, axis=axis, num_outputs=2 if g.opset >= 18 else None)
        return
    first = g.rng.randrange(1, size)
    lengths = [first, size - first]
    new = g.opset >= 13
    g.add("Split", [v, g.whole(*lengths)] if new else [v], 2, axis=axis, split=None if new else lengths)


@step(3)
def part(g: Graph):
    if v := g.pick(ANY, range(1, 5)):
        axes = g.rng.sample(range(v.rank), g.rng.randint(1, min(2, v.rank)))
        begins = [g.choice(0, 0, 1, -2, -1, 2) for _ in axes]
        ends = [g.choice(1, 3, -1, 2**31 - 1, 2**63 - 1) for _ in axes]
        steps = [g.choice(1, 1, 1, 2, 3) for _ in axes]
        if g.chance(0.2):
            begins, ends, steps = [-1] * len(axes), [1 - 2**63] * len(axes), [-1] * len(axes)
        g.add("Slice", [v, *(g.whole(*numbers) for numbers in (begins, ends, axes, steps))])


@step()
def pad(g: Graph):
    if v := g.pick(NUMBERS, range(1, 5)):
        mode = g.choice("constant", "constant", "reflect", "edge", "wrap" if g.opset >= 19 else "edge")
        widths = [g.choice(0, 0, 1, 2, -1 if mode == "constant" else 0) for _ in range(2 * v.rank)]
        value = [g.constant(1, v.kind)] if mode == "constant" and g.chance(0.5) else []
        g.add("Pad", [v, g.whole(*widths), *value], mode=mode)


@step()
def repeat(g: Graph):
    if v := g.pick((F, I64, I32, U8, B), range(5)):
        if v.rank and g.chance(0.5):
            g.add("Tile", [v, g.whole(*(g.choice(1, 1, 2, 3) for _ in v.sizes))])
        else:
            g.add("Expand", [v, g.whole(2, *(3 if d == 1 else 1 for d in v.sizes))])


# ---- places ----------------------------------------------------------------------------------------------------------


@step()
def gather(g: Graph):
    if (v := g.pick(ANY, range(1, 5))) and (size := v.shortest(axis := g.axis(v))):
        places = g.numbers.integers(-size, size, g.choice((), (1,), (3,), (2, 2)))
        g.add("Gather", [v, g.constant(places, g.choice(I64, I32))], axis=axis)


@step()
def single_elements(g: Graph):
    v = g.pick(ANY, range(1, 5))
    if not v or not all(v.shortest(k) for k in range(v.rank)):
        return
    axis = g.rng.randrange(v.rank)
    shape = [g.rng.randint(1, v.shortest(k)) for k in range(v.rank)]
    size = v.shortest(axis)
    rows = np.unique(g.numbers.integers(0, v.shortest(0), (2, 1)), axis=0)
    places_of_one = g.numbers.integers(-size, size, [1 if k == axis else n for k, n in enumerate(shape)])
    options: list[Step] = [
        lambda g: g.add("GatherElements", [v, g.constant(g.numbers.integers(-size, size, shape), I64)], axis=axis),
        lambda g: g.add("GatherND", [v, g.constant(rows, I64)]),
        lambda g: g.add(
            "ScatterElements",
            [
                v,
                g.constant(places_of_one, I64),
                g.constant(g.random(v.kind, places_of_one.shape)),
            ],
            axis=axis,
        ),
        lambda g: g.add(
            "ScatterND",
            [v, g.constant(rows, I64), g.constant(g.random(v.kind, [len(rows), *v.arrays[0].shape[1:]]))],
        ),
    ]
    g.choice(*options)(g)


@step()
def one_hot(g: Graph):
    if v := g.pick(WHOLE, range(4)):
        g.add("OneHot", [v, g.constant(g.choice(3, 5), I64), g.constant([0, 1], F)], axis=g.choice(-1, 0))


@step()
def triangle(g: Graph):
    if v := g.pick((F, I64), (2, 3, 4)):
        g.add("Trilu", [v, g.constant(g.rng.randint(-2, 2), I64)], upper=g.choice(0, 1))


@step()
def largest(g: Graph):
    if (v := g.pick((F, F, I64), range(1, 5))) and (size := v.shortest(axis := g.axis(v))):
        g.add("TopK", [v, g.whole(g.rng.randint(1, size))], 2, axis=axis, largest=g.choice(0, 1, 1))


@step()
def places_of_true(g: Graph):
    if v := g.pick((F, B, I64), range(1, 5)):
        g.add("NonZero", [v])
