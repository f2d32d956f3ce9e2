"""Kernels touch no byte outside of the caller's memory: inputs and outputs between pages that must not be touched."""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from support.api_samples import API_MODELS, DIGITS, IMAGES, PROB, config, loaded

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs mprotect")

PAGE = mmap.PAGESIZE


def guarded(array: np.ndarray, at_end: bool) -> np.ndarray:
    """A copy of an array that ends (or begins) where a forbidden page begins (or ends). Never freed."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = -(-max(array.nbytes, 1) // PAGE) * PAGE
    base = libc.mmap(
        None, size + 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
    )
    for forbidden in (base, base + PAGE + size):
        assert libc.mprotect(forbidden, PAGE, 0) == 0
    start = base + PAGE + (size - array.nbytes if at_end else 0)
    copy = np.frombuffer((ctypes.c_char * array.nbytes).from_address(start), array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("images", [1, 3, 17])
def test_digits(images, at_end):
    network = loaded(DIGITS, config(force_output_use_user_specified_memory=1))
    network.get_io_tensor("data").set_data_by_share(guarded(IMAGES[:images], at_end))
    target = guarded(np.zeros((images, 10), "float32"), at_end)
    network.get_io_tensor("prob").set_data_by_share(target)
    network.forward()
    network.wait()
    assert np.abs(target - PROB[:images]).max() < 1e-5


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("model", ["multi_io", "batch_by_shape", "cond_take"])
def test_other_models(model, at_end):
    network = loaded(API_MODELS / f"{model}.mge")
    data = np.load(API_MODELS / f"{model}.npz")
    for name in network.get_all_input_name():
        network.get_io_tensor(name).set_data_by_share(guarded(data[f"in_{name}"], at_end))
    network.forward()
    network.wait()
    for i, name in enumerate(network.get_all_output_name()):
        assert np.abs(network.get_io_tensor(name).to_numpy() - data[f"out_{i}"]).max() < 1e-5
