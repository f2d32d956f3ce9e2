"""Where the boxes and arrows of a graph stand: in layers from top to bottom, and in columns like a text.

The method is that of Sugiyama: ranks, then an order inside of each rank that crosses few arrows, then places that make
arrows straight. Every step takes a time that is nearly proportional to the size, because graphs have thousands of
boxes. A network is much longer than wide, so its ranks are cut into columns where few arrows are cut.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from math import ceil, sqrt

from megengine_lite._records import field, record

BOX_WIDTH, BOX_HEIGHT = 150.0, 38.0
LANE_WIDTH = 10.0
"""Of an arrow that passes a rank."""
GAP_X, GAP_Y = 18.0, 26.0
GUTTER = 46.0
"""Between columns."""
ASPECT = 1.9
"""Of the whole picture, about that of the place on the page."""

_SWEEPS, _SWEEPS_OF_MANY = 4, 2
_MANY = 3000
# Points of arrows beside boxes, at most, for each box. The longest arrows are drawn straight if there would be more.
_MOST_LANES = 3
# Arrows between lanes are made straight before others.
_LANE_WEIGHT = 4.0
_LEAST_ROWS = 8
"""Of a column."""
# Arrows from one column to the next that have lines of their own.
_CONNECTORS = 6
# The columns are cut anew if the picture is so many times as wide as wanted, at most so often.
_TOO_WIDE, _TRIES = 1.3, 3


@record(slots=True)
class Layout:
    """Centres of boxes, and the points of each arrow as ``[x0, y0, x1, y1, ...]``, in the order of the edges."""

    width: float
    height: float
    x: list[float]
    y: list[float]
    paths: list[list[float]]


@record(slots=True)
class _Spot:
    """A box, or a place where an arrow passes a rank."""

    rank: int
    width: float
    above: list[int] = field(default_factory=list)
    below: list[int] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0


def lay_out(count: int, edges: Sequence[tuple[int, int]]) -> Layout:
    """Places boxes 0 .. count - 1. Every edge leads from a smaller number to a larger one."""
    spots = [_Spot(rank, BOX_WIDTH) for rank in _ranks(count, edges)]
    chains = _add_lanes(spots, edges, count)
    layers: list[list[int]] = [[] for _ in range(max((s.rank for s in spots), default=-1) + 1)]
    for k, spot in enumerate(spots):
        layers[spot.rank].append(k)
    aspect = ASPECT
    for _ in range(_TRIES):
        starts = _columns(spots, layers, aspect)
        width, height = _place_columns(spots, layers, starts)
        if len(starts) == 1 or width <= _TOO_WIDE * ASPECT * height:
            break
        aspect *= ASPECT * height / width  # columns have become wider than their ranks
    paths = _Paths(spots, count, starts).all(chains)
    boxes = spots[:count]
    return Layout(width, height, [round(b.x, 1) for b in boxes], [round(b.y, 1) for b in boxes], paths)


def _place_columns(spots: list[_Spot], layers: list[list[int]], starts: Sequence[int]) -> tuple[float, float]:
    """Places everything, column by column; gives width and height of the whole."""
    left = height = 0.0
    for begin, end in zip(starts, [*starts[1:], len(layers)], strict=True):
        column = layers[begin:end]
        _order(spots, column)
        _place(spots, column)
        shift = left - min((spots[k].x - spots[k].width / 2 for layer in column for k in layer), default=0.0)
        for row, layer in enumerate(column):
            for k in layer:
                spots[k].x += shift
                spots[k].y = row * (BOX_HEIGHT + GAP_Y) + BOX_HEIGHT / 2
        right = max((spots[k].x + spots[k].width / 2 for layer in column for k in layer), default=0.0)
        left = right + GUTTER
        height = max(height, len(column) * (BOX_HEIGHT + GAP_Y))
    return max(left - GUTTER, 0.0), height


# ---- ranks -----------------------------------------------------------------------------------------------------------


def _ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The rank of each box: below all that it reads, and with at most so many others that a rank is no long line."""
    reads: list[list[int]] = [[] for _ in range(count)]
    readers: list[list[int]] = [[] for _ in range(count)]
    for source, target in edges:
        reads[target].append(source)
        readers[source].append(target)
    most = max(8, ceil(1.3 * sqrt(count)))
    free: list[int] = []  # for each rank the next one that may have room
    taken: list[int] = []

    def room(rank: int) -> int:
        while len(free) <= rank:
            free.append(len(free))
            taken.append(0)
        path = []
        while free[rank] != rank:
            path.append(rank)
            rank = free[rank]
            if rank == len(free):
                free.append(rank)
                taken.append(0)
        for passed in path:
            free[passed] = rank
        return rank

    ranks = [0] * count
    for k in range(count):
        ranks[k] = room(max((ranks[r] + 1 for r in reads[k]), default=0))
        taken[ranks[k]] += 1
        if taken[ranks[k]] == most:
            free[ranks[k]] += 1
    for k in range(count):  # inputs stand just above their first reader
        if not reads[k] and readers[k]:
            ranks[k] = min(ranks[r] for r in readers[k]) - 1
    used = {rank: place for place, rank in enumerate(sorted(set(ranks)))}
    return [used[rank] for rank in ranks]


