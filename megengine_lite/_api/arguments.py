"""Checks arguments: lists, shapes, element types."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from itertools import islice
from operator import index
from typing import Any, TypeVar

import numpy as np

from megengine_lite._core.system.integers import to_integer
from megengine_lite._core.system.memory import MAX_NDIM
from megengine_lite._core.system.strided import NUMPY_TYPES, code_of
from megengine_lite.errors import LiteArgumentError, LiteError, LiteMemoryError, LiteTypeError, LiteValueError, brief

T = TypeVar("T")

MAX_DIM = MAX_NDIM
"""The most dimensions that a tensor can have."""

_MOST_RUNS = 100_000  # that are measured

_SCALAR_CODES = {t.type: code for code, t in enumerate(NUMPY_TYPES)}

ACCEPTED = ", ".join(t.name for t in NUMPY_TYPES)
"""Names of the element types that tensors can have."""


def to_list(
    values: Iterable[Any], name: str, most: int | None = None, convert: Callable[[Any], T] = lambda item: item
) -> list[T]:
    """The items of any iterable; ``name`` says what they are, for the message.

    Parameters
    ----------
    values
        May raise any exception. May be endless if ``most`` is given or ``convert`` refuses its items.
    name
        With its article: "a shape".
    most
        The number of items that are wanted; at most one more is asked for.
    convert
        Converts an item, or raises an error of this package.
    """
    try:
        return [convert(item) for item in (values if most is None else islice(values, most + 1))]
    except LiteError:
        raise
    except TypeError as error:
        kind = "iterable of integers" if convert is index else "iterable"
        raise LiteTypeError(f"{name} is an {kind}, not {brief(values)} ({error})") from None
    except MemoryError as error:
        raise LiteMemoryError(f"{name} has more items than there is memory for") from error
    except Exception as error:  # of the caller's class, or of a buffer that is gone
        raise LiteTypeError(f"{name} cannot be read from {type(values).__name__}: {error}") from error


def to_integers(values: Iterable[int], name: str, most: int | None = None) -> list[int]:
    """The integers of any iterable, as :func:`to_list`."""
    if type(values) is list or type(values) is tuple:  # by far the most frequent case
        try:
            return list(map(index, values))
        except Exception:
            pass  # told below
    return to_list(values, name, most, index)


def to_shape(shape: Iterable[int]) -> tuple[int, ...]:
    """A shape from any iterable of integers."""
    dims = tuple(to_integers(shape, "a shape", MAX_DIM))
    if len(dims) > MAX_DIM:
        raise LiteArgumentError(f"a tensor has at most {MAX_DIM} dimensions, {brief(list(dims))} are more")
    for d in dims:
        if not 0 <= d < 1 << 62:
            raise LiteValueError(f"{brief(d)} cannot be a dimension of shape {brief(list(dims))}")
    return dims


def _unsupported(dtype: object) -> LiteTypeError:
    return LiteTypeError(f"element type {brief(dtype)} is not supported; tensors hold {ACCEPTED}")


def to_dtype_code(dtype: object) -> int:
    """Number of the ``LiteDataType`` that ``dtype`` spells.

    Spellings are members and numbers of ``LiteDataType``, names that numpy knows, ``numpy.dtype`` instances
    and numpy scalar classes; None and ``""`` mean float32. Instances of ``numpy.dtype("uint32")`` count as int32,
    as in the original.
    """
    if dtype is None:
        return 0
    if isinstance(dtype, np.dtype):
        code = code_of(dtype)
    elif isinstance(dtype, str):
        if not dtype:
            return 0
        try:
            code = code_of(np.dtype(dtype)) if np.dtype(dtype) != np.uint32 else None
        except Exception:  # numpy evaluates the name
            raise _unsupported(dtype) from None
    elif isinstance(dtype, type):
        code = _SCALAR_CODES.get(dtype)
    elif isinstance(dtype, int | np.integer) and not isinstance(dtype, bool):
        code = int(dtype) if 0 <= dtype < len(NUMPY_TYPES) else None
    else:
        code = None
    if code is None:
        raise _unsupported(dtype)
    return code


def require_callback(callback: Any, name: str, *arguments: str) -> None:
    """Raises for what cannot be called with the arguments of a callback.

    A callable that does not tell its parameters, such as one of C, is taken as it is.
    """
    call = f"{name}({', '.join(arguments)})"
    if not callable(callback):
        raise LiteTypeError(f"a callback is a function, called as {call}, not {type(callback).__name__}")
    try:
        signature, its_name = inspect.signature(callback), getattr(callback, "__name__", type(callback).__name__)
    except Exception:  # it has none, or is of a class of the caller's
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        what = f", with a dict from LiteIO to tensor: the {arguments[0]}" if arguments else ", without arguments"
        raise LiteTypeError(f"{call} is what is called{what}; {its_name}{signature} cannot be: {error}") from None


def require_unmasked(data: Any) -> None:
    """Raises for an array with a mask, also in lists: a tensor would show what lies behind it."""
    if type(data) is not np.ndarray and _is_masked(data, MAX_DIM):
        raise LiteArgumentError(
            "a masked array cannot become a tensor, which has no mask: pass array.filled(value), or array.data for "
            "all elements"
        )


def _is_masked(data: Any, depth: int) -> bool:
    if not isinstance(data, list | tuple):
        return isinstance(data, np.ma.MaskedArray)
    kinds = set(map(type, data))  # of long lists of numbers this is far faster than a look at each
    if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds):
        return True
    has_lists = depth > 0 and any(issubclass(kind, list | tuple) for kind in kinds)
    return has_lists and any(_is_masked(one, depth - 1) for one in data)


def elements_to_array(data: object, dtype: np.dtype) -> np.ndarray:
    """Numbers of a sequence as a dense array of a tensor's type. A number that the type cannot hold is an error."""
    require_unmasked(data)
    try:
        raw = np.asarray(data)
    except MemoryError as error:
        raise LiteMemoryError("there is not enough memory for the data") from error
    except Exception as error:
        raise LiteTypeError(f"the data is not a list of numbers or a regular nested one: {error}") from None
    if raw.size == 0:
        return raw.astype(dtype)
    if raw.dtype.kind == "O" and all(isinstance(x, int | float) for x in raw.flat):
        if dtype.kind != "f":
            raise LiteValueError(f"some numbers are far out of the range of {dtype}")
        try:
            raw = raw.astype(np.float64)
        except OverflowError:
            raise LiteValueError(f"some numbers are far out of the range of {dtype}") from None
    if raw.dtype.kind not in "biuf":
        raise LiteTypeError(f"the data holds elements that are not numbers ({raw.dtype})")
    if dtype.kind != "f":
        if raw.dtype.kind == "f":
            raise LiteTypeError(f"real numbers cannot be stored in a tensor of {dtype}; round them first")
        info = np.iinfo(dtype)
        low, high = raw.min(), raw.max()
        if int(low) < info.min or int(high) > info.max:
            raise LiteValueError(f"numbers from {low} to {high} do not fit into {dtype} ({info.min} to {info.max})")
    with np.errstate(over="ignore"):
        array = np.ascontiguousarray(raw, dtype)
    if dtype.kind == "f" and (too_large := np.isinf(array) & np.isfinite(raw)).any():
        raise LiteValueError(f"{raw[too_large][0]} does not fit into {dtype} (at most {np.finfo(dtype).max})")
    return array


def checked_runs(what: str, runs: Any, warmup: Any) -> tuple[int, int]:
    """How many runs are measured, and how many come before those."""
    runs, warmup = to_integer(runs, "runs"), to_integer(warmup, "warmup")
    if not 1 <= runs <= _MOST_RUNS or not 0 <= warmup <= _MOST_RUNS:
        raise LiteValueError(f"{what} measures 1 run or more after 0 or more others, not {runs} after {warmup}")
    return runs, warmup
