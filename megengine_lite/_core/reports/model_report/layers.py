"""The results of two runs, operator by operator: where they differ.

Each run is as it always is, with its fusion and its layouts. So only results are compared that both runs have: what one
of them fuses has no result of its own there.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from megengine_lite._core.device.planned_graph import Standing
from megengine_lite._core.ir.dtype import DType
from megengine_lite._core.ir.quantize import to_float32, to_float64
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.reports.differences import compare, compare_closely, state_text
from megengine_lite._records import record, replace
from megengine_lite.errors import LiteValueError

if TYPE_CHECKING:
    from megengine_lite._core.device.planned_graph import NodeResult
    from megengine_lite._core.formats.loaded_model import LoadedModel
    from megengine_lite._core.runtime.session import Session

# More results without a name that both have are not matched: it would take very long.
MOST_WITHOUT_NAME = 5000
# Numbers of a result by which others of the same shape are found.
_SAMPLE = 64
# So many results in a row without partner are compared by their order even if the two rows are not the same.
_LONG_GAP = 4
# Decibels below which two results have so little in common that what is made of them should differ, too.
_UNLIKE = 40.0
# Decibels below which two results that were found by order may be those of two branches.
_FOREIGN = 10.0
# More results of one operator and shape in a row are a chain rather than branches.
_MOST_ALIKE = 64
# Two pairs are exchanged if the sum of their distances falls below this part.
_NEARER = 0.25


@record(frozen=True, slots=True)
class LayerResult:
    """A result of an operator: the number of its variable in the file, its values, and the variables it is made of.

    ``tensors`` and ``operators`` are what the file calls the tensor, and the operators that make nothing else.
    """

    id: int
    op: str
    name: str
    dtype: DType | None
    array: np.ndarray
    reads: tuple[int, ...] = ()
    tensors: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What it computes, whether of quantized numbers or not: a network may be the quantized form of another."""
        operator = REGISTRY.get(self.op)
        return self.op if operator is None else operator.in_original.type or self.op

    @property
    def is_quantized(self) -> bool:
        return self.dtype is not None and self.dtype.is_quantized

    def values(self) -> np.ndarray:
        """Real values; those of a quantized type are what its numbers stand for."""
        dtype = self.dtype
        return to_float32(self.array, dtype) if dtype is not None and dtype.is_quantized else self.array


def layer_results(session: Session, model: LoadedModel | None = None) -> list[LayerResult]:
    """Runs a session whose configuration asks for explanations; gives the results of its operators, in order.

    ``model`` is what the session was made of; without it results have the names of their variables.
    """
    found: dict[int, LayerResult] = {}
    standings: dict[int, Standing] = {}

    def watch(result: NodeResult) -> None:
        variable = result.variable
        standing = variable.standing
        if result.array.dtype.kind in "biuf" and standing >= standings.get(variable.id, Standing.TWIN):
            standings[variable.id] = standing
            # Of twins, and of the rounds of a loop, the last counts.
            found.pop(variable.id, None)
            copy = result.array.copy()
            dtype = variable.spec.dtype
            found[variable.id] = LayerResult(variable.id, result.op, variable.name, dtype, copy, result.reads)

    session.run_watched(watch)
    if model is None:
        return [replace(r, tensors=(r.name,)) for r in found.values()]
    names = model.names_of_results()
    return [
        replace(r, tensors=(*names.tensors.get(n, ()),), operators=(*names.operators.get(n, ()),))
        for n, r in found.items()
    ]


_DOUBTFUL = "doubtful name"
_GUESSED = ("order", "stem", _DOUBTFUL)
"""Ways to find pairs that say nothing of their numbers."""
_BY_NAME = ("name", _DOUBTFUL)

_Partners: TypeAlias = dict[int, tuple[LayerResult, str]]
"""For the number of a result the one that belongs to it, and how it was found."""


def stored_results(arrays: Mapping[str, np.ndarray]) -> list[LayerResult]:
    """Values that are stored by the names of tensors or of operators."""
    numeric = ((name, np.atleast_1d(array)) for name, array in arrays.items() if array.dtype.kind in "biufc")
    return [LayerResult(k, "", name, None, array, (), (name,)) for k, (name, array) in enumerate(numeric)]


