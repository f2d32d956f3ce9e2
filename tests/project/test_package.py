"""What the package is made of, how it installs, and what it leaves alone when it is imported."""

import os
import re
import shlex
import subprocess
import sys

from support.places import ROOT


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def test_import_says_nothing_and_starts_no_native_thread():
    count = "print(len(os.listdir('/proc/self/task')))"
    before, after = run_python(f"import os, numpy; {count}; import megengine_lite; {count}").split()
    assert before == after  # numpy may start some


def test_import_loads_neither_kernels_nor_cryptography():
    loaded = run_python("import sys, megengine_lite; print(*sys.modules)").split()
    assert "megengine_lite" in loaded
    assert [m for m in loaded if re.match(r"Crypto|megengine_lite\.kernels\._", m)] == []


def test_readme_begins_with_the_two_commands_of_the_checking_script():
    """The script runs the first two lines of the README's shell blocks."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    install, test = "".join(blocks).splitlines()[:2]
    assert install == "python -m pip install . && megengine-lite demo"
    wanted = re.search(r"^test = \[(.*)\]", (ROOT / "pyproject.toml").read_text(), re.M)
    assert wanted
    packages = shlex.join(re.findall('"([^"]+)"', wanted[1]))
    assert test == f"python -m pip install {packages} && pytest -n auto"
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_types_and_the_license_are_in_the_package():
    assert (ROOT / "megengine_lite" / "py.typed").exists()
    project = (ROOT / "pyproject.toml").read_text()
    assert 'license = "Apache-2.0"' in project
    assert "Apache License" in (ROOT / "LICENSE").read_text()
