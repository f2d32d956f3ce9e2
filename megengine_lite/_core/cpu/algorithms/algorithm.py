"""What the tables of algorithms say: when an algorithm applies, what it needs, how exact it is.

The heuristic and fast-run choose from these tables. Names are those of the kernels; algorithms that are several kernels
or calls have names of their own (docs/naming.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic

from megengine_lite._core.ir.graph import AnyNode
from megengine_lite._core.operators.base import label
from megengine_lite._core.session_config import AlgoPolicy, Problem
from megengine_lite._core.system.suggest import choices
from megengine_lite._records import record
from megengine_lite.errors import LiteValueError


@record(frozen=True, slots=True)
class Condition(Generic[Problem]):
    """What a problem must be for an algorithm: in words that stand behind "needs", and as a test."""

    text: str
    holds: Callable[[Problem], bool]


@record(frozen=True, slots=True)
class Algorithm(Generic[Problem]):
    """One way to compute an operator.

    Attributes
    ----------
    name
        Its name in the cache of fast-run, and where a program chooses it.
    conditions
        What a problem must be so that it can compute it.
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
    kernel
        What computes it, if that has another name.
    """

    name: str
    conditions: tuple[Condition[Problem], ...]
    scratch: Callable[[Problem], int]
    cost: Callable[[Problem], float]
    error: float
    reproducible: bool = True
    depends_on_batch: bool = False
    naive: bool = False
    kernel: str = ""

    def applies(self, problem: Problem) -> bool:
        """Whether it can compute a problem."""
        return all(condition.holds(problem) for condition in self.conditions)


@record(frozen=True, slots=True)
class AlgorithmTable(Generic[Problem]):
    """The algorithms of one operator; ``kind`` names it in policies and in the cache of fast-run."""

    kind: str
    algorithms: tuple[Algorithm[Problem], ...]

    def __iter__(self) -> Iterator[Algorithm[Problem]]:
        return iter(self.algorithms)

    def __getitem__(self, name: str) -> Algorithm[Problem]:
        """The algorithm of that name.

        Raises
        ------
        LiteValueError
            There is none.
        """
        for algorithm in self:
            if algorithm.name == name:
                return algorithm
        raise LiteValueError(f"unknown algorithm {name!r} for {self.kind} {choices(name, [a.name for a in self])}")


def _lacks(algorithm: Algorithm[Problem], problem: Problem, policy: AlgoPolicy, threads: int) -> str | None:
    """What an algorithm needs for a problem under a policy and does not have; None if there is nothing."""
    for condition in algorithm.conditions:
        if not condition.holds(problem):
            return condition.text
    if policy.reproducible and not algorithm.reproducible:
        return "AlgoPolicy.reproducible to be off"
    if policy.binary_equal_between_batch and algorithm.depends_on_batch:
        return "AlgoPolicy.binary_equal_between_batch to be off"
    if policy.optimized and algorithm.naive:
        return "a policy without LITE_ALGO_OPTIMIZED"
    if policy.workspace_limit is not None and algorithm.scratch(problem) * threads > policy.workspace_limit:
        return "a larger workspace than set_network_algo_workspace_limit allows"
    return None


def candidates(
    table: AlgorithmTable[Problem], problem: Problem, policy: AlgoPolicy, threads: int
) -> list[Algorithm[Problem]]:
    """The algorithms that apply and that the policy allows, cheapest first."""
    found = [a for a in table if _lacks(a, problem, policy, threads) is None]
    return sorted(found, key=lambda a: a.cost(problem))


def choose(
    table: AlgorithmTable[Problem], problem: Problem, policy: AlgoPolicy, threads: int, node: AnyNode
) -> Algorithm[Problem]:
    """The algorithm that the policy forces or prefers for a node, or else the best by the heuristic.

    Raises
    ------
    LiteValueError
        The policy excludes all of them, or forces one that does not exist, does not apply, or is excluded.
    """
    forced = policy.forced.get(table.kind)
    if forced is not None:
        algorithm = table[forced]
        if needs := _lacks(algorithm, problem, policy, threads):
            raise _cannot_be_forced(node, forced, needs)
        return algorithm
    found = candidates(table, problem, policy, threads)
    if not found:
        asked = "needs no workspace" if not policy.workspace_limit else f"needs at most {policy.workspace_limit} bytes"
        raise LiteValueError(
            f"{label(node)}: no algorithm for {problem} {asked}, as set_network_algo_workspace_limit asks for; raise "
            "the limit" + (", or allow algorithms that are not LITE_ALGO_OPTIMIZED" if policy.optimized else "")
        )
    preferred = {a.name: a for a in found}
    return next((preferred[name] for name in policy.preferred if name in preferred), found[0])


def check_other_way(policy: AlgoPolicy, kind: str, node: AnyNode, way: str, needs: str) -> None:
    """Checks that a policy lets a node be computed in another way than by its table.

    Parameters
    ----------
    policy, kind, node
        The policy of the session, the kind of the table, and the node.
    way
        The algorithm that computes it, or ``"numpy"``.
    needs
        What the node would need to be for the table to choose.

    Raises
    ------
    LiteValueError
        It forces another algorithm.
    """
    forced = policy.forced.get(kind)
    if forced not in (None, way):
        raise _cannot_be_forced(node, str(forced), needs)


def _cannot_be_forced(node: AnyNode, name: str, needs: str) -> LiteValueError:
    return LiteValueError(
        f"{label(node)} cannot be computed by {name}, which AlgoPolicy.forced names: it needs {needs}"
    )
