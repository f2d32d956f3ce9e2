"""Where the boxes and arrows of a report stand."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from megengine_lite._core.reports.model_report.graph_layout import BOX_HEIGHT, BOX_WIDTH, GAP_X, GAP_Y, lay_out


def network(count: int, seed: int = 0) -> list[tuple[int, int]]:
    """A chain with branches, and a few connections over any distance."""
    rng = random.Random(seed)
    edges = set()
    for k in range(1, count):
        edges.add((k - 1 if rng.random() < 0.8 else max(0, k - rng.randint(1, 8)), k))
        if rng.random() < 0.2:
            edges.add((max(0, k - rng.randint(2, 30)), k))
        if rng.random() < 0.02:
            edges.add((rng.randint(0, k - 1), k))
    return sorted(edges)


GRAPHS = {
    "nothing": (0, []),
    "one": (1, []),
    "chain": (400, list(pairwise(range(400)))),
    "alone": (300, []),
    "fan": (300, [(0, k) for k in range(1, 299)] + [(k, 299) for k in range(1, 299)]),
    "ladder": (200, [(k, k + d) for k in range(200) for d in (1, 2) if k + d < 200]),
    "skips": (200, [*pairwise(range(200)), *((k, 199 - k) for k in range(99))]),
    "network": (300, network(300)),
    "large": (5000, network(5000)),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_boxes_do_not_overlap(name):
    count, edges = GRAPHS[name]
    layout = lay_out(count, edges)
    assert len(layout.x) == len(layout.y) == count and len(layout.paths) == len(edges)
    rows: dict[float, list[float]] = {}
    for x, y in zip(layout.x, layout.y, strict=True):
        assert BOX_WIDTH / 2 - 0.1 <= x <= layout.width - BOX_WIDTH / 2 + 0.1
        assert BOX_HEIGHT / 2 - 0.1 <= y <= layout.height - BOX_HEIGHT / 2 + 0.1
        rows.setdefault(y, []).append(x)
    for xs in rows.values():
        assert all(b - a >= BOX_WIDTH + GAP_X - 0.2 for a, b in pairwise(sorted(xs)))
    ys = sorted(rows)
    assert all(b - a >= BOX_HEIGHT + GAP_Y - 0.2 for a, b in pairwise(ys))


@pytest.mark.parametrize("name", GRAPHS)
def test_arrows_lead_from_the_bottom_of_one_box_to_the_top_of_another(name):
    count, edges = GRAPHS[name]
    layout = lay_out(count, edges)
    for (source, target), path in zip(edges, layout.paths, strict=True):
        assert len(path) >= 4 and len(path) % 2 == 0
        assert path[:2] == pytest.approx([layout.x[source], layout.y[source] + BOX_HEIGHT / 2], abs=0.11)
        assert path[-2:] == pytest.approx([layout.x[target], layout.y[target] - BOX_HEIGHT / 2], abs=0.11)


def test_a_network_is_cut_into_columns_of_the_form_of_a_screen():
    for name in ("chain", "network", "large", "skips"):
        layout = lay_out(*GRAPHS[name])
        assert 0.8 < layout.width / layout.height < 4, name


def test_a_short_network_is_one_column():
    layout = lay_out(6, list(pairwise(range(6))))
    assert len(set(layout.x)) == 1 and layout.y == sorted(layout.y)


def test_a_chain_is_straight_inside_of_a_column():
    layout = lay_out(*GRAPHS["chain"])
    columns = sorted(set(layout.x))
    assert len(columns) < 20
    straight = sum(len(path) == 4 and path[0] == path[2] for path in layout.paths)
    assert straight == len(layout.paths) - (len(columns) - 1)


def test_arrows_of_a_network_do_not_run_through_boxes():
    count, edges = GRAPHS["network"]
    layout = lay_out(count, edges)
    boxes = list(zip(layout.x, layout.y, strict=True))
    through = 0
    for path in layout.paths:
        points = list(zip(path[::2], path[1::2], strict=True))
        for (x0, y0), (x1, y1) in pairwise(points):
            if x0 == x1:  # the vertical parts, which are long
                top, low = sorted((y0, y1))
                through += any(
                    abs(x - x0) < BOX_WIDTH / 2 - 1 and top < y - BOX_HEIGHT / 2 - 1 and low > y + BOX_HEIGHT / 2 + 1
                    for x, y in boxes
                )
    assert through == 0
