"""Long runs that must not grow and must not err.

    python benchmarks/soak.py [--scale 1.0] [--model MODEL]

Repeats a million forwards of a small network, ten thousand loads, ten thousand changes of the input shape, and a
minute of two networks that share weights running in two threads; ``--scale`` shortens all of it. Prints the growth of
resident memory during the second half of each part (the first half may fill caches), and fails if it grows.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import megengine_lite as mgelite

DIGITS = Path(mgelite.__file__).parent / "bundled" / "digits.mge"
# Growth that is not a leak: the allocator's and the interpreter's own.
ALLOWED_BYTES = 1 << 20


def resident_bytes() -> int:
    """Memory of this process that is in RAM, without files mapped into it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def growth(step: Callable[[int], None], count: int) -> int:
    """Bytes by which the second half of ``count`` steps made the process grow."""
    for k in range(count // 2):
        step(k)
    gc.collect()
    before = resident_bytes()
    for k in range(count // 2, count):
        step(k)
    gc.collect()
    return resident_bytes() - before


def load(model: str, shared: mgelite.LiteNetwork | None = None) -> mgelite.LiteNetwork:
    network = mgelite.LiteNetwork()
    if shared is None:
        network.load(model)
    else:
        network.enable_cpu_inplace_mode()
        network.share_weights_with(shared)
    return network


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).uniform(0, 16, (batch, 1, 8, 8)).astype(np.float32)


def run(network: mgelite.LiteNetwork, data: np.ndarray) -> np.ndarray:
    network.get_io_tensor("data").set_data_by_share(data)
    network.forward()
    network.wait()
    return network.get_io_tensor(network.get_output_name(0)).to_numpy()


def forwards(model: str, count: int) -> int:
    """Growth during forwards of one network at one shape."""
    network = load(model)
    run(network, images(1))

    def step(_: int) -> None:
        network.forward()
        network.wait()

    return growth(step, count)


def loads(model: str, count: int) -> int:
    """Growth while networks are loaded, run once and dropped."""
    data = images(1)

    def step(_: int) -> None:
        run(load(model), data)

    return growth(step, count)


def shape_changes(model: str, count: int) -> int:
    """Growth while the input's shape changes at every forward, through more shapes than plans are kept."""
    network = load(model)
    batches = [images(n) for n in range(1, 41)]

    def step(k: int) -> None:
        out = run(network, batches[k % len(batches)])
        if out.shape[0] != k % len(batches) + 1:
            raise SystemExit(f"wrong output shape {out.shape}")

    return growth(step, count)


def shared_weights(model: str, seconds: float) -> tuple[int, int]:
    """Forwards of two networks on one copy of the weights, in two threads; how many were wrong."""
    first = load(model)
    networks = [first, load(model, first)]
    data = [images(3), images(5)]
    expected = [run(load(model), d) for d in data]
    counts, wrong = [0, 0], [0, 0]
    stop = time.monotonic() + seconds

    def work(k: int) -> None:
        while time.monotonic() < stop:
            wrong[k] += not np.array_equal(run(networks[k], data[k]), expected[k])
            counts[k] += 1

    threads = [threading.Thread(target=work, args=(k,)) for k in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return sum(counts), sum(wrong)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scale", type=float, default=1.0, help="part of the full length")
    parser.add_argument("--model", default=str(DIGITS), help="a model with the digit classifier's input and output")
    args = parser.parse_args()
    failed = False
    for name, part, count in (
        ("forwards", forwards, 1_000_000),
        ("loads", loads, 10_000),
        ("shape changes", shape_changes, 10_000),
    ):
        count = max(int(count * args.scale), 2)
        grown = part(args.model, count)
        failed |= grown > ALLOWED_BYTES
        print(f"{count} {name}: {grown / 1024:+.0f} KiB in the second half", flush=True)
    count, wrong = shared_weights(args.model, 60 * args.scale)
    print(f"{count} forwards with shared weights in two threads: {wrong} wrong")
    return int(failed or wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
