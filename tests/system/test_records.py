"""Records behave like dataclasses, and compile nothing before a class has many instances."""

import copy
import pickle
from typing import ClassVar

import pytest

from megengine_lite import _records
from megengine_lite._records import FrozenRecordError, asdict, field, fields, is_record, record, replace


@record(frozen=True, slots=True)
class Point:
    kind: ClassVar[str] = "point"
    x: int
    y: int = 2
    tags: list = field(default_factory=list, compare=False, repr=False)

    def total(self):
        return self.x + self.y


@record(slots=True)
class Box:
    corner: Point
    sides: list[int] = field(default_factory=list)


@record
class Scaled:
    x: int
    twice: int = field(init=False)

    def __post_init__(self):
        self.twice = 2 * self.x


@record(frozen=True, eq=False)
class Alone:
    x: int = 1


@record(frozen=True, slots=True, kw_only=True)
class Named:
    b: int = 1
    a: int


@pytest.mark.parametrize("interpreted", [0, 1000])
def test_arguments_and_defaults_are_those_of_a_dataclass(monkeypatch, interpreted):
    monkeypatch.setattr(_records, "INTERPRETED", interpreted)
    for cls in (Point, Named, Scaled, Alone):
        own_init = _records._late_init(cls, cls is not Scaled, cls is Named)
        monkeypatch.setattr(cls, "__init__", own_init)
    assert (Point(1).x, Point(1).y, Point(1, y=5).total(), Point(x=3).tags) == (1, 2, 6, [])
    assert Point(1).tags is not Point(1).tags
    assert Named(a=4).b == 1 and Scaled(3).twice == 6 and Alone.x == 1
    for bad in (
        lambda: Point(),
        lambda: Point(1, 2, [], 4),
        lambda: Point(1, z=1),
        lambda: Point(1, x=2),
        lambda: Named(1, 2),
    ):
        with pytest.raises(TypeError, match="__init__"):
            bad()


def test_equality_hash_and_text_are_those_of_a_dataclass():
    assert Point(1) == Point(1, 2, [3]) != Point(2) and Point(1) != (1, 2)
    assert hash(Point(1)) == hash(Point(1, 2, [3])) and len({Point(1), Point(1)}) == 1
    assert (Alone() != Alone() and Alone() in {(one := Alone()): 0, Alone(): 1}) or one.x == 1
    with pytest.raises(TypeError, match="unhashable"):
        hash(Box(Point(1)))
    assert repr(Box(Point(1), [4])) == "Box(corner=Point(x=1, y=2), sides=[4])"


def test_frozen_records_cannot_be_changed():
    point = Point(1)
    with pytest.raises(FrozenRecordError, match="'x'"):
        point.x = 2
    with pytest.raises(FrozenRecordError, match="'x'"):
        del point.x
    with pytest.raises(AttributeError):
        Box(point).other = 1  # slots
    assert point.x == 1


def test_functions_know_records():
    assert replace(Point(1, 5), x=2) == Point(2, 5) and replace(Scaled(1), x=4).twice == 8
    assert asdict(Box(Point(1), [1])) == {"corner": {"x": 1, "y": 2, "tags": []}, "sides": [1]}
    assert [f.name for f in fields(Point)] == ["x", "y", "tags"] and is_record(Point(1)) and not is_record(3)


@pytest.mark.parametrize("value", [Point(1, 3, [2]), Box(Point(1), [2]), Scaled(2)])
def test_copies_and_pickles_are_equal(value):
    assert copy.copy(value) == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == value


def test_fields_of_a_base_come_first():
    @record(slots=True)
    class Base:
        x: int
        y: int = 1

    @record(slots=True)
    class Derived(Base):
        z: int = 3
        x: int = 5

    assert repr(Derived()).endswith("Derived(x=5, y=1, z=3)") and Derived(1, 2, 4) == Derived(1, 2, 4) != Base(1, 2)
    assert not hasattr(Derived(), "__dict__")


def test_only_a_class_with_many_instances_is_compiled(monkeypatch):
    compiled = []
    original = _records._compiled_init
    monkeypatch.setattr(_records, "_compiled_init", lambda *of: compiled.append(of[0]) or original(*of))

    @record(frozen=True, slots=True)
    class Late:
        x: int

    assert [Late(k).x for k in range(_records.INTERPRETED)] == [*range(_records.INTERPRETED)] and compiled == []
    assert [Late(1).x, Late(2).x] == [1, 2] and compiled == [Late]
