"""The programs in ``examples/`` that classify digits, run as their first lines say."""

from __future__ import annotations

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from support.api_samples import DIGITS, IMAGES, NO_IMAGES, PROB
from support.places import ROOT

from megengine_lite.cli import main

EXAMPLES = ROOT / "examples"
LABELS = np.load(DIGITS.parent / "digits.npz")["labels"]
BEST = PROB.argmax(axis=1)
ROUNDED = 0.02
"""Image files have whole numbers up to 255 where the bundled ones go up to 16."""


def run(name: str, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if k != "MODEL_KEY"}
    command = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(command, env={**clean, **environment}, capture_output=True, text=True, timeout=600)


def output(name: str, *words: object, **environment: str) -> str:
    done = run(name, *words, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.name)
def test_examples_are_short_and_begin_with_how_to_run_them(path):
    text = path.read_text()
    assert len(text.splitlines()) < 80
    note = text.split('"""')[1]
    assert f"{path.stem}" in note and "\n\n" in note


PROGRAMS = sorted(p.name for p in EXAMPLES.glob("*.py") if "argparse" in p.read_text())


def test_all_programs_take_arguments():
    assert {p.name for p in EXAMPLES.glob("*.py")} - {*PROGRAMS} == {"serve_with_ray.py"}  # "serve run" runs it


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    "words", [(), ("--no-such-flag",), ("no such file",), ("--help",), (ROOT / "README.md",)], ids=str
)
def test_wrong_arguments_are_told_in_a_line(name, words):
    """Without arguments, with wrong ones, and with files that are missing or something else."""
    if not words and name == "serve_with_asyncio.py":
        return  # it would serve
    done = run(name, *words)
    assert "Traceback" not in done.stderr
    last = (done.stderr or done.stdout).splitlines()[-1]
    assert last.strip()
    if words:
        assert (done.returncode == 0) == (words == ("--help",))
    if words in (("--no-such-flag",), ("--help",)):
        assert f"usage: {name}" in done.stdout + done.stderr


def test_a_port_that_is_taken_is_told_in_a_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = run("serve_with_asyncio.py", "--port", taken.getsockname()[1])
    assert done.returncode == 2 and "Traceback" not in done.stderr and "port cannot be used" in done.stderr


# ---- images ---------------------------------------------------------------------------------------------------------


def test_images_are_classified():
    lines = output("classify_images.py").splitlines()
    assert len(lines) == 10
    for line, label, best, probability in zip(lines, LABELS, BEST, PROB.max(axis=1), strict=False):
        shown, _, rest = line.partition(": ")
        first, *others = [part.split(" (") for part in rest.split(", ")]
        assert shown == f"a {label}" and first[0] == str(best) and len(others) == 2
        assert float(first[1].rstrip("%)")) / 100 == pytest.approx(probability, abs=ROUNDED)
        assert all(float(a[1].rstrip("%)")) <= float(first[1].rstrip("%)")) for a in others)


def test_image_files_are_classified(tmp_path):
    large = np.kron(IMAGES[0, 0] * (255 / 16), np.ones([4, 4])).astype("uint8")
    Image.fromarray(large).convert("RGB").save(tmp_path / "a b.png")
    assert output("classify_images.py", tmp_path / "a b.png").startswith(f"{tmp_path / 'a b.png'}: {BEST[0]} (")


