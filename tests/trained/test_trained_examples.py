"""The examples with trained models of packages say what is in an image and in a recording."""

import os
import re
import subprocess
import sys

import pytest
from support.places import ROOT
from support.trained_models import model_file


def output_of(example: str, *arguments: str) -> str:
    """What an example prints; Python also searches where this process does, for the models' packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(ROOT / "examples" / example), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300).stdout


def test_what_cannot_be_read_is_told_in_a_line():
    model_file("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
    model_file("silero_vad/data/silero_vad.onnx")
    for example in ("recognise_text.py", "detect_voice.py"):
        for name in ("no such file", str(ROOT / "README.md")):
            with pytest.raises(subprocess.CalledProcessError) as raised:
                output_of(example, name)
            assert len(raised.value.stderr.splitlines()) == 1 and "is not read" in raised.value.stderr
    with pytest.raises(subprocess.CalledProcessError) as raised:
        output_of("detect_voice.py")
    assert "usage: detect_voice.py" in raised.value.stderr and "Traceback" not in raised.value.stderr


def test_a_line_of_text_is_read():
    model_file("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx")
    text, sure = re.fullmatch(r"(.*)  \((\d+)%\)\n", output_of("recognise_text.py")).groups()
    assert text == "megengine lite reads 2026"
    assert int(sure) >= 90


def test_speech_is_found_where_it_is():
    """In a recording of a single word, between 0.1 and 0.45 s."""
    model_file("silero_vad/data/silero_vad.onnx")
    recording = model_file("pipecat/services/aws/nova_sonic/ready.wav")
    lines = re.findall(r"([\d.]+) s +(\d+)%", output_of("detect_voice.py", str(recording)))
    found = {float(at): int(probability) for at, probability in lines}
    assert len(found) == 23
    assert all(probability >= 80 for at, probability in found.items() if 0.18 < at < 0.4)
    assert all(probability < 20 for at, probability in found.items() if at < 0.05 or at > 0.53)
