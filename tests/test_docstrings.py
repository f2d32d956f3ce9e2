"""The examples in the docstrings of the public modules run."""

import doctest
import importlib
import sys

import pytest

MODULES = ["", "_api.layout", "_api.options", "base", "global_setting", "network", "tensor", "utils"]
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
