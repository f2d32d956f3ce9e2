"""Names of operators in files: which number means which operator, and how many of its outputs a file counts.

A file names an operator by a hash of its registered name. Names contain a revision (``ConvolutionV2``). The loader
converts older revisions, so all other code knows only the canonical name ``Convolution``.
"""

from __future__ import annotations

import functools
import re

from megengine_lite._core.ir.params import CondExecMerge, Param
from megengine_lite._core.operators.base import operator_of
from megengine_lite._core.operators.facts import InFiles
from megengine_lite._core.operators.import_index import INDEX
from megengine_lite._core.operators.registry import REGISTRY
from megengine_lite._core.operators.sources import SOURCES
from megengine_lite._core.system.hashes import xxh64

TYPE_SEED = 20160701

# Operators that files may have and that cannot be run here, by their registered names: those of training, of control
# flow, and of other devices.
NOT_RUN = re.findall(
    r"\w+",
    """
    AdaptivePoolingBackwardV1 AddUpdate AffineInt ArgsortBackward AtlasRuntimeOpr BatchNormBackwardV1
    CambriconRuntimeOpr CondExecMark CondExecMarkIfNeed CondExecMerge CondExecPred CondExecPredLogical
    Convolution3DBackwardFilter ConvolutionBackwardFilterV2 CorrelationBackwardData1 CorrelationBackwardData2
    DeformableConvBackwardDataV1 DeformableConvBackwardFilterV1 DeformablePSROIPoolingBackward DiagBackward
    DropoutBackward FakeQuantBackward GeneralNormBackward GroupLocalBackwardDataV2 GroupLocalBackwardFilterV2
    GroupNormBackward Images2NeibsBackward IndexingRemapBackward InstanceNormBackward LRNBackward LSQBackward
    LSTMBackward LayerNormBackward LocalBackwardDataV2 LocalBackwardFilterV2 LocalShareBackwardDataV1
    LocalShareBackwardFilterV1 Loop LoopGrad MagicMindRuntimeOpr MultiHeadAttnBackward NvOf PaddingBackward
    PoolingBackwardV1 RNNBackward ROIAlignBackwardV1 ROIPoolingBackward RegionRestrictedConvolutionBackwardData
    RegionRestrictedConvolutionBackwardFilter RemapBackwardDataV1 RemapBackwardMatV1 ResizeBackward
    ShuffleRNGBackward Sleep SlidingWindowTransposeBackward SoftmaxBackward TQTBackward TensorRTRuntimeOpr
    VirtualGrad WarpPerspectiveBackwardDataV2 WarpPerspectiveBackwardMatV2 WhereBackward ParamPackConcat
    WinogradFilterPreprocess
    """,
)


def canonical_name(name: str) -> str:
    """The name without its revision."""
    return name[:-2] if name[-2:-1] == "V" and name[-1].isdecimal() else name


def full_id(name: str) -> int:
    """The number for which v1 files take the registered name, v2 files the canonical one."""
    return xxh64(name.encode() + b"\0", TYPE_SEED)


def short_id(name: str) -> int:
    """The number that v1 files up to release 1.7 use, and v2 files for most operators."""
    return xxh64(canonical_name(name).encode(), TYPE_SEED)


def type_ids(name: str) -> set[int]:
    """All numbers by which files name an operator."""
    return {full_id(name), full_id(canonical_name(name)), short_id(name)}


@functools.cache
def registered_names() -> dict[str, str]:
    """Canonical name -> registered name, of all operators that a file may have without a user's doing."""
    names = {name: registered for name, (_, registered) in INDEX.items() if registered}
    names |= {name: source.in_files.registered(name) for name, source in SOURCES.items()}
    return names | {canonical_name(name): name for name in NOT_RUN}


@functools.cache
def _known_types() -> dict[int, str]:
    return {number: name for name, registered in registered_names().items() for number in type_ids(registered)}


@functools.cache
def _known_names() -> dict[str, str]:
    """Every spelling of a name -> canonical name."""
    names = registered_names()
    return {spelling: name for name, registered in names.items() for spelling in (name, registered)}


def registered_name(name: str) -> str:
    """The canonical name with its newest revision."""
    return registered_names().get(name, name)


def in_files(name: str) -> InFiles:
    """How files store the operator or source of that name."""
    found = SOURCES.get(name) or operator_of(name)
    return found.in_files or InFiles()


class TypeTable:
    """Finds the operators that a file names. One table serves one file.

    Operators that users registered are asked last; they are looked up when a file first names one that is not ours.
    """

    def __init__(self) -> None:
        self._of_users: dict[int | str, str] | None = None

    def find(self, type_id: int, type_name: str = "") -> str:
        """The canonical name of an operator, or ``""`` if nobody knows it."""
        found = _known_types().get(type_id) or _known_names().get(type_name)
        if found is None:
            if self._of_users is None:
                self._of_users = self._registered_by_users()
            found = self._of_users.get(type_id) or self._of_users.get(type_name, "")
        return found

    @staticmethod
    def _registered_by_users() -> dict[int | str, str]:
        known = _known_names()
        table: dict[int | str, str] = {}
        for name in REGISTRY.of_users():
            operator = REGISTRY[name]
            # What passes make has parameters that never come from a file.
            for spelling in (name, *operator.types) if operator.in_files is not None else ():
                if spelling not in known:
                    table[spelling] = name
                    table.update(dict.fromkeys(type_ids(spelling), name))
        return table


def count_outputs(
    name: str, params: Param | None, n_inputs: int, n_tensors: int = 0, payload: tuple[bytes, ...] = ()
) -> int:
    """How many outputs of an operator are numbered in a file (workspaces are not).

    Files of the first generation do not say it, and a wrong count shifts the numbers of all later variables.

    Parameters
    ----------
    name
        Canonical name.
    params
        Main parameter.
    n_inputs, n_tensors
        Number of inputs and of stored tensors.
    payload
        Data of operators that users define, which know the count.
    """
    operator = REGISTRY.get(name)
    if operator is not None:
        return operator.count_outputs(params, n_inputs, payload)
    if name in SOURCES:
        return n_tensors if SOURCES[name].holds_many else 1
    if name == "CondExecMark":
        return max(n_inputs - 1, 0)
    if name == "CondExecMerge" and isinstance(params, CondExecMerge):
        return min(params.nr_output, n_inputs)
    return 1
