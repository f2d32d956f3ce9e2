"""Random values of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from megengine_lite._core.system.memory_limit import check_room


def random_values(
    shape: Sequence[int], dtype: np.dtype, seed: int, integers: tuple[int, int] | None = None
) -> np.ndarray:
    """Values that suit any network: numbers from 0 to 1, bytes, or zeros and ones where they may be indices.

    They are small and not negative, so that networks do not saturate, and roots and logarithms exist. ``integers`` are
    the lowest number, and the one behind the highest, that suit an input of other integers than bytes.
    """
    check_room(shape, dtype, "random values")
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.random(shape, np.float32).astype(dtype)
    low, high = {"uint8": (0, 256), "int8": (0, 128)}.get(dtype.name, integers or (0, 2))
    return generator.integers(low, high, shape, dtype)


def with_integers(
    given: Mapping[str, np.ndarray], function: Callable[[np.ndarray], np.ndarray]
) -> dict[str, np.ndarray]:
    """The same values, of which those that are integers are replaced."""
    return {name: function(v) if v.dtype.kind in "iu" else v for name, v in given.items()}


def without_zeros(values: np.ndarray) -> np.ndarray:
    """Integers by which others can be divided."""
    return np.where(values == 0, values.dtype.type(1), values)
