"""Parameters of serialized operators: one class per parameter table of the file format.

::

    file ─► formats/mge/shared_tables ─► params.Convolution(stride_h=2) ─► Node.params ─► operators, passes, lowering
    file ◄─ formats/mge/writer_v2 ◄─┘

Names of tables and fields are those of the format. Operators have the same names, as in the original: write
``params.Convolution`` for the table. Enumerations are named table + enum (``ElemwiseMode``); the ones that many tables
share are ``ConvolutionFormat``, ``InterpolationMode`` and ``BorderMode``. Tables are those of the newest release; the
loader converts what older files have. Start with ``base``, which says how a table is declared; the other modules have
the tables by kinds of operators. They are imported when one of their classes is first asked for: ``import_index`` says
where each class is; ``tools/import_index.py`` makes it.
"""

import importlib
from typing import TYPE_CHECKING, Any

from megengine_lite._core.ir.params.base import BY_CODE, INT_MAX, INT_MIN, Field, Param
from megengine_lite._core.ir.params.import_index import CODES, MODULES
from megengine_lite._core.system.late_import import late_import

if TYPE_CHECKING:
    from megengine_lite._core.ir.params.control import (
        AssertEqual,
        BetaRNG,
        CondExecMark,
        CondExecMarkGradMode,
        CondExecMarkStaticInfer,
        CondExecMerge,
        CondExecMergeMode,
        CondExecPred,
        CondExecPredLogical,
        CondExecPredLogicalMode,
        CondExecPredMode,
        ExponentialRNG,
        GammaRNG,
        GaussianRNG,
        Host2DeviceCopy,
        MGBSleep,
        MultinomialRNG,
        PermutationRNG,
        PersistentOutputStorage,
        PoissonRNG,
        ShuffleRNG,
        UniformRNG,
    )
    from megengine_lite._core.ir.params.conv import (
        AdaptivePooling,
        BatchConvBias,
        ConvBias,
        ConvBiasNonlineMode,
        Convolution,
        Convolution3D,
        Convolution3DDataType,
        Convolution3DFormat,
        ConvolutionComputeMode,
        ConvolutionFormat,
        ConvolutionMode,
        ConvolutionSparse,
        Correlation,
        CorrelationFormat,
        ExecutionPolicy,
        ExecutionPolicyStrategy,
        Images2Neibs,
        LocalShare,
        MaskPropagate,
        Pooling,
        PoolingMode,
        RelayoutFormat,
        RelayoutFormatMode,
        SlidingWindowTranspose,
    )
    from megengine_lite._core.ir.params.elemwise import (
        LSQ,
        TQT,
        DType,
        DTypeTable,
        Elemwise,
        ElemwiseMode,
        ElemwiseMultiType,
        ElemwiseMultiTypeMode,
        FakeQuant,
        Fill,
        PowC,
    )
    from megengine_lite._core.ir.params.nn import (
        BN,
        LRN,
        LSTM,
        RNN,
        AttnMaskType,
        BNFwdMode,
        BNParamDim,
        Dropout,
        GeneralNorm,
        GroupNorm,
        LayerNorm,
        MultiHeadAttn,
        RNNCell,
        RNNCellNonlineMode,
        Softmax,
        TensorCombinationType,
    )
    from megengine_lite._core.ir.params.tensor import (
        SVD,
        Argsort,
        ArgsortOrder,
        Axis,
        AxisAddRemove,
        AxisDesc,
        AxisMethod,
        CheckNonFinite,
        CondTake,
        CondTakeMode,
        Cross,
        Cumsum,
        Diag,
        Dimshuffle,
        Empty,
        Eye,
        IndexDescMaskDump,
        IndexDescMaskItem,
        IndexingRemap,
        Linspace,
        MatrixMul,
        MatrixMulFormat,
        NMSKeep,
        OptionalAxis,
        OptionalAxisV1,
        Padding,
        PaddingMode,
        Reduce,
        ReduceDataType,
        ReduceMode,
        TopK,
        TopKMode,
    )
    from megengine_lite._core.ir.params.vision import (
        BorderMode,
        CvtColor,
        CvtColorMode,
        DctChannelSelect,
        DctChannelSelectFastImpl,
        DeformablePSROIPooling,
        Flip,
        GaussianBlur,
        InterpolationMode,
        Remap,
        Resize,
        Resize3D,
        ROIAlign,
        ROIAlignMode,
        ROIPooling,
        ROIPoolingMode,
        Rotate,
        WarpAffine,
        WarpPerspective,
    )
