"""Run a model on given inputs and show its outputs.

With --iter it also tells how long each run took, as load_and_run does.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import flags, inputs, report

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [--input NAME=VALUE ...] [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    group = parser.add_argument_group("runs")
    group.add_argument("--iter", type=flags.positive, default=1, metavar="N", help="runs (1)")
    group.add_argument("--warmup-iter", type=int, default=0, metavar="N", help="runs before those, not counted (0)")
    group = parser.add_argument_group("results")
    group.add_argument("--output", metavar="FILE", help="write the outputs to a .npz, by name")
    group.add_argument("--top", type=flags.positive, metavar="K", help="show the K largest values of each output")
    group.add_argument("--io-dump", metavar="FILE", help="write all tensors of each run as text")
    group.add_argument("--bin-io-dump", metavar="DIR", help="write all tensors of the last run as binary files")
    group.add_argument("--get-static-mem-info", metavar="DIR", help="write how the memory of the run is laid out")


def execute(args: Namespace) -> dict[str, Any]:
    """Runs the model; gives inputs, outputs and times."""
    loaded = flags.load_network(args)
    network = loaded.network
    cases = _test_cases(args, network)
    if args.io_dump:
        network.io_txt_dump(args.io_dump)
    if args.bin_io_dump:
        network.io_bin_dump(args.bin_io_dump)
    results = [_run_case(args, network, case) for case in cases]
    if args.get_static_mem_info:
        network.get_static_memory_alloc_info(args.get_static_mem_info)
    flags.finish(args, network)
    return {"model": args.model, "load_ms": loaded.seconds * 1e3, "cases": results}


def _test_cases(args: Namespace, network: LiteNetwork) -> list[dict[str, np.ndarray] | None]:
    """Inputs that are stored behind the model, if none are given; None stands for those of the command line."""
    from megengine_lite._core.loader import load_test_cases

    if args.input or args.decrypt or not _is_wrapped(args.model):
        return [None]
    return [*load_test_cases(args.model)] or [None]


def _is_wrapped(path: str) -> bool:
    from megengine_lite._core.loader.container import TEST_CASE_MAGIC

    with open(path, "rb") as file:
        return file.read(len(TEST_CASE_MAGIC)) == TEST_CASE_MAGIC


def _run_case(args: Namespace, network: LiteNetwork, case: dict[str, np.ndarray] | None) -> dict[str, Any]:
    if case is None:
        case = inputs.set_inputs(args, network, fill=False)
    else:
        for name, array in case.items():
            network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(array))
    for _ in range(args.warmup_iter):
        network.forward()
        network.wait()
    times = []
    for _ in range(args.iter):
        begin = perf_counter()
        network.forward()
        network.wait()
        times.append((perf_counter() - begin) * 1e3)
    outputs = {name: network.get_io_tensor(name).to_numpy() for name in network.get_all_output_name()}
    if args.output:
        np.savez(args.output, **outputs)  # type: ignore[arg-type]
    described = {name: report.describe_array(array) for name, array in outputs.items()}
    if args.top:
        for name, array in outputs.items():
            values = array.reshape(-1).astype(np.float64)
            order = np.argsort(-values, kind="stable")[: args.top]
            described[name]["top"] = [{"index": int(i), "value": float(values[i])} for i in order]
    return {
        "inputs": {name: report.describe_array(array) for name, array in case.items()},
        "outputs": described,
        "run_ms": times,
        "time_ms": report.statistics(times),
    }


def show(result: dict[str, Any]) -> None:
    """Prints the outputs, and times if there was more than one run."""
    print(f"load: {result['load_ms']:.2f} ms")
    for k, case in enumerate(result["cases"]):
        if len(result["cases"]) > 1:
            print(f"\ntest case {k}")
        for kind in ("inputs", "outputs"):
            rows = [report.array_row(name, array) for name, array in case[kind].items()]
            print(f"\n{kind}\n{report.table(rows, report.ARRAY_HEADER, report.ARRAY_SIDES)}")
        for name, array in case["outputs"].items():
            if "top" in array:
                top = [(t["index"], f"{t['value']:.6g}") for t in array["top"]]
                print(f"\nlargest values of {name}\n{report.table(top, ('index', 'value'), 'rr')}")
        print()
        if len(case["run_ms"]) > 1:
            for i, t in enumerate(case["run_ms"]):
                print(f"run {i}: {t:.3f} ms")
            t = case["time_ms"]
            total = sum(case["run_ms"])
            print(
                f"total {total:.3f} ms, mean {t['mean']:.3f}, std {t['std']:.3f}, min {t['min']:.3f}, "
                f"median {t['median']:.3f}, p99 {t['p99']:.3f}, max {t['max']:.3f}"
            )
        else:
            print(f"run: {case['run_ms'][0]:.3f} ms")