def _unique(named: Iterable[tuple[str, LayerResult]]) -> dict[str, LayerResult]:
    """Results by name, without names that several have."""
    found = [(name, result) for name, result in named if name]
    counts = Counter(name for name, _ in found)
    return {name: result for name, result in found if counts[name] == 1}


def _by_unique_name(results: Sequence[LayerResult]) -> dict[str, LayerResult]:
    return _unique((r.name, r) for r in results)


def _by_names(a: Sequence[LayerResult], b: Sequence[LayerResult]) -> _Partners:
    """Results that have a name in common, be it that of a tensor or of an operator; what names the same comes first."""
    tensors, operators = (
        [_unique((name, r) for r in results for name in getattr(r, kind)) for results in (a, b)]
        for kind in ("tensors", "operators")
    )
    found: _Partners = {}
    taken: set[int] = set()
    for mine, theirs in (
        (tensors[0], tensors[1]),
        (operators[0], operators[1]),
        (tensors[0], operators[1]),
        (operators[0], tensors[1]),
    ):
        for name, result in mine.items():
            other = theirs.get(name)
            if other is not None and result.id not in found and other.id not in taken:
                found[result.id] = (other, "name")
                taken.add(other.id)
    return found


def _pairs(
    a: Sequence[LayerResult], b: Sequence[LayerResult], same_file: bool, tolerance: float
) -> list[tuple[LayerResult, LayerResult, str]]:
    """Results of both that belong together, in the order of the first, and by what."""
    if same_file:
        numbers = {r.id: r for r in b}
        return [(r, numbers[r.id], "number") for r in a if r.id in numbers]
    partner = _by_names(a, b)
    rest_a, rest_b = _without_partner(a, b, partner)
    partner.update(_by_stem(rest_a, rest_b))
    rest_a, rest_b = _without_partner(a, b, partner)
    if all(r.op for r in b) and max(len(rest_a), len(rest_b)) <= MOST_WITHOUT_NAME:
        doubts = _doubts(a, b, partner, tolerance)
        named = {number: partner.pop(number) for number in doubts}
        partner.update(_by_value(*_without_partner(a, b, partner), tolerance))
        for gap in list(_gaps(a, b, partner)):
            partner.update(_by_order(*gap))
        taken = {found.id for found, _ in partner.values()}
        for number, (theirs, how) in named.items():
            if number not in partner and theirs.id not in taken:
                partner[number] = theirs, _DOUBTFUL if doubts[number] else how
            elif number in partner and partner[number][0] is theirs:
                partner[number] = theirs, how
    return [(r, *partner[r.id]) for r in a if r.id in partner]


def _doubts(
    a: Sequence[LayerResult], b: Sequence[LayerResult], partner: _Partners, tolerance: float
) -> dict[int, bool]:
    """Pairs whose names are not to be believed before values and order; True if not even if those find nothing.

    Two exports may number their tensors differently, so that equal names say nothing. That is seen where a result of
    the same operator and the same numbers is elsewhere in the other run. Where names are right, order says the same.
    An operator or a shape contradicts, too, but one run may have fused other operators.
    """
    unequal = {r.id: partner[r.id][0] for r in a if r.id in partner and not _equal(r, partner[r.id][0], tolerance)}
    if not unequal:
        return {}
    equal = {number: found for number, found in partner.items() if number not in unequal}
    rest_a, rest_b = ([r for r in rest if _is_telling(r)] for rest in _without_partner(a, b, equal))
    elsewhere = _by_value(rest_a, rest_b, tolerance, same_operator=True)
    known = {theirs.id for theirs, _ in elsewhere.values()}
    shifted = any(number in elsewhere or theirs.id in known for number, theirs in unequal.items())
    doubts: dict[int, bool] = {}
    for mine in a:
        theirs = unequal.get(mine.id)
        if theirs is not None and (shifted or (mine.kind, mine.array.shape) != (theirs.kind, theirs.array.shape)):
            doubts[mine.id] = shifted or mine.kind != theirs.kind
    return doubts


def _is_telling(result: LayerResult) -> bool:
    """Whether the numbers are not all one, as those of another result may be by chance."""
    flat = result.array.reshape(-1)
    return bool(np.any(flat != flat[:1]))


def _without_partner(
    a: Sequence[LayerResult], b: Sequence[LayerResult], partner: _Partners
) -> tuple[list[LayerResult], list[LayerResult]]:
    taken = {found.id for found, _ in partner.values()}
    return [r for r in a if r.id not in partner], [r for r in b if r.id not in taken]


