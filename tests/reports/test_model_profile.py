"""Profiles as objects: what they say is what the command profile says."""

from pathlib import Path

import numpy as np
import pytest

import megengine_lite
from megengine_lite._api.model_profiles import ModelProfile
from megengine_lite.cli import main
from megengine_lite.errors import LiteError, LiteTypeError, LiteValueError

DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
IMAGE = np.zeros((2, 1, 8, 8), np.float32)


@pytest.fixture
def model():
    with megengine_lite.load(DIGITS, threads=1) as loaded:
        yield loaded


def test_a_profile_has_the_steps_of_the_command(model, run_json):
    expected = run_json("profile", DIGITS, "--threads", 1, "--iter", 2, "--input-desc", "data:2,1,8,8")
    profile = model.profile(IMAGE, runs=3, warmup=0)
    steps = ("name", "operator", "algorithm", "outputs")
    assert [[row[k] for k in steps] for row in profile.rows] == [[row[k] for k in steps] for row in expected["steps"]]
    assert all(row.keys() == step.keys() for row, step in zip(profile.rows, expected["steps"], strict=True))
    assert all(len(row["times_ms"]) == 3 and row["ms"] == np.median(row["times_ms"]) for row in profile.rows)
    assert profile.total_ms == pytest.approx(sum(row["ms"] for row in profile.rows))
    assert profile.operators_ms.keys() == expected["operators_ms"].keys()
    assert sum(profile.operators_ms.values()) == pytest.approx(profile.total_ms)
    (conv,) = (row for row in profile.rows if row["algorithm"] == "conv_depthwise_f32")
    assert conv["gflops"] > 0


def test_a_profile_is_shown_as_the_command_shows_it(model, capsys):
    profile = model.profile()
    assert repr(profile) == f"<ModelProfile digits.mge, {len(profile.rows)} steps, {profile.total_ms:.3f} ms>"
    assert main(["profile", str(DIGITS), "--threads", "1", "--iter", "1", "--input-desc", "data:1,1,8,8"]) == 0
    printed, shown = (
        [[word for word in line.split() if word.isidentifier()] for line in text.strip().splitlines()]
        for text in (capsys.readouterr().out, str(profile))
    )
    assert printed[: len(profile.rows)] == shown[: len(profile.rows)]
    page = profile._repr_html_()
    assert page.count("<tr>") == len(profile.rows) + len(profile.operators_ms) + 3 and "c4.RELU" in page


def test_names_in_a_profile_are_text():
    row = {"operator": "<b>", "algorithm": "a", "outputs": [[1, 2], []], "ms": 0.0, "times_ms": [0.0], "gflops": None}
    profile = ModelProfile("m\x1b[2J\n", [{**row, "name": "<script>\x1b[31m\n"}])
    assert "<script>" not in profile._repr_html_() and "<b>" not in profile._repr_html_()
    for text in (repr(profile), str(profile), profile._repr_html_()):
        assert "\x1b" not in text
    assert "\n" not in repr(profile) and len(str(profile).splitlines()) == 3 + 1 + 4


def test_what_a_profile_cannot_measure_is_a_typed_error(model):
    for runs, warmup in ((0, 0), (1, -1), (10**9, 0)):
        with pytest.raises(LiteValueError, match="a profile measures 1 run or more"):
            model.profile(runs=runs, warmup=warmup)
    with pytest.raises(LiteTypeError, match="runs"):
        model.profile(runs="x")
    model.close()
    with pytest.raises(LiteError, match="closed"):
        model.profile()
