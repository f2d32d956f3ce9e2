"""Trained models from packages give what ONNX Runtime gives, each at two batches or sizes.

``.ci/run`` names the packages; none is imported. Inputs are noise from a fixed seed.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from support.trained_models import MODELS, TURN, feeds_of, model_file

import megengine_lite
from megengine_lite.cli import main

onnxruntime = pytest.importorskip("onnxruntime")


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
    content, steps = first_steps(TURN.file, 11)
    session, whole = session_of(content, optimized=False), session_of(TURN.file, optimized=False)
    with (
        megengine_lite.load(content, threads=1) as model,
        megengine_lite.load(model_file(TURN.file), threads=1) as all_of_it,
    ):
        for setting in range(2):
            feeds = feeds_of(TURN, setting, session)
            for ours, theirs, step in zip(model(feeds), session.run(None, feeds), steps, strict=True):
                assert ours.shape == theirs.shape
                assert np.mean(np.abs(ours - theirs) < 1.01 * step) >= 0.999
            (probability,) = all_of_it(feeds)
            # A step in an early layer that falls the other way becomes some in the last.
            np.testing.assert_allclose(probability, whole.run(None, feeds)[0], rtol=0, atol=0.03)
