"""Version, names, and what an import costs."""

import re
import subprocess
import sys
from pathlib import Path

import megengine_lite as lite

ROOT = Path(__file__).parent.parent

# Public names of the original's package, 1.13.
ORIGINAL_NAMES = [
    "LiteLayout",
    "LiteTensor",
    "LiteTensorConcat",
    "lite_dtype_2_numpy",
    "LiteOptions",
    "LiteConfig",
    "LiteExtraConfig",
    "LiteIO",
    "LiteNetworkIO",
    "LiteNetwork",
    "get_model_io_info",
    "LiteGlobal",
    "decryption_func",
    "TensorBatchCollector",
    "LiteBackend",
    "LiteDeviceType",
    "LiteDataType",
    "LiteTensorPhase",
    "LiteIOType",
    "LiteAlgoSelectStrategy",
    "LiteLogLevel",
    "set_log_level",
    "get_log_level",
    "version",
    "__version__",
    "MAX_DIM",
    "ctype_to_lite_dtypes",
    "LiteAsyncCallback",
    "LiteStartCallback",
    "LiteFinishCallback",
    "LiteDecryptionFunc",
    "base",
    "struct",
    "tensor",
    "network",
    "global_setting",
    "utils",
]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_versions():
    assert lite.version == "1.13.0"
    stated = re.search(r'^version = "(.*)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    assert stated and lite.__version__ == stated[1]


def test_all_names_of_the_original_are_there():
    assert [n for n in ORIGINAL_NAMES if not hasattr(lite, n)] == []


def test_names_stand_in_the_modules_of_the_original():
    where = {
        "base": "set_log_level get_log_level version",
        "struct": "LiteBackend LiteDataType LiteDeviceType LiteIOType LiteLogLevel LiteTensorPhase",
        "tensor": "LiteLayout LiteTensor LiteTensorConcat lite_dtype_2_numpy MAX_DIM ctype_to_lite_dtypes",
        "network": "LiteOptions LiteConfig LiteExtraConfig LiteIO LiteNetworkIO LiteNetwork get_model_io_info",
        "global_setting": "LiteGlobal decryption_func LiteDecryptionFunc",
        "utils": "TensorBatchCollector",
    }
    for module, names in where.items():
        for name in names.split():
            assert hasattr(getattr(lite, module), name), (module, name)


def test_star_import_brings_what_programs_need_and_hides_no_module():
    names: dict = {}
    exec("from megengine_lite import *", names)
    assert {"c_void_p", "POINTER", "byref", "np", "LiteNetwork"} <= set(names)
    assert not {"struct", "io", "os", "sys"} & set(names)


def test_import_is_silent_light_and_starts_no_threads():
    out = run(
        "import numpy, sys, threading\n"
        "import megengine_lite\n"
        "print(threading.active_count(), [m for m in sys.modules if m.startswith('megengine_lite._core.') "
        "and m.split('.')[2] in ('session', 'program', 'oprs', 'loader', 'planner', 'threads')])"
    )
    assert out == "1 []"


def test_import_takes_less_than_50_ms_beyond_numpy():
    # Processor time: the machine may be busy with something else.
    code = "import numpy, time\nbegin = time.process_time()\nimport megengine_lite\nprint(time.process_time() - begin)"
    assert min(float(run(code)) for _ in range(5)) < 0.05
