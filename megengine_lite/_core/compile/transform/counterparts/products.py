"""Sums of products: equations in Einstein's notation, Fourier transforms."""

from __future__ import annotations

import math
import string
from collections.abc import Sequence

import numpy as np

from megengine_lite._core.compile.transform.counterparts.pieces import Pieces, dtype_of, numbers_of, shape_of
from megengine_lite._core.compile.transform.counterparts.table import NotWritten, written
from megengine_lite._core.ir import params
from megengine_lite._core.ir.dtype import FLOAT32, INT32
from megengine_lite._core.ir.graph import AnyNode, AnyVar, TensorSpec, Var
from megengine_lite._core.ir.onnx_params import Fourier, ShortTime
from megengine_lite._core.ir.params import ReduceMode
from megengine_lite._core.operators.onnx_signal import FourierTransform, ShortTimeFourier

_MOST_PRODUCTS = 1 << 24
"""Products of integers that are there at the same time."""
_MOST_ROWS = 4
"""Of a matrix whose determinant is written; of more rows this would take too many steps."""
_MOST_FACTORS = 1 << 22
"""Numbers of a matrix that stands for a Fourier transform."""


@written("Einsum")
def _einsum(w: Pieces, node: AnyNode) -> Var:
    (out,) = node.outputs
    dtype = dtype_of(node.inputs[0])
    carrier = FLOAT32 if dtype.is_float else INT32
    terms, result = _letters(node)
    found: tuple[str, Var] | None = None
    for term, var in zip(terms, node.inputs, strict=True):
        if len(set(term)) < len(term):
            raise NotWritten("its equation takes a diagonal")
        this = term, w.reshaped(w.converted(var, carrier), shape_of(var) if term else ())
        found = this if found is None else _pair(w, found, this, _wanted(node, terms, result, term, found[0]))
    assert found is not None
    letters, x = _summed(w, *found, result)
    x = w.transposed(x, [letters.index(c) for c in result]) if len(result) > 1 else x
    return w.converted(w.reshaped(x, shape_of(out)), dtype)


def _letters(node: AnyNode) -> tuple[list[str], str]:
    """The letters of all axes: those that dots stand for get letters of their own."""
    left, _, result = node.params.equation.partition("->")
    unused = [c for c in string.ascii_letters if c not in node.params.equation]
    terms, most = left.split(","), 0
    for k, term in enumerate(terms):
        if "..." in term:
            count = len(shape_of(node.inputs[k])) - len(term.replace("...", ""))
            most = max(most, count)
            terms[k] = term.replace("...", "".join(unused[: max(count, 0)][::-1]))
    sizes: dict[str, int] = {}
    for term, var in zip(terms, node.inputs, strict=True):
        for letter, d in zip(term, shape_of(var) if term else (), strict=True):
            if sizes.setdefault(letter, d) != d:
                raise NotWritten("axes of its equation are repeated")
    return terms, result.replace("...", "".join(unused[:most][::-1]))


def _wanted(node: AnyNode, terms: Sequence[str], result: str, term: str, done: str) -> set[str]:
    """The letters that are needed once two operands are one."""
    later = terms[list(terms).index(term) + 1 :] if len(terms) > 2 else []
    return set(result).union(*later)


def _summed(w: Pieces, letters: str, x: Var, wanted: set[str] | str) -> tuple[str, Var]:
    """Without the letters that are not wanted, whose elements are added."""
    axes = [k for k, c in enumerate(letters) if c not in wanted]
    kept = [k for k in range(len(letters)) if k not in axes]
    total = w.reduced(ReduceMode.SUM, x, axes) if axes else x
    return "".join(letters[k] for k in kept), w.reshaped(total, [x.shape[k] for k in kept] or [1])


def _pair(w: Pieces, first: tuple[str, Var], second: tuple[str, Var], wanted: set[str]) -> tuple[str, Var]:
    """Two operands as one."""
    (a, x), (b, y) = (
        _summed(w, letters, v, wanted | set(others))
        for (letters, v), others in (
            (first, second[0]),
            (second, first[0]),
        )
    )
    sizes = dict(zip(a, x.shape, strict=False)) | dict(zip(b, y.shape, strict=False))
    batch = [c for c in a if c in b and c in wanted]
    inner = [c for c in a if c in b and c not in wanted]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    n, k, m, p = (math.prod(sizes[c] for c in part) for part in (batch, inner, rows, columns))
    left = w.reshaped(_ordered(w, a, x, [*batch, *rows, *inner]), (n, m, k))
    right = w.reshaped(_ordered(w, b, y, [*batch, *inner, *columns]), (n, k, p))
    if x.dtype == FLOAT32:
        product = w.make("BatchedMatrixMul", params.MatrixMul(), [left, right])
    elif n * m * k * p > _MOST_PRODUCTS:
        raise NotWritten("its products of integers are too many")
    else:
        terms = w.multiply(w.reshaped(left, (n, m, k, 1)), w.reshaped(right, (n, 1, k, p)))
        product = w.reduced(ReduceMode.SUM, terms, [2])
    letters = [*batch, *rows, *columns]
    return "".join(letters), w.reshaped(product, [sizes[c] for c in letters] or [1])


