"""Ctrl-C while a command is imported: it ends quietly; other programs get their KeyboardInterrupt."""

import os
import subprocess
import sys

import pytest

from megengine_lite import _interrupts

# Interrupts the process when it is about to import a module.
FINDER = """
import os, sys
import _signal as signal  # which imports nothing
signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background of a shell

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
"""
SCRIPT = "import sys\nfrom megengine_lite.cli import main\nif __name__ == '__main__':\n    sys.exit(main())\n"
# The first ones are those that Python has not imported when it starts.
MODULES = [
    "enum",
    "re",
    "typing",
    "megengine_lite._compiled",
    "ctypes",
    "numpy",
    "numpy.linalg",
    "argparse",
    "gettext",
]


def interrupted(folder, module, *words):
    (folder / "sitecustomize.py").write_text(FINDER)
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "INTERRUPT_AT": module}
    return subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("by", ["script", "module"])
def test_a_command_ends_quietly(tmp_path, module, by):
    script = tmp_path / "megengine-lite"
    script.write_text(SCRIPT)
    done = interrupted(tmp_path, module, *(["-m", "megengine_lite"] if by == "module" else [str(script)]), "demo")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("module", ["numpy", "argparse"])
def test_a_program_is_interrupted_as_ever(tmp_path, module):
    program = "try:\n    import megengine_lite.cli\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    (tmp_path / "program.py").write_text(program)
    for words in (["-c", program], [str(tmp_path / "program.py")], ["-m", "program"]):
        done = interrupted(tmp_path, module, *words, "megengine_lite")
        assert (done.returncode, done.stdout, done.stderr) == (0, "interrupted\n", ""), words


def test_after_the_import_commands_can_be_interrupted(tmp_path):
    """A handler that somebody else has set stays."""
    program = (
        "import signal, sys\n"
        "sys.argv = ['megengine-lite', *sys.argv[1:]]\n"
        "signal.signal(signal.SIGINT, {})\n"
        "import megengine_lite.cli\n"
        "print(signal.getsignal(signal.SIGINT).__name__)\n"
        "megengine_lite.cli.main(['completion', 'bash'])\n"
        "print(signal.getsignal(signal.SIGINT).__name__)\n"
    )
    for handler, names in (("signal.default_int_handler", ["_end", "default_int_handler"]), ("print", ["print"] * 2)):
        done = interrupted(tmp_path, "", "-c", program.format(handler))
        lines = done.stdout.splitlines()
        assert [lines[0], lines[-1]] == names and not done.stderr


def test_status_is_that_of_shells():
    assert _interrupts.INTERRUPTED == 128 + 2
