"""For which element types operators are defined: tried out with small inputs and default parameters.

A shape in :data:`SAMPLES` stands for an input of ones of the type that is tried, a list for an input of int32, and True
for a mask of four elements.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from megengine_lite._core.ir.dtype import BOOL, INT32, DType, DTypeCode
from megengine_lite._core.ir.graph import Node, TensorSpec, Var
from megengine_lite._core.operators import REGISTRY
from megengine_lite._core.operators.reference import run_node
from megengine_lite.errors import LiteError

Sample = tuple[Any, ...]

_IMAGE, _MATRIX, _VECTOR, _ONE = (2, 4, 6, 6), (4, 4), (4,), (1,)
_FILTER, _VOLUME = (4, 4, 3, 3), (2, 4, 4, 4, 4)

_ALIKE: list[tuple[Sample, str]] = [
    (
        (_IMAGE,),
        """Argmax Argmin AxisAddRemove BatchedMeshIndexing CheckHasInf CheckNonFinite:2 Concat Copy Cumsum Dropout:2
        Elemwise ExponentialRNG Flip GetVarShape Identity Images2Neibs IndexingMultiAxisVec LRN MarkDynamicVar
        MarkNoBroadcastElemwise MeshIndexing NonZero Padding PersistentOutputStorage PoissonRNG Pooling PowC
        Rotate SVD:3 ShuffleRNG:2 Softmax Subtensor VirtualDep""",
    ),
    (
        (_IMAGE, _IMAGE),
        """AssertEqual BatchedIncrMeshIndexing BatchedSetMeshIndexing BetaRNG CondTake:2 ConvBiasForward
        Convolution CorrelationForward GammaRNG IncrMeshIndexing IncrSubtensor IndexingIncrMultiAxisVec
        IndexingSetMultiAxisVec SetMeshIndexing SetSubtensor TQT""",
    ),
    ((_IMAGE, _IMAGE, _IMAGE), "FakeQuant"),
    ((_IMAGE, _IMAGE, _IMAGE, _IMAGE), "LSQ"),
    ((_IMAGE, _VECTOR, _VECTOR), "GroupNorm:3 InstanceNorm:3"),
    ((_IMAGE, [1]), "AdaptivePooling Reduce Resize"),
    ((_IMAGE, [2, 4, 6, 6]), "Broadcast Reshape"),
    ((_IMAGE, (3, 5)), "ROIAlign:2"),
    ((_IMAGE, (3, 5), [1]), "ROIPooling:2"),
    ((_IMAGE, (3, 5), _IMAGE), "DeformablePSROIPoolingForward:2"),
    ((_IMAGE, (2, 2, 3), [1]), "WarpAffine"),
    ((_IMAGE, (2, 3, 3), [1]), "WarpPerspective"),
    ((_IMAGE, _FILTER, _MATRIX), "MaskConvolution"),
    ((_IMAGE, _VOLUME), "BatchConvBiasForward"),
    ((_FILTER, _IMAGE), "ConvolutionBackwardData"),
    ((_FILTER, _FILTER), "Cross"),
    ((_FILTER,), "CvtColor"),
    ((_FILTER, True), "MaskedFill"),
    ((_VOLUME, _VOLUME), "Convolution3D"),
    (((4, 4, 3, 3, 3), _VOLUME), "Convolution3DBackwardData"),
    (((2, 4, 4), (2, 4, 4)), "BatchedMatrixMul"),
    ((_MATRIX,), "Argsort:2 Diag MaskPropagate MultinomialRNG"),
    ((_MATRIX, _MATRIX), "MatrixMul"),
    ((_MATRIX, _VECTOR, _VECTOR), "LayerNorm:3"),
    ((_MATRIX, [1]), "TopK"),
    ((_MATRIX, [3, 3]), "IndexingRemap"),
    ((_VECTOR, _VECTOR), "Dot"),
    ((_VECTOR, [1]), "IndexingOneHot"),
    ((_VECTOR, [1], _ONE), "IndexingSetOneHot"),
    ((_ONE, [1]), "Split"),
    ((True, _MATRIX, _MATRIX), "Where"),
]
SAMPLES: dict[str, tuple[Sample, int]] = {}
"""Operator -> inputs, number of outputs."""
for _inputs, _names in _ALIKE:
    for _name in _names.split():
        _op, _, _outputs = _name.partition(":")
        SAMPLES[_op] = _inputs, int(_outputs or 1)

# Those that need parameters of their own, or whose types do not depend on their inputs.
_STATED = {
    "floats": """BatchNorm GeneralNorm GroupLocal LSTMCellForward LSTMForward Local LocalShareForward MatrixInverse
        MultiHeadAttn RNNCellForward RNNForward RegionRestrictedConvolution Resize3D""",
    "floats, integers, bool, quantized": "Dimshuffle RelayoutFormat TypeCvt",
    "floats, integers, quantized": "Remap",
    "floats, integers, bool": "SlidingWindowTranspose",
    "float32": "DeformableConvForward NMSKeepMGB",
    "float32, uint8": "GaussianBlur",
    "uint8": "DctChannelSelect",
    "float32, float16, int32, int16, uint8": "ExternCOprRunner",
    "by its function": "CustomOpNode ElemwiseMultiType",
    "by a parameter": "Alloc Eye GaussianRNG Linspace PermutationRNG UniformRNG",
}
STATED = {op: types for types, ops in _STATED.items() for op in ops.split()}
"""Operator -> its types, for the table."""

_C = DTypeCode
_GROUPS = {
    "floats": (_C.FLOAT32, _C.FLOAT16, _C.BFLOAT16),
    "integers": (_C.INT32, _C.INT16, _C.INT8, _C.UINT8, _C.UINT16),
    "bool": (_C.BOOL,),
    "quantized": (
        _C.QUANTIZED_S8,
        _C.QUANTIZED8_ASYMM,
        _C.QUANTIZED_S32,
        _C.QUANTIZED_S16,
        _C.QUANTIZED_S4,
        _C.QUANTIZED4_ASYMM,
    ),
}


def _dtype(code: DTypeCode) -> DType:
    return DType(code, 0.5, 1 if "ASYMM" in code.name else 0) if code in _GROUPS["quantized"] else DType(code)


def _spec(item: Any, dtype: DType) -> TensorSpec:
    if item is True:
        return TensorSpec(_VECTOR, BOOL, np.ones(_VECTOR, bool))
    if isinstance(item, list):
        return TensorSpec((len(item),), INT32, np.array(item, np.int32))
    one = 0x3F80 if dtype.code is _C.BFLOAT16 else 1
    return TensorSpec(item, dtype, np.full(item, one, dtype.storage))


def _takes(op: str, dtypes: list[DType]) -> bool:
    inputs, n_outputs = SAMPLES[op]
    specs = [_spec(item, dtype) for item, dtype in zip(inputs, dtypes, strict=True)]
    param = REGISTRY[op].param
    variables = [Var(i) for i in range(len(specs) + n_outputs)]
    node = Node(op, param() if param else None, variables[: len(specs)], variables[len(specs) :], "sample")
    try:
        run_node(node, specs)
    except LiteError:
        return False
    return True


def types_of(op: str) -> str:
    """Element types that an operator takes, in all of its inputs or in the first alone; whole groups by their names."""
    if op in STATED:
        return STATED[op]
    n = len(SAMPLES[op][0])
    float32 = DType(_C.FLOAT32)
    found: list[str] = []
    for group, codes in _GROUPS.items():
        taken = []
        for code in codes:
            dtype = _dtype(code)
            if _takes(op, [dtype] * n) or _takes(op, [dtype, *[float32] * (n - 1)]):
                taken.append(code.name.lower())
        found += [group] if len(taken) == len(codes) else taken
    return ", ".join(found)
