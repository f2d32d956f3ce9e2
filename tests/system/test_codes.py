"""Enumerations that are cheap to define behave like ``IntEnum``."""

from __future__ import annotations

import copy
import json
import pickle
from enum import IntEnum
from typing import Any

import numpy as np
import pytest

from megengine_lite._codes import CodeEnum


class Usual(IntEnum):
    """Colours."""

    RED = 0
    GREEN = 2
    BLUE = 7
    AZURE = 7

    @property
    def is_first(self) -> bool:
        return self is type(self).RED


class Cheap(CodeEnum):
    """Colours."""

    RED = 0
    GREEN = 2
    BLUE = 7
    AZURE = 7

    @property
    def is_first(self) -> bool:
        return self is type(self).RED


BOTH = pytest.mark.parametrize("kind", [Usual, Cheap])


@BOTH
def test_members(kind: Any) -> None:
    assert [(m.name, m.value, int(m)) for m in kind] == [("RED", 0, 0), ("GREEN", 2, 2), ("BLUE", 7, 7)]
    assert len(kind) == 3
    assert kind.AZURE is kind.BLUE
    assert list(kind.__members__) == ["RED", "GREEN", "BLUE", "AZURE"]
    assert kind(2) is kind.GREEN and kind(np.int64(2)) is kind.GREEN and kind(kind.GREEN) is kind.GREEN
    assert kind["GREEN"] is kind.GREEN
    assert kind.GREEN in kind
    assert kind.RED.is_first and not kind.GREEN.is_first
    assert kind.__doc__ == "Colours."
    assert isinstance(kind.RED, kind) and isinstance(kind.RED, int)


@BOTH
def test_what_is_no_member(kind: Any) -> None:
    with pytest.raises(ValueError, match=f"^3 is not a valid {kind.__name__}$"):
        kind(3)
    with pytest.raises(KeyError):
        kind["PINK"]
    with pytest.raises(AttributeError):
        _ = kind.PINK


@BOTH
def test_numbers(kind: Any) -> None:
    assert kind.GREEN == 2 and hash(kind.GREEN) == hash(2) and not kind.RED
    assert {2: "x"}[kind.GREEN] == "x"
    assert kind.GREEN + 1 == 3 and kind.BLUE > kind.GREEN
    assert [10, 11, 12][kind.GREEN] == 12
    assert np.array([kind.GREEN, 1]).tolist() == [2, 1]
    assert json.dumps({"colour": kind.BLUE}) == '{"colour": 7}'


@BOTH
def test_texts(kind: Any) -> None:
    assert repr(kind.GREEN) == f"<{kind.__name__}.GREEN: 2>"
    assert f"{kind.GREEN}" == "2" and f"{kind.GREEN:03d}" == "002"


@BOTH
def test_copies_are_the_same_member(kind: Any) -> None:
    for made in (copy.copy(kind.BLUE), copy.deepcopy(kind.BLUE), pickle.loads(pickle.dumps(kind.BLUE))):
        assert made is kind.BLUE


@BOTH
def test_cases(kind: Any) -> None:
    match 7:
        case kind.GREEN:
            found = "green"
        case kind.BLUE:
            found = "blue"
    assert found == "blue"
