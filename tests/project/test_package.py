"""What the package is made of, how it installs, and what it leaves alone when it is imported."""

import os
import re
import shlex
import shutil
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


def test_sources_without_compiled_modules_say_what_to_do(tmp_path):
    """As in the folder of the sources after pip install."""
    (tmp_path / "megengine_lite").mkdir()
    for name in ("__init__.py", "_interrupts.py", "_compiled.py"):
        shutil.copy(ROOT / "megengine_lite" / name, tmp_path / "megengine_lite")
    done = subprocess.run([sys.executable, "-c", "import megengine_lite"], cwd=tmp_path, capture_output=True, text=True)
    assert f"not in {tmp_path / 'megengine_lite'}. " in done.stderr
    assert "found from any other folder" in done.stderr and "build_ext" in done.stderr


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


def described(folder, info, **environment) -> list[str]:
    """The addresses in the metadata that a build in a folder writes."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    info.mkdir()
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", info]
    subprocess.run(command, cwd=folder, env={**variables, **environment}, check=True, capture_output=True)
    (made,) = info.glob("*/PKG-INFO")
    return [line for line in made.read_text(encoding="utf-8").splitlines() if line.startswith("Project-URL: ")]


def test_addresses_are_those_of_the_repository_that_builds(tmp_path):
    """And stay so in its source distribution, wherever that is built."""
    page = "https://example.org/Some-One/engine"
    wanted = [
        f"Project-URL: Homepage, {page}",
        "Project-URL: Documentation, https://some-one.github.io/engine/",
        f"Project-URL: Issues, {page}/issues",
        f"Project-URL: Changelog, {page}/blob/HEAD/CHANGELOG.md",
    ]
    repository = {"GITHUB_SERVER_URL": "https://example.org", "GITHUB_REPOSITORY": "Some-One/engine"}
    assert described(ROOT, tmp_path / "workflow", **repository) == wanted
    assert described(ROOT, tmp_path / "elsewhere") == []
    copy = tmp_path / "copy"
    (copy / "megengine_lite" / "_core").mkdir(parents=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    for folder in ("tools", "megengine_lite/_core/cpu", "megengine_lite/_core/ir"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    (copy / "PKG-INFO").write_text("Metadata-Version: 2.4\n" + "\n".join(wanted) + "\n\nThe description.\n")
    assert described(copy, tmp_path / "again") == wanted
