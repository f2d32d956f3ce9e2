"""Float32 matrix products on every instruction set, against products in double precision."""

import numpy as np
import pytest
from support.guarded_memory import GuardedCall
from support.one_node import INSTRUCTION_SETS, relative_error, run_node

from megengine_lite._core.cpu.kernel_set import kernel_set
from megengine_lite._core.ir.fused import ELEMWISE_OF, Activation, ActivationCode, FusedConv, FusedMatMul
from megengine_lite._core.ir.params import MatrixMul
from megengine_lite._core.operators.elemwise_functions import FUNCTIONS
from megengine_lite.kernels.common.shared_constants import TILE_BLOCKS

# m, n, k: one row, few rows, whole blocks, remainders of rows, columns and depth
SIZES = [(1, 70, 33), (1, 3, 5), (2, 100, 64), (3, 64, 16), (12, 32, 40), (13, 33, 1), (37, 5, 100), (100, 96, 31)]


def random(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def stored(matrix, transposed):
    return np.ascontiguousarray(np.swapaxes(matrix, -1, -2)) if transposed else matrix


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("constant", [True, False], ids=["weight", "computed"])
@pytest.mark.parametrize("transposes", [(False, False), (False, True), (True, False), (True, True)])
@pytest.mark.parametrize("sizes", SIZES)
def test_product_agrees_with_definition(sizes, transposes, constant, isa):
    m, n, k = sizes
    a, b = random(m, k), random(k, n, seed=1)
    params = MatrixMul(transposeA=transposes[0], transposeB=transposes[1])
    operands = [stored(a, transposes[0]), stored(b, transposes[1])]
    constants = {1} if constant else set()
    results = [run_node("MatrixMul", params, operands, constants, isa, threads)[0] for threads in (1, 3)]
    assert relative_error(results[0], a.astype(np.float64) @ b) < 2e-6
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 40, 20), (19, 19, 8), (7, 64, 33)])
def test_every_product_of_a_batch(m, n, k, transposed, isa):
    a, b = random(3, m, k), random(3, k, n, seed=1)
    params = MatrixMul(transposeB=transposed)
    actual, _ = run_node("BatchedMatrixMul", params, [a, stored(b, transposed)], set(), isa, 2)
    assert relative_error(actual, a.astype(np.float64) @ b) < 2e-6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("m", "n"), [(1, 37), (20, 37), (20, 64), (2, 50)])
