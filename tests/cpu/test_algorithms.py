"""Choice of algorithms: what policies allow, that every algorithm computes the same, and what fast-run measures."""

import json

import numpy as np
import pytest
from support.api_samples import API_MODELS, IMAGES, PROB, loaded, run
from support.graphs import GraphBuilder, session_of
from support.graphs import run as run_session
from support.one_node import INSTRUCTION_SETS, relative_error, run_node
from support.quantized import QuantizedBuilder, agree, q8
from test_lower_quantized import CONVOLUTIONS, X, conv

from megengine_lite import LiteAlgoSelectStrategy as Strategy
from megengine_lite import LiteNetwork
from megengine_lite._core.config import AlgoPolicy
from megengine_lite._core.cpu.algorithms.algorithm import candidates, choose
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.cpu.algorithms.convolution import CONV_F32, CONV_INT8
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32, MatMulProblem
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.lower import matmul, quantized_conv
from megengine_lite._core.cpu.lowering import Step
from megengine_lite._core.ir.params import Convolution, Elemwise, ElemwiseMode, MatrixMul, OptionalAxisV1
from megengine_lite.errors import LiteValueError

DIGITS_INT8 = API_MODELS.parent / "digits" / "digits_int8.mge"
RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


def product(**changes):
    fields = {"m": 1, "n": 1000, "k": 512, "count": 1, "constant": True, "dot": True, "kernels": kernel_set()}
    return MatMulProblem(**{**fields, **changes})


# ---- rules ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "gemm_row_f32"),
        ({"m": 2}, "gemm_f32"),
        ({"m": 100}, "gemm_f32"),
        ({"n": 4096, "k": 4096}, "gemm_dot_f32"),  # too large to be kept a second time
        ({"n": 4096, "k": 4096, "dot": False}, "gemm_row_f32"),
        ({"constant": False}, "gemm_dot_f32"),
        ({"constant": False, "m": 2}, "gemm_dot_f32"),
        ({"constant": False, "m": 3}, "gemm_f32"),
        ({"constant": False, "dot": False}, "gemm_row_f32"),
    ],
)
def test_heuristic_chooses_a_product(changes, name):
    assert choose(MATMUL_F32, product(**changes), AlgoPolicy(), 1).name == name


def names(policy, **changes):
    return {a.name for a in candidates(MATMUL_F32, product(**changes), policy, 2)}


def test_policies_exclude_algorithms():
    everything = {a.name for a in MATMUL_F32}
    assert names(AlgoPolicy()) == names(AlgoPolicy(reproducible=True)) == everything
    assert names(AlgoPolicy(optimized=True)) == everything - {"gemm_naive_f32"}
    assert names(AlgoPolicy(binary_equal_between_batch=True)) == everything - {"gemm_row_f32"}
    scratch = 2 * 4 * 512 * 2 * kernel_set().width
    assert names(AlgoPolicy(workspace_limit=scratch), constant=False) == everything
    assert names(AlgoPolicy(workspace_limit=scratch - 1), constant=False) == {"gemm_dot_f32", "gemm_naive_f32"}
    assert names(AlgoPolicy(workspace_limit=0)) == everything  # packed beforehand


def test_policy_that_leaves_nothing_is_an_error():
    policy = AlgoPolicy(workspace_limit=0, optimized=True)
    with pytest.raises(LiteValueError, match=r"needs no workspace.*LITE_ALGO_OPTIMIZED"):
        choose(MATMUL_F32, product(constant=False, dot=False), policy, 1)


# ---- every algorithm computes the same ------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("constant", [True, False], ids=["weight", "computed"])
@pytest.mark.parametrize("algorithm", MATMUL_F32, ids=lambda a: a.name)
def test_product_by_every_algorithm(monkeypatch, algorithm, constant, isa):
    monkeypatch.setattr(matmul, "MATMUL_F32", [algorithm])
    for m, n, k in [(1, 70, 33), (1, 5, 3), (7, 40, 64), (13, 33, 1)]:
        if m > 1 and algorithm.name == "gemm_row_f32":
            continue
        a, b = normal(m, k), normal(n, k)
        params = MatrixMul(transposeB=True)
        actual, kernels = run_node("MatrixMul", params, [a, b], {1} if constant else set(), isa, 2)
        assert algorithm.name in kernels
        assert relative_error(actual, a.astype(np.float64) @ b.T) <= algorithm.error


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("conv_direct_int8", ["depthwise 5x5", "depthwise stride 2", "image 7x7 stride 2", "image 3x3"]),
        ("conv_image_int8", ["image 7x7 stride 2", "image 3x3"]),
        ("conv_depthwise_int8", ["depthwise 5x5", "depthwise dilated"]),
    ],
)
def test_convolution_of_bytes_by_every_algorithm(monkeypatch, name, labels, isa):
    monkeypatch.setattr(quantized_conv, "CONV_INT8", [a for a in CONV_INT8 if a.name == name])
    for label in labels:
        fields = dict(CONVOLUTIONS[label])
        b = QuantizedBuilder()
        x = b.data(fields.pop("x"), q8(X))
        steps = agree(b, conv(b, x, **fields), isa=isa)
        assert "numpy" not in steps
        assert ("pack_image_int8" in steps) == (name == "conv_image_int8")
        assert ("conv_depthwise_int8" in steps) == (name == "conv_depthwise_int8")


