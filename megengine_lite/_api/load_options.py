"""How a model is loaded as a function: what ``load`` and ``Predictor`` take, checked."""

from __future__ import annotations

import os
from typing import NamedTuple

from megengine_lite._api.network_settings import to_precision
from megengine_lite._api.options import to_text
from megengine_lite._core.system.files import to_path
from megengine_lite._core.system.integers import to_integer, to_switch
from megengine_lite.errors import LiteTypeError, LiteValueError

MOST_WORKERS = 256


class LoadOptions(NamedTuple):
    """The options, which :func:`megengine_lite.load` explains."""

    threads: int | None
    workers: int
    precision: str
    narrow_double: bool
    decryption: str
    prepared: str | None
    share_weights: bool

    @classmethod
    def checked(
        cls,
        threads: object,
        workers: object,
        precision: object,
        narrow_double: object,
        decryption: object,
        prepared: object,
        share_weights: object,
    ) -> LoadOptions:
        """The options from arguments of any kind. The path of the prepared file becomes absolute.

        Raises
        ------
        LiteTypeError, LiteValueError
            An argument that cannot be.
        """
        made = cls(
            None if threads is None else to_integer(threads, "threads"),
            to_integer(workers, "workers"),
            to_precision(precision),
            to_switch(narrow_double, "narrow_double"),
            to_name(decryption, "decryption"),
            None if prepared is None else os.path.abspath(_to_named_path(prepared, "prepared")),
            to_switch(share_weights, "share_weights"),
        )
        if made.threads is not None and made.threads < 1:
            raise LiteValueError(f"threads is 1 or more, not {made.threads}")
        if not 1 <= made.workers <= MOST_WORKERS:
            raise LiteValueError(f"workers is a number from 1 to {MOST_WORKERS}, not {made.workers}")
        return made


def to_name(value: object, name: str) -> str:
    """A text that an argument gives."""
    if not isinstance(value, str | bytes):
        raise LiteTypeError(f"{name} is a text, not {type(value).__name__}")
    return to_text(name, value)


def _to_named_path(value: object, name: str) -> str:
    if not isinstance(value, str | os.PathLike):
        raise LiteTypeError(f"{name} is a path, not {type(value).__name__}")
    return to_path(value)
