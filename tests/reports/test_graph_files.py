"""The graph of a report as SVG, DOT and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from html import unescape
from typing import Any
from xml.etree import ElementTree

import pytest

from megengine_lite._core.reports.model_report.graph_files import FORMS, to_dot, to_json, to_svg, writer_of
from megengine_lite._core.reports.model_report.graph_layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from megengine_lite._core.reports.model_report.report import ModelReport
from megengine_lite.errors import LiteValueError

SVG = "{http://www.w3.org/2000/svg}"
EVIL = '</title><script>alert("1")</script>\x1b[2J]]>&lt;&\\N\n' + "\ud800"
TEXT = '</title><script>alert("1")</script>\\x1b[2J]]>&lt;&\\N\n\\ud800'


def report(nodes: Sequence[Mapping[str, Any]], edges: Sequence[tuple[int, int]], name: str = "m.mge") -> dict[str, Any]:
    """As a report has it, in which names have been made harmless for terminals."""
    (made,) = ModelReport({"name": name, "problem": None, "nodes": nodes, "edges": edges}).content["reports"]
    return made


def node(name: str, kind: str = "operator", **facts: Any) -> dict[str, Any]:
    return {"kind": kind, "op": "Conv", "name": name, **facts}


def tensor(*shape: int) -> dict[str, Any]:
    return {"type": "float32", "shape": list(shape)}


SMALL = report(
    [
        node("x", "input", outputs=[tensor(1, 3, 8, 8)]),
        node("c", inputs=[tensor(1, 3, 8, 8)], outputs=[tensor(1, 4, 6, 6)], operations=7776, parameters={"pad": 1}),
        node("f", unknown=True, outputs=[{"type": None, "shape": None}]),
        node("y", "output"),
    ],
    [(0, 1), (1, 2), (2, 3), (0, 3)],
)


def test_drawing_has_every_box_and_arrow_at_its_place():
    root = ElementTree.fromstring(to_svg(SMALL))
    layout = lay_out(4, SMALL["edges"])
    boxes = [g for g in root.findall(f"{SVG}g") if g.get("class")]
    assert [g.get("class") for g in boxes] == ["input", "operator", "operator unknown", "output"]
    places = [tuple(map(float, re.findall(r"[-\d.]+", g.get("transform") or ""))) for g in boxes]
    assert places == [(x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2) for x, y in zip(layout.x, layout.y, strict=True)]
    assert [[t.text for t in g.iter(f"{SVG}text")] for g in boxes] == [["Conv", name] for name in "xcfy"]
    arrows = [p.get("d") or "" for p in root.findall(f"{SVG}path")]
    assert len(arrows) == 4
    for arrow, points in zip(arrows, layout.paths, strict=True):
        numbers = [float(n) for n in re.findall(r"-?[\d.]+", arrow)]
        assert numbers[:2] == points[:2] and numbers[-2:] == points[-2:]
    left, top, width, height = map(float, (root.get("viewBox") or "").split())
    assert (left, top, width, height) == (-12, -12, round(layout.width + 24), round(layout.height + 24))


def test_a_pointer_shows_shapes_and_parameters():
    root = ElementTree.fromstring(to_svg(SMALL))
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert titles[0] == "m.mge"
    assert titles[2] == (
        "Conv c\ninputs: float32 1x3x8x8\noutputs: float32 1x4x6x6\n7.78 K operations\npad: 1"
    )  # fmt: skip
    assert titles[3] == "Conv f\nnot supported\noutputs: ? ?"


def test_names_that_are_too_long_are_cut():
    names = ["n" * 19, "n" * 20, "漢" * 10, "漢" * 11, ""]
    root = ElementTree.fromstring(to_svg(report([node(name) for name in names], [])))
    assert [list(g.iter(f"{SVG}text"))[1].text or "" for g in root.findall(f"{SVG}g")] == [
        "n" * 19, "n" * 18 + "…", "漢" * 10, "漢" * 9 + "…", "",
    ]  # fmt: skip


# ---- DOT and JSON ---------------------------------------------------------------------------------------------------

STRING = r'"((?:[^"\\]|\\.)*)"'


def strings(line: str) -> list[str]:
    """The strings of a line of DOT, as Graphviz shows them; nothing else is in quotes."""
    assert line.count("\n") == 0
    found = re.findall(STRING, line)
    assert '"' not in re.sub(STRING, "", line)
    assert not any(re.search(r"&(?!amp;)", text) for text in found)
    return [unescape(re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text)) for text in found]


def test_text_for_graphviz_has_every_box_and_arrow():
    lines = to_dot(SMALL).splitlines()
    assert lines[0] == 'digraph "m.mge" {' and lines[-1] == "}"
    labels = [strings(line)[0] for line in lines[2:6]]
    assert labels == ["Conv\nx\n1x3x8x8", "Conv\nc\n1x4x6x6", "Conv\nf\n?", "Conv\ny"]
    assert "color=red" in lines[4] and "style=rounded" in lines[2]
    assert lines[6:-1] == ["n0 -> n1;", "n1 -> n2;", "n2 -> n3;", "n0 -> n3;"]


def test_json_has_the_boxes_of_the_report():
    assert json.loads(to_json(SMALL)) == {k: SMALL[k] for k in ("name", "nodes", "edges")}


# ---- names that are no names ----------------------------------------------------------------------------------------


def evil() -> dict[str, Any]:
    return report([{**node(EVIL, parameters={EVIL: EVIL}), "op": EVIL}, node("y", "output")], [(0, 1)], EVIL)


def test_names_in_drawings_are_only_text():
    root = ElementTree.fromstring(to_svg(evil()).encode())
    assert {e.tag.removeprefix(SVG) for e in root.iter()} == {
        "svg", "title", "style", "defs", "marker", "path", "clipPath", "rect", "g", "text"
    }  # fmt: skip
    titles = [t.text for t in root.iter(f"{SVG}title")]
    assert titles[0] == TEXT and titles[1] == f"{TEXT} {TEXT}\n{TEXT}: {TEXT}"
    assert {a for e in root.iter() for a in e.attrib if a.startswith("on") or "href" in a} == set()


def test_names_in_text_for_graphviz_are_only_text():
    lines = to_dot(evil()).splitlines()
    flat = TEXT.replace("\n", " ")
    assert strings(lines[0]) == [flat] and strings(lines[2]) == [f"{flat}\n{flat}", f"{flat} {flat}\n{flat}: {flat}"]
    assert json.loads(to_json(evil()))["nodes"][0]["name"] == TEXT


# ---- sizes ----------------------------------------------------------------------------------------------------------


def test_a_graph_of_5000_boxes_is_drawn():
    count = 5000
    edges = [(k // 2, k) for k in range(1, count)] + [(k - 1, k) for k in range(1, count, 3)]
    large = report([node(f"n{k}", outputs=[tensor(1, k)]) for k in range(count)], edges)
    root = ElementTree.fromstring(to_svg(large))
    assert len(root.findall(f"{SVG}g")) == count and len(root.findall(f"{SVG}path")) == len(edges)
    lines = to_dot(large).splitlines()
    assert len(lines) == 3 + count + len(edges) and lines[-2] == f"n{edges[-1][0]} -> n{edges[-1][1]};"


@pytest.mark.parametrize("form", FORMS)
def test_an_empty_graph_is_written(form):
    text = FORMS[form](report([], []))
    assert "m.mge" in text and "->" not in text


@pytest.mark.parametrize("form", FORMS)
def test_the_name_of_the_file_says_the_form(form):
    assert writer_of(f"a.b/c.{form.upper()}") is FORMS[form]


@pytest.mark.parametrize("name", ["graph", "graph.png", "svg", ".svg", "graph.svg/"])
def test_other_names_are_an_error_that_says_what_there_is(name):
    with pytest.raises(LiteValueError, match=r"\.svg, \.dot \(or \.gv\) or \.json"):
        writer_of(name)
