"""Compares the latency of this package with other runtimes on the same networks, weights and inputs.

Give it a directory with, for each network, NAME.npz (inputs in_<input>, expected outputs out_0, out_1, ...), NAME.onnx,
and NAME.mge for this package and the original; without it this package reads the ONNX file, too. ``networks.py`` makes
such a directory:

    python benchmarks/compare.py MODELS --peers PEERS/bin/python --original ORIGINAL/bin/python --threads 1 2

Every measurement is a process of its own that checks the outputs first. The engines take turns, round by round, so
that a change in the load of the machine meets all of them; an engine's figure is the median of its rounds. Engines
that are not installed are left out. ONNX Runtime, OpenVINO and MNN read the ONNX file (MNN through its converter), ncnn
reads what the converter pnnx makes of it.

On a machine that has other work, ``--clock cpu`` counts the processor time of an engine's process instead of the time
that passes: it says the same for one thread, and how much all threads have worked for more.

The last column is our time in parts of the best other engine's: below 1 we are faster.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

Run = Callable[[], Any]
Fetch = Callable[[], list[np.ndarray]]
Arrays = dict[str, np.ndarray]

# What a wrong result is, in parts of the largest value of an output.
TOLERANCE = 2e-3
INT8_TOLERANCE = 0.2  # runtimes round differently, and networks add that up

CLOCKS = {"wall": perf_counter, "cpu": process_time}


def start_lite(module: str, tuned: bool) -> Callable[[Path, Arrays, int], tuple[Run, Fetch]]:
    """This package or the original: one API. ``tuned`` lets it measure its algorithms.

    Tensors of both hold no int64. The original cannot do without a ``.mge`` file.
    """

    def start(stem: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
        lite = importlib.import_module(module)
        options = lite.LiteOptions()
        if tuned:
            options.weight_preprocess = options.const_shape = 1
            options.var_sanity_check_first_run = 0
        network = lite.LiteNetwork(lite.LiteConfig(option=options))
        network.threads_number = threads
        path = stem.with_name(stem.name + ".mge")
        network.load(str(path if path.exists() else path.with_suffix(".onnx")))
        if tuned:
            strategy = lite.LiteAlgoSelectStrategy
            network.set_network_algo_policy(strategy.LITE_ALGO_PROFILE | strategy.LITE_ALGO_OPTIMIZED)
        for name, value in feeds.items():
            network.get_io_tensor(name).set_data_by_copy(value.astype(np.int32) if value.dtype == np.int64 else value)
        outputs = [network.get_io_tensor(name) for name in network.get_all_output_name()]

        def run() -> None:
            network.forward()
            network.wait()

        return run, lambda: [o.to_numpy() for o in outputs]

    return start


def start_onnxruntime(stem: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(f"{stem}.onnx", options, providers=["CPUExecutionProvider"])
    results: list[np.ndarray] = []

    def run() -> None:
        results[:] = session.run(None, feeds)

    return run, lambda: results


def start_openvino(stem: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    model = openvino.Core().compile_model(f"{stem}.onnx", "CPU", settings)
    request = model.create_infer_request()
    for port in model.inputs:
        request.set_tensor(port, openvino.Tensor(feeds[port.get_any_name()]))
    return request.infer, lambda: [request.get_output_tensor(i).data for i in range(len(model.outputs))]


def start_mnn(stem: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    import MNN
    import onnx

    path = stem.with_name(stem.name + ".mnn")
    if not path.exists():
        converter = Path(sys.executable).with_name("mnnconvert")
        command = [
            str(converter),
            "-f",
            "ONNX",
            "--modelFile",
            f"{stem}.onnx",
            "--MNNModel",
            str(path),
            "--bizCode",
            "x",
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    graph = onnx.load(f"{stem}.onnx", load_external_data=False).graph
    names = [i.name for i in graph.input if i.name in feeds]
    runtime = MNN.nn.create_runtime_manager(({"precision": "high", "backend": 0, "numThread": threads},))
    network = MNN.nn.load_module_from_file(str(path), names, [o.name for o in graph.output], runtime_manager=runtime)
    variables = []
    for name in names:
        variable = MNN.expr.placeholder(list(feeds[name].shape), MNN.expr.NCHW)
        variable.write(feeds[name])
        variables.append(MNN.expr.convert(variable, MNN.expr.NC4HW4) if feeds[name].ndim == 4 else variable)
    results: list[np.ndarray] = []

    def run() -> None:
        made = network.forward(variables)
        results[:] = [np.asarray(v.read()) for v in (made if isinstance(made, (list, tuple)) else [made])]

    return run, lambda: results


def start_ncnn(stem: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    import ncnn

    parameters = stem.with_name(stem.name + ".ncnn.param")
    if not parameters.exists():
        _convert_to_ncnn(stem, feeds)
    network = ncnn.Net()
    network.opt.num_threads = threads
    network.opt.use_fp16_packed = network.opt.use_fp16_storage = network.opt.use_fp16_arithmetic = False
    network.opt.use_bf16_storage = False
    if network.load_param(str(parameters)) or network.load_model(f"{stem}.ncnn.bin"):
        raise RuntimeError("ncnn cannot read what pnnx has written")
    inputs = {f"in{k}": ncnn.Mat(np.ascontiguousarray(a[0])) for k, a in enumerate(feeds.values())}
    names = sorted(network.output_names())
    results: list[np.ndarray] = []

    def run() -> None:
        extractor = network.create_extractor()
        for name, value in inputs.items():
            extractor.input(name, value)
        results[:] = [np.array(extractor.extract(name)[1])[None] for name in names]

    return run, lambda: results


def _convert_to_ncnn(stem: Path, feeds: Arrays) -> None:
    spec = importlib.util.find_spec("pnnx")
    if spec is None or spec.origin is None:
        raise RuntimeError("no .ncnn.param, and pnnx is not installed to make one")
    if any(a.shape[0] != 1 or a.dtype != np.float32 for a in feeds.values()):
        raise RuntimeError("ncnn takes one sample of float32")
    shapes = ",".join(f"{list(a.shape)}f32".replace(" ", "") for a in feeds.values())
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "model.onnx"
        copy.symlink_to(Path(f"{stem}.onnx").resolve())
        command = [str(Path(spec.origin).with_name("pnnx")), str(copy), f"inputshape={shapes}", "fp16=0"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
        for suffix in (".bin", ".param"):
            Path(f"{stem}.ncnn{suffix}").write_bytes((Path(folder) / f"model.ncnn{suffix}").read_bytes())


OURS = "ours"
ENGINES: dict[str, tuple[str, Callable[[Path, Arrays, int], tuple[Run, Fetch]]]] = {
    OURS: ("megengine_lite", start_lite("megengine_lite", tuned=False)),
    "ours-tuned": ("megengine_lite", start_lite("megengine_lite", tuned=True)),
    "original": ("megenginelite", start_lite("megenginelite", tuned=False)),
    "original-tuned": ("megenginelite", start_lite("megenginelite", tuned=True)),
    "onnxruntime": ("onnxruntime", start_onnxruntime),
    "openvino": ("openvino", start_openvino),
    "mnn": ("MNN", start_mnn),
    "ncnn": ("ncnn", start_ncnn),
}


def measure(engine: str, stem: Path, threads: int, seconds: float, clock: str) -> dict[str, Any]:
    """One measurement, in this process: error of the outputs, times in milliseconds, memory in MiB."""
    now = CLOCKS[clock]
    with np.load(f"{stem}.npz") as case:
        feeds = {k[3:]: np.ascontiguousarray(case[k]) for k in case.files if k.startswith("in_")}
        expected = [case[k] for k in sorted((k for k in case.files if k.startswith("out_")), key=lambda k: int(k[4:]))]
    begin = now()
    run, fetch = ENGINES[engine][1](stem, feeds, threads)
    run()
    ready = now() - begin
    error = max(relative_error(a, b) for a, b in zip(fetch(), expected, strict=True))
    times: list[float] = []
    end = now() + seconds
    while now() < end or len(times) < 5:
        begin = now()
        run()
        times.append((now() - begin) * 1e3)
    times = times[len(times) // 10 :]  # caches and clocks settle in the first ones
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"ms": statistics.median(times), "best_ms": min(times), "ready_ms": ready * 1e3, "error": error, "mib": peak}


def relative_error(result: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in parts of the largest expected value."""
    a, b = np.asarray(result, np.float64).ravel(), expected.astype(np.float64).ravel()
    if a.shape != b.shape or not np.isfinite(a).all():
        return float("inf")
    return float(np.abs(a - b).max(initial=0) / max(np.abs(b).max(initial=0), 1e-12))


