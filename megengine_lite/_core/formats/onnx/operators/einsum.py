"""Einsum: sums, products of matrices and transpositions where the equation has one or two terms; others are computed by
a node of their own, in numpy."""

from __future__ import annotations

import string
from collections.abc import Collection, Sequence

import numpy as np

from megengine_lite._core.formats.onnx.graph_builder import GraphBuilder
from megengine_lite._core.formats.onnx.graph_values import Value, check_same_kind
from megengine_lite._core.formats.onnx.operators.activations import choose, product
from megengine_lite._core.formats.onnx.operators.matrices import multiplied
from megengine_lite._core.formats.onnx.operators.reductions import reduced
from megengine_lite._core.formats.onnx.operators.table import Call, NotConverted, converts
from megengine_lite._core.ir.onnx_params import EinsumParam
from megengine_lite._core.ir.params import ElemwiseMode, ElemwiseMultiTypeMode, ReduceMode


@converts("Einsum", since=12)
def _einsum(call: Call) -> Value:
    b = call.builder
    values = [call.input(k) for k in range(max(len(call.inputs), 1))]
    check_same_kind(values)
    equation, rank = explicit_equation(call.text("equation", ""), [v.rank for v in values])
    terms, result = named_axes(equation, [v.rank for v in values])
    if not _by_products(b, terms, result, values):
        return b.node("Einsum", EinsumParam(equation), [b.exact(v) for v in values], values[0].kind, rank)
    if len(values) == 1:
        return _ordered(b, *_summed(b, values[0], terms[0], result), result)
    return _contracted(b, values[0], terms[0], values[1], terms[1], result)


def explicit_equation(equation: str, ranks: Sequence[int]) -> tuple[str, int]:
    """An equation with its result, and the number of dimensions of that."""
    equation = equation.replace(" ", "")
    left, arrow, result = equation.partition("->")
    terms = left.split(",")
    letters = left.replace(",", "").replace("...", "")
    if len(terms) != len(ranks) or not all(c.isalpha() and c.isascii() for c in letters + result.replace("...", "")):
        raise NotConverted(f"the equation {equation!r} does not fit {len(ranks)} inputs")
    more = 0
    for term, rank in zip(terms, ranks, strict=True):
        named = len(term.replace("...", ""))
        if rank < named or (rank > named and "..." not in term):
            raise NotConverted(f"the term {term!r} of its equation does not fit {rank} dimensions")
        more = max(more, rank - named)
    if not arrow:
        once = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
        result = ("..." if "..." in left else "") + once
    rank = len(result.replace("...", "")) + (more if "..." in result else 0)
    return f"{left}->{result}", rank


def named_axes(equation: str, ranks: Sequence[int]) -> tuple[list[str], str]:
    """The terms and the result of an explicit equation, with letters that it does not use in the places of the dots."""
    left, _, result = equation.partition("->")
    terms = left.split(",")
    free = [c for c in string.ascii_letters if c not in equation]
    more = max(rank - len(term.replace("...", "")) for term, rank in zip(terms, ranks, strict=True))
    dots = "".join(free[:more])
    named = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term.replace("...", ""))
        named.append(term.replace("...", dots[len(dots) - count :]))
    return named, result.replace("...", dots)


def _by_products(b: GraphBuilder, terms: Sequence[str], result: str, values: Sequence[Value]) -> bool:
    """Whether an equation is made of sums and products: no term has a letter twice, and each letter that is summed over
    in both terms has one size in both as far as sizes are known."""
    if len(values) > 2 or not all(v.is_float32 for v in values) or not all(terms):
        return False
    if any(len(set(term)) < len(term) for term in (*terms, result)) or set(result) - set("".join(terms)):
        return False
    shapes = [b.known_shape(v) for v in values]
    if len(values) == 1 or None in shapes:
        return True
    sizes = [dict(zip(term, shape or (), strict=True)) for term, shape in zip(terms, shapes, strict=True)]
    return all(sizes[0][c] == sizes[1][c] for c in sizes[0].keys() & sizes[1].keys() - set(result))


