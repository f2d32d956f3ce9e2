"""Commands on a model that was dumped with test cases: it asserts that its outputs are those of a case."""

import numpy as np
import pytest
from support.loader_samples import add_record, constant_operator, input_operator, operator, to_bytes

from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.params import AssertEqual

A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.full((2, 3), 0.5, np.float32)


def _case(**values) -> bytes:
    """A test case: the values of the inputs, sorted by name."""
    operators = [constant_operator(k, v.shape, data=v) for k, (_, v) in enumerate(sorted(values.items()))]
    return to_bytes(ModelRecord("v2", 101300, operators, [(k, "") for k in range(len(operators))]))


@pytest.fixture(params=[1, 2])
def model(request, tmp_path):
    """``sum = a + b``, which must be ``expected``; with one or two test cases."""
    record = add_record()
    record.operators += [input_operator(3, "expected"), operator("AssertEqual", (3, 2), (4,), AssertEqual())]
    record.outputs = [(4, "")]
    cases = [_case(a=A + k, b=B, expected=A + B + k) for k in range(request.param)]
    path = tmp_path / "cases.mge"
    path.write_bytes(b"mgbtest0" + len(cases).to_bytes(4, "little") + to_bytes(record) + b"".join(cases))
    return path


COMMANDS = {
    "run": (),
    "bench": ("--iter", 2),
    "profile": ("--iter", 2),
    "verify": (),
    "verify --other": ("--other", "--threads 2"),
    "fit": ("--threads", 1),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_stored_case_is_what_a_command_runs_on(command, model, run_json, error_of):
    result = run_json(command.split()[0], model, *COMMANDS[command])
    assert not result.get("failed")
    if command == "bench":
        assert result["inputs"] == {"a": [2, 3], "b": [2, 3], "expected": [2, 3]}
    # What the command line says goes before it, and the model notices.
    assert "AssertEqual" in error_of(command.split()[0], model, *COMMANDS[command], "--input", "a=[[9,9,9],[9,9,9]]")


def test_inputs_that_are_not_given_are_those_of_the_case(model, run_json):
    given = run_json("run", model, "--input", f"a={A.tolist()}")["cases"]
    assert [case["outputs"][next(iter(case["outputs"]))]["max"] for case in given] == [(A + B).max()]
