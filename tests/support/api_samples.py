"""Small models for the tests of the public API."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import numpy as np

import megengine_lite
from megengine_lite import LiteConfig, LiteNetwork
from megengine_lite._core.formats.containers import cryption
from megengine_lite._core.formats.containers.packed import Package, write_package
from megengine_lite._core.formats.mge.records import ModelRecord
from megengine_lite._core.ir.dtype import FLOAT32, DType
from megengine_lite._core.ir.params import Elemwise, ElemwiseMode
from support.loader_samples import add_record, input_operator, operator, to_bytes
from support.places import TESTS

API_MODELS = TESTS / "models" / "api"
DIGITS = Path(megengine_lite.__file__).parent / "bundled" / "digits.mge"
_DIGITS_DATA = np.load(DIGITS.with_suffix(".npz"))

IMAGES: np.ndarray = _DIGITS_DATA["images"].astype("float32")[:, None]
"""Input ``data`` of the digits model: [360, 1, 8, 8]."""
PROB: np.ndarray = _DIGITS_DATA["prob"]
"""What the original computes from it: [360, 10]."""
NO_IMAGES = (
    b"", b"junk", b"\xff", b"[1, 2]", b"[[1, 2], [3]]", b"{}", b'{"a": 1}', b'"x"', b"null", b"[" * 50_000, b"[[NaN]]",
    *(json.dumps([[number] * 8] * 8).encode() for number in (np.inf, np.nan, 1e300, 10**400, None, "x", {})),
)  # fmt: skip
"""What a service may get in place of an image."""

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


@contextlib.contextmanager
def busy(model: megengine_lite.Model):
    """Occupies a worker of the model; runs wait for it."""
    begun, go_on = threading.Event(), threading.Event()

    def hold(_) -> None:
        begun.set()
        go_on.wait()

    holder = threading.Thread(target=model._loans.lend, args=(hold,))
    holder.start()
    begun.wait()
    try:
        yield
    finally:
        go_on.set()
        holder.join()


def run(network: LiteNetwork, images: np.ndarray = IMAGES) -> np.ndarray:
    """The digits model's output for images."""
    network.get_io_tensor("data").set_data_by_copy(images)
    network.forward()
    network.wait()
    return network.get_io_tensor("prob").to_numpy()


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether the outputs of a small model are the same except for rounding."""
    return bool(np.abs(a - b).max() <= 1e-5)


def add(network: LiteNetwork, a: float, b: float) -> np.ndarray:
    """``a + b`` by the add model."""
    network.get_io_tensor("a").set_data_by_copy([a] * 6)
    network.get_io_tensor("b").set_data_by_copy([b] * 6)
    network.forward()
    network.wait()
    return network.get_io_tensor("sum").to_numpy()


def packed(
    model: bytes = ADD, information: dict | None = None, method: str = "NONE", name: str = "net", **fields
) -> bytes:
    """A package around a model; ``information`` is added to what makes it valid."""
    content = {"valid": True, "name": name, "version": "1.13.0", **(information or {})}
    made = Package(
        name=name,
        model=cryption.encrypt(method, model),
        model_cryption=method,
        information=cryption.encrypt(method, json.dumps(content).encode()),
        information_cryption=method,
        **fields,
    )
    return b"".join(map(bytes, write_package(made)))


def two_inputs(shape, dtype: DType = FLOAT32) -> bytes:
    """The model ``sum = a + b`` of two inputs of this shape and type."""
    operators = [input_operator(i, side, shape, dtype) for i, side in enumerate("ab")]
    operators.append(operator("Elemwise", (0, 1), (2,), Elemwise(mode=ElemwiseMode.ADD)))
    return to_bytes(ModelRecord("v2", 101300, operators, [(2, "")], {2: "sum"}))
