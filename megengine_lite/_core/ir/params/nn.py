"""Parameters of normalization, recurrent and attention operators."""

from __future__ import annotations

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.params.base import (
    Param,
    boolean,
    enum,
    float32,
    float64,
    int32,
    uint32,
    uint64,
)
from megengine_lite._core.ir.params.conv import ConvolutionFormat


class BNParamDim(CodeEnum):
    """Values of ``param_dim`` in :class:`BN`."""

    DIM_11HW = 0
    DIM_1CHW = 1
    DIM_1C11 = 2
    DIM_111C = 3


class BNFwdMode(CodeEnum):
    """Values of ``fwd_mode`` in :class:`BN`."""

    TRAINING = 0
    INFERENCE = 1


class BN(Param, code=11):
    """Batch normalization. ``scale`` and ``bias`` are unused."""

    param_dim: BNParamDim | int = enum(0, BNParamDim.DIM_11HW)
    fwd_mode: BNFwdMode | int = enum(1, BNFwdMode.TRAINING)
    epsilon: float = float64(2, 0.0001)
    avg_factor: float = float64(3, 1.0)
    scale: float = float32(4, 1.0)
    bias: float = float32(5)


class LRN(Param, code=10):
    """Normalization across neighbouring channels."""

    n: int = uint32(0, 5)
    k: float = float32(1, 2.0)
    alpha: float = float32(2, 0.0001)
    beta: float = float32(3, 0.75)


class Softmax(Param, code=90):
    """Softmax along one axis."""

    axis: int = int32(0, -1)


class LayerNorm(Param, code=85):
    """Normalization over the last ``normalized_dim`` dimensions."""

    affine: bool = boolean(0, True)
    eps: float = float32(1, 1e-05)
    normalized_dim: int = uint64(2, 1)
    normalized_size: int = uint64(3, 1)


class GeneralNorm(Param, code=94):
    """Normalization over the axes ``axis_start`` to ``axis_end`` - 1."""

    affine: bool = boolean(0, True)
    eps: float = float32(1, 1e-05)
    axis_start: int = uint64(2)
    axis_end: int = uint64(3)


class GroupNorm(Param, code=92):
    """Normalization over groups of channels. InstanceNorm uses the same table and ignores ``group``."""

    affine: bool = boolean(0, True)
    eps: float = float32(1, 1e-05)
    group: int = uint32(2, 1)
    format: ConvolutionFormat | int = enum(3, ConvolutionFormat.NCHW)


class Dropout(Param, code=86):
    """Dropout."""

    drop_prob: float = float32(0)
    seed: int = uint64(1)


class RNNCellNonlineMode(CodeEnum):
    """Values of ``nonlineMode`` in :class:`RNNCell`."""

    IDENTITY = 0
    RELU = 1
    TANH = 2


class RNNCell(Param, code=87):
    """One step of a plain recurrent layer."""

    nonlineMode: RNNCellNonlineMode | int = enum(0, RNNCellNonlineMode.IDENTITY)


class RNN(Param, code=88):
    """Plain recurrent layers."""

    num_layers: int = uint32(0, 1)
    bidirectional: bool = boolean(1)
    bias: bool = boolean(2, True)
    hidden_size: int = uint32(3, 128)
    dropout: float = float32(4)
    nonlineMode: RNNCellNonlineMode | int = enum(5, RNNCellNonlineMode.IDENTITY)
    fwd_mode: BNFwdMode | int = enum(6, BNFwdMode.TRAINING)


class LSTM(Param, code=89):
    """Long short-term memory layers."""

    num_layers: int = uint32(0, 1)
    bidirectional: bool = boolean(1)
    bias: bool = boolean(2, True)
    hidden_size: int = uint32(3, 128)
    proj_size: int = uint32(4)
    dropout: float = float32(5)
    fwd_mode: BNFwdMode | int = enum(6, BNFwdMode.TRAINING)


class AttnMaskType(CodeEnum):
    """Values of ``attn_mask_type`` in :class:`MultiHeadAttn`."""

    NO_MASK = 0
    DEFAULT_MASK = 1
    CUDNN_STYLE_MASK = 2
    USER_DEFINED_MASK = 3


class TensorCombinationType(CodeEnum):
    """Values of ``tensor_combination_type`` in :class:`MultiHeadAttn`."""

    NONE = 0
    ONLY_MASK = 1
    ONLY_BIASKV = 2
    ALL = 3


class MultiHeadAttn(Param, code=95):
    """Multi-head attention with its projections."""

    num_heads: int = uint32(0, 1)
    embeding_size: int = uint32(1)
    k_size: int = uint32(2)
    v_size: int = uint32(3)
    qproj_size: int = uint32(4)
    kproj_size: int = uint32(5)
    vproj_size: int = uint32(6)
    oproj_size: int = uint32(7)
    qbias: bool = boolean(8)
    kbias: bool = boolean(9)
    vbias: bool = boolean(10)
    obias: bool = boolean(11)
    sm_scaler: float = float32(12, 1.0)
    input_order: int = uint32(13)
    attn_mask_type: AttnMaskType | int = enum(14, AttnMaskType.NO_MASK)
    tensor_combination_type: TensorCombinationType | int = enum(15, TensorCombinationType.NONE)
    add_zero_attn: bool = boolean(16)
    need_weights: bool = boolean(17)
    reslink: bool = boolean(18)
    training: bool = boolean(19, True)
    seed: int = uint64(20)
    attn_prob: float = float32(21)
    out_prob: float = float32(22)
