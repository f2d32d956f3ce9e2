"""Parameters of the nodes that passes make: fused convolutions and elementwise chains."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from megengine_lite._codes import CodeEnum
from megengine_lite._core.ir.params import ConvBiasNonlineMode, ElemwiseMode
from megengine_lite._records import record


class ActivationCode(CodeEnum):
    """Functions that a kernel can apply to its result before it stores it (in common/vmath.pxd).

    The order matters: kernels apply those up to ``CLIP_NAN`` in registers, and call a function for the costly ones
    behind it (``costly_activation``). A new function goes to the end.
    """

    NONE = 0
    RELU = 1
    CLIP = 2  # between a and b; NaN gives a
    CLIP_HIGH = 3  # the same, but NaN gives b
    CLIP_NAN = 4  # the same, but NaN stays
    # The costly ones.
    SIGMOID = 5
    H_SWISH = 6
    SILU = 7
    H_SIGMOID = 8
    TANH = 9
    GELU = 10  # by erf
    LEAKY_RELU = 11  # slope a below zero
    SOFTPLUS = 12
    GELU_TANH = 13


ELEMWISE_OF = {
    ActivationCode.RELU: ElemwiseMode.RELU,
    ActivationCode.SIGMOID: ElemwiseMode.SIGMOID,
    ActivationCode.H_SWISH: ElemwiseMode.H_SWISH,
    ActivationCode.SILU: ElemwiseMode.SILU,
    ActivationCode.H_SIGMOID: ElemwiseMode.HSIGMOID,
    ActivationCode.TANH: ElemwiseMode.TANH,
    ActivationCode.GELU: ElemwiseMode.GELU,
    ActivationCode.SOFTPLUS: ElemwiseMode.SOFTPLUS,
    ActivationCode.GELU_TANH: ElemwiseMode.GELU_TANH,
}
"""The elementwise functions that activations without constants are."""

NONLINEARITIES: dict[int, ActivationCode] = {
    ConvBiasNonlineMode.IDENTITY: ActivationCode.NONE,
    ConvBiasNonlineMode.RELU: ActivationCode.RELU,
    ConvBiasNonlineMode.SIGMOID: ActivationCode.SIGMOID,
    ConvBiasNonlineMode.H_SWISH: ActivationCode.H_SWISH,
}
"""The activations of a ``ConvBiasForward``."""


@record(frozen=True, slots=True)
class Activation:
    """An activation with its two constants."""

    code: ActivationCode = ActivationCode.NONE
    a: float = 0.0
    b: float = 0.0

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Between which numbers it clips; None if it does something else."""
        if self.code == ActivationCode.NONE:
            return -math.inf, math.inf
        if self.code == ActivationCode.RELU:
            return 0.0, math.inf
        clips = self.code in (ActivationCode.CLIP, ActivationCode.CLIP_HIGH, ActivationCode.CLIP_NAN)
        return (self.a, self.b) if clips else None

    @property
    def is_non_negative(self) -> bool:
        """Whether no result is below 0."""
        bounds = self.bounds
        return self.code == ActivationCode.SIGMOID if bounds is None else bounds[0] >= 0


NO_ACTIVATION = Activation()


@record(frozen=True, slots=True)
class FusedConv:
    """Convolution in NCHW with bias, residual and activation in one step.

    Inputs: x [N, C, H, W], filter [OC, IC, FH, FW] or [G, OCPG, ICPG, FH, FW], then, if ``has_bias``, a constant bias
    of OC numbers, then, if ``has_z``, a tensor of the output's shape. Result: ``activation(conv + bias + z)``.
    """

    pad_h: int
    pad_w: int
    stride_h: int
    stride_w: int
    dilate_h: int
    dilate_w: int
    groups: int
    mirrored: bool = False
    has_bias: bool = False
    has_z: bool = False
    activation: Activation = NO_ACTIVATION


@record(frozen=True, slots=True)
class ElemwiseStep:
    """One function of a chain. ``args`` are register numbers: inputs first, then results of steps in order."""

    mode: int
    args: tuple[int, ...]


@record(frozen=True, slots=True)
class ElemwiseProgram:
    """A chain of elementwise functions evaluated in one pass; the last step's result is the output.

    The node's inputs broadcast together to the output's shape.
    """

    steps: tuple[ElemwiseStep, ...]