def _add_lanes(spots: list[_Spot], edges: Sequence[tuple[int, int]], count: int) -> list[list[int]]:
    """Adds a spot for every rank that edges from one box pass, and links neighbours; gives the spots of each edge."""
    reach = [spot.rank for spot in spots]
    for source, target in edges:
        reach[source] = max(reach[source], spots[target].rank)
    left = _MOST_LANES * count + 1000
    lanes: list[list[int] | None] = [None] * count
    for source in sorted(range(count), key=lambda k: reach[k] - spots[k].rank):
        left -= max(0, reach[source] - spots[source].rank - 1)
        if left >= 0:
            lanes[source] = [source]
    chains = []
    for source, target in edges:
        lane = lanes[source]
        if lane is None:
            chains.append([source, target])
            continue
        for rank in range(spots[source].rank + len(lane), spots[target].rank):
            spots[lane[-1]].below.append(len(spots))
            lane.append(len(spots))
            spots.append(_Spot(rank, LANE_WIDTH, above=[lane[-2]]))
        chain = [*lane[: spots[target].rank - spots[source].rank], target]
        spots[chain[-2]].below.append(target)
        spots[target].above.append(chain[-2])
        chains.append(chain)
    return chains


# ---- columns ---------------------------------------------------------------------------------------------------------


