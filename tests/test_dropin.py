"""The package under the original's name, and in the shape of the original's own programs and tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).parent
SHARED = TESTS.parents[1] / "shared" / "models"


def in_process(code: str, cwd=None) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_programs_for_the_original_run_unchanged():
    out = in_process(
        "import megengine_lite\n"
        "megengine_lite.install_as_megenginelite()\n"
        "megengine_lite.install_as_megenginelite()\n"
        "import megenginelite as mgelite\n"
        "from megenginelite import *\n"
        "from megenginelite.tensor import LiteTensor as Same\n"
        "import megenginelite.network, megenginelite.global_setting, megenginelite.utils, megenginelite.struct\n"
        "import megenginelite.base\n"
        "assert Same is LiteTensor is mgelite.LiteTensor is megengine_lite.LiteTensor\n"
        "import numpy as np\n"
        "tensor = LiteTensor(LiteLayout([2], 'float32'))\n"
        "tensor.set_data_by_share(c_void_p(np.ones(2, 'float32').ctypes.data), length=8)\n"
        "print(mgelite.version, tensor.nbytes)\n"
    )
    assert out == "1.13.0 8"


def test_original_that_is_imported_already_is_not_replaced():
    out = in_process(
        "import sys, types\n"
        "sys.modules['megenginelite'] = types.ModuleType('megenginelite')\n"
        "import megengine_lite\n"
        "try:\n"
        "    megengine_lite.install_as_megenginelite()\n"
        "except megengine_lite.LiteError as error:\n"
        "    print('already' in str(error))\n"
    )
    assert out == "True"


# ---- what the original's test-suite fixes, on its own fixtures ------------------------------------------------------

needs_fixtures = pytest.mark.skipif(not SHARED.exists(), reason="the model collection is not here")
pytestmark = pytest.mark.filterwarnings("ignore:the model is encrypted with the default key")


def check(source: str, config=None, extra=None, images=None, tolerance=1e-4):
    from megengine_lite import LiteNetwork

    network = LiteNetwork(config)
    if extra is not None:
        network.extra_configure(extra)
    network.load(SHARED / source)
    inputs = network.get_io_tensor("data")
    inputs.set_data_by_copy(np.load(SHARED / "input_data.npy") if images is None else images)
    network.forward()
    network.wait()
    output = network.get_io_tensor(network.get_output_name(0)).to_numpy().flatten()
    expected = np.load(SHARED / "output_data.npy").flatten()
    assert output.size == expected.size == 1000
    assert np.abs(output - expected).max() < tolerance
    return network


@needs_fixtures
@pytest.mark.shared
def test_shufflenet():
    network = check("shufflenet.mge")
    assert network.get_output_name(0) == "Softmax"
    assert network.get_all_input_name() == ["data"]
    assert network.get_io_tensor("data").device_type == 0


@needs_fixtures
@pytest.mark.shared
def test_shufflenet_from_an_open_file():
    from megengine_lite import LiteNetwork

    network = LiteNetwork()
    with open(SHARED / "shufflenet.mge", "rb") as file:
        network.load(file)
    assert network.get_output_name(0) == "Softmax"


@needs_fixtures
@pytest.mark.shared
def test_shufflenet_encrypted():
    from megengine_lite import LiteConfig

    config = LiteConfig()
    config.bare_model_cryption_name = "AES_default"
    check("shufflenet_crypt_aes.mge", config)


@needs_fixtures
@pytest.mark.shared
@pytest.mark.parametrize("disable", [False, True])
@pytest.mark.parametrize("name", ["test_packed_model_rc4.lite", "test_pack_cache_to_model.lite"])
def test_shufflenet_packed(name, disable):
    from megengine_lite import LiteExtraConfig

    check(name, extra=LiteExtraConfig(disable))


@needs_fixtures
@pytest.mark.shared
def test_discrete_fixture():
    from megengine_lite import LiteConfig, LiteIO, LiteLayout, LiteNetwork, LiteNetworkIO

    config = LiteConfig()
    config.discrete_input_name = b"data"
    ios = LiteNetworkIO([LiteIO("data", layout=LiteLayout([3, 3, 224, 224]))])
    network = LiteNetwork(config, ios)
    network.load(SHARED / "test_discrete_input.mge")
    assert network.get_input_name(1) == "data"
    network.get_io_tensor("roi").set_data_by_copy(np.load(SHARED / "roi.npy"))
    for k in range(3):
        network.get_discrete_tensor("data", k).set_data_by_copy(np.load(SHARED / f"data{k}.npy"))
    network.forward()
    network.wait()
    output = network.get_io_tensor(network.get_output_name(0)).to_numpy()
    assert np.abs(output - np.load(SHARED / "discrete_output.npy")).max() < 1e-3
