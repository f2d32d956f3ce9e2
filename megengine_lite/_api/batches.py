"""Inputs put together for one run, and its outputs taken apart again. Public as a part of ``Model``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

import numpy as np

from megengine_lite._api.model_outputs import Outputs
from megengine_lite._records import record
from megengine_lite.errors import ShapeError

if TYPE_CHECKING:
    from megengine_lite._core.ir.graph import ModelGraph

Feeds = dict[str, np.ndarray]
T = TypeVar("T")

_ADVICE = "use batch_size=1, or choose other outputs"


@record(frozen=True, slots=True)
class LastError:
    """What ended an iterator before its time."""

    error: Exception


def with_last_error(items: Iterable[T]) -> Iterator[T | LastError]:
    """The items, and behind them the exception that their iterator has raised, if it has."""
    iterator = iter(items)
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            yield LastError(error)
            return
        yield item


def batches_of(items: Iterable[Feeds], size: int, graph: ModelGraph) -> Iterator[tuple[Feeds, list[int] | None]]:
    """Up to ``size`` items of one form each, put together, with the extent of each along the first dimension.

    An exception of ``items`` comes behind the items before it.

    Raises
    ------
    ShapeError
        The outputs of the model for several items cannot be taken apart.
    """
    if size == 1:
        yield from ((item, None) for item in items)
        return
    group: list[Feeds] = []
    for item in with_last_error(items):
        if isinstance(item, LastError):
            if group:
                yield _together(group, graph)
            raise item.error
        if group and (len(group) == size or _form(item) != _form(group[0])):
            yield _together(group, graph)
            group = []
        group.append(item)
    if group:
        yield _together(group, graph)


def _form(item: Feeds) -> dict[str, tuple[int, ...]]:
    return {name: array.shape[1:] for name, array in item.items()}


def _together(group: list[Feeds], graph: ModelGraph) -> tuple[Feeds, list[int]]:
    counts = [next(iter(item.values())).shape[0] for item in group]
    feeds = {name: np.concatenate([item[name] for item in group]) for name in group[0]}
    if len(group) > 1:
        require_rows(graph, {name: array.shape for name, array in feeds.items()})
    return feeds, counts


_WITH_ROWS: WeakSet[ModelGraph] = WeakSet()
"""Graphs whose outputs have a row for each row of the inputs."""


def require_rows(graph: ModelGraph, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises a ShapeError if the rows of an output are not those of the inputs, however many there are in a run.

    ``shapes`` are those of the inputs that have rows.
    """
    if graph in _WITH_ROWS:
        return
    from megengine_lite._core.compile.vary_sizes import outputs_without_rows

    without = outputs_without_rows(graph, shapes)
    if without:
        raise ShapeError(
            f"rows of output {without[0]!r} are not rows of the inputs, so it cannot be taken apart; {_ADVICE}"
        )
    _WITH_ROWS.add(graph)


def one_by_one(feeds: Feeds, counts: list[int]) -> Iterator[Feeds]:
    """The items of a batch."""
    for begin, end in pairwise([0, *accumulate(counts)]):
        yield {name: array[begin:end] for name, array in feeds.items()}


def check_rows(outputs: Outputs, rows: int, advice: str = _ADVICE) -> None:
    """Raises a ShapeError if an output does not have a row for each row of a batch; ``advice`` is what helps then."""
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != rows:
            raise ShapeError(
                f"output {name!r} has the shape {list(array.shape)} for a batch of {rows}, so it cannot be taken "
                f"apart; {advice}"
            )


def taken_apart(outputs: Outputs, counts: list[int] | None) -> Iterator[Outputs]:
    """The outputs of each item of a batch; the batch as a whole where ``counts`` is None."""
    if counts is None:
        yield outputs
        return
    check_rows(outputs, sum(counts))
    for begin, end in pairwise([0, *accumulate(counts)]):
        yield Outputs({name: array[begin:end] for name, array in outputs.items()})