@record(frozen=True, slots=True)
class FunctionOfOne:
    """A chain of elementwise functions of one tensor, which is the first operand of ``program``.

    ``numbers`` are the other operands. Of a quantized tensor (``QuantizedFunction``) the functions take the real
    values, and their result is quantized.
    """

    program: ElemwiseProgram
    numbers: tuple[float, ...]


class ChannelRun(NamedTuple):
    """Channels ``first``, ``first + step`` ... of one input, ``length`` of them."""

    tensor: int
    first: int
    step: int
    length: int


@record(frozen=True, slots=True)
class ChannelGather:
    """The channels of an NCHW tensor are these runs of channels of the inputs, one after another.

    Channel shuffles, concatenations, splits and slices of channels, alone or composed, take this form.
    """

    runs: tuple[ChannelRun, ...]

    @classmethod
    def of(cls, sources: Iterable[tuple[int, int]]) -> ChannelGather:
        """The gather whose channel k is channel ``sources[k][1]`` of input ``sources[k][0]``."""
        runs: list[ChannelRun] = []
        tensor, first, step, length = -1, 0, 1, 0
        for source, channel in sources:
            if source == tensor and length == 1:
                step, length = channel - first, 2
            elif source == tensor and channel == first + step * length:
                length += 1
            else:
                if length:
                    runs.append(ChannelRun(tensor, first, step, length))
                tensor, first, step, length = source, channel, 1, 1
        if length:
            runs.append(ChannelRun(tensor, first, step, length))
        return cls(tuple(runs))

    @classmethod
    def concatenation(cls, channels: Iterable[int]) -> ChannelGather:
        """All channels of inputs that have so many."""
        return cls(tuple(ChannelRun(k, 0, 1, length) for k, length in enumerate(channels)))

    @property
    def channels(self) -> int:
        return sum(run.length for run in self.runs)

    def sources(self) -> list[tuple[int, int]]:
        """Input and channel of each channel of the result."""
        return [(tensor, first + k * step) for tensor, first, step, length in self.runs for k in range(length)]

    def picked(self, channels: Iterable[int]) -> list[tuple[int, int]]:
        """Input and channel of some channels of the result."""
        sources = self.sources()
        return [sources[channel] for channel in channels]


@record(frozen=True, slots=True)
class ReduceAxes:
    """Reduction of a float32 tensor over several axes, which keep the length 1. ``mode`` is that of ``Reduce``."""

    mode: int
    axes: tuple[int, ...]


@record(frozen=True, slots=True)
class RmsNorm:
    """Division by the root of the mean of squares, to which ``eps`` is added, over the axes from ``first`` on.

    Inputs: x, float32, then, if ``has_weight``, a factor for each element of these axes.
    """

    eps: float
    first: int
    has_weight: bool


@record(frozen=True, slots=True)
class FusedAttention:
    """Shares of values by products of queries and keys: ``mix(softmax(scores(q k^T)), v)`` for many heads.

    Inputs: queries [B, H, L, D], keys [B, H, S, D], values [B, H, S, E], then the other operands of ``scores``. The
    first three, and the result [B, H, L, E], lie in memory with their axes in another order: axis k of [B, H, ...] is
    axis ``order[k]`` of the input. Without orders they are [B H, ...].

    ``scores`` is a chain of functions of the products [B, H, L, S], or of [B H, L, S], its first operand. With
    ``nan_is_zero`` shares that are NaN count as 0.
    """

    heads: int
    q_order: tuple[int, ...]
    k_order: tuple[int, ...]
    v_order: tuple[int, ...]
    out_order: tuple[int, ...]
    scores: ElemwiseProgram
    scores_shape: tuple[int, ...]
    nan_is_zero: bool = False


@record(frozen=True, slots=True)
class FusedMatMul:
    """Matrix product with bias, residual and activation in one step: ``activation(a @ b + bias + z)``.

    Inputs: a, b (2-dimensional, transposed where the flags say so), then, if ``has_bias``, a constant with a number for
    each column, then, if ``has_z``, a matrix of the output's shape.
    """

    transposeA: bool
    transposeB: bool
    has_bias: bool = False
    has_z: bool = False
    activation: Activation = NO_ACTIVATION


@record(frozen=True, slots=True)
class LogSoftmax:
    """Logarithm of the softmax of a float32 tensor along ``axis``; those behind it have the length 1."""

    axis: int