def _by_stem(a: Sequence[LayerResult], b: Sequence[LayerResult]) -> _Partners:
    """What one file calls NAME is the last of NAME/STEP in an ONNX file that was made of it, if both do the same."""
    last: list[dict[str, LayerResult]] = [{}, {}]
    for by_stem, results in zip(last, (a, b), strict=True):
        for result in results:
            if stem := result.name.rpartition("/")[0]:
                by_stem[stem] = result
    pairs: list[tuple[LayerResult | None, LayerResult | None]] = []
    pairs += [(r, last[1].get(name)) for name, r in _by_unique_name(a).items()]
    pairs += [(last[0].get(name), r) for name, r in _by_unique_name(b).items()]
    found: _Partners = {}
    taken = set()
    for mine, theirs in pairs:
        if mine is None or theirs is None or mine.id in found or theirs.id in taken:
            continue
        if (mine.kind, mine.array.shape) == (theirs.kind, theirs.array.shape):
            found[mine.id] = (theirs, "stem")
            taken.add(theirs.id)
    return found


def _by_value(
    a: Sequence[LayerResult], b: Sequence[LayerResult], tolerance: float, *, same_operator: bool = False
) -> _Partners:
    """The first result of the same shape and the same numbers for each, every one for one only."""

    def key(result: LayerResult) -> tuple[str, tuple[int, ...]]:
        return result.kind if same_operator else "", result.array.shape

    groups: dict[tuple[str, tuple[int, ...]], list[LayerResult]] = {}
    for result in b:
        groups.setdefault(key(result), []).append(result)
    samples = {k: np.stack([_sample(r) for r in group]) for k, group in groups.items()}
    found: _Partners = {}
    taken = set()
    with np.errstate(invalid="ignore"):  # infinities
        for result in a:
            group = groups.get(key(result), [])
            mine = _sample(result)
            limit = tolerance * np.abs(mine).max(initial=0)
            near = np.abs(samples[key(result)] - mine).max(axis=1, initial=0) <= limit if group else []
            for k in np.flatnonzero(near):
                theirs = group[int(k)]
                if theirs.id not in taken and _equal(result, theirs, tolerance):
                    found[result.id] = (theirs, "value")
                    taken.add(theirs.id)
                    break
    return found


def _equal(a: LayerResult, b: LayerResult, tolerance: float) -> bool:
    found = compare(a.values(), b.values(), tolerance, quantized=a.is_quantized or b.is_quantized)
    return bool(found["equal"])


def _compared(a: LayerResult, b: LayerResult, tolerance: float) -> dict[str, Any]:
    quantized = a.is_quantized or b.is_quantized
    return compare_closely(a.values(), b.values(), tolerance, quantized=quantized) | _in_steps(a, b)


def _sample(result: LayerResult) -> np.ndarray:
    """Some numbers that tell most results apart."""
    flat = result.array.reshape(-1)
    places = np.linspace(0, flat.size - 1, min(flat.size, _SAMPLE)).astype(np.int64)
    return (
        flat[places].astype(np.float64)
        if result.dtype is None or not result.dtype.is_quantized
        else to_float64(flat[places], result.dtype)
    )


def _gaps(
    a: Sequence[LayerResult], b: Sequence[LayerResult], partners: _Partners
) -> Iterator[tuple[list[LayerResult], list[LayerResult]]]:
    """Results of both without partner, from one pair to the next in the order of both."""
    place = {result.id: k for k, result in enumerate(b)}
    taken = {found.id for found, _ in partners.values()}
    mine: list[LayerResult] = []
    begin = 0
    for result in (*a, None):
        found = partners.get(result.id) if result is not None else None
        if result is not None and found is None:
            mine.append(result)
            continue
        end = len(b) if found is None else place[found[0].id]
        if end >= begin:
            yield mine, [r for r in b[begin:end] if r.id not in taken]
            mine, begin = [], end + 1


