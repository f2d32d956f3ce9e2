"""Large batches through a Model, which runs some samples at a time."""

import threading

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, close, two_inputs

import megengine_lite
from megengine_lite import ShapeError
from megengine_lite._core.compile import samples
from megengine_lite._core.cpu.device import CpuDevice
from megengine_lite._core.runtime import plans_by_shape
from megengine_lite._core.runtime.session import Session

N = 24
X = np.resize(IMAGES[:10], (N, *IMAGES.shape[1:]))
EXPECTED = np.resize(PROB[:10], (N, *PROB.shape[1:]))


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of parts that are run, in order. Small batches are cut: little is near, and weights do not count."""
    ran = []
    run_part = Session.run_part

    def noted(session, arrays):
        ran.append(len(next(iter(arrays.values()))))
        return run_part(session, arrays)

    monkeypatch.setattr(samples, "_SHARE_OF_WEIGHTS", 1e9)
    monkeypatch.setattr(CpuDevice, "near_bytes", lambda self, config: 2000)
    monkeypatch.setattr(Session, "run_part", noted)
    return ran


def test_parts_give_the_rows_of_the_whole(sizes):
    with megengine_lite.load(DIGITS) as model:
        first, second = model(X), model(X[::-1])
    assert len(set(sizes)) == 1 and sum(sizes) == 2 * N
    assert close(first["prob"], EXPECTED) and close(second["prob"], EXPECTED[::-1])
    assert first["prob"].dtype == np.float32 and first["prob"].flags.owndata


def test_batches_of_several_sizes_take_turns(sizes):
    with megengine_lite.load(DIGITS) as model:
        for n in (N, 1, 12, N, 7):
            assert close(model(X[:n])["prob"], EXPECTED[:n])
    assert sum(sizes) in (2 * N, 2 * N + 12, 2 * N + 12 + 7)


def test_a_batch_that_is_near_enough_runs_as_a_whole(monkeypatch):
    monkeypatch.setattr(Session, "run_part", None)
    with megengine_lite.load(DIGITS) as model:
        assert close(model(X)["prob"], EXPECTED)


@pytest.mark.parametrize("calls", ["run_async", "map", "warmup"])
def test_other_ways_to_run(calls, sizes):
    with megengine_lite.load(DIGITS, workers=2) as model:
        if calls == "run_async":
            found = [future.result()["prob"] for future in [model.run_async(X) for _ in range(4)]]
        elif calls == "map":
            found = [np.concatenate([o["prob"] for o in model.map(X[:, None], batch_size=N)])]
        else:
            model.warmup(X)
            found = [model(X)["prob"]]
    assert sizes and all(close(prob, EXPECTED) for prob in found)


def test_several_threads(sizes):
    wrong = []
    with megengine_lite.load(DIGITS, workers=2) as model:

        def run(k):
            for _ in range(20):
                if not close(model(np.roll(X, k, axis=0))["prob"], np.roll(EXPECTED, k, axis=0)):
                    wrong.append(k)

        threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sizes and not wrong


def test_an_input_that_does_not_fit_is_told_as_ever(sizes):
    with megengine_lite.load(DIGITS) as model:
        assert close(model(X)["prob"], EXPECTED)
        with pytest.raises(ShapeError):
            model(np.zeros((N, 2, 8, 8), np.float32))
        assert close(model(X)["prob"], EXPECTED)


def test_profiles_and_reports_are_of_the_whole(sizes):
    with megengine_lite.load(DIGITS) as model:
        profile = model.profile(X, runs=1, warmup=0)
        assert not sizes and profile.rows[-1]["outputs"] == [[N, 10]]


@pytest.mark.parametrize(
    ("how", "inferences"),
    [
        ("small", 1),  # the batch, as it runs
        ("large", 2),  # and its parts, as they run
        ("dependent", 2),  # the first size of parts tells it
    ],
)
def test_batches_are_looked_at_no_more_often_than_needed(how, inferences, monkeypatch, request):
    """Models of a thousand nodes take a while to look at."""
    ran = [] if how == "small" else request.getfixturevalue("sizes")
    looked = []
    infer = plans_by_shape.infer_stage
    with megengine_lite.load(DIGITS) as model:
        monkeypatch.setattr(plans_by_shape, "infer_stage", lambda *args: looked.append(args) or infer(*args))
        if how == "dependent":
            monkeypatch.setattr(samples, "are_independent", lambda *args: False)
        assert all(close(model(X)["prob"], EXPECTED) for _ in range(3))
    assert len(looked) == inferences and bool(ran) == (how == "large")


def test_inputs_are_told_apart_whatever_their_order(sizes):
    with megengine_lite.load(two_inputs([2, 3])) as model:
        session = model._engine("this test").session
        a, b = np.zeros((N, 1000), "f"), np.zeros((1, 1000), "f")
        assert session.samples_at_once({"b": a, "a": a}) and not session.samples_at_once({"b": b, "a": a})
        assert not session.samples_at_once({"a": a, "b": b})
        assert len(session._sizes_of_parts) == 2
