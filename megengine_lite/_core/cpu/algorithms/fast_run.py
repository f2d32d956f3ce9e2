"""Choice of the algorithm of a step: by the heuristic, by measurement (fast-run), or from the cache of measurements."""

from __future__ import annotations

from collections.abc import Callable, Container
from time import perf_counter_ns

import megengine_lite._core.system.processor as cpu
from megengine_lite._core.cpu.algorithms.algorithm import Algorithm, AlgorithmTable, candidates, choose
from megengine_lite._core.cpu.algorithms.cache import CACHE, Timing, category_name
from megengine_lite._core.cpu.arena import assign_offsets
from megengine_lite._core.cpu.host_memory import aligned_bytes
from megengine_lite._core.cpu.lowering import Lowering
from megengine_lite._core.cpu.program import Program
from megengine_lite._core.cpu.steps import Step
from megengine_lite._core.ir.graph import Graph, Node
from megengine_lite._core.session_config import Measurements, Problem
from megengine_lite.log import logger

# A candidate is timed until it has run this often and this long; the best run counts.
MIN_RUNS = 3
MIN_NS = 2_000_000


def select(
    ctx: Lowering,
    table: AlgorithmTable[Problem],
    problem: Problem,
    node: Node,
    emit: Callable[[Lowering, Algorithm[Problem]], None],
) -> Algorithm[Problem]:
    """The algorithm for a node under the policy of the session.

    Parameters
    ----------
    ctx
        The context in which the node is being lowered.
    table, problem
        The algorithms, and the problem that they solve.
    node
        Its inputs say which tensors a measurement needs.
    emit
        Lowers the node by an algorithm in the context given to it.
    """
    policy, threads = ctx.config.algo, ctx.config.threads
    problem = policy.seen_by_choice(problem)
    best = choose(table, problem, policy, threads, node)
    if not policy.profile or table.kind in policy.forced or best.name in policy.preferred:
        return best
    allowed = {a.name: a for a in candidates(table, problem, policy, threads)}
    category = category_name(table.kind, cpu.brand(), ctx.kernels.name, threads)
    key = repr(problem)
    timings = _known(ctx.config.measured, category, key, allowed)
    if not timings:
        if policy.heuristic or not ctx.config.measure:
            return best
        timings = [
            Timing(a.name, measure(ctx, node, a, emit) if len(allowed) > 1 else 0.0, a.scratch(problem) * threads)
            for a in allowed.values()
        ]
        CACHE.store(category, key, timings)
    return allowed[min(timings, key=lambda t: t.seconds).algorithm]


def _known(own: Measurements | None, category: str, key: str, allowed: Container[str]) -> list[Timing]:
    """The measurements of the algorithms that may be chosen; empty if there are none.

    A cache may come from anywhere, so entries about algorithms that do not apply are ignored.
    """
    for cache in (own, CACHE):
        timings = None if cache is None else cache.lookup(category, key)
        known = [t for t in timings or () if t.algorithm in allowed]
        if known:
            return known
        if timings is not None:
            names = ", ".join(t.algorithm for t in timings)
            logger.warning("the cache names no algorithm that can be used for %s (it has %r)", key, names)
    return []


def measure(
    ctx: Lowering, node: Node, algorithm: Algorithm[Problem], emit: Callable[[Lowering, Algorithm[Problem]], None]
) -> float:
    """Seconds that a node takes by an algorithm, on zeros, with the threads of the session."""
    variables = [v for v in node.inputs if v.const is None]
    graph = Graph([node], variables, list(node.outputs), [])
    trial = Lowering(graph, ctx.kernels, ctx.pool, ctx.config, ctx.table)
    for v in variables:
        if ctx.is_blocked(v):
            trial.new_blocked(v)
        else:
            trial.new_plain(v)
    trial.mark_non_negative(v for v in variables if ctx.is_non_negative(v))
    trial.fill_halos(node)
    before = len(trial.steps)
    emit(trial, algorithm)
    steps = [s for s in trial.steps if isinstance(s, Step)]
    memory = aligned_bytes(assign_offsets(trial.pieces))
    program = Program([s.record() for s in steps], 1, max(s.scratch for s in steps), ctx.config.threads)
    program.set_base(0, memory.ctypes.data)
    program.run(0, len(steps))
    best, spent, runs = None, 0, 0
    while runs < MIN_RUNS or spent < MIN_NS:
        start = perf_counter_ns()
        program.run(before, len(steps))
        taken = perf_counter_ns() - start
        best = taken if best is None else min(best, taken)
        spent += taken
        runs += 1
    return (best or 0) * 1e-9
