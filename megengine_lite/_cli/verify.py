"""Compare the outputs of a model with stored ones, or with those of another run.

The other run is that of another model (--against), of the same model with other flags (--other), or of both. Without
either it is a run of the same model as it stands in the file: not optimized, on one thread.

The exit status is 1 where an output differs by more than the tolerance.
"""

from __future__ import annotations

import textwrap
from argparse import ArgumentParser, Namespace
from typing import Any

import numpy as np

from megengine_lite._cli import config_files, display, flags, inputs, number_types, other_run, progress, stored_values
from megengine_lite._cli.gflags import UsageError, add_switch
from megengine_lite._core.reports.differences import compare, has_numbers, state_text
from megengine_lite._core.reports.units import counted
from megengine_lite.errors import LiteError, LiteValueError, listed

USAGE = "MODEL [--against FILE] [--other=FLAGS] [flags]"


def add(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    flags.add_network_flags(parser)
    inputs.add_input_flags(parser)
    config_files.add_config_flags(parser)
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--against",
        metavar="FILE",
        help="outputs in a .npz (by name, or as out_0, out_1, ...; inputs as in_NAME), the only output in a .npy, or "
        "another model",
    )
    other_run.add_other_flag(group)
    group.add_argument(
        "--tolerance",
        type=number_types.distance,
        default=1e-3,
        metavar="T",
        help="largest difference, in parts of the largest value (1e-3)",
    )
    add_switch(group, "layers", "compare the results of all operators that both have, too")


def execute(args: Namespace) -> dict[str, Any]:
    """Runs and compares; gives the difference of each output."""
    stored = args.against is not None and args.against.endswith((".npz", ".npy"))
    if stored:
        stored_values.check_no_other(args)
        stored_values.take_inputs(args)
    network = flags.load_network(args).network
    given = inputs.set_inputs(args, network, fill=not stored)
    names = network.get_all_output_name()
    ours = _run(network)
    other = None if stored else _other_network(args, given)
    theirs = _stored_outputs(args.against, names) if other is None else _outputs_as(args, other, names)
    flags.finish(args, network)
    missing = [n for n in names if n not in theirs]
    if missing:
        raise LiteError(f"there is nothing to compare output {missing[0]!r} with; there are {', '.join(theirs)}")
    quantized = _quantized_outputs(network)
    outputs = {n: compare(ours[n], theirs[n], args.tolerance, quantized=n in quantized) for n in names}
    against = " ".join(t for t in (args.against, args.other) if t) or "unoptimized run"
    layers = {"layers": _layers(args, network, other, against)} if args.layers else {}
    return {
        "model": args.model,
        "against": against,
        "tolerance": args.tolerance,
        "outputs": outputs,
        **layers,
        "failed": not all(o["equal"] for o in outputs.values()),
    }


def _run(network: Any) -> dict[str, np.ndarray]:
    with progress.waiting("running"):
        network.forward()
        network.wait()
    return {name: network.get_io_tensor(name).to_numpy().copy() for name in network.get_all_output_name()}


def _quantized_outputs(network: Any) -> set[str]:
    """Outputs whose integers stand for real numbers."""
    session = network._loaded("verify").session
    types = {name: session.output_dtype(name) for name in network.get_all_output_name()}
    return {name for name, dtype in types.items() if dtype is not None and dtype.is_quantized}


def _stored_outputs(path: str, names: list[str]) -> dict[str, np.ndarray]:
    if path.endswith(".npy"):
        array = inputs.checked_load(path)  # first, as it has an error of its own for a file that is missing or no array
        if len(names) > 1:
            raise LiteValueError(f"{path} is one array, the model has the outputs {', '.join(names)}: use a .npz")
        return {names[0]: array}
    with inputs.checked_load(path) as file:
        numbered = {n: f"out_{i}" for i, n in enumerate(names)}
        keys = {n: n if n in file.files else numbered[n] for n in names}
        found = {n: inputs.member(file, k, path) for n, k in keys.items() if k in file.files}
        keys_in = [*file.files]
    if not found:
        wanted = " or ".join(dict.fromkeys((names[0], "out_0")))
        raise LiteValueError(f"{path} has no outputs: it has {listed(keys_in, ', ') or 'nothing'}, and not {wanted}")
    return found


