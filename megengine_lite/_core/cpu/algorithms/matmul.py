"""Algorithms of matrix products: the problem that they solve, when each applies, what it costs."""

from __future__ import annotations

from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, AlgorithmTable, Condition
from megengine_lite._core.cpu.isa import COSTS_OF_A_LANE
from megengine_lite._core.cpu.kernel_set import KernelSet
from megengine_lite._records import field, record, replace


@record(frozen=True, slots=True)
class MatMulProblem:
    """What algorithms need to know about products of m x k and k x n matrices.

    Attributes
    ----------
    count
        Number of products.
    panel
        Columns that the kernels of the session compute at a time.
    constant
        The right factor is a constant, so that it may be packed beforehand.
    kernels
        The kernels of the session.
    dot
        Rows of the left factor and columns of the right one are contiguous.
    precision
        How a constant right factor is packed.
    rows_are_samples
        The batch determines the number of rows; otherwise it determines the number of products.
    """

    m: int
    n: int
    k: int
    count: int
    panel: int = field(init=False)  # also a part of the text by which measurements are found
    constant: bool
    dot: bool
    kernels: KernelSet = field(repr=False)
    rows_are_samples: bool = True
    precision: str = "float32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "panel", self.kernels.module("gemm").PANEL)

    def at_batch(self, samples: int) -> MatMulProblem:
        """The same for another number of samples. Each may have several rows; a few are assumed."""
        return replace(self, m=max(samples, _FEW_ROWS) if self.rows_are_samples else self.m, count=1)


# Larger constants (in bytes) are read as they are where that is possible: packed ones would be kept a second time.
LARGE_WEIGHT = 8 * 1024 * 1024

_FEW_ROWS = 8

# Costs in multiply-adds for each element of the right factor: packing it, and reading it for a pair of rows. Then how
# much slower sums are if each waits for the one before, and all of a product without vectors.
_PACK = 4.5
_DOT = 4.0
_CHAIN = 3.0
_NAIVE = 60.0


def _elements(p: MatMulProblem) -> float:
    return float(p.count * p.n * p.k)


def _read_cost(p: MatMulProblem) -> float:
    if not p.constant:
        return _PACK
    if p.precision != "float32":
        return COSTS_OF_A_LANE.weight / 2
    return COSTS_OF_A_LANE.weight + (_DOT if 4 * p.n * p.k > LARGE_WEIGHT else 0)


def _scratch(p: MatMulProblem) -> int:
    """One packed panel, unless panels are packed beforehand."""
    return 0 if p.constant else int(p.kernels.module("gemm").scratch_bytes(p.k))


_ONE_ROW: Condition[MatMulProblem] = Condition("a left factor of one row", lambda p: p.m == 1)
_CONTIGUOUS: Condition[MatMulProblem] = Condition(
    "contiguous rows on the left and contiguous columns on the right", lambda p: p.dot
)

MATMUL_F32 = AlgorithmTable(
    "matmul_f32",
    (
        Algorithm(
            "gemm_f32",
            (),
            scratch=_scratch,
            cost=lambda p: _elements(p) * (p.m + _read_cost(p) + (_CHAIN if p.m == 1 else 0)),
            error=1e-5,
        ),
        Algorithm(
            "gemm_row_f32",
            (_ONE_ROW,),
            scratch=_scratch,
            cost=lambda p: _elements(p) * (1 + _read_cost(p)),
            error=1e-5,
            depends_on_batch=True,  # sums of more rows are in another order
        ),
        Algorithm(
            "gemm_dot_f32",
            (_CONTIGUOUS,),
            scratch=lambda p: 0,
            cost=lambda p: _elements(p) * _DOT * -(-p.m // 2),
            error=1e-5,
        ),
        Algorithm(
            "gemm_naive_f32",
            (),
            scratch=lambda p: 0,
            cost=lambda p: _elements(p) * _NAIVE * p.m,
            error=1e-4,
            naive=True,
        ),
    ),
)
