"""Files of MegEngine's that are made of the package onnx's cases, for inputs of other sizes than they were made for.

Each gives what the model gives, or refuses the sizes.
"""

import itertools

import numpy as np
import pytest
from support.onnx_cases import _array, cases, load, out_of_scope

from megengine_lite._api.comparison import run_here
from megengine_lite._core.compile.transform.for_original import for_original
from megengine_lite._core.formats.load import load_model
from megengine_lite._core.formats.mge.to_record import new_record
from megengine_lite._core.formats.mge.writer_v2 import write_v2
from megengine_lite._core.runtime.session import Session
from megengine_lite.errors import LiteError, UnsupportedOperatorError

pytestmark = pytest.mark.filterwarnings("ignore")
PARTS = 16


def names():
    left_out = out_of_scope()
    return [name for name in cases() if name not in left_out and cases()[name].model is not None]


def file_of(model, inputs):
    shapes = {v.name: x.shape for v, x in zip(model.graph.inputs, inputs, strict=True)}
    graph = for_original(model.graph, "model", shapes)
    made = load_model(b"".join(bytes(c) for c in write_v2(new_record(graph))))
    made.scalars = model.scalars
    return made


def other_sizes(inputs):
    """Inputs of which axes have another size; the elements are there again, so that indexes stay valid.

    One axis of an input changes, or all that have one size.
    """
    places = [(k, axis) for k, x in enumerate(inputs) for axis in range(x.ndim)]
    by_size = {}
    for k, axis in places:
        by_size.setdefault(inputs[k].shape[axis], []).append((k, axis))
    groups = [[place] for place in places] + [group for group in by_size.values() if len(group) > 1]
    for group, change in itertools.product(groups, (lambda n: 2 * n + 1, lambda n: max(n - 1, 1))):
        changed = list(inputs)
        for k, axis in group:
            count = change(changed[k].shape[axis])
            changed[k] = np.take(changed[k], np.arange(count), axis, mode="wrap") if changed[k].size else changed[k]
        if [x.shape for x in changed] != [x.shape for x in inputs]:
            yield changed


def results(model, inputs):
    """The outputs; None if these inputs are refused."""
    session = Session(model)
    try:
        run_here(session, {v.name: x for v, x in zip(model.graph.inputs, inputs, strict=True)})
    except LiteError:
        return None
    return [session.output(name).array().copy() for name in model.output_names]


def outcomes(name):
    """For each choice of other sizes what the file does, if the model takes them: "wrong", "refused" or "right"."""
    case = cases()[name]
    model = load(case)
    inputs = [np.atleast_1d(_array(v)) for v in case.data_sets[0][0]]
    try:
        made = file_of(model, inputs)
    except UnsupportedOperatorError:
        return []
    found = []
    for changed in other_sizes(inputs):
        expected = results(model, changed)
        if expected is None or any(0 in x.shape for x in expected):
            continue
        outputs = results(made, changed)
        if outputs is None:
            found.append("refused")
            continue
        for output, wanted in zip(outputs, expected, strict=True):
            same = output.shape == wanted.shape and np.allclose(
                output.astype(np.float64), wanted.astype(np.float64), 2e-3, 2e-3, equal_nan=True
            )
            found.append("right" if same else f"wrong: {[x.shape for x in changed]}")
    return found


@pytest.mark.parametrize("part", range(PARTS))
def test_files_give_the_results_of_the_model_or_refuse_the_sizes(part):
    found = {name: outcomes(name) for name in names()[part::PARTS]}
    assert {n: wrong for n, some in found.items() if (wrong := [o for o in some if o.startswith("wrong")])} == {}
    counts = [o for some in found.values() for o in some]
    assert counts.count("right") > 50
