"""Show how long each step of a run takes, by which algorithm and at what speed.

With --compare A B nothing runs: two profiles are compared, operator by operator.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from megengine_lite._cli import config_files, flags, inputs, number_types, progress
from megengine_lite._cli.gflags import UsageError

if TYPE_CHECKING:
    from megengine_lite import LiteNetwork

USAGE = "MODEL [--output FILE] [flags] | --compare A B [--format md|json]"


class _Compare(argparse.Action):
    """Takes two files in place of a model."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        namespace.compare = values
        for action in parser._actions:
            if action.dest == "model":
                action.required = False


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("profile")
    group.add_argument(
        "--iter", type=number_types.positive, default=10, metavar="N", help="runs; times are medians (10)"
    )
    flags.add_warmup_flag(group, 2, "runs before those, not counted")
    group.add_argument("--output", metavar="FILE", help="write the profile of one run")
    group.add_argument(
        "--form",
        choices=["chrome", "megengine"],
        default="chrome",
        help="of that file: chrome, for Perfetto, or megengine, for the original's tools (chrome)",
    )
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--compare", nargs=2, action=_Compare, metavar=("A", "B"), help="show what is slower or faster in profile B"
    )
    group.add_argument("--format", choices=["md", "json"], help="of that comparison (a table)")


def execute(args: Namespace) -> dict[str, Any]:
    """Measures the runs; returns the times of each step and of each type of operator."""
    if args.compare is not None:
        from megengine_lite._cli import compare_profiles

        return compare_profiles.execute(args)
    if args.format is not None:
        raise UsageError("--format is for --compare A B; --json prints the profile as JSON")
    if args.form != "chrome" and not args.output:
        raise UsageError("--form is for --output FILE")
    network = flags.load_network(args).network
    inputs.set_inputs(args, network, fill=True)
    for _ in range(args.warmup_iter):
        network.forward()
        network.wait()
    steps = measure_steps(network, args.iter)
    if args.output:
        network.enable_profile_performance(args.output, form=args.form)
        network.forward()
        network.wait()
    flags.finish(args, network)
    from megengine_lite._api.model_profiles import ModelProfile

    profile = ModelProfile(args.model, steps)
    return {
        "model": args.model,
        "precision": network.precision,
        "total_ms": profile.total_ms,
        "steps": steps,
        "operators_ms": profile.operators_ms,
    }


def measure_steps(network: LiteNetwork, runs: int) -> list[dict[str, Any]]:
    """The steps of a run of a network whose inputs are set: ``times_ms`` in all runs, and their median ``ms``."""
    from megengine_lite._core.reports.profile import slices

    measured = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "profile.json"
        network.enable_profile_performance(file, form="chrome")
        for _ in progress.bar(range(runs), runs, "measuring"):
            network.forward()
            network.wait()
            measured.append(slices(json.loads(file.read_text())))
    return [_step(events) for events in zip(*measured, strict=True)]


def _step(events: tuple[dict[str, Any], ...]) -> dict[str, Any]:
    """One step, from its times in all runs."""
    first = events[0]
    times = [e["dur"] / 1e3 for e in events]
    milliseconds = statistics.median(times)
    work = first["args"].get("GFLOP/s", 0) * first["dur"]  # thousands of operations
    return {
        "name": first["name"],
        "operator": first["cat"],
        "algorithm": first["args"]["algorithm"],
        "outputs": first["args"]["outputs"],
        "ms": milliseconds,
        "times_ms": times,
        "gflops": work / milliseconds / 1e3 if work and milliseconds else None,
    }


def show(result: dict[str, Any]) -> None:
    """Prints all steps in order, then the sums by type of operator."""
    from megengine_lite._api.model_profiles import ModelProfile

    if "steps" not in result:
        from megengine_lite._cli import compare_profiles

        compare_profiles.show(result)
        return
    print(ModelProfile(result["model"], result["steps"]))
