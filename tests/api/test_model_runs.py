"""Many runs of a model: futures, batches, workers and threads."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest
from PIL import Image
from support.api_samples import DIGITS, IMAGES, busy, loaded, run
from support.loader_samples import doubled
from support.onnx_models import bytes_of_text
from support.processes import LIMIT, isolated

import megengine_lite
from megengine_lite import LiteLayout, LiteTensor
from megengine_lite._core.ir.dtype import INT32
from megengine_lite.batch import Predictor
from megengine_lite.errors import (
    LiteError,
    ShapeError,
)

X = IMAGES[:3]


@pytest.fixture
def expected():
    """What a network computes for X."""
    return run(loaded(), X)


@pytest.fixture
def model():
    with megengine_lite.load(DIGITS, threads=1) as made:
        yield made


def test_future_can_be_awaited(model, expected):
    async def program():
        alone = await model.run_async(X)
        return [alone, *await asyncio.gather(*(model.run_async(X[k : k + 1]) for k in range(3)))]

    alone, *rows = asyncio.run(program())
    np.testing.assert_array_equal(alone[0], expected)
    np.testing.assert_allclose(np.concatenate([r[0] for r in rows]), expected, atol=1e-6)


def test_errors_come_out_of_futures(model):
    async def program():
        await model.run_async(np.repeat(X, 2, axis=1))

    with pytest.raises(ShapeError):
        model.run_async(np.repeat(X, 2, axis=1)).result()
    with pytest.raises(ShapeError):
        asyncio.run(program())


def test_future_is_cancelled_before_its_run(model):
    with busy(model):
        running, waiting = model.run_async(X), model.run_async(X)
        assert waiting.cancel()
    assert running.result()["prob"].shape == (3, 10)
    with pytest.raises(CancelledError):
        waiting.result()


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_map_keeps_order(workers, batch_size):
    expected = run(loaded(), IMAGES[:30])
    with megengine_lite.load(DIGITS, threads=1, workers=workers) as model:
        for wrap in (lambda x: x, lambda x: {"data": x}, lambda x: (x,)):
            items = (wrap(IMAGES[k : k + 1]) for k in range(30))
            results = [o["prob"] for o in model.map(items, batch_size=batch_size)]
            assert len(results) == 30 and all(r.shape == (1, 10) for r in results)
            np.testing.assert_allclose(np.concatenate(results), expected, atol=1e-6)


def test_map_puts_only_equal_sizes_together():
    model = megengine_lite.load(doubled((1, 2), INT32))
    items = [np.full([n, m], n * 10 + m) for n, m in ((1, 2), (3, 2), (1, 2), (1, 4), (2, 4), (1, 2))]
    results = [o[0] for o in model.map(items, batch_size=3)]
    assert [r.tolist() for r in results] == [(2 * x).tolist() for x in items]


class WithItsArray:
    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


class WithDlpack:
    def __init__(self, array):
        self.array = array

    def __dlpack__(self, **kwargs):
        return self.array.__dlpack__()

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def refilled(kind):
    """An item of one kind, and what fills it with a number."""
    buffer = np.empty((1, 1, 2, 2), "float64" if kind == "converted" else "uint8")
    if kind == "list":
        numbers = [[[0, 0], [0, 0]]]
        return [numbers], lambda k: numbers.__setitem__(0, [[k, k], [k, k]])
    if kind == "tensor":
        tensor = LiteTensor(LiteLayout((1, 1, 2, 2), "uint8"))
        return tensor, lambda k: tensor.set_data_by_copy(np.full((1, 1, 2, 2), k, "uint8"))
    if kind == "Pillow":
        image = Image.new("L", (2, 2))
        return image, lambda k: image.paste(k, (0, 0, 2, 2))
    made = {
        "tuple": (buffer,),
        "dict": {"x": buffer},
        "list of arrays": [buffer[0]],
        "transposed": buffer.transpose(0, 1, 3, 2),
        "buffer": memoryview(buffer),
        "__array__": WithItsArray(buffer),
        "__dlpack__": WithDlpack(buffer),
    }
    return made.get(kind, buffer), buffer.fill


KINDS_OF_ITEMS = [
    "array", "converted", "transposed", "dict", "tuple", "list", "list of arrays", "buffer", "tensor", "__array__",
    "__dlpack__", "Pillow",
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS_OF_ITEMS)
@pytest.mark.parametrize(("batch_size", "prefetch"), [(1, 1), (1, None), (3, None), (100, 1)])
def test_map_takes_the_values_before_it_asks_for_the_next_item(kind, batch_size, prefetch):
    """As readers of videos and ring buffers have it, which fill the same memory again."""
    kept = "(uint8[N,1,2,2] x) => (uint8[N,1,2,2] y) { y = Identity(x) }"
    counted = "(float[N,1,2,2] x) => (float[N,1,2,2] y) { y = Add(x, x) }"
    model = megengine_lite.load(bytes_of_text(counted if kind == "converted" else kept))
    item, fill = refilled(kind)

    def items():
        for k in range(8):
            fill(k)
            yield item
        fill(99)

    results = [o[0].tolist() for o in model.map(items(), batch_size=batch_size, prefetch=prefetch)]
    factor = 2 if kind == "converted" else 1
    assert results == [np.full((1, 1, 2, 2), k * factor).tolist() for k in range(8)]


def test_map_says_when_an_output_is_not_a_batch():
    model = megengine_lite.load(bytes_of_text("(float[N,2] x) => (float z) { z = ReduceSum<keepdims=0>(x) }"))
    assert [float(o["z"]) for o in model.map([[[1, 2]], [[3, 4]]])] == [3, 7]
    with pytest.raises(ShapeError, match="rows of output 'z' are not rows of the inputs, so it cannot be taken apart"):
        list(model.map([[[1, 2]], [[3, 4]]], batch_size=2))


@pytest.mark.parametrize(
    "text",
    [
        "(float[N,2] x) => (int64[K,2] y) { c = Greater(x, zero) p = NonZero(c) y = Transpose(p) }",
        "(float[N,2] x) => (float[2,M] y) { y = Reshape(x, two) }",
    ],
)
def test_rows_of_an_output_that_are_as_many_by_chance_are_not_taken_apart(text):
    text = text.replace(" {", " <float zero = {0}, int64[2] two = {2, -1}> {")
    model = megengine_lite.load(bytes_of_text(text))
    one, none = np.float32([[1, 1]]), np.float32([[-1, -1]])
    assert model(np.concatenate([one, none]))["y"].shape == (2, 2)
    with pytest.raises(ShapeError, match="rows of output 'y' are not rows of the inputs"):
        list(model.map([one, none], batch_size=2))
    with pytest.raises(ShapeError, match=r"row 0 of the batch: .*; choose other outputs"):
        Predictor(bytes_of_text(text))({"x": np.concatenate([one, none])})
    assert len(list(model.map([one, none]))) == 2


@pytest.mark.parametrize(("batch_size", "prefetch"), [(1, 1), (1, None), (1, 100), (2, 1), (3, None), (100, 1)])
@pytest.mark.parametrize("kind", ["value", "run", "shape", "iterable"])
@pytest.mark.parametrize("place", [0, 1, 4, 5])
def test_map_gives_the_results_before_a_bad_item(batch_size, prefetch, kind, place):
    text = "(float[N,2] x, int64[N,1] k) => (float[N,1] y) { y = GatherElements<axis = 1>(x, k) }"
    model = megengine_lite.load(bytes_of_text(text))

    def items():
        for number in range(7):
            x, k = np.full((1, 2), number, np.float32), np.zeros((1, 1), np.int32)
            if number == place:
                if kind == "iterable":
                    raise OSError("no such file")
                x, k = {"value": (x, "bad"), "run": (x, k + 9), "shape": (x, np.zeros((1, 2, 2), np.int32))}[kind]
            yield {"x": x, "k": k}

    found = []
    with pytest.raises(OSError if kind == "iterable" else LiteError):
        for outputs in model.map(items(), batch_size=batch_size, prefetch=prefetch):
            assert outputs["y"].shape == (1, 1)
            found.append(int(outputs["y"].item()))
    assert found == list(range(place))
    assert int(model(x=np.ones((1, 2), np.float32), k=np.zeros((1, 1), np.int32))["y"].item()) == 1


def test_map_reads_only_a_bit_ahead(model):
    taken = []

    def items():
        for k in range(100):
            taken.append(k)
            yield X

    results = model.map(items(), prefetch=3)
    next(results)
    assert len(taken) <= 5
    results.close()
    assert model(X)["prob"].shape == (3, 10)


def test_warmup_reaches_every_worker():
    with megengine_lite.load(DIGITS, workers=3, threads=1) as model:
        model.warmup(X)
        assert all(w.network._loaded("test").has_run for w in model._workers)
        several = [threading.Thread(target=model.warmup, args=(X,)) for _ in range(4)]
        for thread in several:
            thread.start()
        for thread in several:
            thread.join(LIMIT)
            assert not thread.is_alive()
    with megengine_lite.load(DIGITS) as model:
        model.warmup()
        assert model.outputs[0].shape == (360, 10)


@pytest.mark.parametrize("workers", [1, 2])
def test_many_threads_get_their_own_results(workers):
    expected = run(loaded(), IMAGES[:16])
    wrong = []

    def work(seed):
        random = np.random.default_rng(seed)
        for _ in range(60):
            k = int(random.integers(0, 12))
            n = int(random.integers(1, 4))
            if not np.allclose(model(IMAGES[k : k + n])[0], expected[k : k + n], atol=1e-6):
                wrong.append((k, n))

    with megengine_lite.load(DIGITS, threads=1, workers=workers) as model:
        threads = [threading.Thread(target=work, args=(s,)) for s in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@isolated
def test_interrupts_lose_no_worker():
    """Ctrl-C at any moment of a call: the next call still finds the worker."""
    import _thread
    import signal

    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs in the background may start with it ignored
    model = megengine_lite.load(DIGITS, threads=1)
    model(X)
    end = time.monotonic() + 3
    interrupted = 0
    while time.monotonic() < end:
        timer = threading.Timer(0.001 * np.random.rand(), _thread.interrupt_main)
        try:
            timer.start()
            while True:
                model(X)
        except KeyboardInterrupt:
            interrupted += 1
        assert model._loans.free == 1
    assert interrupted > 20
    assert model(X)["prob"].shape == (3, 10)