@pytest.mark.parametrize("code", list(ActivationCode), ids=lambda code: code.name)
def test_bias_residual_and_activation_are_fused(m, n, code, isa):
    a, b, bias, z = random(m, 48), random(n, 48, seed=1) / 7, random(n, seed=2), random(m, n, seed=3)
    params = FusedMatMul(False, True, True, True, Activation(code, -0.5, 1.0))
    actual, kernels = run_node("FusedMatMul", params, [a, b, bias, z], {1, 2}, isa, 2)
    assert len(kernels) == 1
    expected = a.astype(np.float64) @ b.T + bias + z
    if code in (ActivationCode.CLIP, ActivationCode.CLIP_HIGH, ActivationCode.CLIP_NAN):
        expected = np.clip(expected, -0.5, 1)
    elif code == ActivationCode.LEAKY_RELU:
        expected = np.where(expected > 0, expected, -0.5 * expected)
    elif code != ActivationCode.NONE:
        expected = FUNCTIONS[ELEMWISE_OF[code]].call(expected)
    assert relative_error(actual, expected) < 2e-6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_activation_that_kernels_lack_runs_in_numpy(isa, monkeypatch):
    module = kernel_set(isa).module("probe")
    assert list(ActivationCode) == [*module.ACTIVATIONS]
    monkeypatch.setattr(module, "ACTIVATIONS", module.ACTIVATIONS[:-1])
    a, b = random(4, 16), random(10, 16, seed=1)
    params = FusedMatMul(False, True, False, False, Activation(ActivationCode.GELU_TANH))
    actual, kernels = run_node("FusedMatMul", params, [a, b], {1}, isa)
    assert kernels == [None]
    assert (
        relative_error(actual, FUNCTIONS[ELEMWISE_OF[ActivationCode.GELU_TANH]].call(a.astype(np.float64) @ b.T)) < 2e-6
    )
    params = FusedConv(0, 0, 1, 1, 1, 1, 1, activation=params.activation)
    _, kernels = run_node("FusedConv", params, [random(1, 16, 5, 5), random(8, 16, 3, 3)], {1}, isa)
    assert kernels == [None]


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_strided_batch_reads_heads_in_place(isa):
    # Attention: [sample][position][head][channel], without moving heads to the front.
    samples, positions, heads, channels = 2, 10, 3, 16
    q, k = random(samples, positions, heads, channels), random(samples, positions, heads, channels, seed=1)
    scores = np.full((samples, heads, positions, positions), np.nan, np.float32)
    row = heads * channels
    kernels = kernel_set(isa)
    GuardedCall(
        kernels, "gemm_f32", work=samples * heads * -(-positions // (TILE_BLOCKS * kernels.width)), threads=2,
        scratch=kernels.module("gemm").scratch_bytes(channels), a=q, b=k, bias=None, z=None, c=scores, m=positions,
        n=positions, k=channels, chunk=positions, backwards=0, b_packed=False, b_rows=channels, weights=0, a_row=row,
        a_k=1, b_k=1, b_n=row, c_row=positions, z_row=0, inner=heads, a_outer=positions * row, a_inner=channels,
        b_outer=positions * row, b_inner=channels,
        c_outer=heads * positions**2, c_inner=positions**2, z_outer=0, z_inner=0, activation=0, act_a=0, act_b=0,
    ).run()  # fmt: skip
    expected = np.einsum("nphc,nqhc->nhpq", q.astype(np.float64), k)
    assert relative_error(scores, expected) < 2e-6


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
def test_large_rows_of_zeros_and_infinities_stay_in_their_row(isa):
    a, b = random(20, 32), random(32, 40, seed=1)
    a[3] = 0
    a[7, 5] = np.inf
    actual, _ = run_node("MatrixMul", MatrixMul(), [a, b], {1}, isa)
    assert not actual[3].any()
    assert np.isinf(actual[7]).all()
    assert np.isfinite(np.delete(actual, 7, axis=0)).all()


BATCH = dict.fromkeys([f"{x}_{y}" for x in "abcz" for y in ("outer", "inner")], 0)
NO_EPILOGUE = {"bias": None, "z": None, "z_row": 0, "activation": 0, "act_a": 0, "act_b": 0}


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("m", "n", "k"), [(7, 70, 33), (1, 5, 3), (3, 4, 0)])
def test_matrix_that_is_not_packed_is_packed_into_scratch(m, n, k, isa):
    panel = TILE_BLOCKS * kernel_set(isa).width
    a, b, c = random(m, k), random(k, n, seed=1), np.full((m, n), np.nan, np.float32)
    GuardedCall(
        kernel_set(isa), "gemm_f32", a=a, b=b, c=c, m=m, n=n, k=k, chunk=m, backwards=0, b_packed=0, b_rows=k,
        weights=0, a_row=k, a_k=1, b_k=n, b_n=1, c_row=n, **BATCH | {"inner": 1}, **NO_EPILOGUE, work=-(-n // panel),
        scratch=kernel_set(isa).module("gemm").scratch_bytes(k),
    ).run()  # fmt: skip
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=0, atol=1e-5)


# ---- the product of arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", INSTRUCTION_SETS)
@pytest.mark.parametrize(("m", "n", "k"), SIZES)
def test_product_of_arrays_with_any_strides(m, n, k, isa):
    matmul = kernel_set(isa).module("gemm").matmul
    a, b = random(m, k), random(k, n, seed=1)
    exact = a.astype(np.float64) @ b
    assert relative_error(matmul(a, b), exact) < 2e-6
    assert relative_error(matmul(np.asfortranarray(a), np.asfortranarray(b)), exact) < 2e-6
    apart, column = np.repeat(a, 3, axis=0)[::3], np.repeat(b, 2, axis=1)[:, ::2]
    assert relative_error(matmul(apart, column), exact) < 2e-6
    assert relative_error(matmul(a[:, ::-1], b[::-1]), exact) < 2e-6
    assert relative_error(matmul(a[::-1], b[:, ::-1]), exact[::-1, ::-1]) < 2e-6
    repeated = np.broadcast_to(a[:1], (m, k))
    assert relative_error(matmul(repeated, b), np.broadcast_to(exact[:1], (m, n))) < 2e-6


def test_matrices_that_cannot_be_multiplied_are_refused():
    matmul = kernel_set(INSTRUCTION_SETS[0]).module("gemm").matmul
    a, b = random(4, 6), random(6, 5)
    with pytest.raises(ValueError, match="4 x 6 cannot be multiplied by one of 5 x 6"):
        matmul(a, b.T)
    for m, n, k in [(0, 5, 6), (4, 0, 6), (4, 5, 0)]:
        with pytest.raises(ValueError, match="empty"):
            matmul(random(m, k), random(k, n))
    rows = np.zeros(4, np.dtype([("row", np.float32, 6), ("tag", np.int8)]))["row"]  # 25 bytes apart
    with pytest.raises(ValueError, match=r"multiples of the 4 bytes of an element, not \(25, 4, 20, 4\)"):
        matmul(rows, b)
    with pytest.raises(ValueError, match="dtype"):
        matmul(a.astype(np.float64), b)
    with pytest.raises(ValueError, match="dimensions"):
        matmul(a[0], b)
    with pytest.raises(TypeError):
        matmul(None, b)
