"""Long runs that must not grow and must not err.

    python benchmarks/soak.py [--scale 1.0] [--model MODEL]

Repeats a million forwards of a small network, ten thousand changes of the input shape, ten thousand loads from a path
and a thousand in each of the other ways of ``Cycles``, and a minute of two networks that share weights running in two
threads; ``--scale`` shortens all of it. Prints the growth of resident memory, open files, threads and memory mappings
during the second half of each part (the first half may fill caches), and fails if any grows.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import pickle
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np

import megengine_lite as mgelite
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.containers.packed import Package, write_package

DIGITS = Path(mgelite.__file__).parent / "bundled" / "digits.mge"


@dataclass(frozen=True)
class Held:
    """What a process holds, or by how much that has grown."""

    memory: int
    """Bytes in RAM, without files mapped into the process."""
    files: int
    threads: int
    mappings: int

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        with open("/proc/self/statm", encoding="ascii") as file:
            _, resident, shared, *_ = map(int, file.read().split())
        with open("/proc/self/maps", "rb") as file:
            mappings = len(file.readlines())
        files, threads = (len(os.listdir(f"/proc/self/{kind}")) for kind in ("fd", "task"))
        return cls((resident - shared) * os.sysconf("SC_PAGESIZE"), files, threads, mappings)

    def __sub__(self, other: Held) -> Held:
        return Held(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def fits(self, allowed: Held) -> bool:
        return all(a <= b for a, b in zip(astuple(self), astuple(allowed), strict=True))

    def __str__(self) -> str:
        return (
            f"{self.memory / 1024:+.0f} KiB, {self.files:+d} files, {self.threads:+d} threads, "
            f"{self.mappings:+d} mappings"
        )


# Growth that is not a leak: the allocator's and the interpreter's own.
ALLOWED = Held(memory=1 << 20, files=0, threads=0, mappings=8)


def growth(step: Callable[[int], object], count: int) -> Held:
    """By how much the second half of ``count`` steps made the process grow."""
    for k in range(count // 2):
        step(k)
    settle()
    before = Held.now()
    for k in range(count // 2, count):
        step(k)
    settle()
    return Held.now() - before


def settle() -> None:
    """Waits until forwards that nobody waits for are over, their networks freed, and the networks' threads ended."""
    threads, calm = -1, 0
    while calm < 3:
        gc.collect()
        time.sleep(0.05)
        before, threads = threads, len(os.listdir("/proc/self/task"))
        calm = calm + 1 if threads == before else 0


def load(model: object, config: mgelite.LiteConfig | None = None) -> mgelite.LiteNetwork:
    network = mgelite.LiteNetwork(config)
    network.load(model)
    return network


def sharing(source: mgelite.LiteNetwork) -> mgelite.LiteNetwork:
    """A network on the weights of another one, in inplace mode."""
    network = mgelite.LiteNetwork()
    network.enable_cpu_inplace_mode()
    network.share_weights_with(source)
    return network


def images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).uniform(0, 16, (batch, 1, 8, 8)).astype(np.float32)


def run(network: mgelite.LiteNetwork, data: np.ndarray) -> np.ndarray:
    network.get_io_tensor("data").set_data_by_share(data)
    network.forward()
    network.wait()
    return network.get_io_tensor(network.get_output_name(0)).to_numpy()


def forwards(model: str, count: int) -> Held:
    """Growth during forwards of one network at one shape."""
    network = load(model)
    run(network, images(1))

    def step(_: int) -> None:
        network.forward()
        network.wait()

    return growth(step, count)


def shape_changes(model: str, count: int) -> Held:
    """Growth while the input's shape changes at every forward, through more shapes than plans are kept."""
    network = load(model)
    batches = [images(n) for n in range(1, 41)]

    def step(k: int) -> None:
        out = run(network, batches[k % len(batches)])
        if out.shape[0] != k % len(batches) + 1:
            raise SystemExit(f"wrong output shape {out.shape}")

    return growth(step, count)


# ---- loading and dropping -----------------------------------------------------------------------------------------


