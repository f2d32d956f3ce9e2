"""Choice of algorithms: what policies allow, that every algorithm computes the same, and what fast-run measures."""

import json

import numpy as np
import pytest
from support.api_samples import API_MODELS, IMAGES, PROB, loaded, run
from support.graphs import GraphBuilder, session_of
from support.graphs import run as run_session
from support.instruction_sets import planning_kernels
from support.one_node import INSTRUCTION_SETS, relative_error, run_node
from support.quantized import QuantizedBuilder, agree, q8
from test_lower_quantized import CONVOLUTIONS, W, X, conv

from megengine_lite import LiteAlgoSelectStrategy as Strategy
from megengine_lite import LiteNetwork
from megengine_lite._core.cpu.algorithms.algorithm import candidates, choose
from megengine_lite._core.cpu.algorithms.cache import CACHE
from megengine_lite._core.cpu.algorithms.convolution import CONV_F32, CONV_INT8, ConvProblem
from megengine_lite._core.cpu.algorithms.matmul import MATMUL_F32, MatMulProblem
from megengine_lite._core.cpu.algorithms.tables import TABLES
from megengine_lite._core.cpu.isa import DotKind, instruction_sets
from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.cpu.steps import Step
from megengine_lite._core.ir.graph import Node
from megengine_lite._core.ir.params import (
    ConvBias,
    Convolution,
    ConvolutionMode,
    Elemwise,
    ElemwiseMode,
    MatrixMul,
    OptionalAxisV1,
)
from megengine_lite._core.session_config import AlgoPolicy
from megengine_lite._records import replace
from megengine_lite.errors import LiteValueError

DIGITS_INT8 = API_MODELS.parent / "digits" / "digits_int8.mge"
RNG = np.random.default_rng(5)


def normal(*shape):
    return RNG.standard_normal(shape, dtype=np.float32)


def product(**changes):
    fields = {"m": 1, "n": 1000, "k": 512, "count": 1, "constant": True, "dot": True, "kernels": kernel_set()}
    return MatMulProblem(**{**fields, **changes})


NODE = Node("MatrixMul", MatrixMul(), (), (), "classifier")


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
    assert choose(MATMUL_F32, product(**changes), AlgoPolicy(), 1, NODE).name == name


def names(policy, **changes):
    return {a.name for a in candidates(MATMUL_F32, product(**changes), policy, 2)}


def test_policies_exclude_algorithms():
    everything = {a.name for a in MATMUL_F32}
    assert names(AlgoPolicy()) == names(AlgoPolicy(reproducible=True)) == everything
    assert names(AlgoPolicy(optimized=True)) == everything - {"gemm_naive_f32"}
    assert names(AlgoPolicy(binary_equal_between_batch=True)) == everything - {"gemm_row_f32"}
    scratch = 2 * kernel_set().module("gemm").scratch_bytes(512)  # of two threads
    assert names(AlgoPolicy(workspace_limit=scratch), constant=False) == everything
    assert names(AlgoPolicy(workspace_limit=scratch - 1), constant=False) == {"gemm_dot_f32", "gemm_naive_f32"}
    assert names(AlgoPolicy(workspace_limit=0)) == everything  # packed beforehand


def test_policy_that_leaves_nothing_is_an_error():
    policy = AlgoPolicy(workspace_limit=0, optimized=True)
    with pytest.raises(LiteValueError, match=r"needs no workspace.*LITE_ALGO_OPTIMIZED"):
        choose(MATMUL_F32, product(constant=False, dot=False), policy, 1, NODE)


# ---- what a policy forces -------------------------------------------------------------------------------------------

IMAGE = ConvProblem(
    n=1, groups=1, ic=3, oc=8, ih=9, iw=9, oh=9, ow=9, kh=3, kw=3, stride_h=1, stride_w=1, dilate_h=1, dilate_w=1,
    pad_h=1, pad_w=1, kernels=kernel_set(), plain_input=True,
)  # fmt: skip
CHANNELS = {"groups": 8, "ic": 1, "oc": 1}


def kernels_with(dot: DotKind):
    """The kernels of a set that tests run on, as if it had other dot products: enough to choose an algorithm."""
    return planning_kernels(kernel_set(INSTRUCTION_SETS[0]).isa._replace(name="other", dot=dot))


