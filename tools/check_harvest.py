"""Runs the models that ``tools/harvest.py`` made and compares with what the original computed::

    python tools/check_harvest.py FOLDER

Each model runs with each instruction set of this machine, 1 and 2 threads, and graph_opt_level 0 and 2, in a process
that may crash or hang. A result is equal if it agrees with that of MegEngine Lite or with that of MegEngine; the models
where these two disagree are counted, too.
"""

from __future__ import annotations

import argparse
import functools
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from isolated_workers import Worker, serve

from megengine_lite._core.cpu.kernel_set import runnable_sets

_SETTINGS = [(threads, level) for level in (0, 2) for threads in (1, 2)]

# (function, largest relative difference, steps of an integer result); the first that matches the whole name counts.
_TOLERANCES: list[tuple[str, float, int]] = [
    ("matinv|svd", 1e-3, 0),
    ("cvt_color|remap|warp_.*|interpolate|resize", 1e-4, 1),
    ("conv_bias_activation|batch_conv_bias_activation|module[.].*|conv_transpose2d|fake_quant.*|tqt.*", 1e-4, 1),
    ("Tensor[.](__(getitem|setitem|neg|abs|lt|le|gt|ge|eq|ne)__|reshape|transpose|flatten|min|max)", 0, 0),
    (".*", 1e-4, 0),
]
_HALF = 2e-2
_SUMS = "(op[.]|Tensor[.])?(sum|mean|Reduce)"
"""Their results may be much smaller than the numbers that they add."""
_RANDOM = "normal|uniform|gamma|beta|poisson|permutation|shuffle|multinomial|exponential|dropout|op[.](.*RNG|Dropout)"
"""Functions with random results, for models that MegEngine Lite cannot run twice."""
_FOR_TRAINING = {"op.LSTM", "op.RNN"}
"""Their last output is of use in training only, and has no elements here."""


def difference_of(note: dict[str, Any], got: list[Any], want: list[Any], largest: float = 0) -> str:
    """In which way the outputs of a model, whose ``largest`` input is given, differ; empty if they do not."""
    function = note["function"]
    if "'no_sort': True" in note["arguments"] or "NOSORT" in note["arguments"]:
        got, want = ([np.sort(array, -1) for array in arrays] for arrays in (got, want))
    if function in _FOR_TRAINING:
        got, want = got[:-1], want[:-1]
    relative, steps = next((r, s) for pattern, r, s in _TOLERANCES if re.fullmatch(pattern, function))
    if len(got) != len(want):
        return f"{len(got)} outputs, not {len(want)}"
    for i, (a, b) in enumerate(zip(got, want, strict=True)):
        if a.shape != b.shape:
            return f"output {i} has shape {a.shape}, not {b.shape}"
        if a.dtype != b.dtype:
            return f"output {i} is {a.dtype}, not {b.dtype}"
        a, b = a.reshape(-1), b.reshape(-1)
        differs = ~((a == b) | ((a != a) & (b != b)))
        if not differs.any():
            continue
        distance = np.abs(a.astype(np.float64)[differs] - b.astype(np.float64)[differs])
        distance[np.isnan(distance)] = np.inf
        allowed: float = steps
        if b.dtype.kind == "f":
            scale = max(float(np.abs(b[np.isfinite(b)], dtype=np.float64).max(initial=0)), 1e-30)
            if re.fullmatch(_SUMS, function):
                scale = max(scale, 1e-2 * largest)
            allowed = scale * (_HALF if b.dtype.itemsize == 2 and relative else relative)
        if distance.max() > allowed:
            return f"output {i}: {differs.sum()} of {b.size} differ, by {distance.max():.3g}; allowed is {allowed:.3g}"
    return ""


def run_model(path: str, inputs: dict[str, Any], threads: int, level: int) -> tuple[list[Any], list[Any]]:
    """The outputs of two forwards, the second with the first's plan."""
    from megengine_lite import LiteConfig, LiteNetwork

    config = LiteConfig()
    config.options.graph_opt_level = level
    network = LiteNetwork(config)
    network.threads_number = threads
    network.load(path)
    runs = []
    for name in network.get_all_input_name():
        network.get_io_tensor(name).set_data_by_copy(np.ascontiguousarray(inputs[name]))
    for _ in range(2):
        network.forward()
        network.wait()
        runs.append([network.get_io_tensor(name).to_numpy().copy() for name in network.get_all_output_name()])
    return runs[0], runs[1]


def _as_in_tensor(array: Any) -> Any:
    """As a tensor of the API has it: there is no type for truth values, and at least one dimension."""
    return np.atleast_1d(array.astype(np.uint8) if array.dtype == bool else array)


def _largest(array: Any) -> float:
    return float(np.abs(array[np.isfinite(array)], dtype=np.float64).max(initial=0))


