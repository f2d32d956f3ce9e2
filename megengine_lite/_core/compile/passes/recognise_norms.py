"""Finds layer normalization and its kind without a mean in pieces, as exporters write them.

::

    x ─► mean ─► x - mean ─► square ─► mean ─► + eps ─► square root
                     └───────────────────────────────────► / ─► * weight ─► + bias

There are many ways to write what follows the root: by its reciprocal, with the weight in front, or as x times one
factor and a sum of the rest. So each result is taken for a polynomial of x, its mean, the root and constants, and the
last one that is ``(x - mean) / root * weight + bias``, or ``x / root * weight``, becomes one node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from megengine_lite._core.compile.rewriter import Rewriter
from megengine_lite._core.ir.dtype import FLOAT32
from megengine_lite._core.ir.fused import RmsNorm
from megengine_lite._core.ir.graph import Constant, ConstantPool, Graph, Node, TensorSpec, Var
from megengine_lite._core.ir.params import ElemwiseMode, GeneralNorm, GroupNorm, ReduceMode
from megengine_lite._core.ir.shape_constant import reshaped_constant
from megengine_lite._records import record

_M = ElemwiseMode
_MAX_PIECES = 12  # behind the root
_MAX_TERMS = 16  # of a polynomial; powers of a sum have many more, and are no normalization
_X, _MEAN, _ROOT = "x", "mean", "root"

Monomial = frozenset[tuple["str | Var", int]]
"""Powers of symbols: x, its mean, the root, or constants of more than one element."""
Polynomial = dict[Monomial, float]


def run(graph: Graph, pool: ConstantPool) -> None:
    rewriter = Rewriter(graph)
    for node in rewriter:
        if _is(node, _M.SQRT):
            for statistic in _statistics(node, rewriter):
                if _fuse(statistic, rewriter, pool):
                    break
    rewriter.finish()
    graph.remove_dead()


def _is(node: Node | None, *modes: ElemwiseMode) -> bool:
    return node is not None and node.op == "Elemwise" and node.params.mode in modes


# ---- the root --------------------------------------------------------------------------------------------------------


@record(frozen=True, slots=True)
class _Statistic:
    """The root of ``eps`` and the mean square of x, or of its distance from its mean, over some axes.

    ``power`` is -1 if the node makes the reciprocal of the root.
    """

    root: Node
    power: int
    x: Var
    axes: tuple[int, ...]
    eps: float
    is_centred: bool


def _statistics(root: Node, rewriter: Rewriter) -> Iterator[_Statistic]:
    """What a root may be, the likelier first."""
    total, power = rewriter.producer(root.inputs[0]), 1
    if total is not None and _is(total, _M.TRUE_DIV):  # as powers with the exponent -1/2 become
        one, divisor = total.inputs
        if one.const is None or one.spec.size != 1 or _number(one) != 1:
            return
        total, power = rewriter.producer(divisor), -1
    if total is None or not _is(total, _M.ADD):
        return
    numbers = [v for v in total.inputs if v.const is not None and v.spec.size == 1]
    others = [v for v in total.inputs if v not in numbers]
    mean = rewriter.producer(others[0]) if len(numbers) == len(others) == 1 else None
    axes = None if mean is None else _mean_axes(mean)
    squares = rewriter.producer(mean.inputs[0]) if mean is not None and axes is not None else None
    if squares is None or axes is None or not _is(squares, _M.SQUARE, _M.MUL):
        return
    base = squares.inputs[0]
    if any(v is not base for v in squares.inputs) or base.dtype != FLOAT32:
        return
    eps = _number(numbers[0])
    centred = rewriter.producer(base)
    if centred is not None and _is(centred, _M.SUB):
        for x, v in (centred.inputs, centred.inputs[::-1]):
            if _is_mean(rewriter.producer(v), x, axes):
                yield _Statistic(root, power, x, axes, eps, True)
    yield _Statistic(root, power, base, axes, eps, False)


def _mean_axes(node: Node) -> tuple[int, ...] | None:
    """The neighbouring axes of which a node computes the mean; None if it computes something else."""
    if node.op != "ReduceAxes" or node.params.mode != ReduceMode.MEAN:
        return None
    axes = tuple(sorted(node.params.axes))
    return axes if axes == tuple(range(axes[0], axes[-1] + 1)) else None


def _is_mean(node: Node | None, x: Var, axes: tuple[int, ...]) -> bool:
    return node is not None and bool(node.inputs) and node.inputs[0] is x and _mean_axes(node) == axes


def _number(v: Var) -> float:
    return float(v.constant.array.reshape(-1)[0])


# ---- what follows the root -------------------------------------------------------------------------------------------


class _Pieces:
    """The results that follow from a root, as polynomials."""

    def __init__(self, statistic: _Statistic, rewriter: Rewriter):
        self._statistic = statistic
        self._rewriter = rewriter
        self._known: dict[Var, Polynomial | None] = {
            statistic.x: {frozenset({(_X, 1)}): 1.0},
            statistic.root.outputs[0]: {frozenset({(_ROOT, statistic.power)}): 1.0},
        }

    def polynomial(self, v: Var, depth: int = _MAX_PIECES) -> Polynomial | None:
        """What a variable is; None if it is something else."""
        if v not in self._known:
            self._known[v] = self._find(v, depth)
        return self._known[v]

    def _find(self, v: Var, depth: int) -> Polynomial | None:
        if v.const is not None:
            if v.dtype != FLOAT32:
                return None
            return {frozenset(): _number(v)} if v.spec.size == 1 else {frozenset({(v, 1)}): 1.0}
        node = self._rewriter.producer(v)
        statistic = self._statistic
        if node is None or not depth:
            return None
        if statistic.is_centred and _is_mean(node, statistic.x, statistic.axes):
            return {frozenset({(_MEAN, 1)}): 1.0}
        if not _is(node, _M.ADD, _M.SUB, _M.MUL, _M.TRUE_DIV, _M.NEGATE):
            return None
        parts = []
        for operand in node.inputs:
            part = self.polynomial(operand, depth - 1)
            if part is None:
                return None
            parts.append(part)
        return _combined(node.params.mode, parts)


def _combined(mode: int, parts: list[Polynomial]) -> Polynomial | None:
    first, *rest = parts
    if mode == _M.NEGATE:
        return _product(first, {frozenset(): -1.0})
    (second,) = rest
    if (len(first) * len(second) if mode == _M.MUL else len(first) + len(second)) > _MAX_TERMS:
        return None
    if mode == _M.MUL:
        return _product(first, second)
    if mode == _M.TRUE_DIV:
        ((powers, number),) = second.items() if len(second) == 1 else ((None, 0.0),)
        if powers is None or not number:
            return None
        return _product(first, {frozenset((symbol, -power) for symbol, power in powers): 1 / number})
    sign = 1.0 if mode == _M.ADD else -1.0
    return {m: n for m in first | second if (n := first.get(m, 0.0) + sign * second.get(m, 0.0))}


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for m, number in a.items():
        for n, factor in b.items():
            powers: Counter[str | Var] = Counter(dict(m))
            for symbol, power in n:
                powers[symbol] += power
            monomial = frozenset((s, p) for s, p in powers.items() if p)
            result[monomial] = result.get(monomial, 0.0) + number * factor
    return result


@record(frozen=True, slots=True)
class _Affine:
    """Weight and bias of a normalization: products of constants and a number, of which the bias may have several."""

    weight: tuple[tuple[Var, ...], float]
    bias: tuple[tuple[tuple[Var, ...], float], ...]


def _affine(polynomial: Polynomial, is_centred: bool) -> _Affine | None:
    """Weight and bias, if a polynomial is that of a normalization."""
    by_base: dict[tuple[tuple[str, int], ...], dict[Monomial, float]] = {}
    for monomial, number in polynomial.items():
        base = tuple(sorted((s, p) for s, p in monomial if isinstance(s, str)))
        by_base.setdefault(base, {})[frozenset(f for f in monomial if not isinstance(f[0], str))] = number
    scale = by_base.pop(((_ROOT, -1), (_X, 1)), {})
    minus = by_base.pop(((_MEAN, 1), (_ROOT, -1)), {})
    shift = by_base.pop((), {})
    if by_base or len(scale) != 1 or any(p != 1 for m in (*scale, *shift) for _, p in m):
        return None
    if minus != ({m: -n for m, n in scale.items()} if is_centred else {}):
        return None
    ((factors, number),) = scale.items()
    return _Affine((_constants(factors), number), tuple((_constants(m), n) for m, n in shift.items()))


def _constants(monomial: Iterable[tuple[str | Var, int]]) -> tuple[Var, ...]:
    return tuple(sorted((v for v, _ in monomial if isinstance(v, Var)), key=lambda v: v.id))


# ---- the node --------------------------------------------------------------------------------------------------------


def _fuse(statistic: _Statistic, rewriter: Rewriter, pool: ConstantPool) -> bool:
    """Replaces the last node that is a normalization by this root; False if there is none."""
    pieces = _Pieces(statistic, rewriter)
    found = [statistic.root]
    candidates: list[tuple[Node, _Affine, tuple[int, ...]]] = []
    for node in found:
        for reader in rewriter.readers(node.outputs[0]):
            if not isinstance(reader, Node) or reader in found or len(found) > _MAX_PIECES:
                continue
            polynomial = pieces.polynomial(reader.outputs[0]) if len(reader.outputs) == 1 else None
            if polynomial is None:
                continue
            found.append(reader)
            affine = _affine(polynomial, statistic.is_centred)
            axes = None if affine is None else _weight_axes(affine, statistic)
            if affine is not None and axes is not None and reader.outputs[0].shape == statistic.x.shape:
                candidates.append((reader, affine, axes))
    for last, affine, axes in sorted(candidates, key=lambda c: rewriter.position(c[0]), reverse=True):
        if _is_closed(statistic, last, rewriter):
            rewriter.replace([last], [_normalization(statistic, affine, axes, last, pool)])
            return True
    return False


def _weight_axes(affine: _Affine, statistic: _Statistic) -> tuple[int, ...] | None:
    """The axes that weight and bias are for: those that are normalized, or the channels of images. None if others."""
    ndim, axes = len(statistic.x.shape), statistic.axes
    used = {
        k + ndim - len(v.shape)
        for factors in (affine.weight[0], *(f for f, _ in affine.bias))
        for v in factors
        for k, d in enumerate(v.shape)
        if d != 1
    }
    if not statistic.is_centred:
        return axes if used <= {*axes} and not affine.bias and axes[-1] == ndim - 1 else None
    if ndim == 4 and axes == (2, 3) and used <= {1}:
        return (1,)
    return axes if used <= {*axes} and (axes[-1] == ndim - 1 or ndim == 3) else None  # images are in blocks of channels


def _is_closed(statistic: _Statistic, last: Node, rewriter: Rewriter) -> bool:
    """Whether nothing else reads what is computed between x and the last node."""
    region = [last]
    for node in region:
        for v in node.inputs:
            before = None if v is statistic.x else rewriter.producer(v)
            if before is not None and before not in region:
                region.append(before)
    inner = {v for node in region[1:] for v in node.outputs}
    return all(rewriter.only_read_by(v, region) for v in inner)


def _normalization(
    statistic: _Statistic, affine: _Affine, weight_axes: tuple[int, ...], last: Node, pool: ConstantPool
) -> Node:
    x, y, eps = statistic.x, last.outputs[0], statistic.eps
    first, end = statistic.axes[0], statistic.axes[-1] + 1
    shape, behind = tuple(x.shape[k] for k in weight_axes), len(x.shape) - weight_axes[-1] - 1
    weights = []
    if affine.bias or affine.weight != ((), 1.0):
        terms = ([affine.weight], affine.bias) if statistic.is_centred else ([affine.weight],)
        weights = [_weight(t, shape, behind, y, pool) for t in terms]
    if not statistic.is_centred:
        return Node("RmsNorm", RmsNorm(eps, first, bool(weights)), [x, *weights], [y], last.name)
    if weight_axes != statistic.axes:
        moments = [Var(y.id, "", TensorSpec(x.shape[:2], FLOAT32)) for _ in range(2)]
        parameters = GroupNorm(affine=bool(weights), eps=eps, group=1)
        return Node("InstanceNorm", parameters, [x, *weights], [y, *moments], last.name)
    moments = [Var(y.id, "", TensorSpec((x.shape[:first] + x.shape[end:]) or (1,), FLOAT32)) for _ in range(2)]
    general = GeneralNorm(affine=bool(weights), eps=eps, axis_start=first, axis_end=end)
    return Node("GeneralNorm", general, [x, *weights], [y, *moments], last.name)


def _weight(
    terms: Sequence[tuple[tuple[Var, ...], float]], shape: tuple[int, ...], behind: int, like: Var, pool: ConstantPool
) -> Var:
    """The sum of products of constants as a constant of the shape of some axes, behind which there are others."""
    if len(terms) == 1 and len(terms[0][0]) == 1 and terms[0][1] == 1 and terms[0][0][0].spec.size == np.prod(shape):
        only = terms[0][0][0]
        return only if only.shape == shape else reshaped_constant(only, shape, pool)
    variables = [v for factors, _ in terms for v in factors]
    counts = [(len(factors), number) for factors, number in terms]

    def value(*arrays: np.ndarray) -> np.ndarray:
        # Axes in front of these have the length 1; those behind them, too.
        ndim = len(shape) + behind
        left = [a.reshape((1,) * (ndim - a.ndim) + a.shape[max(a.ndim - ndim, 0) :]) for a in arrays]
        total = np.zeros(shape + (1,) * behind, np.float32)
        for count, number in counts:
            product = np.full(total.shape, number, np.float32)
            for a in left[:count]:
                product = product * a
            del left[:count]
            total += product
        return total.reshape(shape)

    if variables:
        recipe = ("norm weight", tuple(counts), shape, behind)
        constant = pool.derive(recipe, [v.constant for v in variables], value)
    else:
        constant = Constant(value(), ("norm weight", tuple(counts), shape))
    return Var(like.id, "", TensorSpec(shape, FLOAT32), constant)