# ---- networks -------------------------------------------------------------------------------------------------------


def small_network():
    """Convolution, classifier of one row a sample, and a product of two computed matrices."""
    b = GraphBuilder()
    x = b.input("x", (1, 8, 6, 6))
    y = b.node("Convolution", Convolution(), [x, b.constant(normal(16, 8, 3, 3))])
    flat = b.node("Reshape", OptionalAxisV1(axis=1), [y, b.constant(np.array([1, 256], np.int32))])
    score = b.node("MatrixMul", MatrixMul(), [flat, b.constant(normal(256, 10))])
    other = b.node("MatrixMul", MatrixMul(transposeA=True), [flat, flat])
    return b.finish(b.node("Elemwise", Elemwise(mode=ElemwiseMode.RELU), [score]), other)


def steps_of(session):
    return [s for plan in session.plans() for s in plan.steps if isinstance(s, Step)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("limit", [0, 100, 20_000, 10_000_000])
def test_workspace_limit_is_held(limit, threads):
    session = session_of(small_network(), threads=threads, algo=AlgoPolicy(workspace_limit=limit))
    x = normal(1, 8, 6, 6)
    score, other = run_session(session, x=x)
    tables = {a.name for a in (*CONV_F32, *MATMUL_F32)}
    sizes = [s.scratch * threads for s in steps_of(session) if s.kernel.name in tables]
    assert len(sizes) == 3 and max(sizes) <= limit
    free = run_session(session_of(session.model.graph), x=x)
    for got, want in zip((score, other), free, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4 * np.abs(want).max())


@pytest.mark.parametrize("samples", [2, 5, 13])
def test_samples_get_the_bits_that_they_get_alone(samples):
    network = loaded()
    network_alone = loaded()
    for n in (network, network_alone):
        n.set_network_algo_policy(Strategy.LITE_ALGO_HEURISTIC, 1, True)
    together = run(network, IMAGES[:samples])
    for k in range(samples):
        np.testing.assert_array_equal(run(network_alone, IMAGES[k : k + 1]), together[k : k + 1])


@pytest.fixture
def empty_cache(monkeypatch):
    monkeypatch.setattr(CACHE, "_categories", {})
    return CACHE


def measured(cache):
    """The sets of algorithms that were measured, one for each problem."""
    entries = [value for found in cache._categories.values() for value in found.values()]
    return [{name for name, *_ in json.loads(value)} for value in entries]


def test_fast_run_measures_all_kinds_of_products(empty_cache):
    session = session_of(small_network(), algo=AlgoPolicy(heuristic=False, profile=True))
    run_session(session, x=normal(1, 8, 6, 6))
    sets = measured(empty_cache)
    assert {"conv_direct_f32", "conv_plain_f32", "conv_winograd2_f32", "conv_winograd4_f32"} in sets
    assert {"gemm_f32", "gemm_row_f32", "gemm_naive_f32"} in sets
    assert len(sets) == 3


def test_fast_run_measures_convolutions_of_bytes(empty_cache):
    network = LiteNetwork()
    network.set_network_algo_policy(Strategy.LITE_ALGO_PROFILE | Strategy.LITE_ALGO_OPTIMIZED)
    network.load(DIGITS_INT8)
    network.get_io_tensor("data").set_data_by_copy(IMAGES)
    network.forward()
    labels = network.get_io_tensor(network.get_output_name(0)).to_numpy().argmax(1)
    assert (labels == PROB.argmax(1)).mean() > 0.98
    sets = measured(empty_cache)
    assert any("conv_direct_int8" in s for s in sets)
    assert not any("gemm_naive_f32" in s for s in sets)


def test_measurements_are_used_again(empty_cache, monkeypatch):
    algo = AlgoPolicy(heuristic=False, profile=True)
    first = session_of(small_network(), algo=algo)
    run_session(first, x=normal(1, 8, 6, 6))
    monkeypatch.setattr(
        "megengine_lite._core.cpu.algorithms.fast_run.measure", lambda *_: pytest.fail("measured again")
    )
    second = session_of(first.model.graph, algo=algo)
    run_session(second, x=normal(1, 8, 6, 6))
    assert [s.kernel.name for s in steps_of(second)] == [s.kernel.name for s in steps_of(first)]
