"""Measure a model: load time, first run, latency, GFLOP/s and peak memory.

Inputs that are not given are random. With --streams several networks run at once: latency is then that under load.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from array import array
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import config_files, display, flags, inputs, number_types, parallel, progress
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._cli.model_files import show_written
from megengine_lite._records import field, record

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [--streams N] [--report DIR] [flags]"

ENOUGH_FOR_PEAK = 1000
"""Runs after which the peak memory of the networks is known: from there on only the list of times grows."""


@record(slots=True)
class Runs:
    """The measured runs of a network, packed: a small one runs a hundred thousand times a second."""

    begins: array[float] = field(default_factory=lambda: array("d"))
    """Seconds of the clock, if they are to be written."""
    times: array[float] = field(default_factory=lambda: array("d"))
    """Milliseconds."""


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument(
        "--seconds", "--duration", type=number_types.seconds, default=3.0, metavar="S", help="how long to measure (3)"
    )
    group.add_argument("--iter", type=number_types.positive, metavar="N", help="how many runs to measure, instead")
    flags.add_warmup_flag(group, 2, "runs after the first, not counted")
    parallel.add_parallel_flags(group)
    group.add_argument(
        "--streams",
        type=number_types.positive,
        metavar="N",
        help="networks that run at the same time on one copy of the weights: --thread N --share-param-mem",
    )
    group.add_argument(
        "--report", metavar="DIR", help="write every run and every operator there, as JSON and as tables (.csv)"
    )
    add_switch(group, "fitting", "find the fastest flags instead: the command fit")


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        pass  # no Linux
    try:
        import resource
    except ImportError:
        return 0  # Windows has no such count
    # On Linux this count would begin with the size of the program that started this one.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def execute(args: Namespace) -> dict[str, Any]:
    """Measures; gives times in milliseconds and sizes in bytes."""
    from megengine_lite import LiteNetwork  # noqa: F401  (loaded before memory is looked at)
    from megengine_lite._cli.info import count_work

    _use_streams(args)
    folder = None
    if args.report is not None:
        from megengine_lite._cli import bench_report

        folder = bench_report.make_folder(args.report)
    before = peak_memory()
    loaded = parallel.load_networks(args)
    networks = loaded.networks
    given = [inputs.set_inputs(args, network, fill=True) for network in networks]
    first = [flags.first_run(args, network) for network in networks]
    timed = [Runs() for _ in networks]
    peak = 0

    def warm_up(k: int, network: LiteNetwork) -> Iterator[float]:
        for _ in range(args.warmup_iter):
            yield time_one(network)

    def measure(k: int, network: LiteNetwork) -> Iterator[float]:
        nonlocal peak
        runs = timed[k]
        for begin, ms in _measure(args, network, visible=k == 0):
            runs.times.append(ms)
            if folder is not None:
                runs.begins.append(begin)
            if k == 0 and len(runs.times) == ENOUGH_FOR_PEAK:
                peak = peak_memory()
            yield ms

    progress.prepare()
    parallel.on_each(networks, warm_up)
    elapsed = parallel.on_each(networks, measure)
    peak = peak or peak_memory()
    operators = bench_report.measure_operators(networks[0]) if folder is not None else []
    flags.finish(args, networks[0])
    shapes = {name: array.shape for name, array in given[0].items()}
    work = count_work(args, {name: tuple(shape) for name, shape in shapes.items()})
    each = [display.statistics(runs.times) for runs in timed]
    statistics = display.statistics(sum((runs.times for runs in timed), array("d")))
    result = {
        "model": args.model,
        "instruction_set": flags.instruction_set(args),
        "settings": flags.describe_settings(networks[0]),
        "networks": args.thread,
        "weights_shared": bool(args.share_param_mem),
        "inputs": {name: list(shape) for name, shape in shapes.items()},
        "load_ms": loaded.seconds * 1e3,
        "first_run_ms": first[0],
        "time_ms": statistics,
        "time_ms_of_each_network": each,
        "elapsed_ms": elapsed * 1e3,
        "runs_per_second": statistics["runs"] / elapsed,
        "multiply_adds": work,
        "gflops": None if work is None else 2 * work / (statistics["p50"] * 1e6),
        "memory_before_bytes": before,
        "peak_memory_bytes": peak,
        "written": {},
    }
    if folder is not None:
        result["written"] = bench_report.write(folder, result, _iterations(timed), operators)
    return result


def _use_streams(args: Namespace) -> None:
    if args.streams is None:
        return
    if args.thread not in (1, args.streams):
        raise UsageError("--streams and --thread give different numbers of networks: leave out --thread")
    args.thread, args.share_param_mem = args.streams, True


def _iterations(timed: list[Runs]) -> list[dict[str, Any]]:
    """Every measured run in the order in which they began, in milliseconds since the first."""
    runs = sorted((begin, k, ms) for k, of in enumerate(timed) for begin, ms in zip(of.begins, of.times, strict=True))
    return [{"network": k, "begin_ms": (begin - runs[0][0]) * 1e3, "ms": ms} for begin, k, ms in runs]


def time_one(network: LiteNetwork) -> float:
    """Milliseconds of one run."""
    begin = perf_counter()
    network.forward()
    network.wait()
    return (perf_counter() - begin) * 1e3


def _measure(args: Namespace, network: LiteNetwork, visible: bool) -> Iterator[tuple[float, float]]:
    """When each run began, in seconds of the clock, and its milliseconds."""
    if args.iter:
        runs = range(args.iter)
        for _ in progress.bar(runs, args.iter, "measuring") if visible else runs:
            yield perf_counter(), time_one(network)
        return
    begin = perf_counter()
    rounds = _seconds(begin, args.seconds)
    if visible:
        rounds = progress.bar(rounds, args.seconds, "measuring", lambda: perf_counter() - begin)
    for _ in rounds:
        yield perf_counter(), time_one(network)


def _seconds(begin: float, most: float) -> Iterator[None]:
    """Goes on for some seconds, and for three runs at least."""
    done = 0
    while perf_counter() < begin + most or done < 3:
        yield None
        done += 1


def show(result: dict[str, Any]) -> None:
    """Prints one line per figure."""
    t = result["time_ms"]
    rows = [
        ("model", result["model"]),
        ("kernels", display.kernels_text(result)),
        ("inputs", ", ".join(f"{n} {display.shape_text(s)}" for n, s in result["inputs"].items()) or "defaults"),
        ("load", f"{result['load_ms']:.2f} ms"),
        ("first run", f"{result['first_run_ms']:.2f} ms"),
        ("runs", f"{t['runs']}, {result['runs_per_second']:.1f} per second"),
        ("latency", display.statistics_text(t)),
    ]
    if result["networks"] > 1:
        counts = [each["runs"] for each in result["time_ms_of_each_network"]]
        weights = "one copy of the weights" if result["weights_shared"] else "weights of their own"
        rows.append(("networks", f"{result['networks']} with {weights}, {min(counts)} to {max(counts)} runs each"))
    if result["gflops"] is not None:
        work = display.count_text(result["multiply_adds"])
        rows.append(("arithmetic", f"{work} multiply-adds, {result['gflops']:.1f} GFLOP/s"))
    grown = result["peak_memory_bytes"] - result["memory_before_bytes"]
    rows.append(
        ("peak memory", f"{display.bytes_text(result['peak_memory_bytes'])}, {display.bytes_text(grown)} for the model")
    )
    for name, value in rows:
        display.print_line(f"{name:12} {value}")
    show_written(result)
