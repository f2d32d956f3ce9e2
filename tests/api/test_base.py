"""Version, names, and what an import costs."""

import re
import subprocess
import sys

from support.places import ROOT

import megengine_lite as lite

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


CTYPES_NAMES = (
    "CFUNCTYPE POINTER byref c_byte c_char_p c_double c_float c_int c_int8 c_int16 c_int32 c_int64 c_long c_short "
    "c_size_t c_ubyte c_uint c_uint8 c_uint16 c_uint32 c_uint64 c_ushort c_void_p cast memmove memset pointer sizeof"
).split()


def test_star_import_brings_what_programs_need_and_hides_no_module():
    out = run(
        "import ctypes, io, os, struct, sys, threading, warnings\n"
        "before = dict(globals())\n"
        "from megengine_lite import *\n"
        "print([n for n in before if globals()[n] is not before[n]])\n"
        "print(sorted(n for n in globals() if getattr(ctypes, n, None) is globals()[n] and not n.startswith('_')))\n"
        "import numpy\n"
        "print(np is numpy, struct.calcsize('i'), LiteNetwork.__name__)"
    )
    assert out.splitlines() == ["[]", str(sorted(CTYPES_NAMES)), "True 4 LiteNetwork"]


def test_star_import_has_the_public_names_of_the_original_but_the_module_that_hides_one():
    missing = set(ORIGINAL_NAMES) - set(lite.__all__)
    assert missing == {"struct"}
    assert len(lite.__all__) == len(set(lite.__all__)) and all(hasattr(lite, n) for n in lite.__all__)


def test_import_leaves_the_environment_alone():
    out = run(
        "import os, numpy\n"
        "before = dict(os.environ)\n"
        "import megengine_lite\n"
        "print(dict(os.environ) == before, 'CUDA_MODULE_LOADING' in os.environ)"
    )
    assert out == "True False"


def test_import_is_silent_light_and_starts_no_threads():
    out = run(
        "import numpy, sys, threading\n"
        "import megengine_lite\n"
        "print(threading.active_count(), [m for m in sys.modules if m.startswith('megengine_lite._core.') "
        "and m.split('.')[2] in ('session', 'program', 'oprs', 'loader', 'planner', 'threads')])"
    )
    assert out == "1 []"
