"""The page of a report in a real browser: what is drawn, what answers, and that nothing goes wrong."""

from __future__ import annotations

import copy
import random
import re

import numpy as np
import pytest
from support import onnx_models
from support.api_samples import DIGITS
from support.graphs import GraphBuilder, session_of
from support.loader_samples import input_operator, operator, to_bytes
from support.shown_reports import NEEDED, SIZE, only

from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir import params
from megengine_lite._core.reports.model_report.collect import with_runs, without_run
from megengine_lite._core.reports.model_report.report import ModelReport
from megengine_lite._core.runtime.session import Session
from megengine_lite._core.session_config import SessionConfig

pytestmark = NEEDED


@pytest.fixture(scope="module")
def large() -> ModelReport:
    """A network of 5,000 operators with branches."""
    rng = random.Random(0)
    builder = GraphBuilder()
    values = [builder.input("data", (1, 16))]
    table = {"max": params.Elemwise(mode=params.ElemwiseMode.MAX), "softmax": params.Softmax(axis=1)}
    for k in range(5000):
        near = values[-1] if rng.random() < 0.8 else values[max(0, len(values) - rng.randint(1, 8))]
        if rng.random() < 0.3:
            far = values[max(0, len(values) - rng.randint(1, 30))]
            values.append(builder.node("Elemwise", table["max"], [near, far], name=f"max.{k}."))
        else:
            values.append(builder.node("Softmax", table["softmax"], [near], name=f"softmax.{k}."))
    model = session_of(builder.finish(values[-1])).model
    for node in model.graph.nodes:
        for var in node.outputs:
            var.name = node.name
    return ModelReport(without_run(model, "large", {}))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_draws_everything_in_both_schemes(show, digits, scheme):
    shown = show(digits, scheme=scheme)
    page = shown.page
    assert page.title() == page.inner_text("h1") == only(digits)["name"]
    assert len(shown.pixels()) > 20
    assert page.locator("#treemap .cell").count() == sum(n.get("ms", 0) > 0 for n in only(digits)["nodes"])
    assert page.locator("#roofline circle").count() == sum(n.get("operations", 0) > 0 for n in only(digits)["nodes"])
    assert len(shown.pixels("#memory canvas")) > 3
    assert "Softmax" in page.inner_text("#kinds") and "None: every step" in page.inner_text("#numpy")
    assert "c2.conv.weight" in page.inner_text("#weights")
    back = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    dark = sum(map(int, re.findall(r"\d+", back)[:3])) < 200
    assert dark == (scheme == "dark")
    before = shown.pixels()
    shown.painted(lambda: page.click("#scheme"))
    after = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert after != back and shown.pixels() != before


def place_of(shown, k):
    """Where a box of the graph is on the screen."""
    return shown.page.evaluate(
        """(k) => {
            const { graph, report } = reportPage, at = graph.canvas.getBoundingClientRect();
            const { x, y } = report.layout;
            return [at.left + graph.left + x[k] * graph.scale, at.top + graph.top + y[k] * graph.scale];
        }""",
        k,
    )


def test_times_have_as_many_digits_as_those_beside_them(show, digits):
    changed = copy.deepcopy(digits)
    times = [0.0001, 0.000097, 0.00149, 0.5, 0.0999, 1.2, 12.0]
    operators = [n for n in only(changed)["nodes"] if n.get("ms")]
    for node, ms in zip(operators, times, strict=False):
        node["ms"] = ms
    shown = show(changed)
    seen = []
    for node in operators[: len(times)]:
        shown.page.evaluate("(k) => reportPage.choose(k)", only(changed)["nodes"].index(node))
        seen.append(re.search(r"time\s+(\S+\s\S+),", shown.page.inner_text("#details"))[1].replace("\xa0", " "))
    assert seen == ["0.10 µs", "0.097 µs", "1.49 µs", "500 µs", "99.9 µs", "1.20 ms", "12.0 ms"]


