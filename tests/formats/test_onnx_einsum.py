"""Einsum of ONNX: equations of one and two terms become sums and products; numpy says what comes out of all."""

import random

import numpy as np
import pytest
from onnx import TensorProto, helper
from support.onnx_models import load, make, run

from megengine_lite._core.formats.load import load_model

F = TensorProto.FLOAT
SIZES = dict(zip("abcdef", (2, 3, 4, 5, 1, 6), strict=True))


def model_of(equation, arrays, sized):
    names = [f"x{i}" for i in range(len(arrays))]
    inputs = [(n, F, list(a.shape) if sized else [None] * a.ndim) for n, a in zip(names, arrays, strict=True)]
    model = make([helper.make_node("Einsum", names, ["y"], equation=equation)], inputs, [("y", F, None)])
    model.graph.output[0].ClearField("type")
    return model


def check(equation, shapes, sized):
    numbers = np.random.default_rng(3)
    arrays = [numbers.standard_normal(shape).astype(np.float32) for shape in shapes]
    (got,) = run(load(model_of(equation, arrays, sized)), **{f"x{i}": a for i, a in enumerate(arrays)})
    wanted = np.einsum(equation, *(a.astype(np.float64) for a in arrays))
    assert got.shape == (wanted.shape or (1,))
    np.testing.assert_allclose(got, wanted.reshape(got.shape), rtol=1e-4, atol=1e-5 * max(1, np.abs(wanted).max()))


def random_equation(seed):
    chosen = random.Random(seed)
    terms = ["".join(chosen.sample(sorted(SIZES), chosen.randint(1, 4))) for _ in range(chosen.choice([1, 2, 2]))]
    letters = sorted(set("".join(terms)))
    return terms, "".join(chosen.sample(letters, chosen.randint(0, len(letters))))


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("seed", range(60))
def test_an_equation_gives_what_numpy_gives(seed, sized):
    terms, result = random_equation(seed)
    check(f"{','.join(terms)}->{result}", [tuple(SIZES[c] for c in term) for term in terms], sized)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("...ij,...jk->...ik", [(2, 3, 4, 5), (2, 3, 5, 6)]),
        ("...ij,...jk->...ik", [(2, 1, 4, 5), (3, 5, 6)]),
        ("...ij,jk->...ik", [(2, 3, 4, 5), (5, 6)]),
        ("b...,b...->b...", [(2, 3, 4), (2, 3, 4)]),
        ("...a->a...", [(2, 3, 4)]),
        ("ij,ij", [(3, 4), (3, 4)]),
        ("ij,jk", [(3, 4), (4, 2)]),
        ("ii->i", [(3, 3)]),
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)]),
    ],
)
def test_dots_and_equations_without_a_result(equation, shapes, sized):
    check(equation, shapes, sized)


@pytest.mark.parametrize(
    "equation", ["bhid,bhjd->bhij", "bhij,bhjd->bhid", "bchw,hkc->bkhw", "ij,kj->ki", "ab->a", "ab,ab->ab", "a,b->ab"]
)
def test_products_run_by_kernels(equation):
    terms = equation.partition("->")[0].split(",")
    sizes = {c: i + 2 for i, c in enumerate(sorted(set("".join(terms))))}
    arrays = [np.ones(tuple(sizes[c] for c in term), np.float32) for term in terms]
    graph = load_model(model_of(equation, arrays, False).SerializeToString()).graph
    assert "Einsum" not in [node.op for node in graph.nodes]


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("seed", range(100))
def test_what_has_one_element_along_a_letter_is_repeated(seed, sized):
    """Products of other sizes may be as large: with 3 x 1 and 1 x 3 elements each letter counts."""
    chosen = random.Random(seed)
    terms = ["".join(chosen.sample("abcd", chosen.randint(1, 3))) for _ in range(2)]
    letters = sorted(set("".join(terms)))
    sizes = {c: chosen.choice([2, 3]) for c in letters}
    result = "".join(chosen.sample(letters, chosen.randint(0, len(letters))))
    shapes = [tuple(chosen.choice([1, sizes[c]]) for c in term) for term in terms]
    check(f"{','.join(terms)}->{result}", shapes, sized)


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize(("equation", "shapes"), [("abc,abd->cd", [(3, 1, 6), (1, 3, 6)]), ("ij,ij", [(0, 3), (1, 3)])])
def test_letters_of_two_sizes_whose_product_is_the_same(equation, shapes, sized):
    check(equation, shapes, sized)
