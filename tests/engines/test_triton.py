"""The model folder for Triton's Python backend, on a stand-in for the module that the server gives to models."""

import importlib.util
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from support.api_samples import IMAGES, PROB, close
from support.places import ROOT

FOLDER = ROOT / "examples" / "triton" / "digits"


class Tensor:
    def __init__(self, name, numpy_array):
        assert numpy_array.dtype == np.float32 and numpy_array.flags.c_contiguous
        self._name, self._array = name, numpy_array

    def name(self):
        return self._name

    def as_numpy(self):
        return self._array


class TritonError:
    def __init__(self, message):
        self._message = message

    def message(self):
        return self._message


class InferenceRequest:
    def __init__(self, *inputs):
        self._inputs = list(inputs)

    def inputs(self):
        return self._inputs


class InferenceResponse:
    def __init__(self, output_tensors=(), error=None):
        assert isinstance(output_tensors, list) and (error is None or isinstance(error, TritonError))
        self._tensors, self._error = output_tensors, error

    def output_tensors(self):
        return self._tensors

    def error(self):
        return self._error


def get_input_tensor_by_name(request, name):
    return next((tensor for tensor in request.inputs() if tensor.name() == name), None)


@pytest.fixture
def make(monkeypatch):
    """Makes the backend's model for a folder."""
    backend = SimpleNamespace(
        Tensor=Tensor,
        TritonError=TritonError,
        InferenceResponse=InferenceResponse,
        get_input_tensor_by_name=get_input_tensor_by_name,
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    spec = importlib.util.spec_from_file_location("triton_model", FOLDER / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def made(folder):
        model = module.TritonPythonModel()
        said = {"model_config": "{}", "model_instance_kind": "CPU", "model_instance_device_id": "0"}
        model.initialize({**said, "model_repository": str(folder), "model_version": "1", "model_name": folder.name})
        return model

    return made


def requests(*rows):
    return [InferenceRequest(Tensor("data", r)) for r in rows]


def result(response):
    (tensor,) = response.output_tensors()
    assert tensor.name() == "prob"
    return tensor.as_numpy()


def test_requests_run_as_a_batch_and_get_their_rows(make):
    model = make(FOLDER)
    responses = model.execute(requests(IMAGES[:1], IMAGES[1:5], IMAGES[5:7]))
    assert [r.error() for r in responses] == [None] * 3
    assert [len(result(r)) for r in responses] == [1, 4, 2]
    assert close(np.concatenate([result(r) for r in responses]), PROB[:7])
    model.finalize()


@pytest.mark.parametrize("wrong", [(1, 2, 8, 8), (1, 8, 8)])
def test_what_does_not_fit_is_the_error_of_its_response_alone(make, wrong):
    responses = make(FOLDER).execute(requests(IMAGES[:1], np.zeros(wrong, "float32"), IMAGES[1:3]))
    good, bad, more = responses
    assert good.error() is more.error() is None and bad.output_tensors() == []
    assert bad.error().message()
    assert close(np.concatenate([result(good), result(more)]), PROB[:3])


def test_a_file_beside_it_is_the_model(make, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "other")
    (tmp_path / "other" / "1" / "model.mge").write_bytes(b"no model")
    with pytest.raises(ValueError, match="not a MegEngine model"):
        make(tmp_path / "other")
