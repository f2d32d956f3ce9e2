"""A report as Markdown: the tables of the page as text."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from megengine_lite._core.reports.differences import has_numbers
from megengine_lite._core.reports.model_report.layers import name_of_pair, note_on_doubts, state_of_pair
from megengine_lite._core.reports.units import bytes_text, count_text, counted, ratio_text, shape_text

# Rows of tables that may be long.
MOST_ROWS = 20


# What would be markup. Names of kernels and times have no backslashes, since many read the text as it is: an underscore
# inside of a word is no markup, nor is a bracket or parenthesis that makes no link.
_MARKUP = re.compile(r"[\\`*<|~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])[\[(:]|\[(?=[\[^])|(?<=\{)\{|&(?=[#\w])|#(?=#*$)")
# Words that GitHub makes links of, whatever is escaped in them: addresses, people, issues.
_WORD = re.compile(r"[^\s|`]+")
_LINK = re.compile(r"https?://|ftp://|www\.|@\w|(?<!&)#\d", re.IGNORECASE)
_BEGINS_BLOCK = re.compile(r"^(\d*)([#>+.)=-])")


def cell(value: object) -> str:
    """Text in which nothing is markup: a name may look like a link, HTML, or the end of a cell."""
    text = str(value).replace("\n", " ")
    parts, end = [], 0
    for word in _WORD.finditer(text):
        if _LINK.search(word[0]):
            parts += [_escaped(text[end : word.start()]), f"`{word[0]}`"]
            end = word.end()
    return "".join([*parts, _escaped(text[end:])])


def _escaped(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", text)


def line(text: str) -> str:
    """The same for a line that begins with it, where a name may look like a heading or an item of a list."""
    return _BEGINS_BLOCK.sub(r"\1\\\2", cell(text))


def table(header: Sequence[str], rows: Iterable[Sequence[object]], right: int = 0) -> list[str]:
    """Lines of a table; the last ``right`` columns are aligned to the right."""
    sides = ["---"] * (len(header) - right) + ["---:"] * right
    lines = [f"| {' | '.join(header)} |", f"|{'|'.join(sides)}|"]
    return [*lines, *(f"| {' | '.join(map(cell, row))} |" for row in rows), ""]


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _share(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _runs(node: Mapping[str, Any]) -> str:
    """How often an operator runs in a run of the model."""
    return counted(node["rounds"], "round") if "rounds" in node else str(node.get("runs", 1))


def _speed(node: Mapping[str, Any]) -> str:
    return f"{node['operations'] / node['ms'] * 1e-6:.1f}" if node.get("ms") and node["operations"] else ""


def _head(report: Mapping[str, Any]) -> list[str]:
    lines = [f"# {cell(report['name'])}", ""]
    if report["problem"]:
        lines += [f"**Does not run:** {cell(report['problem'])}", ""]
    if report.get("note"):
        lines += [f"Note: {cell(report['note'])}.", ""]
    rows: list[tuple[str, str]] = []
    facts = report.get("model")
    if facts is not None:
        size = report["file_bytes"]
        rows = [
            ("format", f"{facts['container']['format']}{f', {bytes_text(size)}' if size else ''}"),
            ("operators in the file", str(facts["file_operators"])),
            ("parameters", f"{count_text(facts['parameters'])}, {bytes_text(facts['parameter_bytes'])}"),
            ("multiply-adds", count_text(facts["multiply_adds_total"]) + ("" if facts["complete"] else ", or more")),
        ]
        for kind in ("inputs", "outputs"):
            rows += [(kind[:-1], f"{t['name']} {t['dtype'] or '?'} {shape_text(t['shape'])}") for t in facts[kind]]
    rows += [(title, str(value)) for title, value in report.get("machine", {}).items()]
    if "ms" in report:
        ms = report["ms"]
        rows.append(("time of a run", f"{_ms(ms['median'])} ms ({_ms(ms['fastest'])} to {_ms(ms['slowest'])})"))
        rows.append(("speed", f"{report['operations'] / ms['median'] * 1e-6:.1f} GFLOP/s"))
    if "roof" in report:
        roof = report["roof"]
        rows.append(("highest measured speed", f"{roof['gflops']:.1f} GFLOP/s"))
        rows += [(f"bandwidth of the {b['name']}", f"{b['gb_per_s']:.1f} GB/s") for b in roof["bandwidths"]]
    if "memory" in report:
        memory = report["memory"]
        rows += [(f"memory: {k}", bytes_text(memory[k])) for k in ("arena", "weights", "scratch", "outputs")]
    rows.append(("made by", f"{report['made_by']}, {report['made_at']}"))
    return [*lines, *table(("", ""), rows)]


def _operators(report: Mapping[str, Any]) -> list[str]:
    nodes = [n for n in report["nodes"] if n["kind"] == "operator"]
    unknown = [n for n in nodes if n.get("unknown")]
    lines = []
    if unknown:
        lines += ["## Operators that are not supported", ""]
        lines += table(
            ("operator", "name", "inside"), ((n["op"], n["name"], ", ".join(n.get("inside", ()))) for n in unknown)
        )
    if failed := [n for n in nodes if n.get("failed")]:
        lines += ["## Where the run ends with an error", ""]
        lines += table(("operator", "name"), ((n["op"], n["name"]) for n in failed))
    if "ms" not in report:
        return lines
    total = report["steps_ms"]
    kinds: defaultdict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for node in nodes:
        kinds[node["op"]].append(node)
    sums = sorted(
        ((op, len(some), sum(n.get("ms", 0.0) for n in some)) for op, some in kinds.items()), key=lambda s: -s[2]
    )
    lines += ["## Time by kind of operator", ""]
    lines += [
        f"Shares are parts of the {_ms(total)} ms of all steps; a run takes {_ms(report['ms']['median'])} ms.",
        "",
    ]
    lines += table(("operator", "count", "ms", "share"), ((op, n, _ms(ms), _share(ms, total)) for op, n, ms in sums), 3)
    slowest = sorted(nodes, key=lambda n: -n.get("ms", 0.0))[:MOST_ROWS]
    again = any("runs" in n or "rounds" in n for n in nodes)
    many = "operator that takes" if len(slowest) == 1 else f"{len(slowest)} operators that take"
    lines += [f"## The {many} longest", ""]
    lines += table(
        ("operator", "name", "output", "kernels", *(["runs"] if again else []), "ms", "share", "GFLOP/s"),
        (
            (
                n["op"],
                n["name"],
                " ".join(shape_text(t["shape"]) for t in n.get("outputs", ())[:1]),
                ", ".join(k["kernel"] for k in n.get("kernels", ())),
                *([_runs(n)] if again else []),
                _ms(n.get("ms")),
                _share(n.get("ms", 0.0), total),
                _speed(n) if "ms" in n else "",
            )
            for n in slowest
        ),
        4 if again else 3,
    )
    return [*lines, *_numpy(nodes, total)]


def in_numpy(nodes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The operators of which a step runs in numpy, the slowest first."""
    found = [n for n in nodes if any(k["kernel"] == "numpy" for k in n.get("kernels", ()))]
    return sorted(found, key=lambda n: -n["ms"])