def _summed(b: GraphBuilder, x: Value, letters: str, kept: Collection[str]) -> tuple[Value, str]:
    """A term summed over the letters that nothing else has."""
    axes = [i for i, c in enumerate(letters) if c not in kept]
    if not axes:
        return x, letters
    total = reduced(b, x, axes, ReduceMode.SUM)
    return b.without_axes(total, axes), "".join(c for c in letters if c in kept)


def _ordered(b: GraphBuilder, x: Value, letters: str, order: str) -> Value:
    return b.transposed(x, [letters.index(c) for c in order])


def _contracted(b: GraphBuilder, x: Value, left: str, y: Value, right: str, result: str) -> Value:
    """Two terms: products of matrices [batch, rows, inner] and [batch, inner, columns], or products of numbers where
    there is nothing to sum over."""
    x, left = _summed(b, x, left, {*right, *result})
    y, right = _summed(b, y, right, {*left, *result})
    batch = "".join(c for c in result if c in left and c in right)
    rows = "".join(c for c in result if c in left and c not in right)
    columns = "".join(c for c in result if c in right and c not in left)
    inner = "".join(c for c in left if c in right and c not in result)
    if rows and columns and result.index(columns[0]) < result.index(rows[0]):
        return _contracted(b, y, right, x, left, result)  # so that the product need not be transposed
    lead = len(batch)
    x, y = _of_one_size(b, x, left, y, right, inner)
    x = _ordered(b, x, left, batch + rows + inner)
    y = _ordered(b, y, right, batch + inner + columns)
    if inner:
        sizes = _dimensions(b, x, lead, len(rows)), _dimensions(b, y, lead + len(inner), len(columns))
        z = multiplied(b, _grouped(b, x, lead, len(rows)), _grouped(b, y, lead, len(inner)))
        z = _ungrouped(b, z, lead, *sizes)
    else:
        x = b.with_axes(x, range(x.rank, x.rank + len(columns)))
        y = b.with_axes(y, range(lead, lead + len(rows)))
        z = b.elemwise(ElemwiseMode.MUL, x, y)
    return _ordered(b, z, batch + rows + columns, result)


def _of_one_size(b: GraphBuilder, x: Value, left: str, y: Value, right: str, inner: str) -> tuple[Value, Value]:
    """Two terms whose inner letters have one size in both: what has one element there is repeated.

    Elements of the other letters are repeated by the product itself. Nothing is done where sizes are known, since
    :func:`_by_products` has compared them.
    """
    if not inner or None not in (b.known_shape(x), b.known_shape(y)):
        return x, y
    one = b.constant(np.ones(1, np.int64))
    sizes = {}
    for c in inner:
        n, m = b.dimension(x, left.index(c)), b.dimension(y, right.index(c))
        sizes[c] = choose(b, b.compare(ElemwiseMultiTypeMode.EQ, n, one), m, n)

    def repeated(z: Value, letters: str) -> Value:
        target = [sizes[c] if c in sizes else b.dimension(z, k) for k, c in enumerate(letters)]
        return b.broadcast(z, b.joined(target, 0).var, z.rank)

    return repeated(x, left), repeated(y, right)


def _dimensions(b: GraphBuilder, x: Value, begin: int, count: int) -> list[Value]:
    return [b.dimension(x, begin + i) for i in range(count)]


def _grouped(b: GraphBuilder, x: Value, lead: int, first: int) -> Value:
    """x as matrices: `first` of the dimensions behind the leading ones are one, and so are those behind them."""
    groups = [_dimensions(b, x, lead, first), _dimensions(b, x, lead + first, x.rank - lead - first)]
    if [len(group) for group in groups] == [1, 1]:
        return x
    one = b.constant(np.ones(1, np.int64))
    sizes = [product(b, b.joined(group, 0)) if group else one for group in groups]
    target = b.joined([*_dimensions(b, x, 0, lead), *sizes], 0)
    return b.reshaped(x, target.var, lead + 2)


def _ungrouped(b: GraphBuilder, z: Value, lead: int, rows: list[Value], columns: list[Value]) -> Value:
    """A product of :func:`_grouped` matrices with the dimensions that its rows and columns have had."""
    if len(rows) == len(columns) == 1:
        return z
    dimensions = [*_dimensions(b, z, 0, lead), *rows, *columns]
    if not dimensions:
        return b.without_axes(z, [0, 1])
    return b.reshaped(z, b.joined(dimensions, 0).var, len(dimensions))
