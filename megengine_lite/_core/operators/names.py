"""Names of serialized operators: which number in a file means which operator, and how many outputs it counts.

A file names an operator by a hash of its registered name. Names carry a revision (``ConvolutionV2``) that says nothing
to us: differences between revisions were brought into today's form, so everything behind the loader sees the
canonical name ``Convolution``.
"""

from __future__ import annotations

import functools
import re

from megengine_lite._core.ir.params import BN, SVD, BNFwdMode, CondExecMerge, Param, TopK, TopKMode
from megengine_lite._core.system.hashes import xxh64

TYPE_SEED = 20160701

# As the newest release registers them; at the end those of older releases that have no newer form.
REGISTERED = re.findall(
    r"\w+",
    """
    AdaptivePoolingBackwardV1 AdaptivePoolingV1 AddUpdate AffineInt Alloc Argmax Argmin Argsort ArgsortBackward
    AssertEqual AtlasRuntimeOpr AxisAddRemove BatchConvBiasForwardV1 BatchNormBackwardV1 BatchNormV1
    BatchedIncrMeshIndexing BatchedMatrixMulV2 BatchedMeshIndexing BatchedSetMeshIndexing BetaRNG Broadcast
    CambriconRuntimeOpr CheckNonFinite Concat CondExecMark CondExecMarkIfNeed CondExecMerge CondExecPred
    CondExecPredLogical CondTake ConvBiasForwardV4 Convolution3D Convolution3DBackwardData Convolution3DBackwardFilter
    ConvolutionBackwardDataV2 ConvolutionBackwardFilterV2 ConvolutionV2 Copy CorrelationBackwardData1
    CorrelationBackwardData2 CorrelationForward Cross CumsumV1 CustomOpNode CvtColor DctChannelSelectV1
    DeformableConvBackwardDataV1 DeformableConvBackwardFilterV1 DeformableConvForwardV1 DeformablePSROIPoolingBackward
    DeformablePSROIPoolingForward Diag DiagBackward Dimshuffle Dot Dropout DropoutBackward Elemwise ElemwiseMultiType
    ExponentialRNG ExternCOprRunner Eye FakeQuant FakeQuantBackward Flip GammaRNG GaussianBlur GaussianRNGV1
    GeneralNorm GeneralNormBackward GetVarShapeV1 GroupLocalBackwardDataV2 GroupLocalBackwardFilterV2 GroupLocalV2
    GroupNorm GroupNormBackward Host2DeviceCopy Identity Images2Neibs Images2NeibsBackward ImmutableTensor
    IncrMeshIndexing IncrSubtensor IndexingIncrMultiAxisVec IndexingMultiAxisVec IndexingOneHot IndexingRemap
    IndexingRemapBackward IndexingSetMultiAxisVec IndexingSetOneHot InstanceNorm InstanceNormBackward LRN LRNBackward
    LSQ LSQBackward LSTMBackward LSTMCellForward LSTMForward LayerNorm LayerNormBackward Linspace LocalBackwardDataV2
    LocalBackwardFilterV2 LocalShareBackwardDataV1 LocalShareBackwardFilterV1 LocalShareForwardV1 LocalV2 Loop
    LoopGrad MagicMindRuntimeOpr MarkDynamicVar MarkNoBroadcastElemwise MaskConvolutionV2 MaskPropagate MaskedFill
    MatrixInverse MatrixMulV2 MeshIndexing MultiHeadAttn MultiHeadAttnBackward MultinomialRNG
    MultipleDeviceTensorHolder MultipleDeviceTensorWithFormatHolder NMSKeepMGB NonZero NvOf Padding PaddingBackward
    PermutationRNG PersistentOutputStorage PoissonRNG PoolingBackwardV1 PoolingV1 PowC RNNBackward RNNCellForward
    RNNForward ROIAlignBackwardV1 ROIAlignV1 ROIPooling ROIPoolingBackward ReduceV2 RegionRestrictedConvolution
    RegionRestrictedConvolutionBackwardData RegionRestrictedConvolutionBackwardFilter RelayoutFormatV1
    RemapBackwardDataV1 RemapBackwardMatV1 RemapV1 ReshapeV1 Resize3D ResizeBackward ResizeV2 Rotate SVD
    SetMeshIndexing SetSubtensor SharedDeviceTensor SharedDeviceTensorWithFormat ShuffleRNG ShuffleRNGBackward Sleep
    SlidingWindowTranspose SlidingWindowTransposeBackward Softmax SoftmaxBackward Split Subtensor TQT TQTBackward
    TensorRTRuntimeOpr TopK TypeCvtV2 UniformRNGV1 VirtualDep VirtualGrad VolatileSharedDeviceTensor WarpAffineV2
    WarpPerspectiveBackwardDataV2 WarpPerspectiveBackwardMatV2 WarpPerspectiveV2 Where WhereBackward CheckHasInf
    ParamPackConcat WinogradFilterPreprocess
    """,
)