def _by_order(a: Sequence[LayerResult], b: Sequence[LayerResult]) -> _Partners:
    """Results of the same operators and shapes in the same order, where it is likely that they belong together."""
    keys_a, keys_b = ([(r.kind, r.array.shape) for r in rest] for rest in (a, b))
    if keys_a != keys_b and min(len(a), len(b)) < _LONG_GAP:
        return {}  # both may have fused other operators here
    blocks = SequenceMatcher(None, keys_a, keys_b, autojunk=False).get_matching_blocks()
    mine = [a[i + k] for i, _, count in blocks for k in range(count)]
    theirs = [b[j + k] for _, j, count in blocks for k in range(count)]
    _uncross(mine, theirs)
    return {x.id: (y, "order") for x, y in zip(mine, theirs, strict=True)}


def _uncross(a: Sequence[LayerResult], b: list[LayerResult]) -> None:
    """Exchanges partners that are much nearer crosswise: branches that are alike may stand in another order."""
    alike: dict[Any, list[int]] = {}
    for k, result in enumerate(a):
        alike.setdefault((result.kind, result.array.shape), []).append(k)
    for places in alike.values():
        if not 1 < len(places) <= _MOST_ALIKE:
            continue
        mine, theirs = (np.stack([_sample(results[k]) for k in places]) for results in (a, b))
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(mine[:, None] - theirs[None]).sum(axis=2)
        for i, j in combinations(range(len(places)), 2):
            if apart[i, j] + apart[j, i] < _NEARER * (apart[i, i] + apart[j, j]):
                b[places[i]], b[places[j]] = b[places[j]], b[places[i]]
                apart[:, [i, j]] = apart[:, [j, i]]


def _judged(compared: Sequence[tuple[LayerResult, LayerResult, str, dict[str, Any]]]) -> list[tuple[bool, bool]]:
    """Which pairs to believe, and which of those are sure.

    Not to be believed are those found by order or stem that are unlike while what is made of them is the same. Two such
    results have no more in common than operator and shape: of two branches with a sum behind them, one run fuses the
    sum with the first, the other with the second, and each has only a result of the other branch. A name is believed
    even then, but it is not sure that it means the same in both.
    """
    judged = []
    same_behind: dict[int, bool] = {}  # for a variable whether all results that read it are the same
    for mine, theirs, how, found in reversed(compared):
        same, behind = found["equal"], same_behind.get(mine.id, False)
        snr = found.get("snr_db", -math.inf)  # None without noise
        unlike, foreign = (snr is not None and snr < limit for limit in (_UNLIKE, _FOREIGN))
        believed = not (how in _GUESSED and not same and unlike and behind)
        if how == "name":  # NaN and infinities are a difference whatever becomes of them
            foreign = foreign and behind and ("reason" not in found or mine.array.shape != theirs.array.shape)
        sure = same or not foreign or how == "number"
        judged.append((believed, sure))
        unknown = not believed or (how == "name" and not sure)
        for read in mine.reads:
            same_behind[read] = same_behind.get(read, True) and (same or unknown)
    return judged[::-1]


def _in_steps(a: LayerResult, b: LayerResult) -> dict[str, Any]:
    """How far stored numbers are apart, if a step is the same for both, and whether both types round alike."""
    own, other = a.dtype, b.dtype
    if own is None or other is None or not (own.is_quantized and other.is_quantized) or own.scale != other.scale:
        return {}
    if a.array.shape != b.array.shape:
        return {}
    steps = (a.array.astype(np.int64) - own.zero_point) - (b.array.astype(np.int64) - other.zero_point)
    return {"steps": int(np.abs(steps).max(initial=0)), "same_rounding": own.ties_to_even == other.ties_to_even}


def _note_on_first(layers: Sequence[Mapping[str, Any]], first: int) -> str:
    """What there is to say of the first result that differs."""
    note = _note(layers[first])
    if layers[first]["sure"]:
        return note
    by_name = layers[first]["matched_by"] in _BY_NAME
    note += (
        f"{' ' if note else ''}The other run's result was found by its {'name' if by_name else 'place'} alone, and both"
        f" have little in common: it may be {'another one' if by_name else 'the result of another branch'}."
    )
    sure = next((k for k, layer in enumerate(layers) if not layer["equal"] and layer["sure"]), None)
    if sure is None:
        return note
    return f"{note} The first that differs beyond doubt: {sure}, {layers[sure]['op']} {layers[sure]['name']!r}."


