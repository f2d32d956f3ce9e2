"""The examples in the docstrings of the public modules and of the kernels run."""

import doctest
import importlib
import re
import sys

import pytest

from megengine_lite._core.cpu.kernel_set import kernel_set

MODULES = ["", "_api.layout", "_api.network_io", "_api.options", "base", "global_setting", "network", "tensor", "utils"]
WITH_EXAMPLES = set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(f"megengine_lite.{name}".rstrip("."))
    try:
        result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    finally:
        for installed in [n for n in sys.modules if n.partition(".")[0] == "megenginelite"]:
            del sys.modules[installed]
    assert result.failed == 0
    assert (result.attempted > 0) == (name in WITH_EXAMPLES)


def test_public_methods_do_not_show_the_words_of_other_packages():
    """A method that has none is documented by what it overrides, in whatever form and words that is."""
    checked = 0
    for name in ("", "batch", "errors", "model", "network", "struct", "tensor", "utils"):
        module = importlib.import_module(f"megengine_lite.{name}".rstrip("."))
        for cls in {c for c in vars(module).values() if isinstance(c, type)}:
            if not cls.__module__.startswith("megengine_lite"):
                continue
            for method, function in vars(cls).items():
                others = (base for base in cls.__mro__[1:] if not base.__module__.startswith("megengine_lite"))
                if not method.startswith("_") and callable(function) and any(hasattr(base, method) for base in others):
                    assert function.__doc__, f"{cls.__name__}.{method}"
                    checked += 1
    assert checked


# The functions that run a kernel on arrays, one for each family.
EDGES = {
    "conv_direct": {"conv_direct"},
    "elemwise": {"elemwise_chain"},
    "gemm": {"matmul"},
    "pooling": {"pool_images"},
    "reduce": {"reduce"},
    "relayout": {"nchw_to_packed", "packed_to_nchw"},
    "probe": {"run_multiply_adds"},
}
FACTS = re.compile(
    r"(\w+_)?scratch_bytes|slack_bytes|largest_sums|row_(part|floats)|rows_of_band|work_items"
)  # that planners ask for


def test_kernel_modules_have_one_function_per_family():
    """All other kernels are called by the names of their arguments; other functions say what a kernel needs."""
    kernels = kernel_set()
    package = importlib.import_module(f"megengine_lite.kernels._{kernels.name}")
    found = {}
    for name in package.MODULES:
        module = kernels.module(name)
        functions = {n for n, f in vars(module).items() if callable(f) and f.__module__.endswith(f".{name}")}
        if functions := {n for n in functions if not n.startswith("_") and not FACTS.fullmatch(n)}:
            found[name] = functions
    assert found == EDGES


@pytest.mark.parametrize("name", ["elemwise", "gemm", "pooling", "reduce"])
def test_examples_of_kernels(name):
    result = doctest.testmod(kernel_set().module(name))
    assert result.failed == 0
    assert result.attempted > 0