else:

    def __getattr__(name: str) -> Any:
        """Imports the module of a class when that is first asked for."""
        found = None if name.startswith("_") else _find(name)
        if found is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return found


__all__ = [
    "BN",
    "INT_MAX",
    "INT_MIN",
    "LRN",
    "LSQ",
    "LSTM",
    "RNN",
    "SVD",
    "TQT",
    "AdaptivePooling",
    "Argsort",
    "ArgsortOrder",
    "AssertEqual",
    "AttnMaskType",
    "Axis",
    "AxisAddRemove",
    "AxisDesc",
    "AxisMethod",
    "BNFwdMode",
    "BNParamDim",
    "BatchConvBias",
    "BetaRNG",
    "BorderMode",
    "CheckNonFinite",
    "CondExecMark",
    "CondExecMarkGradMode",
    "CondExecMarkStaticInfer",
    "CondExecMerge",
    "CondExecMergeMode",
    "CondExecPred",
    "CondExecPredLogical",
    "CondExecPredLogicalMode",
    "CondExecPredMode",
    "CondTake",
    "CondTakeMode",
    "ConvBias",
    "ConvBiasNonlineMode",
    "Convolution",
    "Convolution3D",
    "Convolution3DDataType",
    "Convolution3DFormat",
    "ConvolutionComputeMode",
    "ConvolutionFormat",
    "ConvolutionMode",
    "ConvolutionSparse",
    "Correlation",
    "CorrelationFormat",
    "Cross",
    "Cumsum",
    "CvtColor",
    "CvtColorMode",
    "DType",
    "DTypeTable",
    "DctChannelSelect",
    "DctChannelSelectFastImpl",
    "DeformablePSROIPooling",
    "Diag",
    "Dimshuffle",
    "Dropout",
    "Elemwise",
    "ElemwiseMode",
    "ElemwiseMultiType",
    "ElemwiseMultiTypeMode",
    "Empty",
    "ExecutionPolicy",
    "ExecutionPolicyStrategy",
    "ExponentialRNG",
    "Eye",
    "FakeQuant",
    "Field",
    "Fill",
    "Flip",
    "GammaRNG",
    "GaussianBlur",
    "GaussianRNG",
    "GeneralNorm",
    "GroupNorm",
    "Host2DeviceCopy",
    "Images2Neibs",
    "IndexDescMaskDump",
    "IndexDescMaskItem",
    "IndexingRemap",
    "InterpolationMode",
    "LayerNorm",
    "Linspace",
    "LocalShare",
    "MGBSleep",
    "MaskPropagate",
    "MatrixMul",
    "MatrixMulFormat",
    "MultiHeadAttn",
    "MultinomialRNG",
    "NMSKeep",
    "OptionalAxis",
    "OptionalAxisV1",
    "Padding",
    "PaddingMode",
    "Param",
    "PermutationRNG",
    "PersistentOutputStorage",
    "PoissonRNG",
    "Pooling",
    "PoolingMode",
    "PowC",
    "RNNCell",
    "RNNCellNonlineMode",
    "ROIAlign",
    "ROIAlignMode",
    "ROIPooling",
    "ROIPoolingMode",
    "Reduce",
    "ReduceDataType",
    "ReduceMode",
    "RelayoutFormat",
    "RelayoutFormatMode",
    "Remap",
    "Resize",
    "Resize3D",
    "Rotate",
    "ShuffleRNG",
    "SlidingWindowTranspose",
    "Softmax",
    "TensorCombinationType",
    "TopK",
    "TopKMode",
    "UniformRNG",
    "WarpAffine",
    "WarpPerspective",
    "table_of",
]


def table_of(code: int) -> type[Param] | None:
    """The table with a code in the union of parameters; None if there is none."""
    if code in CODES and code not in BY_CODE:
        _find(CODES[code])
    return BY_CODE.get(code)


def _find(name: str) -> Any:
    """A class by its name; None if no module has it. One that the index does not have yet is looked for everywhere."""
    if name in MODULES:
        places = [MODULES[name]]
    else:
        import pkgutil

        places = [m.name for m in pkgutil.iter_modules(__path__)]
    for module in places:
        with late_import():
            found = getattr(importlib.import_module(f"{__name__}.{module}"), name, None)
        if found is not None:
            globals()[name] = found
            return found
    return None
