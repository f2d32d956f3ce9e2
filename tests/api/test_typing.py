"""The types of the public names: a program that uses all of them is clean, and wrong calls are found."""

import ast
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import typed_program
from support.api_samples import DIGITS

import megengine_lite as lite
from megengine_lite._core.system.strided import StridedTensor

PROGRAM = Path(typed_program.__file__)
# Not everyday names: callback prototypes for ctypes, the way to replace the original, the old misspelling, TensorRT.
UNUSED = {
    "LiteAsyncCallback",
    "LiteDecryptionFunc",
    "LiteFinishCallback",
    "LiteStartCallback",
    "install_as_megenginelite",
    "share_runtime_memroy",
    "set_tensorrt_cache",
    "dump_tensorrt_cache",
    "get_discrete_tensor",
    "use_loader_dynamic_param",
    "auto_optimize_inference",
    "memory_usage",
}


def check(*sources: Path, cache: Path) -> str:
    """What ``mypy --strict`` says."""
    package = Path(lite.__file__).parent.parent
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if package.name != "site-packages":
        environment["MYPYPATH"] = str(package)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--cache-dir", str(cache)]
    done = subprocess.run([*command, *map(str, sources)], capture_output=True, text=True, env=environment, cwd=cache)
    return done.stdout + done.stderr


def test_program_is_clean_and_wrong_calls_are_found(tmp_path):
    wrong = tmp_path / "wrong_program.py"
    lines = {
        "LiteTensor(shapes=3)": "arg-type",
        "LiteTensor(layout='ab', device_id='0')": "arg-type",
        "LiteTensor().nbytes = 3": "misc",
        "LiteTensor().copy_from([1])": "arg-type",
        "LiteTensor().slice(0, 1)": "arg-type",
        "number: int = LiteTensor().layout": "assignment",
        "LiteLayout([1]).dtype = int": "misc",
        "LiteTensor().no_method()": "attr-defined",
        "TensorBatchCollector([1]).collect('a')": "arg-type",
        "set_log_level('DEBUG')": "arg-type",
    }
    names = "LiteLayout, LiteTensor, TensorBatchCollector, set_log_level"
    wrong.write_text(f"from megengine_lite import {names}\n" + "\n".join(lines) + "\n")
    said = check(PROGRAM, wrong, cache=tmp_path).splitlines()
    assert [s for s in said if "typed_program" in s] == []
    found = [s for s in said if f"{wrong.name}:" in s and " error: " in s]
    for number, (line, kind) in enumerate(lines.items(), 2):
        assert any(f"{wrong.name}:{number}: " in s and s.endswith(f"[{kind}]") for s in found), (line, said)


def test_a_shape_cannot_be_taken_from_what_may_have_none(tmp_path):
    program = tmp_path / "shapes.py"
    program.write_text(
        "from megengine_lite._core.ir.graph import AnyVar, DynamicNode, DynamicVar, ModelGraph, Node, Spec\n"
        "def of_node(node: Node) -> int: return len(node.inputs[0].shape) + node.outputs[0].spec.size\n"
        "def of_dynamic_inputs(node: DynamicNode) -> int: return len(node.inputs[0].shape)\n"
        "def of_inputs(graph: ModelGraph) -> int: return graph.inputs[0].spec.nbytes\n"
        "def of_variable(var: AnyVar) -> object: return var.shape\n"
        "def of_dynamic(var: DynamicVar) -> object: return var.spec.shape\n"
        "def of_outputs(node: DynamicNode) -> object: return node.outputs[0].shape\n"
        "def of_spec(spec: Spec) -> object: return spec.size\n"
        "def of_model(graph: ModelGraph) -> object: return graph.nodes[0].inputs[0].spec.shape\n"
    )
    said = check(program, cache=tmp_path).splitlines()
    wrong = {int(s.split(":")[1]) for s in said if s.startswith(program.name) and " error: " in s}
    assert wrong == {5, 6, 7, 8, 9}, said


def test_few_errors_of_types_are_ignored_and_each_for_a_reason():
    found = []
    for path in Path(lite.__file__).parent.rglob("*.py*"):
        if path.suffix in (".py", ".pyi", ".pyx"):
            lines = path.read_text().splitlines()
            found += [
                line.strip() for line in lines if "# type: ignore" in line or re.search(r"(?<![.\w])cast\(", line)
            ]
    assert len(found) <= 10, found
    for line in found:
        assert re.search(r"# type: ignore\[[a-z-]+\]  # \w+", line), line


def test_program_uses_every_public_name():
    used = {n.attr for n in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(n, ast.Attribute)}
    used |= {n.id for n in ast.walk(ast.parse(PROGRAM.read_text())) if isinstance(n, ast.Name)}
    own = [n for n in lite.__all__ if str(getattr(getattr(lite, n), "__module__", "")).startswith("megengine_lite")]
    wanted = {n for n in own if not isinstance(getattr(lite, n), ModuleType)} | set(lite.errors.__all__)
    for kind in (lite.LiteTensor, lite.LiteLayout, lite.TensorBatchCollector, lite.LiteNetwork, lite.LiteGlobal):
        wanted |= {n for n, _ in inspect.getmembers(kind) if not n.startswith("_")}
    wanted -= set(vars(StridedTensor))  # what the engine says to a tensor
    assert wanted - used == UNUSED & wanted


def test_program_runs(tmp_path):
    calls = {
        "exported(model, folder) > 9000": True,
        "models(model, np.zeros((1, 1, 8, 8)))": ["data", "prob", "prob"],
        "layouts()": [4, 5],
        "tensors()": [2, 3, 1, 2, 3, 4],
        "collectors()": (0, 2, 1),
        "networks(model, folder)": [
            "start data",
            "finish prob",
            "async",
            "data",
            "prob",
            "prob",
            "data [360, 1, 8, 8]",
        ],
        "transformed(model, folder)": True,
        "global_settings(folder) > 0": True,
        "operators()": "compute",
        "errors(folder)": [
            "LiteFileNotFoundError",
            "ModelFormatError",
            "LiteError",
            "ShapeError",
            "LiteIndexError",
            "LiteValueError",
            "DeviceError",
            "LiteArgumentError",
            "LiteTypeError",
            "LiteAttributeError",
            "LiteFileNotFoundError",
            "LiteWarning",
        ],
    }
    code = (  # a process of its own: the program changes settings of the process
        "import sys\nfrom pathlib import Path\nsys.path.append(sys.argv[1])\nfrom typed_program import *\n"
        f"model, folder = Path(sys.argv[2]), Path(sys.argv[3])\nprint([{', '.join(calls)}])"
    )
    command = [sys.executable, "-c", code, str(PROGRAM.parent), str(DIGITS), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert dict(zip(calls, ast.literal_eval(done.stdout), strict=True)) == calls