class Cycles:
    """Ways for a network to come and go. Each public method is one; it loads, runs and drops."""

    def __init__(self, model: str, directory: str):
        self._model = model
        self._directory = Path(directory)
        self._plain = Path(model).read_bytes()
        self._data = images(1)
        self._expected = run(load(model), self._data)
        self._encrypted = {name: cryption.encrypt(name, self._plain) for name in ("AES_default", "RC4_default")}
        package = Package(name="net", model=self._encrypted["AES_default"], model_cryption="AES_default")
        self._packed = b"".join(map(bytes, write_package(package)))

    def _run(self, network: mgelite.LiteNetwork) -> None:
        if not np.array_equal(run(network, self._data), self._expected):
            raise SystemExit("a result is wrong")

    def path(self, _: int) -> None:
        self._run(load(self._model))

    def content(self, _: int) -> None:
        self._run(load(self._plain))

    def open_file(self, _: int) -> None:
        with open(self._model, "rb") as file:
            network = load(file)
        self._run(network)
        self._run(load(io.BytesIO(self._plain)))

    def encrypted(self, k: int) -> None:
        config = mgelite.LiteConfig()
        config.bare_model_cryption_name = sorted(self._encrypted)[k % 2]
        self._run(load(self._encrypted[config.bare_model_cryption_name], config))

    def packed(self, _: int) -> None:
        self._run(load(self._packed))
        mgelite.get_model_io_info(self._packed)

    def shared_weights(self, _: int) -> None:
        source = load(self._model)
        twin = sharing(source)
        del source
        self._run(sharing(twin))
        self._run(twin)

    def shared_runtime_memory(self, _: int) -> None:
        first, second = load(self._model), mgelite.LiteNetwork()
        second.share_runtime_memory(first)
        second.load(self._model)
        self._run(first)
        self._run(second)

    def failing_load(self, k: int) -> None:
        damaged = bytearray(self._plain)
        damaged[k % 500] ^= 0x40
        config = mgelite.LiteConfig()
        config.bare_model_cryption_name = "AES_default"
        cut = self._directory / "cut.mge"
        cut.write_bytes(self._plain[: k * 997 % len(self._plain)])
        for source, settings in (
            (cut, None),
            (bytes(damaged), None),
            (self._plain, config),
            (self._packed[:-5], None),
            (self._directory / "none", None),
        ):
            with contextlib.suppress(mgelite.LiteError):
                load(source, settings)
        cut.unlink()

    def failing_forward(self, _: int) -> None:
        network = load(self._model)
        network.get_io_tensor("data").set_data_by_copy(np.zeros((2, 3, 8, 8), np.float32))
        with contextlib.suppress(mgelite.LiteError):
            network.forward()
        self._run(network)

    def threads(self, _: int) -> None:
        network = mgelite.LiteNetwork()
        network.threads_number = 2
        network.load(self._model)
        self._run(network)

    def asynchronous(self, k: int) -> None:
        network = load(self._model)
        network.async_with_callback(lambda: network.get_io_tensor("prob"))
        self._run(network)
        network.forward()  # still pending when it is dropped

    def failing_callback(self, _: int) -> None:
        network = load(self._model)
        network.set_finish_callback(lambda ios: 1 // 0)
        network.forward()
        with contextlib.suppress(ZeroDivisionError):
            network.wait()

    def callbacks(self, _: int) -> None:
        network = load(self._model)
        seen: list[object] = []
        network.set_start_callback(lambda ios: seen.append((network, ios)))
        network.set_finish_callback(lambda ios: seen.append((network, ios)))
        self._run(network)

    def observed(self, _: int) -> None:
        network = load(self._model)
        network.enable_profile_performance(self._directory / "profile.json")
        network.io_txt_dump(self._directory / "io.txt")
        self._run(network)
        network.io_bin_dump(self._directory / "io")
        self._run(network)
        network.get_static_memory_alloc_info(self._directory / "memory")

    def rewritten(self, _: int) -> None:
        network = mgelite.LiteNetwork()
        network.enable_global_layout_transform()
        network.load(self._model)
        network.dump_layout_transform_model(self._directory / "after.mge")
        self._run(load(self._directory / "after.mge"))

    def measured(self, _: int) -> None:
        network = mgelite.LiteNetwork()
        network.set_network_algo_policy(mgelite.LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
        network.load(self._model)
        network.get_io_tensor("data").set_data_by_share(self._data)
        network.forward()
        network.wait()

    def pickled(self, _: int) -> None:
        network = pickle.loads(pickle.dumps(load(self._model)))
        self._run(pickle.loads(pickle.dumps(network)))

    def exported(self, _: int) -> None:
        network = load(self._model)
        self._run(network)
        tensor = network.get_io_tensor("prob")
        views = [
            tensor.get_data_by_share(),
            np.asarray(tensor),
            np.from_dlpack(tensor),
            np.asarray(memoryview(tensor)),
            tensor.slice([0], [1]).get_data_by_share(),
            pickle.loads(pickle.dumps(tensor)).to_numpy(),
        ]
        unused = tensor.__dlpack__()
        taken = mgelite.LiteTensor()
        taken.set_data_by_share(tensor)
        with contextlib.suppress(mgelite.LiteError):
            taken.set_data_by_copy(np.zeros((4, 4), np.float32)[:, ::2])
        del network, tensor, unused
        if not all(np.array_equal(view, self._expected) for view in [*views, taken.to_numpy()]):
            raise SystemExit("a view is wrong")


CYCLES = [name for name in vars(Cycles) if not name.startswith("_")]


def loads(model: str, count: int, way: str) -> Held:
    """Growth while networks are loaded, run and dropped in one of the ``CYCLES``."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        warnings.simplefilter("ignore", mgelite.LiteWarning)  # of default keys and of what damage makes of a version
        return growth(getattr(Cycles(model, directory), way), count)


# ---- several threads ----------------------------------------------------------------------------------------------


def shared_weights(model: str, seconds: float) -> tuple[int, int]:
    """Forwards of two networks on one copy of the weights, in two threads; how many were wrong."""
    first = load(model)
    networks = [first, sharing(first)]
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

    def report(name: str, count: int, grown: Held) -> None:
        nonlocal failed
        failed |= not grown.fits(ALLOWED)
        print(f"{count} {name}: {grown} in the second half", flush=True)

    for name, part, count in (("forwards", forwards, 1_000_000), ("shape changes", shape_changes, 10_000)):
        count = max(int(count * args.scale), 2)
        report(name, count, part(args.model, count))
    for way in CYCLES:
        count = max(int((10_000 if way == "path" else 1_000) * args.scale), 2)
        report(f"loads ({way.replace('_', ' ')})", count, loads(args.model, count, way))
    count, wrong = shared_weights(args.model, 60 * args.scale)
    print(f"{count} forwards with shared weights in two threads: {wrong} wrong")
    return int(failed or wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
