"""What the tables of algorithms say: when an algorithm applies, what it needs, how exact it is.

The heuristic and fast-run choose from these tables. Names are those of the kernels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic

from megengine_lite._core.config import AlgoPolicy, Problem
from megengine_lite.errors import LiteValueError


@dataclass(frozen=True, slots=True)
class Algorithm(Generic[Problem]):
    """One way to compute an operator.

    Attributes
    ----------
    name
        Its name in the cache of fast-run: the name of its kernel, which profiles show, and a suffix if several
        algorithms use the same kernel.
    applies
        Whether it can compute a problem.
    scratch
        Bytes that each thread needs for a problem.
    cost
        Estimated time, in multiply-adds of a direct convolution; only compared within one table.
    error
        Bound of ``max |y - exact| / max |y|`` for sums of about a thousand products of normal random numbers.
    reproducible
        Same result for any number of threads.
    depends_on_batch
        The last digits of a sample's result may depend on the other samples of the batch.
    naive
        Plain code, not made for speed.
    """

    name: str
    applies: Callable[[Problem], bool]
    scratch: Callable[[Problem], int]
    cost: Callable[[Problem], float]
    error: float
    reproducible: bool = True
    depends_on_batch: bool = False
    naive: bool = False


def _is_allowed(algorithm: Algorithm[Problem], policy: AlgoPolicy) -> bool:
    return (
        (algorithm.reproducible or not policy.reproducible)
        and not (algorithm.depends_on_batch and policy.binary_equal_between_batch)
        and not (algorithm.naive and policy.optimized)
    )


def candidates(
    table: Sequence[Algorithm[Problem]], problem: Problem, policy: AlgoPolicy, threads: int
) -> list[Algorithm[Problem]]:
    """The algorithms that apply and that the policy allows, cheapest first."""
    found = [a for a in table if a.applies(problem) and _is_allowed(a, policy)]
    if policy.workspace_limit is not None:
        found = [a for a in found if a.scratch(problem) * threads <= policy.workspace_limit]
    return sorted(found, key=lambda a: a.cost(problem))


def choose(
    table: Sequence[Algorithm[Problem]], problem: Problem, policy: AlgoPolicy, threads: int
) -> Algorithm[Problem]:
    """The algorithm that the policy prefers, or else the best by the heuristic.

    Raises
    ------
    LiteValueError
        The policy excludes all of them.
    """
    found = candidates(table, problem, policy, threads)
    if not found:
        asked = "needs no workspace" if not policy.workspace_limit else f"needs at most {policy.workspace_limit} bytes"
        raise LiteValueError(
            f"no algorithm for {problem} {asked}, as set_network_algo_workspace_limit asks for; raise the limit"
            + (", or allow algorithms that are not LITE_ALGO_OPTIMIZED" if policy.optimized else "")
        )
    preferred = {a.name: a for a in found}
    return next((preferred[name] for name in policy.preferred if name in preferred), found[0])
