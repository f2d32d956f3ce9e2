"""The page of a report on two models or settings in a real browser: what it says of their results and times."""

from __future__ import annotations

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES
from support.shown_reports import NEEDED, only

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.reports.model_report.collect import with_runs, without_run
from megengine_lite._core.reports.model_report.layers import LayerResult, compare_layers, layer_results
from megengine_lite._core.reports.model_report.report import ModelReport
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

pytestmark = NEEDED


def test_two_reports_and_their_layers_are_shown(show):
    model = load_model(DIGITS)
    reports, results = [], []
    for fuse in (True, False):
        session = Session(model, SessionConfig(explain=True, fuse=fuse))
        session.set_array("data", IMAGES)
        reports.append(ModelReport(with_runs(session, "fused" if fuse else "plain", 1, 0)))
        results.append(layer_results(session))
    both = reports[0].beside(reports[1])
    both.add_layers(compare_layers(*results, same_file=True, tolerance=1e-12, names=["fused", "plain"]))
    shown = show(both)
    page = shown.page
    assert page.locator("#tabs button").all_inner_texts() == ["fused", "plain"]
    assert "time of a run" in page.inner_text("#comparison")
    assert "The first result that differs is that of" in page.inner_text("#layers")
    assert page.locator("#layers circle").count() == len(both.content["layers"]["layers"])
    count = shown.get("report.nodes.length")
    page.click("#tabs >> text=plain")
    assert page.inner_text("h1") == "plain" and shown.get("report.nodes.length") > count
    before = shown.pixels()
    shown.painted(lambda: page.select_option("#colour", "parting"))
    assert "signal to noise" in page.inner_text("#legend") and shown.pixels() != before


def test_what_is_odd_about_compared_results_is_said(show, digits):
    """Counts of NaN, both names where they say different things, and what a question mark stands for."""
    some = np.array([1, np.nan, 3, 4], np.float32)
    names = ["nan", "part", "7", "mine", "last"]
    arrays = [np.full(4, np.nan, np.float32), some, some + 9, np.arange(9, dtype=np.float32), np.zeros(2, np.float32)]
    runs = [
        [
            LayerResult(k, op, name, None, array, (k - 1,), (name,))
            for k, (op, name, array) in enumerate(zip(["A", "B", "C", "D", "E"], called, values, strict=True))
        ]
        for called, values in (
            (names, arrays),
            (["nan", "part", "9", "theirs", "last"], [*arrays[:3], arrays[3][::-1], arrays[4] + 1]),
        )
    ]
    runs[1].append(LayerResult(9, "F", "7", None, np.full(4, 5, np.float32), (), ("7",)))
    report = ModelReport(only(digits))
    report.add_layers(compare_layers(*runs, same_file=False, tolerance=1e-3, names=["a", "b"]))
    page = show(report).page
    rows = page.locator("#layers tbody tr")
    shown = [rows.nth(k).locator("td").all_inner_texts() for k in range(rows.count())]
    assert [row[2] for row in shown] == ["nan", "part", "7 (there 9)", "mine (there theirs)", "last"]
    assert [row[-1] for row in shown] == [
        "same, all NaN",
        "same, 1 of 4 NaN",
        "same, 1 of 4 NaN",
        "different?",
        "different",
    ]
    assert shown[0][3:-1] == [""] * 6 and shown[1][3:5] == ["0", "0"] and shown[3][3] == "8"
    said = page.inner_text("#section-layers")
    assert "With a question mark: found by their place alone" in said
    assert "The first result that differs is that of D mine (there theirs): by 8 at most" in said


def test_a_model_that_does_not_run_says_why_beside_one_that_does(show, digits):
    model = load_model(DIGITS)
    other = ModelReport(without_run(model, "other.mge", {}, problem="the <b>reason</b>"))
    for both in (digits.beside(other), other.beside(digits)):
        page = show(both).page
        said = page.inner_text("#comparison")
        assert "other.mge does not run: the <b>reason</b>" in said
        assert "operators in the file" in said and "time of a run" in said
        page.click("#tabs >> text=other.mge")
        assert "the <b>reason</b>" in page.inner_text("#problem")
    assert "other.mge does not run:** the " in both.to_markdown().split("# Comparison")[1]


def test_texts_of_a_row_stand_on_one_line(show, digits):
    """Names of kernels are smaller than what is beside them."""
    shown = show(digits.beside(digits))
    script = """() => [...document.querySelectorAll("tr")].filter((row) => row.offsetParent).map((row) => {
        return [...row.querySelectorAll("td")].filter((cell) => cell.innerText.trim()).map((cell) => {
            const mark = document.createElement("span");
            mark.style.cssText = "display: inline-block; width: 0; height: 0";
            cell.prepend(mark);
            return mark.getBoundingClientRect().bottom;
        });
    })"""
    rows = [row for row in shown.page.evaluate(script) if len(row) > 1]
    assert len(rows) > 10
    for row in rows:
        assert max(row) - min(row) < 1


@pytest.mark.parametrize("width", [420, 800, 1440])
def test_tables_fit_into_the_page(show, width):
    """Nothing has to be scrolled sideways, and no word of a title is broken."""
    model = load_model(DIGITS)
    reports, results = [], []
    for isa in ("base", None):
        session = Session(model, SessionConfig(explain=True, isa=isa))
        session.set_array("data", IMAGES)
        reports.append(ModelReport(with_runs(session, f"digits.mge --threads 1 --isa {isa}", 1, 0)))
        results.append(layer_results(session))
    both = reports[0].beside(reports[1])
    both.add_layers(compare_layers(*results, same_file=True, tolerance=1e-3, names=["one", "two"]))
    page = show(both, size={"width": width, "height": 900}).page
    tables = page.locator(".scroll")
    assert tables.count() == 5
    for k in range(tables.count()):
        assert tables.nth(k).evaluate("(place) => place.scrollWidth <= place.clientWidth"), tables.nth(k).inner_text()
    broken = """(title) => {
        const words = title.textContent.split(/[ -]+/).filter(Boolean), text = title.firstChild;
        return words.filter((word) => {
            const range = document.createRange(), begin = text.data.indexOf(word);
            range.setStart(text, begin);
            range.setEnd(text, begin + word.length);
            return range.getClientRects().length > 1;
        });
    }"""
    titles = page.locator("th:not(:empty)")
    assert [titles.nth(k).evaluate(broken) for k in range(titles.count())] == [[]] * titles.count()
