"""Every block of code on a page runs, or is compared with what it shows; test_docs.py runs the interactive ones.

Blocks of the shell run as they stand. Lines that cannot run in a test begin with a word of ``ELSEWHERE``; of scripts of
this repository among them, the names and flags are checked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support import onnx_models
from support.c_library import compile_library
from support.pages import DOCS, PAGES, blocks_of, id_of
from support.places import ROOT, TESTS

import megengine_lite
from megengine_lite import LiteNetwork

# Beginnings of lines that do not run here, and where they do or why not.
ELSEWHERE = {
    "python -m pip install": "CI installs",
    "python3 -m venv": "CI installs",
    "python -m venv": "CI installs",
    "pre-commit install": "changes the checkout",
    "python -m pytest": "this is pytest",
    "LITE_TEST_RESOURCE=": "needs the original's tests",
    "ruff check": "CI checks",
    ".ci/run": "this runs in it",
    "python setup.py": "takes minutes; CI builds",
    "MEGENGINE_LITE_BUILD_": "takes minutes; tests/cpu/test_isa_example.py builds",
    "MEGENGINE_LITE_ISA=portable16": "tests/cpu/test_isa_example.py runs it",
    "python tools/": "takes hours, or needs the original",
    "python benchmarks/": "takes minutes",
    "serve run": "tests/engines/test_ray_serve.py runs the service",
    "curl": "test_tutorial_shows_the_service_and_its_answer asks the model",
}

# Pages whose blocks of Python show parts of a source, not programs: the files that have them.
SHOWN = {
    "adding-a-device.md": ["tests/support/numpy_device.py"],
    "adding-a-kernel.md": [],  # tests/kernels/test_kernel_example.py builds it
    "adding-an-instruction-set.md": [],  # tests/cpu/test_isa_example.py builds it
    "architecture.md": ["megengine_lite/_core/cpu/lowering.py"],
}
TEMPLATES = {"flip", "portable16"}  # in blocks that are no part of a source


def shell_lines(text: str) -> list[str]:
    """Commands of a block: quotes, and a backslash at the end, put lines together."""
    return [line for line in re.findall(r"(?:(?<!\S)#[^\n]*|'[^']*'|\\\n|[^\n'])+", text) if line.strip()]


def is_elsewhere(line: str) -> bool:
    return line.startswith(tuple(ELSEWHERE))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with the files that pages name, and the command ``megengine-lite``."""
    from onnx import helper

    folder = tmp_path_factory.mktemp("prepared")
    rng = np.random.default_rng(3)
    nodes = [
        helper.make_node("Conv", ["data", "filter"], ["conv"], strides=[8, 8]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["prob"]),
    ]
    weights = {
        "filter": rng.normal(size=(8, 3, 8, 8)).astype("float32"),
        "weight": rng.normal(size=(8, 10)).astype("float32"),
    }
    ends = [("data", 1, [1, 3, 224, 224])], [("prob", 1, [1, 10])]
    (folder / "model.onnx").write_bytes(onnx_models.make(nodes, *ends, weights).SerializeToString())

    (folder / "bin").mkdir()
    for name, arguments in {"python": "", "megengine-lite": "-m megengine_lite "}.items():
        program = folder / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        program.chmod(0o755)
    in_shell(folder, "megengine-lite convert model.onnx model.mge --shape data=1x3x224x224")
    in_shell(folder, "megengine-lite prepare model.mge -o model.prepared --threads 2")
    shutil.copy(folder / "model.mge", folder / "MODEL")
    for file in (Path(megengine_lite.__file__).parent / "bundled").glob("digits.*"):
        shutil.copy(file, folder)

    network = LiteNetwork()
    network.load(folder / "model.mge")
    data = rng.random((1, 3, 224, 224), "float32")
    (prob,) = onnx_models.run(network, data=data)
    np.savez(folder / "values.npz", in_data=data, **{network.get_output_name(0): prob})
    digits = LiteNetwork()
    digits.load(folder / "digits.mge")
    image = np.zeros([1, 1, 8, 8], "float32")
    np.savez(folder / "expected.npz", in_data=image, prob=onnx_models.run(digits, data=image)[0])
    (folder / "key.bin").write_bytes(bytes(range(32)))
    from PIL import Image

    Image.fromarray(rng.integers(0, 256, (224, 224, 3), np.uint8)).save(folder / "picture.jpg")
    return folder


