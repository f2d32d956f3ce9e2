"""Run a model on given inputs, show its outputs and how long each run took."""

from __future__ import annotations

import zipfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import config_files, display, flags, inputs, number_types, pack, parallel, progress, watch
from megengine_lite._cli.gflags import add_switch
from megengine_lite._cli.model_files import show_written, write_file
from megengine_lite._core.system.files import replacing
from megengine_lite.errors import os_error, printable

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [--input NAME=VALUE ...] [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("runs")
    group.add_argument("--iter", type=number_types.positive, default=1, metavar="N", help="runs (1)")
    flags.add_warmup_flag(group, 0, "runs before those")
    parallel.add_parallel_flags(group)
    add_switch(group, "fitting", "find the fastest flags instead: the command fit")
    group = parser.add_argument_group("results")
    group.add_argument("--output", metavar="FILE", help="write the outputs to a .npz, by name")
    group.add_argument(
        "--top", type=number_types.positive, metavar="K", help="show the K largest values of each output"
    )
    add_switch(group, "calc-output-rms", "show the root mean square of each output")
    group.add_argument("--model-dump", metavar="FILE", help="write the model as a plain file, as the command convert")
    watch.add_watch_flags(parser)
    pack.add_dump_flags(parser)


def execute(args: Namespace) -> dict[str, Any]:
    """Runs the model; gives inputs, outputs and times."""
    from megengine_lite import __version__

    watch.wait_for_debugger(args)
    loaded = parallel.load_networks(args)
    network = loaded.networks[0]
    observer = watch.Watch(args, network)
    result = {
        "version": __version__,
        "model": args.model,
        "instruction_set": flags.instruction_set(args),
        "settings": flags.describe_settings(network),
        "networks": len(loaded.networks),
        "load_ms": loaded.seconds * 1e3,
        **observer.model_info(),
    }
    if "model_info" in result and not args.json:  # at once: it helps where the run fails
        print(*watch.info_lines(result["model_info"]), "", sep="\n")
    outputs: list[dict[str, np.ndarray]] = []
    given = args.input or args.input_desc or args.rng
    cases: list[Any] = [] if given else inputs.stored_cases(args)
    cases = cases or [None]  # None stands for the inputs that the command line gives
    result["cases"] = [_run_case(args, loaded.networks, case, observer, outputs) for case in cases]
    observer.finish()
    if args.output:
        _write_outputs(args.output, outputs)
    flags.finish(args, network)
    result["written"] = {**_dump_model(args), **pack.dump(args)}
    return result


def _run_case(
    args: Namespace,
    networks: list[LiteNetwork],
    case: dict[str, np.ndarray] | None,
    observer: watch.Watch,
    outputs: list[dict[str, np.ndarray]],
) -> dict[str, Any]:
    """Runs all networks on the inputs of a case; appends the outputs of the first."""
    given = {}
    for network in networks:
        if case is None:
            given = inputs.set_inputs(args, network, fill=False)
        else:
            given = case
            for name, array in case.items():
                network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(array))
    times: list[list[float]] = [[] for _ in networks]
    returns: list[list[float]] = [[] for _ in networks]

    def work(k: int, network: LiteNetwork) -> Iterator[None]:
        for _ in range(args.warmup_iter + args.iter):
            begin = perf_counter()
            network.forward()
            returned = perf_counter()
            network.wait()
            times[k].append((perf_counter() - begin) * 1e3)
            returns[k].append((returned - begin) * 1e3)
            if k == 0:
                observer.after_run()
            yield

    with progress.waiting("running"):
        seconds = parallel.on_each(networks, work)
    names = networks[0].get_all_output_name()
    outputs.append({name: networks[0].get_io_tensor(name).to_numpy().copy() for name in names})
    described = {name: display.describe_array(array, args.calc_output_rms) for name, array in outputs[-1].items()}
    if args.top:
        for name, array in outputs[-1].items():
            values = array.reshape(-1).astype(np.float64)
            order = np.argsort(-values, kind="stable")[: args.top]
            described[name]["top"] = [{"index": int(i), "value": float(values[i])} for i in order]
    counted = [t for part in times for t in part[args.warmup_iter :]]
    return {
        "inputs": {name: display.describe_array(array) for name, array in given.items()},
        "outputs": described,
        "warmup_ms": [t for part in times for t in part[: args.warmup_iter]],
        "run_ms": counted,
        "forward_ms": [t for part in returns for t in part[args.warmup_iter :]],
        "time_ms": display.statistics(counted),
        "elapsed_ms": seconds * 1e3,
    }


def _write_outputs(path: str, outputs: list[dict[str, np.ndarray]]) -> None:
    """A .npz of exactly this name; with several test cases, ``case0_NAME`` and so on."""
    try:
        with replacing(path) as target, zipfile.ZipFile(target, "w") as file:
            for k, case in enumerate(outputs):
                for name, array in case.items():
                    key = printable(name if len(outputs) == 1 else f"case{k}_{name}")
                    with file.open(f"{key}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array(entry, np.asanyarray(array))
    except OSError as error:  # it names a file that is there for a moment only
        raise os_error(error, f"{path} cannot be written: {error.strerror}", path) from error


def _dump_model(args: Namespace) -> dict[str, int]:
    from megengine_lite._api.loading import rewritten, to_source

    if not args.model_dump:
        return {}
    chunks = rewritten(to_source(args.model), flags.config(args), narrow_double=args.narrow_double)
    return {args.model_dump: write_file(args.model_dump, chunks, args.model)}


def show(result: dict[str, Any]) -> None:
    """Prints inputs, outputs and times."""
    print(f"megengine_lite {result['version']}, kernels: {display.kernels_text(result)}")
    print(f"load: {result['load_ms']:.2f} ms")
    for k, case in enumerate(result["cases"]):
        if len(result["cases"]) > 1:
            print(f"\ntest case {k}")
        for kind in ("inputs", "outputs"):
            rows = [display.array_row(name, array) for name, array in case[kind].items()]
            print(f"\n{kind}\n{display.table(rows, display.ARRAY_HEADER, display.ARRAY_SIDES)}")
        for name, array in case["outputs"].items():
            if "rms" in array:
                print()
                display.print_line(f"root mean square of {name}: {array['rms']:.9g}")
            if "top" in array:
                top = [(t["index"], f"{t['value']:.6g}") for t in array["top"]]
                print(f"\nlargest values of {display.one_line(name)}\n{display.table(top, ('index', 'value'), 'rr')}")
        print()
        _show_times(case)
    if len(result["cases"]) > 1:
        print(f"\nall test cases: {sum(case['elapsed_ms'] for case in result['cases']):.3f} ms")
    show_written(result)


def _show_times(case: dict[str, Any]) -> None:
    for i, t in enumerate(case["warmup_ms"]):
        print(f"warm-up {i}: {t:.3f} ms")
    for i, (t, returned) in enumerate(zip(case["run_ms"], case["forward_ms"], strict=True)):
        print(f"run {i}: {t:.3f} ms, forward returned after {returned:.3f} ms")
    print(display.statistics_text(case["time_ms"]))
