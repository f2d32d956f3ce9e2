"""Find the flags by which a model runs fastest on this machine.

Tried are 1, 2, 4, ... threads up to the number of cores that this process may keep busy, each with and without fast-
run; then, with the best of these, the options that change how a run is planned or replayed. What the command line
sets is not varied. The candidates take turns, so that a change in the load of the machine meets all of them. Of those
that are within 2 % of the fastest, the first one is chosen; an option has to win twice.
"""

from __future__ import annotations

import contextlib
import json
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import config_files, display, flags, inputs, pack, progress
from megengine_lite._cli.bench import time_one
from megengine_lite._cli.model_files import read_parts, show_written
from megengine_lite._core.reports.units import counted
from megengine_lite._core.runtime.devices import busy_processors
from megengine_lite._records import field, record
from megengine_lite.errors import InternalError, LiteError, ModelFormatError

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [--dump-fitting-model FILE] [flags]"

_WARMUPS = 3
_RUNS = 10
# A smaller difference cannot be told from noise.
_MARGIN = 0.02

# Settings by the names of their flags; each group is set together.
_OPTIONS: tuple[dict[str, Any], ...] = (
    {"cpu_default": True},
    {"weight_preprocess": True},
    {"const_shape": True},
    {"record_comp_seq": True},
    {"record_comp_seq2": True},
    {"cpu_default": True, "record_comp_seq2": True},
    {"option": ["graph_opt_level=0"]},
    {"option": ["graph_opt_level=0"], "enable_jit": True},
)


@record(slots=True)
class _Candidate:
    """Settings that are tried, and the result: times in milliseconds, or why they are not possible."""

    settings: dict[str, Any]
    network: LiteNetwork | None = None
    times: list[float] = field(default_factory=list)
    problem: str | None = None

    @property
    def median(self) -> float:
        return display.statistics(self.times)["p50"] if self.times else float("inf")

    def describe(self) -> dict[str, Any]:
        row: dict[str, Any] = {"flags": flag_text(self.settings)}
        if self.problem is not None:
            return {**row, "problem": self.problem}
        return {**row, "time_ms": display.statistics(self.times)}


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("fitting")
    group.add_argument(
        "--dump-fitting-model", metavar="FILE", help="write the model as a package that has the best options in it"
    )


def execute(args: Namespace) -> dict[str, Any]:
    """Tries the settings; returns the times of all, and the best."""
    args.ignore_info = True  # else a package would put its own settings in the place of those that are tried
    first = [_Candidate(s) for s in _thread_settings(args)]
    _measure(args, first)
    best = _choose(first)
    if not best.times:
        raise LiteError(f"the model cannot run: {best.problem}")
    second = [_Candidate(best.settings), *(_Candidate({**best.settings, **o}) for o in _OPTIONS if _is_free(args, o))]
    _measure(args, second)
    best = _choose(second)
    if best is not second[0]:  # of many that make no difference one is faster by chance; it has to be so again
        again = [_Candidate(second[0].settings), _Candidate(best.settings)]
        _measure(args, again)
        best = _choose(again)
    result = {
        "model": args.model,
        "instruction_set": flags.instruction_set(args),
        "cores": busy_processors(),
        "trials": [c.describe() for c in (*first, *second[1:])],
        "best": best.describe(),
        "default": first[0].describe(),
        "written": {},
    }
    if args.dump_fitting_model:
        result["written"] = _dump(args, best)
    if args.fast_run_algo_policy:
        from megengine_lite import LiteGlobal

        LiteGlobal.dump_persistent_cache(args.fast_run_algo_policy)
    return result


def flag_text(settings: dict[str, Any]) -> str:
    """Settings as flags of the command line."""
    words = []
    for name, value in settings.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(flag)
        elif isinstance(value, list):
            words += [f"{flag} {v}" for v in value]
        elif value is not False:
            words.append(f"{flag} {value}")
    return " ".join(words)


def _choose(candidates: list[_Candidate]) -> _Candidate:
    """The first of those that are about as fast as the fastest; simple settings come first."""
    fastest = min(c.median for c in candidates)
    return next(c for c in candidates if c.median <= fastest * (1 + _MARGIN))


