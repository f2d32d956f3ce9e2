"""Throughput and memory of several processes that run one model, against a plain loop.

    python benchmarks/scaling.py MODEL [--rows 256] [--batch 16] [--workers 2] [--engines processes ray dask] [--files]

Every row is the model's declared input, of random bytes as an image has them; with ``--numbers float32`` it is four
times as large on its way to the workers. With ``--files`` batches are files that the workers read. The loop calls the
model in this process, with one thread. Each engine maps the same batches over its workers, which have a thread each and
are warm. In between, as many processes repeat one batch and get no other ("apart"): what the machine gives without an
engine. The three take turns; the fastest of ``--rounds`` counts. At the end one worker waits while another has a batch
left, so there should be many batches for each. Memory is the proportional share (PSS) of all worker processes: a page
that two share counts half in each.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import megengine_lite
from megengine_lite.batch import Predictor

Mapper = Callable[[Callable[[Any], Any], list[Any]], list[Any]]


@contextmanager
def apart(workers: int) -> Iterator[Mapper]:
    """No engine: each process repeats one batch, and gets no other."""
    with ExitStack() as stack:
        pools = [stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"))) for _ in range(workers)]

        def mapped(function: Callable[[Any], Any], batches: list[Any]) -> list[Any]:
            counts = [len(batches[k::workers]) for k in range(workers)]
            running = [pool.submit(repeat, function, batches[0], n) for pool, n in zip(pools, counts, strict=True)]
            return [result for future in running for result in future.result()]

        yield mapped


def repeat(function: Callable[[Any], Any], batch: Any, count: int) -> list[Any]:
    return [function(batch) for _ in range(count)]


@contextmanager
def processes(workers: int) -> Iterator[Mapper]:
    """The processes of ``concurrent.futures``."""
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield lambda function, batches: list(pool.map(function, batches))


CALM = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "1s",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.worker.memory.monitor-interval": "2s",
}
"""Settings of Dask with which its processes look at themselves less often (docs/scaling.md)."""


@contextmanager
def dask(workers: int, settings: Mapping[str, Any] = CALM) -> Iterator[Mapper]:
    """A local cluster of Dask, with the settings that are recommended."""
    from dask import config
    from distributed import Client, LocalCluster

    with (
        config.set(settings),
        LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL"
        ) as cluster,
        Client(cluster) as client,
    ):
        yield lambda function, batches: client.gather(client.map(function, batches, pure=False))


@contextmanager
def dask_as_it_is(workers: int) -> Iterator[Mapper]:
    """A local cluster of Dask with its own settings."""
    with dask(workers, {}) as mapped:
        yield mapped


@contextmanager
def ray(workers: int) -> Iterator[Mapper]:
    """Actors of Ray. Each has up to four batches at hand, as in Ray Data."""
    import ray as engine
    from ray.util import ActorPool

    engine.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)

    @engine.remote
    class Actor:
        def call(self, function: Callable[[Any], Any], batch: Any) -> Any:
            return function(batch)

    pool = ActorPool([Actor.remote() for _ in range(workers)] * 4)
    try:
        yield lambda function, batches: list(pool.map(lambda a, b: a.call.remote(function, b), batches))
    finally:
        engine.shutdown()


ENGINES = {"processes": processes, "dask": dask, "dask-as-it-is": dask_as_it_is, "ray": ray}


def predict_file(predict: Predictor, path: str) -> Any:
    """The result for a batch in a file."""
    with np.load(path) as arrays:
        return predict(dict(arrays))


def write_files(folder: str, batches: list[dict[str, Any]]) -> list[str]:
    """Each batch as a file; gives the paths."""
    paths = [str(Path(folder, f"{k}.npz")) for k in range(len(batches))]
    for path, batch in zip(paths, batches, strict=True):
        np.savez(path, **batch)
    return paths


def run_and_report(predict: Callable[[Any], Any], batch: Any) -> tuple[int, int]:
    """The worker's process and its share of memory after a batch."""
    predict(batch)
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        share = next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return os.getpid(), share


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, nargs="+", default=[2])
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=["processes"])
    parser.add_argument("--numbers", choices=["uint8", "float32"], default="uint8")
    parser.add_argument("--files", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()

    with megengine_lite.load(args.model, threads=1) as model:
        random = np.random.default_rng(0)
        shapes = {i.name: [s if isinstance(s, int) else 1 for s in i.shape[1:]] for i in model.inputs}
    sizes = [min(args.batch, args.rows - i) for i in range(0, args.rows, args.batch)]
    batches = [
        {n: random.integers(0, 256, (size, *s), np.uint8).astype(args.numbers) for n, s in shapes.items()}
        for size in sizes
    ]
    function: Callable[[Any], Any] = Predictor(args.model)
    with TemporaryDirectory() as folder:
        work: list[Any] = batches
        if args.files:
            function, work = partial(predict_file, function), write_files(folder, batches)
        for engine in args.engines:
            for workers in args.workers:
                with ENGINES[engine](workers) as mapped, apart(workers) as alone:
                    measure(f"{engine}, {workers}", function, mapped, alone, work, args.rows, args.rounds)
    return 0


def measure(
    title: str,
    predict: Callable[[Any], Any],
    mapped: Mapper,
    alone: Mapper,
    batches: list[Any],
    rows: int,
    rounds: int,
) -> None:
    """Prints the rates of a loop, of processes without an engine and of an engine, and the memory of its workers."""
    runs: dict[str, Callable[[], Any]] = {
        "loop": lambda: [predict(b) for b in batches],
        "apart": partial(alone, predict, batches),
        "engine": partial(mapped, predict, batches),
    }
    predict(batches[0])
    for mapper in (alone, mapped):
        mapper(predict, batches[:8])  # loads the model in all workers
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            rates[name].append(rows / (time.perf_counter() - begin))
    loop, bound, engine = (max(r) for r in rates.values())
    shares = dict(mapped(partial(run_and_report, predict), batches))
    memory = ", ".join(f"{share / 2**20:.0f}" for share in shares.values())
    print(
        f"{title} workers: {engine:.1f} rows/s, {engine / loop:.2f} x the loop ({loop:.1f}); "
        f"apart {bound / loop:.2f} x, the engine {engine / bound:.2f} of that; {memory} MiB",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
