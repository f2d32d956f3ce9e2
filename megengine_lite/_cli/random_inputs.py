"""Random values of inputs: by default, by ``--input-desc`` and by ``--rng``."""

from __future__ import annotations

import ast
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from megengine_lite._api.random_values import random_values
from megengine_lite._cli.number_types import seed
from megengine_lite._core.ir.declared_shape import DeclaredShape, with_same_sizes
from megengine_lite.errors import LiteValueError

# Distributions of numpy's RandomState that take a size.
_FUNCTIONS = (
    "beta", "binomial", "chisquare", "exponential", "gamma", "laplace", "logistic", "lognormal", "normal", "poisson",
    "randint", "random", "random_sample", "standard_normal", "triangular", "uniform",
)  # fmt: skip
# These take the sizes one by one.
_OF_SIZES = ("rand", "randn")


def add_random_flags(group: Any) -> None:
    """Declares what :func:`described_inputs` reads."""
    group.add_argument("--seed", type=seed, default=0, metavar="N", help="seed of random inputs (0)")
    group.add_argument(
        "--input-desc",
        action="append",
        default=[],
        metavar="NAME:SHAPE",
        help="random values of this shape; several are joined by semicolons: data:1,3,224,224;label:1",
    )
    group.add_argument(
        "--rng",
        action="append",
        default=[],
        metavar="NAME:CALL",
        help='random values by a function of numpy.random, with {} for the shape: "label:randint(0,10,size={})"; '
        "several are joined by semicolons",
    )


def described_inputs(
    args: Namespace, specs: Mapping[str, tuple[Sequence[int], np.dtype]], declared: Sequence[DeclaredShape]
) -> dict[str, np.ndarray]:
    """Random values of the inputs that ``--input-desc`` and ``--rng`` name.

    Parameters
    ----------
    args
        The flags.
    specs
        Shape and type of every input of the model.
    declared
        What the model says of the shapes.
    """
    shapes = {name: _shape(text) for name, text in _pairs(args.input_desc, "--input-desc", specs).items()}
    calls = _pairs(args.rng, "--rng", specs)
    found = {}
    all_shapes = with_same_sizes(declared, {name: shape for name, (shape, _) in specs.items()}, shapes)
    for name in [n for n in specs if n in shapes or n in calls]:
        shape, dtype = all_shapes[name], specs[name][1]
        if name in calls:
            with np.errstate(all="ignore"):
                found[name] = _call(calls[name], shape, args.seed).astype(dtype)
        else:
            found[name] = random_values(shape, dtype, args.seed)
    return found


def _pairs(texts: Sequence[str], flag: str, known: Mapping[str, Any]) -> dict[str, str]:
    """Texts by name, from some of ``NAME:WHAT;NAME:WHAT``."""
    pairs: dict[str, str] = {}
    for item in ";".join(texts).split(";"):
        if item:
            name, separator, what = item.partition(":")
            if not separator or name not in known:
                raise LiteValueError(f"{flag} takes NAME:... with one of the inputs {', '.join(known)}, not {item!r}")
            if name in pairs:
                raise LiteValueError(f"{flag} names input {name!r} twice: leave out one of them")
            pairs[name] = what
    return pairs


def _shape(text: str) -> tuple[int, ...]:
    parts = [p.strip() for p in text.strip("{}() ").split(",")]
    if not all(p.isdigit() for p in parts):
        raise LiteValueError(f"--input-desc: {text!r} is no shape; write 1,3,224,224")
    return tuple(int(p) for p in parts)


def _call(text: str, shape: tuple[int, ...], seed: int) -> np.ndarray:
    """The result of a call like ``uniform(low=-1, high=1, size={})``, of functions of numpy with numbers only."""
    try:
        call = ast.parse(text.replace("{}", repr(shape)), mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("it is no call of a function")
        if call.func.id not in _FUNCTIONS + _OF_SIZES:
            raise ValueError(f"there are {', '.join(_FUNCTIONS + _OF_SIZES)}")
        positional = [ast.literal_eval(a) for a in call.args]
        named = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
        function = getattr(np.random.RandomState(seed), call.func.id)
        if call.func.id in _OF_SIZES and positional == [shape]:
            positional = list(shape)
        values = np.asarray(function(*positional, **named))
    except (ValueError, TypeError, SyntaxError, OverflowError) as error:
        raise LiteValueError(f"--rng cannot make values by {text!r}: {error}") from None
    if values.shape != shape:
        raise LiteValueError(f"--rng: {text!r} gives the shape {values.shape}, {shape} is needed; write size={{}}")
    return values
