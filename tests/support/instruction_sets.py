"""The instruction sets that tests run on: all that are built and run here, or those that were asked for.

``pytest --isa avx2`` and the environment variable ``MEGENGINE_LITE_TEST_ISA=avx2`` limit them; several names are
separated by commas.
"""

from __future__ import annotations

import os

from megengine_lite._core.cpu.isa import DotKind, instruction_sets
from megengine_lite._core.cpu.kernel_set import runnable_sets

TEST_ISA = "MEGENGINE_LITE_TEST_ISA"


def chosen_sets(wanted: str) -> list[str]:
    """The runnable sets among the names, the best last; all for an empty string.

    Raises
    ------
    ValueError
        A name is not that of a set that runs here.
    """
    here = runnable_sets()[::-1]
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    if unknown := sorted({*names} - {*here}):
        raise ValueError(f"{', '.join(unknown)}: no instruction set that runs here; there are {', '.join(here)}")
    return [name for name in here if not names or name in names]


INSTRUCTION_SETS = chosen_sets(os.environ.get(TEST_ISA, ""))


def takes_unsigned_bytes(isa: str) -> bool:
    """Whether the dot product of an instruction set multiplies unsigned bytes."""
    return instruction_sets()[isa].dot is DotKind.U8S8_QUADS
