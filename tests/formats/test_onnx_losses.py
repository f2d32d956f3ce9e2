"""Losses: classes that do not count, weights, and classes that do not exist."""

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import expected, load, make, run

from megengine_lite.errors import LiteIndexError, ShapeError, UnsupportedOperatorError

F, I64 = TensorProto.FLOAT, TensorProto.INT64
SCORES = np.random.default_rng(0).standard_normal((3, 5, 2)).astype(np.float32)
CLASSES = np.array([[4, -100], [0, 2], [2, -100]], np.int32)
WEIGHTS = np.array([0.5, 1, 2, 0, 3], np.float32)


def loss_of(op, outputs=("loss",), weights=True, **attributes):
    inputs = ["scores", "classes", *(["weights"] if weights else [])]
    nodes = [helper.make_node(op, inputs, list(outputs), **attributes)]
    given = [("scores", F, ["n", 5, "d"]), ("classes", I64, ["m", "e"]), *([("weights", F, [5])] if weights else [])]
    return make(nodes, given, [(name, F, None) for name in outputs])


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("op", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
def test_ignored_classes_have_no_loss(op, weights, reduction):
    model = loss_of(op, weights=weights, reduction=reduction, ignore_index=-100)
    given = {"scores": SCORES, "classes": CLASSES, **({"weights": WEIGHTS} if weights else {})}
    (loss,) = run(load(model), **given)
    (wanted,) = expected(model, **{**given, "classes": CLASSES.astype(np.int64)})
    np.testing.assert_allclose(loss.reshape(wanted.shape), wanted, rtol=1e-5)
    if reduction == "none":
        assert (loss[CLASSES == -100] == 0).all() and (loss[0, 0] != 0)


def test_cross_entropy_also_gives_the_log_probabilities():
    model = loss_of("SoftmaxCrossEntropyLoss", ("loss", "logs"), weights=False)
    loss, logs = run(load(model), scores=SCORES, classes=np.zeros((3, 2), np.int32))
    np.testing.assert_allclose(np.exp(logs).sum(1), np.ones((3, 2)), rtol=1e-6)
    np.testing.assert_allclose(loss, [-logs[:, 0].mean()], rtol=1e-6)


@pytest.mark.parametrize("wrong", [5, -1])
def test_a_class_that_does_not_exist_is_an_error(wrong):
    network = load(loss_of("NegativeLogLikelihoodLoss", weights=False))
    with pytest.raises(LiteIndexError, match="a class is out of range, there are 5"):
        run(network, scores=SCORES, classes=np.full((3, 2), wrong, np.int32))


def test_shapes_and_attributes_must_fit():
    with pytest.raises(ShapeError, match="do not fit log-probabilities"):
        run(load(loss_of("NegativeLogLikelihoodLoss", weights=False)), scores=SCORES, classes=CLASSES[:, :1])
    with pytest.raises(UnsupportedOperatorError, match="reduction is 'most'"):
        load(loss_of("NegativeLogLikelihoodLoss", reduction="most"))
