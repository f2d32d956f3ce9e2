"""Types of arguments that are numbers. A message says which numbers can be, and a long text is not repeated whole."""

from __future__ import annotations

import math
import re
from argparse import ArgumentTypeError

MOST = 10**9
"""The largest number of runs, samples and the like: more than anybody waits for, and no sum of them overflows."""

_MOST_SEED = 2**32 - 1  # of numpy's generators
_LONGEST = 40


def positive(text: str) -> int:
    """A whole number from 1 on."""
    return _whole(text, 1, MOST)


def natural(text: str) -> int:
    """A whole number from 0 on."""
    return _whole(text, 0, MOST)


def seed(text: str) -> int:
    """What random numbers begin with."""
    return _whole(text, 0, _MOST_SEED)


def size(text: str) -> int:
    """A number of bytes."""
    return _whole(text, 0, 2**63 - 1)


def seconds(text: str) -> float:
    """A length of time."""
    value = real(text)
    if not 0 <= value <= MOST:
        raise ArgumentTypeError(f"{_brief(text)} is no length of time: from 0 to {MOST} seconds are possible")
    return value


def distance(text: str) -> float:
    """The limit of a difference or a size."""
    value = real(text)
    if value < 0:
        raise ArgumentTypeError(f"{_brief(text)} is no number from 0 on")
    return value


def real(text: str) -> float:
    """Any number."""
    if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", text.strip(), re.IGNORECASE):
        raise ArgumentTypeError(f"{_brief(text)} is no number")
    value = float(text)
    if math.isinf(value):
        raise ArgumentTypeError(f"{_brief(text)} is too large")
    return value


def _whole(text: str, least: int, most: int) -> int:
    match = re.fullmatch("([+-]?)0*([0-9]*)", text.strip())
    if match is None or not text.strip(" +-"):
        raise ArgumentTypeError(f"{_brief(text)} is no whole number")
    sign, digits = match.groups()
    if sign == "-" and digits:
        raise ArgumentTypeError(f"{_brief(text)} is {'not positive' if least else 'negative'}")
    value = int(digits or "0") if len(digits) <= len(str(most)) else most + 1  # int takes no more than 4300 digits
    if value > most:
        raise ArgumentTypeError(f"{_brief(text)} is too large: {most} is the most")
    if value < least:
        raise ArgumentTypeError(f"{_brief(text)} is not positive")
    return value


def _brief(text: str) -> str:
    if not text.strip():
        return "an empty text"
    return text if len(text) <= _LONGEST else text[:_LONGEST] + " ..."
