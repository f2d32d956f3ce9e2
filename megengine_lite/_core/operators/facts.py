"""Groups of facts that classes of operators state: how files and the original name them, inputs to try them with."""

from __future__ import annotations

import re
from typing import NamedTuple

from megengine_lite._codes import CodeEnum


class InFiles(NamedTuple):
    """How model files store an operator.

    Attributes
    ----------
    revision
        The newest revision of the registered name: 2 for ``ConvolutionV2``, 0 for a name without revision.
    record_version
        Of records in files of the second generation: 1 has the registered name, 2 the canonical one.
    has_policy
        A second table of parameters tells how to choose an algorithm.
    released
        A release of the original knows it: the last one was 1.13.
    """

    revision: int = 0
    record_version: int = 1
    has_policy: bool = False
    released: bool = True

    def registered(self, name: str) -> str:
        """The canonical name with its newest revision."""
        return f"{name}V{self.revision}" if self.revision else name


class InOriginal(NamedTuple):
    """How the original names an operator, and how it runs it: for dumps that can be laid beside its own.

    Attributes
    ----------
    type
        Name of the operator's type; empty if it is the canonical name.
    label
        What names of nodes begin with; empty if it is the type's name in small letters.
    mentioned_inputs
        How many inputs the name of a node mentions; None if all.
    has_workspace
        Its last output is a workspace, which files do not number.
    chooses_algorithm
        It chooses among algorithms when it is made.
    predicts_results
        Its results are computed before it runs, as far as its inputs are known.
    numbers_from
        Inputs from this one on are read before it runs. None: those that shapes follow from
        (:meth:`Operator.needed_values`).
    reads_when_run
        It reads all of its inputs as it runs, also those that shapes follow from.
    leaves_gaps
        Its results are views of its first input, which may leave out elements or repeat them.
    keeps_gaps
        Its result may be a view of its first input with the gaps that this has.
    """

    type: str = ""
    label: str = ""
    mentioned_inputs: int | None = None
    has_workspace: bool = True
    chooses_algorithm: bool = False
    predicts_results: bool = False
    numbers_from: int | None = None
    reads_when_run: bool = False
    leaves_gaps: bool = False
    keeps_gaps: bool = False


class Use(CodeEnum):
    """What the original needs of an input of an operator, by its numbers."""

    CONTENT = 0
    SHAPE = 1
    NUMBERS = 2  # read beforehand: a target shape and the like


def in_small_letters(name: str) -> str:
    """``MatrixMul`` -> ``matrix_mul``, ``ROIAlign`` -> ``roi_align``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", name).lower()


# Sample inputs: a shape stands for ones of the element type that is tried, a list for numbers of int32.
IMAGE, VOLUME, FILTER = (2, 4, 6, 6), (2, 4, 4, 4, 4), (4, 4, 3, 3)
MATRIX, VECTOR, ONE = (4, 4), (4,), (1,)
MASK = True
"""Four booleans."""
