"""Tensors and networks on the device of the tests, which the fixture ``device`` makes known."""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite import LiteConfig, LiteDeviceType, LiteIO, LiteNetwork, LiteNetworkIO, LiteTensor
from support.api_samples import DIGITS, loaded

OURS = LiteDeviceType.LITE_ATLAS
"""The type of the device; no other of that type exists."""


def on_device(array: np.ndarray | None = None, **arguments: Any) -> LiteTensor:
    """A tensor on the device, with a copy of an array."""
    tensor = LiteTensor(device_type=OURS, **arguments)
    if array is not None:
        tensor.set_data_by_copy(array)
    return tensor


def settings(**options: int) -> LiteConfig:
    """Settings of a network on the device."""
    made = LiteConfig(OURS)
    for name, value in options.items():
        setattr(made.options, name, value)
    return made


def device_io(model: str = "digits") -> LiteNetworkIO:
    """All inputs and outputs in memory of the device."""
    inputs, outputs = {"digits": (["data"], ["prob"]), "add": (["a", "b"], ["sum"])}[model]
    return LiteNetworkIO([LiteIO(n, is_host=False) for n in inputs], [LiteIO(n, is_host=False) for n in outputs])


def network(source: Any = DIGITS, io: LiteNetworkIO | None = None, **options: int) -> LiteNetwork:
    """A loaded network on the device."""
    return loaded(source, settings(**options), io)