def _ordered(w: Pieces, letters: str, x: Var, order: Sequence[str]) -> Var:
    return w.transposed(x, [letters.index(c) for c in order]) if len(order) > 1 else x


@written("Det")
def _determinant(w: Pieces, node: AnyNode) -> Var:
    """By the elements of the first row and the determinants of what is left without their columns."""
    x, (out,) = node.inputs[0], node.outputs
    shape, dtype = shape_of(x), dtype_of(x)
    size = shape[-1]
    if not 0 < size <= _MOST_ROWS:
        raise NotWritten(f"determinants of matrices of {size} rows are not written, of 1 to {_MOST_ROWS} are")
    flat = w.reshaped(w.converted(x, FLOAT32), (math.prod(shape[:-2]), size * size))

    def determinant(row: int, columns: Sequence[int]) -> Var:
        first = [w.part(flat, 1, row * size + k, row * size + k + 1) for k in columns]
        if len(columns) == 1:
            return first[0]
        total: Var | None = None
        for k, element in enumerate(first):
            term = w.multiply(element, determinant(row + 1, [*columns[:k], *columns[k + 1 :]]))
            total = term if total is None else (w.subtract if k % 2 else w.add)(total, term)
        assert total is not None
        return total

    return w.converted(w.reshaped(determinant(0, range(size)), shape_of(out)), dtype)


# ---- Fourier transforms ---------------------------------------------------------------------------------------------


@written("FourierTransform")
def _fourier(w: Pieces, node: AnyNode) -> Var:
    p, x = node.params, node.inputs[0]
    (out,) = node.outputs
    shape, dtype = shape_of(x), dtype_of(x)
    values = [numbers_of(v) for v in node.inputs[1:]]
    if any(v is None for v in values):
        raise NotWritten("its length or its axis depends on data")
    axis, length = FourierTransform.axis_and_length(node, shape, values)
    matrix = _matrix(p, shape[axis], shape[-1], length)
    order = [*(a for a in range(len(shape) - 1) if a != axis), axis, len(shape) - 1]
    lead = [shape[a] for a in order[:-2]]
    rows = w.reshaped(w.transposed(w.converted(x, FLOAT32), order), (math.prod(lead), shape[axis] * shape[-1]))
    wanted = shape_of(out)
    made = w.reshaped(w.product(rows, w.constant(matrix)), (*lead, wanted[axis], wanted[-1]))
    return w.converted(w.transposed(made, [order.index(a) for a in range(len(shape))]), dtype)


def _matrix(p: Fourier, count: int, parts: int, length: int) -> np.ndarray:
    """What the transform makes of numbers that are all 0 but one."""
    size = count * parts
    if size * 2 * max(length, count) > _MOST_FACTORS:
        raise NotWritten(f"a transform of {length} numbers is a matrix that is too large for a file")
    units = np.eye(size, dtype=np.float32).reshape(size, count, parts)
    plain = Fourier(p.inverse, p.onesided, 1, True)
    data = TensorSpec(units.shape, FLOAT32)
    given = TensorSpec((1,), INT32, np.array([length], np.int32))
    node = AnyNode("FourierTransform", plain, [], [])
    operator = FourierTransform()
    specs = operator.infer(node, [data, given])
    (found,) = operator.compute(node, [units, np.array([length], np.int32)], [data, given], specs)
    return np.ascontiguousarray(found.reshape(size, -1))


@written("ShortTimeFourier")
def _short_time(w: Pieces, node: AnyNode) -> Var:
    p, x = node.params, node.inputs[0]
    (out,) = node.outputs
    dtype = dtype_of(x)
    values = [TensorSpec(shape_of(v), dtype_of(v), numbers_of(v)) for v in node.inputs]
    if values[1].value is None or (p.has_length and values[-1].value is None):
        raise NotWritten("the step or the length of its frames depends on data")
    step, frame = ShortTimeFourier.step_and_frame(node, values)
    n, count = shape_of(out)[:2]
    signal = w.converted(x, FLOAT32)
    parts = signal.shape[2] if len(signal.shape) == 3 else 1
    index = (np.arange(count)[:, None] * step + np.arange(frame)).reshape(-1)
    frames = w.taken(w.reshaped(signal, (n, signal.shape[1], parts)), 1, w.constant(index.astype(np.int32)))
    frames = w.reshaped(frames, (n, count, frame, parts))
    if p.has_window:
        window: AnyVar = node.inputs[2]
        frames = w.multiply(frames, w.reshaped(w.converted(window, FLOAT32), (1, 1, frame, 1)))
    matrix = _matrix(_transform(p), frame, parts, frame)
    made = w.product(w.reshaped(frames, (n * count, frame * parts)), w.constant(matrix))
    return w.converted(w.reshaped(made, shape_of(out)), dtype)


def _transform(p: ShortTime) -> Fourier:
    return Fourier(False, p.onesided, 1, True)