def check(path: str) -> list[tuple[str, str]]:
    """(verdict, detail) for each setting, and one for the original's agreement with itself."""
    from megengine_lite import LiteError

    call = path.removesuffix(".mge").removesuffix(".v1")
    note = json.loads(Path(f"{call}.json").read_text())
    with np.load(f"{call}.npz") as data:
        stored = {key: _as_in_tensor(data[key]) for key in data}
    inputs = {key.removeprefix("in_"): array for key, array in stored.items() if key.startswith("in_")}
    lite, eager = ([array for key, array in stored.items() if key.startswith(kind)] for kind in ("lite_", "eager_"))
    differs = functools.partial(difference_of, note, largest=max(map(_largest, inputs.values()), default=0.0))
    is_random = note.get("random", re.fullmatch(_RANDOM, note["function"]) is not None)
    verdicts = []
    for threads, level in _SETTINGS:
        try:
            first, second = run_model(path, inputs, threads, level)
        except LiteError as error:
            verdicts.append(("refused", f"{type(error).__name__}: {error}"))
            continue
        except Exception as error:
            verdicts.append(("raised", f"{type(error).__name__}: {error}"))
            continue
        if is_random:
            alike = [(a.shape, a.dtype) for a in first] == [(a.shape, a.dtype) for a in lite or eager]
            verdicts.append(("random", "") if alike else ("differs", "in shape or type"))
            continue
        found = ["", ""] if not lite else [differs(run, lite) for run in (first, second)]
        if not lite or any(found):
            agrees = [differs(run, eager) for run in (first, second)]
            found = agrees if not lite or not any(agrees) else found
        verdicts.append(("differs", found[0] or f"second run: {found[1]}") if any(found) else ("equal", ""))
    if lite and not is_random and (own := differs(lite, eager)):
        verdicts.append(("original", own))
    return verdicts


def _general(message: str) -> str:
    """A message without what differs between models."""
    message = re.sub(r"\([^()]*\)|\[[^\[\]]*\]|'[^']*'|\"[^\"]*\"", "…", message.splitlines()[0])
    return re.sub(r"-?\d+(\.\d+)?(e[-+]?\d+)?", "#", message)[:160]


def _print_groups(title: str, groups: dict[str, dict[str, list[str]]]) -> None:
    if groups:
        print(f"\n{title}")
    for key, models in sorted(groups.items(), key=lambda item: -len(item[1])):
        name, details = next(iter(models.items()))
        print(f"  {len(models):4} {key}\n       {name}: {'; '.join(sorted(set(details)))[:600]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--isa", nargs="+", default=[*runnable_sets()][::-1], help="default: %(default)s")
    parser.add_argument("--match", default="", help="regular expression of the models' names")
    parser.add_argument("--timeout", type=float, default=60, help="seconds for a model (%(default)s)")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve(check)
    if arguments.folder is None:
        parser.error("FOLDER is needed")
    paths = [str(path) for path in sorted(arguments.folder.glob("*.mge")) if re.search(arguments.match, path.stem)]
    # verdict -> model -> what was said of it, with its settings
    said: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for isa in arguments.isa:
        environment = {"MEGENGINE_LITE_ISA": isa, "PYTHONPATH": str(Path(__file__).parents[1])}
        worker = Worker([sys.executable, __file__, "--serve"], environment, arguments.timeout)
        for path, verdicts, reason in worker.run(paths):
            stem = Path(path).stem
            for i, (verdict, detail) in enumerate(verdicts or [("crashed", reason)]):
                threads, level = _SETTINGS[i] if i < len(_SETTINGS) else (0, 0)
                setting = f"{isa}, {threads} threads, level {level}" if verdict in ("differs", "raised") else ""
                said[verdict][stem].append((detail, setting))
        print(f"{isa} is done", file=sys.stderr, flush=True)
    bad = {stem for verdict in ("differs", "raised", "refused", "crashed") for stem in said[verdict]}
    functions = {Path(path).stem.rpartition("-")[0] for path in paths}
    print(f"{'models':12}{len(paths)}\n{'functions':12}{len(functions)}")
    print(f"{'equal':12}{len(said['equal'].keys() - bad)}\n{'random':12}{len(said['random'].keys() - bad)}")
    for verdict in ("differs", "refused", "raised", "crashed"):
        print(f"{verdict:12}{len(said[verdict])}")
    print(f"{'original':12}{len(said['original'])} (MegEngine Lite and MegEngine disagree)")
    for verdict in ("differs", "raised", "crashed", "refused", "original"):
        groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        for stem, remarks in said[verdict].items():
            for detail, setting in remarks:
                by_function = verdict in ("differs", "original")
                key = stem.rpartition("-")[0] if by_function else _general(detail)
                groups[key][stem].append(f"{detail} ({setting})" if setting else detail)
        _print_groups(verdict, groups)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
