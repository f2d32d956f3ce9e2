"""Networks whose weights are kept in half precision: what the setting does, and where it can be seen."""

import pickle

import numpy as np
import pytest
from support.api_samples import DIGITS, IMAGES, PROB, run
from support.devices import settings
from support.graphs import GraphBuilder, session_of
from support.graphs import run as run_session
from support.half_precision import PRECISIONS
from support.places import SHARED_MODELS

import megengine_lite
from megengine_lite import LiteAlgoSelectStrategy, LiteError, LiteNetwork, LiteWarning
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.ir.dtype import FLOAT16
from megengine_lite._core.ir.params import MatrixMul
from megengine_lite.batch import Predictor
from megengine_lite.cli import main
from megengine_lite.errors import DeviceError, LiteTypeError, LiteValueError

LABELS = np.load(DIGITS.with_suffix(".npz"))["labels"]

INPUT = ("--input-desc", "data:4,1,8,8")


def network(precision="float32", **made):
    found = LiteNetwork()
    found.precision = precision
    for name, value in made.items():
        setattr(found, name, value)
    found.load(DIGITS)
    return found


@pytest.mark.parametrize("precision", PRECISIONS)
def test_labels_stay_and_weights_are_smaller(precision):
    plain, half = network(), network(precision)
    expected, actual = run(plain), run(half)
    assert 0 < np.abs(actual - expected).max() < 1e-2
    np.testing.assert_array_equal(actual.argmax(axis=1), PROB.argmax(axis=1))
    assert half.memory_usage["weights"] < 0.8 * plain.memory_usage["weights"]
    assert run(network(precision, threads_number=3)).tobytes() == actual.tobytes()


def test_default_is_float32():
    assert LiteNetwork().precision == "float32"
    assert run(network()).tobytes() == run(network("float32")).tobytes()


def test_unknown_and_late_settings_are_refused():
    with pytest.raises(LiteValueError, match=r"unknown precision 'bfloat'.*did you mean 'bfloat16'"):
        network("bfloat")
    with pytest.raises(LiteTypeError, match="precision is a text, not int"):
        network(16)
    found = network("float16")
    with pytest.raises(LiteError, match="precision: the network has a model already"):
        found.precision = "bfloat16"


def test_devices_with_arithmetic_of_their_own_refuse_it(device):
    found = LiteNetwork(settings())
    found.precision = "bfloat16"
    with pytest.raises(DeviceError, match="precision bfloat16 is for networks on a CPU, not on LITE_ATLAS"):
        found.load(DIGITS)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_models_predictors_and_copies_keep_it(precision):
    model = megengine_lite.load(DIGITS, threads=1, workers=2, precision=precision)
    expected = run(network(precision))
    np.testing.assert_array_equal(model(IMAGES)["prob"], expected)
    assert f"precision {precision}" in repr(model)
    assert "precision" not in repr(megengine_lite.load(DIGITS))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model))(IMAGES)["prob"], expected)
    copy = pickle.loads(pickle.dumps(network(precision)))
    assert copy.precision == precision and run(copy).tobytes() == expected.tobytes()
    assert f"'precision': '{precision}'" in repr(copy) and "precision" not in repr(network())
    predict = Predictor(DIGITS, threads=1, precision=precision)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(predict))({"data": IMAGES})["prob"], expected)


def test_networks_that_share_weights_may_differ():
    first = network("bfloat16")
    expected = run(first)
    for precision in ("float32", "float16", "bfloat16"):
        other = LiteNetwork()
        other.precision = precision
        other.share_weights_with(first)
        assert run(other).tobytes() == run(network(precision)).tobytes()
    assert run(first).tobytes() == expected.tobytes()


def test_prepared_files_are_for_one_precision(tmp_path):
    path = tmp_path / "digits.prepared"
    megengine_lite.load(DIGITS, threads=1, precision="bfloat16").prepare(path, IMAGES)
    same = megengine_lite.load(DIGITS, threads=1, precision="bfloat16", prepared=path)
    np.testing.assert_array_equal(same(IMAGES)["prob"], run(network("bfloat16")))
    with pytest.warns(LiteWarning, match="was prepared for precision bfloat16, and here it is float32"):
        megengine_lite.load(DIGITS, threads=1, prepared=path)


def test_measurements_are_for_one_precision(monkeypatch):
    monkeypatch.setattr(CACHE, "_categories", {})
    for precision in ("float32", *PRECISIONS):
        found = LiteNetwork()
        found.precision = precision
        found.set_network_algo_policy(LiteAlgoSelectStrategy.LITE_ALGO_PROFILE)
        found.load(DIGITS)
        run(found)
    keys = {key for entries in CACHE._categories.values() for key in entries}
    of = {precision: {k for k in keys if f"precision='{precision}'".encode() in k} for precision in PRECISIONS}
    assert len(of["bfloat16"]) == len(of["float16"]) > 0
    assert len(keys) >= 3 * len(of["float16"])


def test_weights_of_float16_models_are_not_rounded_again():
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype(np.float16) for shape in ((5, 40), (40, 24)))
    outputs = {}
    for precision in ("float32", *PRECISIONS):
        g = GraphBuilder()
        graph = g.finish(g.node("MatrixMul", MatrixMul(), [g.input("x", x.shape, FLOAT16), g.constant(w)]))
        (outputs[precision],) = run_session(session_of(graph, precision=precision), x=x)
    np.testing.assert_array_equal(outputs["float16"], outputs["float32"])
    assert (outputs["bfloat16"] != outputs["float32"]).any()


def test_commands_take_it(capsys, tmp_path):
    for command in ("run", "bench", "profile"):
        assert main([command, str(DIGITS), *INPUT, "--precision", "bfloat16", "--json"]) == 0
        assert '"precision": "bfloat16"' in capsys.readouterr().out
    page = tmp_path / "report.html"
    assert main(["report", str(DIGITS), *INPUT, "--precision", "bfloat16", "-o", str(page)]) == 0
    assert "bfloat16" in page.read_text()
    assert main(["verify", str(DIGITS), *INPUT, "--other=--precision float16", "--tolerance", "0.01"]) == 0
    with pytest.raises(SystemExit):
        main(["run", str(DIGITS), "--precision", "int4"])
    assert "invalid choice: 'int4'" in capsys.readouterr().err


NETS = SHARED_MODELS / "nets"


@pytest.mark.skipif(not NETS.exists(), reason="the shared models do not lie beside the checkout")
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["vit_slim", "swin_slim", "transformer_encoder", "text_lstm", "speech_gru"])
def test_networks_stay_within_a_hundredth(name, precision):
    path = NETS / f"{name}.mge"
    plain, half = (megengine_lite.load(path, threads=1, precision=p) for p in ("float32", precision))
    feeds = {i.name: i.random() for i in plain._inputs}
    for expected, actual in zip(plain(feeds).values(), half(feeds).values(), strict=True):
        assert np.abs(actual - expected).max() <= 1e-2 * np.abs(expected).max()
