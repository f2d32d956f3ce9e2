"""Memory of the weights of ONNX models: once kernels have packed them, that of the file is given back."""

import numpy as np
import pytest
from onnx import TensorProto, helper, save
from support.onnx_models import make

import megengine_lite
from megengine_lite._core.formats.stored_values import FileConstant
from megengine_lite._core.system.file_bytes import FilePiece
from megengine_lite.errors import ModelFormatError

F = TensorProto.FLOAT
N = 256  # a weight has N * N numbers, many pages


def written(tmp_path, outside: bool, waits: bool, count: int = 3):
    """A model of products, with its weights inside of the file or beside it.

    With ``waits`` the graph is made when the shape of the input is known, and again for another one.
    """
    rng = np.random.default_rng(0)
    constants = {f"w{k}": (rng.standard_normal((N, N)) / 16).astype(np.float32) for k in range(count)}
    constants["first"] = np.array([0])
    nodes = [helper.make_node("Squeeze", ["x"], ["c"]), helper.make_node("Unsqueeze", ["c", "first"], ["h0"])]
    if not waits:
        nodes = [helper.make_node("Identity", ["x"], ["h0"])]
    for k in range(count):
        nodes += [helper.make_node("MatMul", [f"h{k}", f"w{k}"], [f"p{k}"])]
        nodes += [helper.make_node("Tanh", [f"p{k}"], [f"h{k + 1}"])]
    model = make(nodes, [("x", F, ["n", N])], [(f"h{count}", F, None)], constants)
    model.graph.output[0].ClearField("type")
    path = tmp_path / "m.onnx"
    save(model, path, save_as_external_data=outside, location="m.data", size_threshold=1024)
    return path, [constants[f"w{k}"] for k in range(count)]


def expected(x, weights):
    for w in weights:
        x = np.tanh(x @ w)
    return x


@pytest.fixture
def pieces(monkeypatch):
    """The pieces of files that constants are made of."""
    found = set()
    make_constant = FileConstant.__init__

    def make_and_note(self, *arguments):
        make_constant(self, *arguments)
        if len(self.stored_data) == 4 * N * N:
            found.add(self.stored_data)

    monkeypatch.setattr(FileConstant, "__init__", make_and_note)
    return found


@pytest.mark.parametrize("waits", [False, True], ids=["plain", "waits for shapes"])
@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
def test_files_give_back_what_kernels_have_packed(tmp_path, pieces, outside, waits):
    path, weights = written(tmp_path, outside, waits)
    with megengine_lite.load(path, threads=1) as model:
        for rows in (1, 2, 30):
            x = np.random.default_rng(rows).standard_normal((rows, N)).astype(np.float32)
            np.testing.assert_allclose(model(x)[0].reshape(rows, N), expected(x, weights), atol=1e-5)
            assert len(pieces) == len(weights)  # one for each, whoever reads it
            assert all(isinstance(piece, FilePiece) and piece.is_absent for piece in pieces)


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "outside"])
def test_a_graph_for_other_shapes_finds_files_that_have_changed(tmp_path, outside):
    path, weights = written(tmp_path, outside, True)
    with megengine_lite.load(path, threads=1) as model:
        x = np.ones((2, N), np.float32)
        np.testing.assert_allclose(model(x)[0][0], expected(x, weights), atol=1e-5)
        changed = tmp_path / "m.data" if outside else path
        content = bytearray(changed.read_bytes())
        content[len(content) // 2] ^= 64
        changed.write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"overwritten|changed"):
            for rows in (1, 3, 40):
                model(np.ones((rows, N), np.float32))
