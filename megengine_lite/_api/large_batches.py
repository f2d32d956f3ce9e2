"""Large batches, of which some samples run at a time: what is computed of them is read while it is in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from megengine_lite._core.runtime.session import Session


def answer_in_parts(
    session: Session, use_memory: Callable[[Callable[[], Any]], Any], inputs: Mapping[str, np.ndarray], size: int
) -> dict[str, np.ndarray]:
    """The outputs for a batch, computed for ``size`` samples at a time, which divide it.

    ``use_memory`` calls a function while the session's memory is its own.
    """
    count = len(next(iter(inputs.values())))
    outputs: dict[str, np.ndarray] = {}

    def run(begin: int) -> None:
        part = {name: array[begin : begin + size] for name, array in inputs.items()}
        for name, rows in session.run_part(part).items():
            if begin == 0:
                outputs[name] = np.empty((count, *rows.shape[1:]), rows.dtype)
            outputs[name][begin : begin + size] = rows

    for begin in range(0, count, size):
        use_memory(partial(run, begin))
    return outputs
