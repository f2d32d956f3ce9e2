"""The roofline plot of a report in a real browser: no texts overlap, and its numbers are told."""

from __future__ import annotations

import copy
import re

import numpy as np
import pytest
from support.shown_reports import NEEDED, only

from megengine_lite._core.reports.model_report.report import ModelReport

pytestmark = NEEDED


@pytest.mark.parametrize("width", [420, 1440])
def test_labels_of_the_roofline_do_not_overlap(show, digits, width):
    shown = show(digits, size={"width": width, "height": 900})
    points = """() => [...document.querySelectorAll("#roofline .mark")].map((c) => c.getBBox())
        .map((b) => [b.x, b.y, b.x + b.width, b.y + b.height])"""
    level = """() => [...document.querySelectorAll("#roofline .above:not([transform])")].map((c) => c.getBBox())
        .map((b) => [b.x, b.y, b.x + b.width, b.y + b.height])"""
    (peak,) = shown.page.evaluate(level)
    for point in shown.page.evaluate(points):
        assert peak[2] <= point[0] or point[2] <= peak[0] or peak[3] <= point[1] or point[3] <= peak[1]
    boxes = shown.page.evaluate(
        '() => [...document.querySelectorAll("#roofline .label")].map((t) => t.getBBox())'
        ".map((b) => [b.x, b.y, b.x + b.width, b.y + b.height])"
    )
    assert boxes
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            assert a[2] <= b[0] + 2 or b[2] <= a[0] + 2 or a[3] <= b[1] + 4 or b[3] <= a[1] + 4


@pytest.mark.parametrize("width", [420, 700, 1440])
@pytest.mark.parametrize(("memory", "cache"), [(7, 100), (90, 95), (20, 23), (50, 80), (3, 3), (1, 4000), (400, 401)])
def test_texts_of_the_roofline_do_not_overlap_on_any_machine(show, digits, memory, cache, width):
    """Where two lines of bandwidth are near each other, or short, there may be room for one text only, or for none."""
    report = copy.deepcopy(digits)
    bandwidths = [{"name": "memory", "gb_per_s": memory}, {"name": "cache", "gb_per_s": cache}]
    only(report)["roof"] = {**only(report)["roof"], "bandwidths": bandwidths}
    page = show(report, size={"width": width, "height": 900}).page
    # Each text as the corners of its box, as it is turned.
    corners = page.evaluate(
        """() => [...document.querySelectorAll("#roofline text")].map((t) => {
            const b = t.getBBox(), m = t.getCTM(), inner = 3;
            const [left, right, top, bottom] = [b.x, b.x + b.width, b.y + inner, b.y + b.height - inner];
            return [[left, top], [right, top], [right, bottom], [left, bottom]]
                .map(([x, y]) => [m.a * x + m.c * y + m.e, m.b * x + m.d * y + m.f]);
        })"""
    )
    assert len(corners) > 5
    boxes = [np.array(box) for box in corners]
    for k, a in enumerate(boxes):
        for b in boxes[:k]:
            assert apart(a, b), (a, b)
    told = re.search(r"memory ([\d.]+) GB/s, cache ([\d.]+) GB/s", page.inner_text("#section-roofline"))
    assert [float(number) for number in told.groups()] == [memory, cache]


def apart(a, b) -> bool:
    """Whether two rectangles, turned by any angle, have no point in common."""
    for box in (a, b):
        for side in (box[1] - box[0], box[3] - box[0]):
            one, two = a @ side, b @ side
            if one.max() <= two.min() or two.max() <= one.min():
                return True
    return False


def test_roofline_has_numbers_if_intensities_are_alike(show, digits):
    content = copy.deepcopy(digits.content["reports"][0])
    for node in content["nodes"]:
        if node.get("operations"):
            node["bytes"] = node["operations"] / 4
    content["roof"] = {"gflops": 100.0, "bandwidths": [{"name": "memory", "gb_per_s": 25.0}]}
    shown = show(ModelReport(content))
    script = "() => [...document.querySelectorAll('#roofline text.muted')].map((t) => t.textContent)"
    numbers = [t for t in shown.page.evaluate(script) if re.fullmatch(r"[\d.]+", t)]
    assert {"2", "5"} <= set(numbers)


def test_roofline_tells_of_operators_without_operations(show, digits):
    nodes = [n for n in digits.content["reports"][0]["nodes"] if n.get("ms")]
    count = sum(not n["operations"] for n in nodes)
    shown = show(digits)
    assert f"{count} operator" in shown.page.inner_text("#roofline") and "of the time" in shown.page.inner_text(
        "#roofline"
    )
