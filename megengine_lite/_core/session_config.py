"""Settings of a session, independent of the options of the API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from megengine_lite._records import field, record

PRECISIONS = ("float32", "bfloat16", "float16")
"""How the weights of products and convolutions are kept; what is computed with them is float32."""


class _Batched(Protocol):
    def at_batch(self: Problem, samples: int) -> Problem: ...


Problem = TypeVar("Problem", bound=_Batched)


class Measurements(Protocol):
    """A cache of measured algorithms."""

    def lookup(self, category: str, key: str) -> Any:
        """The measurement for a problem; None if there is none."""


@record(slots=True)
class AlgoPolicy:
    """How the algorithm of each step is chosen.

    With ``profile`` the candidates are measured (fast-run); without it the heuristic decides. ``reproducible`` and
    ``optimized`` exclude candidates. If one of the rest is in ``preferred``, the first name there is taken. ``forced``
    allows one algorithm only for an operator (``{"conv_f32": "conv_direct_f32"}``): a name that is unknown, or an
    algorithm that does not apply to a node or that the policy excludes, is an error. Operators and names are those of
    the tables in ``cpu/algorithms``.
    ``workspace_limit`` is in bytes per step. ``shared_batch_size`` replaces the batch in cache keys when
    ``binary_equal_between_batch`` asks for one algorithm at all batch sizes.
    """

    heuristic: bool = True
    profile: bool = False
    reproducible: bool = False
    optimized: bool = False
    preferred: tuple[str, ...] = ()
    forced: Mapping[str, str] = field(default_factory=dict)
    workspace_limit: int | None = None
    shared_batch_size: int = 0
    binary_equal_between_batch: bool = False

    def seen_by_choice(self, problem: Problem) -> Problem:
        """The problem for which the algorithm is chosen.

        If a sample's result must not depend on its batch, the choice of the algorithm must not depend on it either, so
        it is made for the shared batch. Algorithms compute samples separately: the same one gives the same result.
        """
        return problem.at_batch(self.shared_batch_size or 1) if self.binary_equal_between_batch else problem


@record(slots=True)
class SessionConfig:
    """Options of one session.

    Attributes
    ----------
    threads
        How many threads may work on a run.
    isa
        Instruction set of the kernels; None takes the best.
    fuse
        Run the passes: fusion, channel moves, layouts of other devices as NCHW.
    fuse_elemwise
        Fuse chains of elementwise functions, also where ``fuse`` is off.
    plan_cache_size
        Plans kept for different input shapes; the least recently used go.
    sanity_check
        At the first run of a plan, check that it does not change its inputs.
    profile_on_shape_change
        Whether fast-run may measure for shapes other than the first.
    measure
        Whether fast-run may measure at all; else the cache and the heuristic decide.
    algo
        How algorithms are chosen.
    precision
        One of :data:`PRECISIONS`.
    explain
        Plans remember their nodes, for reports, and can show the result of each.
    measured
        Measurements that came with the model. They take precedence over those of the process and are used for this
        model only.
    """

    threads: int = 1
    isa: str | None = None
    fuse: bool = True
    fuse_elemwise: bool = False
    plan_cache_size: int = 16
    sanity_check: bool = False
    profile_on_shape_change: bool = True
    measure: bool = True
    precision: str = "float32"
    explain: bool = False
    algo: AlgoPolicy = field(default_factory=AlgoPolicy)
    measured: Measurements | None = None