def installed(interpreter: str) -> set[str]:
    """Engines whose module an interpreter has."""
    modules = sorted({module for module, _ in ENGINES.values()})
    code = f"import importlib.util as u, json; print(json.dumps([m for m in {modules} if u.find_spec(m)]))"
    found = json.loads(subprocess.run([interpreter, "-c", code], check=True, capture_output=True, text=True).stdout)
    return {name for name, (module, _) in ENGINES.items() if module in found}


def measure_elsewhere(
    interpreter: str, engine: str, stem: Path, threads: int, seconds: float, clock: str
) -> dict[str, Any]:
    """The same in a new process of an interpreter; ``{"problem": text}`` if there is no result."""
    what = [engine, stem.name, str(threads), str(seconds), clock]
    command = [interpreter, __file__, str(stem.parent), "--measure", *what]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 3 * seconds, env=environment)
        return json.loads(done.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"problem": "no result in time"}
    except (ValueError, IndexError):
        return {"problem": (done.stderr.strip().splitlines() or ["ended without a result"])[-1][:200]}


def compare(args: argparse.Namespace, interpreters: dict[str, str], name: str, threads: int) -> dict[str, Any]:
    """All engines on one network, in turns."""
    stem = Path(args.models) / name
    rounds: dict[str, list[dict[str, Any]]] = {engine: [] for engine in interpreters}
    for _ in range(args.rounds):
        for engine, interpreter in interpreters.items():
            if not any("problem" in r for r in rounds[engine]):
                rounds[engine].append(measure_elsewhere(interpreter, engine, stem, threads, args.seconds, args.clock))
    limit = INT8_TOLERANCE if "int8" in name else TOLERANCE
    row: dict[str, Any] = {"model": name, "threads": threads, "engines": {}}
    for engine, results in rounds.items():
        problem = next((r["problem"] for r in results if "problem" in r), None)
        if problem is None and max(r["error"] for r in results) > limit:
            problem = f"wrong by {max(r['error'] for r in results):.1e}"
        if problem is not None:
            row["engines"][engine] = {"problem": problem}
            continue
        figures = {
            key: statistics.median(r[key] for r in results) for key in ("ms", "best_ms", "ready_ms", "error", "mib")
        }
        row["engines"][engine] = figures
    others = [e["ms"] for k, e in row["engines"].items() if "ms" in e and not k.startswith(OURS)]
    mine = [e["ms"] for k, e in row["engines"].items() if "ms" in e and k.startswith(OURS)]
    row["ratio"] = min(mine) / min(others) if mine and others else None
    return row