def in_shell(folder: Path, commands: str) -> str:
    """What the commands print; the first that fails ends them."""
    path = os.pathsep.join([str(folder / "bin"), os.environ["PATH"]])
    places = os.pathsep.join([str(Path(megengine_lite.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": places, "MODEL_KEY": "a secret of your own"}
    done = subprocess.run(["bash", "-euc", commands], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, commands + done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(prepared, tmp_path) -> Path:
    """A copy of the prepared folder."""
    return Path(shutil.copytree(prepared, tmp_path / "work", symlinks=True))


def pages_with(language: str) -> list[Path]:
    return [page for page in PAGES if blocks_of(page, language)]


def test_blocks_name_their_language():
    """Those of Cython and C are compared by other tests; text is a drawing."""
    languages = {b.language for page in PAGES for b in blocks_of(page)}
    assert languages == {"python", "sh", "cython", "c", "{eval-rst}", "text"}


@pytest.mark.parametrize("page", pages_with("sh"), ids=id_of)
def test_commands_run(page, folder):
    for block in blocks_of(page, "sh"):
        lines = [line for line in shell_lines(block.text) if not is_elsewhere(line)]
        if lines:
            in_shell(folder, "\n".join(lines))


def test_lines_that_do_not_run_are_few_and_known():
    lines = [line for page in PAGES for b in blocks_of(page, "sh") for line in shell_lines(b.text)]
    assert [word for word in ELSEWHERE if not any(line.startswith(word) for line in lines)] == []
    assert [line for line in lines if is_elsewhere(line) and line.startswith("megengine-lite")] == []


def test_scripts_have_the_flags_that_pages_give_them():
    lines = [line for page in PAGES for b in blocks_of(page, "sh") for line in shell_lines(b.text)]
    calls = [m for line in lines if (m := re.match(r"python ((?:tools|benchmarks)/\w+\.py)([^#]*)", line))]
    assert len(calls) > 8
    for script, arguments in (m.groups() for m in calls):
        source = (ROOT / script).read_text()
        missing = [flag for flag in re.findall(r"--[a-z][a-z0-9-]*", arguments) if f'"{flag}"' not in source]
        assert missing == [], script


def programs(page: Path) -> list[str]:
    """Blocks of Python that are no doctests."""
    return [b.text for b in blocks_of(page, "python") if ">>>" not in b.text]


def pages_with_programs() -> list[Path]:
    return [page for page in PAGES if programs(page)]


@pytest.mark.parametrize("page", [p for p in pages_with_programs() if p.name in SHOWN], ids=id_of)
def test_shown_parts_are_in_the_sources(page):
    sources = "".join("".join((ROOT / name).read_text().split()) for name in SHOWN[page.name])
    shown = [text for text in programs(page) if not any(word in text for word in TEMPLATES)]
    assert [text for text in shown if "".join(text.split()) not in sources] == []


def is_for_engine(text: str) -> bool:
    return "import ray" in text or "import dask" in text or "map_blocks(" in text or "mapInPandas(" in text


def test_programs_for_engines_are_on_one_page():
    """tests/engines/test_scaling_page.py runs them."""
    assert {id_of(p) for p in PAGES if any(map(is_for_engine, programs(p)))} == {"docs/scaling.md"}


# What programs use that their page describes in words.
BEFORE = {"scaling.md": 'import numpy\nbatches = [{"data": numpy.zeros([1, 3, 224, 224])}] * 3\n'}


@pytest.mark.parametrize("page", [p for p in pages_with_programs() if p.name not in SHOWN], ids=id_of)
def test_programs_run(page, folder):
    """One after the other, with the same names, as a reader would type them."""
    if page.name == "tutorial.md":
        return  # a service: test_tutorial_shows_the_service_and_its_answer
    if page.name == "c-operators.md":
        compile_library(folder, "operators.c").rename(folder / "libmyoperators.so")
        shutil.copy(TESTS / "models" / "extern" / "affine.mge", folder / "model_with_my_operators.mge")
    here = [text for text in programs(page) if not is_for_engine(text)]
    (folder / "program.py").write_text("\n".join([BEFORE.get(page.name, ""), *here]))
    in_shell(folder, "python program.py")


def test_tutorial_shows_the_service_and_its_answer():
    page = DOCS / "tutorial.md"
    (shown,) = programs(page)
    source = (ROOT / "examples" / "serve_with_ray.py").read_text()
    assert source.partition('"""\n\n')[2] == shown
    text = page.read_text()
    (sent,) = re.findall(r"^curl http://\S+ -d '(.*?)'", text, re.M | re.S)
    digit, begin = re.search(r'`\{"digit":(\d),"probability":([\d.]+)…\}`', text).groups()
    model = megengine_lite.load(Path(megengine_lite.__file__).parent / "bundled" / "digits.mge")
    (prob,) = model(np.reshape(json.loads(sent), (1, 1, 8, 8)))
    assert int(prob.argmax()) == int(digit)
    assert str(float(prob.max())).startswith(begin)
