"""Report on a model: its graph, where the time goes and why, memory, weights; as a page, as text, or for machines.

Without --output the report is printed. Two reports stand side by side with another model (--against), other flags
(--other), or both. A model that cannot run gets a report, too, which says why.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from megengine_lite._cli import config_files, display, flags, inputs, number_types, other_run, progress, stored_values
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._cli.model_files import show_written
from megengine_lite.errors import UnsupportedOperatorError

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork
    from megengine_lite._core.reports.model_report.layers import LayerResult
    from megengine_lite._core.reports.model_report.report import ModelReport

USAGE = "MODEL [-o FILE] [--against FILE] [--other=FLAGS] [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("report")
    group.add_argument("-o", "--output", metavar="FILE", help="where to write it: report.html, .md or .json")
    group.add_argument(
        "--format", choices=["html", "md", "json"], help="of the report (what the name of FILE ends in; printed: md)"
    )
    group.add_argument(
        "--iter", type=number_types.positive, default=10, metavar="N", help="runs; times are medians (10)"
    )
    flags.add_warmup_flag(group, 2, "runs before those, not counted")
    group.add_argument(
        "--against",
        metavar="FILE",
        help="another model, side by side with this one; for --layers also a .npz with results by their names, and "
        "inputs as in_NAME",
    )
    other_run.add_other_flag(group)
    add_switch(group, "layers", "compare the results of operators of both; see the command verify")
    group.add_argument(
        "--tolerance",
        type=number_types.distance,
        default=1e-3,
        metavar="T",
        help="largest difference of such results, in parts of the largest value (1e-3)",
    )


def execute(args: Namespace) -> dict[str, Any]:
    """Measures and writes; gives the content of the report."""
    from megengine_lite._core.reports.model_report.report import form_of

    stored = args.layers and args.against is not None and args.against.endswith(".npz")
    two = (args.against is not None or args.other is not None) and not stored
    if args.layers and not two and not stored:
        raise UsageError("--layers compares two runs: give --against FILE or --other=FLAGS")
    if stored:
        stored_values.check_no_other(args)
        stored_values.take_inputs(args)
    write = form_of(args.output or "report.md", args.format)  # first: a wrong form should not cost a measurement
    first, network, given = _one(args, None)
    report = first
    if two:
        second, other, _ = _one(other_run.other_flags(args), given)
        report = first.beside(second, _labels(args, first, second))
        names = [r["name"] for r in report.content["reports"]]
        if args.layers and network is not None and other is not None and _runs(report):
            report.add_layers(_layers(args, network, lambda: other_run.results_of(other), names))
    elif stored and network is not None and _runs(report):
        names = [report.content["reports"][0]["name"], os.path.basename(args.against)]
        inputs_of = network.get_all_input_name()
        report.add_layers(_layers(args, network, lambda: stored_values.results(args.against, inputs_of), names))
    result = {**report.content, "written": {}, "text": None}
    if args.output:
        report.save(args.output, args.format)
        result["written"] = {args.output: os.path.getsize(args.output)}
    elif not args.json:
        result["text"] = write(report)
    return result


def _one(
    args: Namespace, given: dict[str, np.ndarray] | None
) -> tuple[ModelReport, LiteNetwork | None, dict[str, np.ndarray]]:
    """The report on the model that the flags describe, with the network if it can be loaded, and its inputs."""
    try:
        network = flags.load_network(args).network
    except UnsupportedOperatorError as error:
        return _unsupported(args, error), None, {}
    if given is None:
        given = inputs.set_inputs(args, network, fill=True)
    else:
        other_run.set_same_inputs(network, given)
    with progress.waiting("measuring"):
        report = network.report(runs=args.iter, warmup=args.warmup_iter)
    flags.finish(args, network)
    return report, network, given


def _unsupported(args: Namespace, error: UnsupportedOperatorError) -> ModelReport:
    """The report on a model with operators that are not supported."""
    from megengine_lite._core.formats.load import load_model
    from megengine_lite._core.reports.model_report import collect
    from megengine_lite._core.reports.model_report.report import ModelReport

    name, size = os.path.basename(args.model), os.path.getsize(args.model)
    try:
        model = load_model(args.model, decrypt=args.decrypt or None, check=False, narrow_double=args.narrow_double)
    except UnsupportedOperatorError:  # a file of the first generation: nothing behind it can be told
        return ModelReport(collect.unread(name, str(error).removeprefix(f"{args.model}: "), size))
    return ModelReport(collect.without_run(model, name, {}, size=size))


def _labels(args: Namespace, first: ModelReport, second: ModelReport) -> tuple[str, str]:
    """What the two are called: the files, and the flags that only the other has."""
    names = [r.content["reports"][0]["name"] for r in (first, second)]
    if args.other is not None:
        names[1] = f"{names[1]} {args.other}"
    return names[0], names[1]


def _runs(report: ModelReport) -> bool:
    return not any(r["problem"] for r in report.content["reports"])


def _layers(args: Namespace, network: Any, others: Callable[[], list[LayerResult]], names: list[str]) -> dict[str, Any]:
    """The comparison of the results of operators with those that ``others`` gives."""
    from megengine_lite._core.reports.model_report.layers import compare_layers

    with progress.waiting("comparing"):
        ours, theirs = other_run.results_of(network), others()
        return compare_layers(ours, theirs, same_file=args.against is None, tolerance=args.tolerance, names=names)


def show(result: dict[str, Any]) -> None:
    """Prints the report, or where it has been written."""
    if result["text"] is not None:
        print(result["text"])
        return
    for report in result["reports"]:
        if report["problem"]:
            display.print_line(f"{report['name']} does not run: {report['problem']}")
    show_written(result)