def _other_network(args: Namespace, given: dict[str, np.ndarray]) -> Any:
    """The network of the other run, with the same inputs."""
    others = other_run.other_flags(args)
    other = flags.load_network(others).network
    with other_run.errors_of(others.model):
        other_run.set_same_inputs(other, given, others.model)
    return other


def _outputs_as(args: Namespace, other: Any, names: list[str]) -> dict[str, np.ndarray]:
    """Outputs of the other run. Those of another model are matched by position if names differ."""
    with other_run.errors_of(args.against or args.other or "the unoptimized run"):
        outputs = _run(other)
    if len(outputs) == len(names) and not set(names) <= set(outputs):
        return dict(zip(names, outputs.values(), strict=True))
    return outputs


def _layers(args: Namespace, network: Any, other: Any, against: str) -> dict[str, Any]:
    """The comparison of the results of operators; ``other`` is None where values are stored."""
    from megengine_lite._core.reports.model_report.layers import compare_layers

    if other is None and not args.against.endswith(".npz"):
        raise UsageError(
            "--layers compares with another run, or with the values in a .npz by the names of tensors or operators"
        )
    with progress.waiting("comparing"):
        ours = other_run.results_of(network)
        if other is None:
            theirs = stored_values.results(args.against, network.get_all_input_name())
        else:
            theirs = other_run.results_of(other)
        same = other is not None and args.against is None
        return compare_layers(ours, theirs, same_file=same, tolerance=args.tolerance, names=[args.model, against])


def show(result: dict[str, Any]) -> None:
    """Prints one row for each output."""
    rows = []
    for name, o in result["outputs"].items():
        numbers = [f"{o[k]:.3g}" for k in ("largest", "difference", "relative")] if has_numbers(o) else ["", "", ""]
        unequal = str(o["unequal"]) if has_numbers(o) else ""
        rows.append((name, unequal, *numbers, state_text(o, "DIFFERENT")))
    names = [display.one_line(str(result[side])) for side in ("model", "against")]
    print(f"{names[0]} against {names[1]}, tolerance {result['tolerance']:g}\n")
    print(display.table(rows, ("output", "unequal", "largest value", "difference", "relative", ""), "lrrrr"))
    if any(o.get("exact") and not o["equal"] for o in result["outputs"].values()):
        print("\nintegers and truth values must be the same, whatever the tolerance is")
    if "layers" in result:
        print()
        _show_layers(result["layers"])


_LAYER_HEADER = ("", "operator", "name", "unequal", "difference", "relative", "mean", "SNR dB", "cosine", "")


def _show_layers(found: dict[str, Any]) -> None:
    from megengine_lite._core.reports.model_report.layers import name_of_pair, note_on_doubts, state_of_pair

    rows = []
    for k, layer in enumerate(found["layers"]):
        numbers = [""] * 6
        if has_numbers(layer):
            numbers = [str(layer["unequal"])]
            numbers += [f"{layer[name]:.3g}" for name in ("difference", "relative", "mean")]
            numbers.append("" if layer["snr_db"] is None else display.fixed_text(layer["snr_db"], 1))
            numbers.append("" if layer["cosine"] is None else display.fixed_text(layer["cosine"], 7))
        rows.append((k, layer["op"], name_of_pair(layer), *numbers, state_of_pair(layer, "DIFFERENT")))
    print(display.table(rows, _LAYER_HEADER, "rllrrrrrr"))
    mine, theirs = found["unmatched"]
    print(f"\n{counted(len(rows), 'result')} compared; {mine} of this run and {theirs} of the other have no partner")
    if any(layer["misnamed"] for layer in found["layers"]):
        print("results called NAME (there OTHER) have different names: in the other run NAME is another result")
    if doubts := note_on_doubts(found["layers"]):
        print(textwrap.fill(doubts, 100))
    if found["first"] is not None:
        first = found["layers"][found["first"]]
        print(f"the first that differs: {found['first']}, {first['op']} {first['name']!r}")
        if found["note"]:
            print(textwrap.fill(found["note"], 100))
