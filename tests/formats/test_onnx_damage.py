"""Damaged ONNX files: every one ends in a result or in an error of this package, in bounded time."""

import random
import time
import warnings

import numpy as np
import pytest
from support.onnx_models import expected, load, run
from support.places import TESTS

from megengine_lite.errors import InternalError, LiteError

FOLDER = TESTS / "models" / "onnx"
NAMES = ("image", "text", "quantized")
CASES = 250
MOST_SECONDS = 20.0  # a watchdog; tools/fuzz_loads.py holds the real bound on a quiet machine


def given(name: str, n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    if name == "text":
        return {"ids": rng.integers(0, 10, (n, 5), np.int64)}
    return {"x": rng.standard_normal((n, 3, 16, 16) if name == "image" else (n, 2, 6, 6)).astype(np.float32)}


@pytest.mark.parametrize("name, n", [("image", 1), ("image", 3), ("text", 1), ("text", 4), ("quantized", 1)])
def test_the_undamaged_files_give_what_the_package_onnx_gives(name, n):
    import onnx

    values = given(name, n)
    results = run(
        load(str(FOLDER / f"{name}.onnx")), **{k: v.astype(np.int32) if k == "ids" else v for k, v in values.items()}
    )
    wanted = expected(onnx.load(FOLDER / f"{name}.onnx"), **values)
    for ours, theirs in zip(results, wanted, strict=True):
        assert ours.shape == (np.shape(theirs) or (1,))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("in_place", [True, False])
def test_damage_gives_a_result_or_an_error(name, in_place):
    content = (FOLDER / f"{name}.onnx").read_bytes()
    outcomes = {"ran": 0, "refused": 0}
    for seed in range(CASES):
        rng = random.Random(seed)
        changed = bytearray(content)
        for _ in range(1 if in_place else rng.choice((2, 8))):
            at = rng.randrange(len(changed))
            if in_place or rng.random() < 0.5:
                changed[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
            else:
                del changed[at : at + rng.choice((1, 4, 64))]
        begin = time.process_time()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                network = load(bytes(changed))
                for port in network.get_all_input_name():
                    tensor = network.get_io_tensor(port)
                    if np.prod(tensor.layout.shapes, dtype=object) > 1 << 16:
                        raise LiteError("too large to be tried")
                    tensor.set_data_by_copy(np.ones(tensor.layout.shapes, tensor.layout.dtype))
                network.forward()
                network.wait()
            outcomes["ran"] += 1
        except InternalError:
            raise
        except LiteError:
            outcomes["refused"] += 1
        assert time.process_time() - begin < MOST_SECONDS, seed
    assert min(outcomes.values()) > 0 and sum(outcomes.values()) == CASES
