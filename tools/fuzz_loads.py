"""Loads damaged model files, and runs what still loads; anything but a result or a LiteError is a finding.

    python tools/fuzz_loads.py --loads 1000000 --forwards 100000
    python tools/fuzz_loads.py --loads 1000000 --forwards 100000 --in-place     # of these, more load
    python tools/fuzz_loads.py --loads 1000000 --forwards 100000 tests/models/onnx/*.onnx

Works in one process with limited memory: a crash ends it, with the number of the case in the file of ``--state``; the
next call goes on behind it. The package must be installed, or built in place and on the path. Ends with status 1 if
something was found.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

import numpy as np  # noqa: E402

from megengine_lite import LiteNetwork  # noqa: E402
from megengine_lite.errors import InternalError, LiteError  # noqa: E402

MOST_SECONDS = 2.0  # of CPU time, which other processes do not change
SPARE_BYTES = 1 << 30  # of address space, over what the process has at first
LARGEST = 64 * 1024


def damaged(data: bytes, rng: random.Random, *, in_place: bool = False) -> bytes:
    """The bytes with one to eight changes: bits, bytes, words, pieces cut out, doubled or moved, an end cut off.

    In place, there is one change, of a bit, a byte or a word.
    """
    out = bytearray(data)
    for _ in range(1 if in_place else rng.choice((1, 1, 1, 2, 3, 8))):
        if not out:
            break
        at, kind = rng.randrange(len(out)), rng.randrange(3 if in_place else 7)
        piece = slice(at, at + rng.choice((1, 2, 4, 8, 64)))
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            word = rng.choice((0, 1, -1, 2**31 - 1, -(2**31), rng.randrange(2**16), len(out)))
            out[at - at % 4 : at - at % 4 + 4] = (word & 0xFFFFFFFF).to_bytes(4, "little")
        elif kind == 3:
            del out[piece]
        elif kind == 4:
            out[at:at] = out[piece]
        elif kind == 5:
            source = rng.randrange(len(out))
            out[piece] = out[source : source + piece.stop - piece.start]
        else:
            del out[at:]
    return bytes(out)


def run(network: LiteNetwork, rng: random.Random) -> bool:
    """One forward on random numbers, unless the model takes or makes so many that it may be slow; whether it ran."""
    layouts = [
        network.get_io_tensor(name).layout for name in (*network.get_all_input_name(), *network.get_all_output_name())
    ]
    if any(int(np.prod(list(layout.shapes), dtype=object)) > LARGEST for layout in layouts):
        return False
    for name in network.get_all_input_name():
        tensor = network.get_io_tensor(name)
        shape, dtype = list(tensor.layout.shapes), np.dtype(tensor.layout.dtype)
        count = int(np.prod(shape, dtype=object))
        tensor.set_data_by_copy(np.array([rng.randrange(-3, 4) for _ in range(count)]).astype(dtype).reshape(shape))
    network.forward()
    network.wait()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=10_000, help="how many damaged files are loaded (10,000)")
    parser.add_argument("--forwards", type=int, default=1_000, help="how many of those that load are run (1,000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case (0)")
    parser.add_argument("--in-place", action="store_true", help="change one bit, byte or word of each file")
    parser.add_argument("--state", type=Path, help="file that holds the number of the current case")
    parser.add_argument("models", nargs="*", type=Path, help="model files (those of the tests, up to 64 KB)")
    args = parser.parse_args()
    models = args.models or sorted(
        p for pattern in ("*.[ml][gi]*e", "*.onnx") for p in (ROOT / "tests" / "models").rglob(pattern)
    )
    contents = [(p.name, data) for p in models if len(data := p.read_bytes()) <= LARGEST]
    faulthandler.enable()
    warnings.simplefilter("ignore")
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + SPARE_BYTES, resource.RLIM_INFINITY))
    first = args.first
    if args.state and args.state.exists():
        first = int(args.state.read_text()) + 1
    state = os.open(args.state, os.O_RDWR | os.O_CREAT, 0o644) if args.state else None
    counts: Counter[str] = Counter()
    forwards = args.forwards
    for number in range(first, args.first + args.loads):
        rng = random.Random(number)
        name, data = rng.choice(contents)
        if state is not None:
            os.pwrite(state, f"{number:>12}\n".encode(), 0)  # never empty, whenever the process ends
        begin = time.process_time()
        try:
            network = LiteNetwork()
            network.load(damaged(data, rng, in_place=args.in_place))
            kind = "loaded"
            if forwards > 0 and run(network, rng):
                forwards -= 1
                kind = "ran"
        except InternalError as error:
            kind = f"internal error: {error}"
        except LiteError as error:
            kind = type(error).__name__
        except BaseException as error:
            kind = f"raised {type(error).__name__}: {error}"
        if (taken := time.process_time() - begin) > MOST_SECONDS:
            kind = f"took {taken:.1f} s"
        counts[kind.split(":")[0]] += 1
        if " " in kind:
            print(f"case {number} ({name}): {kind}", flush=True)
    print(dict(counts.most_common()))
    return any(" " in kind for kind in counts)


if __name__ == "__main__":
    sys.exit(main())
