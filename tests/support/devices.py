"""Tensors on the device of the tests, which the fixture ``device`` makes known."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite import LiteDeviceType, LiteTensor

OURS = LiteDeviceType.LITE_ATLAS
"""The type of the device; no other of that type exists."""


def on_device(array: np.ndarray | None = None, **arguments: Any) -> LiteTensor:
    """A tensor on the device, with a copy of an array."""
    tensor = LiteTensor(device_type=OURS, **arguments)
    if array is not None:
        tensor.set_data_by_copy(array)
    return tensor
