"""Two profiles side by side."""

from megengine_lite._core.reports.profile_comparison import MeasuredStep, compare_profiles


def step(name: str, ms: float, *times: float, operator: str = "Conv", algorithm: str = "direct") -> MeasuredStep:
    return MeasuredStep(operator, name, algorithm, ms, times)


def changes(a: list[MeasuredStep], b: list[MeasuredStep]) -> dict[str, str]:
    return {row["name"]: row["change"] for row in compare_profiles(a, b)["operators"]}


def test_operators_are_compared_one_by_one():
    a = [step("x", 1.0), step("y", 2.0), step("z", 4.0), step("gone", 8.0), step("w", 1.0)]
    b = [step("x", 3.0, algorithm="winograd"), step("y", 1.0), step("z", 4.1), step("new", 0.5), step("w", 1.06)]
    found = compare_profiles(a, b)
    assert [(row["name"], *row["ms"], row["change"]) for row in found["operators"]] == [
        ("gone", 8.0, None, "only in the first"),
        ("x", 1.0, 3.0, "slower"),
        ("y", 2.0, 1.0, "faster"),
        ("new", None, 0.5, "only in the second"),
        ("z", 4.0, 4.1, "same"),
        ("w", 1.0, 1.06, "slower"),
    ]
    assert found["operators"][0]["algorithms"] == ["direct", None]
    assert found["operators"][1]["algorithms"] == ["direct", "winograd"]
    assert found["ms"] == [16.0, 9.66]
    assert found["counts"] == {
        "slower": 2, "faster": 1, "same": 1, "only in the first": 1, "only in the second": 1
    }  # fmt: skip


def test_profiles_of_nothing_are_compared():
    assert compare_profiles([], [])["operators"] == [] and compare_profiles([], [])["ms"] == [0, 0]
    assert changes([], [step("x", 0.0)]) == {"x": "only in the second"}
    assert changes([step("x", 0.0)], [step("x", 0.0)]) == {"x": "same"}


def test_the_steps_of_an_operator_count_together():
    a = [step("x", 1.0, algorithm="pack"), step("x", 2.0), step("y", 1.0)]
    (x, y) = compare_profiles(a, [step("x", 3.0), step("y", 1.0)])["operators"]
    assert (x["name"], x["ms"], x["algorithms"], x["change"]) == ("x", [3.0, 3.0], ["pack, direct", "direct"], "same")
    assert y["ms"] == [1.0, 1.0]


def test_operators_of_one_name_are_told_apart_by_their_order():
    a = [step("x", 1.0), step("y", 9.0), step("x", 2.0), step("y", 9.0), step("x", 3.0)]
    b = [step("x", 1.0), step("y", 9.0), step("x", 4.0), step("y", 9.0)]
    found = [row for row in compare_profiles(a, b)["operators"] if row["name"] == "x"]
    assert [row["ms"] for row in found] == [[3.0, None], [2.0, 4.0], [1.0, 1.0]]


def test_operators_without_a_name_are_one_for_each_step():
    a = [step("Conv", 1.0), step("Conv", 2.0)]
    b = [step("Conv", 1.0), step("Conv", 5.0)]
    assert [row["ms"] for row in compare_profiles(a, b)["operators"]] == [[2.0, 5.0], [1.0, 1.0]]


def test_a_change_that_single_runs_do_not_bear_out_is_none():
    apart = [step("x", 1.0, 0.9, 1.0, 1.0, 1.1)], [step("x", 1.5, 1.4, 1.5, 1.5, 1.6)]
    mixed = [step("x", 1.0, 0.5, 1.0, 1.0, 2.0)], [step("x", 1.2, 0.6, 1.2, 1.2, 2.4)]
    assert changes(*apart) == {"x": "slower"} and changes(*reversed(apart)) == {"x": "faster"}
    assert changes(*mixed) == {"x": "same"} and changes(*reversed(mixed)) == {"x": "same"}
    # Of two steps the runs are added; without them only the medians count.
    double = [step("x", 0.5, 0.4, 0.5, 0.5, 0.6), step("x", 0.5, 0.5, 0.5, 0.5, 0.5)]
    assert changes(double, apart[1]) == {"x": "slower"}
    assert changes([step("x", 1.0)], [step("x", 1.2)]) == {"x": "slower"}
    assert changes([step("x", 0.5, 0.1, 9.0), step("x", 0.5)], [step("x", 1.2)]) == {"x": "slower"}
