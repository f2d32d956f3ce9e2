"""A model imports what it needs: the families of its operators, their tables of parameters, and their lowerings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.api_samples import DIGITS
from support.places import TESTS

import megengine_lite
from megengine_lite._core.cpu.lower.table import TABLE
from megengine_lite._core.ir import params
from megengine_lite._core.operators import BUILT_IN, REGISTRY
from megengine_lite._core.operators.shape import PassThrough
from megengine_lite._core.system.late_import import LateFunction

INSTALLED = Path(megengine_lite.__file__).parent
DIGITS_INT8 = TESTS / "models" / "digits" / "digits_int8.mge"
CODE = """
import sys, numpy
before = set(sys.modules)
import megengine_lite
network = megengine_lite.LiteNetwork()
network.load(sys.argv[1])
network.forward()
network.wait()
print(*set(sys.modules) - before)
"""
# What the reader, passes and the table of the dispatch need whatever the operators are.
ALWAYS = {
    "_core.operators": {
        "base", "conv_shape", "conv_types", "elemwise", "elemwise_functions", "facts", "fused", "import_index",
        "matmul", "names", "origins", "power", "registry", "samples", "shape", "sources", "checks", "window",
    },
    "_core.cpu.lower": {"copying", "modes", "table"},
    "_core.ir.params": {"base", "control", "conv", "elemwise", "import_index", "tensor"},
}  # fmt: skip


def imported(model: Path) -> set[str]:
    done = subprocess.run([sys.executable, "-c", CODE, model], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def families(modules: set[str], package: str) -> set[str]:
    """The modules of a package, without those that every model needs."""
    prefix = f"megengine_lite.{package}."
    return {m.removeprefix(prefix) for m in modules if m.startswith(prefix)} - ALWAYS[package]


@pytest.mark.parametrize(
    ("model", "operators", "lowerings", "tables"),
    [
        (
            DIGITS, {"convolution", "norm", "reduce", "softmax"},
            {
                "conv", "conv_direct", "conv_plain", "conv_winograd", "elemwise", "gather_channels", "matmul", "reduce",
                "shape", "softmax", "window",
            },
            {"nn"},
        ),
        (
            DIGITS_INT8,
            {"convolution", "fused_quantized", "reduce", "softmax", "typecvt"},
            {
                "conv_direct", "elemwise", "gather_channels", "matmul", "quantized_conv", "reduce", "requantize",
                "shape", "softmax", "window",
            },
            {"nn"},
        ),
    ],
)  # fmt: skip
def test_a_model_imports_the_families_of_its_operators(model, operators, lowerings, tables):
    modules = imported(model)
    assert families(modules, "_core.operators") == operators
    assert families(modules, "_core.cpu.lower") == lowerings
    assert families(modules, "_core.ir.params") == tables


def test_a_model_imports_nothing_that_it_does_not_use():
    modules = imported(DIGITS)
    unused = {
        "dataclasses", "difflib", "hashlib", "json", "logging.handlers", "pathlib", "random", "secrets", "urllib.parse",
        "megengine_lite._core.ir.onnx_params", "megengine_lite._core.ir.onnx_image_params",
        "megengine_lite._core.formats.onnx",
    }  # fmt: skip
    assert modules & unused == set()


def test_the_python_api_imports_no_event_loop():
    code = "import sys, megengine_lite; megengine_lite.load(sys.argv[1]); print(*sys.modules)"
    words = [sys.executable, "-c", code, DIGITS]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"asyncio", "ssl", "socket"} & set(done.stdout.split()) == set()


def test_all_lowering_functions_exist():
    late = [f for row in TABLE.rows for f in (row.lower, row.halo) if f is not None]
    assert len(late) > 100
    for function in late:
        assert isinstance(function, LateFunction)
        assert callable(function.find()) and function.find().__name__ == function.__name__


# Modules of ``lower`` with functions that others call, and the table itself.
HELPERS = {
    "__init__", "conv_direct", "conv_winograd", "copying", "deconv_columns", "modes", "quantized_iteration",
    "requantize", "table", "window",
}  # fmt: skip


def test_both_lists_of_the_table_name_all_families():
    text = (INSTALLED / "_core" / "cpu" / "lower" / "table.py").read_text()
    for_types = re.search(r"import \((.*?)\)\nelse:", text, re.S)
    for_runs = re.search(r'_FAMILIES = """(.*?)"""', text, re.S)
    families = {p.stem for p in (INSTALLED / "_core" / "cpu" / "lower").glob("*.py")} - HELPERS
    assert len(families) > 20
    assert sorted(re.findall(r"\w+", for_types[1])) == sorted(for_runs[1].split()) == sorted(families)


def test_every_operator_that_passes_its_input_on_has_a_row():
    same = {name for name, operator in BUILT_IN.items() if isinstance(operator, PassThrough)}
    assert same == {row.op for row in TABLE.rows if row.lower.__name__ == "lower_pass_through"} - {"TypeCvt"}


def test_names_that_nobody_has_are_refused():
    assert "NoOperator" not in REGISTRY and REGISTRY.get("NoOperator") is None
    with pytest.raises(KeyError, match="NoOperator"):
        REGISTRY["NoOperator"]
    with pytest.raises(AttributeError, match="NoTable"):
        params.NoTable  # noqa: B018
    assert params.table_of(250) is None
