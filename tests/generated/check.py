"""Runs a graph at a setting and compares the outputs with the definitions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support.guarded_memory import WildWrite, guarded_plans

from generated.expected import Expected, expected_outputs
from generated.files import model_bytes
from generated.grammar import used_graph
from generated.maker import Case
from generated.runners import Runner, make_runner
from generated.settings import Setting
from megengine_lite._core.cpu.algorithms import fast_run
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.ir.graph import ConstantPool


@dataclass(frozen=True)
class Failure:
    """What went wrong with a graph at a setting. ``kind`` tells the same thing of different graphs alike."""

    setting: Setting
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}\n  at {self.setting}"


@contextmanager
def _own_measurements() -> Iterator[None]:
    """Fast-run starts without measurements, and makes them shortly."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CACHE, "_categories", {})
        patch.setattr(fast_run, "MIN_RUNS", 1)
        patch.setattr(fast_run, "MIN_NS", 0)
        yield


def _raised(error: BaseException) -> str:
    """The types of an error and of what caused it."""
    types = [type(error).__name__]
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
        types.append(type(error).__name__)
    return f"raised {' from '.join(types)}"


def _compare(got: Sequence[np.ndarray | None], expected: Sequence[Expected], names: Sequence[str]) -> str:
    for value, one, name in zip(got, expected, names, strict=True):
        found = "" if value is None or one.uncertain else one.difference(value)
        if found:
            return f"output {name!r}: {found}"
    return ""


def _bits(outputs: Sequence[np.ndarray | None]) -> list[bytes]:
    return [b"" if a is None else a.tobytes() for a in outputs]


class Checker:
    """A graph with its right outputs, to be run at many settings."""

    def __init__(self, case: Case):
        self.case = case
        self._expected: dict[str, list[list[Expected]]] = {}

    def expected(self, precision: str = "float32") -> list[list[Expected]]:
        """The right outputs of each run."""
        if precision not in self._expected:
            self._expected[precision] = [expected_outputs(self.case.graph, i, precision) for i in self.case.runs]
        return self._expected[precision]

    @property
    def uncertain(self) -> bool:
        """Whether no output tells anything."""
        return all(one.uncertain for run in self.expected() for one in run)

    def check(self, setting: Setting) -> Failure | None:
        """Runs all inputs, two times in turn where there are several; gives what is wrong."""
        order = None if setting.order is None else random.Random(setting.order)
        graph = used_graph(self.case.graph, order)
        pool = ConstantPool()
        with ExitStack() as stack:
            stack.enter_context(_own_measurements())
            stack.enter_context(np.errstate(all="ignore"))
            try:
                runners = []  # all live until the end, and with them the weights that they share
                for one in (setting.shared, setting):
                    if one is not None:
                        if one.guarded:
                            stack.enter_context(guarded_plans())
                        runners.append(make_runner(graph, one, pool))
                        kind, message = self._run(runners[-1], graph.output_names, self.expected(one.precision))
                        if kind:
                            return Failure(setting, kind, message)
            except WildWrite as error:
                return Failure(setting, "wild write", str(error))
            except Exception as error:  # any of them is what is looked for
                return Failure(setting, _raised(error), str(error))
        return None

    def _run(self, runner: Runner, names: Sequence[str], expected: list[list[Expected]]) -> tuple[str, str]:
        """Kind and message of what is wrong; nothing if all is right."""
        first: dict[int, list[bytes]] = {}
        for k in [*range(len(self.case.runs))] * 2:
            got = runner.run(self.case.runs[k], expected[k])
            if wrong := _compare(got, expected[k], names):
                return "wrong", f"run {k}, {wrong}"
            if first.setdefault(k, _bits(got)) != _bits(got):
                return "other numbers", f"run {k} gives other numbers the second time"
        return "", ""


def check_case(case: Case, settings: Sequence[Setting]) -> list[Failure]:
    """What is wrong with a graph at each of the settings."""
    checker = Checker(case)
    return [failure for setting in settings if (failure := checker.check(setting)) is not None]


def write_case(case: Case, stem: Path) -> None:
    """Writes ``stem.mge`` and ``stem.npz`` with ``in_NAME`` and ``out_K`` of the first run."""
    stem.with_suffix(".mge").write_bytes(model_bytes(case.graph))
    arrays = {f"in_{name}": value for name, value in case.runs[0].items()}
    for k, one in enumerate(Checker(case).expected()[0]):
        arrays[f"out_{k}"] = one.value
    np.savez(stem.with_suffix(".npz"), **arrays)