def _thread_settings(args: Namespace) -> list[dict[str, Any]]:
    """Threads and fast-run, the default first."""
    cores = busy_processors()
    threads = sorted({1 << k for k in range(cores.bit_length()) if 1 << k <= cores} | {cores})
    if args.threads or args.multithread_default:
        threads = [args.multithread_default or args.threads]
    elif args.multi_thread_core_ids:
        threads = [len(args.multi_thread_core_ids.split(","))]
    fast = [args.fast_run] if args.fast_run or args.full_run else [False, True]
    return [{"threads": t, "fast_run": f} for f in fast for t in threads]


def _is_free(args: Namespace, settings: dict[str, Any]) -> bool:
    """Whether the command line does not set any of these."""
    return not any(getattr(args, name) for name in settings)


def _measure(args: Namespace, candidates: list[_Candidate]) -> None:
    """Times all candidates in turns; their networks are deleted afterwards."""
    # This network never runs, so its weights can be shared even if candidates free their graphs.
    source = flags.load_network(Namespace(**{**vars(args), "record_comp_seq2": None})).network
    for candidate in progress.bar(candidates, len(candidates), "planning"):
        settings = Namespace(**{**vars(args), **candidate.settings})
        try:
            network = flags.load_network(settings, source).network
            inputs.set_inputs(args, network, fill=True)
            network.forward()
            network.wait()
        except InternalError:
            raise
        except LiteError as error:
            candidate.problem = str(error)
        else:
            candidate.network = network
    running = [c for c in candidates if c.network is not None]
    turns = [(k, c) for k in range(_WARMUPS + _RUNS) for c in running]
    for k, candidate in progress.bar(turns, len(turns), "measuring"):
        assert candidate.network is not None
        milliseconds = time_one(candidate.network)
        if k >= _WARMUPS:
            candidate.times.append(milliseconds)
    for candidate in candidates:
        candidate.network = None


def _dump(args: Namespace, best: _Candidate) -> dict[str, int]:
    """Writes a package whose information has the settings, and whose cache has the measurements of fast-run."""
    from megengine_lite import version
    from megengine_lite._core.cpu.algorithms.cache import CACHE, AlgoCache

    parts = read_parts(args.model, args.decrypt)
    known = json.loads(parts.information) if parts.information else {}
    information: dict[str, Any] = (
        known if known.get("valid") else {"name": parts.name, "valid": True, "version": version}
    )
    settings = Namespace(**{**vars(args), **best.settings})
    information["device"] = {
        **information.get("device", {}),
        "type": "CPU",
        "number_threads": settings.multithread_default or settings.threads or 1,
        "enable_inplace_model": bool(settings.cpu_default or settings.multithread_default),
    }
    information["options"] = {**information.get("options", {}), **flags.packed_options(settings)}
    parts.information = json.dumps(information, indent=1).encode()
    if settings.fast_run or settings.full_run:
        measured = AlgoCache()
        if parts.algorithm_cache and parts.is_fast_run_cache:
            with contextlib.suppress(ModelFormatError):  # the package's own is damaged
                measured.merge(parts.algorithm_cache)
        measured.merge(CACHE.content())
        parts.algorithm_cache, parts.is_fast_run_cache = measured.content(), True
    out = args.dump_fitting_model
    return {out: pack.write(parts, out, args.model, pack.Encryption())}


def show(result: dict[str, Any]) -> None:
    """Prints one row for each trial, then the best flags."""
    rows = []
    for trial in result["trials"]:
        t = trial.get("time_ms")
        times = [f"{t[k]:.3f}" for k in ("p50", "min", "p90")] if t else ["", "", ""]
        rows.append((trial["flags"], *times, trial.get("problem", "")))
    display.print_line(f"{result['model']}: {result['instruction_set']} kernels, {counted(result['cores'], 'core')}")
    print()
    print(display.table(rows, ("flags", "median ms", "min ms", "p90 ms", ""), "lrrr"))
    best, default = result["best"], result["default"]
    print()
    display.print_line(f"best: {best['flags']}")
    gain = ""
    if "time_ms" in default and default["flags"] != best["flags"]:
        gain = f", {default['time_ms']['p50'] / best['time_ms']['p50']:.2f} times as fast as {default['flags']}"
    print(f"median {best['time_ms']['p50']:.3f} ms{gain}")
    show_written(result)