@pytest.fixture
def table(tmp_path):
    """Runs the example on a folder, with and without a stand-in for tqdm; gives the rows and what stderr shows."""
    (tmp_path / "with" / "tqdm").mkdir(parents=True)
    (tmp_path / "with" / "tqdm" / "__init__.py").write_text("")
    (tmp_path / "with" / "tqdm" / "auto.py").write_text(
        "import sys\n"
        "class tqdm:\n"
        "    def __init__(self, total, desc): self.total, self.desc, self.n = total, desc, 0\n"
        "    def __enter__(self): return self\n"
        "    def update(self, more): self.n += more\n"
        "    def __exit__(self, *_): print(self.desc, self.n, 'of', self.total, file=sys.stderr)\n"
    )

    def made(*words: object) -> tuple[list[list[str]], str]:
        path = os.pathsep.join([str(tmp_path / "with"), os.environ["PYTHONPATH"]])
        done = run("images_in_batches.py", *words, "--output", tmp_path / "out.csv", PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
        return list(csv.reader((tmp_path / "out.csv").read_text().splitlines())), done.stderr

    return made


def test_a_folder_is_classified_in_batches(table):
    rows, shown = table("--batch-size", 50)
    assert shown == "running 360 of 360\n" and rows[0] == ["file", "digit", "probability"]
    found = {int(name[2:5]): (int(name[0]), int(digit), float(p)) for name, digit, p in rows[1:]}
    assert [found[k][0] for k in range(360)] == LABELS.tolist()
    assert [found[k][1] for k in range(360)] == BEST.tolist()
    assert np.allclose([found[k][2] for k in range(360)], PROB.max(axis=1), atol=ROUNDED)


def test_files_that_are_no_images_are_left_out(table, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for k in range(3):
        Image.fromarray((IMAGES[k, 0] * (255 / 16)).round().astype("uint8")).save(folder / f"{2 * k}.png")
    (folder / "1.txt").write_text("no image")
    rows, shown = table(folder, "--batch-size", 2)
    assert [row[:2] for row in rows[1:]] == [[f"{2 * k}.png", str(BEST[k])] for k in range(3)]
    assert "1.txt is left out" in shown and shown.endswith("running 3 of 4\n")


# ---- an encrypted model ---------------------------------------------------------------------------------------------

ACCURACY = f"accuracy {(BEST == LABELS).mean():.1%}\n"


@pytest.mark.parametrize("key", ["a passphrase", "k" * 32])
def test_encrypted_model_runs_with_the_key_of_the_environment(tmp_path, monkeypatch, key, _keys):
    monkeypatch.setenv("MODEL_KEY", key)
    path = tmp_path / "secret.mge"
    assert main(["encrypt", str(DIGITS), str(path), "--method", "AES_256_GCM", "--key", "env:MODEL_KEY"]) == 0
    assert output("encrypted_model.py", path, MODEL_KEY=key) == ACCURACY
    assert output("encrypted_model.py", MODEL_KEY=key).endswith(ACCURACY)


def test_encrypted_model_does_not_run_without_its_key(tmp_path, monkeypatch, _keys):
    monkeypatch.setenv("MODEL_KEY", "right")
    path = tmp_path / "secret.mge"
    assert main(["encrypt", str(DIGITS), str(path), "--method", "AES_256_GCM", "--key", "env:MODEL_KEY"]) == 0
    wrong, none = run("encrypted_model.py", path, MODEL_KEY="wrong"), run("encrypted_model.py", path)
    assert wrong.returncode == 1 and f"MODEL_KEY is not the key of {path}" in wrong.stderr
    assert none.returncode == 1 and "set the environment variable MODEL_KEY" in none.stderr
    assert "Traceback" not in wrong.stderr + none.stderr


# ---- a service ------------------------------------------------------------------------------------------------------


@pytest.fixture
def service():
    """The address of the service, which ends without an error."""
    words = [sys.executable, str(EXAMPLES / "serve_with_asyncio.py"), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.send_signal(signal.SIGTERM)
            _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")


def post(address: str, body: bytes) -> tuple[int, dict]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, body), timeout=120) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


@pytest.mark.skipif(os.name == "nt", reason="asyncio handles no signals on Windows")
def test_service_answers_many_requests_at_once(service):
    with ThreadPoolExecutor(16) as clients:
        bodies = [json.dumps(image[0].tolist()).encode() for image in IMAGES[:100]]
        answers = list(clients.map(lambda body: post(service, body), bodies))
    assert {status for status, _ in answers} == {200}
    assert [content["digit"] for _, content in answers] == BEST[:100].tolist()
    assert np.allclose([content["probability"] for _, content in answers], PROB[:100].max(axis=1), atol=1e-5)
    for wrong in NO_IMAGES:
        status, content = post(service, wrong)
        assert status == 400 and "an image is a list of 8 lists of 8 numbers" in content["error"]
    assert post(service, b"0" * 70_000) == (400, {"error": "a request has at most 65536 bytes"})
    assert post(service, bodies[0])[1]["digit"] == BEST[0]
