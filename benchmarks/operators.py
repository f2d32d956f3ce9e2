"""Time of single operators of ONNX in parts of ONNX Runtime's, on shapes of real networks.

    python benchmarks/operators.py [PART ...] [--threads 1] [--rounds 5] [--above 1.3]

Every case of ``operator_cases.py`` whose name contains one of the parts becomes a model of one node. Both engines run
it in this process, in turns: in each round both fill 30 milliseconds, with several threads after a pause in which
those of the other engine fall asleep. A line has the median of the rounds' ratios, the medians of both times, and what
is wrong with the result, if something is. Cases come in the order of their ratios, the worst first. The exit code is 1
if a result is wrong or a case does not run.

Needs the packages onnx and onnxruntime.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from operator_cases import CASES, Case

import megengine_lite as lite

SECONDS = 0.03  # that one engine runs in a round
PAUSE = 0.07  # before it: idle threads of ONNX Runtime wait for work in a loop for 50 ms, on cores of the next engine
Run = Callable[[], object]
Fetch = Callable[[], list[np.ndarray]]
Arrays = dict[str, np.ndarray]


def model_of(case: Case) -> tuple[onnx.ModelProto, Arrays]:
    """A model of one node, whose constants are initializers; and the arrays of its inputs."""
    rng = np.random.default_rng(0)
    feeds: Arrays = {}
    constants, names = [], []
    for k, given in enumerate(case.inputs):
        name = "" if given is None else f"x{k}"
        names.append(name)
        if given is None:
            continue
        array = given.array(rng)
        if given.constant:
            constants.append(numpy_helper.from_array(array, name))
        else:
            feeds[name] = array
    outputs = [f"y{k}" for k in range(case.outputs)]
    graph = helper.make_graph(
        [helper.make_node(case.op, names, outputs, **case.attributes)],
        "one node",
        [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()],
        [helper.make_empty_tensor_value_info(y) for y in outputs],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", case.opset)], ir_version=10), feeds


def start_ours(path: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    options = lite.LiteOptions()
    options.weight_preprocess = options.const_shape = 1
    options.var_sanity_check_first_run = 0
    network = lite.LiteNetwork(lite.LiteConfig(option=options))
    network.threads_number = threads
    network.load(str(path))
    strategy = lite.LiteAlgoSelectStrategy
    network.set_network_algo_policy(strategy.LITE_ALGO_PROFILE | strategy.LITE_ALGO_OPTIMIZED)
    carriers = {"int64": np.int32, "bool": np.uint8}  # types that tensors of the API do not have
    for name, value in feeds.items():
        network.get_io_tensor(name).set_data_by_copy(value.astype(carriers.get(value.dtype.name, value.dtype)))

    def run() -> None:
        network.forward()
        network.wait()

    return run, lambda: [network.get_io_tensor(name).to_numpy() for name in network.get_all_output_name()]


def start_onnxruntime(path: Path, feeds: Arrays, threads: int) -> tuple[Run, Fetch]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feeds), lambda: session.run(None, feeds)


@dataclass(frozen=True)
class Result:
    """Seconds of both engines, the ratio of ours to the other's, and what is wrong."""

    name: str
    ours: float = 0.0
    theirs: float = 0.0
    ratio: float = float("inf")
    fault: str = ""

    def __str__(self) -> str:
        return f"{self.ratio:8.2f}  {self.name:44}{self.ours * 1e6:12.1f}{self.theirs * 1e6:12.1f}  {self.fault}"


def difference(ours: list[np.ndarray], theirs: list[np.ndarray], tolerance: float) -> str:
    """What is wrong with outputs, in parts of the largest number that is expected."""
    for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        x, y = (np.asarray(v).ravel().astype(np.float64) for v in (a, b))
        if x.size != y.size:
            return f"output {k} has the shape {np.shape(a)}, not {np.shape(b)}"
        finite = y[np.isfinite(y)]
        allowed = tolerance * max(np.abs(finite).max(initial=0), 1e-6)
        if not np.allclose(x, y, tolerance, allowed, equal_nan=True):
            return f"output {k} differs by {np.nanmax(np.abs(x - y)):.3g}"
    return ""


def runs_in(seconds: float, run: Run) -> int:
    begin = perf_counter()
    run()
    return max(1, int(seconds / max(perf_counter() - begin, 1e-7)))


def seconds_of(run: Run, count: int, pause: float) -> float:
    sleep(pause)
    run()
    begin = perf_counter()
    for _ in range(count):
        run()
    return (perf_counter() - begin) / count


def measure(case: Case, threads: int, rounds: int) -> Result:
    model, feeds = model_of(case)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        (run, fetch), (run_theirs, fetch_theirs) = (
            start(path, feeds, threads) for start in (start_ours, start_onnxruntime)
        )
    run()
    fault = difference(fetch(), fetch_theirs(), case.tolerance)
    counts = runs_in(SECONDS, run), runs_in(SECONDS, run_theirs)
    pause = PAUSE if threads > 1 else 0.0
    pairs = [(seconds_of(run, counts[0], pause), seconds_of(run_theirs, counts[1], pause)) for _ in range(rounds)]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return Result(case.name, ours, theirs, statistics.median(a / b for a, b in pairs), fault)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="only cases whose name contains it")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    parser.add_argument("--above", type=float, default=0.0, metavar="RATIO", help="print only cases above it")
    args = parser.parse_args()
    results = []
    for case in CASES:
        if not args.parts or any(part in case.name for part in args.parts):
            try:
                results.append(measure(case, args.threads, args.rounds))
            except Exception as error:  # whatever it is, the other cases are measured
                results.append(Result(case.name, fault=f"{type(error).__name__}: {str(error)[:200]}"))
    print(f"{'ratio':>8}  {'case':44}{'ours us':>12}{'theirs us':>12}")
    for result in sorted(results, key=lambda r: -r.ratio):
        if result.ratio > args.above or result.fault:
            print(result)
    measured = [r.ratio for r in results if r.theirs]
    if measured:
        print(f"{statistics.geometric_mean(measured):8.2f}  geometric mean of {len(measured)} cases")
    return int(any(r.fault for r in results))


if __name__ == "__main__":
    sys.exit(main())
