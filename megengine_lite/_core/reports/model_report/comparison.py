"""Two reports side by side: totals, kinds of operators, and operators of the same name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

MOST_PAIRS = 200


def _by_kind(report: Mapping[str, Any]) -> dict[str, float]:
    found: defaultdict[str, float] = defaultdict(float)
    for node in report["nodes"]:
        if node["kind"] == "operator":
            found[node["op"]] += node.get("ms", 0.0)
    return found


def _by_name(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The operators whose name no other has."""
    found: dict[str, dict[str, Any]] = {}
    twice = set()
    for node in report["nodes"]:
        if node["kind"] == "operator" and node["name"]:
            if node["name"] in found:
                twice.add(node["name"])
            found[node["name"]] = node
    return {name: node for name, node in found.items() if name not in twice}


def _kernels(node: Mapping[str, Any]) -> str:
    return ", ".join(k["kernel"] for k in node.get("kernels", ()))


def _settings(report: Mapping[str, Any]) -> dict[str, str]:
    """On what and how a model ran; nothing if it did not."""
    if "ms" not in report:
        return {}
    machine = {name: str(value) for name, value in report["machine"].items()}
    return {**machine, "fusion": "on" if report["settings"]["fusion"] else "off"}


def compare_reports(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    """Times of both, in milliseconds; the greatest differences come first.

    None stands for a model that did not run, and among kinds of operators for one that has none of that kind.
    ``problems`` says why one did not. ``settings`` are those that differ between two that ran; ``parameters`` and
    ``file_operators`` are those of the files, None if a file cannot be read.
    """
    times = [_by_kind(r) if "ms" in r else None for r in (a, b)]
    ran = [t for t in times if t is not None]
    kinds = [
        {"op": op, "ms": [None if t is None else t.get(op) for t in times]}
        for op in sorted({op for t in ran for op in t}, key=lambda op: -max(t.get(op, 0.0) for t in ran))
    ]
    nodes_a, nodes_b = (_by_name(r) if len(ran) == 2 else {} for r in (a, b))
    pairs = [
        {
            "name": name,
            "ops": [node["op"], nodes_b[name]["op"]],
            "ms": [node.get("ms", 0.0), nodes_b[name].get("ms", 0.0)],
            "kernels": [_kernels(node), _kernels(nodes_b[name])],
        }
        for name, node in nodes_a.items()
        if name in nodes_b
    ]
    pairs.sort(key=lambda p: -abs(p["ms"][0] - p["ms"][1]))
    settings_a, settings_b = _settings(a), _settings(b)
    return {
        "names": [a["name"], b["name"]],
        "problems": [r["problem"] for r in (a, b)],
        "parameters": [r["model"]["parameters"] if "model" in r else None for r in (a, b)],
        "file_operators": [r["model"]["file_operators"] if "model" in r else None for r in (a, b)],
        "settings": [
            {"name": name, "values": [settings_a.get(name, ""), settings_b.get(name, "")]}
            for name in dict.fromkeys([*settings_a, *settings_b])
            if len(ran) == 2 and settings_a.get(name) != settings_b.get(name)
        ],
        "ms": [r["ms"]["median"] if "ms" in r else None for r in (a, b)],
        "arena": [r["memory"]["arena"] if "memory" in r else None for r in (a, b)],
        "weights": [r["memory"]["weights"] if "memory" in r else None for r in (a, b)],
        "operators": [sum(n["kind"] == "operator" for n in r["nodes"]) if "ms" in r else None for r in (a, b)],
        "kinds": kinds,
        "pairs": pairs[:MOST_PAIRS],
    }
