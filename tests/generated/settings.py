"""All ways of running a graph."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from support.instruction_sets import INSTRUCTION_SETS

from megengine_lite._core.compile.transform import LAYOUTS
from megengine_lite._core.cpu.algorithms.convolution import CONV_F32, CONV_INT8
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32
from megengine_lite._core.session_config import PRECISIONS, AlgoPolicy, SessionConfig

ALGORITHMS: tuple[str, ...] = tuple(a.name for a in (*CONV_F32, *CONV_INT8, *MATMUL_F32))


@dataclass(frozen=True)
class Setting:
    """One way of running a graph.

    Attributes
    ----------
    isa, threads, fuse, fuse_elemwise, plan_cache_size, sanity_check
        As in a session's configuration; graph_opt_level 0 is ``fuse=False``.
    policy
        How algorithms are chosen, as names of fields of the policy with their values.
    precision
        How weights are kept.
    guarded
        All memory lies in front of forbidden pages and behind bytes that must not change.
    own_outputs
        Outputs are computed into memory of the caller.
    shared
        The weights are shared with a session that ran before at this other setting.
    through
        "session" runs the graph as it is; "file" writes it to a model file and runs what is loaded from that;
        "network" does so by the public interface.
    layout
        With a file: it is rewritten for images in this layout.
    shape_only
        Of every second output only the shape is asked for.
    renewed
        Outputs are handed over after each run, and must stay as they are.
    timed
        Steps are run one by one, as for profiles.
    order
        Seed of another order of the nodes; None leaves them as they are.
    """

    isa: str = INSTRUCTION_SETS[-1]
    threads: int = 1
    fuse: bool = True
    fuse_elemwise: bool = False
    plan_cache_size: int = 16
    sanity_check: bool = False
    policy: tuple[tuple[str, object], ...] = ()
    precision: str = "float32"
    guarded: bool = False
    own_outputs: bool = False
    shared: Setting | None = None
    through: str = "session"
    layout: str | None = None
    shape_only: bool = False
    renewed: bool = False
    timed: bool = False
    order: int | None = None

    def config(self) -> SessionConfig:
        """The configuration of its session."""
        return SessionConfig(
            threads=self.threads,
            isa=self.isa,
            fuse=self.fuse,
            fuse_elemwise=self.fuse_elemwise,
            plan_cache_size=self.plan_cache_size,
            sanity_check=self.sanity_check,
            precision=self.precision,
            algo=AlgoPolicy(**dict(self.policy)),  # type: ignore[arg-type]
        )

    def __str__(self) -> str:
        """What differs from the defaults."""
        default = Setting(isa="")
        shown = []
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value != getattr(default, name):
                shown.append(f"{name}=({value})" if isinstance(value, Setting) else f"{name}={value}")
        return " ".join(shown)


PROFILE = (("heuristic", False), ("profile", True))


def preferring(name: str) -> tuple[tuple[str, object], ...]:
    """A policy that takes an algorithm wherever it applies."""
    return (("preferred", (name,)),)


def every_setting(isas: Sequence[str] = tuple(INSTRUCTION_SETS)) -> list[Setting]:
    """Each option by itself, on each instruction set; options that go together are left to :func:`some_settings`."""
    found = []
    for isa in isas:
        plain = Setting(isa=isa)
        found += [
            plain,
            replace(plain, threads=2),
            replace(plain, fuse=False),
            replace(plain, fuse=False, fuse_elemwise=True),
            replace(plain, fuse=False, threads=2, order=1),
            replace(plain, policy=PROFILE),
            replace(plain, policy=(("workspace_limit", 0),)),
            replace(plain, policy=(("optimized", True),)),
            replace(plain, policy=(("binary_equal_between_batch", True), ("reproducible", True))),
            replace(plain, sanity_check=True, plan_cache_size=1),
            replace(plain, guarded=True),
            replace(plain, guarded=True, fuse=False),
            replace(plain, own_outputs=True, threads=2),
            replace(plain, shared=replace(plain, fuse=False)),
            replace(plain, order=1),
            replace(plain, shape_only=True),
            replace(plain, renewed=True),
            replace(plain, timed=True),
            replace(plain, through="file"),
            replace(plain, through="network", threads=2),
            replace(plain, order=2, threads=2),
            *(replace(plain, precision=precision, threads=2) for precision in PRECISIONS[1:]),
            replace(plain, precision="bfloat16", guarded=True),
            replace(plain, precision="float16", through="network"),
        ]
        found += [replace(plain, policy=preferring(name)) for name in ALGORITHMS]
        others = [other for other in isas if other != isa]
        if others:
            found.append(replace(plain, shared=Setting(isa=others[0])))
    return found


def default_settings(isas: Sequence[str] = tuple(INSTRUCTION_SETS)) -> list[Setting]:
    """The defaults on each instruction set."""
    return [Setting(isa=isa) for isa in isas]


def some_settings(rng: random.Random, count: int, isas: Sequence[str] = tuple(INSTRUCTION_SETS)) -> list[Setting]:
    """The default on one instruction set, and others by chance with several options each."""
    found = [Setting(isa=rng.choice(isas))]
    while len(found) < count:
        found.append(_by_chance(rng, isas))
    return found


def _by_chance(rng: random.Random, isas: Sequence[str]) -> Setting:
    ranking = list(ALGORITHMS)
    rng.shuffle(ranking)
    policies: tuple[tuple[tuple[str, object], ...], ...] = (
        (),
        preferring(rng.choice(ALGORITHMS)),
        (("preferred", tuple(ranking)),),
        (("workspace_limit", rng.choice((0, 4096))),),
        (("optimized", True),),
        (("binary_equal_between_batch", True),),
        PROFILE if rng.random() < 0.3 else (),
    )
    setting = Setting(
        isa=rng.choice(isas),
        threads=rng.choice((1, 2)),
        fuse=rng.random() < 0.75,
        fuse_elemwise=rng.random() < 0.3,
        plan_cache_size=rng.choice((16, 16, 1)),
        sanity_check=rng.random() < 0.1,
        policy=rng.choice(policies),
        precision=rng.choice(PRECISIONS) if rng.random() < 0.3 else "float32",
        guarded=rng.random() < 0.2,
        own_outputs=rng.random() < 0.15,
        order=rng.choice((None, rng.randrange(1000))),
        shape_only=rng.random() < 0.1,
        renewed=rng.random() < 0.1,
        timed=rng.random() < 0.1,
    )
    if rng.random() < 0.15:
        through = rng.choice(("file", "network"))
        layout = rng.choice((None, *LAYOUTS)) if through == "file" else None
        return replace(setting, through=through, layout=layout)
    if rng.random() < 0.15:
        other = replace(setting, guarded=False, isa=rng.choice(isas), fuse=rng.random() < 0.5)
        setting = replace(setting, shared=other)
    return setting
