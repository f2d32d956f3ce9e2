"""A browser for all tests of a module, and reports in it."""

from __future__ import annotations

import pytest
from support.api_samples import DIGITS, IMAGES, loaded
from support.shown_reports import CHROMIUM, Shown, sync_playwright

from megengine_lite._core.reports.model_report.report import ModelReport


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    opened = []

    def open_report(report, **how):
        path = tmp_path / f"{len(opened)}.html"
        report.save(path)
        opened.append(Shown(browser, path, **how))
        return opened[-1]

    yield open_report
    for shown in opened:
        shown.close()


@pytest.fixture(scope="module")
def digits() -> ModelReport:
    network = loaded(DIGITS)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    return network.report(runs=2, warmup=0)