def _columns(spots: list[_Spot], layers: Sequence[Sequence[int]], aspect: float) -> list[int]:
    """The first ranks of columns such that the whole has about the wanted form."""
    widths = [sum(spots[k].width + GAP_X for k in layer) for layer in layers]
    crossing = [sum(len(spots[k].below) for k in layer) for layer in layers]
    starts = [0]
    number = 1
    while number <= len(layers) // _LEAST_ROWS:
        starts = _cut(crossing, number)
        ends = [*starts[1:], len(layers)]
        across = sum(max(widths[a:b], default=0.0) + GUTTER for a, b in zip(starts, ends, strict=True))
        down = max((b - a for a, b in zip(starts, ends, strict=True)), default=0) * (BOX_HEIGHT + GAP_Y)
        if across >= aspect * down:
            break
        number += max(1, number // 8)
    return starts


def _cut(crossing: Sequence[int], number: int) -> list[int]:
    """So many columns of about the same height, cut where few edges are."""
    count = len(crossing)
    size = count / number
    starts = [0]
    for k in range(1, number):
        middle, reach = round(k * size), max(1, int(size / 5))
        begin, end = max(starts[-1] + 1, middle - reach), min(count - 1, middle + reach)
        if begin <= end:
            starts.append(min(range(begin, end + 1), key=lambda r: (crossing[r - 1], abs(r - middle))))
    return starts


# ---- inside of a column ----------------------------------------------------------------------------------------------


def _sweeps(spots: list[_Spot], column: Sequence[list[int]]) -> Iterator[tuple[list[int], list[list[int]]]]:
    """Ranks from top to bottom and back, several times, and their neighbours in the rank before; last downwards."""
    above = [[spots[k].above if row else [] for k in layer] for row, layer in enumerate(column)]
    below = [[spots[k].below if row < len(column) - 1 else [] for k in layer] for row, layer in enumerate(column)]
    for _ in range(_sweep_count(spots)):
        yield from zip(column, above, strict=True)
        yield from zip(reversed(column), reversed(below), strict=True)
    yield from zip(column, above, strict=True)


def _sweep_count(spots: Sequence[_Spot]) -> int:
    return _SWEEPS if len(spots) < _MANY else _SWEEPS_OF_MANY


def _order(spots: list[_Spot], column: Sequence[list[int]]) -> None:
    """Sorts each rank by the middle of the neighbours in the rank before."""
    place = {k: float(p) for layer in column for p, k in enumerate(layer)}
    for _ in range(_sweep_count(spots)):
        for down in (True, False):
            for row in range(1, len(column)) if down else range(len(column) - 2, -1, -1):
                layer = column[row]
                if len(layer) == 1:
                    continue
                wanted = {}
                for k in layer:
                    near = spots[k].above if down else spots[k].below
                    wanted[k] = sum([place[n] for n in near]) / len(near) if near else place[k]
                layer.sort(key=wanted.__getitem__)
                place.update((k, float(p)) for p, k in enumerate(layer))


def _place(spots: list[_Spot], column: Sequence[list[int]]) -> None:
    """Sets x so that neighbours stand below each other as far as the order and the widths allow."""
    for layer in column:
        right = 0.0
        for k in layer:
            spots[k].x = right + spots[k].width / 2
            right += spots[k].width + GAP_X
        for k in layer:
            spots[k].x -= right / 2
    for layer, neighbours in _sweeps(spots, column):
        wanted, weights = [], []
        for k, near in zip(layer, neighbours, strict=True):
            spot = spots[k]
            wanted.append(sum([spots[n].x for n in near]) / len(near) if near else spot.x)
            lane = spot.width == LANE_WIDTH and any(spots[n].width == LANE_WIDTH for n in near)
            weights.append(_LANE_WEIGHT if lane else 1.0 if near else 0.1)
        for k, x in zip(layer, _spread(wanted, weights, [spots[k].width for k in layer]), strict=True):
            spots[k].x = x


def _spread(wanted: Sequence[float], weights: Sequence[float], widths: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, by the sum of squares, at which nothing overlaps and the order is kept.

    Without the space that each needs this is a monotone regression: neighbours in the wrong order get their mean.
    """
    offsets, offset = [], 0.0
    for k, width in enumerate(widths):
        if k:
            offset += (widths[k - 1] + width) / 2 + GAP_X
        offsets.append(offset)
    groups: list[tuple[float, float, int]] = []  # sum of weighted places, weight, count
    for place, weight, shift in zip(wanted, weights, offsets, strict=True):
        total, mass, count = (place - shift) * weight, weight, 1
        while groups and groups[-1][0] * mass >= total * groups[-1][1]:
            before = groups.pop()
            total, mass, count = total + before[0], mass + before[1], count + before[2]
        groups.append((total, mass, count))
    places = [total / mass for total, mass, count in groups for _ in range(count)]
    return [place + shift for place, shift in zip(places, offsets, strict=True)]


# ---- arrows ----------------------------------------------------------------------------------------------------------


class _Paths:
    """The points of arrows. From one column to the next they go below the one, between both, and above the other."""

    def __init__(self, spots: list[_Spot], count: int, starts: Sequence[int]):
        self._spots = spots
        self._count = count
        self._starts = starts
        self._firsts = frozenset(starts[1:])
        self._connectors: dict[int, dict[int, int]] = {}  # by the first rank of a column, and where they come from
        self._left: dict[int, float] = {}
        for spot in spots:
            start = starts[bisect_right(starts, spot.rank) - 1]
            edge = spot.x - spot.width / 2
            self._left[start] = min(self._left.get(start, edge), edge)

    def all(self, chains: Sequence[Sequence[int]]) -> list[list[float]]:
        return [self._path(chain) for chain in chains]

    def _path(self, chain: Sequence[int]) -> list[float]:
        points: list[tuple[float, float]] = []
        for k, number in enumerate(chain):
            spot = self._spots[number]
            if k and spot.rank in self._firsts and self._spots[chain[k - 1]].rank == spot.rank - 1:
                points += self._connection(chain[k - 1], points[-1], spot)
            half = BOX_HEIGHT / 2 if number < self._count else 0.0
            points.append((spot.x, spot.y + (half if k == 0 else -half)))
        kept = [p for k, p in enumerate(points) if not _is_between(points, k)]
        return [round(value, 1) for point in kept for value in point]

    def _connection(self, source: int, begin: tuple[float, float], spot: _Spot) -> list[tuple[float, float]]:
        known = self._connectors.setdefault(spot.rank, {})
        place = known.setdefault(source, len(known)) % _CONNECTORS
        shift = place * GAP_Y / (2 * _CONNECTORS)
        low = self._spots[source].y + BOX_HEIGHT / 2 + GAP_Y / 4 + shift
        high = spot.y - BOX_HEIGHT / 2 - GAP_Y / 4 - shift
        between = self._left[spot.rank] - GUTTER * (0.25 + 0.5 * place / _CONNECTORS)
        return [(begin[0], low), (between, low), (between, high), (spot.x, high)]


def _is_between(points: Sequence[tuple[float, float]], k: int) -> bool:
    """Whether a point lies on the vertical line between its neighbours."""
    if not 0 < k < len(points) - 1:
        return False
    return points[k - 1][0] == points[k][0] == points[k + 1][0]
