"""Settings of a session, free of the API's ctypes forms."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class AlgoPolicy:
    """How the algorithm of each step is chosen.

    ``profile`` measures the candidates (fast-run), else the heuristic decides; ``reproducible`` and ``optimized``
    restrict the candidates. ``workspace_limit`` is in bytes per step; ``shared_batch_size`` replaces the batch in
    cache keys when ``binary_equal_between_batch`` asks for one algorithm at all batch sizes.
    """

    heuristic: bool = True
    profile: bool = False
    reproducible: bool = False
    optimized: bool = False
    workspace_limit: int | None = None
    shared_batch_size: int = 0
    binary_equal_between_batch: bool = False


@dataclass(slots=True)
class SessionConfig:
    """Options of one session; defaults are those of ``LiteOptions``."""

    threads: int = 1
    isa: str | None = None
    fuse: bool = True  # graph_opt_level >= 1
    jit: bool = True
    blocked: bool | None = None  # None: where it pays; True: wherever possible; False: never
    weight_preprocess: bool = True
    plan_cache_size: int = 16
    sanity_check: bool = False
    profile_on_shape_change: bool = True
    measure: bool = True  # whether fast-run may measure now
    algo: AlgoPolicy = field(default_factory=AlgoPolicy)