def show_header(engines: list[str]) -> None:
    print("milliseconds, in brackets our time in parts of that engine's")
    print(f"{'network':24}{'threads':>8}" + "".join(f"{e:>22}" for e in engines) + f"{'ours / best':>14}")


def show_row(row: dict[str, Any]) -> None:
    mine = row["engines"].get(OURS, {}).get("ms")
    text = f"{row['model']:24}{row['threads']:>8}"
    for engine, figures in row["engines"].items():
        if "problem" in figures:
            cell = "-"
        elif engine == OURS or mine is None:
            cell = f"{figures['ms']:.2f}"
        else:
            cell = f"{figures['ms']:.2f} ({mine / figures['ms']:.2f})"
        text += f"{cell:>22}"
    print(text + (f"{row['ratio']:>14.2f}" if row["ratio"] is not None else f"{'-':>14}"), flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", help="directory with NAME.npz, NAME.onnx, NAME.mge")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks, not all")
    parser.add_argument("--engines", nargs="+", choices=[*ENGINES], help="these engines, not all that are installed")
    parser.add_argument("--peers", metavar="PYTHON", default=sys.executable, help="interpreter with the other runtimes")
    parser.add_argument("--original", metavar="PYTHON", help="interpreter with megenginelite")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of one measurement")
    parser.add_argument("--clock", choices=[*CLOCKS], default="wall", help="the time that passes, or of processors")
    parser.add_argument("--json", metavar="FILE", help="write all figures")
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        engine, name, threads, seconds, clock = args.measure
        print(json.dumps(measure(engine, Path(args.models) / name, int(threads), float(seconds), clock)))
        return 0

    interpreters: dict[str, str] = {}
    for interpreter in dict.fromkeys(i for i in (sys.executable, args.original, args.peers) if i):
        for engine in installed(interpreter):
            if args.engines is None or engine in args.engines:
                interpreters.setdefault(engine, interpreter)
    interpreters = {engine: interpreters[engine] for engine in ENGINES if engine in interpreters}
    names = args.only or sorted(p.stem for p in Path(args.models).glob("*.npz"))
    show_header([*interpreters])
    rows = []
    for name in names:
        for threads in args.threads:
            rows.append(compare(args, interpreters, name, threads))
            show_row(rows[-1])
    problems = {(r["model"], e): f["problem"] for r in rows for e, f in r["engines"].items() if "problem" in f}
    for (name, engine), problem in problems.items():
        print(f"{name}, {engine}: {problem}")
    if args.json:
        Path(args.json).write_text(json.dumps(rows, indent=1))
    return int(any(engine.startswith(OURS) for _, engine in problems))


if __name__ == "__main__":
    sys.exit(main())