WIDE = {"kernels": kernels_with(DotKind.PAIRS_16)}
DILATED = {"dilate_h": 2, "pad_h": 2, "dilate_w": 3, "pad_w": 3}
ONE_AND_A_HALF = 3 * IMAGE.width // 2
HALVES = {"groups": 3, "ic": ONE_AND_A_HALF, "oc": ONE_AND_A_HALF}
MOSTLY_PADDING = {"ic": 32, "plain_input": False, "dilate_h": 6, "pad_h": 6, "dilate_w": 6, "pad_w": 6}


@pytest.mark.parametrize(
    ("table", "name", "fits", "fails"),
    [
        (CONV_F32, "conv_depthwise_f32", CHANNELS, {"several groups of one channel": {}}),
        (CONV_F32, "conv_group_f32", {"groups": 16, "ic": 2, "oc": 2}, {
            "groups of 2, 4 or 8 channels": {"groups": 8, "ic": 3, "oc": 3},
            "as many output channels": {"groups": 8, "ic": 2, "oc": 4},
            "weights in float32": {"groups": 8, "ic": 2, "oc": 2, "precision": "float16"},
        }),
        (CONV_F32, "conv_halves_f32", HALVES, {
            "one and a half channel blocks": {**HALVES, "ic": HALVES["ic"] + 1}, "as many output": {**HALVES, "oc": 8},
            "weights in float32": {**HALVES, "precision": "float16"},
        }),
        (CONV_F32, "conv_first_f32", {}, {
            "plain NCHW": {"plain_input": False}, "one group": {"groups": 2}, "at most 4 input channels": {"ic": 5},
        }),
        (CONV_F32, "conv_direct_f32", {}, {}),
        (CONV_F32, "conv_taps_f32", MOSTLY_PADDING, {
            "one group": {**MOSTLY_PADDING, "groups": 2}, "at least 32 input channels": {**MOSTLY_PADDING, "ic": 31},
            "at most 25 places that meet padding": {"ic": 32, "plain_input": False},
        }),
        (CONV_F32, "conv_plain_f32", {}, {}),
        *((CONV_F32, f"conv_winograd{m}_f32", {}, {
            "3 x 3": {"kh": 5}, "stride of 1": {"stride_w": 2}, "not dilated": {"dilate_h": 2}, "one group": CHANNELS,
        }) for m in (4, 2)),
        *((CONV_F32, f"conv_dilated_winograd{m}_f32", DILATED, {
            "3 x 3": {**DILATED, "kh": 5}, "dilation of at most 36": {}, "one group": {**DILATED, **CHANNELS},
        }) for m in (4, 2)),
        (CONV_INT8, "conv_depthwise_int8", CHANNELS, {
            "several groups of one channel": {}, "type that is multiplied": {**CHANNELS, "converts_input": True},
        }),
        (CONV_INT8, "conv_image_int8", {"plain_input": False, "converts_input": True}, {
            "one to be converted": {"plain_input": False}, "one group": {"groups": 2},
            "at most 4 input channels": {"ic": 5},
        }),
        (CONV_INT8, "conv_direct_int8", {}, {"type that is multiplied": {"converts_input": True}}),
        (CONV_INT8, "conv_winograd2_int8", WIDE, {
            "3 x 3": {**WIDE, "kh": 5}, "stride of 1": {**WIDE, "stride_w": 2}, "not dilated": {**WIDE, "dilate_h": 2},
            "one group": {**WIDE, **CHANNELS}, "type that is multiplied": {**WIDE, "converts_input": True},
            "multiply 16-bit numbers": {"kernels": kernels_with(DotKind.S8S8_QUADS)},
            "fits 32 bits": {**WIDE, "ic": 1828},
        }),
        (MATMUL_F32, "gemm_f32", {}, {}),
        (MATMUL_F32, "gemm_row_f32", {}, {"one row": {"m": 2}}),
        (MATMUL_F32, "gemm_dot_f32", {}, {"contiguous rows": {"dot": False}}),
        (MATMUL_F32, "gemm_naive_f32", {}, {}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_forced_algorithm_is_taken_or_the_condition_is_named(table, name, fits, fails):
    start = product() if table is MATMUL_F32 else IMAGE
    policy = AlgoPolicy(forced={table.kind: name})
    assert choose(table, replace(start, **fits), policy, 1, NODE).name == name
    assert len(fails) == len(table[name].conditions)
    for condition, changes in fails.items():
        with pytest.raises(LiteValueError, match=f"MatrixMul 'classifier' cannot be .* {name}.*needs .*{condition}"):
            choose(table, replace(start, **changes), policy, 1, NODE)


def test_every_algorithm_is_in_a_table_of_its_name():
    marks = test_forced_algorithm_is_taken_or_the_condition_is_named.pytestmark
    cases = next(m.args[1] for m in marks if m.name == "parametrize")
    assert [(table.kind, name) for table, name, *_ in cases] == [(t.kind, a.name) for t in TABLES.values() for a in t]


@pytest.mark.parametrize(
    ("name", "rule", "needs"),
    [
        ("gemm_naive_f32", {"optimized": True}, "without LITE_ALGO_OPTIMIZED"),
        ("gemm_row_f32", {"binary_equal_between_batch": True}, r"AlgoPolicy\.binary_equal_between_batch to be off"),
        ("gemm_f32", {"workspace_limit": 0}, "larger workspace than set_network_algo_workspace_limit"),
    ],
)
def test_policy_may_not_exclude_what_it_forces(name, rule, needs):
    policy = AlgoPolicy(forced={"matmul_f32": name}, **rule)
    with pytest.raises(LiteValueError, match=needs):
        choose(MATMUL_F32, product(constant=False), policy, 1, NODE)


def test_policy_may_not_ask_for_reproducible_results_of_another_kind():
    table = replace(MATMUL_F32, algorithms=(replace(MATMUL_F32["gemm_f32"], reproducible=False),))
    policy = AlgoPolicy(forced={"matmul_f32": "gemm_f32"}, reproducible=True)
    with pytest.raises(LiteValueError, match=r"AlgoPolicy\.reproducible to be off"):
        choose(table, product(), policy, 1, NODE)


@pytest.mark.parametrize(
    ("forced", "message"),
    [
        ({"conv": "conv_direct_f32"}, r"unknown operator 'conv'.*there are conv_f32, conv_int8, matmul_f32"),
        ({"matmul_f32": "gemm_dott_f32"}, r"unknown algorithm 'gemm_dott_f32' for matmul_f32.*gemm_naive.*'gemm_dot_f"),
        ({"matmul_f32": "conv_direct_f32"}, r"unknown algorithm 'conv_direct_f32' for matmul_f32 \(there are gemm_f32"),
        ({"conv_int8": "conv_direct_f32"}, r"there are conv_depthwise_int8, conv_image_int8, conv_direct_int8"),
    ],
)
def test_unknown_names_are_errors_also_without_a_node_for_them(forced, message):
    session = session_of(small_network(), algo=AlgoPolicy(forced=forced))
    with pytest.raises(LiteValueError, match=message):
        run_session(session, x=normal(1, 8, 6, 6))


def test_forced_algorithms_of_a_network_are_not_measured(empty_cache):
    forced = {"conv_f32": "conv_plain_f32", "matmul_f32": "gemm_naive_f32"}
    session = session_of(small_network(), algo=AlgoPolicy(heuristic=False, profile=True, forced=forced))
    run_session(session, x=normal(1, 8, 6, 6))
    tables = {a.name for table in TABLES.values() for a in table}
    used = [s.kernel.name for s in steps_of(session) if s.kernel.name in tables]
    assert used == ["conv_plain_f32", "gemm_naive_f32", "gemm_naive_f32"]
    assert measured(empty_cache) == []


def test_error_names_the_node_of_a_network():
    session = session_of(small_network(), algo=AlgoPolicy(forced={"conv_f32": "conv_depthwise_f32"}))
    with pytest.raises(LiteValueError, match=r"^FusedConv 'stem' cannot be computed by conv_depthwise_f32"):
        run_session(session, x=normal(1, 8, 6, 6))


def test_nodes_that_no_table_chooses_for_are_errors():
    inputs = [normal(1, 6, 9, 20), normal(8, 6, 3, 3)]
    isa = INSTRUCTION_SETS[0]
    plain = {"conv_f32": "conv_plain_f32"}
    actual, kernels = run_node("Convolution", Convolution(), inputs, set(), isa, forced=plain)
    assert kernels == ["conv_plain_f32"] and actual.shape == (1, 8, 7, 18)
    with pytest.raises(LiteValueError, match=r"Convolution 'node' .*conv_direct_f32.*needs a constant filter"):
        run_node("Convolution", Convolution(), inputs, set(), isa, forced={"conv_f32": "conv_direct_f32"})
    mirrored = Convolution(mode=ConvolutionMode.CONVOLUTION)
    with pytest.raises(LiteValueError, match=r"conv_plain_f32.*needs a constant filter"):
        run_node("Convolution", mirrored, inputs, set(), isa, forced=plain)


def test_convolutions_of_bytes_that_numpy_computes_are_errors():
    forced = {"conv_int8": "conv_direct_int8"}
    b = QuantizedBuilder()
    x = b.data((1, 8, 6, 6), q8(X))
    computed = b.typed_node("ConvBiasForward", ConvBias(), [x, b.data((8, 8, 3, 3), q8(W))], q8(1))
    tiny = conv(b, x, 8, 3, dtype=q8(1e-35))
    for y, needs in [(computed, "a constant filter"), (tiny, "a result that kernels of int8 can store")]:
        with pytest.raises(LiteValueError, match=f"conv_direct_int8.*needs {needs}"):
            agree(b, y, isa=INSTRUCTION_SETS[0], forced=forced)
        assert "numpy" in agree(b, y, isa=INSTRUCTION_SETS[0], native=False)


# ---- every algorithm computes the same ------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("constant", [True, False], ids=["weight", "computed"])
@pytest.mark.parametrize("algorithm", MATMUL_F32.algorithms, ids=lambda a: a.name)
def test_product_by_every_algorithm(algorithm, constant, isa):
    forced = {"matmul_f32": algorithm.name}
    for m, n, k in [(1, 70, 33), (1, 5, 3), (7, 40, 64), (13, 33, 1)]:
        if m > 1 and algorithm.name == "gemm_row_f32":
            continue
        a, b = normal(m, k), normal(n, k)
        params = MatrixMul(transposeB=True)
        actual, kernels = run_node("MatrixMul", params, [a, b], {1} if constant else set(), isa, 2, forced=forced)
        assert algorithm.name in kernels
        assert relative_error(actual, a.astype(np.float64) @ b.T) <= algorithm.error


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(
    ("name", "labels"),
    [
        ("conv_direct_int8", ["depthwise 5x5", "depthwise stride 2", "image 7x7 stride 2", "image 3x3"]),
        ("conv_image_int8", ["image 7x7 stride 2", "image 3x3"]),
        ("conv_depthwise_int8", ["depthwise 5x5", "depthwise dilated"]),
        ("conv_winograd2_int8", ["3x3", "3x3 odd channels", "no bias"]),
    ],
)
def test_convolution_of_bytes_by_every_algorithm(name, labels, isa):
    if name == "conv_winograd2_int8" and not instruction_sets()[isa].dot.widens:
        labels = []  # refused: see test_forced_algorithm_is_taken_or_the_condition_is_named
    for label in labels:
        fields = dict(CONVOLUTIONS[label])
        b = QuantizedBuilder()
        x = b.data(fields.pop("x"), q8(X))
        steps = agree(b, conv(b, x, **fields), isa=isa, forced={"conv_int8": name})
        assert "numpy" not in steps
        assert ("pack_image_int8" in steps) == (name == "conv_image_int8")
        assert ("conv_depthwise_int8" in steps) == (name == "conv_depthwise_int8")


# ---- networks -------------------------------------------------------------------------------------------------------


def small_network():
    """Convolution, classifier of one row a sample, and a product of two computed matrices."""
    b = GraphBuilder()
    x = b.input("x", (1, 8, 6, 6))
    y = b.node("Convolution", Convolution(), [x, b.constant(normal(16, 8, 3, 3))], name="stem")
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