def _numpy(nodes: Sequence[Mapping[str, Any]], total: float) -> list[str]:
    if not any("kernels" in n for n in nodes):  # a device that does not tell
        return []
    found = in_numpy(nodes)
    lines = ["## Operators that run in numpy", ""]
    if not found:
        return [*lines, "None: every step has a kernel.", ""]
    rows = ((n["op"], n["name"], _ms(n["ms"]), _share(n["ms"], total)) for n in found[:MOST_ROWS])
    return [*lines, *table(("operator", "name", "ms", "share"), rows, 2)]


def _weights(report: Mapping[str, Any]) -> list[str]:
    weights = report.get("weights", ())[:MOST_ROWS]
    if not weights:
        return []
    rows = ((w["name"], w["type"], shape_text(w["shape"]), _readers(w), bytes_text(w["bytes"])) for w in weights)
    return ["## The largest weights", "", *table(("name", "type", "shape", "read by", "size"), rows, 1)]


def _readers(weight: Mapping[str, Any]) -> str:
    named = ", ".join(weight["by"])
    return f"{named} and {weight['more']} more" if weight["more"] else named


def _comparison(found: Mapping[str, Any]) -> list[str]:
    a, b = found["names"]
    lines = ["# Comparison", ""]
    for name, problem in zip(found["names"], found["problems"], strict=True):
        if problem:
            lines += [f"**{cell(name)} does not run:** {cell(problem)}", ""]
    if found["settings"]:
        lines += table(("", cell(a), cell(b)), ((s["name"], *s["values"]) for s in found["settings"]))
    header = ("operator", f"ms, {cell(a)}", f"ms, {cell(b)}", "ratio")
    rows = [("all", *map(_ms, found["ms"]), ratio_text(found["ms"]))]
    rows += [(k["op"], *map(_ms, k["ms"]), ratio_text(k["ms"])) for k in found["kinds"]]
    lines += table(header, rows, 3)
    if not found["pairs"]:
        return lines
    lines += ["## The greatest differences", ""]
    pairs = ((p["name"], *p["kernels"], *map(_ms, p["ms"]), ratio_text(p["ms"])) for p in found["pairs"][:MOST_ROWS])
    return [*lines, *table(("name", "kernels", "kernels of the other", *header[1:]), pairs, 3)]


_NUMBERS = ("unequal", "difference", "relative", "snr_db", "cosine")


def _short(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number + 0.0:.3g}"


def _layers(found: Mapping[str, Any]) -> list[str]:
    lines = ["# Where results differ", ""]
    first = found["first"]
    if first is None:
        return [*lines, f"Nowhere: {len(found['layers'])} results are the same within {found['tolerance']:g}.", ""]
    layers = found["layers"][max(0, first - 3) : first + 5]
    rows = (
        (
            layer["op"],
            name_of_pair(layer),
            *("" if not has_numbers(layer) or layer[k] is None else _short(layer[k]) for k in _NUMBERS),
            state_of_pair(layer),
        )
        for layer in layers
    )
    header = ("operator", "name", "unequal", "difference", "relative", "SNR dB", "cosine", "")
    named = f"{found['layers'][first]['op']} {found['layers'][first]['name']}"
    lines += [f"The first that differs: {cell(named)}. {found['note']}".rstrip(), "", *table(header, rows)]
    doubts = note_on_doubts(layers)
    return [*lines, doubts, ""] if doubts else lines


def to_markdown(content: Mapping[str, Any]) -> str:
    """The text for ``reports``, and ``comparison`` and ``layers`` if the content has them."""
    lines: list[str] = []
    for report in content["reports"]:
        lines += [*_head(report), *_operators(report), *_weights(report)]
    if "comparison" in content:
        lines += _comparison(content["comparison"])
    if "layers" in content:
        lines += _layers(content["layers"])
    return "\n".join(lines)
