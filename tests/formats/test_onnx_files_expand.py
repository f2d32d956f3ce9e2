"""Target shapes in which -1 stands for a size, as exporters write them, in files that are made of ONNX models."""

import numpy as np
import pytest
from support.onnx_models import bytes_of_text, load, run

from megengine_lite import LiteConfig
from megengine_lite._api.conversion import converted
from megengine_lite.errors import LiteError

SIZES = [(2, 4), (3, 4), (2, 5), (3, 7), (1, 1), (2, 1)]
# How the target is made, the number that stands for a size, and whether the sizes of inputs may change.
TARGETS = {
    "unchanged axes": ("u = Concat<axis = 0>(other, other, s)", -1, True),
    "a new axis": ("u = Concat<axis = 0>(one, other, other, s)", -1, True),
    "an axis in front": ("u = Concat<axis = 0>(s, other, other, one)", -1, True),
    "numbers": ("i = Concat<axis = 0>(other, other) u = Concat<axis = 0>(i, two)", -1, True),
    "what a size may be": ("u = Concat<axis = 0>(one, one, s)", 4, False),
    "a sum": ("t = Sub(s, two) u = Concat<axis = 0>(one, one, t)", -1, False),
}


@pytest.mark.parametrize("name", TARGETS)
def test_sizes_follow_where_the_choice_is_the_same_for_all(name):
    target, other, may_change = TARGETS[name]
    content = bytes_of_text(
        "(float[n, 3] x, float[m] z) => (float y) <int64[1] one = {1}, int64[1] two = {2}, int64[1] last = {-1}, "
        f"int64[1] other = {{{other}}}> {{ s = Shape(z) {target} us = Shape(u) "
        "ones = ConstantOfShape<value = int64[1] {1}>(us) numbers = Mul(ones, other) e = Equal(u, numbers) "
        "w = Where(e, ones, u) v = Unsqueeze(x, last) y = Expand(v, w) }"
    )
    shapes = {"x": (2, 3), "z": (4,)}
    file = load(b"".join(map(bytes, converted(content, LiteConfig(), verify=False, shapes=shapes).chunks)))
    model = load(content)
    for n, m in SIZES:
        given = {"x": np.arange(3 * n, dtype=np.float32).reshape(n, 3), "z": np.zeros(m, np.float32)}
        if may_change or (n, m) == (2, 4):
            np.testing.assert_array_equal(run(file, **given)[0], run(model, **given)[0])
        else:
            with pytest.raises(LiteError, match="AssertEqual"):
                run(file, **given)
