"""Small models for the tests of the public API."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from loader_samples import add_record, to_bytes

import megengine_lite
from megengine_lite import LiteConfig, LiteNetwork

API_MODELS = Path(__file__).parent / "models" / "api"
DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
_DIGITS_DATA = np.load(DIGITS.with_suffix(".npz"))

IMAGES: np.ndarray = _DIGITS_DATA["images"].astype("float32")[:, None]
"""Input ``data`` of the digits model: [360, 1, 8, 8]."""
PROB: np.ndarray = _DIGITS_DATA["prob"]
"""What the original computes from it: [360, 10]."""

ADD = to_bytes(add_record())
"""The model ``sum = a + b`` of two [2, 3] float32 inputs."""


def loaded(source=DIGITS, config: LiteConfig | None = None, io=None, **settings) -> LiteNetwork:
    """A network with a model; ``settings`` are attributes to set before it is loaded."""
    network = LiteNetwork(config, io)
    for name, value in settings.items():
        setattr(network, name, value)
    network.load(source)
    return network


def config(**options) -> LiteConfig:
    """A configuration with these options."""
    made = LiteConfig()
    for name, value in options.items():
        setattr(made.options, name, value)
    return made


def run(network: LiteNetwork, images: np.ndarray = IMAGES) -> np.ndarray:
    """The digits model's output for images."""
    network.get_io_tensor("data").set_data_by_copy(images)
    network.forward()
    network.wait()
    return network.get_io_tensor("prob").to_numpy()


def add(network: LiteNetwork, a: float, b: float) -> np.ndarray:
    """``a + b`` by the add model."""
    network.get_io_tensor("a").set_data_by_copy([a] * 6)
    network.get_io_tensor("b").set_data_by_copy([b] * 6)
    network.forward()
    network.wait()
    return network.get_io_tensor("sum").to_numpy()