def canonical_name(name: str) -> str:
    """The name without its revision."""
    return re.sub(r"V\d$", "", name)


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
def _known_types() -> dict[int, str]:
    return {number: canonical_name(name) for name in REGISTERED for number in type_ids(name)}


@functools.cache
def _known_names() -> dict[str, str]:
    """Every spelling of a name -> canonical name."""
    names = {name: canonical_name(name) for name in REGISTERED}
    return names | {name: name for name in names.values()}


@functools.cache
def _revisions() -> dict[str, str]:
    return {canonical_name(name): name for name in REGISTERED}


def registered_name(name: str) -> str:
    """The canonical name with its newest revision."""
    return _revisions().get(name, name)


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
        from megengine_lite._core.operators import REGISTRY

        known = _known_names()
        table: dict[int | str, str] = {}
        for name, operator in REGISTRY.items():
            # Operators without types are those that passes make: their parameters never come from a file.
            for spelling in (name, *operator.types) if operator.types else ():
                if spelling not in known:
                    table[spelling] = name
                    table.update(dict.fromkeys(type_ids(spelling), name))
        return table


_FIXED_COUNTS = {
    "Argsort": 2,
    "CondTake": 2,
    "DeformablePSROIPoolingForward": 2,
    "Dropout": 2,
    "GeneralNorm": 3,
    "GroupNorm": 3,
    "InstanceNorm": 3,
    "LSTMCellForward": 3,
    "LSTMForward": 4,
    "LayerNorm": 3,
    "MultiHeadAttn": 4,
    "NMSKeepMGB": 2,
    "RNNForward": 3,
    "ROIAlign": 2,
    "ROIPooling": 2,
    "ShuffleRNG": 2,
}


_COUNTED_BY_OPERATOR = ("ExternCOprRunner", "CustomOpNode")


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
        Data of operators that users define; they know the count themselves.
    """
    fixed = _FIXED_COUNTS.get(name)
    if fixed is not None:
        return fixed
    if name in ("MultipleDeviceTensorHolder", "MultipleDeviceTensorWithFormatHolder"):
        return n_tensors
    if name in ("Split", "CondExecMark"):
        return max(n_inputs - 1, 0)
    if name == "CheckNonFinite":
        return n_inputs + 1
    if name == "TopK":
        return 1 if isinstance(params, TopK) and params.mode == TopKMode.KTH_ONLY else 2
    if name == "SVD":
        return 1 if isinstance(params, SVD) and not params.compute_uv else 3
    if name == "BatchNorm":
        training = isinstance(params, BN) and params.fwd_mode == BNFwdMode.TRAINING
        return 6 if training and n_inputs == 5 else 4
    if name == "CondExecMerge" and isinstance(params, CondExecMerge):
        return min(params.nr_output, n_inputs)
    if name in _COUNTED_BY_OPERATOR or name not in _known_names():
        from megengine_lite._core.operators import REGISTRY

        if name in REGISTRY:
            return REGISTRY[name].count_outputs(params, n_inputs, payload)
    return 1
