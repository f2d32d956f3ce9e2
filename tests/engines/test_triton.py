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
    def __init__(self, name, array):
        self.name, self.array = name, array

    def as_numpy(self):
        return self.array


@pytest.fixture
def make(monkeypatch):
    """Makes the backend's model for a folder."""
    backend = SimpleNamespace(
        Tensor=Tensor,
        TritonError=str,
        InferenceResponse=lambda output_tensors, error=None: SimpleNamespace(tensors=output_tensors, error=error),
        get_input_tensor_by_name=lambda request, name: request[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    spec = importlib.util.spec_from_file_location("triton_model", FOLDER / "1" / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def made(folder):
        model = module.TritonPythonModel()
        model.initialize({"model_repository": str(folder), "model_version": "1"})
        return model

    return made


def requests(*rows):
    return [{"data": Tensor("data", r)} for r in rows]


def test_requests_run_as_a_batch_and_get_their_rows(make):
    model = make(FOLDER)
    responses = model.execute(requests(IMAGES[:1], IMAGES[1:5], IMAGES[5:7]))
    assert [r.error for r in responses] == [None] * 3
    assert [len(r.tensors[0].array) for r in responses] == [1, 4, 2]
    assert close(np.concatenate([r.tensors[0].array for r in responses]), PROB[:7])
    model.finalize()


def test_what_does_not_fit_is_the_error_of_the_response(make):
    (response,) = make(FOLDER).execute(requests(np.zeros([1, 2, 8, 8], "float32")))
    assert "channels" in response.error


def test_a_file_beside_it_is_the_model(make, tmp_path):
    shutil.copytree(FOLDER, tmp_path / "other")
    (tmp_path / "other" / "1" / "model.mge").write_bytes(b"no model")
    with pytest.raises(ValueError, match="not a MegEngine model"):
        make(tmp_path / "other")
