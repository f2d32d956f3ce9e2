"""The graph of a report as a file of its own: a drawing (SVG), text for Graphviz (DOT), or JSON.

Texts come from the report, in which nothing is left that a terminal obeys; here they are kept from being markup.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from html import escape
from typing import Any
from unicodedata import east_asian_width

from megengine_lite._core.reports.model_report.graph_layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from megengine_lite._core.reports.units import count_text, shape_text
from megengine_lite.errors import LiteValueError, brief

_EDGE = 12
"""Around the drawing."""
# Characters that fit into a box, of about the mean width; the box cuts off what is wider.
_MOST_WIDTH = 19
# Parameters and tensors in the text that a pointer shows.
_MOST_LISTED = 12
_STYLE = """\
svg { background: #fff; font: 11px system-ui, "DejaVu Sans", sans-serif; }
path { fill: none; stroke: #9aa3af; } .head { fill: #9aa3af; stroke: none; }
rect { fill: #fff; stroke: #a9b1bc; } .input rect, .output rect { fill: #f6f7f9; }
.unknown rect, .failed rect { stroke: #b3261e; stroke-width: 2.5; } text { fill: #1c2127; } .op { font-weight: 600; }
@media (prefers-color-scheme: dark) {
svg { background: #14171c; } path { stroke: #66707d; } .head { fill: #66707d; }
rect { fill: #1c2128; stroke: #5b6572; } .input rect, .output rect { fill: #14171c; }
.unknown rect, .failed rect { stroke: #ff8f86; }
text { fill: #e4e8ee; }
}
"""


def _about(node: Mapping[str, Any]) -> Iterator[str]:
    """Lines about a box."""
    yield f"{node['op']} {node['name']}"
    if node.get("unknown"):
        yield f"not supported: {', '.join(node['inside'])}" if node.get("inside") else "not supported"
    if node.get("failed"):
        yield "the run ends here with an error"
    for title in ("inputs", "outputs"):
        tensors = node.get(title, ())
        shown = [f"{t['type'] or '?'} {shape_text(t['shape'])}" for t in tensors[:_MOST_LISTED]]
        if shown:
            yield f"{title}: {', '.join(shown)}{', ...' if len(tensors) > len(shown) else ''}"
    if node.get("operations"):
        yield f"{count_text(node['operations'])} operations"
    for name, value in list(node.get("parameters", {}).items())[:_MOST_LISTED]:
        yield f"{name}: {value}"


# ---- a drawing -------------------------------------------------------------------------------------------------------


def to_svg(report: Mapping[str, Any]) -> str:
    """A drawing in light or dark colours, as the reader's system has them. A pointer over a box shows more of it."""
    nodes = report["nodes"]
    layout = lay_out(len(nodes), [(source, target) for source, target in report["edges"]])
    width, height = layout.width + 2 * _EDGE, layout.height + 2 * _EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{-_EDGE} {-_EDGE} {width:.0f} {height:.0f}">',
        f"<title>{escape(report['name'])}</title>",
        f"<style>\n{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 7 6" refX="3.5" refY="6" markerWidth="7" markerHeight="6" '
        'markerUnits="userSpaceOnUse"><path class="head" d="M0 0L7 0L3.5 6z"/></marker>',
        f'<clipPath id="box"><rect width="{BOX_WIDTH:g}" height="{BOX_HEIGHT:g}"/></clipPath></defs>',
        *(f'<path marker-end="url(#head)" d="{_path(points)}"/>' for points in layout.paths),
    ]
    for node, x, y in zip(nodes, layout.x, layout.y, strict=True):
        lines += _box(node, x - BOX_WIDTH / 2, y - BOX_HEIGHT / 2)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _path(points: Sequence[float]) -> str:
    """Lines where two points lie beside or below each other, otherwise curves that leave and arrive vertically."""
    x0, y0 = points[:2]
    parts = [f"M{x0:g} {y0:g}"]
    for k in range(2, len(points), 2):
        x1, y1 = points[k : k + 2]
        middle = (y0 + y1) / 2
        curve = "" if x0 == x1 or y0 == y1 else f"C{x0:g} {middle:g} {x1:g} {middle:g} "
        parts.append(f"{curve or 'L'}{x1:g} {y1:g}")
        x0, y0 = x1, y1
    return "".join(parts)


def _box(node: Mapping[str, Any], x: float, y: float) -> list[str]:
    kinds = " ".join([node["kind"], *(name for name in ("unknown", "failed") if node.get(name))])
    radius = 5 if node["kind"] == "operator" else BOX_HEIGHT / 2
    return [
        f'<g class="{kinds}" transform="translate({x:g} {y:g})">',
        f"<title>{escape(chr(10).join(_about(node)))}</title>",
        f'<rect width="{BOX_WIDTH:g}" height="{BOX_HEIGHT:g}" rx="{radius:g}"/>',
        f'<g clip-path="url(#box)"><text class="op" x="8" y="16">{escape(_fitting(node["op"]))}</text>',
        f'<text x="8" y="31">{escape(_fitting(node["name"]))}</text></g></g>',
    ]


def _fitting(text: str) -> str:
    """The text, or as much of its beginning as fits into a box."""
    taken = 0.0
    for k, character in enumerate(text):
        taken += 1.8 if east_asian_width(character) in "WF" else 1.0
        if taken > _MOST_WIDTH:
            return f"{text[: max(k - 1, 0)]}…"
    return text


# ---- text ------------------------------------------------------------------------------------------------------------


def to_dot(report: Mapping[str, Any]) -> str:
    """Text for Graphviz: ``dot -Tpdf``."""
    lines = [f"digraph {_quoted([report['name']])} {{", 'node [shape=box, fontname="sans-serif"];']
    for k, node in enumerate(report["nodes"]):
        shapes = " ".join(shape_text(t["shape"]) for t in node.get("outputs", ())[:_MOST_LISTED])
        shown = [text for text in (node["op"], node["name"], shapes) if text]
        style = ", style=rounded" if node["kind"] != "operator" else ""
        if node.get("unknown") or node.get("failed"):
            style = ", color=red"
        lines.append(f"n{k} [label={_quoted(shown)}, tooltip={_quoted([*_about(node)])}{style}];")
    lines += [f"n{source} -> n{target};" for source, target in report["edges"]]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(lines: Sequence[str]) -> str:
    """Lines as a string of DOT, in which a backslash begins an escape, and an ampersand an entity as in HTML."""
    marks = str.maketrans({"\\": "\\\\", '"': '\\"', "&": "&amp;", "\n": " "})
    escaped = (line.translate(marks) for line in lines)
    return '"' + "\\n".join(escaped) + '"'


def to_json(report: Mapping[str, Any]) -> str:
    """``name``, ``nodes`` as reports have them, and ``edges`` by the places of nodes.

    Where the graph that is run has other operators than the file (``imported``), these are that graph's, and ``file``
    has both of the file, which is what a drawing shows.
    """
    found = {"name": report["name"], **_graph(report)}
    if "imported" in report:
        found = {"name": report["name"], **_graph(report["imported"]), "file": _graph(report)}
    return json.dumps(found, allow_nan=False, indent=1) + "\n"


def _graph(report: Mapping[str, Any]) -> dict[str, Any]:
    return {"nodes": report["nodes"], "edges": report["edges"]}


FORMS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "svg": to_svg, "dot": to_dot, "gv": to_dot, "json": to_json
}  # fmt: skip


def writer_of(path: str) -> Callable[[Mapping[str, Any]], str]:
    """What writes the form that a file's name ends in.

    Raises
    ------
    LiteValueError
        There is no such form.
    """
    form = os.path.splitext(path)[1].lower().lstrip(".")
    if form not in FORMS:
        raise LiteValueError(
            f"a graph is written as .svg, .dot (or .gv) or .json, not as {brief(path)}: choose a name that ends so"
        )
    return FORMS[form]
