"""The package as a whole: its names, and what importing it costs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import megengine_lite

ROOT = Path(__file__).parent.parent
# Everything that `from megenginelite import ...` of release 1.13 gives on purpose.
ORIGINAL_NAMES = """
LiteLayout LiteTensor LiteTensorConcat lite_dtype_2_numpy LiteOptions LiteConfig LiteExtraConfig LiteIO LiteNetworkIO
LiteNetwork get_model_io_info LiteGlobal decryption_func TensorBatchCollector LiteBackend LiteDeviceType LiteDataType
LiteTensorPhase LiteIOType LiteAlgoSelectStrategy LiteLogLevel set_log_level get_log_level version __version__ MAX_DIM
ctype_to_lite_dtypes LiteAsyncCallback LiteStartCallback LiteFinishCallback LiteDecryptionFunc
base struct tensor network global_setting utils
""".split()


def run_python(code: str) -> str:
    """Runs code in a new process that finds the package where this one has found it."""
    environment = {**os.environ, "PYTHONPATH": str(Path(megengine_lite.__file__).parent.parent)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=Path(__file__).parent
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("name", ORIGINAL_NAMES)
def test_names_of_the_original_are_there(name):
    assert hasattr(megengine_lite, name)


def test_star_import_hides_no_module_of_the_standard_library():
    names = {}
    exec("from megengine_lite import *", names)
    assert {"struct", "io", "os", "sys", "threading"} & names.keys() == set()
    assert {"LiteNetwork", "c_void_p", "np"} <= names.keys()


def test_import_is_silent_and_starts_no_thread():
    count = "print(len(os.listdir('/proc/self/task')))"
    before, after = run_python(f"import os, numpy; {count}; import megengine_lite; {count}").split()
    assert before == after  # numpy may start some


def test_import_takes_little_time_beyond_numpy():
    code = "import numpy, time; t = time.process_time(); import megengine_lite; print(time.process_time() - t)"
    assert min(float(run_python(code)) for _ in range(5)) < 0.05


def test_import_loads_neither_kernels_nor_cryptography():
    loaded = run_python("import sys, megengine_lite; print(*sys.modules)").split()
    assert "megengine_lite" in loaded
    assert [m for m in loaded if re.match(r"Crypto|megengine_lite\.kernels\._(base|avx)", m)] == []


def test_versions_agree():
    project = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{megengine_lite.__version__}"' in project
    assert re.fullmatch(r"1\.13\.\d+", megengine_lite.version)


def test_types_are_announced():
    assert (ROOT / "megengine_lite" / "py.typed").exists()


def test_readme_commands_are_what_the_checking_script_runs():
    """The script takes the first two lines of the README's shell blocks."""
    lines = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    first, second = "".join(lines).splitlines()[:2]
    assert "pip install ." in first and "demo" in first
    assert "[test]" in second and "pytest" in second
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
