"""Measure a model: load time, first run, latency, GFLOP/s and peak memory.

Inputs that are not given are random.
"""

from __future__ import annotations

import resource
import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import flags, inputs, report

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    group = parser.add_argument_group("measurement")
    group.add_argument("--seconds", type=float, default=3.0, metavar="S", help="how long to measure (3)")
    group.add_argument("--iter", type=flags.positive, metavar="N", help="how many runs to measure, instead")
    group.add_argument("--warmup-iter", type=int, default=2, metavar="N", help="runs after the first, not counted (2)")
    group.add_argument(
        "--thread", type=flags.positive, default=1, metavar="N", help="networks that run at the same time"
    )
    group.add_argument("--share-param-mem", action="store_true", help="these networks share one copy of the weights")


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def execute(args: Namespace) -> dict[str, Any]:
    """Measures; gives times in milliseconds and sizes in bytes."""
    from megengine_lite import LiteNetwork, cpu_info  # noqa: F401  (loaded before memory is looked at)
    from megengine_lite._cli.info import count_work

    before = peak_memory()
    loaded = flags.load_network(args)
    networks = [loaded.network]
    for _ in range(args.thread - 1):
        share = loaded.network if args.share_param_mem else None
        networks.append(flags.load_network(args, share).network)
    given = [inputs.set_inputs(args, network, fill=True) for network in networks]
    first = [_time_one(network) for network in networks]
    times: list[list[float]] = [[] for _ in networks]
    begin = perf_counter()
    _measure_all(args, networks, times)
    elapsed = perf_counter() - begin
    flags.finish(args, networks[0])
    shapes = {name: array.shape for name, array in given[0].items()}
    work = count_work(args, shapes)
    statistics = report.statistics([t for part in times for t in part])
    runs = statistics["runs"]
    return {
        "model": args.model,
        "instruction_set": cpu_info()["chosen"],
        "threads": networks[0].threads_number,
        "networks": args.thread,
        "inputs": {name: list(shape) for name, shape in shapes.items()},
        "load_ms": loaded.seconds * 1e3,
        "first_run_ms": first[0],
        "time_ms": statistics,
        "runs_per_second": runs / elapsed,
        "multiply_adds": work,
        "gflops": None if work is None else 2 * work / (statistics["median"] * 1e6),
        "memory_before_bytes": before,
        "peak_memory_bytes": peak_memory(),
    }


def _time_one(network: LiteNetwork) -> float:
    begin = perf_counter()
    network.forward()
    network.wait()
    return (perf_counter() - begin) * 1e3


def _measure_all(args: Namespace, networks: list[LiteNetwork], times: list[list[float]]) -> None:
    errors: list[BaseException] = []

    def work(k: int) -> None:
        try:
            for _ in range(args.warmup_iter):
                _time_one(networks[k])
            times[k].extend(_measure(args, networks[k], visible=k == 0))
        except BaseException as error:  # raised again by the caller
            errors.append(error)

    helpers = [threading.Thread(target=work, args=(k,)) for k in range(1, len(networks))]
    for thread in helpers:
        thread.start()
    work(0)
    for thread in helpers:
        thread.join()
    if errors:
        raise errors[0]


def _measure(args: Namespace, network: LiteNetwork, visible: bool) -> Iterator[float]:
    if args.iter:
        runs = range(args.iter)
        for _ in report.progress(runs, args.iter, "measuring") if visible else runs:
            yield _time_one(network)
        return
    end = perf_counter() + args.seconds
    done = 0
    while perf_counter() < end or done < 3:
        yield _time_one(network)
        done += 1


def show(result: dict[str, Any]) -> None:
    """Prints one line per figure."""
    t = result["time_ms"]
    rows = [
        ("model", result["model"]),
        ("kernels", f"{result['instruction_set']}, {result['threads']} thread(s), {result['networks']} network(s)"),
        ("inputs", ", ".join(f"{n} {report.shape_text(s)}" for n, s in result["inputs"].items()) or "defaults"),
        ("load", f"{result['load_ms']:.2f} ms"),
        ("first run", f"{result['first_run_ms']:.2f} ms"),
        ("runs", f"{t['runs']}, {result['runs_per_second']:.1f} per second"),
        ("latency", f"median {t['median']:.3f} ms, p10 {t['p10']:.3f}, p99 {t['p99']:.3f}, mean {t['mean']:.3f}"),
    ]
    if result["gflops"] is not None:
        work = report.count_text(result["multiply_adds"])
        rows.append(("arithmetic", f"{work} multiply-adds, {result['gflops']:.1f} GFLOP/s"))
    grown = result["peak_memory_bytes"] - result["memory_before_bytes"]
    rows.append(
        ("peak memory", f"{report.bytes_text(result['peak_memory_bytes'])}, {report.bytes_text(grown)} for the model")
    )
    for name, value in rows:
        print(f"{name:12} {value}")
