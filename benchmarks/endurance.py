"""Runs networks for long and watches memory and results.

    python benchmarks/endurance.py                 # the full lengths, some minutes
    python benchmarks/endurance.py --scale 0.01    # a quick look

Ends with an error if memory grows or a result is wrong.
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

import megengine_lite
from megengine_lite import LiteNetwork

MODEL = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
DATA = np.load(MODEL.with_suffix(".npz"))
IMAGES = DATA["images"].astype("float32")[:, None]
PROB = DATA["prob"]
ALLOWED_GROWTH = 4 << 20


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def loaded() -> LiteNetwork:
    network = LiteNetwork()
    network.load(MODEL)
    return network


def check(network: LiteNetwork, first: int, count: int) -> None:
    """One forward on some images; raises if the result is wrong."""
    network.get_io_tensor("data").set_data_by_copy(IMAGES[first : first + count])
    network.forward()
    network.wait()
    error = np.abs(network.get_io_tensor("prob").to_numpy() - PROB[first : first + count]).max()
    if error > 1e-5:
        raise SystemExit(f"wrong result: images {first} to {first + count} differ by {error}")


def watch(name: str, step: Callable[[int], object], times: int) -> None:
    """Repeats a step and compares memory after a tenth of the time and at the end."""
    times = max(times, 20)
    begin = time.perf_counter()
    for k in range(times // 10):
        step(k)
    gc.collect()
    before = resident()
    for k in range(times // 10, times):
        step(k)
    gc.collect()
    growth = resident() - before
    print(
        f"{name}: {times} times, {time.perf_counter() - begin:.1f} s, memory grew by {growth / 1024:.0f} KiB",
        flush=True,
    )
    if growth > ALLOWED_GROWTH:
        raise SystemExit(f"{name}: memory grows")


def share_weights(seconds: float) -> None:
    """Two networks on one copy of the weights, each on a thread of its own."""
    first, second = loaded(), LiteNetwork()
    second.share_weights_with(first)
    counts, errors = [0, 0], []
    end = time.monotonic() + seconds

    def work(which: int, network: LiteNetwork) -> None:
        rng = np.random.default_rng(which)
        try:
            while time.monotonic() < end:
                check(network, int(rng.integers(0, 300)), int(rng.integers(1, 60)))
                counts[which] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate((first, second))]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    print(f"shared weights: {counts[0]} and {counts[1]} forwards in {seconds:.0f} s", flush=True)
    if errors:
        raise errors[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="fraction of the full lengths")
    scale = parser.parse_args().scale

    network = loaded()
    check(network, 0, 1)

    def forward(_: int) -> None:
        network.forward()
        network.wait()

    watch("forwards", forward, int(1_000_000 * scale))
    watch("loads", lambda k: check(loaded(), k % 300, 1), int(10_000 * scale))
    watch("shape changes", lambda k: check(network, k % 300, k % 37 + 1), int(10_000 * scale))
    share_weights(60 * scale)
    return 0


if __name__ == "__main__":
    sys.exit(main())
