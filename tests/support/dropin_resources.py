"""Directories in the shape that the original's own tests expect, for the tests of the package under its name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from megengine_lite import LiteAlgoSelectStrategy
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.formats.containers import cryption
from support.api_samples import API_MODELS, DIGITS, IMAGES, PROB, loaded, packed, run

INFORMATION = {
    "device": {"type": "CPU"},
    "IO": {
        "inputs": [{"name": "data", "is_host": True, "io_type": "value", "dtype": "float32"}],
        "outputs": [{"name": "prob", "is_host": True, "io_type": "value", "dtype": "float32"}],
    },
}


def make_resources(directory: Path) -> None:
    """Fills a directory with the files of the original's tests, made of the bundled models."""
    plain = DIGITS.read_bytes()
    (directory / "shufflenet.mge").write_bytes(plain)
    np.save(directory / "input_data.npy", IMAGES)
    np.save(directory / "output_data.npy", PROB.ravel())
    (directory / "shufflenet_crypt_aes.mge").write_bytes(cryption.encrypt("AES_default", plain))
    (directory / "test_packed_model_rc4.lite").write_bytes(packed(plain, INFORMATION, "RC4_default", "shufflenet"))
    content = packed(plain, INFORMATION, name="shufflenet", is_fast_run_cache=True, algorithm_cache=measured(directory))
    (directory / "test_pack_cache_to_model.lite").write_bytes(content)

    shutil.copy(API_MODELS / "test_discrete_input.mge", directory)
    rng = np.random.default_rng(13)
    data = rng.random((3, 3, 224, 224), np.float32)
    np.save(directory / "data_b3.npy", data)
    for k in range(3):
        np.save(directory / f"data{k}.npy", data[k : k + 1])
    roi = np.eye(3, dtype="float32") + rng.uniform(-0.001, 0.001, (3, 3, 3)).astype("float32")
    np.save(directory / "roi.npy", roi)


def measured(directory: Path) -> bytes:
    """The cache of fast-run after a run of the model."""
    CACHE.clear()
    network = loaded()
    network.set_network_algo_policy(LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
    run(network)
    CACHE.dump(str(directory / "cache"))
    CACHE.clear()
    return (directory / "cache").read_bytes()
