"""What files store as operators and the loader makes inputs and constants of: names without an :class:`Operator`."""

from __future__ import annotations

from typing import NamedTuple

from megengine_lite._core.operators.facts import InFiles


class Source(NamedTuple):
    """An input of the model, or constants.

    Attributes
    ----------
    in_files
        How files store it.
    holds_many
        It has an output for each tensor that it stores.
    """

    in_files: InFiles
    holds_many: bool = False


_FIRST, _SECOND = InFiles(), InFiles(record_version=2)

INPUT = "Host2DeviceCopy"
CONSTANTS = {
    "ImmutableTensor": Source(_SECOND),
    "MultipleDeviceTensorHolder": Source(_SECOND, holds_many=True),
    "MultipleDeviceTensorWithFormatHolder": Source(_SECOND, holds_many=True),
    "SharedDeviceTensor": Source(_FIRST),
    "SharedDeviceTensorWithFormat": Source(_SECOND),
    "VolatileSharedDeviceTensor": Source(_FIRST),
}
SOURCES = {INPUT: Source(_SECOND), **CONSTANTS}
"""Canonical name -> what it is."""