def name_of_pair(layer: Mapping[str, Any]) -> str:
    """The name of a result, and that in the other run where the pair would else be taken for another one."""
    other = layer["other_name"]
    shows_both = layer["misnamed"] or not layer["sure"]
    return f"{layer['name']} (there {other})" if shows_both and other != layer["name"] else layer["name"]


def state_of_pair(layer: Mapping[str, Any], different: str = "different") -> str:
    """What was found, in a few words, with a question mark where the pair is in doubt."""
    return state_text(layer, different) + ("" if layer["sure"] else "?")


def note_on_doubts(layers: Sequence[Mapping[str, Any]]) -> str:
    """A sentence on the question marks; empty if there are none."""
    ways = [layer["matched_by"] in _BY_NAME for layer in layers if not layer["sure"]]
    if not ways:
        return ""
    found = "name or place" if True in ways and False in ways else "name" if ways[0] else "place"
    return (
        f"With a question mark: found by their {found} alone, and they have hardly anything in common, so they may be"
        " different results."
    )


def _note(layer: Mapping[str, Any]) -> str:
    """How much of a result differs, and why if that is plain."""
    if "reason" in layer:
        return ""
    count = math.prod(layer["shape"])
    told = f"{layer['unequal']:,} of {count:,} numbers differ"
    if "steps" not in layer:
        return f"{told}."
    told += f", by {layer['steps']} step{'s' * (layer['steps'] != 1)} of their quantized type at most."
    if layer["steps"] == 1 and not layer["same_rounding"]:
        told += (
            " What lies in the middle between two steps is rounded away from zero in MegEngine's files and to the even"
            " step in ONNX. Results made of these may differ by more."
        )
    return told


def compare_layers(
    a: Sequence[LayerResult], b: Sequence[LayerResult], *, same_file: bool, tolerance: float, names: Sequence[str]
) -> dict[str, Any]:
    """The comparison as plain types.

    Parameters
    ----------
    a, b
        Results of both runs. Differences are in parts of the largest values of ``b``.
    same_file
        Both are of one model, so that variables have the same numbers. Otherwise results belong together that have the
        same name (that of a tensor, or of an operator), or that of a step of it in an exported file, or else the same
        shape and numbers. Between these the order decides, among results of the same operators and shapes. A name that
        the numbers, the operator or the shape contradict comes last. Pairs by a step, by order or by such a name that
        are unlike are left out if all that is made of them is the same.
    tolerance
        The largest difference in parts of the largest value at which numbers are the same.
    names
        What the runs are called.

    Raises
    ------
    LiteValueError
        ``b`` is stored, and no name in it is that of a result.

    Returns
    -------
    dict
        ``layers``: for each result that both have ``op``, ``name``, ``other_name``, ``shape``, ``matched_by``,
        ``misnamed`` (another result of the other run has that name), ``sure`` (False for results that differ and may
        not belong together), and what :func:`compare_closely` tells; of results of one quantized type also ``steps``,
        the largest difference in scales, and ``same_rounding``, whether both round halves to the same side. ``first``:
        the position of the first that differs, or None. ``note``: a sentence on that.
    """
    compared = [
        (mine, theirs, how, _compared(mine, theirs, tolerance))
        for mine, theirs, how in _pairs(a, b, same_file, tolerance)
    ]
    names_of_b = {r.name for r in b}
    layers = [
        {
            "op": mine.op,
            "name": mine.name,
            "other_name": theirs.name,
            "shape": list(mine.array.shape),
            "matched_by": how,
            "misnamed": how in ("value", "order") and mine.name in names_of_b and mine.name != theirs.name,
            "sure": sure,
            **found,
        }
        for (mine, theirs, how, found), (believed, sure) in zip(compared, _judged(compared), strict=True)
        if believed
    ]
    if a and b and not layers and not any(r.op for r in b):
        few = ", ".join(repr(next(iter((*r.tensors, *r.operators)), r.name)) for r in a[:3])
        raise LiteValueError(
            f"none of the {len(b)} stored values has the name of a result of this model, that of a tensor or of an"
            f" operator: the first are {few}. Rename the values"
        )
    first = next((k for k, layer in enumerate(layers) if not layer["equal"]), None)
    return {
        "names": list(names),
        "tolerance": tolerance,
        "layers": layers,
        "first": first,
        "note": "" if first is None else _note_on_first(layers, first),
        "unmatched": [len(a) - len(layers), len(b) - len(layers)],
    }
