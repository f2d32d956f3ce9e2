"""Bars of tqdm for Model.map and Predictor, where they are wanted."""

from __future__ import annotations

import pickle
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.api_samples import DIGITS

import megengine_lite
from megengine_lite.batch import Predictor
from megengine_lite.errors import LiteError

X = np.zeros([1, 1, 8, 8], "float32")


class Bar:
    made: list[Bar] = []  # noqa: RUF012

    def __init__(self, total, desc):
        self.total, self.desc = total, desc
        self.steps: list[int] = []
        self.open = True
        self.made.append(self)

    def update(self, more):
        self.steps.append(more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open = False


@pytest.fixture
def bars(monkeypatch):
    """The bars that are made."""
    monkeypatch.setitem(sys.modules, "tqdm.auto", SimpleNamespace(tqdm=Bar))
    monkeypatch.setattr(Bar, "made", [])
    return Bar.made


@pytest.fixture
def model():
    with megengine_lite.load(DIGITS, threads=1) as made:
        yield made


def test_map_counts_results(model, bars):
    results = model.map([X] * 10, batch_size=4, progress=True)
    assert bars == []  # nothing runs, and nothing is shown, before the first result is wanted
    assert next(results)["prob"].shape == (1, 10)
    (bar,) = bars
    assert (bar.total, bar.desc, bar.steps, bar.open) == (10, "running", [1], True)
    assert len(list(results)) == 9
    assert (bar.steps, bar.open) == ([1] * 10, False)


def test_map_shows_a_bar_without_end_where_the_number_is_not_known(model, bars):
    assert len(list(model.map((X for _ in range(3)), progress=True))) == 3
    assert (bars[0].total, bars[0].steps) == (None, [1, 1, 1])


def test_results_are_the_same_with_a_bar(model, bars):
    images = [np.full([1, 1, 8, 8], k, "float32") for k in range(5)]
    plain = [outputs["prob"] for outputs in model.map(images, batch_size=2)]
    shown = [outputs["prob"] for outputs in model.map(images, batch_size=2, progress=True)]
    np.testing.assert_array_equal(plain, shown)
    assert len(bars) == 1


def test_a_bar_ends_with_an_error_and_with_what_is_not_wanted_any_more(model, bars):
    with pytest.raises(LiteError):
        list(model.map([X, X, np.zeros(3)], progress=True))
    results = model.map([X] * 5, progress=True)
    next(results)
    results.close()
    assert [bar.open for bar in bars] == [False, False]
    assert bars[1].steps == [1]


def test_predictor_counts_rows(bars):
    predict = pickle.loads(pickle.dumps(Predictor(DIGITS, batch_size=4, progress=True)))
    assert predict({"data": np.zeros([10, 1, 8, 8], "float32")})["prob"].shape == (10, 10)
    (bar,) = bars
    assert (bar.total, bar.desc, bar.steps, bar.open) == (10, "rows", [4, 4, 2], False)
    Predictor(DIGITS)({"data": np.zeros([2, 1, 8, 8], "float32")})
    assert len(bars) == 1


def test_without_tqdm_a_bar_is_an_error_that_says_what_to_do(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pytest.raises(LiteError, match="a progress bar needs tqdm: pip install tqdm"):
        model.map([X], progress=True)
    with pytest.raises(LiteError, match="pip install tqdm"):
        Predictor(DIGITS, progress=True)({"data": X})
    assert len(list(model.map([X] * 2))) == 2
    assert Predictor(DIGITS)({"data": X})["prob"].shape == (1, 10)
