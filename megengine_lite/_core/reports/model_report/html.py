"""The page for browsers: one file with everything in it, which asks nothing of a network.

The data are JSON inside of a script element that is not code. Nothing of them is ever markup: the page puts them into
text and into drawings only. The policy at its head allows the page's own script and style and nothing else, so that a
name that got through would still not run. It knows them by their digests, so the page is ASCII throughout, which is the
same in every encoding that somebody writes it in.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from html import escape
from pathlib import Path
from typing import Any

from megengine_lite._core.reports.differences import has_numbers
from megengine_lite._core.reports.model_report.graph_layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from megengine_lite._core.reports.model_report.layers import name_of_pair, note_on_doubts, state_of_pair

PAGE = Path(__file__).parent / "page"
SCRIPTS = (
    "basics.js",
    "graph.js",
    "details.js",
    "time.js",
    "roofline.js",
    "memory.js",
    "tables.js",
    "layers.js",
    "main.js",
)


def _source(name: str) -> str:
    return (PAGE / name).read_text("utf-8")


def _policy(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _as_data(content: Any) -> str:
    """JSON that may stand inside of a script element."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _drawn(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with the places of its boxes."""
    layout = lay_out(len(report["nodes"]), [(source, target) for source, target in report["edges"]])
    places = {
        "size": [round(layout.width), round(layout.height)],
        "box": [BOX_WIDTH, BOX_HEIGHT],
        "x": layout.x,
        "y": layout.y,
        "paths": layout.paths,
    }
    return {**report, "layout": places}


def _compared(found: Mapping[str, Any]) -> dict[str, Any]:
    """The comparison with what its table says in words."""
    layers = [
        {**layer, "title": name_of_pair(layer), "state": state_of_pair(layer), "has_numbers": has_numbers(layer)}
        for layer in found["layers"]
    ]
    return {**found, "layers": layers, "doubts": note_on_doubts(layers)}


def to_html(content: Mapping[str, Any]) -> str:
    """The page for ``reports``, and ``comparison`` and ``layers`` if the content has them."""
    script = '"use strict";\n(() => {\n' + "\n".join(map(_source, SCRIPTS)) + "})();\n"
    style = _source("style.css")
    reports = [_drawn(report) for report in content["reports"]]
    compared = {"layers": _compared(content["layers"])} if "layers" in content else {}
    title = " and ".join(dict.fromkeys(report["name"] for report in reports))
    policy = f"default-src 'none'; script-src {_policy(script)}; style-src {_policy(style)}; img-src data:"
    parts = {
        "policy": policy,
        "title": escape(title).encode("ascii", "xmlcharrefreplace").decode(),
        "style": style,
        "script": script,
        "data": _as_data({**content, "reports": reports, **compared}),
    }
    return re.sub(r"\{(\w+)\}", lambda found: parts[found[1]], _source("page.html"))