def test_click_shows_an_operator(show, digits):
    shown = show(digits)
    nodes = only(digits)["nodes"]
    k = next(k for k, n in enumerate(nodes) if n["name"] == "c2.RELU")
    shown.page.locator("#graph").scroll_into_view_if_needed()
    shown.page.mouse.click(*place_of(shown, k))
    assert shown.get("chosen") == k
    text = shown.page.inner_text("#details")
    for part in ("c2.RELU", "FusedConv", "stride_h", "360×32×4×4", "channels", "conv_", "BatchNorm c2.bn", "c1.RELU"):
        assert part in text, part
    shown.page.click("#details .link >> text=c1.RELU")
    assert nodes[shown.get("chosen")]["name"] == "c1.RELU"
    shown.page.focus("#graph")
    shown.page.keyboard.press("Escape")
    assert shown.get("chosen") is None and "Take longest" in shown.page.inner_text("#details")


def test_operators_are_chosen_in_the_other_pictures(show, digits):
    shown = show(digits)
    for selector in ("#treemap .cell", "#roofline circle"):
        mark = shown.page.locator(selector).first
        mark.dispatch_event("click")
        assert shown.get("chosen") == int(mark.get_attribute("data-node"))
        assert "chosen" in mark.get_attribute("class")


def test_search_finds_operators_one_after_the_other(show, digits):
    shown = show(digits)
    page = shown.page
    names = [n["name"] for n in only(digits)["nodes"]]
    page.fill("#search", "fusedconv")
    assert page.inner_text("#found") == "4 found, Enter goes to one"
    found = []
    for place in range(1, 6):
        page.press("#search", "Enter")
        found.append(names[shown.get("chosen")])
        assert page.inner_text("#found") == f"{(place - 1) % 4 + 1} of 4 found"
    assert found == ["c1.RELU", "c2.RELU", "c3.RELU", "c4.RELU", "c1.RELU"]
    page.fill("#search", "c2.bn")  # fused
    page.press("#search", "Enter")
    assert names[shown.get("chosen")] == "c2.RELU"
    page.fill("#search", "no such thing")
    assert page.inner_text("#found") == "nothing found"
    page.fill("#search", "")
    assert page.inner_text("#found") == "" and shown.get("graph.matches") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_chosen_operator_is_not_faded_by_a_search(show, digits, scheme):
    shown = show(digits, scheme=scheme)
    page = shown.page
    names = [n["name"] for n in only(digits)["nodes"]]
    k = names.index("c2.RELU")
    page.locator("#graph").scroll_into_view_if_needed()

    def colour():
        """That of the box of the operator, left of its text."""
        script = """(k) => {
            const { graph, report } = reportPage, { x, y, box } = report.layout, { canvas } = graph;
            const many = canvas.width / canvas.clientWidth;
            const at = [graph.left + (x[k] - box[0] / 2 + 4) * graph.scale, graph.top + y[k] * graph.scale];
            return [...canvas.getContext("2d").getImageData(...at.map((v) => v * many), 1, 1).data];
        }"""
        return page.evaluate(script, k)

    usual = colour()
    shown.painted(lambda: page.fill("#search", "softmax"))
    assert colour() != usual
    shown.painted(lambda: page.press("#search", "Enter"))
    assert page.inner_text("#found") == "1 of 1 found"
    shown.painted(lambda: page.click("#fit"))
    shown.painted(lambda: page.mouse.click(*place_of(shown, k)))
    assert shown.get("chosen") == k and colour() == usual
    assert page.inner_text("#found") == "1 found, Enter goes to one"


