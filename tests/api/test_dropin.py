"""The package under the original's name: what programs find there, and whole programs in fresh interpreters.

What the original's own tests rely on beyond that is in ``test_dropin_suite.py``.
"""

import sys
import types

import pytest
from support.dropin_resources import make_resources
from support.loader_samples import SHARED
from support.processes import in_process

import megengine_lite
from megengine_lite import LiteError

INSTALL = "import megengine_lite\nmegengine_lite.install_as_megenginelite()\n"
MODULES = ("base", "struct", "tensor", "network", "global_setting", "utils")


def test_programs_for_the_original_run_unchanged():
    out = in_process(
        f"{INSTALL}{INSTALL}"
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


def test_original_that_is_imported_already_is_not_replaced(monkeypatch):
    present = types.ModuleType("megenginelite")
    monkeypatch.setitem(sys.modules, "megenginelite", present)
    with pytest.raises(LiteError, match="already"):
        megengine_lite.install_as_megenginelite()
    assert sys.modules["megenginelite"] is present


@pytest.mark.parametrize("module", MODULES)
def test_module_of_the_original(module):
    """Each is the module of this package, and a star import of it brings what it defines and hides nothing."""
    out = in_process(
        f"{INSTALL}"
        f"import megenginelite.{module} as one\n"
        f"from megenginelite import {module} as two\n"
        "import importlib\n"
        f"three = importlib.import_module('megenginelite.{module}')\n"
        f"assert one is two is three is megengine_lite.{module}\n"
        "import io, os, struct, sys\n"
        "before = io, os, struct, sys\n"
        f"from megenginelite.{module} import *\n"
        "assert (io, os, struct, sys) == before\n"
        "assert all(globals()[name] is getattr(one, name) for name in one.__all__)\n"
        "print(len(one.__all__) > 0)\n"
    )
    assert out == "True"


def test_star_imports_of_all_modules():
    names = (
        "LiteBackend LiteDeviceType LiteDataType LiteTensorPhase LiteIOType LiteAlgoSelectStrategy LiteLogLevel "
        "LiteLayout LiteTensor LiteTensorConcat LiteOptions LiteConfig LiteExtraConfig LiteIO LiteNetworkIO "
        "LiteNetwork get_model_io_info LiteGlobal decryption_func TensorBatchCollector version "
        "set_log_level get_log_level"
    )
    stars = "".join(f"from megenginelite.{module} import *\n" for module in MODULES)
    code = (
        f"{INSTALL}{stars}"
        f"print([name for name in {names!r}.split() if globals().get(name) is not getattr(megengine_lite, name)])\n"
    )
    assert in_process(code) == "[]"


# ---- programs in fresh interpreters, where every warning is an error ------------------------------------------------

PROGRAM = INSTALL + (
    "import os, unittest\n"
    "import numpy as np\n"
    "from megenginelite import *\n"
    "set_log_level(2)\n"
    "class TestShuffleNet(unittest.TestCase):\n"
    "    source_dir = os.getenv('LITE_TEST_RESOURCE')\n"
    "    model_path = os.path.join(source_dir, 'shufflenet.mge')\n"
    "    input_data = np.load(os.path.join(source_dir, 'input_data.npy'))\n"
    "    correct_data = np.load(os.path.join(source_dir, 'output_data.npy')).flatten()\n"
    "    def check_correct(self, out_data, error=1e-4):\n"
    "        out_data = out_data.flatten()\n"
    "        self.assertEqual(out_data.size, self.correct_data.size)\n"
    "        for i in range(out_data.size):\n"
    "            self.assertLess(abs(out_data[i] - self.correct_data[i]), error)\n"
    "    def do_forward(self, network, times=3):\n"
    "        network.get_io_tensor('data').set_data_by_copy(self.input_data)\n"
    "        for _ in range(times):\n"
    "            network.forward()\n"
    "            network.wait()\n"
    "        self.check_correct(network.get_io_tensor(network.get_output_name(0)).to_numpy())\n"
)
TESTS = {
    "plain": (
        "    def test(self):\n"
        "        network = LiteNetwork()\n"
        "        network.load(self.model_path)\n"
        "        self.do_forward(network)\n"
    ),
    "options": (
        "    def test(self):\n"
        "        config = LiteConfig()\n"
        "        config.options.var_sanity_check_first_run = 0\n"
        "        config.options.weight_preprocess = 1\n"
        "        config.options.fuse_preprocess = 1\n"
        "        config.auto_optimize_inference = 1\n"
        "        config.options.enable_nchw44 = config.options.enable_nchw88 = 1\n"
        "        ios = LiteNetworkIO(inputs=[LiteIO('data', is_host=False)])\n"
        "        network = LiteNetwork(config=config, io=ios)\n"
        "        network.threads_number = 2\n"
        "        network.load(self.model_path)\n"
        "        network.set_network_algo_policy(\n"
        "            LiteAlgoSelectStrategy.LITE_ALGO_PROFILE | LiteAlgoSelectStrategy.LITE_ALGO_REPRODUCIBLE)\n"
        "        self.do_forward(network)\n"
    ),
    "asynchronous": (
        "    def test(self):\n"
        "        network = LiteNetwork()\n"
        "        network.load(self.model_path)\n"
        "        finished, count = [], 0\n"
        "        network.async_with_callback(lambda: finished.append(True))\n"
        "        network.get_io_tensor('data').set_data_by_share(self.input_data)\n"
        "        network.forward()\n"
        "        while not finished: count += 1\n"
        "        self.assertGreater(count, 0)\n"
        "        self.check_correct(network.get_io_tensor(network.get_output_name(0)).to_numpy())\n"
    ),
    "shared": (
        "    def test(self):\n"
        "        source, twin = LiteNetwork(), LiteNetwork()\n"
        "        twin.enable_cpu_inplace_mode()\n"
        "        source.load(self.model_path)\n"
        "        twin.share_weights_with(source)\n"
        "        self.do_forward(source)\n"
        "        del source\n"
        "        self.do_forward(twin)\n"
    ),
    "packed": (
        "    def test(self):\n"
        "        network = LiteNetwork()\n"
        "        network.load(os.path.join(self.source_dir, 'test_pack_cache_to_model.lite'))\n"
        "        self.do_forward(network)\n"
    ),
    "collected": (
        "    def test(self):\n"
        "        batch = TensorBatchCollector(self.input_data.shape, 'float32', LiteDeviceType.LITE_CPU)\n"
        "        for image in self.input_data: batch.collect(image)\n"
        "        network = LiteNetwork()\n"
        "        network.load(self.model_path)\n"
        "        network.get_io_tensor('data').share_memory_with(batch.get())\n"
        "        network.forward()\n"
        "        network.wait()\n"
        "        batch.free(range(len(self.input_data)))\n"
        "        self.check_correct(network.get_io_tensor(network.get_output_name(0)).to_numpy())\n"
    ),
}
on_shared = pytest.mark.skipif(not SHARED.exists(), reason="the model collection is not here")


@pytest.fixture(scope="module")
def bundled_resources(tmp_path_factory):
    directory = tmp_path_factory.mktemp("resources")
    make_resources(directory)
    return directory


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("where", ["bundled", pytest.param("shared", marks=[pytest.mark.shared, on_shared])])
def test_program_in_a_fresh_interpreter(test, where, request, monkeypatch, tmp_path):
    directory = SHARED if where == "shared" else request.getfixturevalue("bundled_resources")
    monkeypatch.setenv("LITE_TEST_RESOURCE", str(directory))
    end = (
        "done = unittest.TextTestRunner(stream=open(os.devnull, 'w')).run(\n"
        "    unittest.defaultTestLoader.loadTestsFromTestCase(TestShuffleNet))\n"
        "assert done.testsRun == 1 and done.wasSuccessful(), done.errors + done.failures\n"
        "print('passed')\n"
    )
    # unittest would reset the filters of -W to its own; the runner is told to leave them
    end = end.replace("'w'))", "'w'), warnings='error')")
    assert in_process(PROGRAM + TESTS[test] + end, "-W", "error", cwd=tmp_path) == "passed"


def test_default_key_is_all_that_a_typical_program_is_warned_of(bundled_resources, monkeypatch, tmp_path):
    monkeypatch.setenv("LITE_TEST_RESOURCE", str(bundled_resources))
    code = PROGRAM + (
        "import warnings\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    for name, method in (('shufflenet_crypt_aes.mge', 'AES_default'), ('test_packed_model_rc4.lite', '')):\n"
        "        config = LiteConfig()\n"
        "        config.bare_model_cryption_name = method\n"
        "        network = LiteNetwork(config)\n"
        "        network.load(os.path.join(TestShuffleNet.source_dir, name))\n"
        "        TestShuffleNet().do_forward(network)\n"
        "print({(w.category.__name__, 'encrypted with the default key' in str(w.message)) for w in caught})\n"
    )
    assert in_process(code, cwd=tmp_path) == "{('LiteWarning', True)}"
