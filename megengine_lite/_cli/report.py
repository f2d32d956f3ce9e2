"""Report on a model: its graph, where the time goes and why, memory, weights; as a page, as text, or for machines.

Without --output the report is printed. Two reports stand side by side with another model (--against), other flags
(--other), or both. A model that cannot run gets a report, too, which says why.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import (
    config_files,
    display,
    flags,
    inputs,
    number_types,
    other_run,
    own_inputs,
    progress,
    stored_values,
)
from megengine_lite._cli.gflags import UsageError, add_switch, as_usage_error
from megengine_lite._cli.model_files import show_written
from megengine_lite.errors import ModelFormatError, UnsupportedOperatorError

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
    with as_usage_error():  # first: a wrong form should not cost a measurement
        write = form_of(args.output or "report.md", args.format)
    report = _of_two(args) if two else _of_one(args, stored)
    result = {**report.content, "written": {}, "text": None}
    if args.output:
        report.save(args.output, args.format)
        result["written"] = {args.output: os.path.getsize(args.output)}
    elif not args.json:
        result["text"] = write(report)
    return result


def _of_one(args: Namespace, stored: bool) -> ModelReport:
    """The report on one model; ``stored`` results of another runtime are compared with its own."""
    report, network = _loaded(args)
    if network is None:
        return report
    inputs.set_inputs(args, network, fill=True)
    report = _measured(args, network)
    if stored and _runs(report):
        names = [report.content["reports"][0]["name"], os.path.basename(args.against)]
        inputs_of = network.get_all_input_name()
        report.add_layers(_layers(args, network, lambda: stored_values.results(args.against, inputs_of), names))
    return report


def _of_two(args: Namespace) -> ModelReport:
    """The reports on two models or settings. Of two models each has inputs of its own, unless results are compared."""
    others = other_run.other_flags(args)
    first, network = _loaded(args)
    second, other = _loaded(others)
    if network is not None:
        given = own_inputs.set_own_inputs(args, network, other, alone=args.against is None or args.layers)
        first = _measured(args, network)
    if other is not None:
        if network is not None and (args.against is None or args.layers):
            other_run.set_same_inputs(other, given, others.model)
        else:
            own_inputs.set_own_inputs(others, other, network)
        second = _measured(others, other)
    report = first.beside(second, _labels(args, first, second))
    if args.layers and network is not None and other is not None and _runs(report):
        names = [r["name"] for r in report.content["reports"]]
        report.add_layers(_layers(args, network, lambda: other_run.results_of(other), names))
    return report


def _loaded(args: Namespace) -> tuple[ModelReport, LiteNetwork | None]:
    """The network that the flags describe, and what there is to report if it cannot be loaded."""
    from megengine_lite._core.reports.model_report.report import ModelReport

    try:
        return ModelReport(), flags.load_network(args).network
    except (UnsupportedOperatorError, ModelFormatError) as error:
        return _unloaded(args, error), None


def _measured(args: Namespace, network: LiteNetwork) -> ModelReport:
    """The report on a network whose inputs are set."""
    with progress.waiting("measuring"):
        report = network.report(runs=args.iter, warmup=args.warmup_iter)
    flags.finish(args, network)
    return report


def _unloaded(args: Namespace, error: UnsupportedOperatorError | ModelFormatError) -> ModelReport:
    """The report on a model with operators that are not supported, or with a graph that cannot be computed."""
    from megengine_lite._core.formats.load import load_model
    from megengine_lite._core.reports.model_report import collect
    from megengine_lite._core.reports.model_report.report import ModelReport

    name, size = os.path.basename(args.model), os.path.getsize(args.model)
    try:
        model = load_model(args.model, decrypt=args.decrypt or None, check=False, narrow_double=args.narrow_double)
    except UnsupportedOperatorError:  # a file of the first generation: nothing behind it can be told
        return ModelReport(collect.unread(name, str(error).removeprefix(f"{args.model}: "), size))
    if isinstance(error, ModelFormatError) and model.problem is None:  # it is about something else than the model
        raise error
    return ModelReport(collect.without_run(model, name, {}, size=size))


def _labels(args: Namespace, first: ModelReport, second: ModelReport) -> tuple[str, str]:
    """What the two are called: the files, in their folders if that tells them apart, and flags that only one has."""
    names = [r.content["reports"][0]["name"] for r in (first, second)]
    if args.against is not None and names[0] == names[1]:
        names = display.told_apart(args.model, args.against)
    if args.other is not None:
        names[1] = f"{names[1]} {args.other}".rstrip()
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