def luminance(colour) -> float:
    """Of an sRGB colour, as the accessibility guidelines define it."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (c / 255 for c in colour)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def contrasts(shown) -> list[float]:
    """Of each text on the boxes of the graph with what is behind it."""
    written = shown.page.evaluate(
        """() => {
            const found = [], { prototype } = CanvasRenderingContext2D, { fillText } = prototype;
            const { graph } = reportPage, { canvas } = graph;
            const many = canvas.width / canvas.clientWidth;
            prototype.fillText = function (text, x, y) {
                const { a, d, e, f } = this.getTransform();
                const place = [Math.round((x - 3) * a + e), Math.round(y * d + f)];
                if (this.textAlign === "right") place[0] = Math.round((x + 3) * a + e);
                found.push({ ink: this.fillStyle, part: this.globalAlpha, place });
            };
            graph.paint();
            prototype.fillText = fillText;
            const pixel = (place) => [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
            const seen = found.filter(({ place: [x, y] }) => x >= 0 && y >= 0 && x < canvas.width && y < canvas.height);
            return seen.map(({ ink, part, place }) => [ink, part, pixel(place).slice(0, 3)]);
        }"""
    )
    found = []
    for ink, part, back in written:
        colour = [int(ink[k : k + 2], 16) for k in (1, 3, 5)]
        seen = [part * c + (1 - part) * b for c, b in zip(colour, back, strict=True)]
        dark, light = sorted((luminance(seen), luminance(back)))
        found.append((light + 0.05) / (dark + 0.05))
    return found


@pytest.mark.parametrize("search", ["", "softmax", "no such thing"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_on_boxes_can_be_read_whatever_their_colour(show, digits, scheme, search):
    """With the contrast of 4.5 that the accessibility guidelines ask for, in all heats."""
    report = copy.deepcopy(digits)
    timed = [n for n in only(report)["nodes"] if n.get("ms")]
    for k, node in enumerate(timed):
        node["ms"] = (k + 1) ** 2 * 0.1
    shown = show(report, scheme=scheme)
    if search:
        shown.painted(lambda: shown.page.fill("#search", search))
    for scale in (0.4, 1.0):
        shown.page.evaluate(f"() => reportPage.graph.zoom({scale} / reportPage.graph.scale)")
        shown.page.evaluate("() => Object.assign(reportPage.graph, { left: 5, top: 5 })")
        found = contrasts(shown)
        assert len(found) >= 4 and min(found) >= 4.5


def heats(shown) -> list[float]:
    return shown.page.evaluate("() => reportPage.report.nodes.map((n, k) => n.ms > 0 ? reportPage.heatOf(k) : -1)")


def test_colours_tell_operators_apart_beside_one_that_takes_far_longer(show, large):
    report = copy.deepcopy(large)
    operators = [k for k, n in enumerate(only(report)["nodes"]) if n["kind"] == "operator"]
    for place, k in enumerate(operators):
        only(report)["nodes"][k].update(ms=0.001 * (1 + place % 100), kernels=[])
    only(report)["nodes"][operators[0]]["ms"] = 500.0
    only(report).update(steps_ms=sum(n.get("ms", 0) for n in only(report)["nodes"]))
    shown = show(report)
    found = dict(zip((n.get("ms") for n in only(report)["nodes"]), heats(shown), strict=True))
    assert found[500.0] == 1 and found[0.001] < 0.06 and 0.45 < found[0.1] < 0.55
    assert len({round(heat, 3) for heat in found.values()}) > 90
    legend = shown.page.inner_text("#legend").replace("\xa0", " ")
    top = re.search(r"([\d.]+) µs and more per operator, ([\d.]+) µs in the middle", legend)
    assert float(top[1]) == pytest.approx(4 * float(top[2]), rel=0.01) and 0.39 < float(top[1]) / 1000 < 0.41


@pytest.mark.parametrize(
    ("times", "wanted"),
    [
        ([1, 4, 16, 9], [0.25, 0.5, 1, 0.75]),
        ([400, 1, 1, 1], [1, 0.05, 0.05, 0.05]),  # what takes nearly no time may look alike
        ([100, 10, 10, 2.5], [1, 0.5, 0.5, 0.25]),
        ([7], [1]),
    ],
)
def test_colours_are_square_roots_of_times(show, digits, times, wanted):
    report = copy.deepcopy(digits)
    timed = [k for k, n in enumerate(only(report)["nodes"]) if n.get("ms")]
    for place, k in enumerate(timed):
        only(report)["nodes"][k]["ms"] = times[place] if place < len(times) else 0.0
    found = heats(show(report))
    assert [found[k] for k in timed[: len(times)]] == pytest.approx(wanted)


def test_wheel_keys_and_buttons_zoom(show, digits):
    shown = show(digits)
    page = shown.page
    page.locator("#graph").scroll_into_view_if_needed()
    before = shown.get("graph.scale")
    k = 3
    x, y = place_of(shown, k)
    page.mouse.move(x, y)
    shown.painted(lambda: page.mouse.wheel(0, -300))
    assert shown.get("graph.scale") > before
    assert place_of(shown, k) == pytest.approx([x, y], abs=1)  # what is below the mouse stays there
    shown.painted(lambda: page.click("#zoom-out"))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 30, steps=4)
    page.mouse.up()
    assert shown.get("chosen") is None  # dragging is no click
    page.focus("#graph")
    page.keyboard.press("+")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("0")
    assert shown.get("graph.scale") == pytest.approx(before)


def test_a_report_in_a_frame_that_is_shown_later_is_drawn_whole(browser, digits, tmp_path):
    """Notebooks load the frame of an output before they show it."""
    (tmp_path / "notebook.html").write_text(f"<body style='display: none'>{digits._repr_html_()}</body>")
    page = browser.new_page(viewport={"width": 900, "height": 1400})
    page.goto((tmp_path / "notebook.html").as_uri())
    page.wait_for_timeout(500)
    page.evaluate("() => { document.body.style.display = 'block'; }")
    (frame,) = page.frames[1:]
    drawings = "() => ['roofline', 'treemap'].map((id) => document.querySelector(`#${id} svg`).getBoundingClientRect())"
    for _ in range(600):
        page.wait_for_timeout(100)
        scale, left, top, (width, height), (w, h) = frame.evaluate(
            "() => { const g = reportPage.graph; return [g.scale, g.left, g.top, g.size, g.report.layout.size]; }"
        )
        boxes = frame.evaluate(drawings)
        if width and all(box["width"] > 250 for box in boxes):
            break
    assert 0 < scale <= 1.15 and left >= 0 and top >= 0
    assert left + w * scale <= width and top + h * scale <= height
    assert all(250 < box["width"] <= 900 for box in boxes)
    page.close()


def test_the_graph_stays_whole_until_it_is_moved(show, digits):
    shown = show(digits)
    whole = shown.get("graph.scale")
    shown.painted(lambda: shown.page.set_viewport_size({"width": 420, "height": 900}))
    assert shown.get("graph.scale") < whole
    shown.painted(lambda: shown.page.click("#zoom-in"))
    zoomed = shown.get("graph.scale")
    shown.painted(lambda: shown.page.set_viewport_size(SIZE))
    assert shown.get("graph.scale") == zoomed


def test_nothing_is_cut_off_at_any_width(show, digits):
    for width in (360, 800, 1440, 2200):
        shown = show(digits, size={"width": width, "height": 900})
        wide = shown.page.evaluate("() => document.documentElement.scrollWidth")
        assert wide <= width


def test_texts_of_the_treemap_stay_in_their_rectangles(show, digits):
    shown = show(digits)
    script = """() => {
        const boxes = (selector) => [...document.querySelectorAll(selector)].map((e) => e.getBBox());
        const cells = boxes("#treemap .cell, #treemap .group");
        const inside = (t, c) =>
            t.x >= c.x - 1 && t.x + t.width <= c.x + c.width + 1 &&
            t.y >= c.y - 2 && t.y + t.height <= c.y + c.height + 2;
        return boxes("#treemap .label").filter((t) => !cells.some((c) => inside(t, c))).length;
    }"""
    assert shown.page.evaluate(script) == 0


def test_names_that_are_cut_keep_the_number_that_tells_them_apart(show, digits):
    report = copy.deepcopy(only(digits))
    for k, node in enumerate(n for n in report["nodes"] if n.get("ms")):
        node["name"], node["ms"] = f"{'a_long_name.' * 40}[{1000 + k}]", 1.0 if k % 3 else 0.1
    page = show(ModelReport(report), size={"width": 600, "height": 900}).page
    cut = [text for text in page.locator("#treemap .label").all_text_contents() if "…" in text and text[0] == "a"]
    assert len({re.search(r"….*\[\d{4}\]$", text)[0] for text in cut}) == len(cut) > 3


def test_memory_without_intermediate_results_explains_no_picture(show, digits):
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    session = session_of(builder.finish(builder.node("Softmax", params.Softmax(axis=1), [x])), explain=True)
    session.set_array("x", np.ones((2, 3), np.float32))
    page = show(ModelReport(with_runs(session, "m", 1, 0))).page
    text = page.inner_text("#memory").replace("\xa0", " ")
    assert text == "There are no intermediate results. There are 24 B of outputs."
    assert page.locator("#memory canvas").count() == 0
    page = show(digits).page
    assert "a rectangle is one" in page.inner_text("#memory") and page.locator("#memory canvas").count() == 1


def texts_of_graph(shown) -> list[str]:
    """What is written on the boxes that are in view."""
    return shown.page.evaluate(
        """() => {
            const found = [], { prototype } = CanvasRenderingContext2D, { fillText } = prototype;
            prototype.fillText = function (text, ...place) { found.push(text); fillText.call(this, text, ...place); };
            reportPage.graph.paint();
            prototype.fillText = fillText;
            return found;
        }"""
    )


@pytest.mark.parametrize(("median", "why"), [(1.25, ""), (0.4, ", since no clock is read between its steps")])
def test_page_says_what_shares_are_parts_of(show, digits, median, why):
    """The steps of thousands of small operators take longer together than a run."""
    report = {**copy.deepcopy(only(digits)), "steps_ms": 1.375}
    report["ms"]["median"] = median
    said = show(ModelReport(report)).page.inner_text("#treemap").replace("\xa0", " ").split("\n")[0]
    run = "1.25 ms" if median > 1 else "400 \xb5s"
    assert said.endswith(f" Shares are parts of the 1.38 ms of all steps; a run takes {run}{why}.")


def test_arrows_that_are_too_many_are_left_out_and_told(show, large):
    """Of the chosen box they are drawn, and where fewer are in view."""
    report = copy.deepcopy(only(large))
    report["nodes"] = report["nodes"][:200]
    report["edges"] = [(a, b) for b in range(200) for a in range(b) if (a + b) % 3]
    assert len(report["edges"]) > 12000
    shown = show(ModelReport(report))
    drawn = """() => {
        const graph = reportPage.graph, numbers = [];
        graph.paintArrows = (context, arrows) => numbers.push(arrows.length);
        graph.paint();
        delete graph.paintArrows;
        return numbers;
    }"""
    note = shown.page.locator("#arrows")
    assert note.inner_text() == (
        f"{len(report['edges'])} arrows are too many to draw: zoom in, or choose a box to see its own"
    )
    assert shown.page.evaluate(drawn) == []
    shown.page.evaluate("() => reportPage.choose(100)")
    assert shown.page.evaluate(drawn) == [sum(100 in edge for edge in report["edges"])]
    shown.page.evaluate("() => { reportPage.choose(0, true); for (let k = 0; k < 9; k++) reportPage.graph.zoom(2); }")
    few, _ = shown.page.evaluate(drawn)
    assert 0 < few < 12000 and not note.is_visible()


@pytest.mark.parametrize("scale", [0.4, 1.0])
def test_names_of_inputs_and_outputs_are_told_apart_at_every_distance(show, scale):
    builder = GraphBuilder()
    inputs = [builder.input(f"a_rather_long_name_of_an_input_{k}", (1, 16)) for k in range(12)]
    made = [builder.node("Softmax", params.Softmax(axis=1), [x]) for x in inputs]
    model = session_of(builder.finish(*made)).model
    model.output_names = [f"a_rather_long_name_of_an_output_{k}" for k in range(12)]
    shown = show(ModelReport(without_run(model, "m", {})))
    shown.page.evaluate(f"() => reportPage.graph.zoom({scale} / reportPage.graph.scale)")
    shown.page.evaluate("() => Object.assign(reportPage.graph, { left: 0, top: 0 })")
    names = [text for text in texts_of_graph(shown) if text.startswith("a_")]
    assert len(set(names)) == len(names) > 4


def test_operators_are_named_in_full_where_the_whole_graph_is_in_view(show):
    """However small the graph is: the boxes have room for all common names."""
    builder = GraphBuilder()
    values = [builder.input("data", (1, 16))]
    for _ in range(150):
        values.append(builder.node("Softmax", params.Softmax(axis=1), [values[-1]]))
    model = session_of(builder.finish(values[-1])).model
    report = without_run(model, "m", {})
    common = ["FusedMatMul", "FusedAttention", "FusedElemwise", "BatchNorm", "ConvTranspose"]
    for k, node in enumerate(n for n in report["nodes"] if n["kind"] == "operator"):
        node["op"] = common[k % len(common)]
    shown = show(ModelReport(report))
    assert shown.get("graph.scale") < 0.6
    texts = texts_of_graph(shown)
    assert texts.count("FusedMatMul") == texts.count("ConvTranspose") == 30
    assert set(common) <= set(texts)


def test_a_network_of_thousands_of_operators_stays_usable(show, large):
    shown = show(large)
    page = shown.page
    assert shown.get("report.nodes.length") == 5002
    assert len(shown.pixels()) > 10
    page.fill("#search", "softmax.4321.")
    page.press("#search", "Enter")
    k = shown.get("chosen")
    assert only(large)["nodes"][k]["name"].startswith("softmax.4321.") or "4321" in page.inner_text("#details")
    # What is in view decides what is drawn: near by it is a small part of all.
    drawn = page.evaluate(
        """() => {
            const { graph } = reportPage, { left, top, scale } = graph, [w, h] = graph.size;
            return graph.boxes.within(-left / scale, -top / scale, (w - left) / scale, (h - top) / scale).length;
        }"""
    )
    assert 0 < drawn < 400


def test_names_from_a_file_are_shown_and_do_nothing(show):
    name = "<img src=x onerror=alert(1)>\"'</script><script>alert(2)</script>\x1b[31m&amp;"
    record = ModelRecord("v2", 101300, [input_operator(0, name, (2, 3))], [(1, "")], {1: name + "out"})
    record.operators.append(operator("Softmax", (0,), (1,), params.Softmax(axis=1)))
    model = load_model(to_bytes(record))
    session = Session(model, SessionConfig(explain=True))
    session.set_array(model.input_names[0], np.ones((2, 3), np.float32))
    shown = show(ModelReport(with_runs(session, name, 1, 0)))
    page = shown.page
    text = name.replace("\x1b", "\\x1b")
    assert page.title() == page.inner_text("h1") == text
    shown.page.evaluate("() => reportPage.choose(1)")
    assert text + "out" in page.inner_text("#details")
    assert page.locator("img").count() == 0 and page.locator("script").count() == 2


@pytest.mark.parametrize("measured", [True, False])
def test_what_is_above_the_graph_ends_where_the_page_ends(show, digits, measured):
    report = digits if measured else ModelReport(without_run(load_model(DIGITS), "m", {}))
    page = show(report).page
    last, below = page.locator("#legend" if measured else "#fit"), page.locator("#details")
    ends = [box["x"] + box["width"] for box in (last.bounding_box(), below.bounding_box())]
    assert ends[0] == pytest.approx(ends[1], abs=1)


def test_unknown_operators_are_marked_and_told_of(show):
    builder = GraphBuilder()
    x = builder.input("x", (2, 3))
    graph = builder.finish(builder.node("Frobnicate", None, [x], name="what"))
    model = session_of(GraphBuilder().finish()).model
    model.graph, model.input_names, model.output_names = graph, ["x"], graph.output_names
    shown = show(ModelReport(without_run(model, "m", {})))
    page = shown.page
    assert "1 operator is not supported" in page.inner_text("#problem")
    assert "not known" in page.inner_text("#legend") and "Frobnicate" in page.inner_text("#details")
    for section in ("time", "roofline", "memory", "numpy", "weights"):
        assert not page.locator(f"#section-{section}").is_visible()
    shown.page.evaluate("() => reportPage.choose(1)")
    assert "not known here" in page.inner_text("#details")


def test_the_operator_that_ends_the_run_is_marked_and_told_of(show):
    text = """(float[n, 4] x) => (float[a, b] y) <int64[2] sizes = {2, 6}> {
        r = Relu(x) bad = Reshape(r, sizes) y = Exp(bad)
    }"""
    network = onnx_models.load(onnx_models.bytes_of_text(text))
    network.get_io_tensor("x").set_data_by_copy(np.zeros([5, 4], np.float32))
    shown = show(network.report(runs=1))
    page = shown.page
    assert "Reshape 'bad'" in page.inner_text("#problem")
    assert "fails" in page.inner_text("#legend") and "fails" in texts_of_graph(shown)
    assert "THE RUN ENDS AT" in page.inner_text("#details").upper()
    red = shown.pixels().get("179,38,30", 0)
    page.click("#details .link >> text=Reshape bad")
    assert "The run ends here" in page.inner_text("#details") and red > 50


def test_what_is_not_known_inside_of_an_operator_is_shown_with_it(show, tmp_path):
    pytest.importorskip("onnx")
    from onnx import helper

    branches = {
        f"{kind}_branch": helper.make_graph(
            [helper.make_node(op, ["x"], ["r"], domain="other" if op == "Frobnicate" else "", name="<b>inner</b>")],
            "branch", [], [helper.make_tensor_value_info("r", 1, None)],
        )
        for kind, op in (("then", "Frobnicate"), ("else", "Neg"))
    }  # fmt: skip
    made = onnx_models.make(
        [helper.make_node("If", ["flag"], ["y"], name="choice", **branches)],
        [("x", 1, [4]), ("flag", 9, [])], [("y", 1, None)], opsets=[helper.make_opsetid("other", 1)],
    )  # fmt: skip
    path = tmp_path / "m.onnx"
    path.write_bytes(made.SerializeToString())
    report = ModelReport(without_run(load_model(str(path), check=False), "m.onnx", {}))
    page = show(report).page
    assert "If choice with other.Frobnicate <b>inner</b>" in page.inner_text("#details")
    page.click("#details >> text=If choice")
    assert "other.Frobnicate <b>inner</b>" in page.inner_text("#details")


def test_printed_page_is_light_and_fits_the_paper(show, digits):
    shown = show(digits.beside(digits, ("a" * 60, "b" * 60)), scheme="dark")
    page = shown.page
    page.evaluate("() => dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    page.set_viewport_size({"width": 700, "height": 990})
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 700
    wide = (
        "() => [...document.querySelectorAll('table, svg')].filter((e) => e.getBoundingClientRect().right > 701).length"
    )
    assert page.evaluate(wide) == 0
    page.emulate_media(media="screen")
    page.evaluate("() => dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("() => document.documentElement.classList.contains('dark')")
    shown.wait("complete")


def test_loops_say_how_often_their_operators_ran(show):
    text = """(float[4, 4] x, int64 n) => (float[4, 4] y) {
        y = Loop(n, , x) <body = inside (int64 k, bool on, float[4, 4] s) => (bool next, float[4, 4] t) {
            next = Identity(on)
            m = MatMul(s, x)
            t = Softmax(m)
        }>
    }"""
    network = onnx_models.load(onnx_models.bytes_of_text(text))
    network.get_io_tensor("x").set_data_by_copy(np.eye(4, dtype=np.float32))
    network.get_io_tensor("n").set_data_by_copy(np.array([7], np.int32))
    report = network.report(runs=1, warmup=0)
    shown = show(report)
    names = [n["name"] for n in report.content["reports"][0]["nodes"]]
    shown.page.evaluate(f"() => reportPage.choose({names.index('t')})")
    assert "7 times" in shown.page.inner_text("#details")
    loop = next(k for k, n in enumerate(report.content["reports"][0]["nodes"]) if "rounds" in n)
    shown.page.evaluate(f"() => reportPage.choose({loop})")
    assert re.search(r"rounds\s+7", shown.page.inner_text("#details"))
